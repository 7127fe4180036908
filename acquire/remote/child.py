"""Processes that one program starts for a station, and how the two talk: lines of JSON on standard in- and output.

The child's standard input is its leash: the first line tells it what to do, ``quit`` is an orderly
end, and the end of the pipe is the end of the program that started it, however that ended.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, TextIO

from acquire.errors import ConfigError, HotstageError, LinkError
from acquire.station import Station

logger = logging.getLogger(__name__)

END_S = 5.0
QUIT = "quit"
ABANDONED = "abandoned"
"""The program that started all of it is gone; said by a supervisor that is still there."""


class Owner:
    """The program that started this one, at the other end of standard input."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._rest = b""
        self.gone = threading.Event()
        self.quit = threading.Event()
        self.addresses: dict[str, str] | None = None
        """Where the far ends of the station's wires listen; None if they are not running yet."""

    def station(self) -> Station:
        """The station that it speaks of, from the first line; raises ConfigError."""
        try:
            given = json.loads(self._line())
            text, source, seed = given["text"], given["source"], given.get("seed")
            self.addresses = given.get("addresses")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"no station came on standard input ({type(error).__name__}: {error}); "
                "start servers with `hotstage serve STATION`."
            ) from error
        station = Station.parse(str(text), str(source))
        return station if seed is None else station.with_seed(int(seed))

    def watch(self) -> None:
        """Begin to notice its end."""
        threading.Thread(target=self._watch, name="owner-watch", daemon=True).start()

    def _watch(self) -> None:
        while line := self._line().strip().decode("utf-8", "replace"):
            if line == QUIT:
                self.quit.set()
                return
            if line == ABANDONED:
                self.gone.set()
        self.gone.set()

    def _line(self) -> bytes:
        # os.read, because a thread inside a buffered stdin breaks the interpreter's exit
        while b"\n" not in self._rest:
            try:
                chunk = os.read(self._fd, 65536)
            except OSError:
                chunk = b""
            if not chunk:
                return b""
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line + b"\n"


class Voice:
    """What this process says to the program that started it, in lines of JSON."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stream: TextIO | None = None

    def reserve(self) -> None:
        """Keep standard output for what is said here; what anything else prints goes to the log.

        A vendor's library may greet on it, from C, too, and a program that it starts would hold it open.
        """
        sys.stdout.flush()
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def say(self, found: Mapping[str, Any]) -> None:
        """Say one line; raises OSError if nobody listens any more."""
        with self._lock:
            stream = self._stream or sys.stdout
            stream.write(json.dumps(found) + "\n")
            stream.flush()


VOICE = Voice()


def facts(station: Station, addresses: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a child is told of a station in its first line."""
    simulation = station.file.simulation
    return {
        "source": station.source,
        "text": station.text,
        "seed": None if simulation is None else simulation.seed,
        "addresses": None if addresses is None else dict(addresses),
    }


class Child:
    """A process of ours, ``python -m acquire.remote``, that lives no longer than it is needed.

    It is in a session (on Windows a process group) of its own, so that an interrupt from the
    keyboard reaches this program, which can then end in order, and not the child.

    Args:
        arguments: of its command line.
        what: what it is, for messages.
        heard: called with every line of JSON that it says after the first, from a thread.
        end_s: wall seconds that it may take to end in order.
    """

    def __init__(
        self,
        arguments: list[str],
        what: str,
        heard: Callable[[dict[str, Any]], None] = lambda line: None,
        end_s: float = END_S,
    ) -> None:
        self._end_s = end_s
        self._was_ready = False
        self._what = what
        self._heard = heard
        self._log: IO[bytes] = tempfile.TemporaryFile(prefix="hotstage-")  # noqa: SIM115
        self._process = subprocess.Popen(
            # -P: what lies in the working folder is data, and never imported
            [sys.executable, "-P", "-m", "acquire.remote", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            **_OWN_SESSION,
        )
        self._first: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="child-output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def tell(self, line: str | Mapping[str, Any]) -> None:
        """Write a line to it; raises LinkError if it is gone, with what it said."""
        pipe = self._process.stdin
        text = line if isinstance(line, str) else json.dumps(line)
        try:
            if pipe is not None:
                pipe.write(text.encode() + b"\n")
                pipe.flush()
        except (OSError, ValueError) as error:
            raise self._failed("ended at once") from error

    def ready(self, within_s: float, ended: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Its first line, which says that it can be used.

        Raises:
            LinkError: it did not start; with what it said.
        """
        give_up = time.monotonic() + within_s
        while True:
            try:
                line = self._first.get(timeout=0.1)
                break
            except queue.Empty:
                if ended():
                    raise LinkError(f"{self._what} is not needed any more.") from None
                if time.monotonic() > give_up:
                    raise self._failed(
                        f"did not say that it is ready within {within_s:g} s"
                    ) from None
        try:
            found: dict[str, Any] = {**json.loads(line)}
        except (ValueError, TypeError) as error:
            raise self._failed("did not start") from error
        self._was_ready = True
        return found

    def log(self) -> str:
        """The last lines that it wrote to its standard error."""
        if self._log.closed:
            return ""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - 4000))
        return self._log.read().decode("utf-8", "replace").strip()

    def kill(self) -> None:
        """End it at once, also if it is stopped."""
        self._process.kill()

    def wait(self, within_s: float) -> bool:
        """Whether it has ended within a time."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Have it end in order, and wait until it has; idempotent."""
        if self._log.closed:
            return
        pipe = self._process.stdin
        try:
            if pipe is not None and not pipe.closed:
                pipe.write(QUIT.encode() + b"\n")
                pipe.close()
        except OSError:
            logger.debug("%s is gone already", self._what)
        within_s = self._end_s
        for end in (self._process.terminate, self._process.kill):
            if self.wait(within_s):
                break
            logger.warning("%s (process %d) does not end; it is made to", self._what, self.pid)
            end()
            within_s = END_S
        self._process.wait()
        if self._was_ready and self._process.returncode:
            logger.error(
                "%s ended with status %d: %s",
                self._what,
                self._process.returncode,
                self.log()[-1000:] or "it said nothing",
            )
        # a program that it started may hold its output open for as long as it likes, and closing
        # what our thread reads would wait for that
        self._reader.join(1.0)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        self._log.close()

    def _failed(self, what: str) -> HotstageError:
        if not self.wait(1.0):
            logger.debug("%s still runs", self._what)
        said = self.log() or "it said nothing"
        return LinkError(f"{self._what} {what}: {said}")

    def _read(self) -> None:
        pipe = self._process.stdout
        first = True
        if pipe is not None:
            for line in pipe:  # all of it, so that a talkative child never blocks on a full pipe
                if first:
                    self._first.put(line)
                else:
                    self._tell_heard(line)
                first = False
        self._first.put(b"")

    def _tell_heard(self, line: bytes) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            logger.info("%s says: %s", self._what, line[:500].decode("utf-8", "replace").strip())
            return
        if isinstance(found, dict):
            self._heard(found)


_OWN_SESSION: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if os.name == "nt"
    else {"start_new_session": True}
)
