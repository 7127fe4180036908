"""The window's line to the station itself: what its instruments say, and what is commanded by hand.

A thread asks for the instruments and tells the host that this window lives: when the window goes, or
stands still so that nobody can command from it, its control ends and what it has in hand is made safe.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from acquire.engine.clients import is_client
from acquire.engine.station_view import ContinuationView, StationView
from acquire.engine.status import HostApi
from acquire.errors import LeaseError
from acquire.instruments import ScanExposure
from gui.orders import Connect, Orders
from gui.polling import keep_polling

logger = logging.getLogger(__name__)

PERIOD_S = 0.4
OLD_AFTER_S = 2.0
"""Wall seconds after which what the host told of the instruments is not the present any more."""
FROZEN_AFTER_S = 4.0
"""A window that has not ticked for so long would not take even F12: it gives no sign of life then."""


@dataclass(frozen=True, slots=True)
class ContinuationPlan:
    """What going on with a run would do, or why it cannot be."""

    folder: str
    view: ContinuationView


class HandLine:
    """Any call returns at once; how a command ended is reported as of every other."""

    def __init__(self, connect: Connect, orders: Orders, stop: threading.Event, who: str) -> None:
        self._connect = connect
        self._orders = orders
        self._stop = stop
        self._view = StationView()
        self._told_s = -math.inf
        self._trouble = ""
        self._ticked_s = time.monotonic()
        self._may_attend = True
        self.who = who
        """How this window is called where it commands."""
        self.thread = threading.Thread(target=self._watch, name="window-instruments", daemon=True)
        self.thread.start()

    def view(self) -> StationView:
        """The station as the host told last."""
        return self._view

    def trouble(self) -> str:
        """Why what :meth:`view` gives is not the present; empty if it is."""
        if time.monotonic() - self._told_s <= OLD_AFTER_S:
            return ""
        return self._trouble or "the engine has not told of them yet"

    def tick(self) -> None:
        """The UI thread lives."""
        self._ticked_s = time.monotonic()

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
        """End what is on by hand: heater off, beam blanked."""
        self._order("End by hand", lambda host: host.manual_end(self.who), urgent=True)

    def note(self, text: str) -> None:
        """Keep a note in the journal."""
        self._order("Note", lambda host: host.note(text, self.who))

    def take_control(self) -> None:
        """Take control, also from another window or script."""
        self._order("Take control", lambda host: host.take_control(self.who), urgent=True)

    def give_control(self) -> None:
        """Give control to whoever wants it."""
        self._order("Give control", lambda host: host.give_control(self.who), urgent=True)

    def ask_continuation(self, folder: str) -> None:
        """See what going on with a run would do; a :class:`ContinuationPlan` follows among the events."""
        self._orders.ask(
            "Look at the run", lambda host: ContinuationPlan(folder, host.continuation(folder))
        )

    def continue_run(self, folder: str) -> None:
        """Go on with a run that was cut off."""
        self._order("Continue run", lambda host: host.continue_run(folder, self.who))

    def _order(self, name: str, call: Callable[[HostApi], None], urgent: bool = False) -> None:
        self._orders.order(name, call, urgent=urgent)

    def _watch(self) -> None:
        def poll(host: HostApi) -> None:
            view = host.instruments()
            self._view, self._told_s = view, time.monotonic()
            still_s = time.monotonic() - self._ticked_s
            if self._may_attend and still_s < FROZEN_AFTER_S:
                self._attend(host)
            self._stop.wait(PERIOD_S)

        def lost(error: str) -> None:
            self._trouble = error

        keep_polling(self._connect, self._stop, poll, lost)
        if is_client(self._view.driven_by, self.who):
            self._let_go()

    def _attend(self, host: HostApi) -> None:
        try:
            host.attend(self.who)
        except LeaseError as error:  # who may only look is never in control
            logger.info("%s", error)
            self._may_attend = False

    def _let_go(self) -> None:
        """The window closes: give control back now, and not when it is missed."""
        try:
            host = self._connect()
            try:
                host.give_control(self.who)
            finally:
                host.close()
        except Exception as error:  # noqa: BLE001 - the host misses us soon
            logger.warning("control was not given back by the window itself: %s", error)
