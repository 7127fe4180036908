"""When a dual spectrum is exposed: low-loss reads in turn with parts of the core-loss dwell.

As on a real DualEELS the beam's spectrum is deflected from one range of energies to the other, and the
probe stays on the specimen all the time. With n reads the core-loss dwell is cut into n equal parts,
and a read goes before each: r c r c … r c. The core-loss parts are one exposure of the camera, read out
once at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import SpectrumExposure

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pattern:
    """The times of one frame, in s since it began."""

    low_s: Array
    """Begin and end of the low-loss reads; float64 (reads, 2), none if it is not dual."""
    core_s: Array
    """Begin and end of the parts of the core loss; float64 (parts, 2)."""

    @property
    def frame_s(self) -> float:
        """How long the frame is."""
        return float(self.core_s[-1, 1])


def pattern(exposure: SpectrumExposure, *, dual: bool) -> Pattern:
    """The times of a frame of an exposure."""
    reads = exposure.low_loss_reads if dual else 1
    low_s = exposure.low_loss_dwell_time_s if dual else 0.0
    part_s = exposure.dwell_time_s / reads
    begin = np.arange(reads) * (low_s + part_s)
    core = np.stack([begin + low_s, begin + low_s + part_s], axis=1)
    low = np.stack([begin, begin + low_s], axis=1) if dual else np.empty((0, 2))
    # the last part ends with the frame, to the last digit
    core[-1, 1] = exposure.dwell_time_s + reads * low_s
    return Pattern(low, core)
