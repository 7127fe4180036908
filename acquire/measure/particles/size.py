"""Sizes particles by fitting the radial profile of each with a blurred dome on a free offset.

A threshold's size follows the dose; a profile fit does not. Per particle three numbers are
fitted (radius R, height A, offset b) and the centre; the exponent m of the dome and the blur of the
probe are held, since fitting them per frame makes the mean diameter jump.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from acquire.compiled import compiled
from acquire.measure.particles.centre import centre_domes
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.fit import locate_domes, profile_domes
from acquire.measure.particles.islands import free_film
from acquire.measure.particles.meeting import overlapping
from acquire.measure.particles.noise import FilmNoise, film_noise, ring_covariance
from acquire.measure.particles.rings import MOST_RINGS
from acquire.measure.particles.shapes import BlurredDome
from acquire.measure.particles.starts import starting_circles
from acquire.measure.particles.weigh import weigh_domes

PIXEL_VARIANCE = 1.0 / 12.0
"""A pixel averages over its square: that much more blur, in px², along each axis."""
_NONLINEAR = 5.0
"""σ grows by this times its own share of the radius: measured on single domes at 20 e-/px."""
_CLEAR_SIGNAL = 8.0
_ROUGH = 0.5
"""Texture's variance over the white one of a pixel from which it pulls centres."""
_CENTRINGS = 2
_FLAT = 0.75
"""Height over that of the common steepness below which an unsure dome is looked at again,"""
_UNSURE = 0.04
"""and the relative σ of its radius from which it is unsure."""
_NEAR_REACH = 1.25
"""For places alone less is enough."""
_REACH = 1.5
"""Profiles go this far, in radii, and a few pixels more: the film around a particle is needed."""


@dataclass(frozen=True)
class Sizes:
    """Fitted domes, one entry per particle, lengths in pixels."""

    y_px: NDArray[np.float64]
    x_px: NDArray[np.float64]
    radius_px: NDArray[np.float64]
    """Footprint radius R of the unblurred dome."""
    radius_sigma_px: NDArray[np.float64]
    height: NDArray[np.float64]
    """Contrast A of the unblurred dome at its centre."""
    height_sigma: NDArray[np.float64]
    chi2: NDArray[np.float64]
    """Reduced χ² of the profile."""
    bump_chi2: NDArray[np.float64]
    """χ² (not reduced) by which a smooth bump, a Gaussian, fits worse than the dome."""
    overlap: NDArray[np.bool_]
    """Whether the footprint touches that of another particle."""


