"""Core losses of a block of pairs as they are measured: electrons, each spectrum on its own axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MARGIN = 3
"""Channels to either side of a window that are passed on with it."""


@dataclass(frozen=True, slots=True)
class CoreRows:
    """Electrons, each spectrum on its own axis less its shift."""

    electrons: Array
    offset: Array
    step: float
    readout: float

    def within(self, low_ev: float, high_ev: float) -> CoreRows:
        """The channels that hold a range of energies in every spectrum; what is not there is left out."""
        channels = self.electrons.shape[1]
        first = int((low_ev - self.offset.max()) // self.step) - _MARGIN
        last = int((high_ev - self.offset.min()) // self.step) + _MARGIN + 2
        first = min(max(first, 0), channels - 8)
        last = max(min(last, channels), first + 8)
        return CoreRows(
            np.ascontiguousarray(self.electrons[:, first:last]),
            self.offset + self.step * first,
            self.step,
            self.readout,
        )
