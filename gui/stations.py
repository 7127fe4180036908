"""Other stations: which are known, and a window of its own process on one of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acquire.errors import HotstageError, LinkError

PROGRAM = [sys.executable, "-P", "-m", "acquire.cli"]
"""-P: a folder "acquire" where we happen to be must not stand in for ours."""
WITHIN_S = 120.0
"""Wall seconds that instruments may take to answer before a window on them is given up."""
POLL_S = 0.1
_left: list[subprocess.Popen[bytes]] = []
"""Windows that outlive us: kept, so that nobody takes them for forgotten."""


@dataclass(frozen=True, slots=True)
class KnownStation:
    """A station that is installed, or why its file cannot be used."""

    name: str
    description: str
    simulated: bool
    trouble: str = ""


def known_stations() -> list[KnownStation]:
    """Every installed station, as ``hotstage stations`` lists them; reads files."""
    from acquire.station import Station, installed

    found = []
    for name in sorted(installed()):
        try:
            station = Station.load(name)
        except HotstageError as error:
            found.append(KnownStation(name, "", False, str(error)))
        else:
            found.append(KnownStation(name, station.file.description, station.simulated))
    return found


def open_window_on(station: str, stop: threading.Event) -> None:
    """Open a window on another station, and return when its instruments have answered there.

    Args:
        station: the name of an installed one, or an absolute path.
        stop: ends the waiting; it comes up, or not, by itself.

    Raises:
        LinkError: it cannot be opened; its own words are quoted, and nothing of it is left.
    """
    # where an open file cannot be removed, the new window's words stay behind
    with tempfile.TemporaryDirectory(
        prefix="hotstage-window-", ignore_cleanup_errors=True
    ) as folder:
        opened, said = Path(folder) / "opened", Path(folder) / "said.txt"
        command = [*PROGRAM, "gui", "--station", station, "--opened", str(opened)]
        flags: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            flags = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        with said.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **flags
            )
        give_up = time.monotonic() + WITHIN_S
        while process.poll() is None and not opened.exists():
            if stop.wait(POLL_S):
                break
            if time.monotonic() > give_up:
                process.terminate()
                process.wait()
                raise LinkError(f"its instruments did not answer within {WITHIN_S:g} s.")
        if process.poll() is None:
            _left.append(process)
            return
        words = " ".join(said.read_text(encoding="utf-8", errors="replace").split())
        raise LinkError(words.removeprefix("error: ") or "its window ended without a word.")
