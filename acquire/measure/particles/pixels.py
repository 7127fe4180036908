"""Compiled passes over whole images: statistics, block means, and the contrast over a smooth film."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled


@compiled
def pixel_statistics(
    image: NDArray[Any],
) -> tuple[float, float, int, bool, NDArray[np.float64], NDArray[np.bool_]]:
    """Lowest and highest value, how many pixels sit on the highest, whether all are finite, and of
    each row its mean and whether it is the one before once more.

    ``image`` is (y, x) of any real type. With a value that is not finite the others mean nothing.
    """
    rows, columns = image.shape
    low, high = image[0, 0], image[0, 0]
    on_top = 0
    means, again = np.zeros(rows), np.zeros(rows, np.bool_)
    for i in range(rows):
        row = image[i]
        # a loop for each, since the widest type in one decides how many pixels are done at once
        row_low, row_high = row[0], row[0]
        for j in range(columns):
            row_low = row[j] if row[j] < row_low else row_low
            row_high = row[j] if row[j] > row_high else row_high
        row_sum = 0 * row[0]  # integers are added as integers
        for j in range(columns):
            row_sum += row[j]
        if not np.isfinite(row_sum):
            return float(low), float(high), 0, False, means, again
        means[i] = row_sum / columns
        low = min(low, row_low)
        if row_high > high:
            high, on_top = row_high, 0
        if row_high == high:
            for j in range(columns):
                on_top += row[j] == high
        if i and means[i] == means[i - 1]:
            again[i] = np.array_equal(row, image[i - 1])
    return float(low), float(high), on_top, True, means, again


@compiled
def block_means(image: NDArray[Any], factor: int, dark_level: float) -> NDArray[np.float32]:
    """Means over blocks of ``factor`` × ``factor`` pixels, less ``dark_level``.

    An incomplete last block is left out. Sums are float32 along y, float64 along x.
    """
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    means = np.empty((rows, columns), np.float32)
    width = columns * factor
    line = np.empty(width, np.float32)
    scale = 1.0 / (factor * factor)
    for i in range(rows):
        first = image[i * factor]
        for j in range(width):
            line[j] = np.float32(first[j])
        for k in range(1, factor):
            row = image[i * factor + k]
            for j in range(width):
                line[j] += np.float32(row[j])
        for j in range(columns):
            total = 0.0
            for k in range(j * factor, (j + 1) * factor):
                total += line[k]
            means[i, j] = np.float32(total * scale - dark_level)
    return means


@compiled
def contrast_over(
    image: NDArray[Any],
    dark_level: float,
    film: NDArray[np.float32],
    cell: int,
    floor: float,
    sign: int,
    factor: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``sign`` · (image / film - 1) for every pixel, and its means over blocks of ``factor``.

    ``film`` holds the film's level at the centres of cells of ``cell`` pixels; between them it is
    interpolated linearly, beyond the outer ones extrapolated, and never below ``floor``.
    """
    rows, columns = image.shape
    contrast = np.empty((rows, columns), np.float32)
    small = np.empty((rows // factor, columns // factor), np.float32)
    lines = _lines(film, cell, columns)
    width = (columns // factor) * factor
    line = np.zeros(width, np.float32)
    sums = np.zeros(columns // factor, np.float32)
    scale = np.float32(1.0 / (factor * factor))
    dark = np.float32(dark_level)
    lowest = np.float32(floor)
    one = np.float32(sign)
    for i in range(rows):
        below, above, share = _between(i, cell, film.shape[0])
        low, high = lines[below], lines[above]
        row = image[i]
        out = contrast[i]
        for j in range(columns):
            level = low[j] + share * (high[j] - low[j])
            level = level if level > lowest else lowest
            out[j] = one * ((np.float32(row[j]) - dark) / level) - one
        if i // factor >= small.shape[0]:
            continue
        if i % factor == 0:
            for j in range(width):
                line[j] = out[j]
        else:
            for j in range(width):
                line[j] += out[j]
        if i % factor == factor - 1:
            means = small[i // factor]
            if factor == 2:
                for j in range(means.shape[0]):
                    means[j] = (line[2 * j] + line[2 * j + 1]) * scale
                continue
            sums[:] = 0.0
            for k in range(factor):
                for j in range(means.shape[0]):
                    sums[j] += line[j * factor + k]
            for j in range(means.shape[0]):
                means[j] = sums[j] * scale
    return contrast, small


@compiled
def spread(film: NDArray[np.float32], cell: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Nodes at the centres of cells of ``cell`` pixels, interpolated linearly to (y, x) pixels."""
    rows, columns = shape
    wide = np.empty((rows, columns), np.float32)
    lines = _lines(film, cell, columns)
    for i in range(rows):
        below, above, share = _between(i, cell, film.shape[0])
        into, low, high = wide[i], lines[below], lines[above]
        for j in range(columns):
            into[j] = low[j] + share * (high[j] - low[j])
    return wide


@compiled
def multiply_by(image: NDArray[np.float32], nodes: NDArray[np.float32], cell: float) -> None:
    """Multiply an image in place by a field given at the centres of cells, interpolated linearly."""
    rows, columns = image.shape
    lines = _lines(nodes, cell, columns)
    for i in range(rows):
        below, above, share = _between(i, cell, nodes.shape[0])
        row, low, high = image[i], lines[below], lines[above]
        for j in range(columns):
            row[j] *= low[j] + share * (high[j] - low[j])


@compiled
def _between(i: int, cell: float, nodes: int) -> tuple[int, int, np.float32]:
    """The rows of nodes below and above row i of an image, and how far it lies from one to the other."""
    # node k lies at pixel coordinate (k + 0.5) · cell
    at = (i + 0.5) / cell - 0.5
    below = min(max(int(np.floor(at)), 0), max(nodes - 2, 0))
    if nodes < 2:
        return below, below, np.float32(0.0)
    return below, below + 1, np.float32(at - below)


@compiled
def _lines(nodes: NDArray[np.float32], cell: float, columns: int) -> NDArray[np.float32]:
    """Rows of nodes with straight lines from node to node, (row of nodes, x)."""
    lines = np.empty((nodes.shape[0], columns), np.float32)
    left, share = np.empty(columns, np.int64), np.empty(columns, np.float32)
    most = max(nodes.shape[1] - 2, 0)
    right = min(1, nodes.shape[1] - 1)
    for j in range(columns):
        at = (j + 0.5) / cell - 0.5
        left[j] = min(max(int(np.floor(at)), 0), most)
        share[j] = np.float32(at - left[j])
    for i in range(nodes.shape[0]):
        for j in range(columns):
            begin = nodes[i, left[j]]
            lines[i, j] = begin + share[j] * (nodes[i, left[j] + right] - begin)
    return lines
