"""The bytes of the Open Beam Interface: commands, and what comes back.

Source: nanographs/Open-Beam-Interface (0BSD), ``software/obi/commands`` and the gateware in
``software/obi/applet``: the first byte of a command is its number and flags, everything is big-endian.
Pixels are 16 bit, the ADC's 14 bits above two zeros; the reply to a synchronisation is ``FF FF`` and its
cookie, also where the output mode is another. Since the low byte of a pixel is never ``FF``, ``FF FF``
begins nothing but such a reply. A dwell field of ``n`` lasts ``n + 1`` cycles of the ADC (supersampler.py).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.links import MalformedReply

CYCLE_S = 125e-9
"""A cycle of the ADC, the unit of dwell times."""
LONGEST_RUN = 1 << 16
MOST_CYCLES = 1 << 16
CODES = 1 << 14
"""Of the DAC, and of the ADC."""
HIGHEST_COUNT = CODES - 1
FRACTIONS = 256
"""Of a code, in the steps of a region."""
MARK = b"\xff\xff"
ABORT = b"\x10"
FLUSH = b"\x20"
ELECTRONS = b"\x41"
"""Selects the electron beam; every other one is blanked."""


@dataclass(frozen=True, slots=True)
class Range:
    """Codes of the DAC along one axis."""

    start: int
    count: int
    step: int
    """In 1/256 of a code."""


def synchronize(cookie: int, *, raster: bool = True) -> bytes:
    """Asks for a reply when everything before is done; pixels are 16 bit from here on."""
    return struct.pack(">BH", int(raster), cookie) + FLUSH


def external_control(enabled: bool) -> bytes:
    """Takes the beam from the microscope, or gives it back; takes the switch's 20 ms."""
    return bytes([0x30 | enabled])


def blank(blanked: bool, *, inline: bool = False) -> bytes:
    """Blanks or un-blanks: after the pixels that are under way, or ``inline`` with the next one."""
    return bytes([0x50 | blanked | inline << 1])


def region(x: Range, y: Range) -> bytes:
    """Says where the next pixels of a raster lie, and ends a region under way."""
    return struct.pack(">B6H", 0xA0, x.start, x.count, x.step, y.start, y.count, y.step)


def runs(pixels: int, cycles: int) -> bytes:
    """So many pixels of a raster, each of so many cycles."""
    whole, rest = divmod(pixels, LONGEST_RUN)
    lengths = [LONGEST_RUN] * whole + [rest] * (rest > 0)
    return b"".join(struct.pack(">BHH", 0xC0, length - 1, cycles - 1) for length in lengths)


def point(x: int, y: int, cycles: int) -> bytes:
    """Puts the beam on a point, where it stays; one pixel comes back."""
    return struct.pack(">BHHH", 0xE0, x, y, cycles - 1)


def reply_to(cookie: int) -> bytes:
    """What answers a synchronisation."""
    return MARK + struct.pack(">H", cookie)


def counts(data: bytes | bytearray) -> NDArray[np.uint16]:
    """The ADC's values of pixels; raises MalformedReply for bytes that are none."""
    words = np.frombuffer(data, dtype=">u2")
    if np.any(words & 3):
        raise MalformedReply("what came in place of pixels has bits that pixels never have.")
    return (words >> 2).astype(np.uint16)
