"""Heater off: tells the instrument server and the engine at the same time, again until each has answered."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

logger = logging.getLogger(__name__)

TRY_FOR_S = 5.0
TRY_EVERY_S = 0.25
SERVER = "instrument server"
ENGINE = "engine"


class EngineConnection(Protocol):
    """The little of an engine host that an emergency needs."""

    def heater_off(self, reason: str, who: str = "") -> None:
        """Make the instruments safe at once."""

    def close(self) -> None:
        """End the connection."""


@dataclass(frozen=True, slots=True)
class EmergencyReport:
    """What became of one way of a heater-off."""

    press: int
    """Which press of the button this belongs to, from 1."""
    path: str
    """``instrument server`` or ``engine``."""
    done: bool
    error: str
    """Why the last try failed; empty when acknowledged."""
    took_s: float
    """Wall seconds from the press."""
    final: bool
    """False while it is still being tried."""


class EmergencyLine:
    """Sends heater-off over both ways, each in a thread of its own, and reports on both.

    The threads are no daemons: a window that is closed right after the press still delivers it.
    Repeating is safe here, and only here, since making safe is idempotent.
    """

    def __init__(
        self,
        connect: Callable[[], EngineConnection],
        direct: Callable[[str, str], None],
        report: Callable[[EmergencyReport], None],
        who: str = "",
    ) -> None:
        self._who = who
        self._connect = connect
        self._direct = direct
        self._report = report
        self._presses = 0
        self._threads: list[threading.Thread] = []

    def press(self, server_address: str, reason: str) -> None:
        """Start both ways and return at once; an empty address leaves only the engine's."""
        self._presses += 1
        self._threads = self.threads()
        press, begun_s = self._presses, time.monotonic()
        logger.warning("heater off pressed (%d): %s", press, reason)
        ways: dict[str, Callable[[], None]] = {ENGINE: lambda: self._by_engine(reason)}
        if server_address:
            ways[SERVER] = lambda: self._direct(server_address, reason)
        else:
            error = "its address is not known: the engine has told none."
            self._report(EmergencyReport(press, SERVER, False, error, 0.0, True))
        for path, way in ways.items():
            thread = threading.Thread(
                target=self._insist,
                args=(press, path, way, begun_s),
                name=f"window-heater-off-{path.replace(' ', '-')}-{press}",
            )
            self._threads.append(thread)
            thread.start()

    def threads(self) -> list[threading.Thread]:
        """Those still under way."""
        return [thread for thread in self._threads if thread.is_alive()]

    def _by_engine(self, reason: str) -> None:
        host = self._connect()
        try:
            host.heater_off(reason, self._who)
        finally:
            host.close()

    def _insist(self, press: int, path: str, way: Callable[[], None], begun_s: float) -> None:
        said = False
        while True:
            try:
                way()
            except Exception as error:  # noqa: BLE001 - whatever it is, try again and tell
                took_s = time.monotonic() - begun_s
                final = took_s + TRY_EVERY_S > TRY_FOR_S
                if final or not said:
                    said = True
                    logger.warning("heater off by %s: %s", path, error)
                    text = f"{error}" or type(error).__name__
                    self._report(EmergencyReport(press, path, False, text, took_s, final))
                if final:
                    return
                time.sleep(TRY_EVERY_S)
            else:
                took_s = time.monotonic() - begun_s
                self._report(EmergencyReport(press, path, True, "", took_s, True))
                return
