"""Fits edges that lie on one another together: lines and steps upon one power law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from acquire.errors import MeasureError
from acquire.measure.eels.edge_shapes import SHAPES, EdgeShape, Losses, Scattered

Array = NDArray[np.float64]

_ROUNDS = 30
_CHUNK = 128
_MOST_SHIFT_EV = 3.0
_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class TogetherFit:
    """Edges of one group, entries per spectrum; NaN where the range leaves the axis."""

    electrons: Mapping[str, Array]
    """In each edge's integration window, of that edge alone."""
    sigma: Mapping[str, Array]
    background: Mapping[str, Array]
    """Power law and all other edges in the window."""
    exponent: Array
    chi2: Array
    """Reduced, over the whole range."""
    shapes: Mapping[str, EdgeShape]
    """As the data placed them."""


def fit_together(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    windows_ev: Mapping[str, tuple[float, float]],
    range_ev: tuple[float, float],
    shapes: Mapping[str, EdgeShape] = SHAPES,
    readout_variance: float = 0.0,
    *,
    losses: Losses | None = None,
    adjust: bool = True,
) -> TogetherFit:
    """Multiple least squares of a power law and the lines and steps of several edges.

    Poisson maximum likelihood by Fisher scoring, all spectra at once, each on its own axis; amounts may
    come out negative. Before that, place (±3 eV), width and Lorentzian share of every edge's lines are fitted to the sum of all
    spectra and held (``adjust``). Shapes of such edges are known roughly: χ² tells what they miss.

    White lines are seen once more some 25 eV higher, scattered by plasmons: those of La-M lie right
    under Ni-L, and are taken for it unless ``losses`` tell how many there are.

    Args:
        electrons: (n, channels), finite.
        offset_ev: (n,) energy of the first channel's centre.
        step_ev: width of a channel.
        windows_ev: integration window of each edge.
        range_ev: what is fitted, from well before the first edge.
        shapes: by edge.
        readout_variance: e-² per channel.
        losses: from the low loss of the same place; the mean of all spectra.
        adjust: whether place and width are fitted.

    Raises:
        MeasureError: an edge without a shape.
    """
    for name in windows_ev:
        if name not in shapes:
            raise MeasureError(
                f"there is no shape of {name!r} to fit together with others; there are "
                f"{', '.join(shapes)}. Give one."
            )
    used = {name: Scattered(shapes[name], losses) for name in windows_ev}
    low, high = range_ev
    first = np.ceil((low - offset_ev) / step_ev - 1e-9).astype(np.intp)
    count = int(np.floor((high - low) / step_ev))
    free = 2 + sum(scattered.shape.parts for scattered in used.values())
    inside = (first >= 0) & (first + count <= electrons.shape[1])
    if count < 2 * free or not inside.any():
        return _nothing(len(electrons), used)
    rows = np.flatnonzero(inside)
    at = first[rows, None] + np.arange(count)
    data = np.take_along_axis(electrons[rows], at, axis=1)
    start = offset_ev[rows] + step_ev * first[rows]
    if adjust:
        used = _adjusted(
            data.sum(axis=0), float(start.mean()), step_ev, used, readout_variance * len(rows)
        )
    found = [
        _fitted(
            data[k : k + _CHUNK], start[k : k + _CHUNK], step_ev, used, windows_ev, readout_variance
        )
        for k in range(0, len(rows), _CHUNK)
    ]
    return _gathered(found, rows, len(electrons), used)


def place_shapes(
    total: Array,
    offset_ev: float,
    step_ev: float,
    shapes: Mapping[str, EdgeShape],
    range_ev: tuple[float, float],
    readout_variance: float = 0.0,
    *,
    losses: Losses | None = None,
) -> dict[str, EdgeShape]:
    """Shapes moved and widened so that they fit one spectrum (channels,), the sum of some, best.

    As they are where the range leaves the axis. To be held in :func:`fit_together`, ``adjust`` off.
    """
    low, high = range_ev
    first = math.ceil((low - offset_ev) / step_ev - 1e-9)
    count = int((high - low) / step_ev)
    if first < 0 or first + count > total.size:
        return dict(shapes)
    used = {name: Scattered(shape, losses) for name, shape in shapes.items()}
    part = total[first : first + count]
    found = _adjusted(part, offset_ev + step_ev * first, step_ev, used, readout_variance)
    return {name: scattered.shape for name, scattered in found.items()}


_Part = tuple[Array, Array, Array, Array, Array]


