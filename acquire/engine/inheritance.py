"""Adds up what the segments of a run have used up of its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from acquire.engine.earlier import Before, Earlier
from acquire.engine.history import end_s
from acquire.store import Run
from acquire.stream import DetectorChoice


def earlier_of(runs: Sequence[Run], steps_done: int, *, rest: bool, new_recipe: bool) -> Earlier:
    """What a new segment inherits.

    Args:
        runs: all segments so far, ended.
        steps_done: steps of the new segment's recipe that are not repeated.
        rest: whether its first step is what was left of one.
        new_recipe: whether it has a recipe of its own.
    """
    last = runs[-1]
    dose = last.report.dose_e_per_nm2 if last.report is not None else 0.0
    return Earlier(
        dose_e_per_nm2=dose + _unrecorded_dose(last),
        run_time_s=sum(map(end_s, runs)),
        disk_bytes=sum(
            file.stat().st_size for run in runs for file in run.zarr_path.rglob("c.*.*")
        ),
        before=Before(
            folder=last.path.name,
            header=last.header,
            t_end_s=end_s(last),
            steps_done=steps_done,
            rest=rest,
            new_recipe=new_recipe,
        ),
        choices=_choices(runs),
    )


def _choices(runs: Sequence[Run]) -> dict[str, DetectorChoice]:
    """The newest choice of every estimator: sizes from different detectors are not to be compared."""
    found: dict[str, DetectorChoice] = {}
    for run in runs:
        for name in run.estimators:
            choice = DetectorChoice.from_attributes(run.estimates(name).attrs, run.path.name)
            if choice is not None:
                found[name] = choice
    return found


def _unrecorded_dose(run: Run) -> float:
    """What the exposure that a dying program left unrecorded may have given: one of the largest."""
    if "recovery" not in run.attributes:
        return 0.0
    streams = (
        run.images(name) if kind == "images" else run.spectra(name)
        for name, kind in run.streams.items()
    )
    doses = [float(data["dose"].values[-1]) for data in streams if data.sizes["time"]]
    return max((dose for dose in doses if math.isfinite(dose)), default=0.0)
