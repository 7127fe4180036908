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
from acquire.measure.particles.whitening import factorise, whiten

_LAST_GRID = np.geomspace(0.7, 1.43, 7)
_Fit = tuple[
    NDArray[np.float64],
    float,
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    int,
    bool,
    float,
    NDArray[np.float64],
]
"""Table of domes, blur, radii of the rings, whitened data and offset, the factor that whitens, rings,
whether it is more than a diagonal, steepness, and room for a shape."""
_CLEAR_RISE = 25.0
"""χ² by which both neighbours on the grid must be worse for the rest of it not to be looked at."""
_FINE_STEP = 0.01
_FINE_ROUNDS = 4
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
    factor = np.empty((MOST_RINGS, MOST_RINGS))
    r, data, one = np.empty(MOST_RINGS), np.empty(MOST_RINGS), np.empty(MOST_RINGS)
    shape, slope = np.empty(MOST_RINGS), np.empty(MOST_RINGS)
    used = np.empty(MOST_RINGS, np.int64)
    grid = _LAST_GRID if steepness > 0.0 else NEXT_GRID
    chi2 = np.empty(len(grid))
    for p in range(count):
        radius, height, offset = fitted[p, 2], fitted[p, 3], fitted[p, 4]
        profile, n = profiles[p], rings[p]
        blurred = np.sqrt(blur * blur + widths[p] ** 2 / 12.0)
        shot_noise(values, blurred, radius, height, offset, shot, profile, n, noise)
        level = int(np.round(np.log2(widths[p] / 0.5)))
        rough = texture.shape[0] > level
        m = 0
        for k in range(n):
            if profile[k, 2] == 0.0:
                continue
            r[m], data[m], one[m], used[m] = profile[k, 1], profile[k, 0], 1.0, k
            m += 1
        if m < 4:
            found[p] = (radius, np.inf, height, np.inf, offset, np.inf, 0.0, float(m))
            continue
        for a in range(m):
            if rough:
                _share_texture(texture, level, profile, used, a, noise, factor)
            else:
                factor[a, a] = 0.0
            k = used[a]
            factor[a, a] += white[p] * noise[k] / profile[k, 2]
        factorise(factor, m, rough)
        whiten(factor, one, m, rough)
        whiten(factor, data, m, rough)
        how = (values, blurred, r, data, one, factor, m, rough, steepness, shape)
        at = _lowest(radius, grid, chi2, how)
        shift = vertex(chi2[at - 1], chi2[at], chi2[at + 1])
        radius = max(radius * grid[at] * (grid[1] / grid[0]) ** shift, 0.5)
        for _ in range(_FINE_ROUNDS):
            c0 = _full_fit(radius * (1.0 - _FINE_STEP), how)[0]
            c1 = _full_fit(radius, how)[0]
            c2 = _full_fit(radius * (1.0 + _FINE_STEP), how)[0]
            shift = vertex(c0, c1, c2)
            radius = max(radius * (1.0 + _FINE_STEP * shift), 0.5)
            if abs(shift) < 1.0:
                break
        _, height, offset, plain = _full_fit(radius, how)
        sigma_r, sigma_a = _sigmas(radius, height, slope, how)
        bump = _bump(radius, how)
        found[p, 0], found[p, 1], found[p, 2], found[p, 3] = radius, sigma_r, height, sigma_a
        found[p, 4], found[p, 5] = offset, plain / max(m - 3, 1)
        found[p, 6], found[p, 7] = bump - plain, m
    return found


@compiled
def _share_texture(
    texture: NDArray[np.float64],
    level: int,
    profile: NDArray[np.float64],
    used: NDArray[np.int64],
    b: int,
    noise: NDArray[np.float64],
    cover: NDArray[np.float64],
) -> None:
    """Fill column b of a covariance, down to its diagonal, with what texture gives to rows of a profile.

    Texture is the film's own: where the image is brighter, so much stronger.
    """
    start, stop = int(profile[used[b], 3]), int(profile[used[b], 4])
    across = 0.5 * (stop * stop - start * start)
    for a in range(b + 1):
        k = used[a]
        first, end = int(profile[k, 3]), int(profile[k, 4])
        if stop - start == 1 and end - first == 1:
            shared = texture[level, start, first]
        else:
            total = 0.0
            for j in range(start, stop):
                part = 0.0
                for i in range(first, end):
                    part += (i + 0.5) * texture[level, j, i]
                total += (j + 0.5) * part
            shared = total / (0.5 * (end * end - first * first) * across)
        cover[a, b] = shared * noise[k] * noise[used[b]]


