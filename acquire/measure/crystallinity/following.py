"""Follows whether each particle is a crystal, look by look, and says since when one has stayed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acquire.measure.crystallinity.critical import CriticalDiameter, critical_diameter
from acquire.stream.records import Value

Array = NDArray[np.float64]

_MISSES_TOO_UNLIKELY = 0.01
"""Looks that missed a crystal end its streak when all of them together were less likely than this."""
_MOST_LOOKS = 6000
_SURE_POWER = 0.9
_REFIT_GROWTH = 1.05
_FEWEST_LOOKS = 20


@dataclass
class _Streak:
    """Looks at one particle that all agree with a crystal."""

    begin_s: float
    """First of them."""
    before_s: float
    """The last look before at which there was none; NaN where there was no look."""
    last_s: float
    looks: int = 1
    missed: float = 1.0
    """Chance of the looks in it that found nothing."""


@dataclass(frozen=True, slots=True)
class Stable:
    """Since when a particle's crystal has stayed."""

    since_s: float
    sigma_s: float
    from_start: bool
    """It was a crystal at the first look, so that the time is an upper limit."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks at particles, one row each; arrays (n,)."""

    diameters_nm: Array
    crystalline: NDArray[np.bool_]
    particles: NDArray[np.int64]
    sigmas_nm: Array
    power: Array

    def critical_diameter(self, false_positive_rate: float) -> CriticalDiameter:
        """:func:`critical_diameter` of them."""
        return critical_diameter(
            self.diameters_nm,
            self.crystalline,
            self.particles,
            false_positive_rate=false_positive_rate,
            power=self.power,
        )


@dataclass
class Follower:
    """What was seen of every particle, by its lasting id; times in s may have any origin."""

    stable_for_s: float
    stable_looks: int
    false_positive_rate: float
    stable: dict[int, Stable] = field(default_factory=dict)
    critical: CriticalDiameter | None = None
    """The fit to the looks so far, renewed when they have grown by a twentieth."""
    _streaks: dict[int, _Streak] = field(default_factory=dict)
    _droplet_at_s: dict[int, float] = field(default_factory=dict)
    _looks: list[tuple[int, float, float, bool, float]] = field(default_factory=list)
    _added: int = 0
    _fit_at: float = _FEWEST_LOOKS

    def look(
        self, t_s: float, ids: NDArray[np.int64], crystalline: NDArray[np.bool_], power: Array
    ) -> None:
        """Tell what one image said of the particles that could be judged; arrays (n,), times rising."""
        for name, crystal, chance in zip(
            ids.tolist(), crystalline.tolist(), power.tolist(), strict=True
        ):
            if crystal:
                self._crystal(name, t_s)
            else:
                self._none(name, t_s, chance)

    def size(
        self,
        ids: NDArray[np.int64],
        diameters_nm: Array,
        sigmas_nm: Array,
        crystalline: NDArray[np.bool_],
        power: Array,
    ) -> None:
        """Tell the diameters that belong to looks at well measured particles; arrays (n,)."""
        sure = np.isfinite(diameters_nm) & np.isfinite(sigmas_nm)
        sure &= crystalline | (power >= _SURE_POWER)
        columns = (ids, diameters_nm, sigmas_nm, crystalline, np.maximum(power, _SURE_POWER))
        rows = zip(*(column[sure].tolist() for column in columns), strict=True)
        before = len(self._looks)
        self._looks.extend(rows)
        self._added += len(self._looks) - before
        del self._looks[:-_MOST_LOOKS]
        if self._added >= self._fit_at:
            self._fit_at = max(self._added * _REFIT_GROWTH, self._added + 5.0)
            self.critical = self.looks().critical_diameter(self.false_positive_rate)

    def looks(self) -> Looks:
        """The newest looks at well measured particles."""
        columns = tuple(zip(*self._looks, strict=True)) or ((),) * 5
        name, diameter, sigma, crystal, power = columns
        return Looks(
            np.array(diameter, np.float64),
            np.array(crystal, bool),
            np.array(name, np.int64),
            np.array(sigma, np.float64),
            np.array(power, np.float64),
        )

    def first_stable(self) -> tuple[Value, bool]:
        """Time of the first crystal that stayed, and whether that is an upper limit only; NaN for none yet."""
        if not self.stable:
            return Value(math.nan, math.nan), False
        first = min(self.stable.values(), key=lambda found: found.since_s)
        return Value(first.since_s, first.sigma_s), first.from_start

    def _crystal(self, name: int, t_s: float) -> None:
        streak = self._streaks.get(name)
        if streak is None:
            before_s = self._droplet_at_s.get(name, math.nan)
            self._streaks[name] = streak = _Streak(t_s, before_s, t_s)
        else:
            streak.looks += 1
            streak.last_s = t_s
        lasted = streak.last_s - streak.begin_s >= self.stable_for_s
        if name not in self.stable and lasted and streak.looks >= self.stable_looks:
            self.stable[name] = _stable(streak)

    def _none(self, name: int, t_s: float, power: float) -> None:
        streak = self._streaks.get(name)
        if streak is not None:
            streak.missed *= 1.0 - power
            if streak.missed >= _MISSES_TOO_UNLIKELY:
                return
            del self._streaks[name]
        self._droplet_at_s[name] = t_s


def _stable(streak: _Streak) -> Stable:
    if math.isnan(streak.before_s):
        return Stable(streak.begin_s, math.nan, from_start=True)
    gap_s = streak.begin_s - streak.before_s
    return Stable(streak.before_s + 0.5 * gap_s, gap_s / math.sqrt(12.0), from_start=False)
