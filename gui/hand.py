"""The window's line to the station itself: what its instruments say, and what is commanded by hand.

A thread asks for the instruments and, for as long as this window has them in hand, tells the host
that it lives: when the window goes, the host makes everything safe.
"""

from __future__ import annotations

import getpass
import os
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass

from acquire.engine.station_view import ContinuationView, StationView
from acquire.engine.status import HostApi
from acquire.instruments import ScanExposure
from gui.orders import Connect, Orders
from gui.polling import keep_polling

PERIOD_S = 0.4
LENGTH = 80
"""A host shortens longer names."""


@dataclass(frozen=True, slots=True)
class ContinuationPlan:
    """What going on with a run would do, or why it cannot be."""

    folder: str
    view: ContinuationView


class HandLine:
    """Any call returns at once; how a command ended is reported as of every other."""

    def __init__(self, connect: Connect, orders: Orders, stop: threading.Event) -> None:
        self._connect = connect
        self._orders = orders
        self._stop = stop
        self._view = StationView()
        self.who = _who()
        """How this window is called where it has the instruments in hand."""
        self.thread = threading.Thread(target=self._watch, name="window-instruments", daemon=True)
        self.thread.start()

    def view(self) -> StationView:
        """The station as the host told last."""
        return self._view

    def heat(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Ramp to a temperature and hold it."""
        self._order(
            "Heat", lambda host: host.manual_heat(self.who, target_celsius, rate_celsius_per_s)
        )

    def cool(self, rate_celsius_per_s: float) -> None:
        """Ramp down, then off."""
        self._order("Cool", lambda host: host.manual_cool(self.who, rate_celsius_per_s))

    def hold(self) -> None:
        """Freeze the temperature."""
        self._order("Hold T", lambda host: host.manual_hold(self.who), urgent=True)

    def beam(self, for_s: float, x_nm: float, y_nm: float) -> None:
        """Un-blank the beam for a while."""
        self._order("Beam on", lambda host: host.manual_beam(self.who, for_s, x_nm, y_nm))

    def blank(self) -> None:
        """Blank the beam and end the live view."""
        self._order("Blank", lambda host: host.manual_blank(self.who), urgent=True)

    def look(self, exposure: ScanExposure, frames: int, for_s: float) -> None:
        """Take images that are only shown."""
        name = "Single image" if frames == 1 else "Live view"
        self._order(name, lambda host: host.manual_view(self.who, exposure, frames, for_s))

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Shift the scan."""
        self._order("Shift", lambda host: host.manual_shift(self.who, dx_nm, dy_nm))

    def end(self) -> None:
        """Give everything out of hand: heater off, beam blanked."""
        self._order("End by hand", lambda host: host.manual_end(self.who), urgent=True)

    def note(self, text: str) -> None:
        """Keep a note in the journal."""
        self._order("Note", lambda host: host.note(text))

    def ask_continuation(self, folder: str) -> None:
        """See what going on with a run would do; a :class:`ContinuationPlan` follows among the events."""
        self._orders.ask(
            "Look at the run", lambda host: ContinuationPlan(folder, host.continuation(folder))
        )

    def continue_run(self, folder: str) -> None:
        """Go on with a run that was cut off."""
        self._order("Continue run", lambda host: host.continue_run(folder))

    def _order(self, name: str, call: Callable[[HostApi], None], urgent: bool = False) -> None:
        self._orders.order(name, call, urgent=urgent)

    def _watch(self) -> None:
        def poll(host: HostApi) -> None:
            view = host.instruments()
            self._view = view
            if view.manual.of == self.who:
                host.manual_keep(self.who)
            self._stop.wait(PERIOD_S)

        keep_polling(self._connect, self._stop, poll, lambda error: None)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # nobody is logged in under this number
        user = "somebody"
    # the number first: what is cut off must not make two windows alike
    return f"window {os.getpid()} of {user} on {platform.node() or 'this computer'}"[:LENGTH]
