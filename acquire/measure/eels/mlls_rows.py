"""The compiled loops of multiple linear least squares: one spectrum after the other, each on its own axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from acquire.compiled import compiled
from acquire.measure.eels.fit_loops import (
    FITTED,
    NO_FIT,
    NOT_FINITE,
    OUT_OF_RANGE,
    dot3,
    gather,
    power_law,
    solve,
    start_power_law,
)

_ROUNDS = 60
EXPONENT_MIN, EXPONENT_MAX = -4.0, 14.0
"""A fit that ends at one of them is poor."""
_WHOLE_STEPS = 12
_NEAR = 1e-4
"""A last step of a hundredth of σ leaves an error far below that."""


@compiled
def scoring(
    theta: Any, law: bool, held: bool, grouped: float, readout: float, count: int, kinds: int, energy: Any,
    log_energy: Any, values: Any, widths: Any, rises: Any, matrix: Any, inverse: Any, told: Any,
) -> int:  # fmt: skip
    """Fit one row from the start in ``theta`` on; gives how many parameters it has, 0 if it fails.

    ``rises`` (kinds + 2, points) holds the references' shapes, then room for the power law's slopes.
    A law that is ``held`` stays as it is; ``matrix`` then ends with its products with the shapes.
    """
    slope = np.empty(kinds + 2)
    old = np.empty(kinds + 2)
    mean = np.empty(count)
    weight = np.empty(count)
    rest = np.empty(count)
    under = rises[kinds]
    mean_level, all_widths = 0.0, 0.0
    for p in range(count):
        mean_level += values[p]
        all_widths += widths[p]
    # a model that turns negative keeps a variance: of a fiftieth of the mean level
    least = max(0.02 * mean_level / all_widths, 1e-6)
    background = 0.0
    for turn in range(_ROUNDS):
        if law and (turn == 0 or not held):
            background = power_law(
                theta[kinds], theta[kinds + 1], energy, log_energy, widths, grouped, under, count
            )
            if background < 1e-3:
                law = False  # nothing is there that a power law could follow
        size = kinds + 2 if law and not held else kinds
        for p in range(count):
            mean[p] = under[p] if law else 0.0
        for k in range(kinds):
            by = theta[k]
            for p in range(count):
                mean[p] += by * rises[k, p]
        for p in range(count):
            own = max(mean[p], least * widths[p])
            weight[p] = 1.0 / (own + readout * widths[p])
            rest[p] = values[p] - mean[p]
        if law:
            for p in range(count):
                rises[kinds + 1, p] = -under[p] * log_energy[p]
        for i in range(size):
            slope[i] = dot3(rest, weight, rises[i], count)
            old[i] = slope[i]
            for j in range(i + 1):
                matrix[i, j] = dot3(rises[i], weight, rises[j], count)
                matrix[j, i] = matrix[i, j]
        if not solve(matrix, slope, size, inverse):
            return 0
        gain = 0.0
        for i in range(size):
            gain += old[i] * slope[i]
        short = 1.0
        if law and not held:
            short = min(1.0, 1.0 / max(abs(slope[kinds]), abs(slope[kinds + 1]) / 4.0, 1e-9))
        near = gain < _NEAR and short == 1.0
        if turn > _WHOLE_STEPS:
            short *= 0.4  # weights that follow a model of a wrong shape may swing to and fro
        moved = 0.0
        for i in range(size):
            theta[i] += short * slope[i]
            if i < kinds:
                moved = max(moved, abs(slope[i]) * np.sqrt(matrix[i, i]))
        if law and not held and not EXPONENT_MIN < theta[kinds + 1] < EXPONENT_MAX:
            theta[kinds + 1] = min(max(theta[kinds + 1], EXPONENT_MIN), EXPONENT_MAX)
            near = moved < 0.01  # as far as the bound lets it
        if near:
            chi2, variance = 0.0, 0.0
            for p in range(count):
                chi2 += rest[p] * rest[p] * weight[p]
                own = max(mean[p], least * widths[p])
                variance += 2.0 + own * weight[p] * weight[p]
            if law and held:
                for i in range(kinds):
                    for j in range(2):
                        matrix[i, kinds + j] = dot3(rises[i], weight, rises[kinds + j], count)
            told[kinds] = background if law else 0.0
            told[kinds + 1] = chi2
            told[kinds + 2] = count - size
            told[kinds + 3] = variance
            return size
    return 0


@compiled
def carry_law(covariance: Any, inverse: Any, matrix: Any, law: Any, kinds: int) -> None:
    """Add to the coefficients' covariance what the uncertainty of a held law does to them."""
    through = np.zeros((kinds, 2))
    for i in range(kinds):
        for j in range(2):
            for k in range(kinds):
                through[i, j] -= inverse[i, k] * matrix[k, kinds + j]
    for i in range(kinds):
        for j in range(kinds):
            for a in range(2):
                for b in range(2):
                    covariance[i, j] += through[i, a] * law[a, b] * through[j, b]
    for a in range(2):
        for b in range(2):
            covariance[kinds + a, kinds + b] = law[a, b]
    for i in range(kinds):
        for a in range(2):
            both = through[i, 0] * law[0, a] + through[i, 1] * law[1, a]
            covariance[i, kinds + a] = both
            covariance[kinds + a, i] = both


