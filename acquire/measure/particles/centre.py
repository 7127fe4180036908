"""Compiled search for the centres of domes on a textured film.

Texture is correlated noise: it pulls the centre that plain least squares finds by a pixel and more,
which smears the ring averages about it. Here the first harmonics of the rings are weighted by the
inverse of their covariance, as :mod:`.weigh` does with the averages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.fit import shot_noise
from acquire.measure.particles.rings import MOST_RINGS, ring_sums, ring_width
from acquire.measure.particles.shapes import blur_row, dome_at
from acquire.measure.particles.whitening import factorise, whiten

_TURNS = 4
_NEAR_PX = 0.03
"""A centre that moves by less is found."""
_LEAST_COVER = 0.4
"""Rings of which less is free tell no direction."""


@compiled
def centre_domes(
    image: NDArray[np.float32],
    labels: NDArray[np.int32],
    factor: int,
    which: NDArray[np.int64],
    fitted: NDArray[np.float64],
    rings: NDArray[np.float64],
    counts: NDArray[np.int64],
    reach: NDArray[np.float64],
    values: NDArray[np.float64],
    blur: float,
    shot: int,
    white: NDArray[np.float64],
    texture: NDArray[np.float64],
) -> None:
    """Find the centres of the domes ``which`` anew, near those in ``fitted`` (n, 5) of y, x, R, A, b.

    In place: y and x in ``fitted``, and the ``rings`` (n, ring, 5) and their ``counts`` (n,) around
    the new centres; R, A and b are held. ``texture`` (doubling, ring, ring) is the covariance of
    first harmonics, see :func:`.noise.ring_covariance`, or empty; the rest is as in
    :func:`.fit.profile_domes`.
    """
    sums = np.zeros((9, MOST_RINGS))
    profile = np.zeros((MOST_RINGS, 3))
    noise = np.ones(MOST_RINGS)
    for p in which:
        radius, height, offset = fitted[p, 2], fitted[p, 3], fitted[p, 4]
        width = ring_width(reach[p])
        level = int(np.round(np.log2(width / 0.5)))
        rough = texture.shape[0] > level
        if height <= 0.0:
            continue
        edge = np.sqrt(blur * blur + width * width / 12.0)
        row, along = blur_row(edge / radius)
        y, x = fitted[p, 0], fitted[p, 1]
        for _ in range(_TURNS):
            n = ring_sums(image, labels, factor, p + 1, y, x, 0.0, reach[p], width, sums)
            for k in range(n):
                profile[k, 1] = sums[2, k] / max(sums[0, k], 1.0)
            shot_noise(values, edge, radius, height, offset, shot, profile, n, noise)
            slope, east, south = np.empty(n), np.empty(n), np.empty(n)
            used = np.empty(n, np.int64)
            m = 0
            for k in range(n):
                r = profile[k, 1]
                if sums[0, k] < _LEAST_COVER * 2.0 * np.pi * (k + 0.5) * width * width:
                    continue
                xx = sums[7, k]
                yy = sums[0, k] * r * r - xx
                if min(xx, yy) < 0.3 * max(xx, yy) or r <= 0.0:
                    continue
                outer = dome_at(values, (r + 0.5) / radius, row, along)
                inner = dome_at(values, max(r - 0.5, 0.0) / radius, row, along)
                model = height * dome_at(values, r / radius, row, along) + offset
                slope[m] = height * (outer - inner)
                east[m] = (sums[3, k] - model * sums[5, k]) * r / xx
                south[m] = (sums[4, k] - model * sums[6, k]) * r / yy
                used[m] = k
                m += 1
            if m < 4:
                break
            cover = np.zeros((m, m))
            for a in range(m):
                k = used[a]
                for b in range(a + 1 if rough else 0):
                    cover[b, a] = texture[level, k, used[b]] * noise[k] * noise[used[b]]
                cover[a, a] += 2.0 * white[p] * noise[k] / sums[0, k]
            factorise(cover, m, True)
            slope, east, south = slope[:m].copy(), east[:m].copy(), south[:m].copy()
            whiten(cover, slope, m, True)
            whiten(cover, east, m, True)
            whiten(cover, south, m, True)
            information = (slope * slope).sum()
            if not information > 0.0:
                break
            dy, dx = -(slope * south).sum() / information, -(slope * east).sum() / information
            move = np.sqrt(dy * dy + dx * dx)
            limit = min(1.0, (0.2 * radius + 0.5) / max(move, 1e-9))
            ty, tx = y + dy * limit - fitted[p, 0], x + dx * limit - fitted[p, 1]
            far = np.sqrt(ty * ty + tx * tx) / (0.4 * radius + 1.0)
            y, x = fitted[p, 0] + ty / max(far, 1.0), fitted[p, 1] + tx / max(far, 1.0)
            if move < _NEAR_PX:
                break
        n = ring_sums(image, labels, factor, p + 1, y, x, 0.0, reach[p], width, sums)
        for k in range(n):
            pixels = max(sums[0, k], 1.0)
            rings[p, k, 0], rings[p, k, 1] = sums[1, k] / pixels, sums[2, k] / pixels
            rings[p, k, 2], rings[p, k, 3], rings[p, k, 4] = sums[0, k], k, k + 1
        counts[p] = n
        fitted[p, 0], fitted[p, 1] = y, x
