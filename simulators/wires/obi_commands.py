"""The commands of the Open Beam Interface as bytes: type and flags in the first, then big-endian fields.

Source: nanographs/Open-Beam-Interface (0BSD or Apache-2.0), ``software/obi/commands`` and ``command_parser.py``:
the fields, that a byte of an unknown type is passed over, and that an array command is followed by the
fields of its elements alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum


class Type(IntEnum):
    """Types of commands."""

    SYNCHRONIZE = 0x0
    ABORT = 0x1
    FLUSH = 0x2
    EXTERNAL_CONTROL = 0x3
    BEAM_SELECT = 0x4
    BLANK = 0x5
    DELAY = 0x6
    ARRAY = 0x8
    RASTER_PIXEL_FILL = 0x9
    RASTER_REGION = 0xA
    RASTER_PIXEL = 0xB
    RASTER_PIXEL_RUN = 0xC
    RASTER_PIXEL_FREE_RUN = 0xD
    VECTOR_PIXEL = 0xE
    VECTOR_PIXEL_MIN_DWELL = 0xF


FIELDS = {
    Type.SYNCHRONIZE: 1,
    Type.ABORT: 0,
    Type.FLUSH: 0,
    Type.EXTERNAL_CONTROL: 0,
    Type.BEAM_SELECT: 0,
    Type.BLANK: 0,
    Type.DELAY: 1,
    Type.ARRAY: 1,
    Type.RASTER_PIXEL_FILL: 1,
    Type.RASTER_REGION: 6,
    Type.RASTER_PIXEL: 1,
    Type.RASTER_PIXEL_RUN: 2,
    Type.RASTER_PIXEL_FREE_RUN: 1,
    Type.VECTOR_PIXEL: 3,
    Type.VECTOR_PIXEL_MIN_DWELL: 2,
}
"""How many fields of two bytes follow."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command; flags are the lower half of its first byte."""

    type: Type
    flags: int
    fields: tuple[int, ...]


def commands(receive: Callable[[int], bytes]) -> Iterator[Command]:
    """The commands of a stream, for as long as ``receive(count)`` gives that many bytes."""
    while True:
        (first,) = receive(1)
        kind, flags = first >> 4, first & 0xF
        if kind not in FIELDS:
            continue
        found = Type(kind)
        fields = _fields(found, receive)
        if found is not Type.ARRAY:
            yield Command(found, flags, fields)
        elif flags in FIELDS and flags != Type.ARRAY:
            element = Type(flags)
            for _ in range(fields[0] + 1):
                yield Command(element, 0, _fields(element, receive))


def _fields(kind: Type, receive: Callable[[int], bytes]) -> tuple[int, ...]:
    count = FIELDS[kind]
    return struct.unpack(f">{count}H", receive(2 * count)) if count else ()
