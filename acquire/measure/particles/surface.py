"""Compiled model of domes that share room: their upper surface, and fits of one dome beside others.

Where domes overlap the higher one is seen, so every pixel says something on one dome alone, and a
joint fit is a fit of each in turn to the pixels that it owns, until nothing moves. A dome here is a row
(y, x, R, A): centre, radius of the footprint, contrast at its centre; lengths are in blocks of pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.shapes import blur_row, dome_at

STEP = 0.01
"""Of profiles, in radii: that of the table of blurred domes."""
LONGEST = 512
_GROWTH = 0.01
_TURNS = 2
_MOST_CHANGE = 0.35
"""Of a radius or a height in one step, in its logarithm; a centre moves by as many radii."""
_SETTLED = 0.003
"""A step that changes nothing by more than this share is the last."""
_LEAST_VARIANCE = 0.2
_SHOWN = 0.03
"""Blocks below this share of a dome's height hardly show it."""
_SMALLEST_RADIUS = 1.0


@compiled
def window(dome: NDArray[np.float64], blur: float, rows: int, columns: int) -> NDArray[np.int64]:
    """First and one after the last row and column that a dome reaches."""
    reach = dome[2] + 3.0 * blur
    box = np.empty(4, np.int64)
    box[0] = min(max(int(dome[0] - reach), 0), rows)
    box[1] = max(min(int(dome[0] + reach) + 1, rows), box[0])
    box[2] = min(max(int(dome[1] - reach), 0), columns)
    box[3] = max(min(int(dome[1] + reach) + 1, columns), box[2])
    return box


@compiled
def profile(
    dome: NDArray[np.float64], values: NDArray[np.float64], blur: float, into: NDArray[np.float64]
) -> int:
    """Fill ``into`` (n,) with a dome's height every hundredth of R from its centre on.

    Returns how many there are until nothing is left.
    """
    count: int = min(int((1.0 + 3.0 * blur / dome[2]) / STEP) + 1, into.shape[0] - 1)
    row, along = blur_row(blur / dome[2])
    for k in range(count):
        into[k] = dome[3] * dome_at(values, k * STEP, row, along)
    into[count] = 0.0
    return count


@compiled
def profiles(
    dome: NDArray[np.float64], values: NDArray[np.float64], blur: float, into: NDArray[np.float64]
) -> int:
    """As :func:`profile`; a second row takes the slope with ln R if the distance grew along."""
    count = profile(dome, values, blur, into[0])
    row, along = blur_row(blur / (dome[2] * (1.0 + _GROWTH)))
    for k in range(count):
        grown = dome[3] * dome_at(values, k * STEP, row, along)
        into[1, k] = (grown - into[0, k]) / _GROWTH
    into[1, count] = 0.0
    return count


@compiled
def raise_surface(
    surface: NDArray[np.float32],
    owner: NDArray[np.int32],
    domes: NDArray[np.float64],
    which: NDArray[np.int64],
    values: NDArray[np.float64],
    blur: float,
    top: int,
    left: int,
) -> None:
    """Raise a part of the image, that begins at (top, left), to the domes ``which``, and note whose it is."""
    rows, columns = surface.shape
    heights = np.empty(LONGEST)
    for k in which:
        dome = domes[k]
        box = window(dome, blur, top + rows, left + columns)
        if box[1] <= max(box[0], top) or box[3] <= max(box[2], left):
            continue
        last, one = np.uint64(profile(dome, values, blur, heights)), np.uint64(1)
        scale = 1.0 / (dome[2] * STEP)
        # unsigned places need no look at whether they count from the end
        for i in range(np.uint64(max(box[0] - top, 0)), np.uint64(min(box[1] - top, rows))):
            dy = i + (top + 0.5 - dome[0])
            for j in range(
                np.uint64(max(box[2] - left, 0)), np.uint64(min(box[3] - left, columns))
            ):
                dx = j + (left + 0.5 - dome[1])
                at = np.sqrt(dy * dy + dx * dx) * scale
                low = np.uint64(at)
                if low >= last:
                    continue
                height = heights[low] + (at - low) * (heights[low + one] - heights[low])
                if height > surface[i, j]:
                    surface[i, j] = height
                    owner[i, j] = k


