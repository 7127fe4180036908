"""Smaller images and a few numbers of many frames: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import AnyArray
from acquire.store.layout import ArrayLayout
from acquire.store.shards import MISSING, crc_bytes, index_bytes, index_size

SMALL_ENOUGH = 256
"""Pixels along the longer side of an image that needs no smaller one."""

_WIDER = {"u1": "u2", "u2": "u4", "u4": "u8", "i1": "i2", "i2": "i4", "i4": "i8", "f2": "f4"}
"""Types that hold the sum of four numbers of another."""


def can_be_halved(dtype: np.dtype[np.generic]) -> bool:
    """Whether :func:`halved` takes images of this type: integers up to 32 bits, and floats."""
    return dtype.kind == "f" or f"{dtype.kind}{dtype.itemsize}" in _WIDER


def halved(frames: AnyArray) -> AnyArray:
    """Means of 2 × 2 pixels: (n, y, x) to (n, y // 2, x // 2), same dtype.

    Integers are rounded, halves to the even number, so that repeated halving shifts no mean. An odd
    last row or column is left out. NaN makes NaN.
    """
    _, height, width = frames.shape
    dtype = frames.dtype
    wide = np.dtype(_WIDER.get(f"{dtype.kind}{dtype.itemsize}", dtype))
    whole = frames[:, : height // 2 * 2, : width // 2 * 2]
    rows = np.add(whole[:, 0::2], whole[:, 1::2], dtype=wide)
    total = np.add(rows[:, :, 0::2], rows[:, :, 1::2], dtype=wide)
    if dtype.kind == "f":
        return np.asarray(total * wide.type(0.25), dtype)
    odd = (total >> 2) & wide.type(1)
    total += wide.type(1)
    total += odd
    total >>= 2
    return total.astype(dtype)


def level_shapes(shape: tuple[int, int]) -> dict[int, tuple[int, int]]:
    """Shapes (y, x) of the smaller images of one of ``shape``, by factor: 2, 4 and so on."""
    found: dict[int, tuple[int, int]] = {}
    factor = 1
    while max(shape) > SMALL_ENOUGH and min(shape) >= 2:
        factor *= 2
        shape = (shape[0] // 2, shape[1] // 2)
        found[factor] = shape
    return found


def coarse_axis(centres: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Centres of pixels that are ``factor`` fine ones wide, from those of the fine ones."""
    count = len(centres) // factor
    return np.asarray(centres[: count * factor].reshape(count, factor).mean(axis=1))


def image_statistics(frames: AnyArray) -> Mapping[str, NDArray[np.float64]]:
    """Least, greatest and mean value of every frame, shape (n,); NaN where a frame holds NaN."""
    flat = frames.reshape(len(frames), -1)
    with np.errstate(invalid="ignore"):
        return {
            "min": flat.min(axis=1).astype(np.float64),
            "max": flat.max(axis=1).astype(np.float64),
            "mean": flat.mean(axis=1, dtype=np.float64),
        }


def spectrum_statistics(frames: AnyArray) -> Mapping[str, NDArray[np.float64]]:
    """The sum over every spectrum, shape (n,)."""
    return {"total": frames.reshape(len(frames), -1).sum(axis=1, dtype=np.float64)}


def compressed_chunk(layout: ArrayLayout, rows: AnyArray) -> bytes:
    """A chunk as it stands in a shard, with its checksum; rows that are missing at its end are fill."""
    if len(rows) < layout.chunk_rows:
        whole = np.full((layout.chunk_rows, *layout.inner_shape), layout.fill, layout.stored_dtype)
        whole[: len(rows)] = rows
        rows = whole
    data = layout.compress(rows)
    return data + crc_bytes(data)


def shard_file(layout: ArrayLayout, chunks: Sequence[bytes | None]) -> bytes:
    """A whole shard: its index, and the chunks with their checksums; None is a missing chunk."""
    entries = np.full((layout.shard_chunks, 2), MISSING, "<u8")
    offset = index_size(layout.shard_chunks)
    for number, chunk in enumerate(chunks):
        if chunk is not None:
            entries[number] = offset, len(chunk)
            offset += len(chunk)
    return b"".join([index_bytes(entries), *(chunk for chunk in chunks if chunk is not None)])
