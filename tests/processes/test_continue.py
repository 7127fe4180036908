"""A run whose engine was killed goes on in a program of its own, and not where heat would be replayed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.engine.continuation import take_up
from acquire.errors import StoreError
from acquire.station import Station
from acquire.store import open_run, segments, time_offsets_s, verify_run

pytestmark = pytest.mark.process

RECIPE = """
hotstage: 1
name: to be continued
limits: {temperature: 900 °C}
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 5 µs}, every: 1 s}
steps:
  - mark: begin
  - line_scan: {from: [10 nm, 20 nm], to: [80 nm, 90 nm], points: 12, name: line,
      spectra: {range: [400 eV, 600 eV], dispersion: 1 eV, dwell_time: 3 s}}
  - ramp: {to: 300 °C, rate: 100 °C/s}
  - hold: {for: 10 min}
"""
AGAIN = RECIPE.split("steps:")[0] + "steps: [{ramp: {to: 200 °C, rate: 100 °C/s}}, {mark: there}]\n"


def _wait_for(reached: Callable[[], bool], timeout_s: float = 120.0) -> None:
    poll = threading.Event()
    give_up = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < give_up, "not reached"
        poll.wait(0.05)


def _spectra(folder: Path) -> int:
    run = open_run(folder) if (folder / "run.zarr" / "zarr.json").exists() else None
    if run is None or "line" not in run.streams:
        return 0
    return int(run.spectra("line").sizes["time"])


def test_a_killed_engine_is_continued_twice_and_never_into_heat(
    program: Callable[..., Any], tmp_path: Path
) -> None:
    recipe, again = tmp_path / "recipe.yaml", tmp_path / "again.yaml"
    for path, text in ((recipe, RECIPE), (again, AGAIN)):
        path.write_text(text, encoding="utf-8")
    folder = tmp_path / "run"

    first = program("run", recipe, "-o", folder)
    _wait_for(lambda: _spectra(folder) >= 3)
    first.kill()

    second = program("run", "--continue", folder)
    second.until(f"Continues {folder} as continued-1")
    second.until("Recovered: ")
    second.until(r"1  mark: begin: done")
    second.until(r"2  line scan, \d+ points.*what is left of: line scan, 12 points")
    second.until(r"3  ramp to 300 °C")
    second.until(
        r"running  3/3 hold for 10 min.* 30\d\.\d °C|running  3/3 hold for 10 min.* 29\d\.\d °C"
    )
    # the window of loss is one of wall time, in which this clock does a whole ramp
    _wait_for(lambda: open_run(folder / "continued-1").holder.setpoint.values[-1] > 299.0)
    with pytest.raises(StoreError, match="continued-1 is still being written"):
        take_up(folder, Station.load("simulated"))
    second.kill()

    parts = segments(folder)
    taken = [part.spectra("line") for part in parts]
    assert sum(t.sizes["time"] for t in taken) == 12
    assert taken[0].sizes["time"] > 2
    along = np.concatenate([t.position_x.values for t in taken])
    assert np.allclose(along, np.linspace(10.0, 80.0, 12))
    offset_s = time_offsets_s(parts)[1]
    assert offset_s > float(taken[0].t_end[-1])
    continues = parts[1].header.continues
    assert continues is not None
    assert continues.t_uncertainty_s < 0.5
    assert max(parts[0].holder.setpoint.values) < 30.0

    third = program("run", "--continue", folder)
    third.until(r"cut off at 300 °C.* °C with the heater off now; 'hold for .* does not say")
    assert third.process.wait(20) == 1
    assert not (folder / "continued-2").exists()

    fourth = program("run", again, "--continue", folder)
    fourth.until(r"1  ramp to 200 °C")
    fourth.until("Completed")
    assert fourth.process.wait(30) == 0
    whole = segments(folder)
    assert [part.state for part in whole] == ["failed", "failed", "completed"]
    assert [part.path.name for part in whole][1:] == ["continued-1", "continued-2"]
    assert all(verify_run(part.path).good for part in whole)
    assert max(whole[2].holder.setpoint.values) == pytest.approx(200.0, abs=0.1)
