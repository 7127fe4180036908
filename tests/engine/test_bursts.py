"""Bursts are one acquisition, stored whole and in order however they are cut, and measured meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.bursts import BLOCK_S, SpectrumBlock
from acquire.clock import WallClock
from acquire.engine import Engine
from acquire.engine.dose import probe_current_pa, spot_dose
from acquire.engine.rehearsal import preflight
from acquire.errors import InstrumentError, LinkError
from acquire.instruments import Frame
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import RunWriter, open_run

EACH_S = 125e-6
RECIPE = """
hotstage: 1
name: burst
limits: {temperature: 900 °C}
record:
  chip: {holder: {every: 100 ms}}
on_link_loss: {retry_for: 30 s}
steps:
  - spectrum: {at: [10 nm, 20 nm], frames: FRAMES, spectra: {range: [400 eV, 502.4 eV],
      dispersion: 0.8 eV, dwell_time: 115 µs, low_loss_dwell_time: 10 µs}}
"""


def _recipe(frames: int, more: str = "") -> Recipe:
    return Recipe.parse(RECIPE.replace("FRAMES", str(frames)) + more)


class Device:
    """Stands before the spectrometer, tells how it was used, and may do something before a block."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.armed: list[int | None] = []
        self.taken: list[SpectrumBlock] = []
        self.before: Callable[[int], None] = lambda number: None
        """Called with the number of blocks so far."""

    def arm(self, exposure: Any, frames: int | None = None) -> Any:
        self.armed.append(frames)
        return self._inner.arm(exposure, frames)

    def blocks(self, stop: Any) -> Iterator[SpectrumBlock]:
        for block in self._inner.blocks(stop):
            self.taken.append(block)
            self.before(len(self.taken))
            yield block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Single:
    """Stands before the spectrometer and gives single spectra only."""

    def __init__(self, inner: Any) -> None:
        self.check, self.tune, self.frames = inner.check, inner.tune, inner.frames
        self.disarm, self.describe, self.make_safe = inner.disarm, inner.describe, inner.make_safe
        self._arm = inner.arm
        self.armed: list[int | None] = []

    def arm(self, exposure: Any, frames: int | None = None) -> Any:
        self.armed.append(frames)
        return self._arm(exposure, frames)


@pytest.fixture
def device(bench: Any) -> Device:
    bench.station.spectrometer = Device(bench.station.spectrometer)
    return bench.station.spectrometer


def _starts(bench: Any) -> list[float]:
    return [frame.t_start_s for frame in bench.sink.kept_frames]


def _each(bench: Any) -> float:
    """Dose of one spectrum."""
    return spot_dose(probe_current_pa(bench.station.scan.describe()), EACH_S, 1.0)


