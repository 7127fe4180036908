"""What the steps of an ended run have come to, as its journal and its data tell."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from acquire.engine.channels import OWN_COLUMNS
from acquire.engine.regulation import BEGUN
from acquire.engine.regulation import TABLE as REGULATION
from acquire.errors import RecipeError
from acquire.recipe import (
    Hold,
    Image,
    LineScan,
    Outcome,
    Ramp,
    Regulate,
    Spectrum,
    SpectrumImage,
    Step,
    When,
)
from acquire.store import JournalEntry, Run
from acquire.stream import Value

Array = NDArray[np.float64]

LEAST_S = 1e-3
"""A hold of which less is left has ended."""

_STEP = re.compile(r"(begin|end) step ([0-9]+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PastStep:
    """A step that was begun, with all that was done of it in one segment or several."""

    text: str
    kind: str
    settings: Mapping[str, object]
    """As they were planned."""
    t_start_s: float
    t_end_s: float
    """Its end, or the last that is known of it, in the run time of the last segment that did it."""
    result: str = ""
    """How it ended; empty if it was cut off."""
    verdict: str = ""
    """What became of its condition: ``met``, ``time_up``, ``not_met``, ``unknown``, or empty."""
    active_s: float = 0.0
    """How long it lasted, without pauses."""
    frames: int = 0
    """How many frames were recorded in it."""
    estimates: Mapping[str, Value] = field(default_factory=dict)
    """The newest at its end."""

    @property
    def outcome(self) -> Outcome:
        """As a script was sent it, or would have been."""
        result = self.result or self.verdict or "done"
        return Outcome(result, self.t_start_s, self.t_end_s, self.estimates)

    def then(self, later: PastStep) -> PastStep:
        """The same step with what a later segment did of it."""
        return replace(
            self,
            t_end_s=later.t_end_s,
            result=later.result,
            verdict=later.verdict,
            active_s=self.active_s + later.active_s,
            frames=self.frames + later.frames,
            estimates=later.estimates,
        )


def past_steps(runs: Sequence[Run]) -> tuple[PastStep, ...]:
    """Every step that was begun of one recipe, in order.

    Args:
        runs: the segment in which the recipe was begun, and those that went on with it.

    Raises:
        RecipeError: the journal has lost lines.
    """
    found: list[PastStep] = []
    for part, run in enumerate(runs):
        continues = run.header.continues
        first = continues.steps_done if part and continues is not None else 0
        for number, step in enumerate(steps_of(run)):
            index = first + number
            if index > len(found):
                raise _lost(run)
            if index < len(found) - 1:
                raise _lost(run)
            if index == len(found):
                found.append(step)
            else:
                found[index] = found[index].then(step)
    return tuple(found)


def left_of(step: Step, past: PastStep) -> Step | None:
    """What is still to be done of a step that was cut off; None if nothing is.

    Raises:
        RecipeError: the step itself says that the run ends there.
    """
    if isinstance(step, Hold | Regulate):
        return _left_of_hold(step, past)
    if isinstance(step, When):
        decided = past.verdict and not (past.verdict == "unknown" and step.unknown == "abort")
        return None if decided else step
    if isinstance(step, Ramp) and past.verdict:
        return None
    if isinstance(step, LineScan):
        return _left_of_line(step, past.frames)
    if isinstance(step, SpectrumImage):
        return step.after(past.frames) if past.frames < step.points else None
    if isinstance(step, Spectrum):
        return step.after(past.frames)
    if isinstance(step, Image):
        frames = step.frames - past.frames
        return step.model_copy(update={"frames": frames}) if frames > 0 else None
    return step


def _left_of_hold(step: Hold | Regulate, past: PastStep) -> Step | None:
    if step.until is not None and past.verdict == "time_up" and step.else_ == "abort":
        raise RecipeError(
            f"the run ended because its recipe says so: the time of '{step}' was up, and 'else' is "
            "'abort'. Go on with a recipe of its own: hotstage run RECIPE --continue RUN."
        )
    left_s = step.for_ - past.active_s
    if past.verdict or (step.until is None and left_s < LEAST_S):
        return None
    if isinstance(step, Regulate):
        return step.rest(min(past.active_s, step.for_ - LEAST_S))
    return step.model_copy(update={"for_": max(left_s, LEAST_S)})


def _left_of_line(step: LineScan, done: int) -> Step | None:
    points = step.positions_nm()[done:]
    if not points:
        return None
    if len(points) == 1:
        return Spectrum.last_of(step)
    return step.model_copy(update={"from_": points[0], "points": len(points)})


# ------------------------------------------------------------------------------ journal


def end_s(run: Run) -> float:
    """The last time of a run that has ended; NaN for another."""
    return run.report.t_end_s if run.report is not None else math.nan


def _parse(entry: JournalEntry) -> re.Match[str] | None:
    return _STEP.fullmatch(entry.text) if entry.kind == "action" else None


def steps_of(run: Run) -> list[PastStep]:
    """The steps of one segment, in order; raises RecipeError if lines are lost."""
    journal = run.journal()
    if [entry.seq for entry in journal] != list(range(len(journal))):
        raise _lost(run)
    begun = [(at, m) for at, e in enumerate(journal) if (m := _parse(e)) and m[1] == "begin"]
    if [int(match[2]) for _, match in begun] != list(range(1, len(begun) + 1)):
        raise _lost(run)
    estimates = _Estimates(run)
    found = []
    for number, (at, match) in enumerate(begun):
        end = begun[number + 1][0] if number + 1 < len(begun) else len(journal)
        found.append(_step(run, number, match[3], journal[at:end], estimates))
    return found


def _step(
    run: Run, number: int, text: str, entries: Sequence[JournalEntry], estimates: _Estimates
) -> PastStep:
    """One step, from its own lines of the journal, the first of which says that it begins."""
    begin = entries[0]
    ended = [e for e in entries if (m := _parse(e)) and m[1] == "end"]
    if ended:
        t_end_s, result = ended[0].t_s, ended[0].text.partition(": ")[2]
    else:
        t_end_s, result = _cut_s(run, number), ""
    settings = begin.details.get("settings", {})
    kind = str(begin.details.get("kind", ""))
    verdicts = [
        str(e.details.get("verdict", "met" if e.details else "time_up"))
        for e in entries
        if e.kind in ("condition", "decision")
    ]
    return PastStep(
        text=text,
        kind=kind,
        settings=dict(settings) if isinstance(settings, Mapping) else {},
        t_start_s=begin.t_s,
        t_end_s=t_end_s,
        result=result,
        verdict=verdicts[-1] if verdicts else "",
        active_s=_active_s(kind, entries, t_end_s),
        frames=_frames(run, settings, begin.t_s, t_end_s),
        estimates=estimates.at(t_end_s),
    )


def _cut_s(run: Run, number: int) -> float:
    """When a step was cut off: as the report says, or else the last that is known."""
    report = run.report
    known = report.steps[number]["t_end_s"] if report and number < len(report.steps) else math.nan
    return known if isinstance(known, float) and math.isfinite(known) else end_s(run)


def _active_s(kind: str, entries: Sequence[JournalEntry], t_end_s: float) -> float:
    """For how long a step did what it is for: without pauses, and without the way to where it may."""
    if kind == Regulate.kind:
        begun = [at for at, e in enumerate(entries) if e.kind == REGULATION and BEGUN in e.details]
        if not begun:
            return 0.0
        entries = entries[begun[0] :]
    return max(0.0, t_end_s - entries[0].t_s - _paused_s(entries, t_end_s))


def _paused_s(entries: Sequence[JournalEntry], t_end_s: float) -> float:
    total, since_s = 0.0, math.nan
    for entry in entries:
        if entry.kind != "state" or entry.t_s > t_end_s:
            continue
        if entry.text.startswith("pausing"):
            since_s = entry.t_s
        elif math.isfinite(since_s):
            total, since_s = total + entry.t_s - since_s, math.nan
    return total + (t_end_s - since_s if math.isfinite(since_s) else 0.0)


def _frames(run: Run, settings: object, t_start_s: float, t_end_s: float) -> int:
    """Frames of the step's own stream that were exposed in it."""
    name = settings.get("name") if isinstance(settings, Mapping) else None
    kind = run.streams.get(str(name)) if name is not None else None
    if kind is None:
        return 0
    time = (run.images(str(name)) if kind == "images" else run.spectra(str(name)))["time"].values
    return int(np.count_nonzero((time >= t_start_s) & (time <= t_end_s)))


