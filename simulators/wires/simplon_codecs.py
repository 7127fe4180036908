"""Compresses images as DECTRIS does: LZ4, and bit-shuffled LZ4, both in the framing of HDF5's filters.

Sources: dectris/documentation ``cbor/dectris-compression-tag.md`` and the formats it names: HDFGroup
``LZ4_HDF5_format.md`` and kiyo-masui/bitshuffle ``bshuf_h5filter.c``: 8 bytes total length and 4 bytes
block length, then each block with 4 bytes of its compressed length before it, all big-endian.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numcodecs.lz4 import LZ4
from numpy.typing import NDArray

LZ4_BLOCK_BYTES = 1 << 20
SHUFFLED_BLOCK_BYTES = 8192
"""What bitshuffle takes by itself."""
_SIZE_BYTES = 4
"""numcodecs writes the length before the block, the formats here have their own."""
_codec = LZ4()


def lz4_block(data: bytes) -> bytes:
    """A bare LZ4 block."""
    return bytes(_codec.encode(data))[_SIZE_BYTES:]


def lz4(image: NDArray[Any]) -> bytes:
    """Blocks of LZ4, each stored as it is where that is shorter."""
    data = image.tobytes()
    parts = [struct.pack(">QI", len(data), LZ4_BLOCK_BYTES)]
    for begin in range(0, len(data), LZ4_BLOCK_BYTES):
        block = data[begin : begin + LZ4_BLOCK_BYTES]
        packed = lz4_block(block)
        shorter = packed if len(packed) < len(block) else block
        parts += [struct.pack(">I", len(shorter)), shorter]
    return b"".join(parts)


def bslz4(image: NDArray[Any]) -> bytes:
    """Blocks whose bits are shuffled, then LZ4; fewer than 8 elements at the end stay as they are."""
    flat = np.ascontiguousarray(image).ravel()
    size = flat.dtype.itemsize
    elements = SHUFFLED_BLOCK_BYTES // size
    whole = len(flat) - len(flat) % 8
    parts = [struct.pack(">QI", flat.nbytes, elements * size)]
    for begin in range(0, whole, elements):
        packed = lz4_block(_shuffled(flat[begin : min(begin + elements, whole)]))
        parts += [struct.pack(">I", len(packed)), packed]
    parts.append(flat[whole:].tobytes())
    return b"".join(parts)


def _shuffled(block: NDArray[Any]) -> bytes:
    """All first bits, then all second bits, and so on; the lowest bit of the lowest byte first."""
    raw = block.view(np.uint8).reshape(len(block), block.dtype.itemsize)
    bits = np.unpackbits(raw, axis=1, bitorder="little")
    return np.packbits(np.ascontiguousarray(bits.T), axis=1, bitorder="little").tobytes()
