"""A run that was cut off goes on where it was, repeats nothing that is done, and never replays heat."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.engine.continuation import (
    Continuation,
    continue_experiment,
    plan_continuation,
    prepare_continuation,
    take_up,
)
from acquire.engine.earlier import offset_to
from acquire.engine.experiment import carry_out
from acquire.engine.history import PastStep, left_of
from acquire.errors import ConfigError, InstrumentError, LimitError, RecipeError, StoreError
from acquire.recipe import LineScan, Plan, Recipe, Spectrum, hold, line_scan, mark
from acquire.station import OpenStation
from acquire.store import RunWriter, open_run, segments, time_offsets_s, verify_run
from acquire.stream import RunHeader

HEAD = """
hotstage: 1
name: cut off
limits: {temperature: 900 °C}
record:
  overview: {scan: {detectors: [haadf], size: 32, field_of_view: 160 nm, dwell_time: 10 µs}, every: 2 s}
"""
COLD = (
    HEAD
    + """
steps:
  - mark: begin
  - hold: {for: 10 s}
  - hold: {for: 20 s}
  - line_scan: {from: [10 nm, 20 nm], to: [80 nm, 90 nm], points: 8, name: line,
      spectra: {range: [400 eV, 600 eV], dispersion: 1 eV, dwell_time: 1 s}}
  - image: {scan: {detectors: [haadf], size: 16, field_of_view: 160 nm, dwell_time: 10 µs}, frames: 5, every: 2 s}
  - ramp: {to: 300 °C, rate: 100 °C/s}
  - hold: {for: 10 s}
  - ramp: {to: 100 °C, rate: 100 °C/s}
  - hold: {for: 5 s}
"""
)
HOT_S = 55.0
"""When it holds 300 °C."""
AGAIN = Recipe.parse(HEAD + "steps: [{ramp: {to: 200 °C, rate: 50 °C/s}}, {hold: {for: 3 s}}]\n")
NO_RAMP = Recipe.parse(HEAD + "steps: [{mark: on}, {hold: {for: 3 s}}]\n")


def _plan(run: Path, station: OpenStation, recipe: Recipe | None = None) -> Continuation:
    return plan_continuation(take_up(run, station.station), station, recipe)


class Cutting:
    """Runs into a folder and leaves what a killed program would have, or an aborted run."""

    def __init__(self, bench: Any, place: Path) -> None:
        self.bench = bench
        self.place = place

    def kill(self, recipe: Recipe, at_s: float, plan: Callable[[], Plan] | None = None) -> Path:
        """A run as its program left it when it died."""
        folder, dead = self.place / "lived", self.place / "run"

        def die() -> None:
            self.bench.sink.publish()
            shutil.copytree(folder, dead)
            self.bench.engine.abort("the rest is not looked at")

        self._run(recipe, folder, {at_s: die}, plan)
        return dead

    def abort(self, recipe: Recipe, at_s: float) -> Path:
        """A run that its operator aborted."""
        folder = self.place / "run"
        self._run(recipe, folder, {at_s: lambda: self.bench.engine.abort("enough")})
        return folder

    def _run(
        self,
        recipe: Recipe,
        folder: Path,
        meanwhile: dict[float, Callable[[], object]],
        plan: Callable[[], Plan] | None = None,
    ) -> None:
        self.bench.sink = RunWriter(folder)
        if plan is None:
            self.bench.run(recipe, meanwhile)
            return
        with self.bench.clock.enrolled("test"):
            ((at_s, act),) = meanwhile.items()

            def interfere() -> None:
                self.bench.clock.sleep(at_s)
                act()

            task = self.bench.clock.spawn(interfere, "operator")
            self.bench.engine.run(recipe, self.bench.sink, plan())
            task.join()

    def heat(self, celsius: float) -> None:
        """What an operator does with the holder's own knobs."""
        clock, holder = self.bench.clock, self.bench.station.holder
        with clock.enrolled("test"):
            holder.ramp(celsius, 100.0)
            clock.sleep(30.0)

    def go_on(self, run: Path, recipe: Recipe | None = None) -> Any:
        """Continue to the end; returns the report."""
        continuation = _plan(run, self.bench.station, recipe)
        engine = self.bench.engine
        return carry_out(engine, prepare_continuation(engine, continuation))


