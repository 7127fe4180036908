"""The compiled loops of the free fit of white lines: Levenberg–Marquardt, one spectrum after the other."""

from __future__ import annotations

import math
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

LINES = 4
SIZE = 3 * LINES + 3
"""Positions, logarithms of widths, areas, height of the steps, level and exponent of the power law."""

MOVE_EV = 1.5
"""A line stays this close to where it was begun."""
NARROWEST_EV, WIDEST_EV = 0.2, 6.0

_ROUNDS = 80
_NEAR = 1e-3
"""Of the likelihood's logarithm: 0.04 σ."""
_NODE = 0.5 / math.sqrt(3.0)
_SEARCH_STEP_EV = 0.5
_STEP_WIDTH_EV = 0.8
_LOG2 = math.log(2.0)


@compiled
def slopes(
    theta: Any, steps_ev: Any, share: float, step: float, count: int, energy: Any, log_energy: Any,
    widths: Any, grouped: float, rises: Any, mean: Any,
) -> None:  # fmt: skip
    """Mean electrons at every point and their slopes (SIZE, points) with the parameters.

    A line is a pseudo-Voigt, (1 - η) Gaussian + η Lorentzian of the same width, integrated over the
    channels at two Gauss–Legendre nodes (wrong by 10⁻⁴ of its top where a channel is half as wide as
    the line, far less below); the steps are arctangents of 2 to 1, as there are 2p electrons.
    """
    power_law(
        theta[SIZE - 2],
        theta[SIZE - 1],
        energy,
        log_energy,
        widths,
        grouped,
        rises[SIZE - 2],
        count,
    )
    for p in range(count):
        rises[SIZE - 1, p] = -rises[SIZE - 2, p] * log_energy[p]
        onset = 0.0
        for k in range(2):
            shape = 0.5 + math.atan((energy[p] - steps_ev[k]) / _STEP_WIDTH_EV) / math.pi
            # wings of an arctangent have no end, an edge has a beginning
            if energy[p] > steps_ev[k] - 6.0:
                onset += shape * (2.0 - k) / 3.0 * (energy[p] / steps_ev[k]) ** -3.0
        rises[3 * LINES, p] = onset * step * widths[p]
        mean[p] = rises[SIZE - 2, p] + theta[3 * LINES] * rises[3 * LINES, p]
    for line in range(LINES):
        half = 0.5 * math.exp(theta[LINES + line])
        area = theta[2 * LINES + line]
        gauss_top = (1.0 - share) * math.sqrt(_LOG2 / math.pi) / half
        lorentz_top = share / (math.pi * half)
        for p in range(count):
            wide = step * widths[p]
            middle = (energy[p] - theta[line]) / half
            apart = _NODE * wide / half
            part, by_position, by_width = 0.0, 0.0, 0.0
            for side in range(2):
                away = middle + apart if side else middle - apart
                square = away * away
                gauss = gauss_top * math.exp(-_LOG2 * square) if square < 40.0 else 0.0
                lower = 1.0 / (1.0 + square)
                lorentz = lorentz_top * lower
                part += gauss + lorentz
                # with the distance in half widths
                turn = 2.0 * (_LOG2 * gauss + lorentz * lower) * away
                by_position += turn
                by_width += turn * away - gauss - lorentz
            half_wide = 0.5 * wide
            rises[line, p] = area * by_position * half_wide / half
            rises[LINES + line, p] = area * by_width * half_wide
            rises[2 * LINES + line, p] = part * half_wide
            mean[p] += area * part * half_wide