class _Estimates:
    """The newest estimates of a run at any time, read once."""

    def __init__(self, run: Run) -> None:
        self._columns = {
            f"channel {name}": (data["time"].values, _values_of(name, data))
            for name, data in ((name, run.channel(name)) for name in run.channels)
        }
        for name in run.estimators:
            data = run.estimates(name)
            quantities = [str(q) for q in data.data_vars if f"{q}_sigma" in data]
            self._columns[name] = (
                data["time"].values,
                {q: (data[q].values, data[f"{q}_sigma"].values) for q in quantities},
            )

    def at(self, t_s: float) -> dict[str, Value]:
        """By quantity, as far as there are any."""
        found: dict[str, Value] = {}
        for time, columns in self._columns.values():
            row = int(np.searchsorted(time, t_s, side="right")) - 1
            if row >= 0:
                found |= {q: Value(float(v[row]), float(s[row])) for q, (v, s) in columns.items()}
        return found


def _values_of(record: str, data: xr.Dataset) -> dict[str, tuple[Array, Array]]:
    """What a channel gave, by the names that conditions use, with a σ that is not known."""
    numbers = {str(name): data[name].values for name in data.data_vars if name not in OWN_COLUMNS}
    return {f"{record}.{name}": (v, np.full(len(v), math.nan)) for name, v in numbers.items()}


def _lost(run: Run) -> RecipeError:
    return RecipeError(
        f"the journal of {run.path} has lost lines, so that nobody can tell which steps are done. "
        "Go on with a recipe of its own: hotstage run RECIPE --continue RUN."
    )