@pytest.fixture
def cutting(bench: Any, tmp_path: Path) -> Cutting:
    return Cutting(bench, tmp_path)


def _texts(report: Any) -> list[str]:
    return [str(step["text"]) for step in report.steps]


def _seconds(report: Any) -> list[float]:
    return [step["t_end_s"] - step["t_start_s"] for step in report.steps]


def _data(run: Path) -> dict[str, str]:
    """Digests of all files that hold what was acquired."""
    files = [*run.glob("run.zarr/**/c.*"), run / "recipe.yaml", run / "station.toml"]
    return {
        str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if "gaps" not in str(f)
    }


def test_a_killed_run_goes_on_with_what_was_left_of_its_step(cutting: Cutting) -> None:
    run = cutting.kill(Recipe.parse(COLD), 18.0)
    before = _data(run)
    report = cutting.go_on(run)
    assert report.outcome == "completed", report.cause
    assert _seconds(report)[0] == pytest.approx(12.0, abs=1.1), "8 of 20 s were over"
    assert _texts(report)[1:3] == [
        "line scan, 8 points, 400–600 eV, 1 s each",
        "5 images, haadf 16 × 16, 160 nm",
    ]
    assert len(report.steps) == 7, "the mark and the first hold are not repeated"
    assert _data(run) == before
    first, second = segments(run)
    assert second.path == run / "continued-1"
    assert first.report is not None
    assert "died" in first.report.cause
    continues = second.header.continues
    assert continues is not None
    assert (continues.steps_done, continues.rest, continues.new_recipe) == (2, True, False)
    assert continues.run_time_s == continues.t_end_s == pytest.approx(18.0, abs=1.1)
    assert time_offsets_s((first, second)) == (0.0, continues.t_offset_s)
    assert verify_run(run).good
    assert verify_run(second.path).good
    with pytest.raises(ConfigError, match="is complete"):
        _plan(run, cutting.bench.station)


def test_points_and_frames_are_taken_once(cutting: Cutting) -> None:
    recipe = Recipe.parse(COLD)
    run = cutting.kill(recipe, 34.5)
    cutting.bench.sink = None
    found = _plan(run, cutting.bench.station)
    line = found.remaining[0]
    assert isinstance(line, LineScan)
    assert 2 <= line.points < 8
    assert cutting.go_on(run).outcome == "completed"
    parts = [part.spectra("line") for part in segments(run)]
    assert [p.sizes["time"] for p in parts] == [8 - line.points, line.points]
    planned = next(step for step in recipe.steps if isinstance(step, LineScan)).positions_nm()
    taken = np.concatenate([np.stack([p.position_x, p.position_y], axis=1) for p in parts])
    assert np.allclose(taken, planned)


def test_images_that_are_there_are_not_taken_again(cutting: Cutting) -> None:
    text = COLD.replace("  - line_scan", "  # - line_scan").replace(
        "      spectra", "  #   spectra"
    )
    run = cutting.abort(Recipe.parse(text), 35.0)
    taken = open_run(run).images("image").sizes["time"]
    assert 1 <= taken < 5
    report = cutting.go_on(run)
    assert report.frames["image"] == 5 - taken


def test_time_spent_in_a_pause_is_not_time_of_the_step(bench: Any, tmp_path: Path) -> None:
    bench.sink = RunWriter(tmp_path / "run")
    recipe = Recipe.parse(HEAD + "steps: [{hold: {for: 60 s}}]\n")
    bench.run(
        recipe,
        {
            10.0: bench.engine.pause,
            50.0: bench.engine.resume,
            70.0: lambda: bench.engine.abort("x"),
        },
    )
    report = Cutting(bench, tmp_path).go_on(tmp_path / "run")
    assert _seconds(report) == [pytest.approx(30.0, abs=2.0)]


