"""Scans that refuse, hang or lose the answer, and wishes that come late: nothing is shifted blindly."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from acquire.errors import InstrumentError, LimitError, LinkError
from acquire.instruments import Frame
from acquire.recipe import Recipe
from acquire.stream import Estimate
from acquire.stream.shifting import WantedShift
from tests.engine.drift_parts import STEERING, Wishing, scripted, shifts_of, small, wanted


def test_a_bound_that_is_reached_ends_the_correction_once_and_not_the_run(bench: Any) -> None:
    report, _ = scripted(
        bench, small(steps="hold: {for: 60 s}"), lambda t_s: wanted(4.0 * t_s, 0.0, t_s)
    )
    assert report.outcome == "completed"
    assert np.abs(shifts_of(bench)).max() <= STEERING.max_shift_nm
    warnings = [text for text in bench.texts("warning") if "not corrected any more" in text]
    assert len(warnings) == 1
    assert "max_shift" in warnings[0]


@pytest.mark.parametrize("error", [LimitError("too far."), InstrumentError("stuck.")])
def test_a_scan_that_refuses_is_not_asked_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = []

    def refuse(dx_nm: float, dy_nm: float) -> None:
        asked.append((dx_nm, dy_nm))
        raise error

    monkeypatch.setattr(bench.station.scan, "shift", refuse)
    report, _ = scripted(bench, small(), lambda t_s: wanted(10.0, 0.0, t_s))
    assert report.outcome == "completed"
    assert len(asked) == 1
    assert not shifts_of(bench).any()
    assert sum("not corrected any more" in text for text in bench.texts("warning")) == 1


def test_stale_and_missing_wishes_move_nothing(bench: Any) -> None:
    def stale(t_s: float) -> WantedShift | None:
        return wanted(10.0, 0.0, t_s - 4.0) if int(t_s) % 2 else None

    report, _ = scripted(bench, small(), stale)
    assert report.outcome == "completed"
    assert not shifts_of(bench).any()


def test_a_shift_that_is_lost_with_the_link_is_told_and_counts_against_the_bound(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = bench.station.scan.shift

    def flaky(dx_nm: float, dy_nm: float) -> None:
        made.append((dx_nm, dy_nm))
        real(dx_nm, dy_nm)
        if len(made) == 3:
            raise LinkError("the answer was lost.")

    monkeypatch.setattr(bench.station.scan, "shift", flaky)
    report, _ = scripted(
        bench, small(steps="hold: {for: 60 s}"), lambda t_s: wanted(4.0 * t_s, 0.0, t_s)
    )
    assert report.outcome == "completed"
    told = [text for text in bench.texts("warning") if "is not known" in text]
    assert len(told) == 1
    assert f"({made[2][0]:.2f}, 0.00) nm" in told[0]
    assert len(made) > 10, "it goes on"
    assert np.hypot(*np.sum(made, axis=0)) <= STEERING.max_shift_nm, "as if it had been made"


def test_nothing_is_shifted_once_a_pause_has_cut_the_recording(bench: Any) -> None:
    made: list[float] = []
    bench.station.scan.shift = lambda dx_nm, dy_nm: made.append(bench.clock.now_s())
    slow = small("20 s").replace("dwell_time: 1 µs", "dwell_time: 100 µs")
    recipe = slow.replace("record:", "pause: {exposure: cut}\nrecord:")
    wishing = Wishing(lambda t_s: wanted(10.0, 0.0, t_s))
    measure = wishing.update

    def late(frame: Frame) -> Estimate:
        bench.clock.sleep(5.0)
        return measure(frame)

    wishing.update = late  # type: ignore[method-assign]

    def operator() -> None:
        bench.clock.sleep(8.0)
        bench.engine.pause()
        bench.clock.sleep(30.0)
        bench.engine.resume()

    with bench.clock.enrolled("test"):
        bench.clock.spawn(operator, "operator")
        report = bench.engine.run(
            Recipe.parse(recipe), bench.sink, make=lambda recipe, _: {"drift": wishing}
        )
    assert report.outcome == "completed"
    assert bench.sink.frames["overview"] >= 1
    assert not [t_s for t_s in made if 8.0 < t_s < 38.0]


def test_a_scan_that_hangs_in_a_shift_does_not_hold_up_the_recording(
    wall_bench: Any, run_behind: Any, until: Any
) -> None:
    hanging, gate = threading.Event(), threading.Event()

    def hang(dx_nm: float, dy_nm: float) -> None:
        hanging.set()
        gate.wait(20.0)

    wall_bench.station.scan.shift = hang
    wishing = Wishing(lambda t_s: wanted(10.0, 0.0, t_s))
    run = run_behind(
        wall_bench,
        Recipe.parse(small(steps="hold: {for: 10 min}")),
        make=lambda recipe, _: {"drift": wishing},
    )
    until(hanging.is_set)
    before = wall_bench.sink.frames["overview"]
    until(lambda: wall_bench.sink.frames["overview"] > before + 5)
    assert any("at a shift for over a second" in text for text in wall_bench.texts("warning"))
    gate.set()
    wall_bench.engine.abort("seen")
    assert run.end().outcome == "aborted"