@compiled
def fit_rows(
    electrons: Any, offsets: Any, step: float, windows: Any, tables: Any, grid_low: float,
    grid_step: float, faint: Any, grouped: float, law: bool, before: bool, reference_ev: float, readout: float,
    theta: Any, covariance: Any, told: Any, state: Any,
) -> None:  # fmt: skip
    """Fit every row by Fisher scoring, the law with the rest or ``before`` it; fills the last four.

    ``theta`` (n, k + 2): coefficients, logarithm of the level per channel at ``reference_ev``,
    exponent; ``covariance`` (n, k + 2, k + 2); ``told`` (n, k + 4): electrons of each reference and
    of the background in the windows, then χ², its freedom, and its variance; ``state`` (n,).
    """
    rows, channels = electrons.shape
    kinds = len(tables)
    energy = np.empty(channels)
    values = np.empty(channels)
    widths = np.empty(channels)
    log_energy = np.zeros(channels)
    empty = np.empty(channels, np.bool_)
    rises = np.empty((kinds + 2, channels))
    spread = np.empty(kinds)
    size_of = np.empty(kinds)
    matrix = np.empty((kinds + 2, kinds + 2))
    inverse = np.empty((kinds + 2, kinds + 2))
    law_rises = np.empty((2, channels))
    law_covariance = np.empty((2, 2))
    law_told = np.empty(4)
    theta[:] = np.nan
    covariance[:] = np.nan
    told[:] = np.nan
    for n in range(rows):
        finite = np.isfinite(offsets[n])
        for channel in range(channels):
            finite &= np.isfinite(electrons[n, channel])
        if not finite:
            state[n] = NOT_FINITE
            continue
        count = gather(
            electrons[n], offsets[n], step, windows, tables, grid_low, grid_step, faint, grouped,
            energy, values, rises, widths,
        )  # fmt: skip
        state[n] = OUT_OF_RANGE if count < 0 else NO_FIT
        if count < kinds + 3:
            continue
        net = 0.0
        spread[:] = 0.0
        size_of[:] = 0.0
        for p in range(count):
            net += values[p]
            empty[p] = True
            for k in range(kinds):
                spread[k] += rises[k, p]
                size_of[k] += abs(rises[k, p])
                empty[p] &= abs(rises[k, p]) <= faint[k] * widths[p]
        if net <= 0.0 and readout == 0.0:
            continue  # no counts have no variance that a fit could go by
        floor = 0.1 * abs(net) + 1e-3
        has_law = law
        first = 0
        if law:
            for p in range(count):
                log_energy[p] = np.log(energy[p] / reference_ev)
                if before and energy[p] <= windows[0, 1] + 0.5 * step:
                    first = p + 1
            level, exponent = start_power_law(
                values, widths, log_energy, empty, first if before else count
            )
            has_law = level > -np.inf
            theta[n, kinds] = level
            theta[n, kinds + 1] = exponent
        if before and has_law:
            size = scoring(
                theta[n, kinds:], True, False, grouped, readout, first, 0, energy, log_energy,
                values, widths, law_rises, matrix, inverse, law_told,
            )  # fmt: skip
            if size == 0:
                theta[n, :] = np.nan
                continue
            has_law = size == 2
            law_covariance[:] = inverse[:2, :2]
        if first:  # what was used up makes room
            count -= first
            for p in range(count):
                energy[p] = energy[p + first]
                log_energy[p] = log_energy[p + first]
                values[p] = values[p + first]
                widths[p] = widths[p + first]
                for k in range(kinds):
                    rises[k, p] = rises[k, p + first]
            net = values[:count].sum()
        if has_law:
            net -= power_law(
                theta[n, kinds], theta[n, kinds + 1], energy, log_energy, widths, grouped,
                rises[kinds], count,
            )  # fmt: skip
            for p in range(count):
                rises[kinds + 1, p] = -rises[kinds, p] * log_energy[p]
        for k in range(kinds):  # a slope, which has no area, begins with nothing
            theta[n, k] = 0.0
            if spread[k] > 0.3 * size_of[k]:
                theta[n, k] = max(net, floor) / (kinds * spread[k])
        size = scoring(
            theta[n], has_law, before, grouped, readout, count, kinds, energy, log_energy, values,
            widths, rises, matrix, inverse, told[n],
        )  # fmt: skip
        if size == 0:
            theta[n, :] = np.nan
            continue
        state[n] = FITTED
        if not has_law or (size == kinds and not before):
            theta[n, kinds:] = np.nan
        for i in range(size):
            for j in range(size):
                covariance[n, i, j] = inverse[i, j]
        if before and has_law:
            carry_law(covariance[n], inverse, matrix, law_covariance, kinds)
            for i in range(4):
                told[n, kinds + i] += law_told[i]
        for k in range(kinds):
            told[n, k] = theta[n, k] * spread[k]
