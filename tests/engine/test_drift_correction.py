"""The scan shift follows the specimen: bounded, without hunting, between frames, and beside every frame."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.engine.correcting import correction
from acquire.engine.experiment import run_experiment
from acquire.engine.live import LiveView
from acquire.engine.shifts import ShiftLog
from acquire.errors import InstrumentError, LimitError, LinkError
from acquire.instruments import Frame, StreamSpec
from acquire.recipe import Recipe
from acquire.station import OpenStation, Station
from acquire.store import MemorySink
from acquire.stream import Estimate, Quantity, RunReport, Value
from acquire.stream.shifting import AppliedShift, Steering, WantedShift

STEERING = Steering(
    gain=0.8,
    deadband_nm=0.3,
    max_step_nm=12.0,
    max_shift_nm=100.0,
    max_sigma_nm=2.0,
    pixel_size_nm=0.25,
    predict=True,
)

STATION = """
hotstage = 1
name = "drifting"
[simulation]
simulator = "exsolution"
seed = 7
[simulation.options]
probe_current = "100 pA"
thermal_drift = "0.75 nm/°C"
[holder]
driver = "simulated"
limits = { temperature = "1000 °C", ramp_rate = "100 °C/s" }
[scan]
driver = "simulated"
"""

RECIPE = """
hotstage: 1
name: drift
record:
  overview: {scan: {detectors: [haadf], size: 256, field_of_view: 160 nm, dwell_time: 1 µs}, every: 1 s}
estimate:
  drift: {from: overview.haadf, correct: scan_shift, max_shift: 1 µm, sum: 8, store_sum: true}
steps:
  - hold: {for: 3 s}
  - ramp: {to: 800 °C, rate: 10 °C/s}
  - hold: {for: 5 s}
