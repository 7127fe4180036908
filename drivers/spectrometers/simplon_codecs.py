"""Unpacks images as DECTRIS detectors compress them: LZ4, and bit-shuffled LZ4.

Both are framed as HDF5's filters do it, all big-endian: 8 bytes total length, 4 bytes length of a block
before its compression (0: the usual one), then every block with 4 bytes of its compressed length before
it; of bit-shuffled ones, fewer than 8 elements at the end follow as they are.

Sources: dectris/documentation ``cbor/dectris-compression-tag.md``, HDFGroup ``LZ4_HDF5_format.md``,
kiyo-masui/bitshuffle ``bshuf_h5filter.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numcodecs.lz4 import LZ4
from numpy.typing import NDArray

from drivers.links import MalformedReply

LZ4_ALGORITHM = "lz4"
SHUFFLED = "bslz4"
_HEADER = struct.Struct(">QI")
_LENGTH = struct.Struct(">I")
_USUAL_LZ4_BYTES = 1 << 30
_USUAL_SHUFFLED_BYTES = 8192
_MULTIPLE = 8
"""Bits are shuffled among so many elements at a time."""
_codec = LZ4()


def unpack(packed: bytes, algorithm: str, element: int, wanted: int) -> bytes:
    """The bytes of an image.

    Args:
        packed: as it came.
        algorithm: ``lz4`` or ``bslz4``.
        element: bytes of a pixel.
        wanted: bytes of the image; nothing else is made.

    Raises:
        MalformedReply: not such an image.
    """
    if algorithm not in (LZ4_ALGORITHM, SHUFFLED) or len(packed) < _HEADER.size:
        raise MalformedReply(f"an image is compressed with {algorithm!r}, which is not known here.")
    size, block = _HEADER.unpack_from(packed)
    if size != wanted:  # before anything of that size is made
        raise MalformedReply(f"an image says it has {size} bytes; {wanted} were expected.")
    if algorithm == LZ4_ALGORITHM:
        lengths = list(_lengths(size, block or _USUAL_LZ4_BYTES))
        return b"".join(_blocks(packed, lengths, may_be_stored=True)[0])
    return _unshuffled(packed, block or _USUAL_SHUFFLED_BYTES, element, size)


def _unshuffled(packed: bytes, block: int, element: int, size: int) -> bytes:
    block = max(block // element // _MULTIPLE, 1) * _MULTIPLE * element
    whole = size - size % (_MULTIPLE * element)
    lengths = list(_lengths(whole, block))
    parts, end = _blocks(packed, lengths, may_be_stored=False)
    tail = packed[end:]
    if len(tail) != size - whole:
        raise MalformedReply(f"an image ends with {len(tail)} bytes; {size - whole} were expected.")
    full = whole // block
    shuffled = np.frombuffer(b"".join(parts), np.uint8)
    straight = [_bits_back(shuffled[: full * block], block, element)]
    if whole > full * block:
        straight.append(_bits_back(shuffled[full * block :], whole - full * block, element))
    return b"".join([*(part.tobytes() for part in straight), tail])


_SWAPS = tuple(
    (np.uint64(apart), np.uint64(mask))
    for apart, mask in (
        (7, 0x00AA00AA00AA00AA),
        (14, 0x0000CCCC0000CCCC),
        (28, 0x00000000F0F0F0F0),
    )
)
"""Bits of a word of 8 × 8 that change places, and how far they are apart: of squares of 2, 4 and 8."""


def _bits_back(shuffled: NDArray[Any], block: int, element: int) -> NDArray[np.uint8]:
    """Elements whose first bits came first, then all second bits, and so on; the lowest bit first."""
    if not shuffled.size:
        return np.empty(0, np.uint8)
    planes = shuffled.reshape(-1, element, 8, block // (8 * element))
    # a byte of eight planes each: a word whose rows of bits become columns
    words = planes.transpose(0, 1, 3, 2).copy().view("<u8")[..., 0]
    for apart, mask in _SWAPS:
        moved = (words ^ (words >> apart)) & mask
        words ^= moved ^ (moved << apart)
    columns = words[..., None].view(np.uint8)
    return np.ascontiguousarray(columns.transpose(0, 2, 3, 1))


def _lengths(size: int, block: int) -> Iterator[int]:
    for begin in range(0, size, block):
        yield min(block, size - begin)


def _blocks(packed: bytes, lengths: list[int], *, may_be_stored: bool) -> tuple[list[bytes], int]:
    """The blocks without their compression, and where they end."""
    at, found = _HEADER.size, list[bytes]()
    for length in lengths:
        if at + _LENGTH.size > len(packed):
            raise MalformedReply("an image ends before its last block.")
        (taken,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        block = packed[at : at + taken]
        at += taken
        if len(block) != taken:
            raise MalformedReply("an image ends within a block.")
        if not (may_be_stored and taken == length):
            block = _without_lz4(block, length)
        found.append(block)
    return found, at


def _without_lz4(block: bytes, length: int) -> bytes:
    try:
        # numcodecs keeps the length before the block, little-endian
        plain = bytes(_codec.decode(struct.pack("<I", length) + block))
    except (RuntimeError, ValueError, OverflowError) as error:
        raise MalformedReply(f"a block of an image is no LZ4: {error}.") from error
    if len(plain) != length:
        raise MalformedReply(f"a block of an image has {len(plain)} bytes; {length} were expected.")
    return plain
