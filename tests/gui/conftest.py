"""A small engine host in this process, and windows that are attached to it."""

from __future__ import annotations

import gc
import os

os.environ["QT_QPA_PLATFORM"] = "offscreen"  # before Qt is imported

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtCore
from pytestqt.qtbot import QtBot

from acquire.engine.checked import CheckReport, Finding
from acquire.engine.live_maps import LiveMap
from acquire.engine.status import (
    EngineState,
    EngineStatus,
    EstimateView,
    LiveImage,
    LiveNote,
    LiveSeries,
    LiveSpectrum,
    PlannedStep,
    PlanView,
)
from acquire.errors import HotstageError, LinkError
from acquire.recipe import Recipe
from gui.app import Folders, application_with_theme
from gui.session import Session
from gui.settings import settings_path
from gui.window import OperatorWindow
from tests.gui.fake_station import FakeStation

RECIPE = """hotstage: 1
name: window test
record:
  overview: {scan: {detectors: [haadf, abf], size: 512, field_of_view: 120 nm, dwell_time: 1 µs}, every: 1 s}
estimate:
  particles: {from: overview.haadf}
steps:
  - ramp: {to: 700 °C, rate: 5 °C/s}
  - hold: {for: 20 min}
  - ramp: {to: 25 °C, rate: 50 °C/s}
"""


@lru_cache
def _noise(size: int) -> np.ndarray:
    """Eight images of noise: drawn once, as every test has a host."""
    return np.random.default_rng(8).poisson(40, (8, size, size)).astype(np.uint16)


