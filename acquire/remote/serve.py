"""Runs an instrument server as a process: opens the station, serves it, and always ends safe and in order."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from acquire.errors import InstrumentError
from acquire.remote.child import VOICE, Owner
from acquire.remote.server import InstrumentServer
from acquire.remote.tls import server_tls
from acquire.station import Station

logger = logging.getLogger(__name__)

LINGER_S = 10.0
BEAT_S = 0.25
"""Wall seconds from one sign of life to the next, to a supervisor that asked for them."""
_POLL_S = 0.1
_SIGNALS = ("SIGTERM", "SIGINT", "SIGBREAK", "SIGHUP")


def serve(
    station: Station,
    *,
    listen: str | None = None,
    ready: Path | None = None,
    owner: Owner | None = None,
    linger_s: float = LINGER_S,
    stop: threading.Event | None = None,
    addresses: Mapping[str, str] | None = None,
    beats: bool = False,
) -> None:
    """Open a station in this process and serve it until a signal, the owner or ``stop`` ends it.

    When it can be reached it says so in one line of JSON on standard output, with ``address``,
    ``station`` and ``clock_rate``. When it ends, in whatever way, the instruments are made safe
    before the sockets are closed.

    Args:
        station: what to serve.
        listen: ``HOST:PORT``; default as the station says.
        ready: a file that gets the same line.
        owner: whose end makes safe at once, and ends the server ``linger_s`` later, unless clients
            are still connected or the holder is still cooling in its safe state.
        linger_s: wall seconds.
        stop: set to end it.
        addresses: where the far ends of the station's wires listen; default: in this process, too.
        beats: signs of life on standard output, after the first line.

    Raises:
        HotstageError: the station cannot be opened, the port cannot be had, or at the end it is not
            known whether all is safe.
    """
    ending = stop if stop is not None else threading.Event()
    with signals(ending), station.open(addresses=addresses) as opened:
        server = InstrumentServer(opened, listen, tls=server_tls(station, listen))
        try:
            server.start()
            _announce(server, station, opened.clock.rate, ready)
            if beats:
                threading.Thread(target=_beat, name="beats", daemon=True).start()
            _wait(server, ending, owner, linger_s)
        finally:
            server.close()
        if server.danger:
            words = "; ".join(f"{role}: {why}" for role, why in server.danger.items())
            raise InstrumentError(
                f"station {station.name!r} ends, and whether all is safe is not known: {words}. "
                "Go there, and switch off by hand."
            )


def _wait(
    server: InstrumentServer, ending: threading.Event, owner: Owner | None, linger_s: float
) -> None:
    orphan_since: float | None = None
    while not ending.wait(_POLL_S):
        if owner is None:
            continue
        if owner.quit.is_set():
            return
        if not owner.gone.is_set():
            continue
        if orphan_since is None:
            server.abandon("the program that started the instrument server is gone")
            orphan_since = time.monotonic()
        elif server.clients or not server.settled():
            orphan_since = time.monotonic()
        elif time.monotonic() - orphan_since > linger_s:
            logger.info("nobody came within %g s after the owner was gone", linger_s)
            return


def _beat() -> None:
    """Say for ever that this process lives: what stops it, or its interpreter, stops this, too."""
    while True:
        time.sleep(BEAT_S)
        try:
            VOICE.say({"alive": True})
        except (OSError, ValueError):  # nobody listens any more
            return


def _announce(
    server: InstrumentServer, station: Station, clock_rate: float, ready: Path | None
) -> None:
    facts = {"address": server.address, "station": station.name, "clock_rate": clock_rate}
    if ready is not None:
        partial = ready.with_name(ready.name + ".partial")
        partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        partial.replace(ready)
    VOICE.say(facts)


@contextmanager
def signals(ending: threading.Event) -> Iterator[None]:
    """Let the signals that ask a program to end set ``ending`` (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        ending.set()

    before: dict[int, Any] = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
