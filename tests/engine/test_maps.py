"""Maps: every point once and in order, the beam off between, and the field kept on a specimen that drifts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.engine.continuation import plan_continuation, prepare_continuation, take_up
from acquire.engine.dose import probe_current_pa, spot_dose
from acquire.engine.experiment import carry_out
from acquire.engine.map_drift import MapDrift
from acquire.engine.rehearsal import preflight
from acquire.errors import LinkError
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import MemorySink, RunWriter, as_map, open_run, segments
from tests.engine.drift_parts import STATION

HEAD = """
hotstage: 1
name: map
on_link_loss: {retry_for: 30 s}
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 1 µs}, every: 1 s}
"""
MAP = """
steps:
  - spectrum_image:
      from: [40 nm, 60 nm]
      to: [60 nm, 70 nm]
      shape: [2, 4]
      spectra: {range: [400 eV, 600 eV], dispersion: 1 eV, dwell_time: 0.2 s, low_loss_dwell_time: 0.2 ms}
      passes: 2
      images: {detectors: [haadf], dwell_time: 1 µs, pixels_per_point: 16}
      name: map
"""
SERIES = """
  - spectrum: {at: [0 nm, 0 nm], frames: 2, name: series, energy_offsets: [380 eV, 450 eV], spectra: {range: [400 eV, 600 eV], dispersion: 1 eV, dwell_time: 0.1 s}}
