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
from acquire.measure.particles.whitening import factorise, whiten, whiten_three

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
whether it is more than a diagonal, steepness, and room for three shapes."""
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
    shapes = np.empty((3, MOST_RINGS))
    used = np.empty(MOST_RINGS, np.int64)
    summed = _summed(texture)
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
        if rough:
            _share_texture(summed[level], profile, used, m, noise, factor)
        for a in range(m):
            k = used[a]
            own = white[p] * noise[k] / profile[k, 2]
            factor[a, a] = factor[a, a] + own if rough else own
        factorise(factor, m, rough)
        whiten(factor, one, m, rough)
        whiten(factor, data, m, rough)
        how = (values, blurred, r, data, one, factor, m, rough, steepness, shapes)
        at = _lowest(radius, grid, chi2, how)
        shift = vertex(chi2[at - 1], chi2[at], chi2[at + 1])
        radius = max(radius * grid[at] * (grid[1] / grid[0]) ** shift, 0.5)
        for _ in range(_FINE_ROUNDS):
            c0, c1, c2 = _three_fits(
                radius * (1.0 - _FINE_STEP), radius, radius * (1.0 + _FINE_STEP), how
            )
            shift = vertex(c0, c1, c2)
            radius = max(radius * (1.0 + _FINE_STEP * shift), 0.5)
            if abs(shift) < 1.0:
                break
        height, offset, plain, sigma_r, sigma_a, bump = _last_fit(radius, how)
        found[p, 0], found[p, 1], found[p, 2], found[p, 3] = radius, sigma_r, height, sigma_a
        found[p, 4], found[p, 5] = offset, plain / max(m - 3, 1)
        found[p, 6], found[p, 7] = bump - plain, m
    return found


@compiled
def _summed(texture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums (doubling, end, end) of a texture's covariance, times the areas of both rings, up to each end."""
    levels, rings = texture.shape[0], texture.shape[1]
    summed = np.zeros((levels, rings + 1, rings + 1))
    for level in range(levels):
        for i in range(rings):
            total = 0.0
            for j in range(rings):
                total += (i + 0.5) * (j + 0.5) * texture[level, i, j]
                summed[level, i + 1, j + 1] = summed[level, i, j + 1] + total
    return summed


@compiled
def _share_texture(
    summed: NDArray[np.float64],
    profile: NDArray[np.float64],
    used: NDArray[np.int64],
    m: int,
    noise: NDArray[np.float64],
    cover: NDArray[np.float64],
) -> None:
    """Fill a covariance, from its diagonal to the right, with what texture gives to rows of a profile.

    Texture is the film's own: where the image is brighter, so much stronger.
    """
    first, end = np.empty(m, np.uint64), np.empty(m, np.uint64)
    scale = np.empty(m)
    for a in range(m):
        k = used[a]
        first[a], end[a] = np.uint64(profile[k, 3]), np.uint64(profile[k, 4])
        scale[a] = noise[k] / (0.5 * (profile[k, 4] ** 2 - profile[k, 3] ** 2))
    for a in range(np.uint64(m)):
        inner, outer = first[a], end[a]
        for b in range(a, np.uint64(m)):
            upto = summed[outer, end[b]] - summed[inner, end[b]]
            before = summed[outer, first[b]] - summed[inner, first[b]]
            cover[a, b] = (upto - before) * scale[a] * scale[b]


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
    chi2[at - 1], chi2[at], chi2[at + 1] = _three_fits(
        radius * grid[at - 1], radius * grid[at], radius * grid[at + 1], how
    )
    if min(chi2[at - 1], chi2[at + 1]) > chi2[at] + _CLEAR_RISE:
        return at
    for i in range(at - 1):
        # one from each side, and the outermost once more, which is as fast as two
        there = len(grid) - 1 - i
        chi2[i], chi2[there], _ = _three_fits(
            radius * grid[i], radius * grid[there], radius * grid[there], how
        )
    return min(max(int(np.argmin(chi2)), 1), len(grid) - 2)


@compiled
def _three_fits(first: float, second: float, third: float, how: _Fit) -> tuple[float, float, float]:
    """χ² at three radii, with the penalty."""
    values, blur, r, _, _, factor, m, rough, _, shapes = how
    _draw(values, blur, first, r, m, shapes[0])
    _draw(values, blur, second, r, m, shapes[1])
    _draw(values, blur, third, r, m, shapes[2])
    whiten_three(factor, shapes, m, rough)
    return (
        _penalised(first, shapes[0], how),
        _penalised(second, shapes[1], how),
        _penalised(third, shapes[2], how),
    )


