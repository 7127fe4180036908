"""Scans on their wires: where the field and the parked probe are, and how soon the beam is blanked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.clock import WallClock
from acquire.errors import LinkError
from acquire.farends import FarEndContext
from acquire.instruments import Scan, ScanExposure
from acquire.station import DriverContext
from drivers.scans.open_beam import open_scan
from drivers.scans.temscript import open_temscript
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires import open_beam, temscript

RATE = 10.0
EXPOSURE = ScanExposure(("haadf",), (128, 128), 160.0, 8e-6)
"""1.25 nm for a pixel."""
Wire = tuple[Any, Callable[[DriverContext], Any]]


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    made = build(WallClock(RATE), seed=3, drift=False, texture=0.3, probe_current="1 nA")
    inner = made.instruments["scan"]
    assert isinstance(inner, Scan)
    take(inner, made, EXPOSURE)  # the first image takes seconds to prepare
    return made


def _temscript(context: FarEndContext) -> Wire:
    far_end = temscript.serve(context)
    # a magnification of 640 000, one of the far end's steps, is 160 nm then
    return far_end, lambda driver: open_temscript(
        driver,
        address=far_end.addresses["http"],
        width_at_1x="0.1024 m",
        field_tolerance=0.3,
        dwell_time=["100 ns", "20 ms"],
    )


def _open_beam(context: FarEndContext) -> Wire:
    far_end = open_beam.serve(context, full_scale="400 nm")
    return far_end, lambda driver: open_scan(
        driver, address=far_end.addresses["stream"], full_field="400 nm"
    )


WIRES = {"temscript": _temscript, "open_beam": _open_beam}


@pytest.fixture(params=sorted(WIRES))
def wire(request: pytest.FixtureRequest, simulation: ExsolutionSimulation) -> Iterator[Wire]:
    column = simulation.world.column
    column.blank(False)
    column.park(0.0, 0.0)
    column.shift_by(*(-shift for shift in column.shift()))
    context = FarEndContext("wire", simulation.world.clock, simulation, source="here")
    far_end, opening = WIRES[request.param](context)
    yield far_end, opening
    far_end.close()


@pytest.fixture
def scan(wire: Wire, simulation: ExsolutionSimulation) -> Iterator[Scan]:
    made = wire[1](DriverContext("scan", simulation.world.clock, "station.toml"))
    made.blank(False)
    yield made
    wire[0].faults.clear()
    made.close()


def take(scan: Scan, simulation: ExsolutionSimulation, exposure: ScanExposure) -> NDArray[Any]:
    scan.arm(exposure, 1)
    try:
        (frame,) = scan.frames(simulation.world.clock.signal())
    finally:
        scan.disarm()
    return np.asarray(frame.data["haadf"])


def moved(image: NDArray[Any], reference: NDArray[Any]) -> tuple[int, int]:
    """By how many pixels (x, y) an image is moved against another."""
    first, second = (np.fft.fft2(one - one.mean()) for one in (image, reference))
    peak = np.fft.ifft2(first * np.conj(second)).real
    y, x = np.unravel_index(int(peak.argmax()), peak.shape)
    rows, columns = peak.shape
    return int((x + columns // 2) % columns - columns // 2), int((y + rows // 2) % rows - rows // 2)


def test_center_and_shift_move_the_view_as_those_of_the_simulated_scan(
    scan: Scan, simulation: ExsolutionSimulation
) -> None:
    inner = simulation.instruments["scan"]
    assert isinstance(inner, Scan)
    plain = take(scan, simulation, EXPOSURE)
    there = take(scan, simulation, replace(EXPOSURE, center_nm=(20.0, 0.0)))
    scan.shift(0.0, -10.0)
    shifted = take(scan, simulation, EXPOSURE)
    for found, expected in ((moved(there, plain), (-16, 0)), (moved(shifted, plain), (0, 8))):
        # the steps of the magnification
        assert np.allclose(found, expected, atol=1)
    scan.shift(0.0, 10.0)
    scan.park(0.0, 0.0)
    simulation.world.column.blank(False)
    assert moved(plain, take(inner, simulation, EXPOSURE)) == (0, 0)


def test_a_parked_probe_is_where_it_was_put_and_lit(
    scan: Scan, simulation: ExsolutionSimulation
) -> None:
    column = simulation.world.column
    take(scan, simulation, EXPOSURE)
    assert column.blanked(), "the beam is dark after a frame"
    scan.park(12.0, -7.0)
    np.testing.assert_allclose(np.add(column.parked(), column.shift()), (12.0, -7.0), atol=0.1)
    assert not column.blanked()
    scan.shift(3.0, 0.0)
    np.testing.assert_allclose(np.add(column.parked(), column.shift()), (15.0, -7.0), atol=0.1)
    scan.blank(True)
    assert column.blanked()


def test_make_safe_in_a_frame_returns_at_once_and_ends_with_the_beam_blanked(
    scan: Scan, simulation: ExsolutionSimulation
) -> None:
    column, clock = simulation.world.column, simulation.world.clock
    take(scan, simulation, EXPOSURE)
    # 1.6 s on the wall
    scan.arm(replace(EXPOSURE, dwell_time_s=1e-3), None)
    taking = threading.Thread(target=lambda: list(scan.frames(clock.signal())))
    taking.start()
    while column.blanked():
        time.sleep(0.005)
    began = time.monotonic()
    scan.make_safe("test")
    assert time.monotonic() - began < 0.05
    taking.join(1.0)
    assert time.monotonic() - began < 0.25
    assert scan.blanked()
    assert column.blanked()


def test_make_safe_is_not_forgotten_while_the_cable_is_out(
    scan: Scan, wire: Wire, simulation: ExsolutionSimulation
) -> None:
    wire[0].faults.unplug()
    with pytest.raises(LinkError):
        take(scan, simulation, EXPOSURE)
    scan.make_safe("test")
    wire[0].faults.unplug(False)
    assert scan.blanked()
    assert simulation.world.column.blanked()
