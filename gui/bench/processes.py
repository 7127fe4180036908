"""The processes of the window bench: a source of frames, watched windows, a screen without a screen."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from acquire.errors import HotstageError

START_S = 60.0
"""Wall seconds that a process may take to be there."""
END_S = 30.0


@contextmanager
def virtual_screen(size: str = "2560x1440") -> Iterator[dict[str, str]]:
    """An X server that draws into memory, with a window manager: the environment for its clients.

    Raises:
        HotstageError: Xvfb or openbox is not installed, or does not come up.
    """
    missing = [name for name in ("Xvfb", "openbox") if shutil.which(name) is None]
    if missing:
        raise HotstageError(
            f"{' and '.join(missing)} cannot be found; on Debian: apt-get install xvfb openbox"
        )
    read_end, write_end = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{size}x24"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [*command, "-nolisten", "tcp"],
        pass_fds=(write_end,),
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
    ) as server:
        os.close(write_end)
        try:
            with os.fdopen(read_end, encoding="ascii") as numbers:
                number = _line(numbers, START_S, "Xvfb").strip()
            environment = {"DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}
            with subprocess.Popen(
                ["openbox"],
                env={**os.environ, **environment},
                stdin=quiet,
                stdout=quiet,
                stderr=quiet,
            ) as manager:
                try:
                    yield environment
                finally:
                    manager.terminate()
        finally:
            server.terminate()


class Child:
    """A process of ours that answers on its standard output, in JSON; ended when it is left."""

    def __init__(self, module: str, *words: str, environment: dict[str, str] | None = None) -> None:
        self._settings = tempfile.TemporaryDirectory(prefix="hotstage-window-")
        own = {"XDG_CONFIG_HOME": self._settings.name, "QT_QPA_PLATFORM": "offscreen"}
        self.module = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **own, **(environment or {})},
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._settings.cleanup()

    def ask(self, words: str, within_s: float = 10.0) -> dict[str, Any]:
        """Send a line and read the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.read(within_s)

    def read(self, within_s: float) -> dict[str, Any]:
        """The next line of JSON.

        Raises:
            HotstageError: none came within so many wall seconds.
        """
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(_line(self.process.stdout, within_s, self.module))
        return found

    def freeze(self, seconds: float) -> None:
        """Stop the process for a while, as a hang would."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def source(shape: int, per_s: float, *more: str) -> Iterator[tuple[Child, str]]:
    """A host that shows square frames of ``shape`` pixels at a rate, and its address.

    ``more`` are further words of :mod:`gui.bench.source`.
    """
    with tempfile.TemporaryDirectory(prefix="hotstage-source-") as folder:
        ready = Path(folder) / "ready.json"
        words = ("--shape", str(shape), "--per-s", str(per_s), "--ready", str(ready))
        with Child("gui.bench.source", *words, *more) as child:
            yield child, address_in(ready, child.process)


@contextmanager
def engine_host(station: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real engine host of a station in a process of its own, and its address."""
    with tempfile.TemporaryDirectory(prefix="hotstage-host-") as folder:
        ready = Path(folder) / "ready.json"
        command = [sys.executable, "-m", "acquire.cli", "host", station, "--ready", str(ready)]
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                yield process, address_in(ready, process)
            finally:
                process.terminate()
                process.wait(END_S)


def address_in(ready: Path, process: subprocess.Popen[str]) -> str:
    """The address that a process writes to a file when it serves."""
    give_up = time.monotonic() + START_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > give_up:
            raise HotstageError(f"{process.args!r} does not serve; run it by hand to see why.")
        time.sleep(0.02)
    return str(json.loads(ready.read_text(encoding="utf-8"))["address"])


def _line(stream: IO[str], within_s: float, who: str) -> str:
    ready, _, _ = select.select([stream], [], [], within_s)
    line = stream.readline() if ready else ""
    if not line:
        raise HotstageError(f"{who} said nothing within {within_s:.0f} s.")
    return line
