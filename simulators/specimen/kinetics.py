"""How particles appear and grow: a function of thermal time alone, in closed form, that conserves nickel.

A first, honest version: every site has an incubation (in thermal time) and then grows as the cube
root of its age, V ∝ age, as diffusion from a plane reservoir gives. All sites draw on one supply:
age runs slower by the share of the reachable nickel that is used up. Ripening, migration, the
crystal that comes and goes, and a barrier of its own for each path are still to come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NI_PER_NM3 = 91.4
"""Atoms per nm³ of nickel metal."""


@dataclass(frozen=True, slots=True)
class Sites:
    """Where particles can be, and how they behave; equally long arrays, id = place in the array."""

    x_nm: Array
    y_nm: Array
    onset_s: Array
    """Thermal time at which the particle appears."""
    speed_nm: Array
    """Diameter after one second of age, in nm / s^(1/3)."""

    def __len__(self) -> int:
        return len(self.x_nm)


class Population:
    """Diameters of all particles as a function of thermal time.

    With V_i = π/6 speed_i³ (s - onset_i) the nickel in particles N(s) is piecewise linear in the
    supply-limited age s, where ds/dθ = 1 - N(s)/N_max. Between two onsets that is an exponential.
    """

    def __init__(self, sites: Sites, reachable_ni: float) -> None:
        self.sites = sites
        self._reachable = reachable_ni
        order = np.argsort(sites.onset_s, kind="stable")
        onset = sites.onset_s[order]
        rate = NI_PER_NM3 * math.pi / 6 * np.cumsum(sites.speed_nm[order] ** 3)
        # knots at the onsets: age, nickel in particles, growth of the nickel, thermal time
        ages, held, thermal = [0.0], [0.0], [0.0]
        rates = [0.0]
        for k in range(len(sites)):
            duration = float(onset[k]) - ages[-1]
            more = held[-1] + rates[-1] * duration
            if more >= reachable_ni:  # this site comes too late: nothing is left for it
                break
            thermal.append(thermal[-1] + self._thermal_time(held[-1], rates[-1], duration))
            ages.append(float(onset[k]))
            held.append(more)
            rates.append(float(rate[k]))
        self._ages, self._held = np.array(ages), np.array(held)
        self._rates, self._thermal = np.array(rates), np.array(thermal)

    def age_s(self, thermal_s: float) -> float:
        """The supply-limited age at a thermal time, both in s."""
        return self._at(thermal_s)[0]

    def ni_in_particles(self, thermal_s: float) -> float:
        """Nickel atoms in all particles."""
        return self._at(thermal_s)[1]

    def diameters_nm(self, thermal_s: float) -> Array:
        """Equivalent spherical diameters of all sites, 0 where nothing has appeared; float64 (n,)."""
        own_age = np.maximum(self.age_s(thermal_s) - self.sites.onset_s, 0.0)
        return self.sites.speed_nm * np.cbrt(own_age)

    def _thermal_time(self, held: float, rate: float, duration: float) -> float:
        if rate == 0:
            return duration
        left = self._reachable - held
        return -self._reachable / rate * math.log1p(-rate * duration / left)

    def _at(self, thermal_s: float) -> tuple[float, float]:
        k = max(0, int(np.searchsorted(self._thermal, thermal_s, side="right")) - 1)
        held, rate = float(self._held[k]), float(self._rates[k])
        since = max(0.0, thermal_s - float(self._thermal[k]))
        if rate == 0:
            return float(self._ages[k]) + since, held
        left = self._reachable - held
        grown = -left * math.expm1(-rate * since / self._reachable)
        return float(self._ages[k]) + grown / rate, held + grown


class FixedPopulation:
    """Particles of given sizes that heat does not change."""

    def __init__(self, x_nm: Array, y_nm: Array, diameter_nm: Array) -> None:
        zero = np.zeros_like(x_nm)
        self.sites = Sites(x_nm, y_nm, zero, zero)
        self._diameter_nm = diameter_nm

    def ni_in_particles(self, thermal_s: float) -> float:
        """Nickel atoms in all particles."""
        return float(NI_PER_NM3 * math.pi / 6 * np.sum(self._diameter_nm**3))

    def diameters_nm(self, thermal_s: float) -> Array:
        """The given diameters; float64 (n,)."""
        return self._diameter_nm
