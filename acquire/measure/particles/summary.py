"""Condenses a table of particles into count, density, coverage and diameters, each with its σ.

The σ of diameters and coverage is that of the measurement of *these* particles. How far another
field of the same specimen would differ (about CV/√n for the mean) is not in it: that is sampling.
The density is a statement on the specimen, so its σ is the counting statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.instruments import AnyArray
from acquire.measure.particles.arrays import middle as median_of
from acquire.measure.particles.islands import own_share
from acquire.stream.records import Quantity, Value

NAN = Value(math.nan, math.nan)
FEW = 5
_SNR_POWER = 1.5
_ODD = 2.5
"""So many σ over what its size lets expect, a particle is no lucky one of many that were missed."""
_RULE = 0.5
"""Sum of squared distances, in ln d, from which the particles overrule the rule."""
_CHANCE_SHARE = 0.5
_MOST_MISSED = 0.15
"""Share of particles missed, as their chances tell, from which small ones are too little known."""
_MOST_LEFT_OUT = 0.25
"""Share of particles below the smallest diameter from which a mean of the others is too high."""

_CROWD = 0.3
"""Share of particles that overlap from which others are hidden by them in number."""

_WRONG_IMAGE = ("saturated", "polarity")
_HIDDEN = (*_WRONG_IMAGE, "crowded", "many_unfitted")
_FEW = (*_HIDDEN, "few_particles", "near_limit")
"""Near the detection limit the small particles are missed, which inflates a mean."""

QUANTITIES = (
    Quantity("mean_diameter", "nm", "mean equivalent spherical diameter", _FEW),
    Quantity("median_diameter", "nm", "median equivalent spherical diameter", _FEW),
    Quantity("count", "1", "particles whose centre lies in the image", _HIDDEN),
    Quantity("areal_density", "1/µm²", "particles per area, corrected for the border", _HIDDEN),
    Quantity("coverage", "1", "share of the image covered by particles", _WRONG_IMAGE),
)

COLUMNS: Mapping[str, str] = {
    "id": "1",
    "x_nm": "nm",
    "y_nm": "nm",
    "diameter_nm": "nm",
    "diameter_sigma_nm": "nm",
    "mask_diameter_nm": "nm",
    "mask_diameter_sigma_nm": "nm",
    "contrast": "1",
    "snr": "1",
    "chi2": "1",
    "border": "1",
    "overlap": "1",
    "fitted": "1",
}
"""Columns of a particle table and their units.

