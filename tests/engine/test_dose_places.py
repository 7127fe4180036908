"""The dose of a run is counted per place, bounded per place, and stored as a map."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acquire.engine import preflight
from acquire.instruments import ScanExposure, StreamSpec
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import MemorySink, RunWriter, open_run

HEAD = """
hotstage: 1
name: places
limits: {temperature: 900 °C, run_time: 1 h%s}
"""
RECORD = """
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 10 µs}, every: 1 s}
"""
ZOOM = """
  - image: {scan: {detectors: [haadf], size: 64, field_of_view: 40 nm, dwell_time: 10 µs}, frames: 3, name: zoom}
"""
POINT = """
  - spectrum: {at: [%g nm, 20 nm], frames: 1, name: %s, spectra: {range: [400 eV, 600 eV], dispersion: 0.5 eV, dwell_time: 0.1 s}}
"""
ELECTRONS_PER_S = 100e-12 / 1.602176634e-19
"""Of the simulated probe of 100 pA."""
OVERVIEW = ELECTRONS_PER_S * 10e-6 / 2.5**2
"""e/nm² of one image of 64 pixels over 160 nm."""
SPOT = ELECTRONS_PER_S * 0.101
"""e/nm² of 0.1 s and a low loss of 1 ms on a square nanometre."""


def _recipe(limit: str, *steps: str, record: str = RECORD) -> Recipe:
    return Recipe.parse(HEAD % limit + record + "steps:" + "".join(steps))


def test_images_of_two_fields_add_up_only_where_they_overlap(bench: Any, tmp_path: Path) -> None:
    bench.sink = RunWriter(tmp_path / "run")
    report = bench.run(_recipe("", "\n  - hold: {for: 20 s}", ZOOM))
    assert report.outcome == "completed", report.cause
    run = open_run(tmp_path / "run")
    frames, images = report.frames["overview"], report.frames["zoom"]
    zoomed = images * 16 * OVERVIEW
    assert run.dose_map.sel(x=79.0, y=79.0, method="nearest") == pytest.approx(frames * OVERVIEW)
    assert run.dose_map.sel(x=0.0, y=0.0, method="nearest") == pytest.approx(
        frames * OVERVIEW + zoomed
    )
    assert report.dose_e_per_nm2 == pytest.approx(frames * OVERVIEW + zoomed)
    assert run.dose_map.attrs["highest"] == pytest.approx(report.dose_e_per_nm2)
    assert run.dose_map.sizes == {"y": 512, "x": 512}


def test_a_used_up_place_does_not_forbid_another(bench: Any) -> None:
    limit = f", dose: {1.5 * SPOT:.6g} e/nm²"
    apart = _recipe(limit, POINT % (20, "one"), POINT % (40, "two"), record="")
    assert bench.run(apart).outcome == "completed"
    bench.sink = MemorySink()
    twice = _recipe(limit, POINT % (20, "one"), POINT % (20.4, "two"), record="")
    report = bench.run(twice)
    assert report.outcome == "aborted"
    assert "(20.4, 20) nm" in report.cause
    assert report.frames == {"one": 1}
    assert report.dose_e_per_nm2 == pytest.approx(SPOT)


def test_the_operator_is_warned_in_time_of_the_end_of_the_budget(bench: Any) -> None:
    limit = f", dose: {100.5 * OVERVIEW:.6g} e/nm²"
    used_up: list[float] = []
    report = bench.run(
        _recipe(limit, "\n  - hold: {for: 5 min}"),
        {80.0: lambda: used_up.append(bench.engine.status.dose_used_up_s)},
    )
    assert report.outcome == "aborted"
    assert report.frames["overview"] == 100
    assert used_up == [pytest.approx(100.5, abs=2.0)]
    [warning] = bench.texts("warning")
    assert "limits.dose" in warning
    assert "at run time 1 min 40" in warning or "at run time 1 min 41" in warning
    [left] = bench.texts("dose")
    assert "are left" in left


def test_the_map_is_written_once_a_minute(bench: Any) -> None:
    report = bench.run(_recipe("", "\n  - hold: {for: 150 s}"))
    rows = [row for row in bench.sink.table_rows if row.table == "dose"]
    assert [row.t_s for row in rows] == [
        pytest.approx(at, abs=1.5) for at in (60.0, 120.0, report.t_end_s)
    ]
    total = math.fsum(float(row.values["added"]) for row in rows)
    assert total == pytest.approx(report.frames["overview"] * OVERVIEW)


def test_the_budget_of_a_long_line_does_not_wait_for_a_minute(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acquire.engine.dosing.MOST_WAITING", 200)
    line = """
  - line_scan: {from: [0 nm, 20 nm], to: [60 nm, 20 nm], points: 300, spectra: {range: [400 eV, 600 eV], dispersion: 0.5 eV, dwell_time: 50 ms}}
"""
    bench.sink = RunWriter(tmp_path / "run")
    report = bench.run(_recipe("", line, record=""))
    assert report.outcome == "completed", report.cause
    dose = open_run(tmp_path / "run").table("dose")
    assert dose.sizes["time"] == 300
    assert dose.time.values[0] < 11.0
    assert dose.spot.values.all()


def test_a_preflight_tells_the_dose_of_the_worst_place_and_where_the_limit_breaks() -> None:
    station = Station.load("simulated")
    found = preflight(_recipe("", POINT % (20, "one"), POINT % (40, "two"), record=""), station)
    assert found.dose_e_per_nm2 == pytest.approx(SPOT, rel=1e-6)
    limit = f", dose: {1.5 * SPOT:.6g} e/nm²"
    broken = _recipe(limit, POINT % (20, "one"), POINT % (20, "two"), record="")
    [problem] = preflight(broken, station).problems
    assert "limits.dose" in problem
    assert "(20, 20) nm" in problem


def _taking(bench: Any, monkeypatch: pytest.MonkeyPatch, wider: Callable[[int], float]) -> None:
    """Let the scan take a field that is wider than what is asked for, by the number of the arming."""
    scan, armings = bench.station.scan, itertools.count()
    arm = scan.arm

    def arm_wider(exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        factor = wider(next(armings))
        width_nm = factor * exposure.field_of_view_nm
        spec: StreamSpec = arm(replace(exposure, field_of_view_nm=width_nm), frames)
        return spec

    monkeypatch.setattr(scan, "arm", arm_wider)


def test_the_dose_is_that_of_the_field_which_the_scan_takes_not_of_the_one_asked_for(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _taking(bench, monkeypatch, lambda number: 0.9)
    report = bench.run(_recipe("", "\n  - hold: {for: 5 s}", ZOOM))
    assert report.outcome == "completed", report.cause
    overviews, zooms = report.frames["overview"], report.frames["zoom"]
    expected = (overviews + 16 * zooms) * OVERVIEW / 0.9**2
    assert report.dose_e_per_nm2 == pytest.approx(expected)
    for name, dose in (("overview", OVERVIEW), ("zoom", 16 * OVERVIEW)):
        told = [context.dose_e_per_nm2 for context in bench.sink.contexts[name]]
        assert told == pytest.approx([dose / 0.9**2] * len(told))


def test_a_scan_that_takes_another_field_when_it_is_armed_again_ends_the_run(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it is armed once to see what its frames will look like, and again after the image
    _taking(bench, monkeypatch, lambda number: 1.0 if number < 3 else 1.1)
    report = bench.run(_recipe("", "\n  - hold: {for: 5 s}", ZOOM, "\n  - hold: {for: 5 s}"))
    assert report.outcome == "failed"
    assert "176 nm" in report.cause
    assert "magnification" in report.cause
    assert report.frames["overview"] < 8
