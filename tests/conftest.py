"""What every test can use: recipes in short form, stations in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acquire.clock import VirtualClock
from acquire.station import OpenStation, Station

ROOT = Path(__file__).parent.parent


@pytest.fixture
def examples() -> Path:
    return ROOT / "examples"


@pytest.fixture
def virtual_station() -> Iterator[OpenStation]:
    """The simulated station in this process, in virtual time, its images left empty."""
    with Station.load("simulated").open(VirtualClock(), draft=True) as station:
        yield station
