"""Compiles everything that a measurement runs through before the first live frame needs it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from acquire.compiled import compile_apart, note_compiled
from acquire.measure.particles.measure import measure_particles

TYPES = ("uint8", "uint16", "float32")
"""Types of pixels that are measured as they are; others are converted to float32 first."""


_HERE = Path(__file__)


def warm_up(types: Iterable[DTypeLike] = TYPES) -> None:
    """Compile all kernels for images of some types, or load them from disk.

    It takes up to a minute the first time on a machine and below half a second in later processes.
    """
    y, x = np.mgrid[:96, :96] + 0.5
    counts = 40.0 + 5.0 * ((7 * y + 11 * x + 3 * y * x) % 5 - 2.0)
    # one by itself, and two that share room
    squares = [
        (y - cy) ** 2 + (x - cx) ** 2 for cy, cx in ((30.0, 30.0), (60.0, 60.0), (65.0, 69.0))
    ]
    counts += 8.0 * np.sqrt(np.clip(64.0 - np.minimum.reduce(squares), 0.0, None))
    places = np.array([[15.0, 15.0]])
    for kind in types:
        measure_particles(counts.astype(kind), 0.5, known_nm=places, trusted=np.ones(1, bool))
        measure_particles(_rough().astype(kind), 0.4)
        note_compiled(_name(kind), _HERE)


def _name(kind: DTypeLike) -> str:
    return f"particles-{np.dtype(kind).name}"


def _rough() -> NDArray[np.float64]:
    """Counts of domes on a film so rough that they are looked for by their edges, one of them cut."""
    side = 192
    y, x = np.mgrid[:side, :side] + 0.5
    film = np.ones((side, side))
    for a, b in ((5, 2), (3, -7), (9, 4), (-6, 8), (1, 10), (11, -3), (7, 7), (4, -9), (12, 1)):
        film += 0.05 * np.cos(2.0 * np.pi * (a * y + b * x) / side + a * a + 3 * b)
    for cy, cx in ((2, 60), (40, 30), (45, 90), (50, 150), (100, 40), (95, 100), (105, 160)):
        film *= 1.0 + 0.1 * np.sqrt(np.clip(64.0 - (y - cy) ** 2 - (x - cx) ** 2, 0.0, None))
    noise = 0.7 * np.sqrt(film) * ((7 * y + 11 * x + 3 * y * x) % 5 - 2.0)
    return np.asarray(np.clip(np.round(100.0 * film + 10.0 * noise), 0.0, 250.0), np.float64)


class WarmUp:
    """Warms up in a thread of its own, so that making an estimator, as a preflight does, is free.

    The thread cannot be stopped, but holds nothing up: it ends with the process.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._done = threading.Event()
        threading.Thread(target=self._run, name=f"warm-up-{kind}", daemon=True).start()

    def wait(self) -> None:
        """Return when all is ready."""
        self._done.wait()

    def _run(self) -> None:
        module = warm_up.__module__
        try:
            compile_apart(
                _name(self._kind),
                _HERE,
                f"from {module} import warm_up; warm_up(({self._kind!r},))",
            )
            warm_up((self._kind,))
        finally:
            self._done.set()  # what went wrong here will be said by the first image


def begin_warm_up(kind: DTypeLike) -> WarmUp:
    """Warm up for images of this type, once in a process; returns at once."""
    name = np.dtype(kind).name
    return _begun(name if name in TYPES else "float32")


@lru_cache(maxsize=len(TYPES))
def _begun(kind: str) -> WarmUp:
    return WarmUp(kind)
