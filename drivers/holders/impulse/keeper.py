"""Brings the holder to its safe state, however often it must be tried, in a thread of its own."""

from __future__ import annotations

import logging
import math
import threading
import time

from acquire.clock import Clock
from acquire.errors import HotstageError, LimitError, LinkError
from acquire.instruments import SafeState
from drivers.holders.impulse.control import ControlSocket
from drivers.holders.impulse.program import Program
from drivers.holders.impulse.situation import (
    COLD_WITHIN_CELSIUS,
    LATE_COMMAND_S,
    Safing,
    Situation,
)
from drivers.holders.impulse.stream import Measurement

logger = logging.getLogger(__name__)

PERIOD_S = 0.1
STATUS_PERIOD_S = 2.0
RETRY_S = 0.2
SHORT_RAMP_S = 1.0
"""That a ramp time of 0 is taken is documented nowhere; where it is refused, this is."""
JOIN_S = 2.0


class Keeper:
    """Works on what ``situation.safing`` asks for; also asks now and then for the status of Impulse.

    Args:
        situation: shared with the holder.
        control: a command socket of its own, so that no hanging command is waited for.
        clock: the station's.
    """

    def __init__(self, situation: Situation, control: ControlSocket, clock: Clock) -> None:
        self._situation = situation
        self._control = control
        self._clock = clock
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="impulse-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def join(self) -> None:
        """Wait for the end, which comes when the situation has ended."""
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)

    def _keep(self) -> None:
        asked = time.monotonic()
        while True:
            self._wake.wait(PERIOD_S)
            self._wake.clear()
            with self._situation.lock:
                if self._situation.ended:
                    return
                safing = self._situation.safing
            try:
                if safing is not None:
                    self._advance(safing)
                else:
                    self._watch_after_safe()
                if time.monotonic() - asked > STATUS_PERIOD_S:
                    self._situation.ask_status(self._control)
                    asked = time.monotonic()
            except Exception:
                logger.exception("the keeper of the Impulse holder goes on")

    def _advance(self, safing: Safing) -> None:
        """Tell Impulse the next part of the way, and look whether it is over."""
        wall, now = time.monotonic(), self._clock.now_s()
        last = self._situation.data().last
        known = last is not None and not self._situation.stale(last)
        if safing.told is None or (safing.during_command and not self._situation.orders.locked()):
            if wall >= safing.next_try_wall_s:
                # the first time at once; again when a command that was under way is over
                safing.during_command = self._situation.orders.locked()
                self._tell(safing, self._first_part(safing, last if known else None))
            return
        if last is None or not known:
            safing.trouble = (
                "Impulse sends no data: whether the heater went to its safe state is not known."
            )
            return
        if last.wall_s <= safing.told_wall_s:
            return
        if safing.trouble:
            safing.trouble = ""
        if self._stopped_on_its_way(safing.told, last):
            logger.error("Impulse does not go on cooling; it is told to go to room temperature now")
            self._tell(safing, self._at_once(safing, last))
            return
        cooled = last.setpoint_celsius <= safing.told.target_celsius + COLD_WITHIN_CELSIUS
        if safing.told.target_celsius > self._situation.settings.room_celsius:
            if cooled or safing.told.over(now, grace=True):
                self._tell(safing, self._at_once(safing, last))
        elif self._situation.is_off(last) and not safing.during_command:
            with self._situation.lock:
                if self._situation.safing is safing:
                    self._situation.safing = None
                    self._situation.commanded_wall_s = safing.told_wall_s
                    self._situation.safe_since_wall_s = wall
        elif safing.told.over(now, grace=True) and wall > safing.told_wall_s + (
            self._situation.settings.silence_s
        ):
            self._tell(safing, self._at_once(safing, last))

    def _first_part(self, safing: Safing, last: Measurement | None) -> Program:
        rate, end = safing.safe_state.cool_rate_celsius_per_s, safing.safe_state.cool_to_celsius
        if rate is None or last is None or last.setpoint_celsius <= end:
            return self._at_once(safing, last)
        end = max(end, self._situation.settings.room_celsius)
        return Program(last.setpoint_celsius, end, (last.setpoint_celsius - end) / rate)

    def _at_once(self, safing: Safing, last: Measurement | None) -> Program:
        room = self._situation.settings.room_celsius
        start = last.setpoint_celsius if last is not None else room
        return Program(start, room, safing.least_ramp_time_s)

    def _stopped_on_its_way(self, told: Program, last: Measurement) -> bool:
        """Whether a ramp down does not go on: somebody stopped it at the device, or control was lost."""
        _, before = self._situation.data().last_two
        falls = before is None or last.setpoint_celsius < before.setpoint_celsius
        return told.duration_s > SHORT_RAMP_S and not falls and told.behind(last)

    def _tell(self, safing: Safing, program: Program) -> None:
        try:
            self._control.ask(
                "control.heat.startRamp",
                temperature=program.target_celsius,
                rampTime=program.duration_s,
            )
        except HotstageError as error:
            safing.trouble = f"the heater could not be told to go to its safe state: {error}"
            safing.next_try_wall_s = time.monotonic() + RETRY_S
            safing.told = None
            if isinstance(error, LimitError) and program.duration_s <= 0:
                safing.least_ramp_time_s = SHORT_RAMP_S
                safing.next_try_wall_s = -math.inf
                self._wake.set()
            if not isinstance(error, LinkError):
                self._situation.ask_status(self._control)
            return
        safing.told_wall_s = time.monotonic()
        safing.told = program.begun(self._clock.now_s(), safing.told_wall_s)

    def _watch_after_safe(self) -> None:
        """A command that was sent before and carried out late must not heat what was made safe."""
        last = self._situation.data().last
        with self._situation.lock:
            recent = time.monotonic() - self._situation.safe_since_wall_s < LATE_COMMAND_S
            if not recent or last is None or self._situation.commanded(last):
                return
            if self._situation.is_off(last):
                return
            self._situation.safing = Safing("heated again after it was made safe", SafeState())
        logger.error("the Impulse holder heats though it was made safe; it is told again")
        self._wake.set()
