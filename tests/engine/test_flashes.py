"""Between spectra the beam is blanked, and for as long as it is on it counts as dose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from acquire.engine.dose import probe_current_pa, spot_dose
from acquire.errors import InstrumentError, LinkError
from acquire.instruments import HolderState
from acquire.recipe import Recipe

ARMING_S, READOUT_S = 3.0, 0.5
POINTS = 4
SPACING_NM = 20.0
HEAD = "hotstage: 1\nname: flashes\n"
SCANNED = """record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 10 µs}, every: 1 s}
"""
STEPS = """steps:
  - line_scan: {from: [40 nm, 80 nm], to: [100 nm, 80 nm], points: 4,
      spectra: {range: [400 eV, 450 eV], dispersion: 0.5 eV, dual: false, dwell_time: %s}}
  - hold: {for: 3 s}
"""


class Slow:
    """Stands before a spectrometer that takes long to arm and to read out."""

    def __init__(self, inner: Any, bench: Any) -> None:
        self._inner = inner
        self._bench = bench
        self.dark: list[bool] = []
        """Whether the beam was blanked when arming was done."""

    def arm(self, *arguments: Any) -> Any:
        self._bench.clock.sleep(ARMING_S)
        self.dark.append(self._bench.station.scan.blanked())
        return self._inner.arm(*arguments)

    def frames(self, stop: Any) -> Iterator[Any]:
        for frame in self._inner.frames(stop):
            self._bench.clock.sleep(READOUT_S)
            yield frame

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
def slow(bench: Any) -> Slow:
    bench.station.spectrometer = Slow(bench.station.spectrometer, bench)
    return bench.station.spectrometer


@pytest.fixture
def lit(bench: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, bool]]:
    """When the beam was un-blanked (True) and blanked, in run time."""
    told: list[tuple[float, bool]] = []
    blank = bench.station.scan.blank

    def watched(blanked: bool) -> None:
        told.append((bench.clock.now_s(), not blanked))
        blank(blanked)

    monkeypatch.setattr(bench.station.scan, "blank", watched)
    return told


def _recipe(dwell: str, more: str = "") -> Recipe:
    return Recipe.parse(HEAD + more + STEPS % dwell)


def _on_s(told: list[tuple[float, bool]]) -> float:
    total, since = 0.0, None
    for t_s, on in told:
        if on and since is None:
            since = t_s
        elif not on and since is not None:
            total, since = total + t_s - since, None
    return total


def _seconds(bench: Any, dose: float) -> float:
    current_pa = probe_current_pa(bench.station.scan.describe())
    return dose / spot_dose(current_pa, 1.0, SPACING_NM)


@pytest.mark.parametrize("more", ["", SCANNED])
def test_arming_exposes_nothing_and_the_readout_counts(
    bench: Any, slow: Slow, lit: list[tuple[float, bool]], more: str
) -> None:
    report = bench.run(_recipe("100 ms", more))
    assert report.outcome == "completed", report.cause
    assert slow.dark == [True] * POINTS
    if not more:
        assert _on_s(lit) == pytest.approx(POINTS * (0.1 + READOUT_S))
    contexts = bench.sink.contexts["line_scan"]
    each_s = [_seconds(bench, context.dose_e_per_nm2) for context in contexts]
    assert each_s == pytest.approx([0.1 + READOUT_S] * POINTS)
    assert _seconds(bench, report.dose_e_per_nm2) == pytest.approx(0.1 + READOUT_S, rel=1e-2)


def test_the_beam_stays_on_between_short_spectra_and_all_of_it_counts(
    bench: Any, slow: Slow, lit: list[tuple[float, bool]]
) -> None:
    report = bench.run(_recipe("10 ms"))
    assert report.outcome == "completed", report.cause
    assert slow.dark == [False] * POINTS
    assert [on for _, on in lit].count(True) == 1, "once for all of them"
    each_s = 0.01 + ARMING_S + READOUT_S
    assert _on_s(lit) == pytest.approx(POINTS * each_s)
    assert _seconds(bench, report.dose_e_per_nm2) == pytest.approx(each_s)


def test_the_journal_is_not_filled_with_flashes(bench: Any) -> None:
    bench.run(_recipe("100 ms"))
    assert bench.texts("beam") == ["on", "blanked"]
    assert bench.station.scan.blanked()


def test_images_are_recorded_again_when_the_spectra_are_taken(
    bench: Any, lit: list[tuple[float, bool]]
) -> None:
    report = bench.run(_recipe("100 ms", SCANNED))
    assert report.outcome == "completed", report.cause
    assert bench.texts("beam") == ["on"]
    end_s = max(f.t_end_s for f in bench.sink.kept_frames if f.stream == "line_scan")
    images = [f for f in bench.sink.kept_frames if f.stream == "overview" and f.t_start_s >= end_s]
    assert len(images) >= 3
    assert [on for _, on in lit].count(True) == 1 + POINTS + 1


@pytest.mark.parametrize("exposure", ["finish", "cut"])
def test_a_pause_between_flashes_keeps_the_beam_off_until_the_next(
    bench: Any, slow: Slow, lit: list[tuple[float, bool]], exposure: str
) -> None:
    recipe = _recipe("100 ms", f"pause: {{exposure: {exposure}}}\n")
    zero_s = bench.clock.now_s()
    report = bench.run(recipe, {4.5: bench.engine.pause, 30.0: bench.engine.resume})
    assert report.outcome == "completed", report.cause
    assert report.frames["line_scan"] == POINTS
    assert _on_s(lit) == pytest.approx(POINTS * (0.1 + READOUT_S))
    # asked for while it is armed: to finish, it is exposed; to be cut, it is not
    after_s = [t_s - zero_s for t_s, on in lit if on and t_s - zero_s > 4.5]
    assert after_s[0] == pytest.approx(6.6 if exposure == "finish" else 33.0, abs=0.2)
    assert bench.texts("beam")[-1] == "blanked"


def test_an_abort_while_the_spectrometer_is_armed_lets_no_beam_on(
    bench: Any, slow: Slow, lit: list[tuple[float, bool]]
) -> None:
    report = bench.run(_recipe("100 ms"), {4.5: lambda: bench.engine.abort("enough")})
    assert (report.outcome, report.cause) == ("aborted", "enough")
    assert not [t_s for t_s, on in lit if on and t_s > 4.5]
    assert bench.station.scan.blanked()


@pytest.mark.parametrize("error", [LinkError, InstrumentError])
def test_a_beam_that_cannot_be_blanked_ends_the_run_safely(
    bench: Any, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    blank = bench.station.scan.blank
    broken: list[bool] = []

    lit_once: list[bool] = []

    def break_down(blanked: bool) -> None:
        if blanked and any(lit_once) and not broken:
            broken.append(True)
            raise error("the blanker is stuck")
        lit_once.append(not blanked)
        blank(blanked)

    monkeypatch.setattr(bench.station.scan, "blank", break_down)
    report = bench.run(_recipe("100 ms"))
    assert report.outcome == "failed"
    assert "the blanker is stuck" in report.cause
    assert broken
    assert bench.station.scan.blanked()
    assert bench.station.holder.read().state is HolderState.OFF


def test_a_beam_that_stays_on_for_want_of_a_scan_counts_until_it_is_blanked(
    bench: Any, lit: list[tuple[float, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: Callable[[bool], None] = bench.station.scan.blank
    away: list[float] = []

    def unreachable(blanked: bool) -> None:
        if blanked and any(on for _, on in lit) and len(away) < 8:
            away.append(bench.clock.now_s())
            raise LinkError("no answer (a test says so)")
        watched(blanked)

    monkeypatch.setattr(bench.station.scan, "blank", unreachable)
    report = bench.run(_recipe("100 ms", "on_link_loss: {retry_for: 30 s}\n"))
    assert report.outcome == "completed", report.cause
    assert report.frames["line_scan"] == POINTS
    stuck_s = 8 * 0.25
    assert _on_s(lit) == pytest.approx(POINTS * 0.1 + stuck_s)
    assert _seconds(bench, report.dose_e_per_nm2) == pytest.approx(0.1 + stuck_s)


def test_what_the_machine_takes_counts_in_wall_time_where_the_clock_runs_faster(
    wall_bench: Any,
) -> None:
    bench = wall_bench
    bench.station.spectrometer = Slow(bench.station.spectrometer, bench)
    report = bench.run(_recipe("100 ms"))
    assert report.outcome == "completed", report.cause
    for context in bench.sink.contexts["line_scan"]:
        counted_s = _seconds(bench, context.dose_e_per_nm2)
        # on the clock it was ten times as much
        assert 0.1 + READOUT_S / 10 <= counted_s < 0.1 + READOUT_S
