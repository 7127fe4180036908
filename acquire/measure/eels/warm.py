"""Compiles what spectra are measured with, before a run or its end needs it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from acquire.compiled import compile_apart, note_compiled
from acquire.instruments import Axis
from acquire.measure.eels.live_shift import LiveShift
from acquire.measure.eels.pairs import measure_pairs
from acquire.measure.eels.profile import line_profile

_NAME = "eels"
_HERE = Path(__file__)


def warm_up() -> None:
    """Compile the kernels of :func:`line_profile` and of the live estimator, or load them from disk.

    It takes about a minute the first time on a machine and a second in later processes.
    """
    core, low = Axis(400.0, 1.0, "eV"), Axis(-20.0, 0.5, "eV")
    loss, energy = -20.0 + 0.5 * np.arange(256), 400.0 + np.arange(2048)
    peak = 2e5 * np.exp(-4.0 * np.log(2.0) * np.square(loss / 1.5))
    plasmon = 4e3 * np.exp(-0.5 * np.square((loss - 25.0) / 6.0))
    falling = 3e4 * (energy / 400.0) ** -3.0
    for onset in (456.0, 532.0, 832.0, 855.0, 1735.0, 1940.0, 2194.0, 2222.0):
        falling = falling + 2e3 * (onset / 400.0) ** -3.0 * (energy > onset)
    grain = 1.0 + 0.01 * ((7 * np.arange(2048)) % 5 - 2.0)
    rows = np.tile(falling * grain, (3, 1)).astype(np.int32)
    beside = np.tile((peak + plasmon) * grain[:256], (3, 1)).astype(np.int32)
    line_profile(rows, core, beside, low, full_scale_counts=1e9)
    line_profile(rows, core, edges=("ti_l", "o_k"))
    measure_pairs(rows, core, beside, low)
    follower, span = LiveShift(), np.array([0.0, 1.0])
    for second in range(17):  # so many positions that it estimates the noise from them
        at = span + second
        follower.follow(np.array([0.01 * (second % 3)]), np.array([0.01]), at[None], at)
    note_compiled(_NAME, _HERE)


def warm_up_apart() -> None:
    """Have them compiled in a process of its own, and return when that is done; nothing if it was."""
    compile_apart(_NAME, _HERE, f"from {warm_up.__module__} import warm_up; warm_up()")


@lru_cache(maxsize=1)
def ready() -> None:
    """Compile and load all that spectra are measured with, once in a process."""
    warm_up_apart()
    warm_up()