def test_a_run_can_be_cut_off_again_and_again(cutting: Cutting) -> None:
    recipe = Recipe.parse(HEAD + "steps: [{hold: {for: 5 s}}, {hold: {for: 60 s}}, {mark: end}]\n")
    run = cutting.abort(recipe, 20.0)
    bench = cutting.bench
    for number in (1, 2):
        continuation = _plan(run, bench.station)
        assert continuation.folder.name == f"continued-{number}"
        experiment = prepare_continuation(bench.engine, continuation)
        with bench.clock.enrolled("test"):

            def end() -> None:
                bench.clock.sleep(15.0)
                bench.engine.abort("again")

            task = bench.clock.spawn(end, "operator")
            report = carry_out(bench.engine, experiment)
            task.join()
        assert report.outcome == "aborted"
    last = cutting.go_on(run / "continued-1")
    assert last.outcome == "completed"
    assert _seconds(last)[0] == pytest.approx(60 - 3 * 15.0, abs=1.0)
    parts = segments(run)
    assert [p.path.name for p in parts] == ["run", "continued-1", "continued-2", "continued-3"]
    offsets = time_offsets_s(parts)
    ends = [o + p.report.t_end_s for o, p in zip(offsets, parts, strict=True) if p.report]
    assert all(begin >= end for begin, end in zip(offsets[1:], ends, strict=False))


def test_a_burst_that_was_killed_may_have_given_more_than_one_spectrum(cutting: Cutting) -> None:
    recipe = Recipe.parse(
        "hotstage: 1\nname: burst\nsteps: [{spectrum: {at: [0 nm, 0 nm], frames: 4000, spectra: "
        "{range: [400 eV, 502.4 eV], dispersion: 0.8 eV, dwell_time: 1 ms, dual: false}}}]\n"
    )
    run = cutting.kill(recipe, 1.0)
    earlier = _plan(run, cutting.bench.station).earlier
    spectra = open_run(run).spectra("spectrum")
    known = float(spectra["dose"].sum())
    assert earlier.dose_e_per_nm2 == pytest.approx(known + 300 * float(spectra["dose"][-1]))


# ------------------------------------------------------------------------------------ heat


def test_a_hold_is_not_resumed_at_another_temperature(cutting: Cutting) -> None:
    run = cutting.kill(Recipe.parse(COLD), HOT_S)
    with pytest.raises(LimitError, match=r"300 °C.* °C with the heater off.*RECIPE"):
        _plan(run, cutting.bench.station)
    assert not (run / "continued-1").exists()
    with pytest.raises(LimitError, match="does not say a temperature"):
        _plan(run, cutting.bench.station, NO_RAMP)
    report = cutting.go_on(run, AGAIN)
    assert report.outcome == "completed", report.cause
    assert _texts(report) == ["ramp to 200 °C at 50 °C/s", "hold for 3 s"]


def test_a_hold_goes_on_where_an_operator_has_brought_the_holder_back(cutting: Cutting) -> None:
    run = cutting.kill(Recipe.parse(COLD), HOT_S)
    cutting.heat(298.0)
    with pytest.raises(LimitError, match=r"300 °C.*298 °C"):
        _plan(run, cutting.bench.station)
    cutting.heat(300.4)
    report = cutting.go_on(run)
    assert report.outcome == "completed", report.cause
    holder = open_run(run / "continued-1").holder
    held = holder.setpoint.values[holder.time.values < report.steps[0]["t_end_s"]]
    assert np.ptp(held) == 0.0, "the continuation has not touched the heater"


def test_a_ramp_that_was_under_way_does_not_begin_anew(cutting: Cutting) -> None:
    recipe = Recipe.parse(HEAD + "steps: [{ramp: {to: 300 °C, rate: 10 °C/s}}, {hold: {for: 5 s}}]")
    run = cutting.abort(recipe, 10.0)
    with pytest.raises(LimitError, match=r"12\d.* °C.*heater off.*under way, and would begin anew"):
        _plan(run, cutting.bench.station)


def _cut_behind_step(run: Path, number: int) -> None:
    """As if the program had died right after a step, before the next one began."""
    journal = run / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    last = next(at for at, line in enumerate(lines) if f"end step {number}:" in line)
    journal.write_text("".join(lines[: last + 1]), encoding="utf-8")


@pytest.mark.parametrize(("to", "refused"), [("400 °C", False), ("100 °C", True)])
def test_the_next_ramp_heats_only_if_it_was_to_heat(
    cutting: Cutting, to: str, refused: bool
) -> None:
    steps = f"[{{ramp: {{to: 300 °C, rate: 100 °C/s}}}}, {{mark: there}}, {{ramp: {{to: {to}, rate: 10 °C/s}}}}]"
    run = cutting.kill(Recipe.parse(HEAD + f"steps: {steps}\n"), 5.0)
    _cut_behind_step(run, 2)
    bench = cutting.bench
    with bench.clock.enrolled("test"):
        bench.clock.sleep(60.0)
    if refused:
        with pytest.raises(LimitError, match=r"cut off at 2\d\d °C.*was to cool, and would heat"):
            _plan(run, bench.station)
        return
    report = cutting.go_on(run)
    assert _texts(report) == ["ramp to 400 °C at 10 °C/s"]
    assert report.outcome == "completed", report.cause


