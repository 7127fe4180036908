"""Tells whether a run can go on at the temperature that its holder has now, without replaying heat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acquire.engine.history import steps_of
from acquire.errors import FaultError, InstrumentError, LimitError, RecipeError, StoreError
from acquire.instruments import HolderReading, HolderState
from acquire.recipe import Mark, Ramp, Step, WaitForOperator
from acquire.store import Run, words_of

SAME_CELSIUS = 1.0
"""Setpoints that differ by no more are the same."""

_HEATING = (HolderState.RAMPING.value, HolderState.HOLDING.value)


@dataclass(frozen=True, slots=True)
class Heat:
    """Where a holder is: at a setpoint, or just as warm as it is with the heater off."""

    on: bool
    celsius: float

    def __str__(self) -> str:
        known = math.isfinite(self.celsius)
        where = f"{self.celsius:.4g} °C" if known else "an unknown temperature"
        return where if self.on else f"{where} with the heater off"

    def same(self, other: Heat) -> bool:
        """Whether nothing has to be heated or cooled to get from one to the other."""
        if self.on is not other.on:
            return False
        return not self.on or abs(self.celsius - other.celsius) <= SAME_CELSIUS


def last_heat(runs: Sequence[Run]) -> Heat:
    """Where the holder was when the steps of a run ended or were cut off.

    What follows in the record is the way into the safe state, and does not count. Segments that
    began no step do not, either: the holder may have been anywhere then.
    """
    run = next((run for run in reversed(runs) if _began(run)), runs[0])
    if "holder" not in run.tables:
        return Heat(False, math.nan)
    holder = run.holder
    heated = np.flatnonzero(np.isin(words_of(holder["state"]), _HEATING))
    if heated.size:
        return Heat(True, float(holder["setpoint"].values[heated[-1]]))
    measured = holder["measured"].values
    return Heat(False, float(measured[-1]) if measured.size else math.nan)


def _began(run: Run) -> bool:
    """Whether a segment began a step; one whose journal does not tell is taken to have."""
    try:
        return bool(steps_of(run))
    except (RecipeError, StoreError):
        return True


def present_heat(reading: HolderReading) -> Heat:
    """Where the holder is.

    Raises:
        FaultError: the heater is tripped.
        InstrumentError: the temperature is moving.
    """
    if reading.state is HolderState.TRIPPED:
        raise FaultError(
            f"the heater is tripped: {reading.fault} Clear the fault before the run goes on."
        )
    if reading.state in (HolderState.RAMPING, HolderState.MAKING_SAFE):
        raise InstrumentError(
            f"the holder is {reading.state.value.replace('_', ' ')} at "
            f"{reading.setpoint_celsius:.4g} °C. Wait until it has come to rest."
        )
    if reading.state is HolderState.HOLDING:
        return Heat(True, reading.setpoint_celsius)
    return Heat(False, reading.measured_celsius)


def moves_nothing(step: Step) -> bool:
    """Whether a step does not depend on the temperature."""
    return isinstance(step, Mark | WaitForOperator)


def check_heat(
    step: Step, was: Heat, present: Heat, *, cut_off: bool, new_recipe: bool, mend: str
) -> None:
    """Refuse to go on with a step where that would replay heat, or take it at a wrong temperature.

    Args:
        step: the first that depends on the temperature.
        was: where the holder was when the run was cut off.
        present: where it is.
        cut_off: whether the step was begun already.
        new_recipe: whether the step comes from a recipe that was written for this continuation.
        mend: what to do instead.

    Raises:
        LimitError: names both temperatures.
    """
    if was.same(present):
        return
    moved = f"the run was cut off at {was}, and the holder is at {present} now"
    if not isinstance(step, Ramp):
        raise LimitError(f"{moved}; '{step}' does not say a temperature. {mend}")
    if new_recipe:
        return
    if cut_off:
        raise LimitError(f"{moved}; '{step}' was under way, and would begin anew. {mend}")
    if step.to < was.celsius - SAME_CELSIUS and step.to > present.celsius + SAME_CELSIUS:
        raise LimitError(f"{moved}; '{step}' was to cool, and would heat. {mend}")
