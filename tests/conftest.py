"""What every test can use: recipes in short form, stations in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from acquire.clock import VirtualClock
from acquire.station import OpenStation, Station

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def _logs_of_children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Processes that tests start keep their logs with the tests, not with the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTSTAGE_LOG_DIR", str(tmp_path_factory.mktemp("logs")))
        yield


@pytest.fixture
def examples() -> Path:
    return ROOT / "examples"


@pytest.fixture
def virtual_station() -> Iterator[OpenStation]:
    """The simulated station in this process, in virtual time, its images left empty."""
    with Station.load("simulated").open(VirtualClock(), draft=True) as station:
        yield station
