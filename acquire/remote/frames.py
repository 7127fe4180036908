"""Frames as plain heads and the bytes of their data, strictly checked; frames that are alike share one head.

A head says once what is the same in all its frames (stream, names, types and shapes of arrays), and
has columns for what is not (indices, times, scalars). A head for every frame would take longer to
pack and to look at than a small frame is under way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from acquire.errors import LinkError
from acquire.instruments import AnyArray, Frame, FrameMeta
from acquire.remote.messages import Buffer, Bytes
from acquire.remote.wire import ALIGN, ArrayRow, array_row, exactly, memory_of, name_of, short

_FIELDS = {
    "stream", "stride", "data", "index", "t_start_s", "t_end_s", "scalars", "spans",
}  # fmt: skip
_ZEROS = [bytes(size) for size in range(ALIGN + 1)]


# -------------------------------------------------------------------------------- packing


def alike(frames: Sequence[Frame]) -> Iterator[list[Frame]]:
    """Consecutive frames that can share a head, together."""
    for _, group in itertools.groupby(frames, _kind):
        yield list(group)


def pack_head(frames: Sequence[Frame]) -> dict[str, Any]:
    """The head of frames that are alike, at least one; raises LinkError for arrays of objects and such."""
    first = frames[0]
    rows, stride = [], 0
    for name, array in first.data.items():
        rows.append(array_row(name, array, stride))
        stride += array.nbytes + _pad(array.nbytes)
    metas = [frame.meta for frame in frames]
    return {
        "stream": first.stream,
        "stride": stride,
        "data": rows,
        "index": [int(frame.index) for frame in frames],
        "t_start_s": [float(frame.t_start_s) for frame in frames],
        "t_end_s": [float(frame.t_end_s) for frame in frames],
        "scalars": {
            name_of(name): [float(meta.scalars[name]) for meta in metas]
            for name in first.meta.scalars
        },
        "spans": {
            name_of(name): [
                [float(meta.spans[name][0]) for meta in metas],
                [float(meta.spans[name][1]) for meta in metas],
            ]
            for name in first.meta.spans
        },
    }


def bytes_of(frame: Frame) -> list[Buffer]:
    """The data of a frame, not copied where they lie in one piece; together as long as its head's stride."""
    blobs: list[Buffer] = []
    for array in frame.data.values():
        size = array.nbytes
        if size:
            blobs.append(memory_of(array))
        if pad := _pad(size):
            blobs.append(_ZEROS[pad])
    return blobs


def pack_frames(frames: Sequence[Frame]) -> tuple[list[Any], list[Buffer]]:
    """Any frames as heads, and their bytes one after the other; raises LinkError as :func:`pack_head`."""
    heads: list[Any] = []
    blobs: list[Buffer] = []
    for some in alike(frames):
        heads.append(pack_head(some))
        for frame in some:
            blobs += bytes_of(frame)
    return heads, blobs


def _kind(frame: Frame) -> tuple[Any, ...]:
    """What is equal for frames that can share a head."""
    arrays = [(name, array.dtype, array.shape) for name, array in frame.data.items()]
    return frame.stream, arrays, [*frame.meta.scalars], [*frame.meta.spans]


def _pad(size: int) -> int:
    """Bytes after an array of this size; every one takes up some, so that a head tells no more than came."""
    return -size % ALIGN if size else ALIGN


# ------------------------------------------------------------------------------ unpacking


def unpack_frames(
    heads: Any,
    beside: Bytes,
    places: Any = None,
    take: Callable[[int, int], Bytes] | None = None,
) -> list[Frame]:
    """The frames again; their data are read-only views of the bytes, which stay with them.

    Args:
        heads: as they came.
        beside: the bytes that came with them, of one frame after the other.
        places: for every frame 0, if its data are beside, or a number to ``take`` them by; default
            all are beside.
        take: gives the bytes that have such a number, as many as are asked for.

    Raises:
        LinkError: not exactly what :func:`pack_frames` makes, or more than the bytes that came.
    """
    numbers = (
        None if places is None else iter(_column(places, len(exactly(places, list, list)), int))
    )
    frames: list[Frame] = []
    at = 0
    for head in map(_Head.read, exactly(heads, list, list)):
        count = len(head.index)
        if numbers is None:
            data = head.arrays(beside, at, count)
            at += count * head.stride
        else:
            data = []
            for number in itertools.islice(numbers, count):
                if number and take is not None:
                    data += head.arrays(take(number, head.stride), 0, 1)
                elif number:
                    raise LinkError("a frame was put where nobody can take it from.")
                else:
                    data += head.arrays(beside, at, 1)
                    at += head.stride
            if len(data) != count:
                raise LinkError("fewer places came than frames.")
        frames += head.frames(data)
    if numbers is not None and next(numbers, None) is not None:
        raise LinkError("more places came than frames.")
    return frames


