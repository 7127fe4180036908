"""Calibrates what a frame alone cannot determine: the dome's exponent and the probe's blur.

Both are pooled over all well-seen particles of some frames and then *held*: fitted anew in every
frame they would make the mean diameter jump.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from acquire.errors import MeasureError
from acquire.measure.particles.checks import UNMEASURABLE, check_image, image_flags
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.measure import plain_image
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.prepare import prepare
from acquire.measure.particles.shapes import BlurredDome, blurred_dome
from acquire.measure.particles.size import (
    PIXEL_VARIANCE,
    Profiles,
    cut_by_border,
    overlapping,
    take_profiles,
)
from acquire.measure.particles.weigh import weigh_domes

FEWEST = 5
"""Fewer well-seen particles than this calibrate nothing."""
_MOST = 240
"""More profiles than this only cost time."""
_CLEAR_SNR = 12.0
_EXPONENTS = (0.0, 1.3)
_BLURS_PX = (0.0, 4.0)
_TOO_UNSURE = 0.25
_EXPONENT_STEP = 0.02
_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class ShapeCalibration:
    """Exponent and blur to hold, each with its σ."""

    exponent: float
    exponent_sigma: float
    probe_sigma_nm: float
    probe_sigma_sigma_nm: float
    particles: int
    """How many profiles it rests on."""
    chi2: float
    """Median reduced χ² of their fits; far above 1 the shape is no dome of any exponent."""

    def applied_to(self, options: ParticleOptions) -> ParticleOptions:
        """The same options with the calibrated values held."""
        return replace(options, exponent=self.exponent, probe_sigma_nm=self.probe_sigma_nm)


def calibrate_shape(
    images: Iterable[NDArray[Any]], pixel_size_nm: float, options: ParticleOptions | None = None
) -> ShapeCalibration:
    """Pool the dome's exponent m and the probe's σ over the particles of some images (y, x).

    Every profile keeps its own radius, height and offset; m and σ are those of least total χ². Use
    images of one specimen at one magnification and focus, with a high dose if there is a choice.
    The σ given contain the scatter of the profiles about the model, if that exceeds their noise.

    Raises:
        MeasureError: fewer than five clear particles, or they do not determine the exponent.
    """
    options = options or ParticleOptions()
    blur_px = options.probe_sigma_nm / pixel_size_nm
    frames = [plain_image(image) for image in images]
    for image in frames:
        check_image(image, pixel_size_nm)
    frames = [
        image
        for image in frames
        if not UNMEASURABLE.intersection(image_flags(image, options.dark_level))
    ]
    dome = options.dome
    pooled: list[Profiles] = []
    shot = 1 if options.polarity == "bright" else -1
    best = np.array([dome.exponent, blur_px])
    curvature = np.eye(2)
    for _ in range(_ROUNDS):
        pooled = []
        for image in frames:
            ready = prepare(image, pixel_size_nm, replace(options, exponent=float(best[0])))
            if not len(ready.found):
                continue
            profiles = take_profiles(
                ready.contrast,
                ready.coarse,
                ready.found,
                blurred_dome(float(best[0])),
                float(best[1]),
                ready.film.brightness(ready.found.y_px, ready.found.x_px),
                shot,
            )
            clear = _clear(ready.found, profiles, ready.contrast.shape)
            clear &= np.cumsum(clear) <= _MOST / len(frames)
            pooled.append(_only(profiles, clear))
        if sum(len(p.count) for p in pooled) < FEWEST:
            raise MeasureError(
                f"{sum(len(p.count) for p in pooled)} clear particles in {len(frames)} images do not "
                f"calibrate the shape: at least {FEWEST} are needed, whole, apart from each other "
                f"and above {_CLEAR_SNR:g} times the noise. Take more images or a higher dose."
            )
        best, curvature = _least(pooled, best, shot)
    chi2 = np.concatenate([_fits(p, blurred_dome(float(best[0])), best[1], shot) for p in pooled])
    excess = max(float(np.median(chi2[:, 0])), 1.0)
    sigma = np.sqrt(np.maximum(np.diag(np.linalg.inv(curvature)), 0.0) * excess)
    if not np.isfinite(sigma).all() or sigma[0] > _TOO_UNSURE:
        raise MeasureError(
            f"the exponent of {len(chi2)} particles is {best[0]:.2f} ± {sigma[0]:.2f}: too unsure to "
            "be held. Take more images, or a finer pixel."
        )
    return ShapeCalibration(
        float(best[0]),
        float(sigma[0]),
        float(best[1]) * pixel_size_nm,
        float(sigma[1]) * pixel_size_nm,
        len(chi2),
        float(np.median(chi2[:, 0])),
    )


def _clear(found: Detection, profiles: Profiles, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which particles are bright, whole and alone."""
    y, x, radius = profiles.fitted[:, 0], profiles.fitted[:, 1], profiles.fitted[:, 2]
    cut = cut_by_border(found, shape).any(axis=0)
    alone = ~overlapping(y, x, radius)
    inside = np.minimum.reduce([y, x, shape[0] - y, shape[1] - x]) > radius + 2.0
    return np.asarray((found.peak_snr > _CLEAR_SNR) & ~cut & alone & inside & (radius > 3.0))


