"""What an export takes from a run: its channels frame by frame, their axes, and what frames lack."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store import Run, words_of

IMAGES = "images"
SPECTRA = "spectra"

_UNEVEN = 0.1
"""Frames that are further than this part of their spacing from an even one are not evenly spaced."""


@dataclass(frozen=True, slots=True)
class LinearAxis:
    """An axis of evenly spaced points: ``offset + step · index`` in ``unit``."""

    name: str
    offset: float
    step: float
    size: int
    unit: str


@dataclass(frozen=True, slots=True)
class Column:
    """A number for every frame."""

    values: AnyArray
    unit: str
    long_name: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames of a stream that are missing."""

    stream: str
    frame_index: int
    """Number of the first of them."""
    frames: int
    t_start: float
    """Run time in s; NaN where it is not known, as ``t_end``."""
    t_end: float
    reason: str


@dataclass(frozen=True, slots=True)
class Channel:
    """One detector of an image stream, or one range of a spectrum stream."""

    run: Run
    stream: str
    kind: str
    """``images`` or ``spectra``."""
    name: str
    frames: xr.Dataset
    """All of the stream."""

    @property
    def stem(self) -> str:
        """Name of a file for it, without its suffix."""
        return f"{self.stream}_{self.name}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.run.header.name}: {self.stream} {self.name}"

    @property
    def data(self) -> xr.DataArray:
        """Lazy, (time, …)."""
        return self.frames[self.name]

    @property
    def aside(self) -> bool:
        """Whether it only tells of other channels of the stream, such as when each read was."""
        return self.kind == SPECTRA and not str(self.data.dims[-1]).startswith("energy_loss")

    def asides(self) -> dict[str, AnyArray]:
        """What such channels of the stream hold, read now; raises StoreError."""
        return {
            str(name): np.asarray(data.values)
            for name, data in self.frames.data_vars.items()
            if self.kind == SPECTRA and not str(data.dims[-1]).startswith("energy_loss")
        }

    @property
    def count(self) -> int:
        """Frames."""
        return int(self.data.shape[0])

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame in memory."""
        return self.data.dtype.itemsize * math.prod(self.data.shape[1:])

    @property
    def unit(self) -> str:
        """Of the data."""
        return unit_of(self.data)

    @property
    def axes(self) -> tuple[LinearAxis, ...]:
        """Those of a frame."""
        return tuple(linear_axis(self.frames, str(dim)) for dim in self.data.dims[1:])

    @property
    def times_s(self) -> NDArray[np.float64]:
        """When the exposures began, on the run's clock."""
        return np.asarray(self.frames["time"].values, np.float64)

    @property
    def exposure_s(self) -> float:
        """Median length of an exposure; of the channel's own where it differs from the frame's."""
        begin, end = f"{self.name}_t_start", f"{self.name}_t_end"
        spans = (
            self.frames[end].values - self.frames[begin].values
            if begin in self.frames and end in self.frames
            else self.frames["t_end"].values - self.times_s
        )
        return float(np.nanmedian(spans)) if np.isfinite(spans).any() else math.nan

    def columns(self) -> dict[str, Column]:
        """Time, temperature, dose, index and so on of every frame."""
        found = {"time": self.frames["time"]} | {
            str(name): coord
            for name, coord in self.frames.coords.items()
            if coord.dims == ("time",) and name != "time"
        }
        return {
            name: Column(
                np.asarray(coord.values),
                unit_of(coord),
                str(coord.attrs.get("long_name", "")),
            )
            for name, coord in found.items()
        }

    def rows_of_block(self, nbytes: int) -> int:
        """How many frames make about ``nbytes``, in whole chunks as they are stored."""
        stored = int(self.data.encoding["chunks"][0])
        return stored * max(1, nbytes // max(1, stored * self.frame_bytes))

    def block(self, first: int, stop: int) -> AnyArray:
        """Frames ``first`` to ``stop``, read now; raises StoreError."""
        return np.asarray(self.data[first:stop].values)

    def each(self) -> Iterator[AnyArray]:
        """Frame by frame, of which a few are in memory at a time; raises StoreError."""
        step = self.rows_of_block(4 * 2**20)
        for first in range(0, self.count, step):
            yield from self.block(first, min(self.count, first + step))


def channels_of(run: Run, stream: str | None = None, kind: str | None = None) -> list[Channel]:
    """The channels of a run that hold frames: of one stream, or of one kind, or all.

    Raises:
        StoreError: there is no such stream.
    """
    if stream is not None and stream not in run.streams:
        there = ", ".join(run.streams) or "none"
        raise StoreError(f"{run.path} has no stream {stream!r}; there is: {there}.")
    found: list[Channel] = []
    for name, of_kind in run.streams.items():
        if stream not in (None, name) or kind not in (None, of_kind):
            continue
        frames = run.images(name) if of_kind == IMAGES else run.spectra(name)
        if frames.sizes["time"]:
            found += [Channel(run, name, of_kind, str(c), frames) for c in frames.data_vars]
    return found


def unit_of(variable: xr.DataArray) -> str:
    """The unit of a variable, in letters that every program can show; empty for pure numbers."""
    unit = str(variable.attrs.get("units", "1"))
    return "" if unit == "1" else unit


def linear_axis(data: xr.Dataset, dim: str) -> LinearAxis:
    """The axis of a dimension other than time; in pixels where it has no coordinate."""
    size = int(data.sizes[dim])
    if dim not in data.coords:
        return LinearAxis(dim, 0.0, 1.0, size, "")
    values = np.asarray(data[dim].values, np.float64)
    step = float(values[-1] - values[0]) / (size - 1) if size > 1 else 1.0
    return LinearAxis(dim, float(values[0]), step, size, unit_of(data[dim]))


def navigates(axis: LinearAxis) -> bool:
    """Whether an axis of a spectrum's array counts spectra, as that of several reads does."""
    return not axis.name.startswith("energy_loss")


def even_times(times_s: NDArray[np.float64]) -> LinearAxis | None:
    """The axis of frames that came evenly, with none missing; None where it would misdate some."""
    count = len(times_s)
    if count == 0 or not np.isfinite(times_s).all():
        return None
    step = float(times_s[-1] - times_s[0]) / (count - 1) if count > 1 else 1.0
    off = np.abs(times_s - (times_s[0] + step * np.arange(count)))
    if step <= 0 or off.max() > _UNEVEN * step:
        return None
    return LinearAxis("time", float(times_s[0]), step, count, "s")


def mean_interval_s(times_s: NDArray[np.float64]) -> float:
    """Median time from frame to frame, which a gap does not change; NaN for a single frame."""
    steps = np.diff(times_s)
    return float(np.nanmedian(steps)) if steps.size and np.isfinite(steps).any() else math.nan


def gaps_of(run: Run, stream: str | None = None) -> list[Gap]:
    """Frames that are missing from a run, or from one stream of it."""
    gaps = run.gaps
    if not gaps.sizes:
        return []
    streams, reasons = words_of(gaps["stream"]).tolist(), words_of(gaps["reason"]).tolist()
    numbers = (gaps[name].values.tolist() for name in ("frame_index", "frames", "t_start", "t_end"))
    found = [Gap(*row) for row in zip(streams, *numbers, reasons, strict=True)]
    return [gap for gap in found if stream in (None, gap.stream)]


def instrument_facts(run: Run) -> dict[str, Any]:
    """What instruments said of themselves, by fact; beam energy, angles, gains and so on."""
    return {
        name: value
        for instrument in run.header.instruments.values()
        for name, value in instrument.details.items()
    }


def run_facts(run: Run) -> Mapping[str, str]:
    """Name, specimen, station and end of a run, in words."""
    header, report = run.header, run.report
    specimen = "; ".join(f"{key}: {value}" for key, value in header.specimen.items())
    return {
        "run": header.name,
        "folder": run.path.name,
        "began": began(run).isoformat(),
        "station": header.station,
        "specimen": specimen,
        "simulated": "yes" if header.simulation else "no",
        "outcome": run.state if report is None else report.outcome,
        "cause": "the run was not closed when this was exported"
        if report is None
        else report.cause,
        "hotstage": str(header.versions.get("hotstage", "")),
    }


def began(run: Run) -> datetime:
    """The date at run time 0."""
    return datetime.fromtimestamp(run.header.epoch_unix_s, UTC)
