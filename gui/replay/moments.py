"""What a stored run tells a window: once as a whole, and at every moment of its time."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acquire.engine.live_maps import LiveMap
from acquire.engine.status import (
    EngineState,
    EngineStatus,
    EstimateView,
    LiveImage,
    LiveSeries,
    LiveSpectrum,
    PlanView,
)

Floats = NDArray[np.float64]
NAN = float("nan")


NOTHING = LiveSeries((0, 0, 0), 0, np.empty(0), np.empty(0), np.empty(0), np.empty(0), {}, ())
"""No curve at all."""


class Ending(enum.StrEnum):
    """How a stored run ended, or why it has not."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    FAILED = "failed"
    WRITTEN = "being written"
    CUT_OFF = "cut off"
    """Its program died: nobody closed it, and nobody writes it."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Story:
    """A run as a whole; times are run seconds of its first segment."""

    path: Path
    name: str
    """Of its recipe."""
    station: str
    simulated: bool
    begun_unix_s: float
    ending: Ending
    cause: str
    t_end_s: float
    """Last time of anything in it; 0 for an empty run."""
    series: LiveSeries
    """All readings, estimates and journal lines."""
    units: Mapping[str, str]
    """Of the quantities in ``series.estimates``."""
    plan: PlanView
    """Steps as they were carried out; their planned temperatures are not stored."""
    frames: Mapping[str, Floats]
    """By stream: times (n,) at which its frames were there, ends of their exposures."""
    segments: int = 1
    trouble: tuple[str, ...] = ()
    """What of it could not be read."""

    def status_at(self, t_s: float) -> EngineStatus:
        """What the engine would have said at a time, as far as the run tells."""
        series = self.series
        measured = setpoint = reading_t_s = NAN
        row = int(np.searchsorted(series.t_s, t_s, "right")) - 1
        if row >= 0:
            measured = float(series.measured_celsius[row])
            setpoint = float(series.setpoint_celsius[row])
            reading_t_s = float(series.t_s[row])
        step, text, progress = self._step_at(t_s)
        return EngineStatus(
            state=EngineState.RUNNING,
            run_name=self.name,
            folder=str(self.path),
            station=self.station,
            simulated=self.simulated,
            t_s=t_s,
            step_index=step,
            step_count=len(self.plan.steps),
            step_text=text,
            step_progress=progress,
            measured_celsius=measured,
            setpoint_celsius=setpoint,
            reading_t_s=reading_t_s,
            frames={name: int(np.searchsorted(t, t_s, "right")) for name, t in self.frames.items()},
            estimates=self._estimates_at(t_s),
        )

    def _step_at(self, t_s: float) -> tuple[int, str, float]:
        begun = [step for step in self.plan.steps if step.t_start_s <= t_s]
        if not begun:
            return -1, "", NAN
        step = begun[-1]
        done = (t_s - step.t_start_s) / step.duration_s if step.duration_s > 0 else 1.0
        return step.index, step.text, min(1.0, done)

    def _estimates_at(self, t_s: float) -> dict[str, EstimateView]:
        series, found = self.series, {}
        end = int(np.searchsorted(series.estimate_t_s, t_s, "right"))
        for name, unit in self.units.items():
            row = _last_known(series.estimates[name], end)
            if row >= 0:
                sigma = series.estimates.get(f"{name}_sigma")
                found[name] = EstimateView(
                    float(series.estimates[name][row]),
                    float(sigma[row]) if sigma is not None else NAN,
                    unit,
                    float(series.estimate_t_s[row]),
                )
        return found


@dataclass(frozen=True, slots=True)
class Wish:
    """What a window wants to see."""

    serial: int
    t_s: float
    stream: str = ""
    """Of images; ``""`` is whichever has the newest."""
    map: str = ""
    """Which map; ``""`` is the one that grew last."""
    ahead: int = 0
    """Frames that will probably be wanted next lie this many rows further; negative backwards; 0 if
    nobody knows."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What was there at a time: the newest frame of the wanted stream, the newest spectrum."""

    wish: Wish
    image: LiveImage | None
    spectrum: LiveSpectrum | None
    map: LiveMap | None = None
    """The line scan or map that grew last, or that was asked for, as far as it was known."""
    trouble: tuple[str, ...] = ()
    """What could not be read, in words; it is left out of the scene."""
    took_s: float = field(default=0.0, compare=False)
    """Wall seconds of reading."""


def _last_known(values: Floats, end: int) -> int:
    """Row of the last finite value before row ``end``, at most 65536 rows back; -1 if there is none."""
    for stop in (end, end - 1024):
        start = max(0, stop - (1024 if stop == end else 64512))
        known = np.flatnonzero(np.isfinite(values[start : max(stop, 0)]))
        if known.size:
            return start + int(known[-1])
    return -1
