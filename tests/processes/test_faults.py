"""A frozen engine and a dead instrument server end a run safely, with everything on the disk."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from acquire.bench.faults import all_faults, try_fault
from acquire.bench.faults_station import SAFE_S

logger = logging.getLogger(__name__)


@pytest.mark.process
def test_a_frozen_engine_and_a_dead_server_cost_no_heater_and_no_data(tmp_path: Path) -> None:
    rows = [replace(f, times=1) for f in all_faults(200) if f.what.startswith("SIGSTOP: engine")]
    rows += [replace(f, times=1) for f in all_faults(200) if f.name == "server"]
    with ThreadPoolExecutor(len(rows)) as pool:
        lines = list(pool.map(lambda fault: try_fault(fault, tmp_path), rows))
    for line in lines:
        logger.info("%s: %s", line.what, line.document())
        assert line.good, line.outcome.problems
        assert line.outcome.readable > 0
        assert line.outcome.safe_s <= SAFE_S
