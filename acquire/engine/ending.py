"""What the end of a run waits for, and how it is told why it came."""

from __future__ import annotations

from acquire.engine.context import RunContext
from acquire.engine.monitor import HolderMonitor
from acquire.errors import FaultError
from acquire.instruments import HolderReading, HolderState

COOL_PATIENCE_S = 15.0
"""Beyond the time that the armed cooling takes, until a holder that is not off is reported."""


def await_heater_off(run: RunContext, monitor: HolderMonitor) -> None:
    """Record the way down, until the heater is off; FaultError if it is not when it should be."""
    safe = run.recipe.safe_state.holder()
    patience_s = COOL_PATIENCE_S
    if safe.cool_rate_celsius_per_s is not None:
        span = abs(monitor.latest.setpoint_celsius - safe.cool_to_celsius)
        patience_s += span / safe.cool_rate_celsius_per_s
    deadline_s = run.now_s() + patience_s
    while not _is_off(monitor.fresh()):
        if run.now_s() > deadline_s:
            raise FaultError(
                f"the heater is still {monitor.latest.state.value!r} "
                f"{patience_s:.0f} s after it was made safe. Switch it off by hand."
            )
        run.clock.sleep(0.2)


def leaving(end: BaseException) -> str:
    """Why a run ends, from what made its own thread leave."""
    if isinstance(end, KeyboardInterrupt):
        return "interrupted by Ctrl-C"
    return f"the program ended ({type(end).__name__})"


def _is_off(reading: HolderReading | None) -> bool:
    """Whether a reading, made just now, says that the heater is off."""
    return reading is not None and reading.state in (HolderState.OFF, HolderState.TRIPPED)
