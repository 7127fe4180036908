"""Frames that nobody can measure, in the midst of a run: each is flagged, and the run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.engine.estimating import make_estimators
from acquire.instruments import Frame
from acquire.measure.particles import LIVE_QUANTITIES, ParticleEstimator, warm_up
from acquire.recipe import Recipe
from acquire.stream import Estimate

WATCHED = """
hotstage: 1
name: watched
limits: {temperature: 900 °C, run_time: 1 h}
safe_state: {heater: {cool: {to: 25 °C, rate: 100 °C/s}}}
record:
  overview: {scan: {detectors: [haadf], size: 256, field_of_view: 100 nm, dwell_time: 50 µs}, every: 5 s}
estimate:
  particles: {from: overview.haadf, growth_window: 1 min}
steps:
  - ramp: {to: 700 °C, rate: 50 °C/s}
  - hold: {for: 280 s}
"""
Image = NDArray[Any]
FIRST = 36
"""Frame from which things go wrong, one after the other; by then there are particles."""
FAULTS: tuple[tuple[str, str, Callable[[Image], Image]], ...] = (
    ("not a number", "unreadable", lambda image: image * np.nan),
    ("another shape", "unreadable", lambda image: image[:100]),
    ("a volume", "unreadable", lambda image: np.stack([image, image])),
    ("complex", "unreadable", lambda image: image.astype(complex)),
    ("beam off", "blank", np.zeros_like),
    ("constant", "constant", lambda image: np.full_like(image, 77)),
    (
        "half of it",
        "incomplete",
        lambda image: np.where(np.indices(image.shape)[0] < 200, image, 0),
    ),
    ("clipped", "saturated", lambda image: np.minimum(image, int(np.quantile(image, 0.9)))),
    ("inverted", "polarity", lambda image: (2 * int(image.max()) - image).astype(image.dtype)),
)


class Spoilt:
    """The estimator, to which some frames come damaged."""

    quantities = ParticleEstimator.quantities
    columns: Mapping[str, str] = ParticleEstimator.columns

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def update(self, frame: Frame) -> Estimate | None:
        at = frame.index - FIRST
        if 0 <= at < len(FAULTS):
            spoil = FAULTS[at][2]
            frame = replace(
                frame, data={name: spoil(np.asarray(image)) for name, image in frame.data.items()}
            )
        told = self._inner.update(frame)
        assert told is None or isinstance(told, Estimate)
        return told


@pytest.fixture
def seeing(bench: Any) -> Iterator[Any]:
    """A bench whose images are drawn in full."""
    made = type(bench)(draft=False)
    yield made
    made.station.close()


def test_damaged_frames_are_flagged_and_the_run_goes_on(seeing: Any) -> None:
    def make(recipe: Recipe, specs: Any) -> dict[str, Any]:
        return {name: Spoilt(one) for name, one in make_estimators(recipe, specs).items()}

    warm_up()
    with seeing.clock.enrolled("test"):
        report = seeing.engine.run(Recipe.parse(WATCHED), seeing.sink, make=make)
    assert report.outcome == "completed", report.cause
    assert seeing.engine.status.estimators_off == ()
    told = {estimate.frame_index: estimate for estimate in seeing.sink.estimates}
    assert set(range(report.frames["overview"])) == set(told)
    spoiled_by = {quantity.name: {*quantity.spoiled_by} for quantity in LIVE_QUANTITIES}
    for i, (name, flag, _) in enumerate(FAULTS):
        estimate = told[FIRST + i]
        assert flag in estimate.flags, (name, estimate.flags)
        for quantity in ("mean_diameter", "count", "areal_density", "coverage", "growth_rate"):
            value = estimate.values[quantity].value
            assert math.isnan(value) or spoiled_by[quantity] & {*estimate.flags}, (name, quantity)
    before, after = told[FIRST - 1], told[FIRST + len(FAULTS) + 3]
    assert not {"unreadable", "blank", "dose_change", "polarity", "field_moved"} & {*after.flags}
    assert before.values["count"].value >= 10
    assert after.values["count"].value >= before.values["count"].value - 2
    assert len({*before.table["id"]} & {*after.table["id"]}) >= 0.7 * len(before.table["id"])
