"""What a heating holder must do when its link does not do what it should."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial

from acquire.errors import FaultError, HotstageError
from acquire.instruments import HeatingHolder, HolderReading, HolderState, RampRequest, SafeState
from drivers.conformance.links import check_together
from drivers.conformance.proxy import Disturbance
from drivers.conformance.rig import LOOK_S, Rig

WARM_CELSIUS = 100.0
HOT_CELSIUS = 150.0
RATE_CELSIUS_PER_S = 100.0
TOLERANCE_CELSIUS = 8.0
OUTAGE_S = 0.5
SETTLED = (HolderState.OFF, HolderState.TRIPPED)


class Step(StrEnum):
    """Where in a ramp the link is lost."""

    OFF = "off"
    COMMANDED = "commanded"
    """In the middle of the reply to the command."""
    RAMPING = "ramping"
    HOLDING = "holding"
    COOLING = "cooling"
    """On the way to the safe state."""


def check_loss(rig: Rig, step: Step) -> None:
    """The link is lost and comes back: the state is read again, nothing is repeated, all can be made safe."""
    with rig.opened() as holder:
        _bring_to(rig, holder, step)
        if step is not Step.COMMANDED:
            rig.unplug()
        began_s = rig.clock.now_s()
        while rig.clock.now_s() - began_s < OUTAGE_S * rig.clock.rate:
            reading = rig.call(holder.read, f"read() while the link is lost ({step})")
            if step is not Step.COMMANDED and isinstance(reading, HolderReading):
                _expect_old(rig, reading, began_s)
            time.sleep(LOOK_S)
        rig.well()
        back_s = rig.clock.now_s()

        def fresh() -> HolderReading:
            found: HolderReading = holder.read()
            # an idle device need not be asked often; its reading says how old it is
            if found.t_s < back_s and step in (Step.RAMPING, Step.HOLDING, Step.COOLING):
                raise FaultError("this reading is older than the link that was made anew.")
            return found

        reading = rig.until_works(fresh, "read()")
        if step is Step.OFF:
            assert reading.state is HolderState.OFF, f"a holder that was off is {reading}."
        if reading.state is not HolderState.OFF:
            assert not reading.measured_celsius > HOT_CELSIUS + TOLERANCE_CELSIUS, (
                f"after a lost link ({step}) the holder is beyond its target: {reading}."
            )
        _make_safe_and_clear(rig, holder, f"link lost: {step}")


def check_safe_without_link(rig: Rig, silent: bool) -> None:
    """Told to be safe while it cannot be reached: says that it does not know, and is safe when the link is back."""
    with rig.opened() as holder:
        _ramp_to(rig, holder, HOT_CELSIUS)
        rig.silence() if silent else rig.unplug()
        rig.make_safe(holder, "conformance: the link is lost")
        until = time.monotonic() + OUTAGE_S
        while time.monotonic() < until:
            reading = rig.call(holder.read, "read() after make_safe() on a lost link")
            if isinstance(reading, HolderReading) and reading.state is HolderState.OFF:
                assert rig.is_safe(), f"the holder says {reading}, but the device is not off."
            refused = rig.call(partial(holder.ramp, WARM_CELSIUS, RATE_CELSIUS_PER_S), "ramp()")
            assert isinstance(refused, HotstageError), (
                "ramp() was accepted though the holder is on its way to its safe state."
            )
            time.sleep(LOOK_S)
        rig.well()
        rig.until_safe("make_safe() while the link was lost")
        _expect_off(rig, holder)


def check_disturbance(rig: Rig, disturbance: Disturbance) -> None:
    """Disturbed replies are refused or understood, and never taken for others."""
    with rig.opened() as holder:
        _ramp_to(rig, holder, WARM_CELSIUS)
        before = rig.suffered
        rig.next(disturbance)

        def consistent() -> bool:
            reading = rig.call(holder.read, f"read() of a holder with a reply {disturbance}")
            _expect_warm(reading, disturbance)
            return rig.suffered > before

        rig.until(consistent, f"a reply is asked for, to be {disturbance}")
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            consistent()
        rig.call(holder.hold, "hold()")
        rig.well()
        for _ in range(5):
            reading = rig.until_works(holder.read, "read()")
            _expect_warm(reading, disturbance)
        _make_safe_and_clear(rig, holder, f"a reply was {disturbance}")
        _ramp_to(rig, holder, WARM_CELSIUS)
        rig.make_safe(holder, "conformance: the end")
        rig.until_safe(f"a reply was {disturbance}")


def check_many_threads(rig: Rig) -> None:
    """Readings stay whole while threads command, read and make safe at the same time; safe wins."""
    with rig.opened() as holder:

        def read() -> None:
            reading: HolderReading = holder.read()
            assert not reading.measured_celsius > HOT_CELSIUS + 2 * TOLERANCE_CELSIUS, str(reading)

        calls: list[tuple[str, Callable[[], object]]] = [
            ("read", read),
            ("read-too", read),
            ("describe", holder.describe),
            ("check", lambda: holder.check(RampRequest(WARM_CELSIUS, RATE_CELSIUS_PER_S))),
            ("ramp", lambda: holder.ramp(HOT_CELSIUS, RATE_CELSIUS_PER_S)),
            ("ramp-back", lambda: holder.ramp(WARM_CELSIUS, RATE_CELSIUS_PER_S)),
            ("hold", holder.hold),
            ("arm", lambda: holder.arm_safe_state(SafeState())),
        ]
        check_together(rig, calls)
        check_together(rig, [*calls[:3], ("safe", lambda: rig.make_safe(holder, "conformance"))])
        rig.make_safe(holder, "conformance: the end")
        rig.until_safe("make_safe() after calls of many threads")
        _expect_off(rig, holder)


# ------------------------------------------------------------------------------- helpers


def _bring_to(rig: Rig, holder: HeatingHolder, step: Step) -> None:
    match step:
        case Step.OFF:
            rig.until_works(holder.read, "read()")
        case Step.COMMANDED:
            rig.until_works(holder.read, "read()")
            rig.next(Disturbance.CUT)
            rig.call(partial(holder.ramp, HOT_CELSIUS, RATE_CELSIUS_PER_S), "ramp()")
        case Step.RAMPING:
            holder.ramp(HOT_CELSIUS, RATE_CELSIUS_PER_S)
            _until_state(rig, holder, HolderState.RAMPING)
        case Step.HOLDING:
            _ramp_to(rig, holder, HOT_CELSIUS)
        case Step.COOLING:
            _ramp_to(rig, holder, HOT_CELSIUS)
            holder.arm_safe_state(SafeState(RATE_CELSIUS_PER_S, 30.0))
            rig.make_safe(holder, "conformance: cooling")


def _ramp_to(rig: Rig, holder: HeatingHolder, celsius: float) -> None:
    holder.ramp(celsius, RATE_CELSIUS_PER_S)
    _until_state(rig, holder, HolderState.HOLDING)
    rig.clock.sleep(0.5)


def _until_state(rig: Rig, holder: HeatingHolder, state: HolderState) -> None:
    def there() -> bool:
        reading = rig.call(holder.read, "read()")
        if isinstance(reading, HolderReading):
            assert not reading.fault, f"a holder on a wire that is well has tripped: {reading}"
            return reading.state is state
        return False

    rig.until(there, f"the holder is {state}")


def _expect_old(rig: Rig, reading: HolderReading, lost_s: float) -> None:
    grace_s = 0.1 * rig.clock.rate
    assert reading.t_s <= lost_s + grace_s, (
        f"{reading} is stamped {reading.t_s - lost_s:.3g} s after the link was lost: what cannot be "
        "read must not be told."
    )


def _expect_warm(reading: HolderReading | HotstageError, disturbance: Disturbance) -> None:
    if isinstance(reading, HotstageError) or reading.state is not HolderState.HOLDING:
        return
    for what, value in (
        ("measured", reading.measured_celsius),
        ("setpoint", reading.setpoint_celsius),
    ):
        assert abs(value - WARM_CELSIUS) <= TOLERANCE_CELSIUS, (
            f"after a reply that was {disturbance}, {what} is {value} °C; it is {WARM_CELSIUS:g} °C."
        )


def _make_safe_and_clear(rig: Rig, holder: HeatingHolder, what: str) -> None:
    """Switch off at once, whatever the state, and unlatch a fault whose cause is gone."""
    holder.arm_safe_state(SafeState())
    rig.make_safe(holder, f"conformance: {what}")
    rig.until_safe(what)
    _expect_off(rig, holder)
    rig.until_works(holder.clear_fault, "clear_fault()")
    reading = rig.until_works(holder.read, "read()")
    assert reading.state is HolderState.OFF, f"after clear_fault() the holder is {reading}."


def _expect_off(rig: Rig, holder: HeatingHolder) -> None:
    said: list[HolderReading | HotstageError] = []

    def off() -> bool:
        said[:] = [rig.call(holder.read, "read()")]
        return isinstance(said[0], HolderReading) and said[0].state in SETTLED

    rig.until(off, "the holder says that it is off", said)
