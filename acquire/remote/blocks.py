"""Blocks of spectra on the way from a server: as one frame each, whose arrays are those of the block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from acquire.bursts import SpectrumBlock
from acquire.errors import InstrumentError, LinkError
from acquire.instruments import AnyArray, Frame

_DATA, _SCALARS, _SPANS = "data ", "scalar ", "span "
_TIMES = ("t_start_s", "t_end_s")


def pack_block(block: SpectrumBlock) -> Frame:
    """A block as one frame, which :mod:`acquire.remote.frames` carries."""
    arrays: dict[str, AnyArray] = {"t_start_s": block.t_start_s, "t_end_s": block.t_end_s}
    for kind, columns in ((_DATA, block.data), (_SCALARS, block.scalars), (_SPANS, block.spans)):
        arrays |= {kind + name: column for name, column in columns.items()}
    begin, end = float(block.t_start_s[0]), float(block.t_end_s[-1])
    return Frame(block.stream, block.first_index, arrays, begin, end)


def unpack_block(frame: Frame) -> SpectrumBlock:
    """The block again; raises LinkError for anything but what :func:`pack_block` makes."""
    parts: dict[str, dict[str, AnyArray]] = {_DATA: {}, _SCALARS: {}, _SPANS: {}}
    for name, array in frame.data.items():
        kind = next((kind for kind in parts if name.startswith(kind)), None)
        if kind is None and name not in _TIMES:
            raise LinkError(f"a block of spectra came with {name[:40]!r}, which is no part of one.")
        if kind is not None:
            parts[kind][name.removeprefix(kind)] = array
    if not set(_TIMES) <= set(frame.data):
        raise LinkError("a block of spectra came without its times.")
    numbers: Mapping[str, AnyArray] = {
        name: array for name, array in frame.data.items() if not name.startswith(_DATA)
    }
    wrong = [name for name, array in numbers.items() if array.dtype != np.float64]
    wrong += [name for name in _TIMES if frame.data[name].ndim != 1]
    if wrong:
        raise LinkError(f"a block of spectra came with {wrong[0][:40]!r} that is no column.")
    try:
        return SpectrumBlock(
            frame.stream,
            frame.index,
            parts[_DATA],
            frame.data["t_start_s"],
            frame.data["t_end_s"],
            parts[_SCALARS],
            parts[_SPANS],
        )
    except InstrumentError as error:
        raise LinkError(f"a block of spectra came that cannot be: {error}") from error