"""
PLACES = [(p, r, c) for p in range(2) for r in range(2) for c in range(4)]


def _frames(bench: Any, stream: str = "map") -> list[Any]:
    return [frame for frame in bench.sink.kept_frames if frame.stream == stream]


def _places(frames: list[Any]) -> list[tuple[int, ...]]:
    names = ("map_pass", "map_row", "map_column")
    return [tuple(int(frame.meta.scalars[name]) for name in names) for frame in frames]


def test_a_map_takes_every_point_in_order_with_images_before_the_passes_and_behind(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, lit = bench.station.scan, []
    blank = scan.blank
    monkeypatch.setattr(scan, "blank", lambda on: (lit.append(not on), blank(on)))
    report = bench.run(Recipe.parse(HEAD + MAP))
    assert report.outcome == "completed", report.cause
    frames, images = _frames(bench), _frames(bench, "map_images")
    assert _places(frames) == PLACES
    assert [frame.index for frame in frames] == list(range(16))
    assert len(images) == 3
    assert [sum(f.t_start_s < i.t_start_s for f in frames) for i in images] == [0, 8, 16]
    assert images[0].data["haadf"].shape == (32, 64)
    contexts = bench.sink.contexts["map"]
    assert [c.position_nm for c in contexts[:5]] == [
        (42.5, 62.5), (47.5, 62.5), (52.5, 62.5), (57.5, 62.5), (42.5, 67.5),
    ]  # fmt: skip
    dose = spot_dose(probe_current_pa(scan.describe()), 0.2002, 5.0)
    assert contexts[0].dose_e_per_nm2 == pytest.approx(dose, rel=0.01)
    assert sum(lit) >= 16 + 3, "for every exposure anew: it is off between them"
    # two passes, and what else was scanned over the points: points that touch do not add up
    assert 2 * dose < report.dose_e_per_nm2 < 2.2 * dose + 2e5
    # draft images are empty: nothing is told of the drift, and nothing is corrected
    assert {f.meta.scalars["field_offset_known"] for f in frames} == {0.0}
    assert any("cannot be told from its images" in text for text in bench.texts("warning"))


def test_a_preflight_of_a_large_map_says_the_same_in_a_fraction_of_a_millisecond_a_point() -> None:
    text = (HEAD + MAP).replace("shape: [2, 4]", "shape: [50, 100]").replace("0.2 s", "10 ms")
    text = text.replace("pixels_per_point: 16", "pixels_per_point: 1")
    begun = time.thread_time()
    found = preflight(Recipe.parse(text), Station.load("simulated"))
    taken_s = time.thread_time() - begun
    assert found.good, found.problems
    assert (found.frames["map"], found.frames["map_images"]) == (10_000, 3)
    assert found.duration_s == pytest.approx(10_000 * 0.0102 + 3 * 0.005, rel=0.01)
    each = spot_dose(100.0, 0.0102, 0.2)
    assert found.dose_e_per_nm2 == pytest.approx(2 * each, rel=0.01)
    assert taken_s < 10_000 * 0.1e-3
    limited = text.replace("record:", f"limits: {{dose: {1.5 * each} e/nm²}}\nrecord:")
    [problem] = preflight(Recipe.parse(limited), Station.load("simulated")).problems
    assert "limits.dose" in problem


def test_a_preflight_counts_spectra_images_and_time_of_a_map_and_refuses_one_outside() -> None:
    found = preflight(Recipe.parse(HEAD + MAP), Station.load("simulated"))
    assert found.good, found.problems
    assert (found.frames["map"], found.frames["map_images"]) == (16, 3)
    assert found.duration_s == pytest.approx(16 * 0.2002, rel=0.1)
    outside = preflight(
        Recipe.parse(
            HEAD
            + MAP.replace("[40 nm, 60 nm]", "[160 nm, 60 nm]").replace("[60 nm, 70", "[180 nm, 70")
        ),
        Station.load("simulated"),
    )
    assert any("outside the field of view" in problem for problem in outside.problems)


def test_the_example_of_a_map_would_not_be_stopped(examples: Path) -> None:
    recipe = Recipe.load(examples / "recipes" / "eels_map.yaml")
    found = preflight(recipe, Station.load("simulated"))
    assert found.good, found.problems
    assert (found.frames["line"], found.frames["map"], found.frames["map_images"]) == (41, 200, 21)


def test_the_beam_is_off_whenever_the_spectrometer_is_tuned_or_the_field_placed(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, spectrometer = bench.station.scan, bench.station.spectrometer
    tune, look, seen = spectrometer.tune, MapDrift.look, []

    def watched(what: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            seen.append((what, scan.blanked()))
            return inner(*arguments, **named)

        return call

    monkeypatch.setattr(spectrometer, "tune", watched("tune", tune))
    monkeypatch.setattr(MapDrift, "look", watched("look", look))
    short = (HEAD + MAP + SERIES).replace("dwell_time: 0.2 s", "dwell_time: 20 ms")
    report = bench.run(Recipe.parse(short.replace("dwell_time: 0.1 s", "dwell_time: 20 ms")))
    assert report.outcome == "completed", report.cause
    assert [what for what, _ in seen] == ["tune", *["look"] * 3, *["tune"] * 2]
    assert all(dark for _, dark in seen)
    truth = bench.station.simulation.truth
    contexts = bench.sink.contexts["map"] + bench.sink.contexts["series"]
    assert len(contexts) == 20
    assert not any(truth("spectrometer", c.source_index)["blanked"] for c in contexts)


@pytest.mark.parametrize("what", ["pause", "link"])
def test_a_map_that_is_interrupted_takes_every_point_once(
    bench: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    meanwhile: dict[float, Callable[[], object]] = {}
    if what == "pause":
        meanwhile = {1.05: bench.engine.pause, 9.0: bench.engine.resume}
    else:
        spectrometer = bench.station.spectrometer
        arm, calls = spectrometer.arm, []

        def lossy(*arguments: Any) -> Any:
            calls.append(0)
            if 4 <= len(calls) < 8:
                raise LinkError("no answer (a test says so)")
            return arm(*arguments)

        monkeypatch.setattr(spectrometer, "arm", lossy)
    report = bench.run(Recipe.parse(HEAD + MAP + "pause: {exposure: cut}\n"), meanwhile)
    assert report.outcome == "completed", report.cause
    frames = _frames(bench)
    assert _places(frames) == PLACES
    gaps = [(stream, count) for stream, _, _, count in bench.sink.gaps if stream == "map"]
    assert gaps == ([] if what == "pause" else [("map", 1)])
    longest = max(b.t_start_s - a.t_end_s for a, b in pairwise(frames))
    assert longest > (7.0 if what == "pause" else 0.9)


def test_a_map_that_was_cut_off_goes_on_with_the_missing_points_and_reads_as_one(
    bench: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    bench.sink = RunWriter(folder)
    cut = bench.run(Recipe.parse(HEAD + MAP), {2.1: lambda: bench.engine.abort("enough")})
    assert 8 < cut.frames["map"] < 16
    part = open_run(folder).map("map")
    assert int(part.taken.sum()) == cut.frames["map"]
    assert np.isnan(part.core_loss[1, 1, 3].values).all()
    continuation = plan_continuation(take_up(folder, bench.station.station), bench.station)
    engine = bench.engine
    rest = carry_out(engine, prepare_continuation(engine, continuation))
    assert rest.frames["map"] == 16 - cut.frames["map"]
    whole = as_map(segments(folder), "map")
    assert bool(whole.taken.all())
    assert whole.core_loss.dtype == np.int32
    assert not np.isnan(whole.time.values).any()


# ------------------------------------------------------------------------------------ drift

DRIFTING = STATION.replace('"0.75 nm/°C"', '"0 nm/°C"\nslow_drift = "60 nm"') + (
    '[spectrometer]\ndriver = "simulated"\n'
)
DRIFTED = HEAD.replace("size: 64", "size: 128") + MAP.replace(
    "shape: [2, 4]", "shape: [4, 8]"
).replace("dwell_time: 0.2 s", "dwell_time: 1 s").replace(
    "pixels_per_point: 16", "pixels_per_point: 8, margin: 40 nm"
).replace("dwell_time: 1 µs, p", "dwell_time: 4 µs, p")


def _drifted(correct: str) -> tuple[MemorySink, np.ndarray]:
    """A run, and by how much the specimen had truly moved under each spectrum since the first image."""
    sink = MemorySink(keep_frames=True)
    recipe = Recipe.parse(DRIFTED + f"      drift_correct: {correct}\n")
    with Station.parse(DRIFTING).open(VirtualClock()) as station, station.clock.enrolled("test"):
        report = Engine(station).run(recipe, sink)
        assert report.outcome == "completed", report.cause
        assert station.simulation is not None
        truth = station.simulation.truth
        first = np.array(truth("scan", sink.contexts["map_images"][0].source_index)["drift_nm"])
        taken = [truth("spectrometer", c.source_index) for c in sink.contexts["map"]]
    return sink, np.array([told["drift_nm"] for told in taken]) - first


def _residuals(correct: str) -> tuple[np.ndarray, np.ndarray, int]:
    """By how far the field lay from its place, truly and as recorded; and how often it was shifted."""
    sink, moved = _drifted(correct)
    frames = [f for f in sink.kept_frames if f.stream == "map"]
    images = [f for f in sink.kept_frames if f.stream == "map_images"]
    assert len(images) == {"never": 3, "rows": 9}[correct]
    shift = np.array(
        [[f.meta.scalars.get(f"scan_shift_{axis}", 0.0) for axis in "xy"] for f in frames]
    )
    told = np.array([[f.meta.scalars[f"field_offset_{axis}"] for axis in "xy"] for f in frames])
    return moved - shift, told, sum(n.kind == "correction" for n in sink.notes)


def test_the_field_of_a_map_follows_a_specimen_that_drifts() -> None:
    left, told_left, none = _residuals("never")
    kept, told, corrections = _residuals("rows")
    moved = np.hypot(*left.T).max()
    assert moved > 3.0, "else there was nothing to correct"
    assert np.hypot(*kept.T).max() < 0.35 * moved
    assert none == 0
    assert corrections >= 4
    # without correction the images say how far the field was off: before each pass
    first_of_second = len(left) // 2
    assert told_left[first_of_second] == pytest.approx(left[first_of_second], abs=0.5)
    assert np.hypot(*told.T).max() < 1.0


def test_a_map_that_goes_on_is_brought_back_to_where_its_first_image_had_it(tmp_path: Path) -> None:
    recipe = Recipe.parse(DRIFTED + "      drift_correct: rows\n")
    clock = VirtualClock()
    with Station.parse(DRIFTING).open(clock) as station, clock.enrolled("test"):
        engine = Engine(station)
        stop = clock.spawn(lambda: (clock.sleep(20.0), engine.abort("enough")), "operator")
        engine.run(recipe, RunWriter(tmp_path / "run"))
        stop.join()
        clock.sleep(60.0)  # it drifts on
        continuation = plan_continuation(take_up(tmp_path / "run", station.station), station)
        report = carry_out(engine, prepare_continuation(engine, continuation))
        assert report.outcome == "completed", report.cause
        assert station.simulation is not None
        truth = station.simulation.truth
        first, rest = segments(tmp_path / "run")
        began = truth("scan", int(first.images("map_images").source_index[0]))["drift_nm"]
        spectra = rest.spectra("map")
        drift = [truth("spectrometer", int(n))["drift_nm"] for n in spectra.source_index]
    moved = np.array(drift) - began
    before = [float(first.spectra("map")[f"scan_shift_{axis}"][-1]) for axis in "xy"]
    shifted = np.stack([spectra[f"scan_shift_{axis}"].values for axis in "xy"], axis=1) + before
    between = np.hypot(*(moved[0] - before))
    assert between > 2.0, "else there was nothing to bring back"
    assert np.hypot(*(moved - shifted).T).max() < 0.35 * between
    assert bool((spectra.field_offset_known == 1).all())


def test_a_field_that_would_have_to_go_too_far_stays_and_is_told_to() -> None:
    sink, _ = _drifted("rows\n      max_shift: 1 nm")
    offsets = [f.meta.scalars["field_offset_x"] for f in sink.kept_frames if f.stream == "map"]
    shifts = [f.meta.scalars["scan_shift_x"] for f in sink.kept_frames if f.stream == "map"]
    assert np.abs(shifts).max() <= 1.0
    assert np.abs(offsets).max() > 1.0
    warnings = [n.text for n in sink.notes if n.kind == "warning"]
    assert any("max_shift is 1 nm" in text for text in warnings)


# ------------------------------------------------------------------------------- live, series


def test_estimates_of_a_map_can_be_seen_while_it_grows(
    bench: Any, say: Callable[[Callable[[Any], Any]], None]
) -> None:
    say(
        lambda f: (
            {"count": (10.0 * f.meta.scalars["map_row"] + f.meta.scalars["map_column"], 2.0)},
            (),
        )
    )
    seen: list[Any] = []
    text = HEAD + "estimate: {scripted: {from: map.core_loss}}\n" + MAP
    live = bench.engine.live
    report = bench.run(Recipe.parse(text), {1.0: lambda: seen.append(live.map("", -1, 0.0))})
    assert report.outcome == "completed", report.cause
    (early,) = seen
    assert 0 < early.taken.sum() < 8
    whole = live.map("map", early.serial, 0.0)
    assert whole.streams == ("map",)
    assert (whole.taken == 2).all()
    expected = 10.0 * np.arange(2)[:, None] + np.arange(4)
    assert whole.values["count"] == pytest.approx(expected)
    assert whole.values["count_sigma"] == pytest.approx(np.full((2, 4), 2.0 / math.sqrt(2)))
    assert (whole.first_nm, whole.spacing_nm, whole.passes) == ((42.5, 62.5), (5.0, 5.0), 2)
    known = np.isfinite(early.values["count"])
    assert known.sum() >= early.taken.sum() - 1
    assert early.values["count"][known] == pytest.approx(expected[known])
    assert live.map("other", -1, 0.0) is None


def test_a_series_of_energy_offsets_is_one_stream_whose_spectra_tell_where_they_begin(
    bench: Any,
) -> None:
    report = bench.run(Recipe.parse("hotstage: 1\nname: series\nsteps:" + SERIES))
    assert report.outcome == "completed", report.cause
    shown = bench.engine.live.spectrum(-1, 0.0)
    assert shown.energy_ev["core_loss"][0] == pytest.approx(450.0)
    offsets = [f.meta.scalars["energy_offset"] for f in _frames(bench, "series")]
    assert offsets == [380.0, 380.0, 450.0, 450.0]
    _, declared = bench.sink.specs["series"]
    assert declared.channels["core_loss"].axes["energy_loss"].offset == 400.0