"""


def wanted(x: float, y: float = 0.0, t_s: float = 0.0, **more: float) -> WantedShift:
    rates = more.get("rate", 0.0), 0.0
    return WantedShift(t_s, x, y, *rates, more.get("sigma", 0.05))


# --------------------------------------------------------------------------- the decision


def step_response(
    steering: Steering, scale: float, delay: int, looks: Callable[[int], bool], frames: int = 40
) -> list[float]:
    """Error in nm, frame by frame, after a jump of 10 nm, with a scan whose shifts are scaled."""
    errors, shifts, log = [], [0.0], [0.0]
    for frame in range(frames):
        drift = 10.0
        error = drift - scale * log[-1]
        errors.append(error)
        # the estimator adds the shift it was told to what it sees in the image
        shifts.append(error + log[-1])
        seen = frame - delay
        if seen >= 0 and looks(frame):
            made = correction(steering, wanted(shifts[seen + 1]), (log[-1], 0.0), 0.0, 3.0)
            log.append(log[-1] + (made.dx_nm if made is not None else 0.0))
        else:
            log.append(log[-1])
    return errors


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("skip", [1, 3])
def test_a_jump_is_followed_without_overshoot(scale: float, skip: int) -> None:
    errors = step_response(STEERING, scale, 0, lambda frame: frame % skip == 0)
    assert np.diff(errors).max() < 1e-9, "the error never grows"
    assert min(errors) > -STEERING.deadband_nm  # type: ignore[operator]
    assert abs(errors[-1]) <= 0.31


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_late_estimates_do_not_make_the_same_correction_twice(delay: int) -> None:
    errors = step_response(STEERING, 1.0, delay, lambda _: True)
    assert min(errors) > -1e-9
    assert abs(errors[-1]) <= 0.31


@pytest.mark.parametrize("delay", [1, 2])
def test_a_scan_that_is_badly_calibrated_is_steered_to_rest_also_with_delay(delay: int) -> None:
    errors = step_response(STEERING, 1.2, delay, lambda _: True)
    assert max(map(abs, errors[delay + 2 :])) < 10.0 * 0.5
    assert abs(errors[-1]) <= 0.31
    assert len(set(errors[-5:])) == 1, "it has come to rest"


def test_noise_within_the_deadband_is_left_alone() -> None:
    rng = np.random.default_rng(1)
    own = replace(STEERING, deadband_nm=None)
    for x, y in rng.normal(0, 0.05, (200, 2)):
        assert correction(own, wanted(x, y), (0.0, 0.0), 0.0, 3.0) is None
    # what is less certain must be further off
    assert correction(own, wanted(0.5, sigma=0.3), (0.0, 0.0), 0.0, 3.0) is None
    assert correction(own, wanted(0.5, sigma=0.1), (0.0, 0.0), 0.0, 3.0) is not None


@pytest.mark.parametrize("sigma", [2.1, math.inf, math.nan])
def test_what_is_uncertain_moves_nothing(sigma: float) -> None:
    assert correction(STEERING, wanted(10.0, sigma=sigma), (0.0, 0.0), 0.0, 3.0) is None


def test_one_step_and_all_steps_together_are_bounded() -> None:
    made = correction(STEERING, wanted(60.0, 80.0), (0.0, 0.0), 0.0, 3.0)
    assert made is not None
    assert (made.dx_nm, made.dy_nm) == pytest.approx((7.2, 9.6))
    last = correction(STEERING, wanted(110.0), (95.0, 0.0), 0.0, 3.0)
    assert last is not None
    assert last.limited
    assert (last.dx_nm, last.dy_nm) == (0.0, 0.0)


def test_the_shift_aims_at_the_next_exposure_but_not_far_beyond() -> None:
    ahead = correction(replace(STEERING, gain=1.0), wanted(0.0, rate=2.0), (0.0, 0.0), 1.5, 3.0)
    assert ahead is not None
    assert ahead.dx_nm == pytest.approx(3.0)
    far = correction(replace(STEERING, gain=1.0), wanted(0.0, rate=2.0), (0.0, 0.0), 60.0, 3.0)
    assert far is not None
    assert far.dx_nm == pytest.approx(6.0)
    still = replace(STEERING, predict=False)
    assert correction(still, wanted(0.0, rate=2.0), (0.0, 0.0), 1.5, 3.0) is None
    unknown = correction(STEERING, wanted(5.0, rate=math.nan), (0.0, 0.0), 1.5, 3.0)
    assert unknown is not None
    assert unknown.dx_nm == pytest.approx(4.0)


# -------------------------------------------------------------------------------- the log


def test_every_frame_is_told_its_own_shift_and_whether_it_was_torn() -> None:
    log = ShiftLog()
    assert log.during(0.0, 1.0) == AppliedShift(0.0, 0.0, steady=True)
    log.moved(2.0, 2.01, 3.0, -1.0)
    log.moved(5.0, 5.01, 1.0, 1.0)
    assert log.during(0.0, 2.0) == AppliedShift(0.0, 0.0, steady=True)
    assert not log.during(1.5, 2.4).steady
    assert log.during(2.01, 3.0) == AppliedShift(3.0, -1.0, steady=True)
    assert log.during(6.0, 7.0) == AppliedShift(4.0, 0.0, steady=True)
    # late and early lines of a frame are not worth losing it
    assert log.during(1.0, 2.005) == AppliedShift(0.0, 0.0, steady=True)
    assert not log.during(1.0, 9.0).steady
    assert not log.during(4.9, 5.4).steady
    assert log.present == (4.0, 0.0)


# ------------------------------------------------------------------- within a run, scripted


class Wishing:
    """An estimator that wants whatever a test says, and remembers what it was told."""

    quantities = (Quantity("wish", "nm", "what is wanted"),)
    columns: Mapping[str, str] = {}
    steering: Steering | None = STEERING

    def __init__(self, wish: Callable[[float], WantedShift | None]) -> None:
        self._wish = wish
        self.told: list[AppliedShift] = []
        self._t_s = 0.0

    def applied_shift(self, shift: AppliedShift) -> None:
        self.told.append(shift)

    def update(self, frame: Frame) -> Estimate:
        self._t_s = (frame.t_start_s + frame.t_end_s) / 2
        values = {"wish": Value(0.0, 0.0)}
        return Estimate("drift", frame.stream, frame.index, frame.t_end_s, values)

    def wanted_shift(self) -> WantedShift | None:
        return self._wish(self._t_s)


def scripted(
    bench: Any, recipe: str, wish: Callable[[float], WantedShift | None]
) -> tuple[RunReport, Wishing]:
    """Run a recipe whose drift estimator is replaced by a wishing one."""
    wishing = Wishing(wish)

    def make(recipe: Recipe, specs: Mapping[str, StreamSpec]) -> dict[str, Any]:
        return dict.fromkeys(recipe.estimate, wishing)

    with bench.clock.enrolled("test"):
        report = bench.engine.run(Recipe.parse(recipe), bench.sink, make=make)
    return report, wishing


def small(every: str = "1 s", steps: str = "hold: {for: 20 s}") -> str:
    return RECIPE.split("steps:")[0].replace("every: 1 s", f"every: {every}") + (
        f"steps:\n  - {steps}\n"
    )


def shifts_of(bench: Any) -> np.ndarray:
    frames = [frame for frame in bench.sink.kept_frames if frame.stream == "overview"]
    names = ("scan_shift_x", "scan_shift_y")
    return np.array([[frame.meta.scalars[name] for name in names] for frame in frames])


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


# --------------------------------------------------------------- within a run, on images


def drifting_station() -> OpenStation:
    return Station.parse(STATION).open(VirtualClock())


def test_a_feature_stays_in_view_from_25_to_800_degrees_at_5_nm_per_second() -> None:
    sink: Any = MemorySink(keep_frames=True)
    station = drifting_station()
    with station, station.clock.enrolled("test"):
        report = Engine(station).run(Recipe.parse(RECIPE), sink)
        assert report.outcome == "completed", report.cause
        simulation = station.simulation
        assert simulation is not None
        hot = [f for f in sink.kept_frames if f.stream == "overview" and f.t_start_s < 85.0]
        sources = [context.source_index for context in sink.contexts["overview"]]
        drift = np.array([simulation.truth("scan", sources[f.index])["drift_nm"] for f in hot])
    drift -= drift[0]
    shift = np.array([[f.meta.scalars[f"scan_shift_{axis}"] for axis in "xy"] for f in hot])
    assert np.hypot(*np.diff(drift, axis=0).T).max() > 5.0
    assert np.hypot(*drift[-1]) > 450
    assert np.hypot(*(drift - shift).T).max() < 0.05 * 160
    told = {estimate.frame_index: estimate for estimate in sink.estimates}
    errors, sigmas = [], []
    for frame, truth in zip(hot, drift, strict=True):
        values = told[frame.index].values
        errors += [values["drift_x"].value - truth[0], values["drift_y"].value - truth[1]]
        sigmas += [values["drift_x"].sigma, values["drift_y"].sigma]
    assert np.sqrt(np.mean(np.square(errors))) < 0.25 * 160 / 256
    assert np.sqrt(np.mean(np.square(np.divide(errors[2:], sigmas[2:])))) < 2.5
    sums = [frame for frame in sink.kept_frames if frame.stream == "overview_sum"]
    assert len(sums) >= len(hot) // 8
    assert sums[0].data["haadf"].dtype == np.float32
    assert sums[0].data["frames"].max() == 8


def test_shifts_and_sums_are_in_the_stored_run(tmp_path: Path) -> None:
    recipe = Recipe.parse(
        RECIPE.split("steps:")[0].replace("sum: 8", "sum: 4")
        + "steps:\n  - ramp: {to: 60 °C, rate: 5 °C/s}\n"
    )
    with drifting_station() as station:
        run = run_experiment(recipe, station, tmp_path / "run")
    images = run.images("overview")
    assert {"scan_shift_x", "scan_shift_y"} <= set(images.coords)
    assert float(np.abs(images.scan_shift_x.values).max()) > 1.0
    sums = run.images("overview_sum")
    assert sums["haadf"].shape[1:] == (256, 256)
    assert float(sums["haadf"].isel(time=0).mean()) == pytest.approx(
        float(images["haadf"].isel(time=slice(0, 4)).mean()), rel=0.02
    )
    assert float(sums.t_end[0]) == pytest.approx(float(images.t_end[3]))


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


LINE = """
hotstage: 1
name: line
record:
  overview: {scan: {detectors: [haadf], size: 128, field_of_view: 160 nm, dwell_time: 4 µs}, every: 1 s}
