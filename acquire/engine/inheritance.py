"""Adds up what the segments of a run have used up of its limits."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from acquire.engine.calibrating import inherited
from acquire.engine.earlier import Before, Earlier, MapBegan
from acquire.engine.history import end_s
from acquire.engine.spectra import FLASH_S
from acquire.errors import StoreError
from acquire.recipe import SpectrumImage, Step
from acquire.store import Run
from acquire.store.maps import MAP_NOTE
from acquire.stream import DetectorChoice

logger = logging.getLogger(__name__)

UNWRITTEN_S = 0.3
"""What a dying program may not have shown of a burst: a block under way, and those since the store was
published last."""


def earlier_of(
    runs: Sequence[Run], steps_done: int, *, rest: Step | None, new_recipe: bool
) -> Earlier:
    """What a new segment inherits.

    Args:
        runs: all segments so far, ended.
        steps_done: steps of the new segment's recipe that are not repeated.
        rest: its first step, if that is what was left of one.
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
            rest=rest is not None,
            new_recipe=new_recipe,
        ),
        choices=_choices(runs),
        # with other steps the spectrometer may be used otherwise
        calibrations=() if new_recipe else inherited(runs),
        map_began=_map_began(runs, rest) if isinstance(rest, SpectrumImage) else None,
    )


def _map_began(runs: Sequence[Run], step: SpectrumImage) -> MapBegan | None:
    """The first image of a map that was cut off; None without one."""
    if step.images is None or not step.done:
        return None
    detector, stream = step.images.detectors[0], step.images_name
    try:
        for run in reversed(runs):
            notes = [e for e in run.journal() if e.kind == MAP_NOTE]
            begun = [e for e in notes if e.details.get("stream") == step.name]
            if not begun or begun[-1].details.get("done", 0):
                continue  # it was only gone on with here
            images = run.images(stream)[detector]
            rows = images.time.values >= begun[-1].t_s
            if not rows.any():
                return None
            first = images[int(rows.argmax())]
            return MapBegan(
                step.name, first.values, float(first.x[-1] - first.x[0]) / (first.sizes["x"] - 1)
            )
    except (StoreError, KeyError) as error:
        logger.warning("the first image of %r cannot be read: %s", step.name, error)
    return None


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
    doses = [_lost_dose(data) for data in streams if data.sizes["time"]]
    return max((dose for dose in doses if math.isfinite(dose)), default=0.0)


def _lost_dose(frames: xr.Dataset) -> float:
    """That of one exposure, or of as many spectra as a burst takes within :data:`UNWRITTEN_S`."""
    dose = float(frames["dose"].values[-1])
    if "position_x" not in frames or frames.sizes["time"] < 2:
        return dose
    places = np.stack([frames[f"position_{axis}"].values[-2:] for axis in "xy"])
    each_s = float(frames["time"].values[-1] - frames["time"].values[-2])
    burst = bool((places[:, 0] == places[:, 1]).all()) and 0 < each_s < FLASH_S
    return dose * math.ceil(UNWRITTEN_S / each_s) if burst else dose
