"""Keeps the books of a run's dose: rows for the stored map, and what is left of the budget."""

from __future__ import annotations

import math
from collections import deque

from acquire.engine.context import RunContext
from acquire.measure.dose import DOSE_COLUMNS, DOSE_TABLE
from acquire.stream import Row
from acquire.units import show, show_duration

EVERY_S = 60.0
"""Run time between the rows of a map: what a crash can cost it."""
MOST_WAITING = 1000
"""Places that are written earlier, so that a fast line scan does not pile up."""
NEARLY = 0.9
"""Share of the budget from which the operator is warned."""
_MOST_TOLD = 10
_SLOPE_S = 60.0
"""The present rate of dose is that of so much time."""


class DoseBooks:
    """Looks at the dose of one run whenever :meth:`look` is called; from one thread at a time."""

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._written_s = 0.0
        self._declared = False
        self._warned = False
        self._seen: deque[tuple[float, float]] = deque()

    def look(self) -> None:
        """Write rows if it is time, follow the rate, warn once when little is left."""
        run = self._run
        now_s = run.now_s()
        self._follow(now_s)
        if now_s - self._written_s >= EVERY_S or run.dose.waiting >= MOST_WAITING:
            self.write()

    def write(self) -> None:
        """Hand what was added since the last time to the sink; raises StoreError."""
        run = self._run
        new = run.dose.take_new()
        self._written_s = run.now_s()
        if new and not self._declared:
            run.sink.declare_rows(DOSE_TABLE, DOSE_COLUMNS)
            self._declared = True
        for area, kind, dose in new:
            values = (area.x_nm, area.y_nm, area.width_nm, area.height_nm, float(kind), dose)
            row = dict(zip(DOSE_COLUMNS, values, strict=True))
            run.sink.append_row(Row(DOSE_TABLE, self._written_s, row))

    def close(self) -> None:
        """Write the last rows, and to the journal what is left of the budget where it is least."""
        self.write()
        run, limit = self._run, self._run.recipe.limits.dose
        if limit is None:
            return
        places = sorted(run.dose.places(), key=lambda place: -place[1])[:_MOST_TOLD]
        told = [
            {"x_nm": a.x_nm, "y_nm": a.y_nm, "width_nm": a.width_nm, "height_nm": a.height_nm}
            | {"dose_e_per_nm2": dose, "left_e_per_nm2": max(0.0, limit - dose)}
            for a, dose in places
        ]
        left = max(0.0, limit - run.dose.total_e_per_nm2)
        text = f"{show(left, 'e/nm²')} of {show(limit, 'e/nm²')} are left where most was exposed"
        run.note("dose", text, {"places": told})

    def _follow(self, now_s: float) -> None:
        run, seen, limit = self._run, self._seen, self._run.recipe.limits.dose
        if limit is None:
            return
        dose = run.dose.total_e_per_nm2
        seen.append((now_s, dose))
        while len(seen) > 2 and now_s - seen[1][0] >= _SLOPE_S:
            seen.popleft()
        since_s, before = seen[0]
        span_s = now_s - since_s
        rate = (dose - before) / span_s if span_s > 0 else 0.0
        run.dose_used_up_s = now_s + max(0.0, limit - dose) / rate if rate > 0 else math.nan
        if self._warned or dose < NEARLY * limit:
            return
        self._warned = True
        worst = run.dose.worst()
        where = f" at ({worst[0].x_nm:.4g}, {worst[0].y_nm:.4g}) nm" if worst else ""
        when = (
            f"; at the present rate it is used up at run time {show_duration(run.dose_used_up_s)}"
            if math.isfinite(run.dose_used_up_s)
            else ""
        )
        run.warn(
            f"the dose{where} is {show(dose, 'e/nm²')}, {100 * dose / limit:.0f} % of limits.dose = "
            f"{show(limit, 'e/nm²')}{when}. Expose another place, or less."
        )
