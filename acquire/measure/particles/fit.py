"""Compiled search for the places and first radii of domes, and the ring profiles around them.

Height and offset are linear and solved for at every radius (variable projection). Rings are weighted
by their pixels and the shot noise of their brightness; the full fit is in :mod:`.weigh`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.rings import MOST_RINGS, average_rings, ring_sums, ring_width
from acquire.measure.particles.shapes import blur_row, dome_at

_ROUNDS = 3
_FIRST_GRID = np.geomspace(0.5, 2.0, 11)
NEXT_GRID = np.geomspace(0.86, 1.16, 5)
_NEAR = 0.05
"""A centre that moves by less than this many pixels is found,"""
_AT_ONCE = 0.15
"""and by less than this where it moves for the first time, by what the pixels' noise is taken as even."""
_EDGE = 3.0
"""Beyond R and so many standard deviations of the blur there is film alone."""


@compiled
def locate_domes(
    image: NDArray[np.float32],
    labels: NDArray[np.int32],
    places: NDArray[np.float64],
    radii: NDArray[np.float64],
    reach: NDArray[np.float64],
    values: NDArray[np.float64],
    blur: float,
    shot: int,
) -> NDArray[np.float64]:
    """Centre particles, each on its rings, from first ``places`` (n, 2) as (y, x) and ``radii``.

    ``image`` (y, x) and ``labels`` have the same pixels, in which all lengths are. ``shot`` is 1
    where brighter pixels are noisier, -1 where particles are dark.

    Returns:
        Rows (n, 3): y, x, R.
    """
    count = len(radii)
    fitted = np.zeros((count, 3))
    sums, profile = np.zeros((9, MOST_RINGS)), np.zeros((MOST_RINGS, 5))
    noise, chi2 = np.ones(MOST_RINGS), np.empty(len(_FIRST_GRID))
    for p in range(count):
        y, x, radius = places[p, 0], places[p, 1], radii[p]
        width = ring_width(reach[p])
        edge = np.sqrt(blur * blur + width * width / 12.0)
        height, offset = 0.0, 0.0
        for turn in range(_ROUNDS):
            n = ring_sums(image, labels, 1, p + 1, y, x, 0.0, reach[p], width, sums)
            for k in range(n):
                pixels = max(sums[0, k], 1.0)
                profile[k, 0] = sums[1, k] / pixels
                profile[k, 1] = sums[2, k] / pixels
                profile[k, 2] = sums[0, k]
                noise[k] = 1.0
            if turn > 0:
                shot_noise(values, edge, radius, height, offset, shot, profile, n, noise)
            grid = NEXT_GRID if turn > 0 else _FIRST_GRID
            radius, height, offset = _scan(values, edge, radius, grid, profile, n, noise, chi2)
            dy, dx = _pull(values, edge, radius, height, offset, sums, profile, n)
            move = np.sqrt(dy * dy + dx * dx)
            limit = min(1.0, (0.2 * radius + 0.5) / max(move, 1e-9))
            # never far from where it was found
            ty, tx = y + dy * limit - places[p, 0], x + dx * limit - places[p, 1]
            far = np.sqrt(ty * ty + tx * tx) / (0.4 * radii[p] + 1.0)
            y = places[p, 0] + ty / max(far, 1.0)
            x = places[p, 1] + tx / max(far, 1.0)
            if move < (_NEAR if turn > 0 else _AT_ONCE):
                break
        fitted[p] = (y, x, radius)
    return fitted