estimate:
  drift: {from: overview.haadf, CORRECT}
steps:
  - ramp: {to: 150 °C, rate: 5 °C/s}
  - hold: {for: 20 s}
  - line_scan: {from: [10 nm, 80 nm], to: [150 nm, 80 nm], points: 8, spectra: {range: [400 eV, 600 eV], dispersion: 1 eV, dwell_time: 0.2 s}}
"""


def boundary_distances(correct: str, drift: str) -> np.ndarray:
    """How far the points of a line scan lay from the nearest boundary, which does not move."""
    sink = MemorySink()
    text = STATION.replace("[holder]", f"drift = {drift}\n[holder]")
    spectrometer = '[spectrometer]\ndriver = "simulated"\n'
    station = Station.parse(text + spectrometer).open(VirtualClock())
    with station, station.clock.enrolled("test"):
        report = Engine(station).run(Recipe.parse(LINE.replace("CORRECT", correct)), sink)
        assert report.outcome == "completed", report.cause
        simulation = station.simulation
        assert simulation is not None
        found = [
            simulation.truth("spectrometer", context.source_index)["distance_to_boundary_nm"]
            for context in sink.contexts["line_scan"]
        ]
    return np.array(found)


def test_a_line_scan_after_a_corrected_drift_lies_where_it_was_meant_to_lie() -> None:
    meant = boundary_distances("correct: none", "false")
    corrected = boundary_distances("correct: scan_shift", "true")
    left = boundary_distances("correct: none", "true")
    assert np.abs(corrected - meant).max() < 2.0
    assert np.abs(left - meant).max() > 5.0, "else there was nothing to correct"
