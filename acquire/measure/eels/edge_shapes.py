"""Shapes of edges that are fitted together: lines and steps, and what plasmons make of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_FALL = 3.0
_TABLE_EV = 0.1
_BELOW_EV = 60.0


@dataclass(frozen=True, slots=True)
class EdgeShape:
    """White lines (energy, FWHM), each free, and steps (energy, share) that share one height."""

    lines: tuple[tuple[float, float], ...]
    steps: tuple[tuple[float, float], ...]
    step_width_ev: float = 1.0
    shift_ev: float = 0.0
    widening: float = 1.0
    lorentz: float = 0.3
    """Share of the Lorentzian in the lines."""

    @property
    def parts(self) -> int:
        """Free amounts."""
        return len(self.lines) + 1

    def columns(self, energy_ev: Array) -> Array:
        """Per eV, (…, parts): lines of unit area, then the steps; zero far below the edge."""
        found = []
        for at, fwhm in self.lines:
            half = 0.5 * fwhm * self.widening
            x = (energy_ev - at - self.shift_ev) / half
            gauss = np.exp(-math.log(2.0) * x * x) * math.sqrt(math.log(2.0) / math.pi) / half
            lorentz = 1.0 / (math.pi * half * (1.0 + x * x))
            # tails of the Lorentzian end where the edge has none
            lorentz *= np.abs(x) < 12.0
            found.append((1 - self.lorentz) * gauss + self.lorentz * lorentz)
        steps = np.zeros_like(energy_ev)
        for at, share in self.steps:
            x = (energy_ev - at - self.shift_ev) / (self.step_width_ev * self.widening)
            onset = np.where(x > -12.0, 0.5 + np.arctan(x) / math.pi, 0.0)
            steps += share * onset * (np.maximum(energy_ev, 1.0) / at) ** -_FALL
        return np.stack([*found, steps], axis=-1)


SHAPES: Mapping[str, EdgeShape] = MappingProxyType(
    {
        "la_m": EdgeShape(((833.0, 2.6), (850.0, 2.6)), ((833.0, 1.0), (850.0, 0.7))),
        "ni_l": EdgeShape(((856.0, 3.2), (873.2, 3.6)), ((856.0, 1.0), (873.2, 0.5))),
        "ta_m3": EdgeShape(((2196.5, 5.0),), ((2195.0, 1.0),), 2.0),
        "zr_l": EdgeShape(((2224.5, 5.0), (2309.5, 5.0)), ((2223.0, 1.0), (2308.0, 0.5)), 2.0),
    }
)
"""Pseudo-Voigt lines (30 % Lorentzian) and arctangent steps that fall as E⁻³; L2 steps have half the
height of L3 (2 to 1 electrons). Places and widths are first guesses, which the data correct."""

TOGETHER: Sequence[tuple[tuple[str, ...], tuple[float, float]]] = (
    (("la_m", "ni_l"), (775.0, 905.0)),
    (("ta_m3", "zr_l"), (2110.0, 2290.0)),
)
"""Groups of edges that are fitted together, and where."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of the low loss over its zero-loss peak: what an edge is scattered with once more."""

    per_ev: Array
    """(k,) at energies ``step_ev`` · (0 … k - 1); zero where the peak itself is."""
    step_ev: float


@dataclass(frozen=True, slots=True)
class Scattered:
    """A shape with its plural scattering, tabulated where it is asked for."""

    shape: EdgeShape
    losses: Losses | None

    def columns(self, energy_ev: Array) -> Array:
        """As those of the shape."""
        if self.losses is None or self.losses.per_ev.size < 2:
            return self.shape.columns(energy_ev)
        # a third of a second, which programs that fit no edges together do not have to wait
        from scipy import signal

        first = min(at for at, _ in (*self.shape.lines, *self.shape.steps)) - _BELOW_EV
        count = math.ceil((float(energy_ev.max()) - first) / _TABLE_EV) + 2
        table_ev = np.asarray(first + _TABLE_EV * np.arange(max(count, 2)), np.float64)
        direct = self.shape.columns(table_ev)
        scattered_ev = self.losses.step_ev * np.arange(self.losses.per_ev.size)
        kernel = np.interp(
            _TABLE_EV * np.arange(table_ev.size), scattered_ev, self.losses.per_ev, right=0.0
        )
        both = [
            column + _TABLE_EV * signal.fftconvolve(column, kernel)[: table_ev.size]
            for column in direct.T
        ]
        found = [np.interp(energy_ev, table_ev, column, left=0.0) for column in both]
        return np.stack(found, axis=-1)
