"""Real keys, clicks and wheels of an X server with a window manager, on a window with a real engine host."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acquire.engine.client import HostClient
from acquire.engine.status import EngineState
from acquire.store import open_run
from gui.bench.processes import engine_host, virtual_screen
from gui.twice import NOT_BEFORE_S

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not sys.platform.startswith("linux") and shutil.which("Xvfb") is None,
        reason="X servers are for Linux; on it, a missing one is a fault of the set-up",
    ),
]
EVENTUALLY_S = 60.0
"""Long enough for a machine that has other things to do; nothing is promised about it."""

RECIPE = """hotstage: 1
name: robot
record:
  overview: {scan: {detectors: [haadf], size: 128, field_of_view: 80 nm, dwell_time: 10 µs}, every: 1 s}
steps:
  - ramp: {to: 400 °C, rate: 5 °C/s}
  - hold: {for: 2 h}
"""


class Robot:
    """A hand on keyboard and mouse, and an eye on the window."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str]) -> None:
        self._process, self._environment = process, environment

    def do(self, *words: str) -> None:
        """Have xdotool make real events of the X server."""
        subprocess.run(
            ["xdotool", *words], env={**os.environ, **self._environment}, check=True, timeout=30
        )

    def look(self, words: str = "look") -> dict[str, Any]:
        """What the window shows now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], EVENTUALLY_S)
        line = self._process.stdout.readline() if ready else ""
        assert line, "the window's process does not answer"
        seen: dict[str, Any] = json.loads(line)
        return seen

    def wait(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look until something is so."""
        give_up_s = time.monotonic() + EVENTUALLY_S
        while not true(seen := self.look()):
            assert time.monotonic() < give_up_s, seen
        return seen

    def key(self, *keys: str) -> None:
        """Press and release keys."""
        self.do("key", "--delay", "30", *keys)

    def click(self, place: str, button: int = 1) -> None:
        """Click on a named place."""
        x, y = self.look()["places"][place]
        self.do("mousemove", str(x), str(y), "click", str(button))


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[tuple[Robot, HostClient]]:
    """A window on a virtual screen, whose engine host stands on the simulated station."""
    recipe = tmp_path / "robot.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    child = Path(__file__).with_name("screen_child.py")
    with virtual_screen("1600x1000") as screen, engine_host("simulated") as (_, address):
        environment = {**screen, "XDG_CONFIG_HOME": str(tmp_path / "config")}
        client = HostClient(address)
        words = [sys.executable, str(child), address, str(recipe), str(tmp_path)]
        with subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        ) as process:
            try:
                yield Robot(process, environment), client
            finally:
                client.close()
                if process.poll() is None:
                    process.terminate()


def test_an_operator_s_hands_on_a_run(robot: tuple[Robot, HostClient], tmp_path: Path) -> None:
    hand, host = robot
    hand.wait(lambda seen: seen["active"] and seen["run_enabled"])

    # a wheel and a stray letter over what is shown command nothing
    for place in ("image", "temperature"):
        hand.click(place, button=4)
        hand.click(place, button=5)
    hand.key("h", "space", "F9")
    assert "Not aborted" not in hand.look()["message"]
    assert host.status().state is EngineState.IDLE

    # Tab leads on and back, F6 from panel to panel, and Return presses what they lead to
    hand.key("F6")
    first = hand.wait(lambda seen: bool(seen["focus"]))["focus"]
    hand.key("Tab")
    hand.wait(lambda seen: seen["focus"] not in ("", first))
    hand.key("shift+Tab")
    hand.wait(lambda seen: seen["focus"] == first)
    while "colours" not in hand.look()["focus"]:
        hand.key("Tab")
    hand.key("Return")
    hand.wait(lambda seen: seen["theme"] == "day")
    hand.key("ctrl+t", "F5")
    hand.wait(lambda seen: "Again" in seen["run"] and "heats to 400.0 °C" in seen["message"])
    assert host.status().state is EngineState.IDLE
    time.sleep(NOT_BEFORE_S)  # the pace of a hand: what is pressed sooner is a double click
    hand.key("F5")
    seen = hand.wait(lambda seen: "RUNNING" in seen["state"] and seen["shown"] > 2)
    assert seen["theme"] == "night"

    # letters that are commands elsewhere are letters in the field of a note
    hand.key("m")
    hand.wait(lambda seen: bool(seen["field_focus"]))
    hand.do("type", "--delay", "20", "hot m h 5")
    hand.wait(lambda seen: seen["field"] == "hot m h 5")
    assert host.status().state is EngineState.RUNNING
    hand.key("Return")
    hand.wait(lambda seen: not seen["field"] and "hot m h 5" in seen["log"])

    hand.click("image")
    hand.key("space")
    hand.wait(lambda seen: "PAUSED" in seen["state"] and "Resume" in seen["pause"])
    hand.key("space")
    hand.wait(lambda seen: "RUNNING" in seen["state"])

    # a click on abort does nothing; F12 over a modal dialog does all
    hand.click("abort")
    hand.wait(lambda seen: "Not aborted" in seen["message"])
    assert host.status().state is EngineState.RUNNING
    hand.look("dialog")
    hand.wait(lambda seen: bool(seen["dialog"]))
    hand.key("F12")
    hand.wait(lambda seen: "ack." in seen["heater_off"] and "HEATER OFF" in seen["message"])
    hand.wait(lambda seen: "ABORTED" in seen["state"])
    hand.wait(lambda seen: seen["holder"].endswith("off"))
    hand.key("Escape")

    # it can be closed and is not missed
    hand.wait(lambda seen: bool(seen["active"]))
    hand.key("alt+F4")
    give_up_s = time.monotonic() + EVENTUALLY_S
    while hand._process.poll() is None:
        assert time.monotonic() < give_up_s
    assert host.status().state is EngineState.ABORTED
    assert "hot m h 5" in [entry.text for entry in open_run(tmp_path / "run").journal()]