def test_the_holder_is_asked_again_before_the_first_step(cutting: Cutting) -> None:
    run = cutting.kill(Recipe.parse(COLD), HOT_S)
    cutting.heat(300.0)
    bench = cutting.bench
    experiment = prepare_continuation(bench.engine, _plan(run, bench.station))
    bench.station.make_safe("somebody was faster")
    with bench.clock.enrolled("test"):
        bench.clock.sleep(10.0)
    report = carry_out(bench.engine, experiment)
    assert report.outcome == "failed"
    assert "300 °C" in report.cause
    assert "heater off" in report.cause
    assert report.steps == ()
    with pytest.raises(LimitError, match="cut off at 300 °C"):
        _plan(run, bench.station)  # the empty segment has not changed what was


def test_a_tripped_or_moving_heater_is_refused(cutting: Cutting) -> None:
    run = cutting.kill(Recipe.parse(COLD), 18.0)
    bench = cutting.bench
    with bench.clock.enrolled("test"):
        bench.station.holder.ramp(200.0, 1.0)
        bench.clock.sleep(1.0)
    with pytest.raises(InstrumentError, match=r"ramping at .* come to rest"):
        _plan(run, bench.station)


# ---------------------------------------------------------------------------------- limits


def test_dose_and_run_time_count_over_the_whole_run(cutting: Cutting) -> None:
    text = COLD.replace("{temperature: 900 °C}", "{temperature: 900 °C, run_time: 60 s}")
    run = cutting.kill(Recipe.parse(text), 40.0)
    found = _plan(run, cutting.bench.station)
    assert found.earlier.run_time_s == pytest.approx(40.0, abs=1.0)
    assert 0 < found.earlier.disk_bytes < 1e6
    with pytest.raises(RecipeError, match="run_time"):
        prepare_continuation(cutting.bench.engine, found)
    longer = Recipe.parse(text.replace("run_time: 60 s", "run_time: 120 s"))
    new = _plan(run, cutting.bench.station, longer)
    report = carry_out(cutting.bench.engine, prepare_continuation(cutting.bench.engine, new))
    assert report.outcome == "completed", report.cause
    seen = found.earlier.dose_e_per_nm2
    first, second = segments(run)
    assert first.report is not None
    assert 0 < first.report.dose_e_per_nm2 < seen, "an exposure may have been under way"
    own = float(second.images("overview").dose_total[-1])
    assert report.dose_e_per_nm2 > seen + own
    limited = Recipe.parse(
        AGAIN.dump().replace("limits: {", f"limits: {{dose: {seen * 1.001:.6g} e/nm², ", 1)
    )
    with pytest.raises(RecipeError, match=r"limits\.dose"):
        prepare_continuation(cutting.bench.engine, _plan(run, cutting.bench.station, limited))


@pytest.mark.parametrize("ahead", [True, False])
def test_times_of_segments_have_a_common_axis(ahead: bool) -> None:
    header = RunHeader("x", "", "", "s", {}, epoch_unix_s=1000.0, clock_rate=10.0)
    # 500 s of run time are 50 s on the wall
    begins_s = 1080.0 if ahead else 1045.0
    offset_s, uncertainty_s = offset_to(header, 500.0, begins_s, 10.0)
    assert offset_s == (800.0 if ahead else 500.0)
    assert uncertainty_s == pytest.approx(0.1 if ahead else 50.07, abs=0.005)
    assert offset_to(header, 500.0, begins_s, math.inf) == (500.0, math.inf)


# -------------------------------------------------------------------------------- refusals