def _fitted(
    data: Array,
    start: Array,
    step_ev: float,
    shapes: Mapping[str, Scattered],
    windows: Mapping[str, tuple[float, float]],
    readout: float,
) -> _Part:
    """Net electrons, σ and background (edges, n), exponent and χ² (n,)."""
    n, count = data.shape
    energy = start[:, None] + step_ev * np.arange(count)
    reference = float(energy[0, 0])
    log_energy = np.log(energy / reference)
    columns = step_ev * np.concatenate([s.columns(energy) for s in shapes.values()], axis=-1)
    amounts = np.zeros((n, columns.shape[-1]))
    before = slice(0, max(4, count // 10))
    level = np.log(np.maximum(data[:, before].mean(axis=1), _FLOOR) / step_ev)
    exponent = np.full(n, 3.0)
    information = np.zeros((n, 2 + amounts.shape[1], 2 + amounts.shape[1]))
    law = mean = np.ones_like(data)
    for _ in range(_ROUNDS):
        law = step_ev * np.exp(level[:, None] - exponent[:, None] * log_energy)
        mean = np.maximum(law + (columns * amounts[:, None, :]).sum(axis=-1), _FLOOR * law)
        jacobian = np.concatenate(
            [law[..., None], (-law * log_energy)[..., None], columns], axis=-1
        )
        weighted = jacobian / (mean + readout)[..., None]
        information = np.matmul(weighted.transpose(0, 2, 1), jacobian)
        score = np.matmul(weighted.transpose(0, 2, 1), (data - mean)[..., None])[..., 0]
        step = _solve(information, score)
        most = np.maximum(np.abs(step[:, 0]), np.abs(step[:, 1]) / 4)
        step *= np.minimum(1.0, 0.7 / np.maximum(most, 1e-12))[:, None]
        level, exponent = level + step[:, 0], np.clip(exponent + step[:, 1], -5.0, 15.0)
        amounts = amounts + step[:, 2:]
        if most.max(initial=0.0) < 1e-7:
            break
    chi2 = (np.square(data - mean) / np.maximum(mean + readout, 1e-12)).sum(axis=1)
    chi2 /= max(count - 2 - amounts.shape[1], 1)
    covariance = _inverse(information)[:, 2:, 2:]
    net, sigma, under = [], [], []
    position = 0
    for name, shape in shapes.items():
        low, high = windows[name]
        fine = np.linspace(low, high, 201)
        middle = np.asarray(0.5 * (fine[1:] + fine[:-1]), np.float64)
        width = (high - low) / 200
        own = shape.columns(middle).sum(axis=0) * width
        part = slice(position, position + shape.shape.parts)
        net.append(amounts[:, part] @ own)
        sigma.append(np.sqrt(np.einsum("i,nij,j->n", own, covariance[:, part, part], own)))
        whole = (
            np.exp(level[:, None] - exponent[:, None] * np.log(middle / reference)).sum(axis=1)
            * width
        )
        others = np.concatenate([s.columns(middle).sum(axis=0) * width for s in shapes.values()])
        under.append(whole + amounts @ others - net[-1])
        position += shape.shape.parts
    dark = np.where(data.sum(axis=1) > 0, 0.0, np.nan)
    return (
        np.array(net) + dark,
        np.array(sigma) + dark,
        np.array(under) + dark,
        exponent + dark,
        chi2 + dark,
    )


def _adjusted(
    total: Array, start: float, step_ev: float, shapes: Mapping[str, Scattered], readout: float
) -> dict[str, Scattered]:
    """Shapes moved and widened so that they fit the sum best."""
    energy = np.asarray(start + step_ev * np.arange(total.size), np.float64)
    noise = np.sqrt(np.maximum(total + readout, 1.0))
    names = list(shapes)
    log_energy = np.log(energy / energy[0])

    def shaped(free: Array) -> dict[str, Scattered]:
        return {
            name: Scattered(
                replace(
                    shapes[name].shape,
                    shift_ev=float(free[3 * k]),
                    widening=math.exp(float(free[3 * k + 1])),
                    lorentz=float(free[3 * k + 2]),
                ),
                shapes[name].losses,
            )
            for k, name in enumerate(names)
        }

    def residuals(free: Array) -> Array:
        columns = [step_ev * s.columns(energy) for s in shaped(free).values()]
        law = np.exp(-free[-1] * log_energy)[:, None]
        design = np.concatenate([law, *columns], axis=1) / noise[:, None]
        target = total / noise
        amounts = np.linalg.lstsq(design, target, rcond=1e-10)[0]
        # weak pull to the first guess: an edge that is not there has no place of its own
        return np.concatenate([target - design @ amounts, free[:-1] - first[:-1]])

    first = np.array([0.0, 0.0, 0.3] * len(names) + [3.0])
    lower = [-_MOST_SHIFT_EV, math.log(0.5), 0.0] * len(names) + [-5.0]
    upper = [_MOST_SHIFT_EV, math.log(2.0), 1.0] * len(names) + [15.0]
    found = optimize.least_squares(residuals, first, bounds=(lower, upper), max_nfev=40)
    return shaped(np.asarray(found.x, np.float64))


def _solve(information: Array, score: Array) -> Array:
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", information), 1e-300))
    unit = information / (scale[:, :, None] * scale[:, None, :])
    unit += 1e-10 * np.eye(unit.shape[1])
    return np.asarray(np.linalg.solve(unit, (score / scale)[..., None])[..., 0] / scale)


def _inverse(information: Array) -> Array:
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", information), 1e-300))
    both = scale[:, :, None] * scale[:, None, :]
    unit = information / both + 1e-10 * np.eye(information.shape[1])
    return np.asarray(np.linalg.inv(unit) / both)


def _gathered(
    parts: list[_Part], rows: NDArray[np.intp], n: int, shapes: Mapping[str, Scattered]
) -> TogetherFit:
    def spread(values: Array) -> Array:
        whole = np.full(n, np.nan)
        whole[rows] = values
        return whole

    joined = [np.concatenate([part[k] for part in parts], axis=-1) for k in range(5)]
    by_name = [
        {name: spread(joined[k][index]) for index, name in enumerate(shapes)} for k in range(3)
    ]
    electrons, sigma, background = by_name
    placed = {name: scattered.shape for name, scattered in shapes.items()}
    return TogetherFit(electrons, sigma, background, spread(joined[3]), spread(joined[4]), placed)


def _nothing(n: int, shapes: Mapping[str, Scattered]) -> TogetherFit:
    nan = np.full(n, np.nan)
    none = dict.fromkeys(shapes, nan)
    placed = {name: scattered.shape for name, scattered in shapes.items()}
    return TogetherFit(none, none, none, nan, nan, placed)
