"""The DigiScan driver on a stand-in of the plug-in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.instruments import ScanExposure
from acquire.station import DriverContext
from drivers.scans.digiscan import DigiScan, open_digiscan
from tests.drivers.emccd_double import EmccdDouble

Opener = Callable[..., DigiScan]
SHORT = ScanExposure(("haadf", "abf"), (24, 32), 64.0, 2e-6)
LONG = ScanExposure(("haadf", "abf"), (32, 32), 64.0, 600e-6)


@pytest.fixture
def double() -> Iterator[EmccdDouble]:
    with EmccdDouble() as made:
        yield made


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def opened(double: EmccdDouble, clock: WallClock) -> Iterator[Opener]:
    contexts: list[DriverContext] = []
    scans: list[DigiScan] = []

    def make(**options: Any) -> DigiScan:
        context = DriverContext("scan", clock, "station.toml")
        given = {
            "address": double.address,
            "detectors": {"haadf": 0, "abf": 2},
            "width_at_1x": "0.1 m",
        }
        contexts.append(context)
        scans.append(open_digiscan(context, **{**given, **options}))
        return scans[-1]

    yield make
    for scan in scans:
        scan.close()
        scan.close()
    for context in contexts:
        context.shared.close()


@pytest.fixture
def scan(opened: Opener) -> DigiScan:
    return opened()


def acquisitions(double: EmccdDouble) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    return [(longs, doubles) for function, longs, doubles in double.requests if function == 19]


def until(look: Callable[[], bool], within_s: float = 8.0) -> None:
    end = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)
