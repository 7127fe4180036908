"""Tells how far a run is: its steps against the plan, and the status that people see."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from acquire.engine.context import RunContext
from acquire.engine.disk import FreeSpace
from acquire.engine.status import EngineState, EngineStatus, EstimateView, PlanView
from acquire.instruments import HolderReading
from acquire.recipe import Step

LOOK_AHEAD = 1000
"""So many planned steps at most are looked through for the one that was begun."""


class Progress:
    """The steps of one run, done and planned."""

    def __init__(self, run: RunContext, planned: PlanView, folder: Path | None) -> None:
        self._run = run
        self.planned = planned
        self.folder = folder
        self.index = -1
        """The present step, from 0; -1 before the first."""
        self.text = ""
        self.steps: list[Step] = []
        """Those that were begun."""
        self.done: list[dict[str, object]] = []
        """One mapping per executed step, as a RunReport has them."""
        self._started_s = 0.0
        self._at: int | None = None
        """The present step in the plan."""
        self._reached = -1
        """The last step of the plan that was found."""
        self._total = len(planned.steps) or sum(1 for _ in run.recipe.flat_steps())
        self._space = FreeSpace(folder) if folder is not None else None
        self._disk_read_at = -math.inf
        self._disk_free = 0

    def begin(self, step: Step) -> None:
        """A step begins now."""
        self.index += 1
        self.steps.append(step)
        self.text = str(step)
        self._find(self.text)
        self._total = max(self._total, self.index + 1)
        self._started_s = self._run.now_s()
        self.done.append(
            {
                "index": self.index,
                "text": self.text,
                "t_start_s": self._started_s,
                "t_end_s": math.nan,
                "outcome": "interrupted",
            }
        )

    def end(self, outcome: str | None) -> None:
        """The present step has ended; None if something ended it."""
        self.done[-1]["t_end_s"] = self._run.now_s()
        if outcome is not None:
            self.done[-1]["outcome"] = outcome

    def _find(self, text: str) -> None:
        """Where the present step is in the plan, which a decision may have left."""
        steps, begin = self.planned.steps, self._reached + 1
        ahead = range(begin, min(len(steps), begin + LOOK_AHEAD))
        self._at = next((at for at in ahead if steps[at].text == text), None)
        if self._at is not None:
            self._reached = self._at
            self._total = self.index + len(steps) - self._at

    def planned_time_s(self) -> float:
        """Where in the plan the run is, in s; NaN where the plan does not tell."""
        if self._at is None:
            return math.nan
        step = self.planned.steps[self._at]
        return step.t_start_s + min(self._run.now_s() - self._started_s, step.duration_s)

    def eta_s(self) -> float:
        """Seconds until the planned end of the last step; NaN where there is no plan."""
        steps = self.planned.steps
        if not steps:
            return math.nan
        return steps[-1].t_start_s + steps[-1].duration_s - self.planned_time_s()

    def planned_celsius(self) -> float:
        """The temperature that the plan has here."""
        at = self.planned_time_s()
        if not self.planned.profile_t_s or not math.isfinite(at):
            return math.nan
        return float(np.interp(at, self.planned.profile_t_s, self.planned.profile_celsius))

    def disk_free_bytes(self) -> int:
        """Free space where the run is stored, read at most once a second; 0 if it is not known."""
        if self._space is not None and time.monotonic() - self._disk_read_at > 1.0:
            self._disk_read_at = time.monotonic()
            self._disk_free = self._space.look() or 0
        return self._disk_free

    def fields(
        self, state: EngineState, reading: HolderReading | None, step_progress: float
    ) -> Mapping[str, object]:
        """The part of an EngineStatus that belongs to the run."""
        run = self._run
        limit = run.recipe.limits.dose
        temperature: dict[str, object] = {}
        if reading is not None:
            temperature = {
                "measured_celsius": reading.measured_celsius,
                "setpoint_celsius": reading.setpoint_celsius,
                "reading_t_s": reading.t_s,
                "holder_state": reading.state.value,
                "fault": reading.fault,
            }
        return {
            **temperature,
            "run_name": run.recipe.name,
            "folder": str(self.folder or ""),
            "t_s": run.now_s(),
            "step_index": self.index,
            "step_count": self._total,
            "step_text": self.text,
            "step_progress": step_progress,
            "eta_s": self.eta_s() if state.active else math.nan,
            "planned_celsius": self.planned_celsius(),
            "frames": dict(run.frames),
            "estimates": {
                name: EstimateView(value.value, value.sigma, run.quantities[name].unit, e.t_s)
                for e in list(run.estimates.values())
                for name, value in e.values.items()
                if name in run.quantities
            },
            "dose_e_per_nm2": run.dose.total_e_per_nm2,
            "dose_limit_e_per_nm2": limit if limit is not None else math.nan,
            "dose_used_up_s": run.dose_used_up_s if state.active else math.nan,
            "bytes_written": int(getattr(run.sink, "bytes_written", 0)),
            "disk_free_bytes": self.disk_free_bytes(),
            "store_fullness": run.sink.fullness,
            "estimators_off": tuple(run.estimators_off),
            "warnings": tuple(run.warnings),
        }


def status_of(fields: Mapping[str, object]) -> EngineStatus:
    """An EngineStatus from its fields."""
    return EngineStatus(**fields)  # type: ignore[arg-type]