@compiled
def begin(
    theta: Any, start_ev: Any, start_fwhm_ev: Any, shares: Any, reach_ev: float, steps_ev: Any,
    share: float, step: float, count: int, energy: Any, log_energy: Any, values: Any, widths: Any,
    grouped: float, readout: float, rises: Any, mean: Any,
) -> float:  # fmt: skip
    """Fill ``theta`` with lines moved together to where they explain most; returns by how much, in eV."""
    best, moved, height = -np.inf, 0.0, 0.0
    places = round(2.0 * reach_ev / _SEARCH_STEP_EV) + 1
    first_step, second_step = steps_ev[0], steps_ev[1]
    for place in range(places):
        by = -reach_ev + _SEARCH_STEP_EV * place
        for line in range(LINES):
            theta[line] = start_ev[line] + by
            theta[LINES + line] = math.log(start_fwhm_ev[line])
            theta[2 * LINES + line] = shares[line]
        steps_ev[0], steps_ev[1] = first_step + by, second_step + by
        theta[3 * LINES] = shares[LINES]
        slopes(
            theta, steps_ev, share, step, count, energy, log_energy, widths, grouped, rises, mean
        )
        top, bottom = 0.0, 0.0
        for p in range(count):
            under = rises[SIZE - 2, p]
            shape = mean[p] - under
            weight = 1.0 / (max(under, 0.5 * values[p], 0.1 * widths[p]) + readout * widths[p])
            top += weight * shape * (values[p] - under)
            bottom += weight * shape * shape
        gain = top * abs(top) / bottom
        if gain > best:
            best, moved, height = gain, by, top / bottom
    height = max(height, 1e-3)
    for line in range(LINES):
        theta[line] = start_ev[line] + moved
        theta[2 * LINES + line] = height * shares[line]
    theta[3 * LINES] = height * shares[LINES]
    steps_ev[0], steps_ev[1] = first_step + moved, second_step + moved
    return moved


@compiled
def misfit(values: Any, widths: Any, mean: Any, least: float, readout: float, count: int) -> float:
    """Deviance, up to a constant, of counts that a readout variance is added to (shifted Poisson)."""
    total = 0.0
    for p in range(count):
        noise = readout * widths[p]
        own = max(mean[p], least * widths[p]) + noise
        total += own - (values[p] + noise) * math.log(own)
        if mean[p] < least * widths[p]:  # below, a parabola goes on where the logarithm ends
            away = least * widths[p] - mean[p]
            total += (values[p] - least * widths[p]) / own * away + 0.5 * away * away / own
    return total


@compiled
def descend(
    theta: Any, start_ev: Any, moved: float, steps_ev: Any, share: float, step: float, count: int,
    energy: Any, log_energy: Any, values: Any, widths: Any, grouped: float, readout: float,
    rises: Any, mean: Any, inverse: Any, told: Any,
) -> bool:  # fmt: skip
    """Levenberg–Marquardt on the shifted Poisson likelihood with Fisher's information; False if it fails."""
    matrix = np.empty((SIZE, SIZE))
    damped = np.empty((SIZE, SIZE))
    slope = np.empty(SIZE)
    by = np.empty(SIZE)
    trial = np.empty(SIZE)
    weight = np.empty(count)
    rest = np.empty(count)
    slow = 0
    level, all_widths = 0.0, 0.0
    for p in range(count):
        level += values[p]
        all_widths += widths[p]
    least = max(0.02 * level / all_widths, 1e-6)
    damping = 1e-2
    slopes(theta, steps_ev, share, step, count, energy, log_energy, widths, grouped, rises, mean)
    now = misfit(values, widths, mean, least, readout, count)
    for _ in range(_ROUNDS):
        for p in range(count):
            own = max(mean[p], least * widths[p])
            weight[p] = 1.0 / (own + readout * widths[p])
            rest[p] = values[p] - mean[p]
        for i in range(SIZE):
            slope[i] = dot3(rises[i], weight, rest, count)
            for j in range(i + 1):
                matrix[i, j] = dot3(rises[i], weight, rises[j], count)
                matrix[j, i] = matrix[i, j]
        settled = False
        while damping < 1e9:
            for i in range(SIZE):
                by[i] = slope[i]
                for j in range(SIZE):
                    damped[i, j] = matrix[i, j]
                damped[i, i] = matrix[i, i] * (1.0 + damping) + 1e-30
            if not solve(damped, by, SIZE, inverse):
                damping = max(10.0 * damping, 1e-6)
                continue
            for i in range(SIZE):
                trial[i] = theta[i] + by[i]
            for line in range(LINES):
                centre = start_ev[line] + moved
                trial[line] = min(max(trial[line], centre - MOVE_EV), centre + MOVE_EV)
                trial[LINES + line] = min(
                    max(trial[LINES + line], math.log(NARROWEST_EV)), math.log(WIDEST_EV)
                )
            trial[SIZE - 1] = min(max(trial[SIZE - 1], -4.0), 14.0)
            slopes(
                trial, steps_ev, share, step, count, energy, log_energy, widths, grouped, rises,
                mean,
            )  # fmt: skip
            then = misfit(values, widths, mean, least, readout, count)
            if then <= now:
                # a valley without an end is left after three short steps
                slow = slow + 1 if now - then < _NEAR else 0
                settled = slow >= 3 or (slow > 0 and damping < 1e-2)
                now = then
                for i in range(SIZE):
                    theta[i] = trial[i]
                damping = max(0.1 * damping, 1e-9)
                break
            if now - then > -1e-9 * abs(now) and damping > 1.0:
                settled = True  # as deep as rounding lets one see
                break
            damping *= 10.0
        else:
            settled = True
        if settled:
            slopes(
                theta, steps_ev, share, step, count, energy, log_energy, widths, grouped, rises,
                mean,
            )  # fmt: skip
            chi2, variance = 0.0, 0.0
            for p in range(count):
                own = max(mean[p], least * widths[p])
                weight[p] = 1.0 / (own + readout * widths[p])
                chi2 += (values[p] - mean[p]) ** 2 * weight[p]
                variance += 2.0 + own * weight[p] * weight[p]
            for i in range(SIZE):
                by[i] = 0.0
                for j in range(i + 1):
                    matrix[i, j] = dot3(rises[i], weight, rises[j], count)
                    matrix[j, i] = matrix[i, j]
            told[0] = chi2
            told[1] = count - SIZE
            told[2] = variance
            if not solve(matrix, by, SIZE, inverse):
                inverse[:] = np.nan
            return True
    return False


