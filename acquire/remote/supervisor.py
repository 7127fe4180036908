"""Outlives an instrument server: makes its hardware safe if it dies or hangs, and starts it again.

The supervisor does nothing else, so that little can end it. What it needs for making safe is
imported before the server starts: a new connection to the hardware is then made at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from acquire import plugins
from acquire.errors import HotstageError, InstrumentError
from acquire.farends import FarEnds
from acquire.remote.child import ABANDONED, QUIT, VOICE, Child, Owner, facts
from acquire.remote.latched import Latched
from acquire.remote.logs import log_folder
from acquire.remote.tls import server_tls
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
QUIT_S = 5.0
"""Wall seconds in which a server that was told to end in order must have ended."""
LAST_TRIES = 3
"""Who is ended itself tries so often to make safe before it says that it does not know."""
LOOK_AGAIN_S = 10.0
"""While the server stays down, the hardware is made safe again so often."""
RESTART_PAUSE_S = 2.0
"""Before a server that did not start again is started once more."""
HELD_UP_S = 0.5
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
        self._making_safe = threading.Lock()
        self._unsafe = False

    def run(self) -> None:
        """Serve until the owner, ``stop`` or the server itself ends it in order.

        Raises:
            HotstageError: far ends or server did not start in the first place, or it had to end
                without knowing whether all is safe.
        """
        try:
            self._start_far_ends()
            died = self._serve_once(first=True)
            while died:
                self._after_death(died)
                if self._left():
                    return
                if self._looping():
                    self._stay_down(died)
                    return
                died = self._serve_once(first=False)
        except HotstageError:
            # what is told to end while it starts is no error
            if self._unsafe or not self._ending():
                raise
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

    def _serve_once(self, *, first: bool) -> str:
        """Start a server and watch it to its end: why it died; empty if it ended in order."""
        try:
            server = self._start_server(announce=first)
        except HotstageError as error:
            if first or self._ending():
                raise
            died = f"did not start again: {error}"
            self.make_safe(f"the instrument server {died}")
            self._stop.wait(RESTART_PAUSE_S)  # a port or a device may come free
            return died
        try:
            died = self._watch(server)
        except Exception as error:
            logger.exception("the server cannot be watched any more")
            died = f"could not be watched ({error!r}) and was ended"
        try:
            if died:
                server.kill()
                server.wait(1.0)
                # before anything of the dead process is waited for
                self.make_safe(f"the instrument server {died}")
        finally:
            server.close()
        return died

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
            _say(said)
        logger.info("the instrument server is process %d, at %s", server.pid, self._listen)
        return server

    def _heard(self, line: dict[str, Any]) -> None:
        self._alive = time.monotonic()

    # --------------------------------------------------------------------------- watching

    def _watch(self, server: Child) -> str:
        """Why the server died; empty if it ended in order."""
        looked = time.monotonic()
        quit_by: float | None = None
        told_abandoned = False
        while server.status is None:
            if quit_by is None and self._ending():
                quit_by = time.monotonic() + QUIT_S
                _tell(server, QUIT)
            gone = self._owner is not None and self._owner.gone.is_set()
            if gone and not told_abandoned:
                told_abandoned = True
                _tell(server, ABANDONED)
            now = time.monotonic()
            if now - looked > HELD_UP_S:
                # it was us who were not there: what the server said meanwhile is still to be read
                self._alive += now - looked
            looked = now
            if now - self._alive > SILENCE_S:
                return f"gave no sign of life for {now - self._alive:.1f} s and was ended"
            if quit_by is not None and now > quit_by:
                return f"did not end in order within {QUIT_S:g} s and was ended"
            server.wait(_POLL_S)
        if server.status == 0:
            return ""
        return f"ended with status {server.status}: {server.log()[-1000:]}"

    def _ending(self) -> bool:
        return self._stop.is_set() or (self._owner is not None and self._owner.quit.is_set())

    # ------------------------------------------------------------------------- after death

    def _after_death(self, how: str) -> None:
        logger.error("the instrument server %s", how)
        self._deaths.append(time.monotonic())

    def make_safe(self, reason: str) -> None:
        """Make the hardware safe over new connections, again and again until it is known to be.

        Raises:
            InstrumentError: this program is being ended, and it is still not known.
        """
        tries = 0
        while True:
            tries += 1
            try:
                self.make_safe_once(reason)
            except HotstageError as error:
                logger.error("try %d: whether all is safe is not known: %s", tries, error)
                cause = str(error)
            except Exception as error:
                logger.exception("try %d: whether all is safe is not known", tries)
                cause = repr(error)
            else:
                self._unsafe = False
                return
            if self._ending() and tries >= LAST_TRIES:
                self._unsafe = True
                raise InstrumentError(
                    f"station {self._station.name!r} ends, and whether all is safe is not known: "
                    f"{cause}. Go there, and switch off by hand."
                )
            self._stop.wait(0.5)

    def make_safe_once(self, reason: str) -> None:
        """Make the hardware safe over new connections; raises InstrumentError if that is not known."""
        if self._far_ends is not None and self._far_ends.status is not None:
            logger.error("the simulator has ended, and what it simulated with it")
            return
        with self._making_safe:  # a device may know but one connection
            make_safe_anew(self._station, self._addresses or {}, reason, SAFE_BY_S)
        logger.warning("the hardware was made safe over a new connection")

    def _look_again(self, reason: str) -> None:
        try:
            self.make_safe_once(reason)
        except HotstageError as error:
            logger.error("whether all is safe is not known: %s", error)
        except Exception:
            logger.exception("whether all is safe is not known")

    def _looping(self) -> bool:
        return (
            len(self._deaths) == CRASHES and self._deaths[-1] - self._deaths[0] < CRASHES_WITHIN_S
        )

    def _stay_down(self, how: str) -> None:
        """Answer every client with what is wrong, until a person has ended this."""
        fault = (
            f"the instrument server of station {self._station.name!r} died {CRASHES} times within "
            f"{CRASHES_WITHIN_S:g} s and stays down; the hardware was made safe. Find the cause (logs "
            f"are in {log_folder()}), then start it anew. The last time it {how}"
        )
        logger.critical("%s", fault)
        while not self._left():
            try:
                listen = self._listen or self._station.file.server.listen
                latched = Latched(
                    listen, fault, self.make_safe_once, server_tls(self._station, listen)
                )
            except HotstageError as error:  # it stays down all the same
                logger.error("nobody can be told of that: %s", error)
                self._stop.wait(RESTART_PAUSE_S)
                continue
            with latched:
                looked = time.monotonic()
                while not self._left():
                    self._stop.wait(_POLL_S)
                    if time.monotonic() - looked > LOOK_AGAIN_S:
                        # a command of the dead server may have been carried out late
                        self._look_again(fault)
                        looked = time.monotonic()

    def _left(self) -> bool:
        return self._ending() or (self._owner is not None and self._owner.gone.is_set())


def _tell(server: Child, line: str) -> None:
    try:
        server.tell(line)
    except HotstageError as error:  # its end is noticed in a moment
        logger.info("%s", error)


def _say(said: Mapping[str, Any]) -> None:
    try:
        VOICE.say(said)
    except OSError as error:  # so is the end of who started us
        logger.info("nobody hears where the server is: %s", error)


def supervise(
    station: Station,
    *,
    listen: str | None = None,
    owner: Owner | None = None,
    linger_s: float = 10.0,
) -> None:
    """Supervise a station's server until a signal, or its owner, ends it; see :class:`Supervisor`."""
    from acquire.remote.serve import signals

    stop = threading.Event()
    with signals(stop):
        Supervisor(station, owner=owner, linger_s=linger_s, listen=listen, stop=stop).run()


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
                VOICE.say({"addresses": far_ends.addresses})
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