def test_what_cannot_be_continued_is_refused(cutting: Cutting) -> None:
    run = cutting.kill(Recipe.parse(COLD), 18.0)
    station = cutting.bench.station
    writer = RunWriter(cutting.place / "alive")
    writer.open(open_run(run).header)
    with pytest.raises(StoreError, match="still being written"):
        _plan(cutting.place / "alive", station)
    writer._journal.close()  # type: ignore[union-attr]
    zarr = run / "run.zarr" / "zarr.json"
    _plan(run, station)
    zarr.write_text(zarr.read_text("utf-8").replace('"station": "simulated"', '"station": "titan"'))
    with pytest.raises(ConfigError, match=r"'titan', and this is 'simulated'.*--station titan"):
        _plan(run, station)


def test_a_journal_that_lost_lines_does_not_tell_what_is_done(cutting: Cutting) -> None:
    run = cutting.kill(Recipe.parse(COLD), 18.0)
    journal = run / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join(e for e in lines if "begin step 2" not in e), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"has lost lines.*RECIPE"):
        _plan(run, cutting.bench.station)
    assert _plan(run, cutting.bench.station, AGAIN).remaining == AGAIN.steps


def test_a_condition_gets_the_time_that_is_left(cutting: Cutting) -> None:
    text = HEAD.replace("size: 32, field_of_view: 160 nm", "size: 64, field_of_view: 80 nm") + (
        "estimate: {particles: {from: overview.haadf}}\n"
        "steps: [{hold: {for: 30 s, until: mean_diameter >= 90 nm, else: abort}}]\n"
    )
    run = cutting.kill(Recipe.parse(text), 12.0)
    report = cutting.go_on(run)
    assert (report.outcome, "not met within" in report.cause) == ("aborted", True)
    assert _seconds(report) == [pytest.approx(18.0, abs=1.1)]


def test_a_recipe_that_wants_to_abort_there_is_not_continued() -> None:
    step = hold("10 s", until="mean_diameter >= 3 nm", otherwise="abort")
    past = PastStep("hold", "hold", {}, 0.0, 10.0, verdict="time_up", active_s=10.0)
    with pytest.raises(RecipeError, match=r"recipe says so.*RECIPE"):
        left_of(step, past)
    assert left_of(hold("10 s", until="mean_diameter >= 3 nm"), past) is None


def test_the_last_point_of_a_line_is_a_spectrum_of_the_same_stream() -> None:
    settings = {"range": ["400 eV", "600 eV"], "dispersion": "1 eV", "dwell_time": "1 s"}
    line = line_scan(("0 nm", "0 nm"), ("10 nm", "0 nm"), 3, settings, "here")
    past = PastStep("line", "line_scan", {}, 0.0, 10.0, frames=2)
    left = left_of(line, past)
    assert isinstance(left, Spectrum)
    assert (left.at, left.frames, left.name, left.spectra) == ((10.0, 0.0), 1, "here", line.spectra)


# --------------------------------------------------------------------------------- scripts


def test_a_script_is_told_how_its_steps_ended(cutting: Cutting) -> None:
    seen: list[str] = []

    def script(first: str = "5 s") -> Plan:
        outcome = yield hold(first)
        seen.append(f"{outcome.result} {outcome.t_end_s:.0f}")
        yield hold("20 s")
        seen.append("second")
        yield mark("end")

    run = cutting.kill(Recipe.parse(HEAD), 10.0, script)
    station = cutting.bench.station
    seen.clear()
    with pytest.raises(RecipeError, match=r"run by a script.*continue_experiment"):
        _plan(run, station)
    with pytest.raises(RecipeError, match="step 1 of the run was 'hold for 5 s'"):
        continue_experiment(run, station, plan=lambda: script("6 s"))
    seen.clear()
    done = continue_experiment(run, station, plan=script)
    assert done.report is not None
    assert _seconds(done.report) == [pytest.approx(15.0, abs=1.1), 0.0]
    assert seen[-2:] == ["done 5", "second"]


def test_the_last_point_of_a_line_counts_the_dose_of_a_point_of_that_line() -> None:
    settings = {"range": ("400 eV", "600 eV"), "dispersion": "0.1 eV", "dwell_time": "100 ms"}
    line = line_scan(("40 nm", "80 nm"), ("42 nm", "80 nm"), 21, settings)
    last = left_of(line, PastStep("line", "line_scan", {}, 0.0, 10.0, frames=20))
    assert isinstance(last, Spectrum)
    assert last.at == line.positions_nm()[-1]
    assert last.spacing_nm == line.spacing_nm == pytest.approx(0.1)
