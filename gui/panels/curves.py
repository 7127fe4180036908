"""All that is drawn against the time of a run: one copy, which panels share."""

from __future__ import annotations

import numpy as np

from acquire.engine.status import LiveNote, LiveSeries
from gui.widgets.trace import Floats, Trace

KEPT_NOTES = 5000
SIGMA = "_sigma"


class RunCurves:
    """The curves of one run, from the pieces that come."""

    def __init__(self) -> None:
        self.temperature = Trace("measured", "set")
        self.estimates: dict[str, Trace] = {}
        """By quantity: ``value``, and ``low`` and ``high`` one σ to either side."""
        self.notes: list[LiveNote] = []
        self.version = 0
        """Rises with every change."""

    def add(self, series: LiveSeries, fresh: bool) -> None:
        """Append a piece; ``fresh`` forgets what was there before."""
        if fresh:
            self.temperature.clear()
            self.estimates.clear()
            self.notes.clear()
        elif not (len(series.t_s) or len(series.estimate_t_s) or series.notes):
            return
        self.version += 1
        if len(series.t_s):
            self.temperature.append(
                series.t_s, measured=series.measured_celsius, set=series.setpoint_celsius
            )
        for name, values in series.estimates.items():
            if not name.endswith(SIGMA):
                self._add_estimate(name, series, np.asarray(values, np.float64))
        self.notes += series.notes
        del self.notes[:-KEPT_NOTES]

    @property
    def quantities(self) -> list[str]:
        """What was estimated so far."""
        return sorted(name for name, trace in self.estimates.items() if len(trace))

    @property
    def end_s(self) -> float:
        """Time of the newest point; NaN if there is none."""
        traces = [self.temperature, *self.estimates.values()]
        return max((float(trace.x[-1]) for trace in traces if len(trace)), default=np.nan)

    def temperature_at(self, t_s: Floats) -> Floats:
        """Measured °C at times, by straight lines between readings; NaN within gaps and outside."""
        x, y = self.temperature.x, self.temperature.column("measured")
        if not len(x):
            return np.full(len(t_s), np.nan)
        after = np.clip(np.searchsorted(x, t_s), 1, max(1, len(x) - 1))
        if len(x) == 1:
            return np.where(t_s == x[0], y[0], np.nan)
        before = after - 1
        width = x[after] - x[before]
        share = np.divide(t_s - x[before], width, out=np.zeros(len(t_s)), where=width > 0)
        # the newest estimate may be a little younger than the newest reading
        near = (share >= 0) & (t_s <= x[-1] + 2.0 * max(float(width[-1]), 1.0))
        return np.where(near, y[before] + np.minimum(share, 1.0) * (y[after] - y[before]), np.nan)

    def _add_estimate(self, name: str, series: LiveSeries, values: Floats) -> None:
        known = np.isfinite(values)
        if not known.any():
            return
        trace = self.estimates.setdefault(name, Trace("value", "low", "high"))
        value = values[known]
        sigma = series.estimates.get(name + SIGMA)
        spread = np.full(len(value), np.nan) if sigma is None else np.asarray(sigma)[known]
        trace.append(
            np.asarray(series.estimate_t_s)[known],
            value=value,
            low=value - spread,
            high=value + spread,
        )