@compiled
def _line_fit(
    shape: NDArray[np.float64], data: NDArray[np.float64], one: NDArray[np.float64], m: int
) -> tuple[float, float, float]:
    """χ², height and offset of data = height · shape + offset · one, all of unit variance."""
    s0, s1, s2, t0, t1, t2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(m):
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
def _lowest(radius: float, grid: NDArray[np.float64], chi2: NDArray[np.float64], how: _Fit) -> int:
    """Point of the grid, not at its ends, that fits best; ``chi2`` is filled there and beside it.

    The middle is the first guess, and where it is clearly better than both points beside it the
    others are not looked at.
    """
    at = len(grid) // 2
    for i in range(at - 1, at + 2):
        chi2[i] = _full_fit(radius * grid[i], how)[0]
    if min(chi2[at - 1], chi2[at + 1]) > chi2[at] + _CLEAR_RISE:
        return at
    for i in range(len(grid)):
        if abs(i - at) > 1:
            chi2[i] = _full_fit(radius * grid[i], how)[0]
    return min(max(int(np.argmin(chi2)), 1), len(grid) - 2)


@compiled
def _full_fit(radius: float, how: _Fit) -> tuple[float, float, float, float]:
    """χ² with the penalty, height, offset, and χ² without it."""
    values, blur, r, data, one, factor, m, rough, steepness, shape = how
    row, along = blur_row(blur / radius)
    inverse = 1.0 / radius
    for k in range(m):
        shape[k] = dome_at(values, r[k] * inverse, row, along)
    whiten(factor, shape, m, rough)
    chi2, height, offset = _line_fit(shape, data, one, m)
    penalty = 0.0
    if steepness > 0.0:
        expected = steepness * radius
        penalty = (np.log(max(height, 1e-3 * expected) / expected) / STEEPNESS_SPREAD) ** 2
    return chi2 + penalty, height, offset, chi2


@compiled
def _bump(radius: float, how: _Fit) -> float:
    """χ² of the Gaussian, of several widths, that fits best."""
    _, _, r, data, one, factor, m, rough, _, shape = how
    best, before = np.inf, np.inf
    for i in range(len(_BUMP_WIDTHS)):
        inverse = 1.0 / (_BUMP_WIDTHS[i] * radius)
        for k in range(m):
            away = r[k] * inverse
            shape[k] = np.exp(-0.5 * away * away)
        whiten(factor, shape, m, rough)
        chi2 = _line_fit(shape, data, one, m)[0]
        best = min(best, chi2)
        if chi2 > before + _CLEAR_RISE:
            break
        before = chi2
    return best


@compiled
def _sigmas(
    radius: float, height: float, slope: NDArray[np.float64], how: _Fit
) -> tuple[float, float]:
    """σ of R and of A from the information matrix of (R, A, b); ``slope`` is room to work in.

    The shape at this radius is what :func:`_full_fit` left behind.
    """
    values, blur, r, _, one, factor, m, rough, steepness, shape = how
    step = 0.01
    row_more, along_more = blur_row(blur / (radius * (1.0 + step)))
    row_less, along_less = blur_row(blur / (radius * (1.0 - step)))
    for k in range(m):
        rho = r[k] / radius
        more = dome_at(values, rho / (1.0 + step), row_more, along_more)
        less = dome_at(values, rho / (1.0 - step), row_less, along_less)
        slope[k] = height * (more - less) / (2.0 * step * radius)
    whiten(factor, slope, m, rough)
    s0, s1, d1 = 0.0, 0.0, 0.0
    for k in range(m):
        s0 += one[k] * one[k]
        s1 += shape[k] * one[k]
        d1 += slope[k] * one[k]
    s0 = max(s0, 1e-30)
    rr, aa, ra = 0.0, 0.0, 0.0
    for k in range(m):
        # what an offset explains is taken out of both
        up, out = shape[k] - one[k] * (s1 / s0), slope[k] - one[k] * (d1 / s0)
        rr += out * out
        aa += up * up
        ra += out * up
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