@dataclass(frozen=True)
class Profiles:
    """Ring averages around every particle, what they were taken with, and a first fit."""

    fitted: NDArray[np.float64]
    """(n, 5): y, x, R, A, b."""
    rings: NDArray[np.float64]
    """(n, ring, 5): see :func:`.rings.average_rings`."""
    count: NDArray[np.int64]
    width: NDArray[np.float64]
    white: NDArray[np.float64]
    """(n,) variance of a pixel of the film there."""
    texture: NDArray[np.float64]
    """(doubling, ring, ring) for widths of ½, 1, 2 … pixels; empty without texture."""
    noise: FilmNoise = field(default_factory=lambda: FilmNoise(1.0, np.zeros(1)))
    """That of the film, which they follow from."""
    reach: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(n,) how far the rings go."""


def fit_domes(
    contrast: NDArray[np.float32],
    coarse: NDArray[np.float32],
    detection: Detection,
    dome: BlurredDome,
    blur_px: float,
    *,
    brightness: NDArray[np.float64] | None = None,
    shot: int = 1,
) -> Sizes:
    """Fit every detected particle of a contrast image (y, x).

    ``coarse`` holds the image's means over the detection's blocks; ``blur_px`` is the standard
    deviation of the probe's Gaussian along each axis. ``brightness`` (n,) is the film's level at
    each particle over its harmonic mean in the image, 1 by default: where the film is brighter its
    contrast is less noisy. ``shot`` is -1 where particles are darker, and less noisy, than the film.

    The profiles are weighted by the inverse of their full covariance, from the noise and texture
    of the free film of the same image; where a particle stands, shot noise follows the signal.
    """
    profiles = take_profiles(contrast, coarse, detection, dome, blur_px, brightness, shot)
    best = _weighed(profiles, dome, blur_px, shot)
    flat = _too_flat(profiles, best)
    if len(flat):
        radius, height, offset = best[flat, 0], best[flat, 2], best[flat, 4]
        steepness = common_steepness(profiles.fitted[:, 2], profiles.fitted[:, 3], profiles.white)
        radius = np.sqrt(height * radius / steepness)
        narrow = np.column_stack([radius, steepness * radius, offset])
        _centre(profiles, flat, narrow, contrast, detection, dome, blur_px, shot)
        best = _weighed(profiles, dome, blur_px, shot)
    # near the limit the fit is not linear, and its scatter exceeds what the information says
    share = np.minimum(best[:, 1] / np.maximum(best[:, 0], 1e-30), 1.0)
    best[:, 1] *= 1.0 + _NONLINEAR * share
    y, x = profiles.fitted[:, 0], profiles.fitted[:, 1]
    return Sizes(
        y,
        x,
        best[:, 0],
        best[:, 1],
        best[:, 2],
        best[:, 3],
        best[:, 5],
        best[:, 6],
        overlapping(y, x, best[:, 0]),
    )


def _too_flat(profiles: Profiles, best: NDArray[np.float64]) -> NDArray[np.int64]:
    """Uncertain particles much flatter than the others: fits that took in a bump beside a small dome."""
    steepness = common_steepness(profiles.fitted[:, 2], profiles.fitted[:, 3], profiles.white)
    flat = (best[:, 2] > 0) & (best[:, 2] < _FLAT * steepness * best[:, 0])
    return np.nonzero(flat & (best[:, 1] > _UNSURE * best[:, 0]))[0]


def take_profiles(
    contrast: NDArray[np.float32],
    coarse: NDArray[np.float32],
    detection: Detection,
    dome: BlurredDome,
    blur_px: float,
    brightness: NDArray[np.float64] | None = None,
    shot: int = 1,
) -> Profiles:
    """Centre the detected particles and average the rings around them; see :func:`fit_domes`."""
    factor = detection.factor
    places, start = starting_circles(detection, contrast.shape, dome, blur_px)
    coarse_blur = float(np.sqrt(blur_px**2 + PIXEL_VARIANCE * factor**2)) / factor
    first = locate_domes(
        coarse,
        detection.labels,
        places / factor,
        start / factor,
        (_NEAR_REACH * start + 2.0 * blur_px + 2.0) / factor + 1.0,
        dome.values,
        coarse_blur,
        shot,
    )
    places, radius = first[:, :2] * factor, first[:, 2] * factor
    radius = np.minimum(np.maximum(radius, 0.5 * start), 2.0 * start)
    if len(detection.start_px):
        better = np.isfinite(detection.start_px[:, 2])
        places[better] = detection.start_px[better, :2]
        radius[better] = detection.start_px[better, 2]
    reach = _REACH * radius + 3.0 * blur_px + 4.0
    fitted, rings, count, width = profile_domes(
        contrast,
        coarse,
        detection.labels,
        factor,
        places,
        radius,
        reach,
        dome.values,
        float(np.hypot(blur_px, np.sqrt(PIXEL_VARIANCE))),
    )
    free = free_film(detection.labels, 2)
    noise = film_noise(contrast, free, factor, int(reach.max(initial=8.0)))
    white = np.full(len(start), noise.white)
    if brightness is not None:
        white = white / np.maximum(brightness, 0.05)
    taken = Profiles(
        fitted,
        rings,
        count,
        width,
        white,
        ring_textures(noise, width, reach),
        noise,
        reach,
    )
    if noise.texture[0] > _ROUGH * noise.white:
        every = np.arange(len(fitted))
        for _ in range(_CENTRINGS):
            best = _weighed(taken, dome, blur_px, shot)
            _centre(taken, every, best[:, [0, 2, 4]], contrast, detection, dome, blur_px, shot)
    return taken


def _weighed(taken: Profiles, dome: BlurredDome, blur_px: float, shot: int) -> NDArray[np.float64]:
    steepness = common_steepness(taken.fitted[:, 2], taken.fitted[:, 3], taken.white)
    how = (taken.rings, taken.count, taken.width, taken.white, taken.texture)
    blur = float(np.hypot(blur_px, np.sqrt(PIXEL_VARIANCE)))
    return weigh_domes(taken.fitted, *how, dome.values, blur, shot, steepness)


def _centre(
    taken: Profiles,
    which: NDArray[np.int64],
    domes: NDArray[np.float64],
    contrast: NDArray[np.float32],
    detection: Detection,
    dome: BlurredDome,
    blur_px: float,
    shot: int,
) -> None:
    """Centre some particles anew, in place, as ``domes`` (n, 3) of R, A, b."""
    taken.fitted[which, 2:] = domes
    centre_domes(
        contrast,
        detection.labels,
        detection.factor,
        which,
        taken.fitted,
        taken.rings,
        taken.count,
        taken.reach,
        dome.values,
        float(np.hypot(blur_px, np.sqrt(PIXEL_VARIANCE))),
        shot,
        taken.white,
        ring_textures(taken.noise, taken.width, taken.reach, harmonic=True),
    )


def ring_textures(
    noise: FilmNoise,
    widths: NDArray[np.float64],
    reach: NDArray[np.float64],
    *,
    harmonic: bool = False,
) -> NDArray[np.float64]:
    """Texture's covariance (doubling, ring, ring) of rings of ½, 1, 2 … pixels, as far as they occur.

    ``widths`` (n,) are those of particles' rings, which go as far as their ``reach`` (n,).
    """
    if not noise.texture.any():
        return np.zeros((0, 0, 0))
    return _textures(noise.gaussians, widths, reach, harmonic)


@compiled
def _textures(
    gaussians: NDArray[np.float64],
    widths: NDArray[np.float64],
    reach: NDArray[np.float64],
    harmonic: bool,
) -> NDArray[np.float64]:
    """What :func:`ring_textures` says of a texture that is a sum of Gaussians."""
    levels, rings = 1, np.zeros(64, np.int64)
    for k in range(len(widths)):
        level = int(np.round(np.log2(widths[k] / 0.5)))
        levels = max(levels, level + 1)
        rings[level] = max(rings[level], min(int(reach[k] / widths[k]) + 1, MOST_RINGS))
    textures = np.zeros((levels, MOST_RINGS, MOST_RINGS))
    for level in range(levels):
        n = rings[level]
        if n:
            textures[level, :n, :n] = ring_covariance(gaussians, n, 0.5 * 2.0**level, harmonic)
    return textures


@compiled
def common_steepness(
    radius: NDArray[np.float64], height: NDArray[np.float64], white: NDArray[np.float64]
) -> float:
    """Contrast per radius that the well-measured particles share; 0 if fewer than five are.

    Particles of one material and shape have one steepness. It is used loosely, within a factor of
    e^±0.3, to keep faint particles from being fitted as wide and flat pieces of the texture.
    """
    # the height of a dome over shot noise is known to about the noise of its footprint's mean
    signal = height * radius / np.sqrt(white)
    good = (height > 0) & (signal > _CLEAR_SIGNAL)
    if good.sum() < 5:
        return 0.0
    ratio = height[good] / radius[good]
    weight = np.square(signal[good])
    order = np.argsort(ratio, kind="mergesort")
    below = np.cumsum(weight[order])
    return float(ratio[order[np.searchsorted(below, 0.5 * below[-1])]])