@dataclass(frozen=True, slots=True)
class _Head:
    """What :func:`pack_head` has made, looked at: every column has as many entries as there are frames."""

    stream: str
    stride: int
    rows: list[ArrayRow]
    index: list[int]
    t_start_s: list[float]
    t_end_s: list[float]
    scalars: dict[str, list[float]]
    spans: dict[str, list[tuple[float, float]]]

    @classmethod
    def read(cls, plain: Any) -> _Head:
        given = exactly(plain, dict, Frame)
        if given.keys() != _FIELDS:
            raise LinkError(f"frames came with missing or unknown fields: {short(given)}.")
        rows = [ArrayRow.read(row) for row in exactly(given["data"], list, list)]
        stride = exactly(given["stride"], int, int)
        # what is alike for many frames is said once: a few bytes must not stand for very many arrays
        if stride < ALIGN * len(rows) or any(row.end > stride for row in rows):
            raise LinkError(f"frames of {stride} bytes came that cannot be: {short(rows)}.")
        count = len(exactly(given["index"], list, list))
        if not count or len({row.name for row in rows}) < len(rows):
            raise LinkError(f"a head came for {count} frames, or with arrays of the same name.")
        numbers = partial(_column, count=count, kind=float)
        return cls(
            stream=exactly(given["stream"], str, str),
            stride=stride,
            rows=rows,
            index=_column(given["index"], count, int),
            t_start_s=numbers(given["t_start_s"]),
            t_end_s=numbers(given["t_end_s"]),
            scalars={name: numbers(some) for name, some in _named(given["scalars"])},
            spans={name: _spans(some, count) for name, some in _named(given["spans"])},
        )

    def arrays(self, buffer: Bytes, at: int, count: int) -> list[dict[str, AnyArray]]:
        """The arrays of each of ``count`` frames that stand in ``buffer`` from ``at`` on."""
        end = at + count * self.stride
        if end > buffer.nbytes:
            raise LinkError(f"frames need bytes {at} to {end}, {buffer.nbytes} came.")
        block = buffer[at:end].reshape(count, self.stride)
        found: list[dict[str, AnyArray]] = [{} for _ in range(count)]
        for row in self.rows:
            whole = row.of(block[:, row.start : row.end])
            whole.setflags(write=False)
            for number, arrays in enumerate(found):
                arrays[row.name] = whole[number, ...]
        return found

    def frames(self, data: Sequence[dict[str, AnyArray]]) -> list[Frame]:
        """The frames that have these data."""
        scalars, spans = self._by_frame(self.scalars), self._by_frame(self.spans)
        columns = (self.index, data, self.t_start_s, self.t_end_s, map(FrameMeta, scalars, spans))
        return list(map(Frame, itertools.repeat(self.stream), *columns))

    def _by_frame(self, columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{} for _ in self.index]
        for name, values in columns.items():
            for of_frame, value in zip(found, values, strict=True):
                of_frame[name] = value
        return found


def _named(plain: Any) -> list[tuple[str, Any]]:
    return [(exactly(name, str, str), some) for name, some in exactly(plain, dict, dict).items()]


def _spans(plain: Any, count: int) -> list[tuple[float, float]]:
    if type(plain) is not list or len(plain) != 2:
        raise LinkError(f"{short(plain)} came where time spans were expected.")
    starts, ends = (_column(some, count, float) for some in plain)
    return list(zip(starts, ends, strict=True))


def _column(plain: Any, count: int, kind: type[Any]) -> list[Any]:
    """A list of ``count`` numbers, which are all of one kind (a whole number is a float as well).

    Raises:
        LinkError: it is not.
    """
    if type(plain) is list and len(plain) == count:
        kinds = set(map(type, plain))
        if kinds <= {kind}:
            return plain
        if kind is float and kinds <= {float, int}:
            return [float(number) for number in plain]
    raise LinkError(f"{short(plain)} came where {count} numbers ({kind.__name__}) were expected.")