@dataclass
class FakeHost(FakeStation):
    """A host that runs no experiment but answers like one, and remembers what it was told."""

    rate: float = 10.0
    frame_period_s: float = 0.05
    measured_behind: int = 0
    """How many frames the particle table is behind its image."""
    drift_nm_per_s: tuple[float, float] | None = None
    """How fast the specimen moves in the image, (x, y) per run second; None if nobody measures it."""
    gone: set[int] = field(default_factory=set)
    """Particles that are not found any more, by their id."""
    growing: LiveMap | None = None
    """A map so far."""
    size: int = 256
    delay_s: float = 0.0
    dead: bool = False
    refusal: str = ""
    state: EngineState = EngineState.IDLE
    changes: dict[str, object] = field(default_factory=dict)
    commands: list[tuple[object, ...]] = field(default_factory=list)
    begun_s: float = field(default_factory=time.monotonic)
    run: int = 1
    checked: list[str] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()
    """What a check of any recipe objects to."""

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(7)
        n = 60
        self._x, self._y = self._rng.uniform(4, 116, (2, n))
        self._d0 = self._rng.lognormal(np.log(5.0), 0.25, n)
        self._noise = _noise(self.size)
        axis = (np.arange(self.size) + 0.5) * 120 / self.size
        self._grid = np.meshgrid(axis, axis)
        self._drawn: dict[float, np.ndarray] = {}

    # what the engine is doing

    def now_s(self) -> float:
        return (time.monotonic() - self.begun_s) * self.rate

    def temperature(self, t_s: np.ndarray) -> np.ndarray:
        return np.minimum(25 + 5 * t_s, 700.0)

    def diameters(self, t_s: float) -> np.ndarray:
        return self._d0 * (0.6 + 0.8 * (1 - np.exp(-t_s / 120)))

    def _call(self) -> None:
        if self.delay_s:
            time.sleep(self.delay_s)  # what is being simulated is a host that takes its time
        if self.dead:
            raise LinkError("the engine host does not answer. Start it, or wait.")

    def _command(self, name: str, *arguments: object) -> None:
        self._call()
        self.commands.append((name, *arguments))
        if self.refusal:
            raise HotstageError(self.refusal)

    def _domes(self, t_s: float) -> np.ndarray:
        if t_s not in self._drawn:
            xx, yy = self._grid
            domes = np.zeros(xx.shape, np.float32)
            for x, y, size in zip(self._x, self._y, self.diameters(t_s), strict=True):
                r2 = ((xx - x) ** 2 + (yy - y) ** 2) / (size / 2) ** 2
                domes += np.sqrt(np.clip(1 - r2, 0, None)) * size * 12
            self._drawn[t_s] = domes.astype(np.uint16)
        return self._drawn[t_s]

    # HostApi

    def status(self) -> EngineStatus:
        self._call()
        t_s = self.now_s()
        measured = float(self.temperature(np.array(t_s)))
        diameters = self.diameters(t_s)
        base = EngineStatus(
            state=self.state,
            run_name="Ni exsolution, first look",
            folder="/data/runs/ni-exsolution-0042",
            station="simulated",
            simulated=True,
            clock_rate=self.rate,
            server_address="127.0.0.1:49000",
            t_s=t_s,
            step_index=(0 if measured < 699 else 1) if self.state is not EngineState.IDLE else -1,
            step_count=4,
            step_text="hold at 700 °C until mean_diameter >= 8 nm"
            if measured > 699
            else "ramp to 700 °C",
            step_progress=min(1.0, t_s / 600),
            eta_s=max(0.0, 1500 - t_s),
            measured_celsius=measured + 0.6,
            setpoint_celsius=measured,
            planned_celsius=measured,
            reading_t_s=t_s,
            holder_state="ramping" if measured < 699 else "holding",
            blanked=False,
            frames={"overview": int(t_s / self.rate / self.frame_period_s), "line": 0},
            estimates={
                "mean_diameter": EstimateView(float(diameters.mean()), 0.04, "nm", t_s),
                "count": EstimateView(60.0, 2.0, "1", t_s),
            },
            dose_e_per_nm2=1.9e5 * t_s,
            dose_limit_e_per_nm2=2e8,
            bytes_written=int(1e6 * t_s),
            disk_free_bytes=412_000_000_000,
        )
        base = replace(
            base, by_hand=self.manual.words, by_hand_of=self.manual.of, driven_by=self.driven_by
        )
        return replace(base, **self.changes)  # type: ignore[arg-type]

    def plan(self) -> PlanView:
        self._call()
        return PlanView(
            "Ni exsolution, first look",
            (
                PlannedStep(0, "ramp to 700 °C at 5 °C/s", 0.0, 135.0),
                PlannedStep(1, "hold for 20 min until mean_diameter >= 8 nm", 135.0, 1200.0),
                PlannedStep(2, "line scan, 50 points, 400 to 600 eV", 1335.0, 27.0),
                PlannedStep(3, "ramp to 25 °C at 50 °C/s", 1362.0, 13.5),
            ),
            (0.0, 135.0, 1362.0, 1375.5),
            (25.0, 700.0, 700.0, 25.0),
        )

    def image(self, stream: str, after: int = -1, wait_s: float = 0.0) -> LiveImage | None:
        self._call()
        if self.state is EngineState.IDLE or stream not in ("", "overview"):
            time.sleep(wait_s)
            return None
        deadline = time.monotonic() + wait_s
        while True:
            index = int((time.monotonic() - self.begun_s) / self.frame_period_s)
            if index > after:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, self.frame_period_s / 4))
        t_s = index * self.frame_period_s * self.rate
        moved = (np.nan, np.nan)
        domes = self._domes(round(t_s, -1))
        if self.drift_nm_per_s is not None:
            right, down = (round(rate * t_s * self.size / 120) for rate in self.drift_nm_per_s)
            moved = (right * 120 / self.size, down * 120 / self.size)
            domes = _moved(domes, right, down)
        haadf = self._noise[index % 8] + domes
        return LiveImage(
            index,
            "overview",
            index,
            t_s,
            120 / self.size,
            {"haadf": haadf, "abf": (400 - np.minimum(haadf, 400)).astype(np.uint16)},
            index - self.measured_behind,
            self.particles(t_s, *np.nan_to_num(moved)),
            ("overview",),
            -1 if self.drift_nm_per_s is None else index,
            *moved,
        )

    def particles(self, t_s: float, x_nm: float = 0.0, y_nm: float = 0.0) -> dict[str, np.ndarray]:
        """The table of the estimator ``particles``; those that are gone have left it."""
        x, y, d = self._x + x_nm, self._y + y_nm, self.diameters(t_s)
        there = np.array([number not in self.gone for number in range(len(x))])
        there &= (x > 0) & (x < 120) & (y > 0) & (y < 120)
        table = {
            "id": np.arange(len(x)),
            "x_nm": x,
            "y_nm": y,
            "diameter_nm": d,
            "diameter_sigma_nm": np.full(len(x), 0.05),
            "border": ((x - d / 2 < 0) | (x + d / 2 > 120)).astype(np.int64),
            "overlap": np.zeros(len(x), np.int64),
            "fitted": np.ones(len(x), np.int64),
        }
        return {name: column[there] for name, column in table.items()}

    def spectrum(self, after: int = -1, wait_s: float = 0.0) -> LiveSpectrum | None:
        self._call()
        serial = int(self.now_s() / self.rate / 0.3)
        if self.state is EngineState.IDLE or serial <= after:
            time.sleep(wait_s)
            return None
        energy = 400 + 0.1 * np.arange(2048)
        mean = 4e3 * (energy / 400) ** -2.5
        for onset, height in ((456.0, 900.0), (462.0, 500.0), (532.0, 500.0)):
            mean = mean + height * (0.4 + np.exp(-((energy - onset - 1.5) ** 2) / 2)) / (
                1 + np.exp(-(energy - onset) * 3)
            )
        low_axis = -20 + 0.1 * np.arange(2048)
        low = 1e5 * np.exp(-(low_axis**2) / 0.15) + 300 * np.exp(-((low_axis - 30) ** 2) / 60)
        rng = np.random.default_rng(serial)
        return LiveSpectrum(
            serial,
            "line",
            serial,
            self.now_s(),
            {"core_loss": rng.poisson(mean), "low_loss": rng.poisson(low)},
            {"core_loss": energy, "low_loss": low_axis},
        )

    def map(self, stream: str = "", after: int = -1, wait_s: float = 0.0) -> LiveMap | None:
        self._call()
        if self.growing is None or self.growing.serial <= after:
            time.sleep(wait_s)
            return None
        return self.growing

    def series(self, cursor: tuple[int, int, int] = (0, 0, 0)) -> LiveSeries:
        self._call()
        readings = int(self.now_s() / 0.5) if self.state is not EngineState.IDLE else 0
        estimates = readings // 4
        t_s = 0.5 * np.arange(cursor[0], readings)
        e_t = 2.0 * np.arange(cursor[1], estimates)
        measured = self.temperature(t_s) + np.random.default_rng(1).normal(0, 0.7, len(t_s))
        notes = (
            LiveNote(0.0, "state", "running"),
            LiveNote(2.0, "action", "ramp to 700 °C at 5 °C/s"),
            LiveNote(40.0, "mark", "first particles at the boundary"),
        )
        return LiveSeries(
            (readings, estimates, len(notes)),
            self.run,
            t_s,
            measured,
            self.temperature(t_s),
            e_t,
            {
                "mean_diameter": np.array([self.diameters(t).mean() for t in e_t]),
                "mean_diameter_sigma": np.full(len(e_t), 0.12),
                "count": 60 * (1 - np.exp(-e_t / 60)),
            },
            notes[cursor[2] :],
        )

    def check(self, recipe_yaml: str) -> CheckReport:
        self._call()
        self.checked.append(recipe_yaml)
        recipe = Recipe.parse(recipe_yaml)
        steps = tuple(
            PlannedStep(i, str(s), 100.0 * i, 100.0) for i, s in enumerate(recipe.flat_steps())
        )
        return CheckReport(
            PlanView(recipe.name, steps, (0.0, 135.0, 400.0), (25.0, 700.0, 25.0)),
            tuple(("steps", i) for i in range(len(steps))),
            ("done",) * len(steps),
            duration_s=408.0,
            dose_e_per_nm2=1e6,
            dose_limit_e_per_nm2=5e8,
            expected_bytes=300_000_000,
            free_bytes=412_000_000_000,
            findings=self.findings,
            station="simulated",
        )

    def start(self, recipe_yaml: str, folder: str, who: str = "") -> None:
        self._command("start", recipe_yaml, folder)
        self.state, self.begun_s, self.run = EngineState.RUNNING, time.monotonic(), self.run + 1

    def pause(self, who: str = "") -> None:
        self._command("pause")
        self.state = EngineState.PAUSED

    def resume(self, who: str = "") -> None:
        self._command("resume")
        self.state = EngineState.RUNNING

    def hold(self, who: str = "") -> None:
        self._command("hold")
        self.state = EngineState.PAUSED

    def abort(self, reason: str, who: str = "") -> None:
        self._command("abort", reason)
        self.state = EngineState.ABORTED

    def mark(self, text: str, who: str = "") -> None:
        self._command("mark", text)

    def confirm(self, who: str = "") -> None:
        self._command("confirm")

    def heater_off(self, reason: str, who: str = "") -> None:
        self._command("heater_off", reason)
        self.state = EngineState.ABORTED

    def clear_fault(self, who: str = "") -> None:
        self._command("clear_fault")

    def close(self) -> None:
        """Every connection is this same object: there is nothing to hang up."""

    def connect(self) -> FakeHost:
        self._call()
        return self


