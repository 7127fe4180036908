"""Compiled fits of blurred domes to ring profiles: places, radii, heights, their σ and χ².

Per particle a radius R, a height A and an offset b are fitted; A and b are linear and solved for at
every radius (variable projection). Rings are weighted by the inverse of their covariance: white shot
noise over the ring's pixels, greater where the image is brighter, plus the film's texture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.fit import NEXT_GRID, shot_noise, vertex
from acquire.measure.particles.rings import MOST_RINGS
from acquire.measure.particles.shapes import blur_row, dome_at

_LAST_GRID = np.geomspace(0.7, 1.43, 7)
_FINE_STEPS = np.array([0.03, 0.006])
_BUMP_WIDTHS = np.geomspace(0.3, 1.1, 5)
STEEPNESS_SPREAD = 0.3


@compiled
def weigh_domes(
    fitted: NDArray[np.float64],
    profiles: NDArray[np.float64],
    rings: NDArray[np.int64],
    widths: NDArray[np.float64],
    white: NDArray[np.float64],
    texture: NDArray[np.float64],
    values: NDArray[np.float64],
    blur: float,
    shot: int,
    steepness: float,
) -> NDArray[np.float64]:
    """Fit the profiles with their full covariance.

    ``white`` (n,) is the variance of a film pixel at each particle; ``texture`` (doubling, ring,
    ring) the texture's covariance for ring widths of ½, 1, 2 … pixels, or empty. A ``steepness``
    (height per radius) above 0 penalises heights far from steepness · R.

    Returns:
        Rows (n, 8): R, σ of R, A, σ of A, b, reduced χ², χ² by which a Gaussian bump fits worse
        than the dome, rings used.
    """
    count = len(rings)
    found = np.zeros((count, 8))
    noise = np.ones(MOST_RINGS)
    for p in range(count):
        radius, height, offset = fitted[p, 2], fitted[p, 3], fitted[p, 4]
        profile, n = profiles[p], rings[p]
        blurred = np.sqrt(blur * blur + widths[p] ** 2 / 12.0)
        shot_noise(values, blurred, radius, height, offset, shot, profile, n, noise)
        used = np.nonzero(profile[:n, 2] > 0.0)[0]
        m = len(used)
        if m < 4:
            found[p] = (radius, np.inf, height, np.inf, offset, np.inf, 0.0, float(m))
            continue
        r, mean = np.empty(m), np.empty((1, m))
        factor = np.zeros((m, m))
        level = int(np.round(np.log2(widths[p] / 0.5)))
        rough = texture.shape[0] > level
        for a in range(m):
            k = used[a]
            r[a], mean[0, a] = profile[k, 1], profile[k, 0]
            if rough:
                for b in range(a + 1):
                    factor[b, a] = texture[level, k, used[b]]
            factor[a, a] += white[p] * noise[k] / profile[k, 2]
        _cholesky(factor, m, rough)
        one = np.ones(m)
        _whiten(factor, one, m, rough)
        data = mean[0].copy()
        _whiten(factor, data, m, rough)
        grid = _LAST_GRID if steepness > 0.0 else NEXT_GRID
        chi2 = np.empty(len(grid))
        for i in range(len(grid)):
            chi2[i] = _full_fit(
                values, blurred, radius * grid[i], r, data, one, factor, m, rough, steepness
            )[0]
        at = min(max(int(np.argmin(chi2)), 1), len(grid) - 2)
        shift = vertex(chi2[at - 1], chi2[at], chi2[at + 1])
        radius = max(radius * grid[at] * (grid[1] / grid[0]) ** shift, 0.5)
        for step in _FINE_STEPS:
            c0 = _full_fit(
                values, blurred, radius * (1 - step), r, data, one, factor, m, rough, steepness
            )[0]
            c1 = _full_fit(values, blurred, radius, r, data, one, factor, m, rough, steepness)[0]
            c2 = _full_fit(
                values, blurred, radius * (1 + step), r, data, one, factor, m, rough, steepness
            )[0]
            radius = max(radius * (1 + step * vertex(c0, c1, c2)), 0.5)
        _, height, offset, plain = _full_fit(
            values, blurred, radius, r, data, one, factor, m, rough, steepness
        )
        sigma_r, sigma_a = _sigmas(
            values, blurred, radius, height, r, one, factor, m, rough, steepness
        )
        bump = np.inf
        for share in _BUMP_WIDTHS:
            shape = np.exp(-0.5 * np.square(r / (share * radius)))
            _whiten(factor, shape, m, rough)
            bump = min(bump, _line_fit(shape, data, one)[0])
        found[p, 0], found[p, 1], found[p, 2], found[p, 3] = radius, sigma_r, height, sigma_a
        found[p, 4], found[p, 5] = offset, plain / max(m - 3, 1)
        found[p, 6], found[p, 7] = bump - plain, m
    return found


@compiled
def _cholesky(upper: NDArray[np.float64], m: int, full: bool) -> None:
    """Replace an upper triangle C by U with C = Uᵀ U, in place; a diagonal one by its roots."""
    for a in range(m):
        pivot = np.sqrt(max(upper[a, a], 1e-30))
        upper[a, a] = pivot
        if not full:
            continue
        line = upper[a]
        for b in range(a + 1, m):
            line[b] /= pivot
        for b in range(a + 1, m):
            share, under = line[b], upper[b]
            if share != 0.0:
                for c in range(b, m):
                    under[c] -= share * line[c]


@compiled
def _whiten(upper: NDArray[np.float64], vector: NDArray[np.float64], m: int, full: bool) -> None:
    """Solve Uᵀ w = vector in place."""
    for a in range(m):
        value = vector[a] / upper[a, a]
        vector[a] = value
        if full:
            line = upper[a]
            for b in range(a + 1, m):
                vector[b] -= line[b] * value


@compiled
def _line_fit(
    shape: NDArray[np.float64], data: NDArray[np.float64], one: NDArray[np.float64]
) -> tuple[float, float, float]:
    """χ², height and offset of data = height · shape + offset · one, all of unit variance."""
    s0, s1, s2, t0, t1, t2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(len(one)):
        f, u, d = shape[k], one[k], data[k]
        s0 += u * u
        s1 += u * f
        s2 += f * f
        t0 += u * d
        t1 += f * d
        t2 += d * d
    spread = s2 * s0 - s1 * s1
    if not spread > 1e-12 * s2 * s0:
        return t2 - t0 * t0 / s0, 0.0, t0 / s0
    height = (t1 * s0 - t0 * s1) / spread
    offset = (t0 - height * s1) / s0
    return t2 - height * t1 - offset * t0, height, offset


@compiled
def _full_fit(
    values: NDArray[np.float64],
    blur: float,
    radius: float,
    r: NDArray[np.float64],
    data: NDArray[np.float64],
    one: NDArray[np.float64],
    factor: NDArray[np.float64],
    m: int,
    rough: bool,
    steepness: float,
) -> tuple[float, float, float, float]:
    """χ² with the penalty, height, offset, and χ² without it."""
    row, along = blur_row(blur / radius)
    shape = np.empty(m)
    for k in range(m):
        shape[k] = dome_at(values, r[k] / radius, row, along)
    _whiten(factor, shape, m, rough)
    chi2, height, offset = _line_fit(shape, data, one)
    penalty = 0.0
    if steepness > 0.0:
        expected = steepness * radius
        penalty = (np.log(max(height, 1e-3 * expected) / expected) / STEEPNESS_SPREAD) ** 2
    return chi2 + penalty, height, offset, chi2


@compiled
def _sigmas(
    values: NDArray[np.float64],
    blur: float,
    radius: float,
    height: float,
    r: NDArray[np.float64],
    one: NDArray[np.float64],
    factor: NDArray[np.float64],
    m: int,
    rough: bool,
    steepness: float,
) -> tuple[float, float]:
    """σ of R and of A from the information matrix of (R, A, b)."""
    step = 0.01
    shape, slope = np.empty(m), np.empty(m)
    row, along = blur_row(blur / radius)
    row_more, along_more = blur_row(blur / (radius * (1.0 + step)))
    row_less, along_less = blur_row(blur / (radius * (1.0 - step)))
    for k in range(m):
        rho = r[k] / radius
        shape[k] = dome_at(values, rho, row, along)
        more = dome_at(values, rho / (1.0 + step), row_more, along_more)
        less = dome_at(values, rho / (1.0 - step), row_less, along_less)
        slope[k] = height * (more - less) / (2.0 * step * radius)
    _whiten(factor, shape, m, rough)
    _whiten(factor, slope, m, rough)
    s0 = max((one * one).sum(), 1e-30)
    # what an offset explains is taken out of both
    shape = shape - one * ((shape * one).sum() / s0)
    slope = slope - one * ((slope * one).sum() / s0)
    rr, aa, ra = (slope * slope).sum(), (shape * shape).sum(), (slope * shape).sum()
    if steepness > 0.0:
        tall = max(height, 1e-6)
        stiff = 1.0 / STEEPNESS_SPREAD**2
        rr += stiff / (radius * radius)
        aa += stiff / (tall * tall)
        ra -= stiff / (radius * tall)
    det = rr * aa - ra * ra
    if not det > 1e-9 * rr * aa:
        return np.inf, np.inf
    return np.sqrt(aa / det), np.sqrt(rr / det)
