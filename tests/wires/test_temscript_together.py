"""The temscript driver and its far end, which were written apart, with each other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import HotstageError
from acquire.farends import FarEndContext
from acquire.instruments import Frame, ScanExposure
from acquire.station import DriverContext
from drivers.conformance import check_scan
from drivers.scans.temscript import TemscriptScan, open_temscript
from simulators.instruments import ExsolutionSimulation, build
from simulators.scan import SimulatedScan
from simulators.wires.temscript import TemscriptEnd, serve

RATE = 20.0
FIELD_NM = 1e8 / 905e3  # at a magnification that there is
EXPOSURE = ScanExposure(("haadf", "abf"), (64, 64), FIELD_NM, 2e-6)


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    made = build(
        WallClock(RATE), seed=5, drift=False, specimen="reference_domes", dome_diameters=["12 nm"]
    )
    scan = made.instruments["scan"]
    assert isinstance(scan, SimulatedScan)
    scan.draw(EXPOSURE, 0, made.world.clock.now_s(), lambda: True)  # prepares what it needs
    return made


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[TemscriptEnd]:
    made = serve(FarEndContext("tem", simulation.world.clock, simulation))
    assert isinstance(made, TemscriptEnd)
    yield made
    made.close()
    simulation.world.column.blank(False)
    x, y = simulation.world.column.shift()
    simulation.world.column.shift_by(-x, -y)


@pytest.fixture
def scan(end: TemscriptEnd, simulation: ExsolutionSimulation) -> Iterator[TemscriptScan]:
    made = open_temscript(
        DriverContext("scan", simulation.world.clock, "station.toml"),
        address=end.addresses["http"],
        width_at_1x="0.1 m",
    )
    yield made
    end.faults.clear()
    made.close()


def _image(scan: TemscriptScan, simulation: ExsolutionSimulation) -> Frame:
    scan.arm(EXPOSURE, 1)
    try:
        (frame,) = scan.frames(simulation.world.clock.signal())
        return frame
    finally:
        scan.disarm()


def test_it_conforms(scan: TemscriptScan, simulation: ExsolutionSimulation) -> None:
    check_scan(scan, simulation.world.clock, EXPOSURE)


def test_images_are_those_of_the_field_that_was_asked_for(
    scan: TemscriptScan, simulation: ExsolutionSimulation
) -> None:
    scan.blank(False)
    spec = scan.arm(EXPOSURE, 1)
    (frame,) = scan.frames(simulation.world.clock.signal())
    scan.disarm()
    asked = simulation.world.field_of_view
    assert asked is not None
    assert asked.shape == (64, 64)
    assert asked.dwell_time_s == pytest.approx(2e-6)
    told = spec.channels["haadf"].axes["x"]
    assert told.step == pytest.approx(asked.pixel_size_nm, rel=1e-3)
    assert np.corrcoef(frame.data["haadf"].ravel(), frame.data["abf"].ravel())[0, 1] < 0


def test_a_shift_moves_the_simulated_field(
    scan: TemscriptScan, simulation: ExsolutionSimulation
) -> None:
    before = simulation.world.column.shift()
    scan.shift(5.0, -3.0)
    after = simulation.world.column.shift()
    assert np.subtract(after, before) == pytest.approx((5.0, -3.0), abs=1e-3)


@pytest.mark.parametrize(
    "fault", ["slow", "split", "drop", "duplicate", "garbage", "lose", "disconnect"]
)
def test_a_bad_reply_is_an_error_at_most_and_never_the_next_ones(
    scan: TemscriptScan, end: TemscriptEnd, simulation: ExsolutionSimulation, fault: str
) -> None:
    scan.blank(False)
    for after in (1, 3):
        end.faults.next(fault, after=after)
        with contextlib.suppress(HotstageError):
            _image(scan, simulation)
        end.faults.clear()
        scan.blank(False)
        frame = _image(scan, simulation)
        assert {name: data.shape for name, data in frame.data.items()} == {
            "haadf": (64, 64),
            "abf": (64, 64),
        }


def test_make_safe_blanks_also_after_a_lost_link(
    scan: TemscriptScan, end: TemscriptEnd, simulation: ExsolutionSimulation
) -> None:
    scan.blank(False)
    end.faults.unplug()
    scan.make_safe("a test")
    end.faults.unplug(False)
    give_up = time.monotonic() + 5
    while not simulation.world.column.blanked():
        assert time.monotonic() < give_up, "the beam was not blanked"
        time.sleep(0.02)