@compiled
def profile_domes(
    image: NDArray[np.float32],
    coarse: NDArray[np.float32],
    labels: NDArray[np.int32],
    factor: int,
    places: NDArray[np.float64],
    radii: NDArray[np.float64],
    reach: NDArray[np.float64],
    values: NDArray[np.float64],
    blur: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Average the rings around particles and fit them a first time.

    ``places`` (n, 2) as (y, x), ``radii``, ``reach`` and ``blur`` are in pixels of ``image`` (y, x);
    ``coarse`` holds its means over blocks of ``factor``, as ``labels`` do.

    Returns:
        Fitted (y, x, R, A, b) as (n, 5); profiles (n, ring, 5), see :func:`.rings.average_rings`;
        rings (n,) and the width (n,) of one.
    """
    count = len(radii)
    fitted = np.zeros((count, 5))
    profiles = np.zeros((count, MOST_RINGS, 5))
    rings, widths = np.zeros(count, np.int64), np.zeros(count)
    sums, noise = np.zeros((3, MOST_RINGS)), np.ones(MOST_RINGS)
    chi2 = np.empty(len(NEXT_GRID))
    for p in range(count):
        width = ring_width(reach[p])
        profile, place = profiles[p], places[p]
        near = radii[p] + _EDGE * blur
        n = average_rings(
            image,
            coarse,
            labels,
            factor,
            p + 1,
            place,
            radii[p],
            near,
            reach[p],
            width,
            sums,
            profile,
        )
        smear = np.sqrt(blur * blur + width * width / 12.0)
        radius, height, offset = _scan(values, smear, radii[p], NEXT_GRID, profile, n, noise, chi2)
        fitted[p] = (place[0], place[1], radius, height, offset)
        rings[p], widths[p] = n, width
    return fitted, profiles, rings, widths


@compiled
def shot_noise(
    values: NDArray[np.float64],
    blur: float,
    radius: float,
    height: float,
    offset: float,
    shot: int,
    profile: NDArray[np.float64],
    n: int,
    noise: NDArray[np.float64],
) -> None:
    """Variance of a pixel of every ring over that of the film."""
    row, along = blur_row(blur / radius)
    for k in range(n):
        model = height * dome_at(values, profile[k, 1] / radius, row, along) + offset
        noise[k] = max(1.0 + shot * model, 0.2)


@compiled
def _plain_fit(
    values: NDArray[np.float64],
    blur: float,
    radius: float,
    profile: NDArray[np.float64],
    n: int,
    noise: NDArray[np.float64],
) -> tuple[float, float, float]:
    """χ² (for unit variance of a film pixel), height and offset at a radius; no texture."""
    row, along = blur_row(blur / radius)
    inverse = 1.0 / radius
    s0, s1, s2, t0, t1, t2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        weight = profile[k, 2] / noise[k]
        if weight == 0.0:
            continue
        f = dome_at(values, profile[k, 1] * inverse, row, along)
        m = profile[k, 0]
        s0 += weight
        s1 += weight * f
        s2 += weight * f * f
        t0 += weight * m
        t1 += weight * m * f
        t2 += weight * m * m
    spread = s2 * s0 - s1 * s1
    if s0 <= 0.0 or spread <= 1e-12 * s0 * s0:
        return np.inf, 0.0, 0.0
    height = (t1 * s0 - t0 * s1) / spread
    offset = (t0 - height * s1) / s0
    return t2 - height * t1 - offset * t0, height, offset


@compiled
def _scan(
    values: NDArray[np.float64],
    blur: float,
    around: float,
    grid: NDArray[np.float64],
    profile: NDArray[np.float64],
    n: int,
    noise: NDArray[np.float64],
    chi2: NDArray[np.float64],
) -> tuple[float, float, float]:
    """Radius of least χ² on a geometric grid and between its points, with its height and offset."""
    for i in range(len(grid)):
        chi2[i] = _plain_fit(values, blur, around * grid[i], profile, n, noise)[0]
    at = min(max(int(np.argmin(chi2[: len(grid)])), 1), len(grid) - 2)
    shift = vertex(chi2[at - 1], chi2[at], chi2[at + 1])
    radius = max(around * grid[at] * (grid[1] / grid[0]) ** shift, 0.5)
    _, height, offset = _plain_fit(values, blur, radius, profile, n, noise)
    return radius, height, offset


@compiled
def vertex(below: float, here: float, above: float) -> float:
    """Minimum of the parabola through three points at -1, 0, 1, held within ± 1."""
    bend = below - 2.0 * here + above
    if not bend > 0.0 or not np.isfinite(bend):
        return 0.0
    return min(max(0.5 * (below - above) / bend, -1.0), 1.0)


@compiled
def _pull(
    values: NDArray[np.float64],
    blur: float,
    radius: float,
    height: float,
    offset: float,
    sums: NDArray[np.float64],
    profile: NDArray[np.float64],
    n: int,
) -> tuple[float, float]:
    """Gauss-Newton step (y, x) of the centre, from the first harmonics of the rings."""
    row, along = blur_row(blur / radius)
    px, py, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        if sums[0, k] == 0.0:
            continue
        r = profile[k, 1]
        outer = dome_at(values, (r + 0.5) / radius, row, along)
        inner = dome_at(values, max(r - 0.5, 0.0) / radius, row, along)
        slope = height * (outer - inner) / max(r, 1e-9)
        if slope == 0.0:
            continue
        model = height * dome_at(values, r / radius, row, along) + offset
        # moving the centre by +d brings pixels on that side nearer: dP/d(centre) = -P'(r) · x / r
        px -= slope * (sums[3, k] - model * sums[5, k])
        py -= slope * (sums[4, k] - model * sums[6, k])
        xx += slope * slope * sums[7, k]
        yy += slope * slope * (sums[0, k] * r * r - sums[7, k])
        xy += slope * slope * sums[8, k]
    det = xx * yy - xy * xy
    if not det > 1e-9 * (xx + yy) ** 2:
        return 0.0, 0.0
    return (xx * py - xy * px) / det, (yy * px - xy * py) / det