@compiled
def fit_lines(
    electrons: Any, offsets: Any, step: float, windows: Any, table: Any, grid_low: float,
    grid_step: float, faint: Any, grouped: float, reference_ev: float, readout: float,
    start_ev: Any, start_fwhm_ev: Any, shares: Any, reach_ev: float, share: float,
    theta: Any, covariance: Any, told: Any, moved: Any, state: Any,
) -> None:  # fmt: skip
    """Fit every row; fills the last five: (n, SIZE), (n, SIZE, SIZE), (n, 3), (n,) and (n,)."""
    rows, channels = electrons.shape
    energy = np.empty(channels)
    values = np.empty(channels)
    widths = np.empty(channels)
    log_energy = np.empty(channels)
    mean = np.empty(channels)
    empty = np.empty(channels, np.bool_)
    in_edge = np.empty((1, channels))
    rises = np.empty((SIZE, channels))
    steps_ev = np.empty(2)
    theta[:] = np.nan
    covariance[:] = np.nan
    told[:] = np.nan
    moved[:] = np.nan
    for n in range(rows):
        finite = np.isfinite(offsets[n])
        for channel in range(channels):
            finite &= np.isfinite(electrons[n, channel])
        if not finite:
            state[n] = NOT_FINITE
            continue
        count = gather(
            electrons[n], offsets[n], step, windows, table, grid_low, grid_step, faint, grouped,
            energy, values, in_edge, widths,
        )  # fmt: skip
        state[n] = OUT_OF_RANGE if count < 0 else NO_FIT
        if count < SIZE + 4:
            continue
        total = 0.0
        for p in range(count):
            log_energy[p] = np.log(energy[p] / reference_ev)
            empty[p] = in_edge[0, p] <= faint[0] * widths[p]
            total += values[p]
        level, exponent = start_power_law(values, widths, log_energy, empty, count)
        if not total > 0.0:
            continue
        # without any background the level is one that no electron is expected from
        theta[n, SIZE - 2] = max(level, -12.0)
        theta[n, SIZE - 1] = exponent
        for k in range(2):
            steps_ev[k] = 0.5 * (start_ev[2 * k] + start_ev[2 * k + 1])
        moved[n] = begin(
            theta[n], start_ev, start_fwhm_ev, shares, reach_ev, steps_ev, share, step, count,
            energy, log_energy, values, widths, grouped, readout, rises, mean,
        )  # fmt: skip
        if descend(
            theta[n], start_ev, moved[n], steps_ev, share, step, count, energy, log_energy, values,
            widths, grouped, readout, rises, mean, covariance[n], told[n],
        ):  # fmt: skip
            state[n] = FITTED
        else:
            theta[n, :] = np.nan
            covariance[n, :, :] = np.nan
