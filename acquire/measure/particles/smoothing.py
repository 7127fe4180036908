"""Compiled Gaussian and box means over the pixels that there are, with noise even up to the border."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled

_BLOCK = 64
"""Rows that are worked on together where they stand side by side."""


@compiled
def gaussian_weights(sigma: float) -> NDArray[np.float32]:
    """Half of a Gaussian kernel from its middle on, cut at 3 σ; the whole kernel sums to one."""
    reach = max(int(3.0 * sigma + 0.5), 1)
    half = np.exp(-0.5 * np.square(np.arange(reach + 1) / sigma))
    half /= 2.0 * half.sum() - half[0]
    return half.astype(np.float32)


@compiled
def smooth(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian mean over the pixels inside the image, standard deviation ``sigma`` pixels.

    Repeating or mirroring pixels beyond the border instead would double the noise there.
    """
    return smooth_rows(image, sigma, 1)


@compiled
def smooth_rows(image: NDArray[np.float32], sigma: float, step: int) -> NDArray[np.float32]:
    """Every ``step``-th row of :func:`smooth`."""
    half = gaussian_weights(sigma)
    down = np.float32(1.0) / _share(half, image.shape[0])
    across = np.float32(1.0) / _share(half, image.shape[1])
    return _correlated(image, half, down, across, step)


@compiled
def smooth_evenly(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """:func:`smooth` times :func:`evenness` along both axes, in one pass."""
    half = gaussian_weights(sigma)
    rows, columns = image.shape
    down = evenness(sigma, rows) / _share(half, rows)
    across = evenness(sigma, columns) / _share(half, columns)
    return _correlated(image, half, down, across, 1)


@compiled
def _correlated(
    image: NDArray[np.float32],
    half: NDArray[np.float32],
    down: NDArray[np.float32],
    across: NDArray[np.float32],
    step: int,
) -> NDArray[np.float32]:
    """Correlation with a symmetric kernel along both axes, times a factor for each row and column."""
    reach = half.shape[0] - 1
    rows, columns = image.shape
    smoothed = np.empty(((rows + step - 1) // step, columns), np.float32)
    padded = np.zeros(columns + 2 * reach, np.float32)
    middle = padded[reach : reach + columns]
    for i in range(0, rows, step):
        row = image[i]
        for j in range(columns):
            middle[j] = half[0] * row[j]
        inside = min(reach, i, rows - 1 - i)
        k = 1
        # two at a time, so that the sums are read and written half as often
        while k < inside:
            near, far = half[k], half[k + 1]
            up, low, upper, lower = image[i - k], image[i + k], image[i - k - 1], image[i + k + 1]
            for j in range(columns):
                middle[j] = middle[j] + near * (up[j] + low[j]) + far * (upper[j] + lower[j])
            k += 2
        while k <= reach:
            if i - k >= 0:
                _add(middle, half[k], image[i - k])
            if i + k < rows:
                _add(middle, half[k], image[i + k])
            k += 1
        out = smoothed[i // step]
        for j in range(columns):
            out[j] = half[0] * middle[j]
        for k in range(1, reach, 2):
            near, far = half[k], half[k + 1]
            left, right = padded[reach - k :], padded[reach + k :]
            lefter, righter = padded[reach - k - 1 :], padded[reach + k + 1 :]
            for j in range(columns):
                out[j] = out[j] + near * (left[j] + right[j]) + far * (lefter[j] + righter[j])
        if reach % 2:
            weight = half[reach]
            right = padded[2 * reach :]
            for j in range(columns):
                out[j] += weight * (padded[j] + right[j])
        for j in range(columns):
            out[j] *= down[i] * across[j]
    return smoothed


@compiled
def _add(into: NDArray[np.float32], weight: np.float32, line: NDArray[np.float32]) -> None:
    for j in range(into.shape[0]):
        into[j] += weight * line[j]


@compiled
def _share(half: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """How much of the kernel lies inside the image at every place along one axis."""
    share = np.empty(length, np.float32)
    reach = half.shape[0] - 1
    for i in range(length):
        total = half[0]
        for k in range(1, reach + 1):
            total += (half[k] if i - k >= 0 else np.float32(0.0)) + (
                half[k] if i + k < length else np.float32(0.0)
            )
        share[i] = total
    return share


@compiled
def evenness(sigma: float, length: int) -> NDArray[np.float32]:
    """Factor along one axis that makes the white noise of :func:`smooth` even up to the border."""
    half = gaussian_weights(sigma)
    reach = half.shape[0] - 1
    inner = 0.0
    for k in range(-reach, reach + 1):
        inner += half[abs(k)] ** 2
    even = np.empty(length, np.float32)
    for i in range(length):
        total, squares = 0.0, 0.0
        for k in range(-reach, reach + 1):
            if 0 <= i + k < length:
                total += half[abs(k)]
                squares += half[abs(k)] ** 2
        even[i] = np.float32(total / np.sqrt(squares / inner))
    return even


@compiled
def wide_mean(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Two box means: a triangle of the Gaussian's variance, at a cost that does not grow with it."""
    return wide_mean_rows(image, sigma, 1)


@compiled
def wide_mean_rows(image: NDArray[np.float32], sigma: float, step: int) -> NDArray[np.float32]:
    """Every ``step``-th row of :func:`wide_mean`."""
    reach = int(np.round((np.sqrt(6.0 * sigma**2 + 1.0) - 1.0) / 2.0))
    mean = _box_down(_box_down(image, reach), reach)[::step].copy()
    rows, columns = mean.shape
    # running sums along a row would wait for each other: blocks of rows are turned on their side
    turned = np.empty((columns, _BLOCK), np.float32)
    for top in range(0, rows, _BLOCK):
        high = min(_BLOCK, rows - top)
        for i in range(high):
            for j in range(columns):
                turned[j, i] = mean[top + i, j]
        across = _box_down(_box_down(turned, reach), reach)
        for i in range(high):
            for j in range(columns):
                mean[top + i, j] = across[j, i]
    return mean


@compiled
def _box_down(image: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Mean over 2 ``reach`` + 1 pixels of a column, of those inside the image."""
    rows, columns = image.shape
    mean = np.empty((rows, columns), np.float32)
    total = np.zeros(columns, np.float32)
    for i in range(min(reach, rows)):
        for j in range(columns):
            total[j] += image[i, j]
    for i in range(rows):
        if i + reach < rows:
            enters = image[i + reach]
            for j in range(columns):
                total[j] += enters[j]
        if i - reach - 1 >= 0:
            leaves = image[i - reach - 1]
            for j in range(columns):
                total[j] -= leaves[j]
        share = np.float32(1.0 / (min(i + reach, rows - 1) - max(i - reach, 0) + 1))
        into = mean[i]
        for j in range(columns):
            into[j] = total[j] * share
    return mean
