"""Compiles everything that a measurement runs through before the first live frame needs it."""

from __future__ import annotations

import numpy as np

from acquire.measure.particles.measure import measure_particles

TYPES = (np.uint8, np.uint16, np.float32)
"""Types of pixels that are measured as they are; others are converted to float32 first."""


def warm_up() -> None:
    """Compile all kernels for 8-bit, 16-bit and float32 images, or load them from disk.

    It takes up to a minute the first time on a machine and well below a second later. The live
    estimator calls it when it is made, so that its first frame is not late.
    """
    y, x = np.mgrid[:96, :96] + 0.5
    counts = 40.0 + 5.0 * ((7 * y + 11 * x + 3 * y * x) % 5 - 2.0)
    for cy, cx in ((30.0, 30.0), (60.0, 66.0)):
        counts += 8.0 * np.sqrt(np.clip(64.0 - (y - cy) ** 2 - (x - cx) ** 2, 0.0, None))
    places = np.array([[15.0, 15.0]])
    for kind in TYPES:
        measure_particles(counts.astype(kind), 0.5, known_nm=places, trusted=np.ones(1, bool))
