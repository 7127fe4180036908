"""Finds the film under the particles: a smooth level from the pixels that particles leave free.

Where the film is free is decided on block means, where particles stand out of the noise; its level
is kept on a still coarser grid and interpolated. The image itself is only ever divided by the film,
never resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.arrays import in_order, middle
from acquire.measure.particles.pixels import block_means, spread

_CUT = 2.5
"""Blocks above this many σ belong to a particle."""
_ROUNDS = 5
_SAME = 0.01
"""Where no more than this share of the blocks is judged anew the film is found."""
_NODES_PER_SCALE = 4
_MOST_BLOCKS = 96
_SAMPLE = 2048


@dataclass(frozen=True)
class Film:
    """The level of the film, in counts above dark, on a coarse grid."""

    nodes: NDArray[np.float32]
    """Levels at the centres of square cells."""
    cell_px: int
    floor: float
    """The level is nowhere taken as lower: a film that is nearly dark would make noise any contrast."""

    def at_blocks(self, factor: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The level at the centres of blocks of ``factor`` pixels, (y, x) float32."""
        return np.maximum(spread(self.nodes, self.cell_px / factor, shape), np.float32(self.floor))

    def brightness(
        self, y_px: NDArray[np.float64], x_px: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The level at places over the harmonic mean of the film."""
        return _brightness(self.nodes, self.floor, self.cell_px, y_px, x_px)


def find_film(
    image: NDArray[Any],
    scale_px: float,
    *,
    polarity: int = 1,
    block_px: int = 8,
    dark_level: float = 0.0,
) -> Film:
    """The film of an image (y, x) of any real type.

    A quadratic surface takes the slope; a Gaussian of standard deviation ``scale_px`` over the
    free blocks takes what is left. Particles are excluded by sigma clipping on their own side
    only: ``polarity`` 1 when they are brighter than the film, -1 when darker. ``scale_px`` should
    exceed a particle's diameter, ``block_px`` should not.
    """
    side = min(image.shape)
    block = max(1, min(int(block_px), side // 16), -(-max(image.shape) // _MOST_BLOCKS))
    coarse = block_means(image, block, dark_level)
    group = max(1, round(scale_px / (_NODES_PER_SCALE * block)))
    group = min(group, max(1, min(coarse.shape) // 4))
    nodes = _film_nodes(coarse, group, scale_px / (block * group), polarity)
    floor = max(0.02 * float(np.mean(np.abs(coarse))), 1e-30)
    return Film(nodes, block * group, floor)


def film_level(
    image: NDArray[np.float32], scale_px: float, *, polarity: int = 1
) -> NDArray[np.float32]:
    """The film's level at every pixel of an image (y, x), float32, same unit; see :func:`find_film`."""
    film = find_film(image, scale_px, polarity=polarity, block_px=max(1, int(scale_px // 12)))
    rows, columns = image.shape
    return film.at_blocks(1, (rows, columns))


@compiled
def _brightness(
    nodes: NDArray[np.float32],
    floor: float,
    cell: int,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.float64]:
    high, wide = nodes.shape
    total = 0.0
    for i in range(high):
        for j in range(wide):
            total += 1.0 / max(float(nodes[i, j]), floor)
    bright = np.empty(len(y))
    for p in range(len(y)):
        i = min(max(int(y[p] / cell), 0), high - 1)
        j = min(max(int(x[p] / cell), 0), wide - 1)
        bright[p] = max(float(nodes[i, j]), floor) * total / nodes.size
    return bright


@compiled
def _film_nodes(
    coarse: NDArray[np.float32], group: int, sigma: float, polarity: int
) -> NDArray[np.float32]:
    """Film at the centres of squares of ``group`` blocks; ``sigma`` is in such squares."""
    rows, columns = coarse.shape
    free = np.ones((rows, columns), np.bool_)
    film = np.empty((rows, columns), np.float32)
    nodes = np.zeros(((rows + group - 1) // group, (columns + group - 1) // group), np.float32)
    rest = np.empty((rows, columns), np.float32)
    for round_number in range(_ROUNDS):
        surface = _surface(coarse, free)
        _draw_surface(film, surface, 1.0, rows, columns)
        _draw_surface(nodes, surface, group, rows, columns)
        if round_number > 0:
            local = _free_mean(coarse - film, free, group, sigma)
            nodes += local
            film += spread(local, group, (rows, columns))
        for i in range(rows):
            for j in range(columns):
                rest[i, j] = polarity * (coarse[i, j] - film[i, j])
        # the middle of the free side sits on the film even where particles cover half of the field
        rest -= np.float32(_mode(rest, free))
        cut = np.float32(_CUT * _noise_below(rest))
        wanted = _clear(rest, cut)
        if wanted.sum() < 0.1 * wanted.size:
            break
        changed = 0
        for i in range(rows):
            for j in range(columns):
                changed += wanted[i, j] != free[i, j]
        if round_number > 0 and changed <= _SAME * wanted.size:
            break
        free = wanted
    return nodes


@compiled
def _surface(coarse: NDArray[np.float32], free: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Coefficients of 1, y, x, y², yx, x² over the free blocks; the image runs from -1 to 1."""
    rows, columns = coarse.shape
    normal = 1e-9 * np.eye(6)
    pull = np.zeros(6)
    powers_y, powers_x = (0, 1, 0, 2, 1, 0), (0, 0, 1, 0, 1, 2)
    at = (2.0 * np.arange(columns) + 1.0) / columns - 1.0
    for i in range(rows):
        y = (2.0 * i + 1.0) / rows - 1.0
        # sums over a row of x^0 … x^4, and of the level times x^0 … x^2
        n, x1, x2, x3, x4, c0, c1, c2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(columns):
            if not free[i, j]:
                continue
            x, level = at[j], coarse[i, j]
            square = x * x
            n += 1.0
            x1 += x
            x2 += square
            x3 += square * x
            x4 += square * square
            c0 += level
            c1 += level * x
            c2 += level * square
        if n == 0.0:
            continue
        along_x, levels = (n, x1, x2, x3, x4), (c0, c1, c2)
        for a in range(6):
            pull[a] += y ** powers_y[a] * levels[powers_x[a]]
            for b in range(a + 1):
                power = powers_x[a] + powers_x[b]
                normal[a, b] += y ** (powers_y[a] + powers_y[b]) * along_x[power]
    for a in range(6):
        for b in range(a):
            normal[b, a] = normal[a, b]
    solution: NDArray[Any] = np.linalg.solve(normal, pull)
    return solution


@compiled
def _draw_surface(
    into: NDArray[np.float32], surface: NDArray[np.float64], group: float, rows: int, columns: int
) -> None:
    """The surface at the centres of squares of ``group`` blocks."""
    x = (2.0 * np.arange(into.shape[1]) + 1.0) * group / columns - 1.0
    for i in range(into.shape[0]):
        y = (2.0 * i + 1.0) * group / rows - 1.0
        level = surface[0] + surface[1] * y + surface[3] * y * y
        slope, bend = surface[2] + surface[4] * y, surface[5]
        row = into[i]
        for j in range(row.shape[0]):
            row[j] = level + x[j] * (slope + x[j] * bend)


@compiled
def _free_mean(
    rest: NDArray[np.float32], free: NDArray[np.bool_], group: int, sigma: float
) -> NDArray[np.float32]:
    """Gaussian mean of the free blocks at the nodes; it returns to zero where none is near."""
    rows, columns = free.shape
    high, wide = (rows + group - 1) // group, (columns + group - 1) // group
    total = np.zeros((high, wide))
    weight = np.zeros((high, wide))
    levels, many = np.zeros(columns), np.zeros(columns)
    for i in range(rows):
        row, open_ = rest[i], free[i]
        for j in range(columns):
            seen = np.float64(open_[j])
            levels[j] += seen * row[j]
            many[j] += seen
        if i % group == group - 1 or i == rows - 1:
            for j in range(wide):
                total[i // group, j] = levels[j * group : (j + 1) * group].sum()
                weight[i // group, j] = many[j * group : (j + 1) * group].sum()
            levels[:], many[:] = 0.0, 0.0
    reach = int(3.0 * sigma + 0.5)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    kernel /= kernel.sum()
    total = _along_columns(_along_columns(total, kernel, reach).T.copy(), kernel, reach).T
    weight = _along_columns(_along_columns(weight, kernel, reach).T.copy(), kernel, reach).T
    mean = np.empty((high, wide), np.float32)
    for i in range(high):
        for j in range(wide):
            mean[i, j] = total[i, j] / (weight[i, j] + 0.02 * group * group)
    return mean


@compiled
def _along_columns(
    values: NDArray[np.float64], kernel: NDArray[np.float64], reach: int
) -> NDArray[np.float64]:
    """Correlation with a kernel along y; beyond the ends there is nothing."""
    rows, columns = values.shape
    result = np.zeros((rows, columns))
    for i in range(rows):
        for k in range(max(0, i - reach), min(rows, i + reach + 1)):
            weight = kernel[k - i + reach]
            for j in range(columns):
                result[i, j] += weight * values[k, j]
    return result


@compiled
def _mode(rest: NDArray[np.float32], free: NDArray[np.bool_]) -> float:
    """Centre of the free film's own distribution: the midpoint of its shortest half."""
    values = np.empty(rest.size, np.float32)
    count = 0
    for i in range(rest.shape[0]):
        for j in range(rest.shape[1]):
            values[count] = rest[i, j]
            count += free[i, j]
    step = max(1, count // _SAMPLE)
    ordered = in_order(values[:count:step].copy())
    half = ordered.size // 2
    if half < 8:
        return float(ordered[half]) if ordered.size else 0.0
    start = 0
    for i in range(ordered.size - half):
        if ordered[i + half] - ordered[i] < ordered[start + half] - ordered[start]:
            start = i
    return float(ordered[start + half // 2])


@compiled
def _noise_below(rest: NDArray[np.float32]) -> float:
    """σ of the noise from the negative values alone, on a sample."""
    flat = rest.ravel()
    step = max(1, flat.size // (2 * _SAMPLE)) | 1
    sample = flat[::step]
    below = sample[sample < 0]
    return -1.4826 * middle(below)


@compiled
def _clear(rest: NDArray[np.float32], cut: np.float32) -> NDArray[np.bool_]:
    """Blocks below the cut that have no block above it, nor at it, beside them."""
    rows, columns = rest.shape
    clear = np.ones((rows, columns), np.bool_)
    for i in range(rows):
        for j in range(columns):
            if rest[i, j] >= cut and rest[i, j] > 0:
                clear[i, j] = False
                clear[max(i - 1, 0), j] = False
                clear[min(i + 1, rows - 1), j] = False
                clear[i, max(j - 1, 0)] = False
                clear[i, min(j + 1, columns - 1)] = False
    return clear