@compiled
def _draw(
    values: NDArray[np.float64],
    blur: float,
    radius: float,
    r: NDArray[np.float64],
    m: int,
    into: NDArray[np.float64],
) -> None:
    row, along = blur_row(blur / radius)
    inverse = 1.0 / radius
    for k in range(m):
        into[k] = dome_at(values, r[k] * inverse, row, along)


@compiled
def _penalised(radius: float, shape: NDArray[np.float64], how: _Fit) -> float:
    """χ² of a whitened shape, with the penalty for a height that does not go with the radius."""
    _, _, _, data, one, _, m, _, steepness, _ = how
    chi2, height, _ = _line_fit(shape, data, one, m)
    if steepness > 0.0:
        expected = steepness * radius
        chi2 += (np.log(max(height, 1e-3 * expected) / expected) / STEEPNESS_SPREAD) ** 2
    return chi2


@compiled
def _last_fit(radius: float, how: _Fit) -> tuple[float, float, float, float, float, float]:
    """Height, offset, χ² without the penalty, σ of R and of A, and χ² of the best Gaussian."""
    values, blur, r, data, one, factor, m, rough, _, shapes = how
    step = 0.01
    row_more, along_more = blur_row(blur / (radius * (1.0 + step)))
    row_less, along_less = blur_row(blur / (radius * (1.0 - step)))
    _draw(values, blur, radius, r, m, shapes[0])
    for k in range(m):
        rho = r[k] / radius
        more = dome_at(values, rho / (1.0 + step), row_more, along_more)
        less = dome_at(values, rho / (1.0 - step), row_less, along_less)
        shapes[1, k] = (more - less) / (2.0 * step * radius)
    _draw_bump(_BUMP_WIDTHS[0] * radius, r, m, shapes[2])
    whiten_three(factor, shapes, m, rough)
    plain, height, offset = _line_fit(shapes[0], data, one, m)
    bump = _line_fit(shapes[2], data, one, m)[0]
    sigma_r, sigma_a = _sigmas(radius, height, how)
    return height, offset, plain, sigma_r, sigma_a, _best_bump(bump, radius, how)


@compiled
def _draw_bump(width: float, r: NDArray[np.float64], m: int, into: NDArray[np.float64]) -> None:
    inverse = 1.0 / width
    for k in range(m):
        away = r[k] * inverse
        into[k] = np.exp(-0.5 * away * away)


@compiled
def _best_bump(first: float, radius: float, how: _Fit) -> float:
    """χ² of the Gaussian, of several widths, that fits best; that of the ``first`` is known."""
    _, _, r, data, one, factor, m, rough, _, shapes = how
    for i in range(3):
        _draw_bump(_BUMP_WIDTHS[i + 1] * radius, r, m, shapes[i])
    whiten_three(factor, shapes, m, rough)
    best, before = first, first
    for i in range(3):
        chi2 = _line_fit(shapes[i], data, one, m)[0]
        best = min(best, chi2)
        if chi2 > before + _CLEAR_RISE:
            return best
        before = chi2
    _draw_bump(_BUMP_WIDTHS[4] * radius, r, m, shapes[0])
    whiten(factor, shapes[0], m, rough)
    return min(best, _line_fit(shapes[0], data, one, m)[0])


@compiled
def _sigmas(radius: float, height: float, how: _Fit) -> tuple[float, float]:
    """σ of R and of A from the information matrix of (R, A, b).

    The first two of the whitened shapes are the dome, and its slope with R for a height of 1.
    """
    _, _, _, _, one, _, m, _, steepness, shapes = how
    shape, slope = shapes[0], shapes[1]
    s0, s1, d1 = 0.0, 0.0, 0.0
    for k in range(m):
        s0 += one[k] * one[k]
        s1 += shape[k] * one[k]
        d1 += slope[k] * one[k]
    s0 = max(s0, 1e-30)
    rr, aa, ra = 0.0, 0.0, 0.0
    for k in range(m):
        # what an offset explains is taken out of both
        up, out = shape[k] - one[k] * (s1 / s0), height * (slope[k] - one[k] * (d1 / s0))
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
