"""Curves of several stored runs, on axes on which they can be compared."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acquire.errors import StoreError
from acquire.measure.series import break_at_gaps
from gui.replay.moments import NAN, Ending, Floats, Story

TEMPERATURE = "temperature"
_NEAR_CELSIUS = 2.0
"""So near to its highest setpoint, a run has reached it."""


class Against(enum.StrEnum):
    """What curves are drawn against."""

    TIME = "time"
    SINCE = "since"
    """Time since the highest setpoint was reached."""
    TEMPERATURE = "temperature"


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the runs; ``error`` says why it has no story."""

    path: Path
    story: Story | None = None
    error: str = ""

    @property
    def reached_s(self) -> float:
        """When the highest setpoint was first reached within 2 °C; NaN if it never was."""
        if self.story is None or not np.isfinite(self.story.series.setpoint_celsius).any():
            return NAN
        series = self.story.series
        highest = float(np.nanmax(series.setpoint_celsius))
        there = np.flatnonzero(series.measured_celsius >= highest - _NEAR_CELSIUS)
        return float(series.t_s[there[0]]) if there.size else NAN

    @property
    def growing(self) -> bool:
        """Whether it is being written."""
        return self.story is not None and self.story.ending is Ending.WRITTEN

    def curve(self, quantity: str, against: Against) -> tuple[Floats, Floats, Floats]:
        """A quantity and its σ (NaN for the temperature), as they are drawn: a NaN parts a gap.

        Returns:
            Abscissa in s or °C, values, σ: all (n,); empty where the run does not tell.
        """
        empty = np.empty(0), np.empty(0), np.empty(0)
        if self.story is None:
            return empty
        series = self.story.series
        if quantity == TEMPERATURE:
            t_s, values = series.t_s, series.measured_celsius
            sigma = np.full(len(t_s), np.nan)
        elif quantity in series.estimates:
            t_s, values = series.estimate_t_s, series.estimates[quantity]
            sigma = series.estimates.get(f"{quantity}_sigma", np.full(len(t_s), np.nan))
        else:
            return empty
        known = np.isfinite(values)
        t_s, values, sigma = t_s[known], values[known], sigma[known]
        at_s, broken = break_at_gaps(t_s, values)
        _, sigmas = break_at_gaps(t_s, sigma)
        if against is Against.TEMPERATURE:
            return self._celsius(at_s), broken, sigmas
        shift_s = self.reached_s if against is Against.SINCE else 0.0
        if not np.isfinite(shift_s):
            return empty
        return at_s - shift_s, broken, sigmas

    def _celsius(self, t_s: Floats) -> Floats:
        assert self.story is not None
        series = self.story.series
        known = np.isfinite(series.measured_celsius)
        if not known.any():
            return np.full(len(t_s), np.nan)
        return np.interp(
            t_s, series.t_s[known], series.measured_celsius[known], left=np.nan, right=np.nan
        )


def quantities(runs: Sequence[Compared]) -> dict[str, str]:
    """What can be compared, and its unit: the most telling first."""
    found = {TEMPERATURE: "°C"}
    for run in runs:
        if run.story is not None:
            found |= run.story.units
    first = ("mean_diameter", "count", "growth_rate", "areal_density", TEMPERATURE)
    names = sorted(found, key=lambda name: (first.index(name) if name in first else 99, name))
    return {name: found[name] for name in names}


def read_runs(paths: Sequence[Path]) -> Iterator[Compared]:
    """Read the curves of each run; for a worker thread."""
    from gui.replay.stored import StoredRun

    for path in paths:
        try:
            run = StoredRun(path)
        except StoreError as error:
            yield Compared(path, error=str(error))
            continue
        try:
            yield Compared(path, run.story())
        except StoreError as error:
            yield Compared(path, error=str(error))
        finally:
            run.close()