``id`` int, stays with a particle over frames; ``x_nm, y_nm`` centre from the image's top-left
corner, pixel i centred on (i + 0.5) · pixel size; ``diameter_nm`` equivalent spherical diameter;
``mask_diameter_nm`` diameter of the circle with the area above half of the particle's contrast;
``mask_diameter_sigma_nm`` its σ from the noise; ``contrast`` height of the fitted dome over the film's level; ``snr`` peak of the filtered contrast
over its noise; ``chi2`` reduced χ² of the profile; ``border`` int, 1 if it touches the image's
edge; ``overlap`` int, 1 if its footprint reaches into another one's; ``fitted`` int, 0 where the diameter comes from the mask, since the dome did not fit.
"""


@dataclass(frozen=True)
class SummaryContext:
    """What a summary needs to know beside the table."""

    height_nm: float
    """Of the image."""
    width_nm: float
    inside: NDArray[np.bool_]
    """Which particles have their centre in the image."""
    footprint_per_diameter: float
    """Diameter of the footprint over the equivalent spherical one."""
    doubtful: int = 0
    """Particles so near the detection limit that they may be noise, or others have been missed."""
    smallest_nm: float = 0.0
    """Diameters below it count as below the detection limit: they enter no mean."""
    seed_snr: float = 0.0
    """SNR that it took to be found; 0 where nothing was missed."""


def no_values() -> dict[str, Value]:
    """What is said of an image that cannot be measured."""
    return {quantity.name: NAN for quantity in QUANTITIES}


def summarise(
    table: Mapping[str, AnyArray], context: SummaryContext
) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Values by quantity name, and flags ``no_particles``, ``few_particles``, ``near_limit`` (many
    lie below the smallest diameter, and the mean is of the others), ``many_unfitted``, ``crowded`` (many overlap, so that others are
    hidden).

    Diameters are of particles that do not touch the border. The density weights each of these by
    the inverse of the area in which a particle of its size does not touch it (Miles-Lantuéjoul).

    Small particles are missed, which inflates the mean and the median. Each particle stands for
    those of its size that were not found: it is weighted by the inverse of the chance to find it
    (Horvitz and Thompson 1952, J. Am. Stat. Assoc. 47:663), see :func:`chance_to_find`. The σ of the
    mean holds the sizing of each particle and the chance that it was found; it does not hold what
    another field would show. The count and the density are of what was found.
    """
    border = np.asarray(table["border"]) != 0
    whole = ~border
    diameter = np.asarray(table["diameter_nm"], np.float64)
    sigma = np.asarray(table["diameter_sigma_nm"], np.float64)
    count = int(np.count_nonzero(context.inside))
    # a cut particle's centre is in or out with about even odds wrong one time in four
    count_sigma = math.sqrt(0.25 * float(np.count_nonzero(border)) * 0.5 + 0.25 * context.doubtful)
    values = {
        "mean_diameter": NAN,
        "median_diameter": NAN,
        "count": Value(float(count), count_sigma),
        "areal_density": Value(0.0, 1e6 / (context.height_nm * context.width_nm)),
        "coverage": Value(0.0, 0.0),
    }
    if len(diameter) == 0:
        return values, ("no_particles",)
    footprint = diameter * context.footprint_per_diameter
    area = context.height_nm * context.width_nm
    disc = np.pi / 4 * footprint**2
    touching = np.asarray(table.get("overlap", np.zeros(len(diameter)))) != 0
    if touching.any():
        y, x = (np.asarray(table[name], np.float64) for name in ("y_nm", "x_nm"))
        disc *= own_share(y, x, 0.5 * footprint)
    # a cut particle covers about half of its circle
    covered = disc[whole].sum() + 0.5 * disc[border].sum()
    by_size = np.pi / 2 * footprint * context.footprint_per_diameter * sigma
    by_border = np.where(border, np.pi / 4 * footprint**2 * 0.3, 0.0)
    values["coverage"] = Value(
        float(covered / area), float(np.sqrt((by_size**2 + by_border**2).sum()) / area)
    )
    if whole.any():
        across = footprint[whole]
        window = np.maximum(context.height_nm - across, 1.0) * np.maximum(
            context.width_nm - across, 1.0
        )
        share = 1e6 / window
        values["areal_density"] = Value(float(share.sum()), float(np.sqrt((share**2).sum())))
    sized = whole & (diameter >= context.smallest_nm)
    if not sized.any():
        return values, ("few_particles",)
    sizes, errors = diameter[sized], sigma[sized]
    n = len(sizes)
    snr = np.asarray(table["snr"], np.float64)[sized]
    fitted = np.asarray(table["fitted"])[sized] != 0
    if n < FEW and snr.max() < 2.0 * context.seed_snr:
        # a few islands barely above the noise may be texture: they have no mean size
        return values, ("few_particles",)
    chance = chance_to_find(_steadied(sizes, errors), snr, context.seed_snr)
    weight = np.where(fitted, 1.0 / chance, 1.0)
    weight /= weight.sum()
    mean = float((weight * sizes).sum())
    by_chance = (1.0 - np.where(fitted, chance, 1.0)) * np.square(weight * (sizes - mean))
    # the chances themselves are known to about half of what they change
    by_rule = _CHANCE_SHARE * (mean - float(sizes.mean()))
    by_sizing = float((np.square(weight * errors) + by_chance).sum())
    by_member = (
        _by_membership(
            np.asarray(table["x_nm"], np.float64),
            np.asarray(table["y_nm"], np.float64),
            diameter,
            sigma,
            context.width_nm,
            context.height_nm,
            0.5 * context.footprint_per_diameter,
            mean,
        )
        / n**2
    )
    mean_sigma = math.sqrt(by_sizing + by_rule**2 + by_member)
    values["mean_diameter"] = Value(mean, mean_sigma)
    spread = math.sqrt(math.pi / 2) if n > 2 else 1.0
    values["median_diameter"] = Value(_median(sizes, weight), spread * mean_sigma)
    flags = []
    missed = float((1.0 / np.where(fitted, chance, 1.0) - 1.0).sum())
    few_left = n < (1.0 - _MOST_LEFT_OUT) * np.count_nonzero(whole)
    if few_left or missed > _MOST_MISSED * n:
        flags.append("near_limit")
    if n < FEW:
        flags.append("few_particles")
    if np.count_nonzero(~fitted) > 0.3 * n:
        flags.append("many_unfitted")
    if np.count_nonzero(touching) > _CROWD * len(diameter):
        flags.append("crowded")
    return values, tuple(flags)


