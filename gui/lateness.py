"""A plan beside what became of it: steps where they began, and what is to come as late as the run is.

A pause, an operator who answers late, a condition that is met early: the plan as it was made would soon
say nothing of the present.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from acquire.engine.status import EngineStatus, LiveNote, PlannedStep, PlanView

_BEGIN = re.compile(r"begin step (\d+)\b")
_COARSE_S = 1.0
"""Run seconds by which a run must be later than before to have its plan drawn anew."""


class Lateness:
    """Keeps the plan that was made last, which costs more than to look at it."""

    def __init__(self) -> None:
        self._made_of: object = None
        self._made = PlanView()
        self._begun: dict[int, float] = {}
        self._notes_seen = -1

    def plan(
        self, plan: PlanView, notes: Sequence[LiveNote], version: int, status: EngineStatus
    ) -> PlanView:
        """The plan in times of the run; ``version`` changes with the notes."""
        if version != self._notes_seen:
            self._notes_seen = version
            self._begun = begun(notes)
        late_s = _late_s(plan, self._begun, status)
        made_of = (plan, tuple(self._begun.items()), round(late_s / _COARSE_S))
        if made_of != self._made_of:
            self._made_of = made_of
            self._made = moved(plan, self._begun, late_s)
        return self._made


def begun(notes: Sequence[LiveNote]) -> dict[int, float]:
    """When steps began, in run s by their index in the plan."""
    found = {}
    for note in notes:
        match = _BEGIN.match(note.text) if note.kind == "action" else None
        if match is not None:
            found[int(match[1]) - 1] = note.t_s
    return found


def moved(plan: PlanView, starts_s: dict[int, float], late_s: float) -> PlanView:
    """Steps that began where they did, those to come ``late_s`` after their planned time."""
    planned = [step for step in plan.steps if math.isfinite(step.t_start_s)]
    if len(planned) != len(plan.steps) or not starts_s or not plan.profile_t_s:
        return plan
    at = [starts_s.get(step.index, step.t_start_s + late_s) for step in planned]
    ends = [*at[1:], at[-1] + planned[-1].duration_s]
    steps = tuple(
        _placed(step, start, end, step.index + 1 in starts_s)
        for step, start, end in zip(planned, at, ends, strict=True)
    )
    t, celsius = np.asarray(plan.profile_t_s), np.asarray(plan.profile_celsius)
    parts_t, parts_celsius = [], []
    edges = [*(step.t_start_s for step in planned), max(float(t[-1]), planned[-1].t_start_s)]
    for number, (start, end) in enumerate(zip(at, ends, strict=True)):
        low, high = edges[number], edges[number + 1]
        inside = (t > low) & (t < high)
        x = np.concatenate([[low], t[inside], [high]])
        y = np.interp(x, t, celsius)
        x = x - low + start
        # what the next step cuts short ends there
        parts_t.append(np.minimum(x, max(start, end)))
        parts_celsius.append(np.where(x <= end, y, np.interp(end, x, y)))
    return replace(
        plan,
        steps=steps,
        profile_t_s=tuple(np.concatenate(parts_t).tolist()),
        profile_celsius=tuple(np.concatenate(parts_celsius).tolist()),
    )


def _placed(step: PlannedStep, start_s: float, end_s: float, over: bool) -> PlannedStep:
    lasted = end_s - start_s if over else step.duration_s
    return replace(step, t_start_s=start_s, duration_s=max(0.0, lasted))


def _late_s(plan: PlanView, starts_s: dict[int, float], status: EngineStatus) -> float:
    if not starts_s or not plan.steps:
        return 0.0
    newest = max(starts_s)
    step = next((step for step in plan.steps if step.index == newest), None)
    if step is None or not math.isfinite(step.t_start_s):
        return 0.0
    late_s = starts_s[newest] - step.t_start_s
    if status.state.active and plan.profile_t_s:
        if math.isfinite(status.eta_s):
            return status.t_s + status.eta_s - plan.profile_t_s[-1]
        return max(late_s, status.t_s - step.t_start_s - step.duration_s)
    return late_s
