"""A heating holder whose ramps and safe states our own control task makes, over a device that only takes setpoints.

One task talks to the device, so that switching off can never be overtaken by a late command. It
knows five modes:

- ``off``: the output was confirmed to be off; it is looked at now and then.
- ``starting``: the output is being switched on.
- ``driving``: the setpoint follows the program.
- ``cooling``: the armed safe state's way down; then ``stopping``.
- ``stopping``: the output is being switched off, over new connections if need be, until the device
  confirms it. Until then :meth:`RegulatedHolder.read` says that it is not known.

A trip latches a fault and goes to ``stopping`` at once. A link that fails while the output is on
freezes the setpoint; if the device has not been heard again within ``patience_s`` that is a trip,
since nobody watches the heater then. It is heard again over a new connection; the program goes on
from where it stood when it was last heard. A slow line, on which every reading takes long, is no
silence. Nothing is commanded again after a mishap: the next setpoint is computed from what the
device then says.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum

from acquire.clock import Clock, finite_rate
from acquire.errors import FaultError, HotstageError, InstrumentError, LimitError, LinkError
from acquire.instruments import (
    Description,
    HolderReading,
    HolderState,
    RampRequest,
    SafeState,
)
from acquire.units import show
from drivers.holders.actuator import (
    Actuator,
    Judge,
    Measurement,
    RegulatedSettings,
    Trip,
    Unwanted,
)
from drivers.holders.program import Program

logger = logging.getLogger(__name__)

IDLE_S = 1.0
"""Clock seconds between looks at a device whose output is off."""
FIRST_RETRY_WALL_S = 0.02
LONGEST_RETRY_WALL_S = 0.5
READ_WALL_S = 1.5
"""Longest that ``read`` waits for a reading that is newer than the last command."""
CHANGE_WALL_S = 5.0
"""The same while the output is switched on, or is off: a slow line takes long for all the settings."""
SILENCE_WALL_S = 0.1
"""A device that was not heard for so long, and for so many times as long as usual, stops the program."""
SILENCE_TURNS = 4.0
CLOSE_WALL_S = 3.0


class _Mode(StrEnum):
    OFF = "off"
    STARTING = "starting"
    DRIVING = "driving"
    COOLING = "cooling"
    STOPPING = "stopping"


_ON = (_Mode.DRIVING, _Mode.COOLING)


class RegulatedHolder:
    """A heating holder over an :class:`Actuator` whose output is off; any thread may call it."""

    def __init__(
        self,
        actuator: Actuator,
        describe: Callable[[], Description],
        settings: RegulatedSettings,
        clock: Clock,
        name: str,
    ) -> None:
        self._actuator = actuator
        self._describe = describe
        self._settings = settings
        self._clock = clock
        self._name = name
        self._changed = threading.Condition()
        self._device = threading.Lock()
        self._mode = _Mode.OFF
        self._program = Program.holding(clock.now_s(), settings.ambient_celsius)
        self._since_s = clock.now_s()
        """A reading that is older was taken before the last command."""
        self._safe_state = SafeState()
        self._fault = ""
        self._lost = ""
        self._silent_since: float | None = None
        self._latest: Measurement | None = None
        self._judge = Judge(settings)
        self._retry_s = FIRST_RETRY_WALL_S
        self._usual_s = settings.period_s
        """From reading to reading: a slow line takes longer than the period."""
        self._wake = clock.signal()
        self._closed = clock.signal()
        self._task = clock.spawn(self._run, f"{name}-control")

    # ------------------------------------------------------------------------ commands

    def describe(self) -> Description:
        """Identity, limits and what the device took."""
        return self._describe()

    def check(self, request: RampRequest) -> None:
        """Raise LimitError if the ramp would be refused; never moves anything."""
        for limit, value, what in (
            (self._settings.temperature, request.target_celsius, "ramp to"),
            (self._settings.ramp_rate, request.rate_celsius_per_s, "ramp rate"),
        ):
            if not limit.low <= value <= limit.high:
                raise LimitError(
                    f"{what} {show(value, limit.unit)} refused: the {self._name} allows "
                    f"{show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
                    f"({limit.source}). Choose a value in between, or change the limit there."
                )

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Start a linear ramp; raises LimitError, FaultError, InstrumentError while making safe, LinkError."""
        self.check(RampRequest(target_celsius, rate_celsius_per_s))
        with self._changed:
            self._refuse()
            now = self._clock.now_s()
            if self._mode is _Mode.OFF:
                self._program = Program.holding(now, self._settings.ambient_celsius)
            self._program = self._program.ramp(now, target_celsius, rate_celsius_per_s)
            self._go(_Mode.STARTING if self._mode is _Mode.OFF else self._mode)

    def hold(self) -> None:
        """Freeze the setpoint; an output that is off stays off. Raises as :meth:`ramp`."""
        with self._changed:
            self._refuse()
            if self._mode is not _Mode.OFF:
                self._program = self._program.hold(self._clock.now_s())
                self._go(self._mode)

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Say how ``make_safe`` shall proceed; raises LimitError for a cooling beyond the limits."""
        rate = safe_state.cool_rate_celsius_per_s
        if rate is not None:
            self.check(RampRequest(safe_state.cool_to_celsius, rate))
        with self._changed:
            self._safe_state = safe_state

    def make_safe(self, reason: str) -> None:
        """Switch off, or cool and then switch off, as armed; idempotent, returns at once, never raises."""
        with self._changed:
            if self._mode in (_Mode.OFF, _Mode.STOPPING):
                return
            logger.info("%s is made safe: %s", self._name, reason)
            now = self._clock.now_s()
            rate, end = self._safe_state.cool_rate_celsius_per_s, self._safe_state.cool_to_celsius
            end = max(end, self._settings.ambient_celsius)
            if self._mode is _Mode.STARTING or rate is None or self._program.setpoint(now) <= end:
                self._go(_Mode.STOPPING)
            elif self._mode is _Mode.DRIVING:
                self._program = self._program.ramp(now, end, rate)
                self._go(_Mode.COOLING)

    def clear_fault(self) -> None:
        """Unlatch a fault; raises FaultError while its cause persists, or while it is not known."""
        with self._changed:
            if not self._fault:
                return
            if self._mode is not _Mode.OFF:
                raise FaultError(
                    f"the fault cannot be cleared yet: that the output of the {self._name} is off has "
                    f"not been confirmed. {self._lost or self._fault}"
                )
        try:
            with self._device:
                self._actuator.examine()
        except InstrumentError as error:
            raise FaultError(
                f"the fault cannot be cleared, its cause persists: {error} ({self._fault})"
            ) from error
        with self._changed:
            self._fault = ""
            self._latest = None
        self._wake.set()

    def close(self) -> None:
        """Switch off, wait until that is confirmed, and let go of the device; idempotent.

        Raises:
            LinkError: it could not be confirmed within 3 s. Everything is released all the same.
        """
        if self._closed.is_set():
            return
        with self._changed:
            if self._mode is not _Mode.OFF:
                self._go(_Mode.STOPPING)
            known = self._changed.wait_for(lambda: self._mode is _Mode.OFF, CLOSE_WALL_S)
            why = self._lost
        self._closed.set()
        self._wake.set()
        self._task.join(CLOSE_WALL_S * finite_rate(self._clock))
        self._actuator.close()
        if not known:
            raise LinkError(
                f"the {self._name} was closed, but whether its heater is off is not known: {why} "
                "Switch it off at the device."
            )

    # ------------------------------------------------------------------------- reading

    def read(self) -> HolderReading:
        """A reading that is newer than the last command.

        Raises:
            LinkError: the device does not answer; what it does is not known.
        """
        began = time.monotonic()
        with self._changed:
            while True:
                reading = self._answer()
                if reading is not None:
                    return reading
                changing = self._mode in (_Mode.OFF, _Mode.STARTING)
                until = began + (CHANGE_WALL_S if changing else READ_WALL_S)
                left_s = max(0.0, until - time.monotonic())
                if self._lost or not self._changed.wait(left_s):
                    raise LinkError(self._unknown())

    def _answer(self) -> HolderReading | None:
        latest = self._latest
        if self._lost and self._mode not in _ON:
            return None
        if latest is None or latest.t_s < self._since_s or self._mode is _Mode.STOPPING:
            return None
        on = self._mode is not _Mode.OFF
        if on and self._clock.now_s() - latest.t_s > self._stale_s():
            return None
        ambient = self._settings.ambient_celsius
        return HolderReading(
            latest.t_s,
            latest.celsius,
            self._program.setpoint(latest.t_s) if on else ambient,
            self._program.target_celsius if on else ambient,
            latest.power_mw,
            latest.resistance_ohm,
            self._state(latest.t_s),
            self._fault,
        )

    def _state(self, t_s: float) -> HolderState:
        if self._fault:
            return HolderState.TRIPPED
        if self._mode is _Mode.OFF:
            return HolderState.OFF
        if self._mode is _Mode.COOLING:
            return HolderState.MAKING_SAFE
        return HolderState.RAMPING if self._program.moving(t_s) else HolderState.HOLDING

    def _stale_s(self) -> float:
        wall_s = self._settings.patience_s + READ_WALL_S
        return 10 * self._settings.period_s + wall_s * finite_rate(self._clock)

    def _unknown(self) -> str:
        if self._mode is _Mode.STOPPING:
            cause = self._lost or "the device has not answered yet."
            fault = f" It was tripped: {self._fault}" if self._fault else ""
            return (
                f"whether the heater of the {self._name} is off is not known yet; it is told again "
                f"until it confirms: {cause}{fault}"
            )
        return self._lost or (
            f"the {self._name} has given no reading in time; what it does is not known."
        )

    def _refuse(self) -> None:
        if self._closed.is_set():
            raise InstrumentError(f"the {self._name} was closed; open the station again.")
        if self._fault:
            raise FaultError(
                f"the heater is off and stays off: {self._fault} Find the cause, then clear the fault."
            )
        if self._mode in (_Mode.COOLING, _Mode.STOPPING):
            raise InstrumentError(
                "command refused: the heater is on its way to its safe state. Wait until it is off."
            )
        if self._lost:
            raise LinkError(f"command refused: {self._lost}")

    def _go(self, mode: _Mode) -> None:
        """Enter a mode, or the same anew (lock held)."""
        self._mode = mode
        self._since_s = self._clock.now_s()
        if mode not in _ON:
            self._judge.begin()
            self._silent_since = None
        self._changed.notify_all()
        self._wake.set()

    # -------------------------------------------------------------------- control task

    def _run(self) -> None:
        due = self._clock.now_s()
        while not self._closed.is_set():
            self._wake.clear()
            mode = self._mode
            wait_s = self._turn(mode)
            now = self._clock.now_s()
            if self._mode is not mode:
                due = now
                continue
            # turns keep the beat, but a late one does not hurry those after it
            due = max(due + wait_s, now) if mode in _ON else now + wait_s
            self._wake.wait(due - now)

    def _turn(self, mode: _Mode) -> float:
        """Do what the mode asks for; clock seconds until the next turn."""
        try:
            with self._device:
                if self._mode is mode and not self._closed.is_set():
                    self._act(mode)
        except Unwanted as error:
            logger.info("%s: %s", self._name, error)
        except Trip as trip:
            self._trip(str(trip))
        except HotstageError as error:
            return self._silent(mode, error)
        except Exception as error:
            logger.exception("%s: the control task met an error of its own", self._name)
            self._trip(f"the control task failed: {error!r}.")
        return self._settings.period_s if mode in _ON else IDLE_S

    def _act(self, mode: _Mode) -> None:
        if mode is _Mode.OFF:
            self._took(self._actuator.idle(measure=not self._fault))
        elif mode is _Mode.STARTING:
            measured = self._actuator.begin(lambda: self._mode is _Mode.STARTING)
            with self._changed:
                if self._mode is _Mode.STARTING:
                    now = self._clock.now_s()
                    self._program = self._program.begun(now, measured.celsius)
                    self._mode = _Mode.DRIVING
            self._took(measured)
        elif mode in _ON:
            measured = self._actuator.regulate(self._setpoint_from(self._latest))
            program = self._program
            self._judge.look(measured, program.setpoint(measured.t_s))
            self._took(measured)
            if mode is _Mode.COOLING and not program.moving(measured.t_s):
                self._end_of_cooling()
        else:
            self._actuator.off()
            with self._changed:
                self._lost = ""
                self._go(_Mode.OFF)

    def _setpoint_from(self, heard: Measurement | None) -> Callable[[float], float]:
        """The setpoint as a function of time; time in which the device was not heard is left out of it."""
        looked = False

        def setpoint(t_s: float) -> float:
            nonlocal looked
            if not looked and heard is not None and t_s - heard.t_s > self._silence_s():
                with self._changed:
                    self._program = self._program.paused(heard.t_s, t_s)
                logger.warning("%s was not heard for %.3g s", self._name, t_s - heard.t_s)
            if not looked and heard is not None:
                gap_s = min(t_s - heard.t_s, SILENCE_TURNS * self._usual_s)
                self._usual_s += 0.2 * (gap_s - self._usual_s)
            looked = True
            return self._program.setpoint(t_s)

        return setpoint

    def _silence_s(self) -> float:
        return max(
            10 * self._settings.period_s,
            SILENCE_TURNS * self._usual_s,
            SILENCE_WALL_S * finite_rate(self._clock),
        )

    def _took(self, measured: Measurement) -> None:
        with self._changed:
            self._latest = measured
            self._lost = ""
            self._silent_since = None
            self._retry_s = FIRST_RETRY_WALL_S
            self._changed.notify_all()

    def _end_of_cooling(self) -> None:
        with self._changed:
            if self._mode is _Mode.COOLING and not self._program.moving(self._clock.now_s()):
                self._go(_Mode.STOPPING)

    def _trip(self, cause: str) -> None:
        with self._changed:
            if not self._fault:
                self._fault = cause
                logger.error("%s tripped: %s", self._name, cause)
            self._go(_Mode.STOPPING)

    def _silent(self, mode: _Mode, error: HotstageError) -> float:
        """The device did not answer; clock seconds until it is asked again."""
        if mode is _Mode.STARTING:
            self._trip(f"the output could not be switched on under control: {error}")
            return 0.0
        if mode in _ON:
            return self._unheard(error)
        with self._changed:
            if not self._lost:
                logger.warning("%s: %s", self._name, error)
            self._lost = str(error)
            self._changed.notify_all()
        self._retry_s = min(LONGEST_RETRY_WALL_S, 2 * self._retry_s)
        return self._retry_s * finite_rate(self._clock)

    def _unheard(self, error: HotstageError) -> float:
        now = time.monotonic()
        with self._changed:
            if self._silent_since is None:
                self._silent_since = now
                logger.warning("%s: a reading failed while the output is on: %s", self._name, error)
            if now - self._silent_since < self._settings.patience_s:
                return FIRST_RETRY_WALL_S * finite_rate(self._clock)
        self._trip(f"readings fail while the output is on: {error}")
        return 0.0
