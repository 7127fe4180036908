"""Compiled passes over whole images: statistics, block means, and the contrast over a smooth film."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled


@compiled
def pixel_statistics(image: NDArray[Any]) -> tuple[float, float, float, int, bool]:
    """Lowest and highest value, mean, how many pixels sit on the highest, and whether all are finite.

    ``image`` is (y, x) of any real type. With a value that is not finite the others mean nothing.
    """
    rows, columns = image.shape
    low = image[0, 0]
    high = image[0, 0]
    total = 0.0
    for i in range(rows):
        row = image[i]
        row_low = row[0]
        row_high = row[0]
        row_sum = 0 * row[0]  # integers are added as integers, several at a time
        for j in range(columns):
            value = row[j]
            row_low = min(row_low, value)
            row_high = max(row_high, value)
            row_sum += value
        low = min(low, row_low)
        high = max(high, row_high)
        total += row_sum
        if not np.isfinite(row_sum):
            return float(low), float(high), total, 0, False
    on_top = 0
    for i in range(rows):
        for j in range(columns):
            on_top += image[i, j] == high
    return float(low), float(high), total / (rows * columns), on_top, True


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
    nodes_y, nodes_x = film.shape
    nodes = np.empty(nodes_x, np.float32)
    level = np.empty(columns, np.float32)
    width = (columns // factor) * factor
    line = np.zeros(width, np.float32)
    sums = np.zeros(columns // factor, np.float32)
    scale = np.float32(1.0 / (factor * factor))
    dark = np.float32(dark_level)
    lowest = np.float32(floor)
    one = np.float32(sign)
    for i in range(rows):
        at = (i + 0.5) / cell - 0.5
        below = min(max(int(np.floor(at)), 0), max(nodes_y - 2, 0))
        above = min(below + 1, nodes_y - 1)
        share = at - below
        for j in range(nodes_x):
            nodes[j] = np.float32((1.0 - share) * film[below, j] + share * film[above, j])
        _fill(level, nodes, cell, lowest)
        row = image[i]
        out = contrast[i]
        for j in range(columns):
            out[j] = one * ((np.float32(row[j]) - dark) / level[j]) - one
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
def _fill(
    level: NDArray[np.float32], nodes: NDArray[np.float32], cell: int, lowest: np.float32
) -> None:
    """One row of the film from its nodes: straight lines from node to node."""
    columns = level.shape[0]
    pieces = nodes.shape[0] - 1
    if pieces < 1:
        for j in range(columns):
            level[j] = max(nodes[0], lowest)
        return
    for piece in range(pieces):
        # node k lies at pixel coordinate (k + 0.5) · cell
        start = 0 if piece == 0 else int(np.ceil((piece + 0.5) * cell - 0.5))
        end = columns if piece == pieces - 1 else int(np.ceil((piece + 1.5) * cell - 0.5))
        end = min(end, columns)
        slope = (nodes[piece + 1] - nodes[piece]) / np.float32(cell)
        origin = nodes[piece] + slope * np.float32(0.5 - (piece + 0.5) * cell)
        for j in range(start, end):
            level[j] = max(origin + slope * np.float32(j), lowest)


@compiled
def spread(film: NDArray[np.float32], cell: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Nodes at the centres of cells of ``cell`` pixels, interpolated linearly to (y, x) pixels."""
    rows, columns = shape
    wide = np.empty((rows, columns), np.float32)
    nodes_y, nodes_x = film.shape
    for i in range(rows):
        at_y = (i + 0.5) / cell - 0.5
        below = min(max(int(np.floor(at_y)), 0), max(nodes_y - 2, 0))
        above = min(below + 1, nodes_y - 1)
        share_y = at_y - below
        for j in range(columns):
            at_x = (j + 0.5) / cell - 0.5
            left = min(max(int(np.floor(at_x)), 0), max(nodes_x - 2, 0))
            right = min(left + 1, nodes_x - 1)
            share_x = at_x - left
            low = (1.0 - share_x) * film[below, left] + share_x * film[below, right]
            high = (1.0 - share_x) * film[above, left] + share_x * film[above, right]
            wide[i, j] = np.float32((1.0 - share_y) * low + share_y * high)
    return wide


@compiled
def multiply_by(image: NDArray[np.float32], nodes: NDArray[np.float32], cell: float) -> None:
    """Multiply an image in place by a field given at the centres of cells, interpolated linearly."""
    rows, columns = image.shape
    nodes_y, nodes_x = nodes.shape
    left = np.empty(columns, np.int64)
    share = np.empty(columns, np.float32)
    for j in range(columns):
        at = (j + 0.5) / cell - 0.5
        left[j] = min(max(int(np.floor(at)), 0), max(nodes_x - 2, 0))
        share[j] = np.float32(at - left[j]) if nodes_x > 1 else np.float32(0.0)
    line = np.empty(nodes_x + 1, np.float32)
    for i in range(rows):
        at = (i + 0.5) / cell - 0.5
        below = min(max(int(np.floor(at)), 0), max(nodes_y - 2, 0))
        above = min(below + 1, nodes_y - 1)
        part = np.float32(at - below) if nodes_y > 1 else np.float32(0.0)
        for j in range(nodes_x):
            line[j] = nodes[below, j] + part * (nodes[above, j] - nodes[below, j])
        line[nodes_x] = line[nodes_x - 1]
        row = image[i]
        for j in range(columns):
            k = left[j]
            row[j] *= line[k] + share[j] * (line[k + 1] - line[k])
