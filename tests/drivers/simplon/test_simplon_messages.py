"""Messages of a DECTRIS stream are read as they were meant, or refused."""

from __future__ import annotations

import json
import struct

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.links import MalformedReply
from drivers.spectrometers.simplon_messages import End, Image, Start, decode
from tests.drivers.simplon_double import (
    SELF_DESCRIBED,
    SHAPE,
    cbor_image,
    legacy_image,
    lz4_literals,
)


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_message_or_refused(parts: list[bytes]) -> None:
    try:
        decode(parts, SHAPE, "")
    except MalformedReply:
        pass
    else:
        assert True


@given(st.integers(0, 2000), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_never_gives_an_image_of_another_size(at: int, byte: int) -> None:
    good = cbor_image(1, 0, np.arange(512, dtype=np.uint16).reshape(SHAPE), 0.0, 1.0)
    bad = good[: at % len(good)] + bytes([byte]) + good[at % len(good) + 1 :]
    try:
        found = decode([bad], SHAPE, "")
    except MalformedReply:
        return
    assert not isinstance(found, Image) or found.pixels.shape == SHAPE


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    packed = struct.pack(">QI", 1 << 40, 1 << 30) + bytes(64)
    array = cbor2.CBORTag(
        40, [list(SHAPE), cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bslz4", 2, packed]))]
    )
    message = {"type": "image", "series_id": 1, "image_id": 0, "data": {"a": array}}
    with pytest.raises(MalformedReply, match="says it has"):
        decode([cbor2.dumps(message)], SHAPE, "")


def test_bitshuffled_blocks_are_unpacked() -> None:
    # the filter's framing: total size, size of a block in bytes, size of the packed block;
    # 8 elements of 1 byte, bit b of element e goes to bit e of byte b (bitshuffle, LZ4)
    pixels = np.arange(512, dtype=np.uint8).reshape(SHAPE)
    bits = np.unpackbits(pixels.reshape(-1, 1), axis=1, bitorder="little")
    shuffled = np.packbits(bits.T.reshape(-1), bitorder="little").tobytes()
    block = lz4_literals(shuffled)
    packed = struct.pack(">QII", 512, 512, len(block)) + block
    array = cbor2.CBORTag(
        40, [list(SHAPE), cbor2.CBORTag(64, cbor2.CBORTag(56500, ["bslz4", 1, packed]))]
    )
    message = {
        "type": "image",
        "series_id": 1,
        "image_id": 0,
        "start_time": [0, 1],
        "stop_time": [1, 1],
        "data": {"threshold_1": array},
    }
    found = decode([cbor2.dumps(message)], SHAPE, "threshold_1")
    assert isinstance(found, Image)
    np.testing.assert_array_equal(found.pixels, pixels)


@pytest.mark.parametrize("encoding", ["<", "lz4<", "bs16-lz4<", "bs16<", "zip<"])
def test_encodings_of_the_old_stream(encoding: str) -> None:
    pixels = np.arange(512, dtype=np.uint16).reshape(SHAPE)
    parts = legacy_image(1, 0, pixels, 0.0, 1.0)
    about = json.loads(parts[1])
    raw = pixels.astype("<u2").tobytes()
    bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(512, 2), axis=1, bitorder="little")
    shuffled = np.packbits(bits.T.reshape(-1), bitorder="little").tobytes()
    block = lz4_literals(shuffled)
    data = {
        "<": raw,
        "lz4<": lz4_literals(raw),
        "bs16-lz4<": struct.pack(">QII", 1024, 1024, len(block)) + block,
    }
    parts[1] = json.dumps({**about, "encoding": encoding}).encode()
    parts[2] = data.get(encoding, raw)
    if encoding not in data:
        with pytest.raises(MalformedReply, match="encoding"):
            decode(parts, SHAPE, "")
        return
    found = decode(parts, SHAPE, "")
    assert isinstance(found, Image)
    np.testing.assert_array_equal(found.pixels, pixels)


def test_messages_begin_with_the_tag_of_self_described_cbor() -> None:
    # 55799({"type": "end", "series_id": 1}), byte by byte; cbor2 makes no plain dict of what is tagged
    end = bytes.fromhex("d9d9f7a26474797065 63656e64 697365726965735f6964 01")
    assert decode([end], SHAPE, "") == End(1)
    assert decode([end.removeprefix(SELF_DESCRIBED)], SHAPE, "") == End(1)


def test_the_start_tells_exposure_and_saturation() -> None:
    told = {"count_time": 0.25, "saturation_value": 4000}
    start = {"type": "start", "series_id": 3, **told}
    assert decode([cbor2.dumps(start)], SHAPE, "") == Start(3, 0.25, 4000)
    head = {"htype": "dheader-1.0", "series": 3, "header_detail": "basic"}
    config = {"count_time": 0.25, "countrate_correction_count_cutoff": 4000}
    parts = [json.dumps(head).encode(), json.dumps(config).encode()]
    assert decode(parts, SHAPE, "") == Start(3, 0.25, 4000)


def test_what_a_user_appends_to_a_start_is_not_taken_for_the_configuration() -> None:
    head = {"htype": "dheader-1.0", "series": 3, "header_detail": "none"}
    for appendix in (b'{"count_time": 99}', b"a note"):
        assert decode([json.dumps(head).encode(), appendix], SHAPE, "") == Start(3)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), "1", None])
def test_times_of_the_old_stream_are_numbers(wrong: object) -> None:
    parts = legacy_image(1, 0, np.zeros(SHAPE, np.uint16), 0.0, 1.0)
    parts[3] = json.dumps({**json.loads(parts[3]), "start_time": wrong}).encode()
    with pytest.raises(MalformedReply, match="times of an image"):
        decode(parts, SHAPE, "")