@compiled
def neighbours(
    domes: NDArray[np.float64], k: int, alive: NDArray[np.bool_], blur: float
) -> NDArray[np.int64]:
    """Those alive, other than k, whose room meets that of k, with some to spare for k's growth."""
    near = np.empty(len(domes), np.int64)
    count = 0
    reach = 1.4 * domes[k, 2] + 6.0 * blur
    for n in range(len(domes)):
        if n == k or not alive[n]:
            continue
        dy, dx = domes[n, 0] - domes[k, 0], domes[n, 1] - domes[k, 1]
        most = reach + domes[n, 2]
        if dy * dy + dx * dx < most * most:
            near[count] = n
            count += 1
    return near[:count]


@compiled
def fit_beside(
    image: NDArray[np.float32],
    domes: NDArray[np.float64],
    k: int,
    near: NDArray[np.int64],
    values: NDArray[np.float64],
    blur: float,
    white: float,
    shot: int,
    steepness: float,
    spread: float,
) -> tuple[float, float, float]:
    """Fit dome k to the image with the domes ``near`` held, in place.

    ``white`` is the variance of a block of the film, ``shot`` 1 where brighter blocks are noisier. The
    height is drawn to ``steepness`` · R, of which its logarithm may differ by ``spread``.

    Returns:
        By how much χ² falls through the dome, over how many blocks, and the largest relative change.
    """
    rows, columns = image.shape
    now = domes[k].copy()
    wide = now.copy()
    wide[2] = 1.4 * wide[2] + 2.0 * blur
    box = window(wide, blur, rows, columns)
    top, left = box[0], box[2]
    rest = np.zeros((box[1] - top, box[3] - left), np.float32)
    owner = np.full(rest.shape, -1, np.int32)
    raise_surface(rest, owner, domes, near, values, blur, top, left)
    part = image[top : box[1], left : box[3]]
    bright = rest.copy()
    one = np.empty(1, np.int64)
    one[0] = k
    raise_surface(bright, owner, domes, one, values, blur, top, left)
    weight = np.empty(rest.shape, np.float32)
    without = 0.0
    for i in range(np.uint64(rest.shape[0])):
        for j in range(np.uint64(rest.shape[1])):
            weight[i, j] = block_weight(white, shot, bright[i, j])
            without += weight[i, j] * (part[i, j] - rest[i, j]) ** 2
    plain, owned = _misfit(part, rest, weight, now, top, left, values, blur)
    best = plain + _strain(now, steepness, spread)
    changed, damping = 0.0, 1e-3
    for _ in range(_TURNS):
        matrix, pull = _normal(part, rest, weight, now, top, left, values, blur)
        add_prior(matrix, pull, now, steepness, spread)
        for a in range(4):
            matrix[a, a] += damping * matrix[a, a] + 1e-9
        step = solved(matrix, pull)
        largest = max(abs(step[0]), abs(step[1])) / now[2]
        largest = max(largest, max(abs(step[2]), abs(step[3])))
        if not np.isfinite(largest):
            break
        if largest > _MOST_CHANGE:
            step *= _MOST_CHANGE / largest
        trial = now.copy()
        trial[0] += step[0]
        trial[1] += step[1]
        trial[2] = max(trial[2] * np.exp(step[2]), _SMALLEST_RADIUS)
        trial[3] *= np.exp(step[3])
        chi2, area = _misfit(part, rest, weight, trial, top, left, values, blur)
        strained = chi2 + _strain(trial, steepness, spread)
        if strained <= best:
            best, plain, owned, now = strained, chi2, area, trial
            changed = max(changed, min(largest, _MOST_CHANGE))
            damping *= 0.3
            if largest < _SETTLED:
                break
        else:
            damping = max(10.0 * damping, 0.1)
            if damping > 100.0:
                break
    domes[k] = now
    return without - plain, owned, changed


@compiled
def block_weight(white: float, shot: int, height: float) -> float:
    """One over the shot noise's variance of a block of such a contrast."""
    return float(1.0 / (white * max(1.0 + shot * height, _LEAST_VARIANCE)))


@compiled
def _strain(dome: NDArray[np.float64], steepness: float, spread: float) -> float:
    return float((np.log(dome[3] / (steepness * dome[2])) / spread) ** 2)


