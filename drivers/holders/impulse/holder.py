"""The holder: ramps that Impulse carries out, and readings of its data."""

from __future__ import annotations

import logging
import math
import time

import zmq

from acquire.clock import Clock
from acquire.errors import FaultError, InstrumentError, LimitError, LinkError
from acquire.instruments import (
    Description,
    HolderReading,
    HolderState,
    RampRequest,
    SafeState,
)
from acquire.units import show
from drivers.holders.impulse.control import STATUS_IN_CONTROL, ControlSocket
from drivers.holders.impulse.keeper import Keeper
from drivers.holders.impulse.program import Program
from drivers.holders.impulse.situation import Safing, Settings, Situation
from drivers.holders.impulse.stream import Measurement, Stream

logger = logging.getLogger(__name__)

HOLD_PATIENCE_S = 0.25
HOLD_AGAIN_S = 0.15
"""Wall seconds that ``hold`` waits to see the setpoint stand still: it shall return at once."""
HOLD_MARGIN_S = 0.2
"""A ramp may go on for so long after it was told to stop, beside the time of the exchange."""
CLOSE_PATIENCE_S = 2.0


class ImpulseHolder:
    """A heating holder behind Impulse; see :mod:`drivers.holders.impulse`.

    Args:
        context: of the sockets; ended with the holder.
        control: for commands.
        keeper_control: for the keeper.
        clock: the station's.
        settings: of the holder.
        description: what it says of itself.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        control: ControlSocket,
        keeper_control: ControlSocket,
        clock: Clock,
        settings: Settings,
        description: Description,
    ) -> None:
        self._zmq = context
        self._control = control
        self._keeper_control = keeper_control
        self._clock = clock
        self._description = description
        self._safe_state = SafeState()
        self._situation = Situation(control.what, clock, settings)
        self._keeper = Keeper(self._situation, keeper_control, clock)

    @property
    def situation(self) -> Situation:
        """What is known; the stream tells it of events."""
        return self._situation

    def begin(self, stream: Stream) -> None:
        """Start to work with the data; called once, by whoever opens the holder.

        Raises:
            LinkError: no data come, so that nothing is known of the temperature.
        """
        situation = self._situation
        situation.stream = stream
        silence_s = situation.settings.silence_s
        if stream.wait_for(lambda m: True, time.monotonic() + silence_s) is None:
            raise LinkError(
                f"{self._control.what} answers, but sends no heat data within {silence_s:g} s. Does "
                "the option data name the port of its data (5556 where nothing was changed)?"
            )
        self._keeper.start()

    # ------------------------------------------------------------------ the protocol

    def describe(self) -> Description:
        """Identity, limits and facts."""
        return self._description

    def check(self, request: RampRequest) -> None:
        """Raise LimitError if ``ramp`` would refuse the request."""
        temperature, rate = self._situation.settings.limits
        for limit, value, what in (
            (temperature, request.target_celsius, "ramp to"),
            (rate, request.rate_celsius_per_s, "ramp rate"),
        ):
            if not limit.low <= value <= limit.high:
                raise LimitError(
                    f"{what} {show(value, limit.unit)} refused: the Impulse holder allows "
                    f"{show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
                    f"({limit.source}). Choose a value in between."
                )

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Start a ramp in Impulse from its present setpoint.

        Raises:
            LimitError: beyond a limit; nothing changes.
            InstrumentError: Impulse is not in control, or the holder is on its way to its safe state.
            LinkError: not sent, or not answered; what Impulse did is then not known.
        """
        self.check(RampRequest(target_celsius, rate_celsius_per_s))
        with self._situation.orders:
            self._situation.refuse()
            start = self._situation.present_setpoint()
            duration_s = abs(target_celsius - start) / rate_celsius_per_s
            self._command(Program(start, target_celsius, duration_s))

    def hold(self) -> None:
        """Stop the ramp, and see to it that the setpoint stays where it is; raises as :meth:`ramp`.

        What Impulse holds after ``stopRamp`` is not documented. So its data are looked at: if the
        setpoint does not stand still where it was, it is commanded to.
        """
        with self._situation.orders:
            self._situation.refuse()
            last, now = self._situation.fresh(), self._clock.now_s()
            with self._situation.lock:
                program = self._situation.settled(last, now)
            resting = program is None or program.arrived
            if resting and (
                self._situation.is_off(last)
                or self._situation.stands_still(HOLD_PATIENCE_S) is not None
            ):
                return
            setpoint = self._situation.present_setpoint()
            stay = Program(setpoint, setpoint, 0.0, arrived=True)
            before_s = self._clock.now_s()
            held = self._stop_ramp(stay)
            moved_s = self._clock.now_s() - before_s + HOLD_MARGIN_S
            speed = program.speed if program is not None else math.inf
            if held is None or abs(held - setpoint) > 1.0 + speed * moved_s:
                self._command(stay)
                self._situation.stands_still(HOLD_AGAIN_S)

    def read(self) -> HolderReading:
        """The newest measurement, taken after the last command.

        Its time is that of its arrival; how old it was then is not told (``latency_s`` in the
        description is half of a round trip on the command socket).

        Raises:
            LinkError: the data have fallen silent, so that nothing is known.
            InstrumentError: control was lost, so that nobody here can command the heater.
        """
        last = self._situation.fresh()
        now = self._clock.now_s()
        with self._situation.lock:
            safing, status = self._situation.safing, self._situation.status
            if safing is None:
                program = self._situation.settled(last, now)
        if safing is not None:
            return self._read_safing(last, safing)
        if status != STATUS_IN_CONTROL and not self._situation.is_off(last):
            raise InstrumentError(self._situation.lost(status))
        if program is None:
            state = HolderState.OFF if self._situation.is_off(last) else HolderState.HOLDING
            target = last.setpoint_celsius
        else:
            state = HolderState.HOLDING if program.arrived else HolderState.RAMPING
            target = program.target_celsius
        return self._reading(last, target, state)

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Say how ``make_safe`` shall proceed; raises LimitError for a cooling beyond the limits."""
        rate = safe_state.cool_rate_celsius_per_s
        if rate is not None:
            self.check(RampRequest(safe_state.cool_to_celsius, rate))
        with self._situation.lock:
            self._safe_state = safe_state

    def make_safe(self, reason: str) -> None:
        """Have the keeper bring the holder to its safe state, however often it takes; never raises."""
        with self._situation.lock:
            if self._situation.ended:
                return
            armed, present = self._safe_state, self._situation.safing
            if present is not None and (
                armed == present.safe_state or present.safe_state.cool_rate_celsius_per_s is None
            ):
                return  # on its way as armed, or faster
            last = self._situation.stream.last if self._situation.stream is not None else None
            known = last is not None and not self._situation.stale(last)
            if present is None and known and last is not None and self._situation.rests(last):
                return
            self._situation.safing = Safing(
                reason, armed, during_command=self._situation.orders.locked()
            )
            self._situation.program = None
        logger.info("the Impulse holder is made safe: %s", reason)
        self._keeper.wake()

    def clear_fault(self) -> None:
        """Impulse latches nothing; raises FaultError while it is not in control."""
        with self._situation.lock:
            status = self._situation.status
        if status != STATUS_IN_CONTROL:
            raise FaultError(self._situation.lost(status))

    def close(self) -> None:
        """Set the heater to room temperature at once, wait a moment that it is done, let go. Idempotent."""
        with self._situation.lock:
            if self._situation.ended:
                return
            self._safe_state = SafeState()
        self.make_safe("the holder is being closed")
        end = time.monotonic() + CLOSE_PATIENCE_S
        while not self._told_to_be_safe() and time.monotonic() < end:
            time.sleep(0.01)
        if not self._told_to_be_safe():
            logger.error("the Impulse holder is let go, and may be on. Go and look at it.")
        self.release()

    def release(self) -> None:
        """Let go of everything and command nothing; idempotent."""
        with self._situation.lock:
            self._situation.ended = True
        self._keeper.join()
        if self._situation.stream is not None:
            self._situation.stream.close()
        self._control.close()
        self._keeper_control.close()
        self._zmq.term()

    def _told_to_be_safe(self) -> bool:
        with self._situation.lock:
            safing = self._situation.safing
            return safing is None or (safing.told is not None and not safing.during_command)

    # ------------------------------------------------------------------ commands

    def _command(self, program: Program) -> None:
        """Have Impulse carry out a program (orders held)."""
        self._situation.refuse()
        with self._situation.lock:
            self._situation.safe_since_wall_s = -math.inf  # from now on it may heat
        self._order(
            "control.heat.startRamp",
            temperature=program.target_celsius,
            rampTime=program.duration_s,
        )
        self._situation.remember(program)

    def _stop_ramp(self, stay: Program) -> float | None:
        """Tell Impulse to stop, and look where it stands; None if that is not known (orders held)."""
        try:
            self._order("control.heat.stopRamp")
        except LinkError:
            raise
        except InstrumentError as error:
            with self._situation.lock:
                if self._situation.status != STATUS_IN_CONTROL:
                    raise
            logger.info("the ramp may be over: %s", error)
            return None
        self._situation.remember(stay)
        return self._situation.stands_still(HOLD_PATIENCE_S)

    def _order(self, request: str, **fields: float) -> None:
        try:
            self._control.ask(request, **fields)
        except LinkError:
            with self._situation.lock:
                self._situation.program = None  # what it does now is what its data say
                self._situation.commanded_wall_s = time.monotonic()
                self._situation.unanswered_wall_s = time.monotonic()
            raise
        except InstrumentError as error:
            self._situation.ask_status(self._control)
            with self._situation.lock:
                status = self._situation.status
            if status != STATUS_IN_CONTROL:
                raise InstrumentError(self._situation.lost(status)) from error
            raise

    def _reading(
        self, last: Measurement, target: float, state: HolderState, fault: str = ""
    ) -> HolderReading:
        return HolderReading(
            t_s=last.t_s,
            measured_celsius=last.measured_celsius,
            setpoint_celsius=last.setpoint_celsius,
            target_celsius=target,
            power_mw=last.power_mw,
            resistance_ohm=last.resistance_ohm,
            state=state,
            fault=fault,
        )

    def _read_safing(self, last: Measurement, safing: Safing) -> HolderReading:
        target = self._situation.settings.room_celsius
        if safing.told is not None:
            target = safing.told.target_celsius
        return self._reading(last, target, HolderState.MAKING_SAFE, safing.trouble)
