"""Real processes that run an experiment, to be killed."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RECIPE = """
hotstage: 1
name: to be killed
limits: {temperature: 900 °C}
safe_state: {heater: {cool: {to: 25 °C, rate: 100 °C/s}}}
record:
  overview: {scan: {detectors: [haadf, abf], size: 128, field_of_view: 160 nm, dwell_time: 2 µs}, every: 1 s}
  chip: {holder: {every: 200 ms}}
steps:
  - ramp: {to: 700 °C, rate: 5 °C/s}
  - hold: {for: 10 min}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


class Program:
    """A running `hotstage` command whose words can be waited for."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hotstage", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "QT_QPA_PLATFORM": "offscreen"},
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def until(self, pattern: str, timeout_s: float = 60.0) -> re.Match[str]:
        """The first line, from here on, that matches."""
        give_up = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, give_up - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"{pattern!r} was not said within {timeout_s} s: {self.said}")
            self.said.append(line)
            found = re.search(pattern, line)
            if found:
                return found
            if not line:
                pytest.fail(f"the program ended without saying {pattern!r}: {self.said}")

    def kill(self) -> None:
        """As if its memory had been taken away."""
        self.process.kill()
        self.process.wait(10)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*arguments: object) -> Program:
        started.append(Program(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()
