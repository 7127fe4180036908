"""Outlives an instrument server: makes its hardware safe if it dies or hangs, and starts it again.

The supervisor does nothing else, so that little can end it. What it needs for making safe is
imported before the server starts: a new connection to the hardware is then made at once.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from acquire import plugins
from acquire.errors import HotstageError
from acquire.farends import FarEnds
from acquire.remote.child import ABANDONED, Child, Owner, facts
from acquire.remote.latched import Latched
from acquire.station import Station, make_safe_anew

logger = logging.getLogger(__name__)

START_S = 25.0
SILENCE_S = 1.5
"""A server that gives no sign of life for so long is ended: it could not end an exposure either."""
SAFE_BY_S = 2.5
"""Wall seconds in which the hardware is made safe over a new connection, else it is tried again."""
CRASHES = 3
CRASHES_WITHIN_S = 60.0
"""So many deaths in this time are a crash loop: the server stays down until a person starts it anew."""
_POLL_S = 0.05


class Supervisor:
    """Runs a station's far ends (if it has wires) and its instrument server, and watches over both.

    Args:
        station: what to serve.
        owner: who started this process; None in the foreground.
        linger_s: how long an abandoned server waits for somebody to take over, in wall s.
        listen: ``HOST:PORT``; default as the station says.
        stop: set to end all.
    """

    def __init__(
        self,
        station: Station,
        *,
        owner: Owner | None = None,
        linger_s: float = 10.0,
        listen: str | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._station = station
        self._owner = owner
        self._linger_s = linger_s
        self._listen = listen
        self._stop = stop if stop is not None else threading.Event()
        self._addresses: Mapping[str, str] | None = None
        self._far_ends: Child | None = None
        self._deaths: deque[float] = deque(maxlen=CRASHES)
        self._alive = time.monotonic()
        self._told_abandoned = False

    def run(self) -> None:
        """Serve until the owner, ``stop`` or the server itself ends it in order.

        Raises:
            HotstageError: far ends or server did not start in the first place.
        """
        try:
            self._start_far_ends()
            first = True
            while not self._ending():
                server = self._start_server(announce=first)
                first = False
                try:
                    died = self._watch(server)
                finally:
                    server.close()
                if not died:
                    return
                self._after_death(died)
                if self._looping():
                    self._stay_down()
                    return
        finally:
            if self._far_ends is not None:
                self._far_ends.close()

    # ------------------------------------------------------------------------- processes

    def _start_far_ends(self) -> None:
        if self._station.file.wires:
            self._far_ends = Child(["simulate"], "the simulator")
            self._far_ends.tell(facts(self._station))
        _preload(self._station)  # while they start
        if self._far_ends is None:
            return
        said = self._far_ends.ready(START_S, self._ending)
        self._addresses = {str(name): str(where) for name, where in said["addresses"].items()}

    def _start_server(self, *, announce: bool) -> Child:
        arguments = ["serve", "--beats", "--linger", str(self._linger_s)]
        if self._listen is not None:
            arguments += ["--listen", self._listen]
        server = Child(arguments, "the instrument server", self._heard)
        try:
            server.tell(facts(self._station, self._addresses))
            said = server.ready(START_S, self._ending)
        except BaseException:
            server.close()
            raise
        self._alive = time.monotonic()
        # who is connected finds it again where it was
        self._listen = str(said["address"])
        said = {**said, "server_pid": server.pid}
        if self._far_ends is not None:
            said["far_ends_pid"] = self._far_ends.pid
        if announce:
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
        logger.info("the instrument server is process %d, at %s", server.pid, self._listen)
        return server

    def _heard(self, line: dict[str, Any]) -> None:
        self._alive = time.monotonic()

    # --------------------------------------------------------------------------- watching

    def _watch(self, server: Child) -> str:
        """Why the server died; empty if it ended in order."""
        while not self._stop.wait(_POLL_S):
            if server.status is not None:
                if server.status == 0:
                    return ""
                return f"ended with status {server.status}: {server.log()[-1000:]}"
            if self._owner is not None:
                if self._owner.quit.is_set():
                    return ""
                if self._owner.gone.is_set() and not self._told_abandoned:
                    self._told_abandoned = True
                    server.tell(ABANDONED)
            silent_s = time.monotonic() - self._alive
            if silent_s > SILENCE_S:
                server.kill()
                server.wait(1.0)
                return f"gave no sign of life for {silent_s:.1f} s and was ended"
        return ""

    def _ending(self) -> bool:
        return self._stop.is_set() or (self._owner is not None and self._owner.quit.is_set())

    # ------------------------------------------------------------------------- after death

    def _after_death(self, how: str) -> None:
        logger.error("the instrument server %s", how)
        self._deaths.append(time.monotonic())
        self.make_safe(f"the instrument server {how}")

    def make_safe(self, reason: str) -> None:
        """Make the hardware safe over new connections, again and again until it is known to be."""
        tries = 0
        while True:
            tries += 1
            try:
                make_safe_anew(self._station, self._addresses or {}, reason, SAFE_BY_S)
            except HotstageError as error:
                logger.error("try %d: whether all is safe is not known: %s", tries, error)
            except Exception:
                logger.exception("try %d: whether all is safe is not known", tries)
            else:
                logger.warning("the hardware was made safe over a new connection")
                return
            if self._stop.wait(0.5) or self._ending():
                logger.error("ending without knowing whether all is safe: switch off by hand")
                return

    def _looping(self) -> bool:
        return (
            len(self._deaths) == CRASHES and self._deaths[-1] - self._deaths[0] < CRASHES_WITHIN_S
        )

    def _stay_down(self) -> None:
        """Answer every client with what is wrong, until a person has ended this."""
        fault = (
            f"the instrument server of station {self._station.name!r} died {CRASHES} times within "
            f"{CRASHES_WITHIN_S:g} s and stays down; the hardware was made safe. Read its log, find "
            "the cause, then start it anew."
        )
        logger.critical("%s", fault)
        with Latched(self._listen or "127.0.0.1:0", fault, self.make_safe):
            while not self._ending():
                if self._owner is not None and self._owner.gone.is_set():
                    return
                self._stop.wait(_POLL_S)


def supervise(station: Station, *, listen: str | None = None) -> None:
    """Supervise a station's server in the foreground until a signal."""
    from acquire.remote.serve import signals

    stop = threading.Event()
    with signals(stop):
        Supervisor(station, listen=listen, stop=stop).run()


def simulate(
    station: Station,
    owner: Owner | None = None,
    linger_s: float = 0.0,
    announce: Callable[[FarEnds], None] | None = None,
) -> None:
    """Run the far ends of a station in this process until a signal or the owner ends it.

    Args:
        station: with wires.
        owner: who started this process; None in the foreground.
        linger_s: how long the far ends outlive their owner, in wall s.
        announce: told when all of them listen; default says so in a line of JSON.
    """
    from acquire.remote.serve import signals

    stop = threading.Event()
    clock = station.make_clock()
    with signals(stop):
        far_ends = station.start_far_ends(clock)
        try:
            if announce is not None:
                announce(far_ends)
            else:
                sys.stdout.write(json.dumps({"addresses": far_ends.addresses}) + "\n")
                sys.stdout.flush()
            while not stop.wait(_POLL_S):
                if owner is None:
                    continue
                if owner.quit.is_set():
                    return
                if owner.gone.is_set():
                    # a server that was abandoned with us may still be making the heater safe
                    stop.wait(linger_s)
                    return
        finally:
            far_ends.close()


def _preload(station: Station) -> None:
    """Import all that making safe needs; raises PluginError now rather than then."""
    for driver in station.drivers:
        plugins.find(plugins.DRIVERS, driver)
