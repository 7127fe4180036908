"""The GMS driver on a stand-in of our server, served by the hardened daemon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import LeaseError
from acquire.instruments import SpectrometerSetting, SpectrumExposure
from acquire.remote import HardDaemon
from acquire.station import DriverContext
from drivers.spectrometers.gms import Gms, open_gms

ROWS, CHANNELS = 8, 128
SETTING = SpectrometerSetting(400.0, 0.1, 100)
METHODS = ("hello", "status", "take", "release", "begin", "wait", "fetch", "abort")


class ServerDouble:
    """Keeps jobs in one thread; what it answers can be changed."""

    def __init__(self) -> None:
        self.server = "hotstage.gms"
        self.owner = ""
        self.jobs: list[tuple[str, dict[str, Any]]] = []
        self.calls: list[str] = []
        self.aborted = threading.Event()
        self.state: dict[str, Any] = {}
        self.energy_ev = 0.0
        self.disobeys_ev = 0.0
        self.shortens = 1.0
        self.busy = False
        self.lapsed = False
        self.step_ev = 0.0
        """Energy losses that the filter can take are this far apart; 0: all."""
        self.drifts_ev = 0.0
        """How far the filter has moved when spectra are taken."""
        self.token = ""
        self.deaf = threading.Event()
        """While it is set, calls wait for longer than anybody has patience."""
        self.protocol = 2
        self.spoil: Callable[[dict[str, Any]], dict[str, Any]] = lambda state: state
        self._due = 0.0
        self.slow_s = 0.0
        """How long the answer to ``begin`` is on its way."""

    def hello(self) -> dict[str, Any]:
        return {"server": self.server, "protocol": self.protocol, "python": "3.7.4"}

    def status(self) -> dict[str, Any]:
        self.calls.append("status")
        running = time.monotonic() < self._due and not self.aborted.is_set()
        busy = self.busy or running
        return {"busy": busy, "doing": "scan", "owner": "Maria", "now_s": time.monotonic()}

    def take(self, owner: str, token: str) -> str:
        self.calls.append("take")
        if self.owner and not self.lapsed and token != self.token:
            raise LeaseError(f"the microscope is in the hands of {self.owner}.")
        self.owner, self.token, self.lapsed = owner, token, False
        self.hear()
        return token

    def hear(self) -> None:
        if self.deaf.is_set():
            self.deaf.clear()
            time.sleep(1.0)

    def release(self, token: str) -> None:
        self.calls.append("release")
        self.owner = ""

    def begin(self, token: str, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
        self.calls.append("begin")
        if self.lapsed or token != self.token:
            raise LeaseError("the lease has lapsed.")
        self.jobs.append((kind, settings))
        self.aborted.clear()
        now = time.monotonic()
        parts, arrays = [], {}
        if kind == "tune":
            self.energy_ev = settings["energy_loss_ev"] + self.disobeys_ev
            if self.step_ev:
                self.energy_ev = round(self.energy_ev / self.step_ev) * self.step_ev
            taken = float(np.float32(self.energy_ev))
            parts.append(
                {"name": "tuned", "dispersion": settings["dispersion"], "energy_loss_ev": taken}
            )
            self._due = now
        else:
            self._due = now + 0.001
            for item in settings["exposures"]:
                end = self._due + item["exposure_s"] * self.shortens
                found = {
                    "energy_loss_ev": float(np.float32(item["energy_loss_ev"] + self.drifts_ev))
                }
                about = {"name": item["name"], "full": settings["full_counts"] and 3, **found}
                parts.append({**about, "start_s": self._due, "end_s": end})
                self._due = end
                arrays[item["name"]] = {"dtype": "<f8", "shape": [1, CHANNELS]}
        self.state = {"state": "done", "parts": parts, "arrays": arrays, "now_s": now}
        time.sleep(self.slow_s)
        return {"job": str(len(self.jobs)), "now_s": now}

    def wait(self, token: str, job_id: str, wait_s: float) -> dict[str, Any]:
        self.hear()
        if self.aborted.wait(min(wait_s, max(0.0, self._due - time.monotonic()))):
            return {**self.state, "state": "cut"}
        if time.monotonic() < self._due:
            return {"state": "running"}
        return self.spoil(self.state)

    def fetch(self, token: str, job_id: str, name: str, offset: int) -> bytes:
        value = 1000.0 if name == "low_loss" else 10.0
        data = (value + np.arange(CHANNELS)).astype("<f8").tobytes()
        return data[offset : offset + 300]

    def abort(self, token: str, job_id: str | None) -> None:
        self.calls.append("abort")
        if job_id in (None, str(len(self.jobs))):
            self.aborted.set()


@pytest.fixture
def double() -> ServerDouble:
    return ServerDouble()


@pytest.fixture
def daemon(double: ServerDouble) -> Iterator[HardDaemon]:
    made = HardDaemon()
    made.register("hotstage.gms", double, METHODS)
    made.start()
    yield made
    made.close()


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def opened(daemon: HardDaemon, clock: WallClock) -> Iterator[Callable[..., Gms]]:
    made: list[Gms] = []

    def make(**options: Any) -> Gms:
        given = {
            "address": daemon.address,
            "dispersions": ["0.05 eV", "0.1 eV"],
            "zero_loss_channel": 20.0,
            "camera_size": [CHANNELS, ROWS],
        }
        driver = open_gms(
            DriverContext("spectrometer", clock, "station.toml"), **{**given, **options}
        )
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def gms(opened: Callable[..., Gms]) -> Gms:
    return opened()


def spectra(gms: Gms, clock: WallClock, number: int = 1, dwell_s: float = 0.02) -> list[Any]:
    gms.arm(SpectrumExposure(dwell_s, 0.01), number)
    try:
        return list(gms.frames(clock.signal()))
    finally:
        gms.disarm()
