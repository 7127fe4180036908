"""Rebuilds frames and their declaration from a stored run, a block at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from acquire.errors import StoreError
from acquire.instruments import Axis, ChannelSpec, Frame, FrameMeta, ScalarSpec, StreamSpec
from acquire.store import Run, unit_for_people

BLOCK_BYTES = 16 * 2**20
"""Frames of about so many bytes are read and measured together."""
_OWN = frozenset({"time", "t_end", "frame_index"})
_SUMMARIES = ("_min", "_max", "_mean", "_total")
"""Endings of what ``hotstage consolidate`` adds to the frames: not known when they were recorded."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame whose stored data are damaged."""

    head: Frame
    """The frame without its data."""
    why: str


def frames_of(run: Run, stream: str) -> xr.Dataset:
    """The stream's dataset; raises StoreError if there is none."""
    if stream not in run.streams:
        there = ", ".join(run.streams) or "none"
        raise StoreError(f"{run.path} has no stream {stream!r}; there is: {there}.")
    return run.images(stream) if run.streams[stream] == "images" else run.spectra(stream)


def spec_of(data: xr.Dataset, stream: str) -> StreamSpec:
    """What was declared of a stream's frames, as far as it is stored."""
    channels = {}
    for name, variable in data.data_vars.items():
        dims = tuple(str(dim) for dim in variable.dims[1:])
        channels[str(name)] = ChannelSpec(
            str(variable.dtype),
            tuple(variable.shape[1:]),
            tuple(_declared(dim, str(name)) for dim in dims),
            {_declared(dim, str(name)): _axis(data, dim) for dim in dims if dim in data.coords},
            unit_for_people(str(variable.attrs.get("units", "1"))),
            str(variable.attrs.get("long_name", "")),
        )
    scalars = {
        name: ScalarSpec(
            unit_for_people(str(data[name].attrs.get("units", "1"))),
            str(data[name].attrs.get("long_name", "")),
        )
        for name in _scalars(data)
    }
    times = np.asarray(data["time"].values, np.float64)
    period_s = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return StreamSpec(stream, channels, scalars, period_s if math.isfinite(period_s) else 0.0)


def looked_at(data: xr.Dataset, channel: str) -> tuple[str, ...]:
    """The channels that an estimator of one of them is shown: of spectra all, of images that one."""
    if _declared(str(data[channel].dims[-1]), channel) != "energy_loss":
        return (channel,)
    return (channel, *(str(name) for name in data.data_vars if name != channel))


def rows_of_block(data: xr.Dataset, channel: str, nbytes: int, blocks: int) -> int:
    """Frames of a block: about ``nbytes``, or less if that makes ``blocks``; whole chunks as stored."""
    rows = data.sizes["time"]
    array = data[channel]
    chunks = array.encoding.get("chunks")
    stored = int(chunks[0]) if chunks else 1
    chunk_bytes = stored * array.dtype.itemsize * math.prod(array.shape[1:])
    fit = nbytes // max(1, chunk_bytes)
    return stored * max(1, min(fit, rows // (stored * blocks)))


def read_block(
    data: xr.Dataset, stream: str, channels: Sequence[str], first: int, stop: int
) -> list[Frame | Unreadable]:
    """Rows ``first`` to ``stop`` of some channels as frames; damaged ones say why, the rest is read."""
    try:
        blocks = {name: np.asarray(data[name][first:stop].values) for name in channels}
        return [
            _frame(data, stream, row, {name: block[row - first] for name, block in blocks.items()})
            for row in range(first, stop)
        ]
    except StoreError:
        return [_one(data, stream, channels, row) for row in range(first, stop)]


def _one(data: xr.Dataset, stream: str, channels: Sequence[str], row: int) -> Frame | Unreadable:
    head = _frame(data, stream, row, {})
    try:
        arrays = {name: np.asarray(data[name][row : row + 1].values)[0] for name in channels}
    except StoreError as error:
        return Unreadable(head, str(error))
    return _frame(data, stream, row, arrays)


def _frame(data: xr.Dataset, stream: str, row: int, arrays: Mapping[str, np.ndarray]) -> Frame:
    at = {name: data[name].values[row] for name in (*_OWN, *_scalars(data))}
    spans = {
        name: (at[f"{name}_t_start"], at[f"{name}_t_end"])
        for name in map(str, data.data_vars)
        if f"{name}_t_start" in at and f"{name}_t_end" in at
    }
    meta = FrameMeta(
        {name: float(at[name]) for name in _scalars(data)},
        {name: (float(start), float(end)) for name, (start, end) in spans.items()},
    )
    return Frame(
        stream, int(at["frame_index"]), arrays, float(at["time"]), float(at["t_end"]), meta
    )


def _scalars(data: xr.Dataset) -> list[str]:
    """Coordinates that give a number for every frame, but the frame's own."""
    summaries = {f"{channel}{ending}" for channel in data.data_vars for ending in _SUMMARIES}
    return [
        str(name)
        for name, coordinate in data.coords.items()
        if coordinate.dims == ("time",) and name not in _OWN and name not in summaries
    ]


def _declared(dim: str, channel: str) -> str:
    """The name of a dimension before the store made those of different channels differ."""
    dim = dim.removesuffix(f"_{channel}")
    return "energy_loss" if dim == "energy_loss_low" else dim


def _axis(data: xr.Dataset, dim: str) -> Axis:
    values = np.asarray(data[dim].values, np.float64)
    step = float(values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else 1.0
    return Axis(float(values[0]), step, unit_for_people(str(data[dim].attrs.get("units", "1"))))
