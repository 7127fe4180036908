"""Compiled Gaussian and box means over the pixels that there are, with noise even up to the border."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled


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
    half = gaussian_weights(sigma)
    reach = half.shape[0] - 1
    rows, columns = image.shape
    between = np.empty((rows, columns), np.float32)
    share_y = _share(half, rows)
    share_x = _share(half, columns)
    for i in range(rows):
        out = between[i]
        row = image[i]
        for j in range(columns):
            out[j] = half[0] * row[j]
        inside = min(reach, i, rows - 1 - i)
        k = 1
        # two at a time, so that the sums are read and written half as often
        while k < inside:
            near, far = half[k], half[k + 1]
            up, down, upper, lower = image[i - k], image[i + k], image[i - k - 1], image[i + k + 1]
            for j in range(columns):
                out[j] = out[j] + near * (up[j] + down[j]) + far * (upper[j] + lower[j])
            k += 2
        while k <= reach:
            weight = half[k]
            if i - k >= 0:
                _add(out, weight, image[i - k])
            if i + k < rows:
                _add(out, weight, image[i + k])
            k += 1
    smoothed = np.empty((rows, columns), np.float32)
    padded = np.zeros(columns + 2 * reach, np.float32)
    for i in range(rows):
        middle = padded[reach : reach + columns]
        middle[:] = between[i]
        out = smoothed[i]
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
        scale = np.float32(1.0) / share_y[i]
        for j in range(columns):
            out[j] *= scale / share_x[j]
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
    reach = int(np.round((np.sqrt(6.0 * sigma**2 + 1.0) - 1.0) / 2.0))
    return _box(_box(image, reach), reach)


@compiled
def _box(image: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Mean over the square of 2 ``reach`` + 1 pixels, of those inside the image."""
    rows, columns = image.shape
    mean = np.empty((rows, columns), np.float32)
    column_sum = np.zeros(columns, np.float64)
    for i in range(min(reach, rows)):
        for j in range(columns):
            column_sum[j] += image[i, j]
    for i in range(rows):
        if i + reach < rows:
            enters = image[i + reach]
            for j in range(columns):
                column_sum[j] += enters[j]
        if i - reach - 1 >= 0:
            leaves = image[i - reach - 1]
            for j in range(columns):
                column_sum[j] -= leaves[j]
        high = min(i + reach, rows - 1) - max(i - reach, 0) + 1
        total = 0.0
        for j in range(min(reach, columns)):
            total += column_sum[j]
        for j in range(columns):
            if j + reach < columns:
                total += column_sum[j + reach]
            if j - reach - 1 >= 0:
                total -= column_sum[j - reach - 1]
            wide = min(j + reach, columns - 1) - max(j - reach, 0) + 1
            mean[i, j] = np.float32(total / (high * wide))
    return mean
