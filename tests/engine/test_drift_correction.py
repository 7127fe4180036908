"""Within a run the scan shift follows the specimen: between frames, beside every frame, and by one estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from acquire.engine.live import LiveView
from acquire.instruments import Frame
from acquire.recipe import Recipe
from acquire.stream import Estimate
from acquire.stream.shifting import WantedShift
from tests.engine.drift_parts import Wishing, scripted, shifts_of, small, wanted


@pytest.mark.parametrize("every", ["1 s", "0 s"])
def test_no_frame_is_torn_and_each_is_recorded_with_its_shift(bench: Any, every: str) -> None:
    def drifting(t_s: float) -> WantedShift:
        return wanted(2.0 * t_s, -1.0 * t_s, t_s)

    report, wishing = scripted(bench, small(every), drifting)
    assert report.outcome == "completed"
    shifts = shifts_of(bench)
    assert [(told.x_nm, told.y_nm) for told in wishing.told] == [tuple(s) for s in shifts]
    assert all(told.steady for told in wishing.told)
    frames = [frame for frame in bench.sink.kept_frames if frame.stream == "overview"]
    middles = np.array([(frame.t_start_s + frame.t_end_s) / 2 for frame in frames])
    # it runs behind a drift that it is not told the rate of by a frame or two, not more
    periods = np.median(np.diff(middles))
    lag = 2.0 * middles - shifts[:, 0]
    assert lag[5:].max() < 2.0 * (2.5 * periods + 0.3)
    assert (np.diff(shifts[:, 0]) >= 0).all()


def test_the_journal_sums_corrections_up(bench: Any) -> None:
    scripted(bench, small(steps="hold: {for: 100 s}"), lambda t_s: wanted(0.9 * t_s, 0.0, t_s))
    notes = [note for note in bench.sink.notes if note.kind == "correction"]
    assert 3 <= len(notes) <= 6
    total = sum(int(note.details["corrections"]) for note in notes)
    assert total >= len(np.unique(shifts_of(bench)[:, 0])) - 1 - 31
    assert notes[-1].details["shift_x_nm"] > 50


def test_nothing_is_shifted_while_the_recording_rests(bench: Any) -> None:
    made: list[float] = []
    real = bench.station.scan.shift

    def watched(dx_nm: float, dy_nm: float) -> None:
        made.append(bench.clock.now_s())
        real(dx_nm, dy_nm)

    bench.station.scan.shift = watched
    line = (
        "line_scan: {from: [10 nm, 60 nm], to: [60 nm, 60 nm], points: 5, "
        "spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV, dwell_time: 2 s}}"
    )
    recipe = small(steps=f"hold: {{for: 5 s}}\n  - {line}\n  - hold: {{for: 5 s}}")
    report, _ = scripted(bench, recipe, lambda t_s: wanted(3.0 * t_s, 0.0, t_s))
    assert report.outcome == "completed"
    during = [step for step in report.steps if "line scan" in str(step["text"]).lower()] or [
        report.steps[1]
    ]
    begun, ended = (float(str(during[0][key])) for key in ("t_start_s", "t_end_s"))
    assert made
    assert not [t for t in made if begun + 1.0 < t < ended]


def test_two_estimators_may_not_both_correct(bench: Any) -> None:
    recipe = Recipe.parse(small().replace("steps:", "  particles: {from: overview.haadf}\nsteps:"))
    wishing = Wishing(lambda _: None)
    with bench.clock.enrolled("test"):
        report = bench.engine.run(
            recipe, bench.sink, make=lambda recipe, _: dict.fromkeys(recipe.estimate, wishing)
        )
    assert report.outcome == "failed"
    assert "would both correct" in report.cause


def test_sums_are_shown_to_those_who_ask_and_outlines_stay() -> None:
    live = LiveView()
    image = np.zeros((8, 8), np.uint16)
    live.put_image(Frame("overview", 3, {"haadf": image}, 0.0, 1.0), 0.5)
    sized = {"diameter_nm": np.ones(2), "x_nm": np.ones(2), "y_nm": np.ones(2)}
    live.put_estimate(Estimate("particles", "overview", 3, 1.0, {}, table=sized))
    live.put_estimate(Estimate("drift", "overview", 3, 1.0, {}))
    live.put_image(Frame("overview_sum", 0, {"haadf": image}, 0.0, 1.0), 0.5, derived=True)
    newest = live.image("", -1, 0.0)
    assert newest is not None
    assert newest.stream == "overview"
    assert len(newest.particles["diameter_nm"]) == 2
    assert newest.streams == ("overview", "overview_sum")
    total = live.image("overview_sum", -1, 0.0)
    assert total is not None
    assert total.stream == "overview_sum"
