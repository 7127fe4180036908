"""Ctrl-C ends a run; a second one switches the heater off, whatever the first one waits for."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from acquire.cli.running import _Runner
from acquire.stream import RunReport


class StuckEngine:
    """Its abort waits for a disk that does not answer before the heater is off."""

    def __init__(self) -> None:
        self.off = threading.Event()

    def abort(self, reason: str) -> None:
        self.off.wait(10)

    def heater_off(self, reason: str) -> None:
        self.off.set()


def test_a_second_ctrl_c_switches_off_while_the_first_waits_for_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine: Any = StuckEngine()
    experiment: Any = None
    runner = _Runner(engine, experiment, truth=False, yes=False)
    presses = iter([KeyboardInterrupt, KeyboardInterrupt])

    def watch() -> None:
        press = next(presses, None)
        if press is not None:
            raise press
        assert engine.off.wait(5), "the second Ctrl-C did not reach the engine"
        runner._ended.set()

    monkeypatch.setattr(runner, "_watch", watch)
    monkeypatch.setattr(runner, "_work", lambda: None)
    runner._report = report = RunReport("aborted", "Ctrl-C", 0.0, {})
    assert runner.run() is report
