"""The driver of the Open Beam Interface and its far end, which were written apart, with each other."""

from __future__ import annotations

import contextlib
import threading
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
from drivers.scans.open_beam import OpenBeamScan, open_scan
from simulators.instruments import ExsolutionSimulation, build
from simulators.scan import SimulatedScan
from simulators.wires.open_beam import OpenBeamEnd, serve

RATE = 5.0
EXPOSURE = ScanExposure(("haadf",), (64, 64), 100.0, 2e-6)


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
def end(simulation: ExsolutionSimulation) -> Iterator[OpenBeamEnd]:
    made = serve(FarEndContext("obi", simulation.world.clock, simulation))
    assert isinstance(made, OpenBeamEnd)
    yield made
    made.close()
    simulation.world.column.blank(False)


@pytest.fixture
def scan(end: OpenBeamEnd, simulation: ExsolutionSimulation) -> Iterator[OpenBeamScan]:
    made = open_scan(
        DriverContext("scan", simulation.world.clock, "station.toml"),
        address=end.addresses["stream"],
        full_field="400 nm",
    )
    yield made
    end.faults.clear()
    made.close()


def _image(scan: OpenBeamScan, simulation: ExsolutionSimulation, exposure: ScanExposure) -> Frame:
    scan.arm(exposure, 1)
    try:
        (frame,) = scan.frames(simulation.world.clock.signal())
        return frame
    finally:
        scan.disarm()


def test_it_conforms(scan: OpenBeamScan, simulation: ExsolutionSimulation) -> None:
    check_scan(scan, simulation.world.clock, EXPOSURE)


def test_the_image_is_that_of_the_field_that_was_asked_for(
    scan: OpenBeamScan, simulation: ExsolutionSimulation
) -> None:
    scan.blank(False)
    exposure = ScanExposure(("haadf",), (64, 64), 100.0, 20e-6, center_nm=(10.0, -20.0))
    spec = scan.arm(exposure, 1)
    (frame,) = scan.frames(simulation.world.clock.signal())
    scan.disarm()
    asked = simulation.world.field_of_view
    assert asked is not None
    assert asked.pixel_size_nm == pytest.approx(100.0 / 64, rel=0.01)
    for axis, center in zip("xy", asked.center_nm, strict=True):
        told = spec.channels["haadf"].axes[axis]
        first = center + (0.5 - 32) * asked.pixel_size_nm
        assert told.offset == pytest.approx(first, abs=0.1)
        assert told.step == pytest.approx(asked.pixel_size_nm, rel=1e-3)
    # what the simulated scan itself sees there, with other noise
    simulation.world.column.blank(False)
    simulated = simulation.instruments["scan"]
    assert isinstance(simulated, SimulatedScan)
    seen = simulated.draw(asked, 999, simulation.world.clock.now_s() - 0.1, lambda: True)
    assert seen is not None
    assert np.corrcoef(seen["haadf"].ravel(), frame.data["haadf"].ravel())[0, 1] > 0.8


def test_a_cut_ends_soon_and_the_next_frame_is_whole(
    scan: OpenBeamScan, simulation: ExsolutionSimulation
) -> None:
    scan.blank(False)
    slow = ScanExposure(("haadf",), (128, 128), 100.0, 5e-3)
    scan.arm(slow, None)
    stop = simulation.world.clock.signal()
    threading.Timer(0.3, stop.set).start()
    begun = time.monotonic()
    assert list(scan.frames(stop)) == []
    assert time.monotonic() - begun < 0.3 + 0.25
    scan.disarm()
    assert _image(scan, simulation, EXPOSURE).data["haadf"].shape == (64, 64)


@pytest.mark.parametrize(
    "fault", ["slow", "split", "drop", "duplicate", "garbage", "lose", "disconnect"]
)
def test_a_bad_reply_is_an_error_at_most_and_never_shifts_the_next_frame(
    scan: OpenBeamScan, end: OpenBeamEnd, simulation: ExsolutionSimulation, fault: str
) -> None:
    scan.blank(False)
    good = _image(scan, simulation, EXPOSURE).data["haadf"].astype(float)
    end.faults.next(fault, after=1)
    with contextlib.suppress(HotstageError):
        _image(scan, simulation, EXPOSURE)
    end.faults.clear()
    scan.blank(False)
    again = _image(scan, simulation, EXPOSURE).data["haadf"].astype(float)
    assert np.corrcoef(good.ravel(), again.ravel())[0, 1] > 0.3


def test_make_safe_blanks_also_after_a_lost_link(
    scan: OpenBeamScan, end: OpenBeamEnd, simulation: ExsolutionSimulation
) -> None:
    scan.blank(False)
    end.faults.unplug()
    scan.make_safe("a test")
    end.faults.unplug(False)
    give_up = time.monotonic() + 5
    while not simulation.world.column.blanked():
        assert time.monotonic() < give_up, "the beam was not blanked"
        time.sleep(0.02)
