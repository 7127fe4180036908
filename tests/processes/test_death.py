"""Whatever dies, the heater is safe and what was recorded can be read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from acquire.engine.client import HostClient
from acquire.instruments import HolderState
from acquire.remote import attach, emergency_off
from acquire.store import open_run

pytestmark = pytest.mark.process
logger = logging.getLogger(__name__)
SAFE_S = 2.5
SAFE = (HolderState.MAKING_SAFE, HolderState.OFF)


def _seconds_until(reached: Callable[[], bool], timeout_s: float) -> float:
    began, tick = time.monotonic(), 0.02
    poll = threading.Event()
    while not reached():
        if time.monotonic() - began > timeout_s:
            pytest.fail(f"not reached within {timeout_s} s")
        poll.wait(tick)
    return time.monotonic() - began


@contextmanager
def _hosted_run(
    program: Callable[..., Any], recipe: Path, folder: Path
) -> Iterator[tuple[Any, HostClient]]:
    """An engine host in a process of its own, with a run that has recorded a few frames."""
    host = program("host", "simulated")
    client = HostClient(host.until(r'"address": "([^"]+)"').group(1))
    try:
        client.start(recipe.read_text(encoding="utf-8"), str(folder))
        _seconds_until(lambda: client.status().frames.get("overview", 0) > 3, 60.0)
        yield host, client
    finally:
        client.close()


def test_kill_of_the_engine_in_a_ramp_leaves_heater_safe_and_data_whole(
    program: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run = program("run", recipe, "-o", folder)
    address = run.until(r"Instrument server at (\S+);").group(1)
    run.until(r"running  1/2 ramp.* [1-9]\d\d\.\d °C")
    with attach(address) as observer:
        assert observer.holder.read().state is HolderState.RAMPING
        frames_before = open_run(folder).images("overview").sizes["time"]
        assert frames_before > 0
        run.kill()
        safe_s = _seconds_until(lambda: observer.holder.read().state in SAFE, SAFE_S)
        off_s = _seconds_until(lambda: observer.holder.read().state is HolderState.OFF, 10.0)
        assert observer.scan.blanked()
    logger.info("kill -9 of the engine: safe state after %.3f s, off %.2f s later", safe_s, off_s)
    killed = open_run(folder)
    assert killed.report is None
    images = killed.images("overview")
    assert images.sizes["time"] >= frames_before
    assert float(images["haadf"].mean()) > 1.0
    assert np.all(np.diff(images["frame_index"].values) == 1)
    with xr.open_datatree(folder / "run.zarr", engine="zarr") as tree:
        assert tree["images/overview/full"].sizes["time"] == images.sizes["time"]
        assert tree["holder"]["measured"].values.max() > 100.0


def test_abort_in_a_sixty_second_exposure_takes_effect_at_once(
    program: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    # 64² pixels of 0.1 s: 410 s of run time, 41 s on the wall; 78² makes it a whole minute
    text = recipe.read_text(encoding="utf-8").split("steps:")[0]
    text += (
        "steps:\n  - ramp: {to: 100 °C, rate: 100 °C/s}\n  - image: {scan: {detectors: [haadf], "
        "size: 78, field_of_view: 160 nm, dwell_time: 0.1 s}, name: slow}\n"
    )
    recipe.write_text(text, encoding="utf-8")
    run = program("run", recipe, "-o", tmp_path / "run")
    address = run.until(r"Instrument server at (\S+);").group(1)
    run.until("running  2/2 1 image")
    with attach(address) as observer:
        assert observer.holder.read().state is HolderState.HOLDING
        run.interrupt()
        took_s = _seconds_until(lambda: observer.holder.read().state in SAFE, 10.0)
    run.until("Aborted: Ctrl-C")
    assert run.process.wait(20) == 3
    logger.info("abort in a 60 s exposure: safe after %.3f s", took_s)
    assert took_s < 0.5
    report = open_run(tmp_path / "run").report
    assert report is not None
    assert report.outcome == "aborted"


def test_heater_off_at_the_server_aborts_the_run_and_says_who(
    program: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    with _hosted_run(program, recipe, tmp_path / "run") as (_, client):
        server = client.status().server_address
        began = time.monotonic()
        emergency_off(server, "smoke")
        with attach(server) as observer:
            assert observer.holder.read().state is HolderState.OFF
        logger.info("heater off: acknowledged after %.3f s", time.monotonic() - began)
        _seconds_until(lambda: not client.status().state.active, 20.0)
        status = client.status()
    assert status.state.value == "aborted", status.cause
    assert "emergency off (smoke)" in status.cause


def test_a_host_that_is_told_to_end_makes_its_run_safe_and_stores_it(
    program: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    with _hosted_run(program, recipe, tmp_path / "run") as (host, client):
        server = client.status().server_address
        with attach(server) as observer:
            host.process.terminate()
            _seconds_until(lambda: observer.holder.read().state in SAFE, SAFE_S)
        assert host.process.wait(30) == 0
    report = open_run(tmp_path / "run").report
    assert report is not None
    assert report.outcome == "aborted"
