"""Follows whether each particle is a crystal, look by look, and says since when one has stayed."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acquire.measure.crystallinity.critical import CriticalDiameter, critical_diameter
from acquire.stream.records import Value

Array = NDArray[np.float64]

_COMES_AND_GOES = 0.5
"""Share of the looks at which a crystal that has not stayed is there all the same."""
_LONGEST_CREDIT = math.log(100.0)
"""However long a crystal was seen, misses that are a hundred times likelier without it count as its end."""
_REMEMBERED = 300
"""Looks at a particle among which the first one of its crystal is sought."""
_MOST_WATCHED = 1000
"""Particles; beyond, the one that was not looked at for longest is forgotten."""
_MOST_LOOKS = 6000
_SURE_POWER = 0.9
_REFIT_GROWTH = 1.05
_FEWEST_LOOKS = 20


@dataclass
class _Watched:
    """What was seen of one particle, and its looks of late that agree with a crystal."""

    seen: deque[tuple[float, bool, float]] = field(
        default_factory=lambda: deque(maxlen=_REMEMBERED)
    )
    """Time, whether a crystal was found, and the power, of its newest looks."""
    begin_s: float = math.nan
    """First look that agrees; NaN where the last one does not."""
    looks: int = 0
    """Crystals found since then."""
    score: float = 0.0
    """Logarithm of how much likelier these looks are if the crystal has stayed than if it comes and goes."""


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
    _watched: dict[int, _Watched] = field(default_factory=dict)
    _looks: list[tuple[int, float, float, bool, float]] = field(default_factory=list)
    _added: int = 0
    _fit_at: float = _FEWEST_LOOKS

    def look(
        self, t_s: float, ids: NDArray[np.int64], crystalline: NDArray[np.bool_], power: Array
    ) -> None:
        """Tell what one image said of the particles that could be judged; arrays (n,), times rising."""
        rows = zip(ids.tolist(), crystalline.tolist(), power.tolist(), strict=True)
        for name, crystal, chance in rows:
            if name in self.stable:
                continue
            watched = self._watched.setdefault(name, _Watched())
            watched.seen.append((t_s, crystal, chance))
            self._judge(name, watched)
        while len(self._watched) > _MOST_WATCHED:
            del self._watched[min(self._watched, key=lambda name: self._watched[name].seen[-1][0])]

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

    def _judge(self, name: int, watched: _Watched) -> None:
        t_s, crystal, power = watched.seen[-1]
        score = max(watched.score, 0.0) + _evidence(crystal, power)
        watched.score = min(score, _LONGEST_CREDIT)
        if watched.score <= 0.0:
            watched.begin_s, watched.looks = math.nan, 0
            return
        if math.isnan(watched.begin_s):
            watched.begin_s = t_s
        watched.looks += crystal
        lasted = crystal and t_s - watched.begin_s >= self.stable_for_s
        if lasted and watched.looks >= self.stable_looks:
            self.stable[name] = _since(tuple(watched.seen))
            del self._watched[name]


def _evidence(crystal: bool, power: float) -> float:
    """What a look says for a crystal that has stayed, against one that comes and goes."""
    if crystal:
        return -math.log(_COMES_AND_GOES)
    return math.log(max(1.0 - power, 1e-9) / (1.0 - _COMES_AND_GOES * power))


def _since(seen: tuple[tuple[float, bool, float], ...]) -> Stable:
    """When a crystal that has stayed appeared: after one of the looks without, by their likelihood."""
    times, crystal, power = (np.array(column) for column in zip(*seen, strict=True))
    evidence = np.array([_evidence(bool(c), p) for c, p in zip(crystal, power, strict=True)])
    onward = np.cumsum(evidence[::-1])[::-1]
    after = 1 + np.flatnonzero(~crystal[:-1])
    # at such a look there was none, not merely none that was found
    none = np.log((1.0 - _COMES_AND_GOES) / (1.0 - _COMES_AND_GOES * power[after - 1]))
    weight = np.exp(np.concatenate([[onward[0]], onward[after] + none]) - onward.max())
    share = weight / weight.sum()
    if share[0] > 0.5:
        return Stable(float(times[0]), math.nan, from_start=True)
    middle, gap = 0.5 * (times[after - 1] + times[after]), times[after] - times[after - 1]
    share = share[1:] / share[1:].sum()
    mean = float(share @ middle)
    variance = float(share @ (np.square(middle - mean) + np.square(gap) / 12.0))
    return Stable(mean, math.sqrt(variance), from_start=False)