def _whole(bench: Any, frames: int) -> None:
    """Every spectrum is there once, in order, with what belongs to it."""
    assert [frame.index for frame in bench.sink.kept_frames] == list(range(frames))
    assert all(later - sooner > 0.99 * EACH_S for sooner, later in pairwise(_starts(bench)))
    contexts = bench.sink.contexts["spectrum"]
    assert {context.position_nm for context in contexts} == {(10.0, 20.0)}
    assert np.isfinite(
        [(c.temperature_before_celsius, c.temperature_after_celsius) for c in contexts]
    ).all()
    for frame in bench.sink.kept_frames[:: frames // 7]:
        begin, end = frame.meta.spans["low_loss"]
        assert begin == pytest.approx(frame.t_start_s, abs=1e-9)
        assert frame.meta.spans["core_loss"] == pytest.approx((end, frame.t_end_s), abs=1e-9)


def test_a_burst_is_armed_once_and_every_spectrum_is_recorded_with_its_dose(
    bench: Any, device: Device
) -> None:
    report = bench.run(_recipe(1000))
    assert report.outcome == "completed", report.cause
    assert device.armed == [1000]
    assert max(float(b.t_end_s[-1] - b.t_start_s[0]) for b in device.taken) <= BLOCK_S + 1e-9
    _whole(bench, 1000)
    doses = [context.dose_e_per_nm2 for context in bench.sink.contexts["spectrum"]]
    assert doses == pytest.approx([_each(bench)] * 1000)
    assert report.dose_e_per_nm2 == pytest.approx(1000 * _each(bench))
    assert [c.source_index for c in bench.sink.contexts["spectrum"]] == list(range(1000))
    assert bench.sink.gaps == []


def test_of_a_spectrometer_without_blocks_it_is_one_acquisition_too(bench: Any) -> None:
    bench.station.spectrometer = single = Single(bench.station.spectrometer)
    report = bench.run(_recipe(400))
    assert report.outcome == "completed", report.cause
    assert single.armed == [400]
    _whole(bench, 400)
    assert report.dose_e_per_nm2 == pytest.approx(400 * _each(bench))


@pytest.mark.parametrize("exposure", ["finish", "cut"])
def test_a_pause_ends_it_soon_and_what_is_missing_follows(
    bench: Any, device: Device, exposure: str
) -> None:
    recipe = _recipe(4000, f"pause: {{exposure: {exposure}}}\n")
    report = bench.run(recipe, {0.21005: bench.engine.pause, 5.0: bench.engine.resume})
    assert report.outcome == "completed", report.cause
    first, second = device.armed
    assert first == 4000
    taken = 4000 - (second or 0)
    # the pause came at 0.21 s: the block at hand is finished, or its whole spectra are kept
    assert taken == (1920 if exposure == "finish" else 1680)
    _whole(bench, 4000)
    before, after = [s for s in _starts(bench) if s < 1.0], [s for s in _starts(bench) if s >= 1.0]
    assert len(before) == taken
    assert min(after) == pytest.approx(5.0, abs=0.05)
    assert bench.sink.gaps == []


def test_an_abort_ends_it_within_a_quarter_of_a_second_and_keeps_what_was_whole(
    bench: Any, device: Device
) -> None:
    report = bench.run(_recipe(80_000), {0.3: lambda: bench.engine.abort("enough")})
    assert (report.outcome, report.cause) == ("aborted", "enough")
    assert report.t_end_s < 0.55
    stored = report.frames["spectrum"]
    assert 0.25 / EACH_S <= stored <= 0.3 / EACH_S + 1
    _whole(bench, stored)
    assert report.dose_e_per_nm2 >= stored * _each(bench)
    assert bench.station.scan.blanked()


def test_a_dose_limit_is_used_up_and_never_exceeded(bench: Any, device: Device) -> None:
    limit = 1000.5 * _each(bench)
    recipe = Recipe.parse(
        RECIPE.replace("FRAMES", "4000").replace(
            "temperature: 900 °C", f"temperature: 900 °C, dose: {limit} e/nm²"
        )
    )
    report = bench.run(recipe)
    assert report.outcome == "aborted"
    assert "limits.dose" in report.cause
    assert device.armed == [1000]
    assert report.frames["spectrum"] == 1000
    assert report.dose_e_per_nm2 <= limit


def test_spectra_that_were_lost_with_the_link_are_a_gap_and_taken_again(
    bench: Any, device: Device
) -> None:
    inner = bench.station.spectrometer._inner

    def break_down(number: int) -> None:
        if number == 3:
            raise LinkError("no answer (a test says so)")

    device.before = break_down
    report = bench.run(_recipe(2000))
    assert report.outcome == "completed", report.cause
    assert report.frames["spectrum"] == 2000
    # two blocks of 320 had come, and the instrument had taken a third
    assert device.armed == [2000, 1360]
    assert [gap[:2] + gap[3:] for gap in bench.sink.gaps] == [("spectrum", 640, 320)]
    indexes = [frame.index for frame in bench.sink.kept_frames]
    assert indexes == [*range(640), *range(960, 2320)]
    assert inner is device._inner
    assert report.dose_e_per_nm2 > 2320 * _each(bench) * (1 - 1e-9)
    # the beam was off while nobody answered, and is on again for what follows
    truth = bench.station.simulation.truth
    numbers = [context.source_index for context in bench.sink.contexts["spectrum"]]
    assert not any(truth("spectrometer", number)["blanked"] for number in numbers[::100])


def test_one_that_ends_by_itself_without_a_spectrum_ends_the_run(
    bench: Any, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "blocks", lambda stop: iter(()), raising=False)
    report = bench.run(_recipe(100))
    assert report.outcome == "failed"
    assert "by itself" in report.cause


def test_a_preflight_foresees_time_dose_and_disk(bench: Any) -> None:
    found = preflight(_recipe(8000), Station.load("simulated"))
    assert found.good, found.problems
    assert found.frames["spectrum"] == 8000
    assert found.dose_e_per_nm2 == pytest.approx(8000 * _each(bench))
    assert found.duration_s == pytest.approx(8000 * EACH_S, abs=0.2)


def test_stored_and_measured_meanwhile_on_the_wall_clock(tmp_path: Path) -> None:
    text = RECIPE.replace("FRAMES", "4000") + "estimate: {eels: {from: spectrum.core_loss}}\n"
    station = Station.load("simulated").open(WallClock(1.0))
    try:
        report = Engine(station).run(Recipe.parse(text), RunWriter(tmp_path / "run"))
    finally:
        station.close()
    assert report.outcome == "completed", report.cause
    run = open_run(tmp_path / "run")
    spectra = run.spectra("spectrum")
    assert spectra["frame_index"].values.tolist() == list(range(4000))
    assert spectra["core_loss"].values.any(axis=1).mean() > 0.99
    assert (spectra["low_loss_t_end"] - spectra["low_loss_t_start"]).values == pytest.approx(1e-5)
    assert spectra["position_x"].values == pytest.approx(10.0)
    estimates = run.estimates("eels")
    assert 2 <= estimates.sizes["time"] <= 4000 * EACH_S / BLOCK_S + 2
    assert estimates["frame_index"].values[-1] == 3999
    # of a sum of hundreds: one alone has some sixty electrons in its zero-loss peak
    assert (estimates["zero_loss_counts"].values[1:] > 1e4).all()
    [told] = [note for note in run.journal() if "came in blocks" in note.text]
    assert told.details["spectra"] == 4000
    assert told.details["seen"] <= 4000


def test_an_estimator_that_is_busy_holds_nothing_up_and_what_it_skips_is_said(
    wall_bench: Any, say: Callable[[Callable[[Frame], Any]], None]
) -> None:
    bench, over, again = wall_bench, threading.Event(), threading.Event()
    bench.station.spectrometer = device = Device(bench.station.spectrometer)
    disarm = device._inner.disarm

    def ended() -> None:
        disarm()
        if len(device.taken) >= 5:
            over.set()
            # what still waits when a run ends is not measured any more
            assert again.wait(20.0), "the newest block is never measured"

    device._inner.disarm = ended

    def measure(frame: Frame) -> Any:
        if over.is_set():
            again.set()
        assert over.wait(20.0), "the burst waits for its estimator"
        return {"mean_diameter": (1.0, 0.1)}, ()

    say(measure)
    report = bench.run(_recipe(1600, "estimate: {scripted: {from: spectrum.core_loss}}\n"))
    assert report.outcome == "completed", report.cause
    assert report.frames["spectrum"] == 1600
    assert not bench.texts("warning")
    # the first block, and the newest when it was done; of each its newest spectrum
    assert [estimate.frame_index for estimate in bench.sink.estimates] == [319, 1599]
    assert "scripted measured 2 of 1600 spectra" in bench.texts("estimator")[-1]


def test_a_block_that_cannot_be_is_refused() -> None:
    with pytest.raises(InstrumentError, match="low_loss"):
        SpectrumBlock("s", 0, {"low_loss": np.zeros((3, 8))}, np.arange(2.0), np.arange(2.0) + 1)
