"""What every test can use: recipes in short form, stations in virtual time."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from itertools import chain, groupby
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from acquire.clock import VirtualClock
from acquire.station import OpenStation, Station

ROOT = Path(__file__).parent.parent
WAITING_WORKERS = 3
"""Workers beyond the processor's cores: tests of wires and processes wait for half of their time."""
WORKER_BYTES = 1.5e9
"""What a worker takes at most, with the processes that its tests start."""

# how long an example takes is the machine's, and says nothing of what is tested
settings.register_profile("hotstage", deadline=None)
settings.load_profile("hotstage")


def pytest_xdist_auto_num_workers() -> int:
    """How many workers ``-n auto`` starts: as many as are kept busy and have memory."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    fit = int(psutil.virtual_memory().available / WORKER_BYTES)
    return max(1, min(cores + WAITING_WORKERS, fit))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole programs first, as one takes a minute; tests of drivers, which wait, beside all others."""
    groups = [list(group) for _, group in groupby(items, key=lambda item: item.parent)]
    first, waiting, others = (
        [group for group in groups if _kind(group[0]) == kind] for kind in (0, 1, 2)
    )
    placed = [(0.8 * n / max(1, len(waiting)), group) for n, group in enumerate(waiting)]
    placed += [(n / max(1, len(others)), group) for n, group in enumerate(others)]
    placed.sort(key=lambda pair: pair[0])
    items[:] = chain.from_iterable([*first, *(group for _, group in placed)])


def _kind(item: pytest.Item) -> int:
    return 0 if "processes" in item.path.parts else 1 if "conformance" in item.path.parts else 2


def pytest_collection() -> None:
    """Nothing is thrown away while thousands of tests are collected and all that they need imported."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What was collected and imported lives as long as the workers: no test looks through it again."""
    gc.freeze()
    gc.enable()


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
