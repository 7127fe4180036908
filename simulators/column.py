"""The column: beam, blank, scan shift, parked probe, and how the view drifts over the specimen."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np

from simulators.chip import AMBIENT_CELSIUS
from simulators.history import TemperatureHistory
from simulators.noise import generator

ELEMENTARY_CHARGE_C = 1.602176634e-19

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Beam:
    """The electron probe."""

    energy_kev: float = 300.0
    current_pa: float = 50.0
    convergence_semi_angle_mrad: float = 23.0

    @property
    def electrons_per_s(self) -> float:
        """Electrons that reach the specimen in a second."""
        return self.current_pa * 1e-12 / ELEMENTARY_CHARGE_C


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """How the specimen moves under the beam."""

    thermal_nm_per_k: float = 0.1
    """Displacement of the membrane's centre per kelvin."""
    relaxing_share: float = 0.3
    """Share of it that follows the temperature slowly."""
    slow_nm: float = 3.0
    """Amplitude of the drift that has no cause."""


RELAXATION_S = 40.0
RELAXED = "relaxed"
"""Name of the slowly following temperature in the history, a Relaxation of ``RELAXATION_S``."""


class Drift:
    """Displacement of the specimen in the column's frame as a function of time, in nm."""

    def __init__(self, history: TemperatureHistory, settings: DriftSettings, seed: int) -> None:
        rng = generator(seed, "drift")
        self._history = history
        self._settings = settings
        angle = rng.uniform(0, 2 * math.pi)
        self._direction = (math.cos(angle), math.sin(angle))
        self._periods = rng.uniform(500, 4000, (2, 3))
        self._phases = rng.uniform(0, 2 * math.pi, (2, 3))

    def at(self, t_s: float) -> Point:
        """Displacement (x, y) at a time; zero at time 0 on a cold chip."""
        drift = self._settings
        fast = self._history.celsius(t_s) - AMBIENT_CELSIUS
        slow = self._history.value(RELAXED, t_s) - AMBIENT_CELSIUS
        along = drift.thermal_nm_per_k * (
            (1 - drift.relaxing_share) * fast + drift.relaxing_share * slow
        )
        phase = 2 * math.pi * t_s / self._periods + self._phases
        wander = drift.slow_nm / 3 * (np.sin(phase) - np.sin(self._phases)).sum(axis=1)
        return (
            along * self._direction[0] + float(wander[0]),
            along * self._direction[1] + float(wander[1]),
        )


@dataclass(frozen=True, slots=True)
class BulgeSettings:
    """How the membrane bulges out of focus, and what the operator does about it."""

    nm_per_k: float = 0.05
    """Height of the membrane's centre per kelvin; at once, as the membrane expands."""
    focus_nm: float | None = None
    """Height that the probe is focused on, over that of the cold membrane; None follows the bulge,
    as an operator who refocuses would, with a time constant of ``RELAXATION_S``."""


class Bulge:
    """Height of the specimen above the plane of focus as a function of time."""

    def __init__(self, history: TemperatureHistory, settings: BulgeSettings) -> None:
        self._history = history
        self._settings = settings

    def defocus_nm(self, t_s: float) -> float:
        """At a time; zero on a chip that has long been at one temperature and is followed."""
        rate, focus = self._settings.nm_per_k, self._settings.focus_nm
        if focus is None:
            focus = rate * (self._history.value(RELAXED, t_s) - AMBIENT_CELSIUS)
        return rate * (self._history.celsius(t_s) - AMBIENT_CELSIUS) - focus


class Column:
    """What the operator can move about the beam. Safe for use by several threads."""

    def __init__(self, beam: Beam) -> None:
        self.beam = beam
        self._lock = threading.Lock()
        self._blanked = False
        self._shift: Point = (0.0, 0.0)
        self._parked: Point = (0.0, 0.0)

    def blank(self, blanked: bool) -> None:
        """Blank or un-blank the beam."""
        with self._lock:
            self._blanked = blanked

    def blanked(self) -> bool:
        """Whether the beam is blanked."""
        with self._lock:
            return self._blanked

    def electrons_per_s(self) -> float:
        """Electrons that reach the specimen in a second, now."""
        return 0.0 if self.blanked() else self.beam.electrons_per_s

    def shift_by(self, dx_nm: float, dy_nm: float) -> None:
        """Add to the scan shift."""
        with self._lock:
            self._shift = (self._shift[0] + dx_nm, self._shift[1] + dy_nm)

    def shift(self) -> Point:
        """The scan shift (x, y) in nm."""
        with self._lock:
            return self._shift

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point of the scan's frame."""
        with self._lock:
            self._parked = (x_nm, y_nm)

    def parked(self) -> Point:
        """The resting probe in the scan's frame, in nm."""
        with self._lock:
            return self._parked