@dataclass
class FakeServer:
    """The direct line to an instrument server."""

    offs: list[tuple[str, str]] = field(default_factory=list)
    dead: bool = False

    def emergency(self, address: str, reason: str) -> None:
        if self.dead:
            raise LinkError("the instrument server does not answer")
        self.offs.append((address, reason))


def _moved(image: np.ndarray, right: int, down: int) -> np.ndarray:
    """An image moved by whole pixels; what comes into view is empty."""
    height, width = image.shape
    found = np.zeros_like(image)
    found[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return found


Open = Callable[..., OperatorWindow]


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "first_light.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A window remembers nothing of another test's, nor of the person's who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return settings_path()


@pytest.fixture(autouse=True)
def _no_window_left(own_settings: Path) -> Iterator[None]:
    """What a test's windows leave goes before the next: collected under an open one it crashes Qt."""
    yield
    application = QtCore.QCoreApplication.instance()
    if application is not None:
        application.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
        gc.collect()
        gc.freeze()  # what is left stays: the next test's windows are not to wait for it


@pytest.fixture
def open_window(qtbot: QtBot, host: FakeHost, server: FakeServer, tmp_path: Path) -> Iterator[Open]:
    """Open a window on the fake host, by default when its first status is there."""
    opened: list[OperatorWindow] = []

    def open_it(size: tuple[int, int] = (1280, 720), wait: bool = True) -> OperatorWindow:
        application_with_theme()
        session = Session(host.connect, server.emergency)
        window = OperatorWindow(session, Folders(tmp_path / "out"))
        opened.append(window)
        window.resize(*size)
        window.show()
        if wait:
            qtbot.waitUntil(lambda: "LIVE" in window.facts.link.text(), timeout=5000)
            qtbot.waitUntil(window.isActiveWindow, timeout=5000)  # shortcuts are dead before
        return window

    yield open_it
    while opened:  # pytest holds the list for longer than the windows may be there, see above
        window = opened.pop()
        window.editor.document.undo.setClean()  # what a test has typed is not asked about
        window.close()
        window.deleteLater()
        del window
    leftover = [t.name for t in threading.enumerate() if t.name.startswith("window-")]
    deadline = time.monotonic() + 3
    while leftover and time.monotonic() < deadline:
        qtbot.wait(20)
        leftover = [t.name for t in threading.enumerate() if t.name.startswith("window-")]
    assert leftover == []