@compiled
def chance_to_find(
    diameter_nm: NDArray[np.float64], snr: NDArray[np.float64], seed_snr: float
) -> NDArray[np.float64]:
    """Probability that a particle of such a diameter exceeds the threshold, at least 0.3.

    The SNR that a diameter has on average is taken from the particles themselves: a power of the
    diameter, near 3/2 (height grows as d, and so does the share of a small dome that the filter
    keeps) but less where the filter sees a whole dome; about it lie the unit noise and the scatter
    of the particles. Those near the threshold say little, since only the lucky ones were found.
    Not lower than 0.3, so that one small particle never stands for more than three; and 1 for one that
    stands out far more than its size lets expect: it is of another kind, or no particle.
    """
    count = len(diameter_nm)
    chance = np.ones(count)
    if count < 3 or seed_snr <= 0:
        return chance
    expected, scatter = _usual_snr(diameter_nm, snr, seed_snr)
    for p in range(count):
        wide = np.sqrt(1.0 + (scatter * expected[p]) ** 2)
        if snr[p] - expected[p] <= _ODD * wide:
            chance[p] = max(_normal((expected[p] - seed_snr) / wide), 0.3)
    return chance


@compiled
def _normal(z: float) -> float:
    """Share of a normal distribution below z σ."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


@compiled
def _usual_snr(
    diameter_nm: NDArray[np.float64], snr: NDArray[np.float64], seed_snr: float
) -> tuple[NDArray[np.float64], float]:
    """SNR expected of each diameter, and the scatter of its logarithm beyond the noise."""
    x, y = np.log(diameter_nm), np.log(np.maximum(snr, 1e-3))
    usual = diameter_nm**_SNR_POWER
    expected = median_of(snr / usual) * usual
    power = _SNR_POWER
    for _ in range(2):
        clear = expected > seed_snr + 1.0
        if clear.sum() < FEW:
            break
        away = x[clear] - x[clear].mean()
        # so many particles, spread so far, say more than the rule
        known = (away * (y[clear] - y[clear].mean())).sum() + _SNR_POWER * _RULE
        power = min(max(known / ((away**2).sum() + _RULE), 1.0), 2.0)
        level = median_of((y - power * x)[clear])
        expected = np.exp(level) * diameter_nm**power
    rest = y - np.log(expected)
    own = (1.4826 * median_of(np.abs(rest))) ** 2 - median_of(1.0 / expected) ** 2
    return expected, math.sqrt(min(max(own, 0.0), 0.09))


@compiled
def _by_membership(
    x_nm: NDArray[np.float64],
    y_nm: NDArray[np.float64],
    diameter_nm: NDArray[np.float64],
    sigma_nm: NDArray[np.float64],
    width_nm: float,
    height_nm: float,
    to_radius: float,
    mean_nm: float,
) -> float:
    """Variance of the sum of diameters, less the mean, by whether particles near the border are whole."""
    total = 0.0
    for p in range(len(x_nm)):
        x, y = x_nm[p], y_nm[p]
        reach = min(min(x, y), min(width_nm - x, height_nm - y))
        # the centre along the border's normal is known about as well as the radius
        sigma = max(math.sqrt(2.0) * to_radius * sigma_nm[p], 1e-9)
        whole = _normal((reach - to_radius * diameter_nm[p]) / sigma)
        total += whole * (1.0 - whole) * (diameter_nm[p] - mean_nm) ** 2
    return total


@compiled
def _steadied(
    diameter_nm: NDArray[np.float64], sigma_nm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Diameters drawn to their median as far as their σ exceeds the population's own spread."""
    middle = median_of(diameter_nm)
    own = max(float(np.var(diameter_nm) - np.mean(sigma_nm**2)), (0.08 * middle) ** 2)
    return np.asarray(middle + (diameter_nm - middle) * own / (own + sigma_nm**2))


@compiled
def _median(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Weighted median; with equal weights the ordinary one."""
    order = np.argsort(values, kind="mergesort")
    middle = np.cumsum(weight[order]) - 0.5 * weight[order]
    return float(np.interp(0.5 * weight.sum(), middle, values[order]))
