"""Heater and beam end safe, and nobody waits for ever, when instruments, scripts and people misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from acquire.engine import preflight
from acquire.engine.dose import DoseMeter
from acquire.errors import HotstageError, InstrumentError, LinkError, RecipeError
from acquire.instruments import HolderState
from acquire.recipe import Plan, Recipe, hold, mark, ramp
from acquire.station import Station

SLOW_SCAN = "dwell_time: 0.01 s"
"""64 × 64 pixels of it take 41 s."""

LINE = """
  - line_scan:
      from: [40 nm, 80 nm]
      to: [120 nm, 80 nm]
      points: 20
      spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV, dwell_time: 2 s}
"""


def _changed(recipe: Recipe, text: str, to: str) -> Recipe:
    dumped = recipe.dump()
    assert text in dumped
    return Recipe.parse(dumped.replace(text, to, 1))


def _head(recipe: Recipe) -> Recipe:
    return Recipe.parse(recipe.dump().split("steps:")[0])


# --------------------------------------------------------------------------------- commands


def test_an_abort_while_a_pause_waits_for_a_long_exposure_takes_effect_at_once(
    bench: Any, short: Recipe
) -> None:
    recipe = _changed(_changed(short, "dwell_time: 1e-05 s", SLOW_SCAN), "every: 1 s", "every: 0 s")
    report = bench.run(
        recipe, {5.0: bench.engine.pause, 10.0: lambda: bench.engine.abort("enough")}
    )
    off_at = [
        t
        for t, state in ((r.t_s, r.values["state"]) for r in bench.readings)
        if state == "making_safe"
    ]
    assert report.outcome == "aborted"
    assert off_at[0] < 11.5


def test_a_second_resume_does_not_undo_the_next_pause(bench: Any, short: Recipe) -> None:
    def resume_late() -> None:
        # as a resume from a second window, whose note is slow to write
        bench.engine._conductor.pausing.resume()

    report = bench.run(
        short,
        {
            10.0: bench.engine.pause,
            15.0: bench.engine.resume,
            17.0: resume_late,
            20.0: bench.engine.pause,
            60.0: bench.engine.resume,
        },
    )
    assert report.outcome == "completed", report.cause
    frozen = [value for t, value in bench.column("setpoint") if 22 < t < 59]
    assert max(frozen) - min(frozen) < 1e-6


def test_holding_the_temperature_in_a_line_scan_takes_the_beam_off_the_point(
    bench: Any, short: Recipe
) -> None:
    recipe = Recipe.parse(short.dump().split("steps:")[0] + "steps:" + LINE)
    blanked: list[bool] = []
    report = bench.run(
        recipe,
        {
            10.0: bench.engine.hold,
            100.0: lambda: blanked.append(bench.station.scan.blanked()),
            200.0: bench.engine.resume,
        },
    )
    assert report.outcome == "completed", report.cause
    assert blanked == [True]
    assert report.frames["line_scan"] == 20


def test_without_a_recorded_scan_the_beam_is_on_only_in_the_steps_that_need_it(
    bench: Any, short: Recipe
) -> None:
    head = short.dump().split("record:")[0]
    recipe = Recipe.parse(head + "steps:\n  - hold: {for: 20 s}" + LINE + "  - hold: {for: 20 s}\n")
    blanked: dict[float, bool] = {}

    def look() -> None:
        blanked[round(bench.clock.now_s())] = bench.station.scan.blanked()

    bench.station.scan.blank(False)
    report = bench.run(recipe, {10.0: look, 40.0: look, 75.0: look})
    assert report.outcome == "completed", report.cause
    assert blanked == {10: True, 40: False, 75: True}


def test_heater_off_does_not_wait_for_the_way_down(bench: Any, short: Recipe) -> None:
    recipe = _changed(short, "rate: 100 °C/s", "rate: 0.1 °C/s")
    report = bench.run(recipe, {40.0: lambda: bench.engine.heater_off("smoke")})
    assert (report.outcome, report.cause) == ("aborted", "smoke")
    assert report.t_end_s < 45.0


def test_the_cause_of_an_end_is_not_hidden_by_an_old_pause(bench: Any, short: Recipe) -> None:
    causes: list[str] = []
    bench.run(
        short,
        {
            40.0: bench.engine.pause,
            45.0: lambda: bench.engine.abort("enough"),
            46.5: lambda: causes.append(bench.engine.status.cause),
        },
    )
    assert causes == ["enough"]


def test_an_engine_whose_run_could_not_begin_can_run_again(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> Any:
        raise LinkError("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(bench.station.scan, "describe", silent)
        with pytest.raises(LinkError):
            bench.run(short)
    assert bench.run(short).outcome == "completed"


def test_an_abort_while_preparing_never_lets_the_beam_on(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    lit: list[bool] = []
    blank = bench.station.scan.blank
    describe = bench.station.scan.describe

    def abort_and_describe() -> Any:
        # the run has not come into being: it must remember
        if not lit and bench.engine.state.active:
            lit.append(False)
            bench.engine.abort("changed my mind")
        return describe()

    def watched(blanked: bool) -> None:
        lit.append(not blanked)
        blank(blanked)

    monkeypatch.setattr(bench.station.scan, "describe", abort_and_describe)
    monkeypatch.setattr(bench.station.scan, "blank", watched)
    report = bench.run(short)
    assert (report.outcome, report.cause) == ("aborted", "changed my mind")
    assert not any(lit)


# ---------------------------------------------------------------------------------- scripts


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_leaving_a_script_in_the_middle_ends_its_run_safely(
    bench: Any, short: Recipe, kind: type[BaseException]
) -> None:
    def plan() -> Plan:
        yield ramp(to="300 °C", rate="20 °C/s")
        raise kind

    with bench.clock.enrolled("test"):
        report = bench.engine.run(_head(short), bench.sink, plan())
    assert report.outcome == "aborted"
    assert bench.station.holder.read().state is HolderState.OFF
    assert bench.station.scan.blanked()
    assert bench.sink.report is not None


@pytest.mark.parametrize("thing", [None, "hold 5 s", 3])
def test_a_script_that_yields_no_step_is_told_so(bench: Any, short: Recipe, thing: Any) -> None:
    def plan() -> Plan:
        yield ramp(to="100 °C", rate="20 °C/s")
        yield thing
        yield ramp(to="200 °C", rate="20 °C/s")

    with bench.clock.enrolled("test"):
        report = bench.engine.run(_head(short), bench.sink, plan())
    assert report.outcome == "failed"
    assert "not a step" in report.cause


def _waits_for_ever() -> Plan:
    while True:
        yield hold("60 s")


def _marks_for_ever() -> Plan:
    while True:
        yield mark("again")


def test_a_script_without_end_is_refused_at_its_time_limit(short: Recipe) -> None:
    recipe = _changed(_head(short), "run_time: 3600 s", "run_time: 600 s")
    found = preflight(recipe, Station.load("simulated"), _waits_for_ever)
    assert any("limits.run_time" in problem for problem in found.problems)


def test_a_script_that_goes_round_in_no_time_is_refused(
    short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acquire.engine.rehearsal.STEPS_AT_MOST", 2000)
    found = preflight(_head(short), Station.load("simulated"), _marks_for_ever)
    assert any("not ended after 2000 steps" in problem for problem in found.problems)


def test_a_script_without_end_and_without_a_time_limit_is_refused(
    short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acquire.engine.rehearsal.PATIENCE_WALL_S", 1.0)
    recipe = _changed(_head(short), ", run_time: 3600 s", "")
    found = preflight(recipe, Station.load("simulated"), _waits_for_ever)
    assert any("limits.run_time" in problem for problem in found.problems)


def test_checking_leaves_no_thread_behind(short: Recipe) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        preflight(short, Station.load("simulated"))
    for thread in set(threading.enumerate()) - before:
        thread.join(2.0)
        assert not thread.is_alive(), thread.name


# ------------------------------------------------------------------------------ instruments


def test_a_spectrometer_that_gives_nothing_fails_the_run(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(stop: Any) -> Iterator[Any]:
        bench.clock.sleep(1.0)
        yield from ()

    monkeypatch.setattr(bench.station.spectrometer, "frames", nothing)
    recipe = Recipe.parse(short.dump().split("steps:")[0] + "steps:" + LINE)
    report = bench.run(recipe, {60.0: lambda: bench.engine.state.active and bench.engine.abort()})
    assert report.outcome == "failed"
    assert "line_scan" in report.cause
    assert bench.station.scan.blanked()


def test_an_image_step_whose_scan_gives_nothing_fails_the_run(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(stop: Any) -> Iterator[Any]:
        bench.clock.sleep(1.0)
        yield from ()

    monkeypatch.setattr(bench.station.scan, "frames", nothing)
    recipe = Recipe.parse(
        "hotstage: 1\nname: x\nsteps:\n  - image: {scan: {detectors: [haadf], size: 64, "
        "field_of_view: 160 nm, dwell_time: 10 µs}, frames: 3}\n"
    )
    report = bench.run(recipe, {60.0: lambda: bench.engine.state.active and bench.engine.abort()})
    assert report.outcome == "failed"
    assert "image" in report.cause


def test_one_instrument_that_fails_to_make_safe_does_not_keep_the_others_from_it(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(reason: str) -> None:
        raise InstrumentError("a driver's mistake")

    bench.station.scan.blank(False)
    monkeypatch.setattr(bench.station.holder, "make_safe", broken)
    with pytest.raises(InstrumentError):
        bench.station.make_safe("a test")
    assert bench.station.scan.blanked()


# -------------------------------------------------------------------------------------- dose


def test_exposures_that_a_pause_cuts_count_as_dose(bench: Any, short: Recipe) -> None:
    head = short.dump().split("steps:")[0] + "pause: {exposure: cut}\nsteps:"
    line = LINE.replace("points: 20", "points: 2").replace("dwell_time: 2 s", "dwell_time: 50 s")
    uncut = Recipe.parse(head + line)
    doses = [bench.run(uncut).dose_e_per_nm2]
    doses.append(
        bench.run(uncut, {40.0: bench.engine.pause, 45.0: bench.engine.resume}).dose_e_per_nm2
    )
    assert doses[1] > 1.5 * doses[0]


def test_spots_of_different_steps_at_one_place_add_up() -> None:
    meter = DoseMeter()
    meter.add_spot((60.0, 80.0), 5.0, 1.0)
    meter.add_spot((60.0, 80.0), 7.0, 1.6)
    meter.add_spot((90.0, 80.0), 11.0, 1.6)
    assert meter.total_e_per_nm2 == 12.0


def test_a_dose_limit_that_cannot_be_kept_is_refused(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = replace(bench.station.scan.describe(), details={})
    monkeypatch.setattr(bench.station.scan, "describe", lambda: description)
    recipe = _changed(short, "run_time: 3600 s", "run_time: 3600 s, dose: 5000 e/nm²")
    report = bench.run(recipe)
    assert report.outcome == "failed"
    assert "limits.dose" in report.cause
    assert bench.run(short).outcome == "completed"


def test_an_estimator_whose_warning_cannot_be_written_ends_the_run(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        quantities = ()
        columns: Mapping[str, str] = MappingProxyType({})

        def update(self, frame: Any) -> Any:
            def note(note: Any) -> None:
                raise HotstageError("journal gone")

            monkeypatch.setattr(bench.sink, "note", note)
            raise ZeroDivisionError

    recipe = Recipe.parse(short.dump() + "estimate: {particles: {from: overview.haadf}}\n")
    with bench.clock.enrolled("test"):
        report = bench.engine.run(
            recipe, bench.sink, make=lambda recipe, specs: {"particles": Broken()}
        )
    assert report.outcome == "failed"
    assert report.t_end_s < 10.0


def test_a_recipe_with_too_many_steps_is_refused_when_it_is_read() -> None:
    text = "hotstage: 1\nname: x\nsteps:\n  - repeat: {times: 1000000000, steps: [{mark: a}]}\n"
    with pytest.raises(RecipeError, match="steps"):
        Recipe.parse(text)


def test_a_slow_holder_is_not_judged_by_what_it_said_before_the_ramp(
    bench: Any, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that takes longer than anybody's patience must not pass for the present state."""
    read, clock = bench.station.holder.read, bench.clock

    def slowly() -> Any:
        clock.sleep(3.0)
        return read()

    monkeypatch.setattr(bench.station.holder, "read", slowly)
    report = bench.run(short)
    assert report.outcome == "completed", report.cause
    assert read().state is HolderState.OFF
    assert report.steps[0]["t_end_s"] - report.steps[0]["t_start_s"] > 47.0
