"""The holder: ramps that Impulse carries out, readings of its data, and a keeper that makes it safe."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field, replace

import zmq

from acquire.clock import Clock
from acquire.errors import FaultError, HotstageError, InstrumentError, LimitError, LinkError
from acquire.instruments import (
    Description,
    HolderReading,
    HolderState,
    Limit,
    RampRequest,
    SafeState,
)
from acquire.units import show
from drivers.holders.impulse.control import HOW_TO_GIVE_CONTROL, STATUS_IN_CONTROL, ControlSocket
from drivers.holders.impulse.program import Program
from drivers.holders.impulse.stream import Measurement, Stream

logger = logging.getLogger(__name__)

KEEPER_PERIOD_S = 0.1
STATUS_PERIOD_S = 2.0
RETRY_S = 0.2
WATCH_AFTER_SAFE_S = 30.0
"""A command that Impulse did not answer may be carried out this much later, after it was made safe."""
HOLD_PATIENCE_S = 0.25
HOLD_AGAIN_S = 0.15
"""Wall seconds that ``hold`` waits to see the setpoint stand still: it shall return at once."""
HOLD_MARGIN_S = 0.2
"""A ramp may go on for so long after it was told to stop, beside the time of the exchange."""
COLD_WITHIN_CELSIUS = 0.5
CLOSE_PATIENCE_S = 3.0


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
class _Safing:
    """A way to the safe state that has been asked for and is not over."""

    reason: str
    safe_state: SafeState
    told: Program | None = None
    """What Impulse has acknowledged."""
    told_wall_s: float = -math.inf
    trouble: str = ""
    next_try_wall_s: float = -math.inf
    during_command: bool = field(default=False)
    """Whether a command was under way then, which may be carried out after ours."""


class ImpulseHolder:
    """A heating holder behind Impulse; see :mod:`drivers.holders.impulse`."""

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
        self._settings = settings
        self._description = description
        self._stream: Stream | None = None
        self._orders = threading.Lock()  # one command at a time
        self._state = threading.Lock()  # everything below; never held while waiting
        self._program: Program | None = None
        self._commanded_wall_s = -math.inf
        self._safe_state = SafeState()
        self._safing: _Safing | None = None
        self._safe_since_wall_s = -math.inf
        self._status = STATUS_IN_CONTROL
        self._ended = False
        self._wake = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="impulse-keeper", daemon=True)

    def begin(self, stream: Stream) -> None:
        """Start to work with the data; called once, by whoever opens the holder.

        Raises:
            LinkError: no data come, so that nothing is known of the temperature.
        """
        self._stream = stream
        found = stream.wait_for(lambda m: True, time.monotonic() + self._settings.silence_s)
        if found is None:
            raise LinkError(
                f"{self._control.what} answers, but sends no heat data within "
                f"{self._settings.silence_s:g} s. Does the option data name the port of its data "
                "(5556 where nothing was changed)?"
            )
        self._keeper.start()

    # ------------------------------------------------------------------ the protocol

    def describe(self) -> Description:
        """Identity, limits and facts."""
        return self._description

    def check(self, request: RampRequest) -> None:
        """Raise LimitError if ``ramp`` would refuse the request."""
        temperature, rate = self._settings.limits
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
        with self._orders:
            self._refuse_while_safing()
            start = self._present_setpoint()
            duration_s = abs(target_celsius - start) / rate_celsius_per_s
            self._command(Program(start, target_celsius, duration_s))

    def hold(self) -> None:
        """Stop the ramp, and see to it that the setpoint stays where it is; raises as :meth:`ramp`.

        What Impulse holds after ``stopRamp`` is not documented. So its data are looked at: if the
        setpoint does not stand still where it was, it is commanded to.
        """
        with self._orders:
            self._refuse_while_safing()
            last, now = self._fresh(), self._clock.now_s()
            with self._state:
                program = self._settled(last, now)
            resting = program is None or program.arrived
            if resting and (self._is_off(last) or self._stands_still(HOLD_PATIENCE_S) is not None):
                return
            setpoint = self._present_setpoint()
            stay = Program(setpoint, setpoint, 0.0, arrived=True)
            before_s = self._clock.now_s()
            held = self._stop_ramp(stay)
            moved_s = self._clock.now_s() - before_s + HOLD_MARGIN_S
            speed = program.speed if program is not None else math.inf
            if held is None or abs(held - setpoint) > 1.0 + speed * moved_s:
                self._command(stay)
                self._stands_still(HOLD_AGAIN_S)

    def read(self) -> HolderReading:
        """The newest measurement, taken after the last command.

        Its time is that of its arrival; how old it was then is not told (``latency_s`` in the
        description is half of a round trip on the command socket).

        Raises:
            LinkError: the data have fallen silent, so that nothing is known.
            InstrumentError: control was lost, so that nobody here can command the heater.
        """
        last = self._fresh()
        now = self._clock.now_s()
        with self._state:
            safing, status = self._safing, self._status
            if safing is None:
                program = self._settled(last, now)
        if safing is not None:
            return self._read_safing(last, safing)
        if status != STATUS_IN_CONTROL and not self._is_off(last):
            raise InstrumentError(self._lost(status))
        if program is None:
            state = HolderState.OFF if self._is_off(last) else HolderState.HOLDING
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
        with self._state:
            self._safe_state = safe_state

    def make_safe(self, reason: str) -> None:
        """Have the keeper bring the holder to its safe state, however often it takes; never raises."""
        with self._state:
            if self._ended:
                return
            armed, present = self._safe_state, self._safing
            if present is not None and (
                armed == present.safe_state or present.safe_state.cool_rate_celsius_per_s is None
            ):
                return  # on its way as armed, or faster
            last = self._stream.last if self._stream is not None else None
            known = last is not None and not self._stale(last)
            if present is None and known and last is not None and self._rests(last):
                return
            self._safing = _Safing(reason, armed, during_command=self._orders.locked())
            self._program = None
        logger.info("the Impulse holder is made safe: %s", reason)
        self._wake.set()

    def clear_fault(self) -> None:
        """Impulse latches nothing; raises FaultError while it is not in control."""
        with self._state:
            status = self._status
        if status != STATUS_IN_CONTROL:
            raise FaultError(self._lost(status))

    def close(self) -> None:
        """Set the heater to room temperature at once, wait a moment that it is done, let go. Idempotent."""
        with self._state:
            if self._ended:
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
        with self._state:
            self._ended = True
        self._wake.set()
        if self._keeper.ident is not None:
            self._keeper.join(CLOSE_PATIENCE_S)
        if self._stream is not None:
            self._stream.close()
        self._control.close()
        self._keeper_control.close()
        self._zmq.term()

    def _told_to_be_safe(self) -> bool:
        with self._state:
            safing = self._safing
            return safing is None or (safing.told is not None and not safing.during_command)

    # ------------------------------------------------------------------ told by the stream

    def on_state(self, status: str) -> None:
        """Impulse says that it has entered a state."""
        with self._state:
            lost = self._status == STATUS_IN_CONTROL and status != STATUS_IN_CONTROL
            self._status = status
            if lost:
                self._program = None
        if lost:
            logger.error("%s", self._lost(status))

    def on_restart(self) -> None:
        """Impulse was started anew: what it does is read again, and nothing is repeated."""
        with self._state:
            self._program = None

    # ------------------------------------------------------------------ commands

    def _command(self, program: Program) -> None:
        """Have Impulse carry out a program (orders held)."""
        self._refuse_while_safing()
        with self._state:
            self._safe_since_wall_s = -math.inf  # from now on it may heat
        self._order(
            "control.heat.startRamp",
            temperature=program.target_celsius,
            rampTime=program.duration_s,
        )
        self._remember(program)

    def _stop_ramp(self, stay: Program) -> float | None:
        """Tell Impulse to stop, and look where it stands; None if that is not known (orders held)."""
        try:
            self._order("control.heat.stopRamp")
        except LinkError:
            raise
        except InstrumentError as error:
            with self._state:
                if self._status != STATUS_IN_CONTROL:
                    raise
            logger.info("the ramp may be over: %s", error)
            return None
        self._remember(stay)
        return self._stands_still(HOLD_PATIENCE_S)

    def _order(self, request: str, **fields: float) -> None:
        try:
            self._control.ask(request, **fields)
        except LinkError:
            with self._state:
                self._program = None  # what it does now is what its data say
                self._commanded_wall_s = time.monotonic()
            raise
        except InstrumentError as error:
            self._ask_status(self._control)
            with self._state:
                status = self._status
            if status != STATUS_IN_CONTROL:
                raise InstrumentError(self._lost(status)) from error
            raise

    def _remember(self, program: Program) -> None:
        now, wall = self._clock.now_s(), time.monotonic()
        with self._state:
            self._commanded_wall_s = wall
            if self._safing is None:
                self._program = program.begun(now, wall)

    def _refuse_while_safing(self) -> None:
        with self._state:
            ended, safing, status = self._ended, self._safing, self._status
        if ended:
            raise LinkError("the Impulse holder was closed here; nothing was sent.")
        if safing is not None:
            raise InstrumentError(
                "command refused: the heater is on its way to its safe state. Wait until it is off."
            )
        if status != STATUS_IN_CONTROL:
            raise InstrumentError(self._lost(status))

    def _stands_still(self, patience_s: float) -> float | None:
        """The setpoint if two measurements after the last command agree on it; None if none do in time."""
        stream, since = self._data(), self._commanded_wall_s

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

    # ------------------------------------------------------------------ knowledge

    def _data(self) -> Stream:
        if self._stream is None:
            raise LinkError("the Impulse holder is not open.")
        return self._stream

    def _stale(self, measurement: Measurement) -> bool:
        return time.monotonic() - measurement.wall_s > self._settings.silence_s

    def _fresh(self) -> Measurement:
        """A measurement that arrived after the last command; raises LinkError."""
        with self._state:
            since, ended = self._commanded_wall_s, self._ended
        if ended:
            raise LinkError("the Impulse holder was closed here.")
        until = max(time.monotonic(), since + self._settings.silence_s)
        last = self._data().wait_for(lambda m: m.wall_s > since and not self._stale(m), until)
        if last is None:
            with self._state:
                trouble = self._safing.trouble if self._safing is not None else ""
            raise LinkError(
                f"{self._control.what} has sent no heat data for over "
                f"{self._settings.silence_s:g} s; temperature and state are not known. {trouble}"
            )
        return last

    def _present_setpoint(self) -> float:
        now = self._clock.now_s()
        with self._state:
            program = self._program
        if program is not None and not program.arrived and not program.over(now):
            return program.setpoint(now)
        return self._fresh().setpoint_celsius

    def _settled(self, last: Measurement, now_s: float) -> Program | None:
        """The program, after looking whether it has arrived (state held)."""
        program = self._program
        if program is not None and not program.arrived:
            _, before = self._data().last_two
            still = before is not None and before.setpoint_celsius == last.setpoint_celsius
            program = program.after(
                last, now_s, still=still, finished_wall_s=self._data().finished_wall_s
            )
            self._program = program
        elif program is not None and program.arrived:
            # somebody else may have changed it since
            program = replace(program, target_celsius=last.setpoint_celsius)
        return program

    def _is_off(self, last: Measurement) -> bool:
        """Whether the setpoint is room temperature, and no power to speak of is measured."""
        cold = last.setpoint_celsius <= self._settings.room_celsius + COLD_WITHIN_CELSIUS
        return cold and not last.power_mw > self._settings.off_power_mw

    def _rests(self, last: Measurement) -> bool:
        """Whether nothing was commanded that could still heat (state held)."""
        return (
            self._program is None
            and not self._orders.locked()
            and last.wall_s > self._commanded_wall_s
            and self._is_off(last)
        )

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

    def _read_safing(self, last: Measurement, safing: _Safing) -> HolderReading:
        target = self._settings.room_celsius
        if safing.told is not None:
            target = safing.told.target_celsius
        return self._reading(last, target, HolderState.MAKING_SAFE, safing.trouble)

    def _lost(self, status: str) -> str:
        return (
            f"{self._control.what} is not in control (its status is {status!r}): nobody here can "
            f"command the heater. {HOW_TO_GIVE_CONTROL}"
        )

    def _ask_status(self, through: ControlSocket) -> None:
        try:
            self.on_state(through.status())
        except HotstageError as error:
            logger.warning("the status of Impulse is not known: %s", error)

    # ------------------------------------------------------------------ the keeper

    def _keep(self) -> None:
        asked = time.monotonic()
        while True:
            self._wake.wait(KEEPER_PERIOD_S)
            self._wake.clear()
            with self._state:
                if self._ended:
                    return
                safing = self._safing
            try:
                if safing is not None:
                    self._advance(safing)
                else:
                    self._watch_after_safe()
                if time.monotonic() - asked > STATUS_PERIOD_S:
                    self._ask_status(self._keeper_control)
                    asked = time.monotonic()
            except Exception:
                logger.exception("the keeper of the Impulse holder goes on")

    def _advance(self, safing: _Safing) -> None:
        """Tell Impulse the next part of the way, and look whether it is over."""
        wall, now = time.monotonic(), self._clock.now_s()
        last = self._data().last
        known = last is not None and not self._stale(last)
        if safing.told is None or (safing.during_command and not self._orders.locked()):
            if wall >= safing.next_try_wall_s:
                # the first time at once; again when a command that was under way is over
                safing.during_command = self._orders.locked()
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
        cooled = last.setpoint_celsius <= safing.told.target_celsius + COLD_WITHIN_CELSIUS
        if safing.told.target_celsius > self._settings.room_celsius:
            if cooled or safing.told.over(now, grace=True):
                self._tell(safing, self._at_once(last))
        elif self._is_off(last) and not safing.during_command:
            with self._state:
                if self._safing is safing:
                    self._safing = None
                    self._commanded_wall_s = safing.told_wall_s
                    self._safe_since_wall_s = wall
        elif safing.told.over(now, grace=True) and wall > safing.told_wall_s + (
            self._settings.silence_s
        ):
            self._tell(safing, self._at_once(last))

    def _first_part(self, safing: _Safing, last: Measurement | None) -> Program:
        rate, end = safing.safe_state.cool_rate_celsius_per_s, safing.safe_state.cool_to_celsius
        if rate is None or last is None or last.setpoint_celsius <= end:
            return self._at_once(last)
        end = max(end, self._settings.room_celsius)
        return Program(last.setpoint_celsius, end, (last.setpoint_celsius - end) / rate)

    def _at_once(self, last: Measurement | None) -> Program:
        room = self._settings.room_celsius
        return Program(last.setpoint_celsius if last is not None else room, room, 0.0)

    def _tell(self, safing: _Safing, program: Program) -> None:
        try:
            self._keeper_control.ask(
                "control.heat.startRamp",
                temperature=program.target_celsius,
                rampTime=program.duration_s,
            )
        except HotstageError as error:
            safing.trouble = f"the heater could not be told to go to its safe state: {error}"
            safing.next_try_wall_s = time.monotonic() + RETRY_S
            if not isinstance(error, LinkError):
                self._ask_status(self._keeper_control)
            return
        safing.told_wall_s = time.monotonic()
        safing.told = program.begun(self._clock.now_s(), safing.told_wall_s)

    def _watch_after_safe(self) -> None:
        """A command that was sent before and carried out late must not heat what was made safe."""
        last = self._data().last
        with self._state:
            recent = time.monotonic() - self._safe_since_wall_s < WATCH_AFTER_SAFE_S
            if not recent or self._program is not None or self._safing is not None:
                return
            if last is None or last.wall_s <= self._commanded_wall_s or self._is_off(last):
                return
            if self._orders.locked():
                return
            self._safing = _Safing("heated again after it was made safe", SafeState())
        logger.error("the Impulse holder heats though it was made safe; it is told again")
        self._wake.set()
