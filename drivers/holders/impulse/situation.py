"""What is known of Impulse: its data, what it was told, its status; shared by the holder and its keeper."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field, replace

from acquire.clock import Clock
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.instruments import Limit, SafeState
from drivers.holders.impulse.control import HOW_TO_GIVE_CONTROL, STATUS_IN_CONTROL, ControlSocket
from drivers.holders.impulse.program import Program
from drivers.holders.impulse.stream import Measurement, Stream

logger = logging.getLogger(__name__)

COLD_WITHIN_CELSIUS = 0.5
LATE_COMMAND_S = 30.0
"""A command that Impulse did not answer may be carried out this much later, in wall s."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a station says of its holder."""

    limits: tuple[Limit, Limit]
    """Of ``temperature`` and ``ramp_rate``."""
    room_celsius: float
    off_power_mw: float
    silence_s: float
    """Wall seconds without data after which nothing is known any more."""


@dataclass
class Safing:
    """A way to the safe state that has been asked for and is not over."""

    reason: str
    safe_state: SafeState
    told: Program | None = None
    """What Impulse has acknowledged."""
    told_wall_s: float = -math.inf
    trouble: str = ""
    next_try_wall_s: float = -math.inf
    least_ramp_time_s: float = 0.0
    """Of the ramp that is to go at once."""
    during_command: bool = field(default=False)
    """Whether a command was under way then, which may be carried out after ours."""


class Situation:
    """Attributes that threads share are read and written under ``lock``, which is never held while waiting.

    Args:
        what: Impulse and its address, for messages.
        clock: the station's.
        settings: of the holder.
    """

    def __init__(self, what: str, clock: Clock, settings: Settings) -> None:
        self.settings = settings
        self.lock = threading.Lock()
        self.orders = threading.Lock()
        """Held by who commands: one command at a time."""
        self.stream: Stream | None = None
        self.program: Program | None = None
        """What Impulse was told last and is doing, as far as is known."""
        self.commanded_wall_s = -math.inf
        self.unanswered_wall_s = -math.inf
        """When a command was last left without an answer."""
        self.safe_since_wall_s = -math.inf
        self.safing: Safing | None = None
        self.status = STATUS_IN_CONTROL
        self.ended = False
        self._status_known = True
        self._what = what
        self._clock = clock

    def refuse(self) -> None:
        """Raise what a command must raise now, if anything: LinkError, InstrumentError."""
        with self.lock:
            ended, safing, status = self.ended, self.safing, self.status
        if ended:
            raise LinkError("the Impulse holder was closed here; nothing was sent.")
        if safing is not None:
            raise InstrumentError(
                "command refused: the heater is on its way to its safe state. Wait until it is off."
            )
        if status != STATUS_IN_CONTROL:
            raise InstrumentError(self.lost(status))

    def on_state(self, status: str) -> None:
        """Impulse says that it has entered a state."""
        with self.lock:
            lost = self.status == STATUS_IN_CONTROL and status != STATUS_IN_CONTROL
            self.status = status
            if lost:
                self.program = None
        if lost:
            logger.error("%s", self.lost(status))

    def on_restart(self) -> None:
        """Impulse was started anew: what it does is read again, and nothing is repeated."""
        with self.lock:
            self.program = None

    def remember(self, program: Program) -> None:
        """Impulse has acknowledged a program."""
        now, wall = self._clock.now_s(), time.monotonic()
        with self.lock:
            self.commanded_wall_s = wall
            if self.safing is None:
                self.program = program.begun(now, wall)

    def stands_still(self, patience_s: float) -> float | None:
        """The setpoint if two measurements after the last command agree on it; None if none do in time."""
        stream, since = self.data(), self.commanded_wall_s

        def agree(newest: Measurement) -> bool:
            last, before = stream.last_two
            return (
                before is not None
                # the first one may have been on its way when the ramp was stopped
                and before.wall_s > since
                and last is not None
                and before.setpoint_celsius == last.setpoint_celsius
            )

        found = stream.wait_for(agree, max(since, time.monotonic() - patience_s) + patience_s)
        return None if found is None else found.setpoint_celsius

    def data(self) -> Stream:
        """The data; raises LinkError before they are there."""
        if self.stream is None:
            raise LinkError("the Impulse holder is not open.")
        return self.stream

    def stale(self, measurement: Measurement) -> bool:
        """Whether a measurement is too old to say anything."""
        return time.monotonic() - measurement.wall_s > self.settings.silence_s

    def fresh(self) -> Measurement:
        """A measurement that arrived after the last command; raises LinkError."""
        with self.lock:
            since, ended = self.commanded_wall_s, self.ended
        if ended:
            raise LinkError("the Impulse holder was closed here.")
        until = max(time.monotonic(), since + self.settings.silence_s)
        last = self.data().wait_for(lambda m: m.wall_s > since and not self.stale(m), until)
        if last is None:
            with self.lock:
                trouble = self.safing.trouble if self.safing is not None else ""
            raise LinkError(
                f"{self._what} has sent no heat data for over "
                f"{self.settings.silence_s:g} s; temperature and state are not known. {trouble}"
            )
        return last

    def present_setpoint(self) -> float:
        """Where the setpoint is now: a ramp that goes on is ahead of its data. Raises LinkError."""
        now = self._clock.now_s()
        with self.lock:
            program = self.program
        if program is not None and not program.arrived and not program.over(now):
            return program.setpoint(now)
        return self.fresh().setpoint_celsius

    def settled(self, last: Measurement, now_s: float) -> Program | None:
        """The program, after looking whether it has arrived (lock held)."""
        program = self.program
        if program is not None and not program.arrived:
            _, before = self.data().last_two
            still = before is not None and before.setpoint_celsius == last.setpoint_celsius
            program = program.after(
                last, now_s, still=still, finished_wall_s=self.data().finished_wall_s
            )
            self.program = program
        elif program is not None and program.arrived:
            # somebody else may have changed it since
            program = replace(program, target_celsius=last.setpoint_celsius)
        return program

    def is_off(self, last: Measurement) -> bool:
        """Whether the setpoint is room temperature, and no power to speak of is measured."""
        cold = last.setpoint_celsius <= self.settings.room_celsius + COLD_WITHIN_CELSIUS
        return cold and not last.power_mw > self.settings.off_power_mw

    def commanded(self, last: Measurement) -> bool:
        """Whether something is commanded, or was after a measurement (lock held)."""
        return (
            self.program is not None
            or self.safing is not None
            or self.orders.locked()
            or last.wall_s <= self.commanded_wall_s
        )

    def rests(self, last: Measurement) -> bool:
        """Whether nothing was commanded that could still heat (lock held)."""
        answered = time.monotonic() - self.unanswered_wall_s > LATE_COMMAND_S
        return answered and not self.commanded(last) and self.is_off(last)

    def lost(self, status: str) -> str:
        """What to say when Impulse is not in control."""
        return (
            f"{self._what} is not in control (its status is {status!r}): nobody here can "
            f"command the heater. {HOW_TO_GIVE_CONTROL}"
        )

    def ask_status(self, through: ControlSocket) -> None:
        """Ask Impulse for its status, if it answers."""
        try:
            self.on_state(through.status())
        except HotstageError as error:
            if self._status_known:  # once, however often it is asked
                logger.warning("the status of Impulse is not known: %s", error)
            self._status_known = False
        else:
            self._status_known = True