def _only(profiles: Profiles, which: NDArray[np.bool_]) -> Profiles:
    return Profiles(
        profiles.fitted[which],
        profiles.rings[which],
        profiles.count[which],
        profiles.width[which],
        profiles.white[which],
        profiles.texture,
    )


def _fits(profiles: Profiles, dome: BlurredDome, blur_px: float, shot: int) -> NDArray[np.float64]:
    """Reduced χ² and number of rings (n, 2) of every profile."""
    blur = math.hypot(blur_px, math.sqrt(PIXEL_VARIANCE))
    how = (profiles.rings, profiles.count, profiles.width, profiles.white, profiles.texture)
    found = weigh_domes(profiles.fitted, *how, dome.values, blur, shot, 0.0)
    return found[:, [5, 7]]


def _least(
    pooled: list[Profiles], start: NDArray[np.float64], shot: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exponent and blur (px) of least χ², and half of the second derivatives of χ² there."""
    # profiles that no dome fits would drag the others along
    keep = [
        _only(p, _fits(p, blurred_dome(float(start[0])), start[1], shot)[:, 0] < 25.0)
        for p in pooled
    ]

    def total(p: NDArray[np.float64]) -> float:
        exponent = min(max(float(p[0]), _EXPONENTS[0]), _EXPONENTS[1])
        blur = min(max(float(p[1]), _BLURS_PX[0]), _BLURS_PX[1])
        fits = np.concatenate([_fits(one, blurred_dome(exponent), blur, shot) for one in keep])
        outside = (p[0] - exponent) ** 2 + (p[1] - blur) ** 2
        chi2 = float((fits[:, 0] * np.maximum(fits[:, 1] - 3.0, 1.0)).sum())
        return chi2 * (1.0 + 10.0 * float(outside))

    simplex = start + np.array([[0.0, 0.0], [0.15, 0.0], [0.0, 0.25]])
    found = optimize.minimize(
        total,
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-2, "maxfev": 40},
    )
    best = np.clip(found.x, [_EXPONENTS[0], _BLURS_PX[0]], [_EXPONENTS[1], _BLURS_PX[1]])
    return best, _curvature(total, best)


def _curvature(total: Any, best: NDArray[np.float64]) -> NDArray[np.float64]:
    step = np.array([_EXPONENT_STEP, 0.05])
    # at the edge of what is allowed the derivatives are taken beside it
    at = np.maximum(best, step)
    second = np.empty((2, 2))
    here = total(at)
    for i in range(2):
        d = np.eye(2)[i] * step
        second[i, i] = (total(at + d) - 2.0 * here + total(at - d)) / (2.0 * step[i] ** 2)
    a, b = np.array([step[0], 0.0]), np.array([0.0, step[1]])
    cross = total(at + a + b) - total(at + a - b) - total(at - a + b) + total(at - a - b)
    second[0, 1] = second[1, 0] = cross / (8.0 * step[0] * step[1])
    if np.linalg.eigvalsh(second).min() <= 0.0:
        return np.diag(np.full(2, 1e-12))
    return second
