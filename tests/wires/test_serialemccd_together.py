"""The drivers of DigiScan and GIF and their far end, which were written apart, with each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError
from acquire.farends import FarEndContext, Shared
from acquire.instruments import (
    Frame,
    Scan,
    ScanExposure,
    Spectrometer,
    SpectrometerSetting,
    SpectrumExposure,
)
from acquire.station import DriverContext
from drivers.conformance import check_scan, check_spectrometer
from drivers.scans.digiscan import open_digiscan
from drivers.spectrometers.gif import open_gif
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.serialemccd import SerialEmccd, serve

RATE = 10.0
DISPERSIONS = ["0.05 eV", "0.1 eV", "0.25 eV", "0.5 eV", "1 eV"]


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=5, drift=False)


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[SerialEmccd]:
    made = serve(FarEndContext("emccd", simulation.world.clock, simulation))
    assert isinstance(made, SerialEmccd)
    yield made
    made.close()


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared()
    yield made
    made.close()


@pytest.fixture
def scan(end: SerialEmccd, simulation: ExsolutionSimulation, shared: Shared) -> Iterator[Scan]:
    context = DriverContext("scan", simulation.world.clock, "station.toml", shared)
    made: Any = open_digiscan(
        context,
        address=end.addresses["socket"],
        detectors={"haadf": 0, "abf": 1},
        width_at_1x="0.1 m",
    )
    yield made
    close(made)


@pytest.fixture
def spectrometer(
    end: SerialEmccd, simulation: ExsolutionSimulation, shared: Shared
) -> Iterator[Spectrometer]:
    context = DriverContext("spectrometer", simulation.world.clock, "station.toml", shared)
    made: Any = open_gif(
        context,
        address=end.addresses["socket"],
        dispersions=DISPERSIONS,
        zero_loss_channel=100,
    )
    yield made
    close(made)


def close(driver: Any) -> None:
    ending = getattr(driver, "close", None)
    if callable(ending):
        ending()


def taken(scan: Scan, simulation: ExsolutionSimulation, exposure: ScanExposure) -> Frame:
    scan.arm(exposure, 1)
    try:
        return next(iter(scan.frames(simulation.world.clock.signal())))
    finally:
        scan.disarm()


def test_the_scan_conforms_on_the_wire(scan: Scan, simulation: ExsolutionSimulation) -> None:
    check_scan(scan, simulation.world.clock)


def test_the_spectrometer_conforms_on_the_wire(
    spectrometer: Spectrometer, simulation: ExsolutionSimulation
) -> None:
    check_spectrometer(spectrometer, simulation.world.clock)


def test_an_image_shows_the_field_that_was_asked_for(
    scan: Scan, simulation: ExsolutionSimulation
) -> None:
    scan.blank(False)
    asked = ScanExposure(("haadf", "abf"), (48, 64), 80.0, 5e-6)
    frame = taken(scan, simulation, asked)
    seen = simulation.world.field_of_view
    assert seen is not None
    assert seen.field_of_view_nm == pytest.approx(80.0)
    assert seen.shape == (48, 64)
    assert frame.data["haadf"].shape == (48, 64)
    assert frame.data["haadf"].mean() != pytest.approx(frame.data["abf"].mean(), rel=0.1)


def test_in_a_rotated_scan_the_probe_is_parked_where_its_image_shows_the_point(
    end: SerialEmccd, simulation: ExsolutionSimulation, shared: Shared
) -> None:
    made: Any = open_digiscan(
        DriverContext("scan", simulation.world.clock, "station.toml", shared=shared),
        address=end.addresses["socket"],
        detectors={"haadf": 0},
        width_at_1x="0.1 m",
        rotation="90 deg",
    )
    taken(made, simulation, ScanExposure(("haadf",), (64, 64), 100.0, 2e-6))
    made.park(20.0, -10.0)
    # what an image turned clockwise shows at its right lies at the top of the plain one
    assert simulation.world.column.parked() == pytest.approx((-10.0, -20.0), abs=0.05)
    close(made)


def test_the_probe_is_parked_and_the_field_shifted_where_they_were_asked_to(
    scan: Scan, simulation: ExsolutionSimulation
) -> None:
    taken(scan, simulation, ScanExposure(("haadf",), (64, 64), 100.0, 2e-6))
    column = simulation.world.column
    before = column.shift()
    scan.shift(4.0, -3.0)
    after = column.shift()
    assert (after[0] - before[0], after[1] - before[1]) == pytest.approx((4.0, -3.0))
    scan.park(20.0, -10.0)
    shift, parked = column.shift(), column.parked()
    assert (shift[0] - after[0] + parked[0], shift[1] - after[1] + parked[1]) == pytest.approx(
        (20.0, -10.0), abs=0.05
    )
    scan.shift(-4.0, 3.0)


def test_a_core_loss_spectrum_is_that_of_the_simulated_spectrometer(
    scan: Scan, spectrometer: Spectrometer, simulation: ExsolutionSimulation
) -> None:
    scan.blank(False)
    clock = simulation.world.clock
    setting = SpectrometerSetting(430.0, 0.1, 2048, dual=False)
    within = simulation.instruments["spectrometer"]
    assert isinstance(within, Spectrometer)
    sums = []
    for instrument in (spectrometer, within):
        took = instrument.tune(setting)
        assert took.energy_offset_ev == pytest.approx(430.0, abs=0.1)
        instrument.arm(SpectrumExposure(2.0), 1)
        frame = next(iter(instrument.frames(clock.signal())))
        instrument.disarm()
        sums.append(np.asarray(frame.data["core_loss"], float).reshape(-1, 128).sum(axis=1))
    assert sums[0].shape == sums[1].shape
    assert np.allclose(sums[0] / sums[1], 1.0, atol=0.15)


@pytest.mark.parametrize("fault", ["garbage", "duplicate", "split", "disconnect"])
def test_a_reply_that_goes_wrong_spoils_no_later_one(
    scan: Scan, end: SerialEmccd, simulation: ExsolutionSimulation, fault: str
) -> None:
    asked = ScanExposure(("haadf",), (32, 32), 50.0, 2e-6)
    end.faults.next(fault)
    failed = ""
    try:
        taken(scan, simulation, asked)
    except InstrumentError as error:
        failed = str(error)
    end.faults.clear()
    assert failed == "" or len(failed) > 20
    frame = taken(scan, simulation, asked)
    assert frame.data["haadf"].shape == (32, 32)


def test_scan_and_spectrometer_share_the_one_connection(
    scan: Scan, spectrometer: Spectrometer, simulation: ExsolutionSimulation
) -> None:
    clock = simulation.world.clock
    spectrometer.tune(SpectrometerSetting(430.0, 0.1, 2048, dual=False))
    spectrometer.arm(SpectrumExposure(0.2), 3)
    spectra: list[Frame] = []
    thread = threading.Thread(target=lambda: spectra.extend(spectrometer.frames(clock.signal())))
    thread.start()
    for _ in range(5):
        scan.blanked()
        time.sleep(0.02)
    thread.join(20)
    spectrometer.disarm()
    assert len(spectra) == 3
