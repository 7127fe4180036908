"""Tells on which energies a recorded spectrum lies: as it was tuned, and as its run calibrated it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from acquire.instruments import Axis

CORE = "core_loss"
TUNED = "energy_offset"
"""Number of a spectrum: eV of its first core-loss channel, where that was moved within a stream."""
SCALE = "dispersion_scale"
"""Calibrated dispersion over the nominal one."""
_CORE_EV, _LOW_EV = "core_loss_correction", "low_loss_correction"
KNOWN_BY = (TUNED, SCALE, _CORE_EV, _LOW_EV)
"""Numbers of a spectrum that tell its axis."""


def true_axis(axis: Axis, channel: str, numbers: Mapping[str, float]) -> Axis:
    """The energy axis of one spectrum.

    Where no correction of the low loss is known it is taken to be off as the core loss is: with the
    zero-loss peak the same offset would be taken off the core loss twice.

    Args:
        axis: nominal, of its stream.
        channel: ``core_loss`` or another.
        numbers: that were recorded with the spectrum; what is missing or NaN changes nothing.
    """

    def number(name: str) -> float:
        return numbers.get(name, math.nan)

    offset, step = axis.offset, axis.step
    if channel == CORE and math.isfinite(number(TUNED)):
        offset = number(TUNED)
    by_ev, scale = number(_CORE_EV), number(SCALE)
    if math.isfinite(by_ev):
        own_ev = number(_LOW_EV)
        offset += own_ev if channel != CORE and math.isfinite(own_ev) else by_ev
        step *= scale if math.isfinite(scale) else 1.0
    return Axis(offset, step, axis.unit)
