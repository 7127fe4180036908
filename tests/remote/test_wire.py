"""What goes over the wire comes out equal, or is refused."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_origin, get_type_hints

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from acquire import errors
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    HolderReading,
    HolderState,
    Limit,
    RampRequest,
    SafeState,
    ScalarSpec,
    ScanExposure,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.remote.frames import pack_frames, unpack_frames
from acquire.remote.wire import (
    ALIGN,
    pack,
    pack_arrays,
    pack_error,
    unpack,
    unpack_arrays,
    unpack_error,
)

CROSSING = [
    Limit, Description, Axis, ChannelSpec, ScalarSpec, StreamSpec, FrameMeta, HolderReading,
    RampRequest, SafeState, ScanExposure, SpectrometerSetting, SpectrumExposure,
]  # fmt: skip
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type; plain dicts for mappings, so that what comes out can be compared."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return st.lists(of(args[0]), max_size=3).map(tuple)
        return st.tuples(*map(of, args))
    if "Mapping" in str(origin):
        return st.dictionaries(st.text(max_size=5), of(args[1]), max_size=3)
    if origin is not None:
        return st.one_of(*map(of, args))
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{f.name: of(hints[f.name]) for f in dataclasses.fields(hint)})
    if hint is float:
        return st.floats(allow_nan=False)
    if hint is int:
        return st.integers(-(2**63), 2**63 - 1)
    return st.from_type(hint)


@pytest.mark.parametrize("cls", CROSSING)
def test_every_type_that_crosses_comes_out_equal(cls: type[Any]) -> None:
    @settings(max_examples=30, deadline=None)
    @given(of(cls))
    def round_trip(value: Any) -> None:
        crossed = msgpack.unpackb(msgpack.packb(pack(value)), raw=False)
        found = unpack(cls, crossed)
        assert found == value
        assert type(found) is cls

    round_trip()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*CROSSING, Frame]), PLAIN)
def test_anything_else_is_refused_with_a_clear_error(cls: type[Any], plain: Any) -> None:
    with pytest.raises(LinkError, match=r"came|is not"):
        unpack_frames([plain], np.empty(0, np.uint8)) if cls is Frame else unpack(cls, plain)


def test_missing_unknown_and_wrong_fields_are_refused() -> None:
    good = pack(RampRequest(700.0, 5.0))
    for bad in (
        {**good, "target_celsius": "700"},
        {**good, "target_celsius": True},
        {**good, "target_celsius": None},
        {**good, "more": 1},
        {"target_celsius": 700.0},
        [700.0, 5.0],
    ):
        with pytest.raises(LinkError):
            unpack(RampRequest, bad)
    assert unpack(RampRequest, {**good, "target_celsius": 700}) == RampRequest(700.0, 5.0)


def test_numpy_scalars_nan_and_infinity_cross_as_numbers() -> None:
    reading = HolderReading(
        np.float64(1.5), float("nan"), float("inf"), float("-inf"), 0.0, 1.0, HolderState.HOLDING
    )
    crossed = unpack(HolderReading, msgpack.unpackb(msgpack.packb(pack(reading)), raw=False))
    assert repr(crossed) == repr(dataclasses.replace(reading, t_s=1.5))
    assert pack([np.uint16(3), np.bool_(True), np.str_("a"), np.float32(0.5)]) == [
        3,
        True,
        "a",
        0.5,
    ]


ARRAYS = st.dictionaries(
    st.text(max_size=5),
    hnp.arrays(
        st.one_of(
            hnp.integer_dtypes(endianness="?"),
            hnp.unsigned_integer_dtypes(endianness="?"),
            hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
            hnp.boolean_dtypes(),
            hnp.complex_number_dtypes(sizes=(64,)),
            hnp.unicode_string_dtypes(min_len=1, max_len=4),
        ),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    ),
    max_size=3,
)


NAMES = st.text(max_size=3)
METAS = st.builds(
    FrameMeta,
    st.dictionaries(NAMES, st.floats(), max_size=2),
    st.dictionaries(NAMES, st.tuples(st.floats(), st.floats()), max_size=2),
)


def crossed(frames: list[Frame]) -> list[Frame]:
    heads, blobs = pack_frames(frames)
    buffer = np.frombuffer(b"".join(blobs), np.uint8)
    return unpack_frames(msgpack.unpackb(msgpack.packb(heads)), buffer)


def assert_equal(found: list[Frame], frames: list[Frame]) -> None:
    for out, put in zip(found, frames, strict=True):
        heads = [
            (f.stream, f.index, f.t_start_s, f.t_end_s, f.meta, list(f.data)) for f in (out, put)
        ]
        assert repr(heads[0]) == repr(heads[1])  # NaN is NaN
        for name, array in put.data.items():
            assert out.data[name].dtype == array.dtype
            assert out.data[name].shape == array.shape
            assert not out.data[name].flags.writeable
            np.testing.assert_array_equal(out.data[name], array)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ARRAYS, METAS, st.integers(1, 3)), max_size=3), st.booleans())
def test_frames_come_out_equal_and_read_only(
    kinds: list[tuple[dict[str, Any], FrameMeta, int]], turn: bool
) -> None:
    frames = [
        Frame("s", n, {k: a.T if turn else a for k, a in arrays.items()}, 0.5 + n, 1.5, meta)
        for arrays, meta, count in kinds
        for n in range(count)
    ]
    assert_equal(crossed(frames), frames)


def alike(count: int) -> list[Frame]:
    """Frames of two channels with different pixels, of which the second needs padding."""
    return [
        Frame(
            "scan",
            10 + n,
            {"a": np.full((4, 8), n, np.uint16), "b": np.full((3, 5), -n, ">f4")},
            float(n),
            n + 0.5,
            FrameMeta({"dose": 1.5 * n}, {"b": (n + 0.25, n + 0.5)}),
        )
        for n in range(count)
    ]


def test_frames_that_are_alike_share_a_head_and_others_have_their_own() -> None:
    other = Frame("scan", 99, {"a": np.zeros((8, 4), np.uint16)}, 0.0, 1.0)
    frames = [*alike(5), other, *alike(2)]
    heads, _ = pack_frames(frames)
    assert [head["index"] for head in heads] == [[10, 11, 12, 13, 14], [99], [10, 11]]
    assert_equal(crossed(frames), frames)


def test_received_frames_are_not_copied_and_keep_only_what_they_came_in() -> None:
    heads, blobs = pack_frames(alike(3))
    buffer = np.frombuffer(bytearray(b"".join(blobs)), np.uint8)
    for frame in unpack_frames(heads, buffer):
        assert all(np.shares_memory(array, buffer) for array in frame.data.values())


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("stream", 7),
        ("stride", 0),
        ("stride", 192.0),
        ("stride", 2**62),
        ("stride", -128),
        ("index", []),
        ("index", [10, 11]),
        ("index", [10, 11, 12.0]),
        ("index", [10, 11, True]),
        ("index", [10, 11, 12, 13]),
        ("index", None),
        ("t_start_s", [0.0, 1.0]),
        ("t_start_s", [0.0, 1.0, "2"]),
        ("t_start_s", 0.0),
        ("t_end_s", [0.5, 1.5, None]),
        ("scalars", {"dose": [0.0, 1.5]}),
        ("scalars", {"dose": 1.5}),
        ("scalars", {3: [0.0, 1.5, 3.0]}),
        ("scalars", []),
        ("spans", {"b": [[0.0, 1.0, 2.0]]}),
        ("spans", {"b": [[0.0, 1.0, 2.0], [1.0, 2.0]]}),
        ("spans", {"b": [[0.0, 1.0, 2.0], [1.0, 2.0, [3.0]]]}),
        ("data", [["a", "<u2", [4, 8], 0], ["a", "<u2", [4, 8], 64]]),
        ("data", [["a", "<u2", [4, 9], 64]]),
        ("data", [["a", "<u2", [2**40, 0, 2**40], 0]]),
        ("data", [["a", "<u2", [2**70, 0], 0]]),
        ("data", [["a", "<u2", [1] * 70, 0]]),
        ("data", [["a", "<u2", [0], 129]]),
        ("data", [[name, "<u2", [0], 0] for name in "abc"]),
        ("data", {}),
        ("more", 1),
    ],
)
def test_heads_that_are_not_right_in_every_field_are_refused(field: str, bad: Any) -> None:
    heads, blobs = pack_frames(alike(3))
    buffer = np.frombuffer(b"".join(blobs), np.uint8)
    assert len(unpack_frames(heads, buffer)) == 3
    with pytest.raises(LinkError, match="came"):
        unpack_frames([{**heads[0], field: bad}], buffer)
    with pytest.raises(LinkError, match="came"):
        unpack_frames(
            [{name: heads[0][name] for name in heads[0] if name != field} | {"x": 1}], buffer
        )


def test_a_few_bytes_never_stand_for_very_many_arrays() -> None:
    count = (
        1000  # empty arrays need no bytes, but frames that share a head must bring some for each
    )
    head = pack_frames([Frame("s", 0, {}, 0.0, 1.0)])[0][0]
    head["data"] = [[str(n), "<u2", [0], 0] for n in range(count)]
    for name in ("index", "t_start_s", "t_end_s"):
        head[name] = head[name] * count
    for stride in (0, ALIGN, ALIGN * count):
        with pytest.raises(LinkError, match="came"):
            unpack_frames([{**head, "stride": stride}], np.zeros(1 << 16, np.uint8))


@pytest.mark.parametrize(
    "places", [[0, 0], [0, 0, 0, 0], [0, 0, -1.0], [0, 0, None], {}, [0, 0, 5]]
)
def test_places_that_do_not_fit_their_frames_are_refused(places: Any) -> None:
    heads, blobs = pack_frames(alike(3))
    buffer = np.frombuffer(b"".join(blobs), np.uint8)
    assert_equal(unpack_frames(heads, buffer, [0, 0, 0]), alike(3))
    with pytest.raises(LinkError, match=r"came|nobody can take"):
        unpack_frames(heads, buffer, places)


def test_frames_in_a_ring_and_beside_it_come_out_in_order() -> None:
    frames = alike(3)
    heads, blobs = pack_frames(frames)
    whole = np.frombuffer(b"".join(blobs), np.uint8)
    stride = heads[0]["stride"]
    taken: list[tuple[int, int]] = []

    def take(number: int, size: int) -> Any:
        taken.append((number, size))
        return whole[stride : 2 * stride]  # the second frame is the one in the ring

    beside = np.concatenate([whole[:stride], whole[2 * stride :]])
    assert_equal(unpack_frames(heads, beside, [0, 7, 0], take), frames)
    assert taken == [(7, stride)]


@pytest.mark.parametrize(
    "row",
    [
        ["a", "<u2", [3], 0],
        ["a", "<u2", [1], 2],
        ["a", "<u2", [-1], 0],
        ["a", "<u2", [1], -2],
        ["a", "<u2", [2**40, 2**40], 0],
        ["a", "|O8", [1], 0],
        ["a", "<u3", [1], 0],
        ["a", "<M8[s]", [1], 0],
        ["a", "<u2,<u2", [1], 0],
        ["a", 7, [1], 0],
        ["a", "<u2", [1]],
        "a",
    ],
)
def test_tables_that_do_not_fit_their_bytes_are_refused(row: Any) -> None:
    with pytest.raises(LinkError):
        unpack_arrays([row], np.zeros(3, np.uint8))


def test_objects_never_cross() -> None:
    with pytest.raises(LinkError, match="dtype object"):
        pack_arrays({"a": np.array([object()])})
    for thing in (object(), np.zeros(3), {1: 2}, HotstageError("x"), lambda: 0, 1j):
        with pytest.raises(LinkError, match="cannot cross the wire"):
            pack({"thing": thing})


@pytest.mark.parametrize("name", sorted(errors.error_types()))
def test_every_error_comes_out_as_itself(name: str) -> None:
    error = unpack_error(pack_error(errors.error_types()[name]("what, value, limit, mend")))
    assert type(error).__name__ == name
    assert str(error) == "what, value, limit, mend"


def test_an_error_unknown_here_comes_out_as_its_nearest_known_kind() -> None:
    plain = pack_error(errors.FaultError("x"))
    plain["attributes"]["kinds"].insert(0, "VendorError")
    assert type(unpack_error(plain)) is errors.FaultError
    assert type(unpack_error(pack_error(OSError("x")))) is InstrumentError
    for nonsense in (None, [], {"args": []}, {"args": ["x"], "attributes": {"kinds": 3}}):
        assert isinstance(unpack_error(nonsense), InstrumentError)
