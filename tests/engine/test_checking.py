"""A host looks ahead for a window: in a process of its own, with every step and objection at its place."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
import pytest

from acquire.engine.checked import CheckReport
from acquire.engine.checking import Checker
from acquire.engine.findings import places_of
from acquire.engine.host import METHODS, OBSERVERS
from acquire.errors import HotstageError, RecipeError
from acquire.recipe import Recipe
from acquire.remote.wire import pack, unpack
from acquire.station import Station

TEXT = """\
hotstage: 1
name: looked at
limits: {temperature: 900 °C, dose: 5 e/nm²}
record:
  overview: {scan: {detectors: [haadf], size: 128, field_of_view: 160 nm, dwell_time: 1 µs}, every: 1 s}
estimate: {particles: {from: overview.haadf}}
steps:
  - repeat: {times: 2, steps: [{ramp: {to: 60 °C, rate: 50 °C/s}}, {ramp: {to: 30 °C, rate: 50 °C/s}}]}
  - when: {condition: count >= 1000, then: [{mark: many}], else: [{mark: few}]}
"""


@pytest.mark.process
def test_steps_and_objections_are_at_their_places_and_the_process_ends_with_its_owner(
    tmp_path: Path,
) -> None:
    checker = Checker(Station.load("simulated"))
    before = {child.pid for child in psutil.Process().children()}
    try:
        report = checker.check(TEXT)
        (child,) = [p for p in psutil.Process().children() if p.pid not in before and p.nice() > 10]
        inside = ("steps", 0, "repeat", "steps")
        assert report.places == (
            *((*inside, 0), (*inside, 1), (*inside, 0), (*inside, 1)),
            ("steps", 1),
            ("steps", 1, "when", "else", 0),
        )
        assert len(report.plan.steps) == len(report.results) == 6
        assert report.worst_s >= report.duration_s > 2.4
        (problem,) = [f for f in report.findings if f.kind == "problem"]
        assert "limits.dose" in problem.text
        assert problem.places == (("limits", "dose"),)
        assert unpack(CheckReport, pack(report)) == report

        refused = checker.check(TEXT.replace("to: 60 °C", "to: 960 °C"))
        assert math.isnan(refused.duration_s)
        assert refused.findings[0].places == ((*inside, 0),)
        with pytest.raises(RecipeError, match="steps\\[0\\]"):
            checker.check(TEXT.replace("times: 2", "times: no"))
    finally:
        checker.close()
    assert not child.is_running()
    with pytest.raises(HotstageError, match="ending"):
        checker.check(TEXT)


def test_words_of_a_check_are_put_where_they_belong() -> None:
    recipe = Recipe.parse(TEXT)
    assert places_of("record.overview: the scan has no detector 'x'", recipe) == (
        ("record", "overview"),
    )
    assert places_of("estimate: a and b give the same quantity", recipe) == (("estimate",),)
    assert places_of("the disk is full. Free some space.", recipe) == ()
    numbered = (("steps", 1, "when", "else", 0), recipe.steps[0])
    assert places_of("step 1 (regulate …) is expected to oscillate", recipe, [numbered]) == (
        ("steps", 1, "when", "else", 0),
    )


def test_who_may_only_look_has_nothing_checked() -> None:
    assert "check" in METHODS
    assert "check" not in OBSERVERS
