"""The SIMPLON driver, opened on a stand-in of a DECTRIS detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.instruments import SpectrometerSetting, SpectrumExposure
from acquire.station import DriverContext
from drivers.spectrometers.simplon import Simplon, open_simplon
from tests.drivers.simplon_double import SimplonDouble

Opener = Callable[..., Simplon]
SETTING = SpectrometerSetting(400.0, 0.1, 100, dual=False)


@pytest.fixture
def double() -> Iterator[SimplonDouble]:
    with SimplonDouble() as made:
        yield made


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def opened(double: SimplonDouble, clock: WallClock) -> Iterator[Opener]:
    made: list[tuple[Simplon, DriverContext]] = []

    def make(**options: Any) -> Simplon:
        context = DriverContext("spectrometer", clock, "station.toml")
        given = {"rest": double.address, "stream": double.stream_address}
        axis = {"energy_offset": "400 eV", "dispersion": "0.1 eV"}
        driver = open_simplon(
            context, **{**given, **({} if "filter" in options else axis), **options}
        )
        made.append((driver, context))
        return driver

    yield make
    for driver, context in made:
        driver.close()
        context.shared.close()


def spectra(driver: Simplon, clock: WallClock, dwell_s: float, number: int) -> list[Any]:
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(dwell_s), number)
    try:
        return list(driver.frames(clock.signal()))
    finally:
        driver.disarm()