@compiled
def add_prior(
    matrix: NDArray[np.float64],
    pull: NDArray[np.float64],
    dome: NDArray[np.float64],
    steepness: float,
    spread: float,
) -> None:
    """Add what is known of the height to the normal equations of y, x, ln R and ln A."""
    stiff = 1.0 / (spread * spread)
    off = np.log(dome[3] / (steepness * dome[2]))
    matrix[2, 2] += stiff
    matrix[3, 3] += stiff
    matrix[2, 3] -= stiff
    matrix[3, 2] -= stiff
    pull[2] += off * stiff
    pull[3] -= off * stiff


@compiled
def _misfit(
    part: NDArray[np.float32],
    rest: NDArray[np.float32],
    weight: NDArray[np.float32],
    dome: NDArray[np.float64],
    top: int,
    left: int,
    values: NDArray[np.float64],
    blur: float,
) -> tuple[float, float]:
    """χ² of a part of the image, and how many of its blocks show the dome."""
    heights = np.empty(LONGEST)
    last, one = np.uint64(profile(dome, values, blur, heights)), np.uint64(1)
    scale = 1.0 / (dome[2] * STEP)
    total, shown = 0.0, 0.0
    for i in range(np.uint64(part.shape[0])):
        dy = i + (top + 0.5 - dome[0])
        for j in range(np.uint64(part.shape[1])):
            dx = j + (left + 0.5 - dome[1])
            level = float(rest[i, j])
            at = np.sqrt(dy * dy + dx * dx) * scale
            low = np.uint64(at)
            if low < last:
                height = heights[low] + (at - low) * (heights[low + one] - heights[low])
                if height > level:
                    level = height
                    shown += height > _SHOWN * dome[3]
            miss = part[i, j] - level
            total += weight[i, j] * miss * miss
    return total, shown


@compiled
def _normal(
    part: NDArray[np.float32],
    rest: NDArray[np.float32],
    weight: NDArray[np.float32],
    dome: NDArray[np.float64],
    top: int,
    left: int,
    values: NDArray[np.float64],
    blur: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normal matrix and right-hand side of y, x, ln R and ln A from the blocks that show the dome."""
    table = np.empty((2, LONGEST))
    last, one = np.uint64(profiles(dome, values, blur, table)), np.uint64(1)
    heights, growth = table[0], table[1]
    scale = 1.0 / (dome[2] * STEP)
    yy, yx, yr, ya, xx, xr, xa, rr, ra, aa = (0.0,) * 10
    py, px, pr, pa = (0.0,) * 4
    for i in range(np.uint64(part.shape[0])):
        dy = i + (top + 0.5 - dome[0])
        for j in range(np.uint64(part.shape[1])):
            dx = j + (left + 0.5 - dome[1])
            away = np.sqrt(dy * dy + dx * dx)
            at = away * scale
            low = np.uint64(at)
            if low >= last:
                continue
            step, share = heights[low + one] - heights[low], at - low
            height = heights[low] + share * step
            if height <= rest[i, j]:
                continue
            fall = step * scale
            out = -fall / max(away, 1e-9)
            y, x = out * dy, out * dx
            r = growth[low] + share * (growth[low + one] - growth[low]) - away * fall
            w = weight[i, j]
            miss = w * (part[i, j] - height)
            py += y * miss
            px += x * miss
            pr += r * miss
            pa += height * miss
            wy, wx, wr = w * y, w * x, w * r
            yy += wy * y
            yx += wy * x
            yr += wy * r
            ya += wy * height
            xx += wx * x
            xr += wx * r
            xa += wx * height
            rr += wr * r
            ra += wr * height
            aa += w * height * height
    matrix = np.empty((4, 4))
    matrix[0] = (yy, yx, yr, ya)
    matrix[1] = (yx, xx, xr, xa)
    matrix[2] = (yr, xr, rr, ra)
    matrix[3] = (ya, xa, ra, aa)
    pull = np.empty(4)
    pull[0], pull[1], pull[2], pull[3] = py, px, pr, pa
    return matrix, pull


@compiled
def solved(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solution of a small symmetric positive system, by elimination; not by BLAS, for equal bits."""
    n = len(right)
    left, answer = matrix.copy(), right.copy()
    for a in range(n):
        for b in range(a + 1, n):
            share = left[b, a] / left[a, a]
            for c in range(a, n):
                left[b, c] -= share * left[a, c]
            answer[b] -= share * answer[a]
    for a in range(n - 1, -1, -1):
        for b in range(a + 1, n):
            answer[a] -= left[a, b] * answer[b]
        answer[a] /= left[a, a]
    return answer
