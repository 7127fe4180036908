"""Images of a field of the specimen: dome heights and film to detected electrons, as functions on arrays.

Intensities follow the film's local thickness and texture. A particle is a hemisphere of nickel of
height h(r) = sqrt(R² - r²), stretched by what of it is below the surface, blurred by the probe and the pixel: HAADF is brighter by 0.1 per nm of
nickel, ABF darker as exp(-0.06 h). Counts are detected electrons: Poisson of the electrons of the
probe in a dwell time, the detector's share of them, and a small dark count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e

from simulators.noise import poisson_counts
from simulators.specimen import Domes, Specimen, View
from simulators.specimen.film import Film

Array = NDArray[np.float64]
Image = NDArray[np.float32]
Counts = NDArray[np.uint16]

PROBE_SIGMA_NM = 0.2
"""Standard deviation of probe, tails and vibration together (0.47 nm full width at half maximum)."""
_BAND_PIXELS = 1 << 18  # a band takes some 10 ms, after which a cut exposure is noticed


@dataclass(frozen=True, slots=True)
class Detector:
    """An annular detector and what it makes of film and nickel."""

    inner_mrad: float
    outer_mrad: float
    detected_share: float
    """Share of the probe's electrons that it counts on the bare film of nominal thickness."""
    per_nm: float
    """Contrast of 1 nm of nickel: relative gain (positive) or attenuation (negative)."""
    thickness_power: float
    """How intensity follows the film's relative thickness."""
    texture_sign: float
    dark_counts: float = 0.02
    """Per pixel, beam on or off."""


DETECTORS: Mapping[str, Detector] = {
    "haadf": Detector(70, 175, 0.1, 0.1, 1.0, 1.0),
    "abf": Detector(7.5, 17, 0.3, -0.06, -0.4, -0.5),
}


def render(
    specimen: Specimen,
    t_s: float,
    view: View,
    electrons_per_pixel: float,
    detectors: Mapping[str, np.random.Generator],
    keep_going: Callable[[], bool] = lambda: True,
) -> dict[str, Counts] | None:
    """Counts of every named detector, each drawn from its own generator; None if told to stop.

    Returns:
        uint16 (y, x) per detector, one count per detected electron, saturating at 65535.
    """
    domes = specimen.domes(view, t_s, margin_nm=4 * _blur_nm(view.pixel_nm))
    images = {name: np.empty(view.shape, dtype=np.uint16) for name in detectors}
    rows, columns = view.shape
    step = max(1, _BAND_PIXELS // columns)
    for first in range(0, rows, step):
        if not keep_going():
            return None
        last = min(first + step, rows)
        means = expected_counts(
            specimen.film, domes, view, electrons_per_pixel, detectors, (first, last)
        )
        for name, mean in means.items():
            images[name][first:last] = poisson_counts(mean, detectors[name])
    return images


def expected_counts(
    film: Film,
    domes: Domes,
    view: View,
    electrons_per_pixel: float,
    detectors: Mapping[str, object],
    rows: tuple[int, int] | None = None,
) -> dict[str, Image]:
    """Mean counts per pixel of the named detectors in some rows of a view; float32 (y, x)."""
    first, last = rows if rows is not None else (0, view.shape[0])
    if electrons_per_pixel <= 0:
        dark = {name: DETECTORS[name].dark_counts for name in detectors}
        shape = (last - first, view.shape[1])
        return {name: np.full(shape, value, np.float32) for name, value in dark.items()}
    x = view.origin_nm[0] + (np.arange(view.shape[1], dtype=np.float64) + 0.5) * view.pixel_nm
    y = view.origin_nm[1] + (np.arange(first, last, dtype=np.float64) + 0.5) * view.pixel_nm
    thickness = film.thickness_map(x, y)
    texture = film.texture_map(x, y, view.pixel_nm)
    texture *= film.settings.texture
    height = height_map(domes, view, (first, last))
    return {
        name: _intensity(DETECTORS[name], thickness, texture, height, electrons_per_pixel)
        for name in detectors
    }


def _intensity(
    detector: Detector, thickness: Image, texture: Image, height: Image, electrons: float
) -> Image:
    scale = np.float32(electrons * detector.detected_share)
    film = thickness if detector.thickness_power == 1 else thickness**detector.thickness_power
    mean = texture * np.float32(detector.texture_sign)
    mean += 1
    mean *= film
    mean *= scale
    nickel = height > 0
    if detector.per_nm > 0:
        mean[nickel] *= 1 + np.float32(detector.per_nm) * height[nickel]
    else:
        mean[nickel] *= np.exp(np.float32(detector.per_nm) * height[nickel])
    np.maximum(mean, 0, out=mean)
    mean += np.float32(detector.dark_counts)
    return mean


# ------------------------------------------------------------------------------- domes


def height_map(domes: Domes, view: View, rows: tuple[int, int]) -> Image:
    """Height of nickel in nm as images show it, blurred by probe and pixel; float32 (y, x) of some rows."""
    first, last = rows
    columns = view.shape[1]
    total = np.zeros((last - first) * columns)
    if len(domes):
        blur = _blur_nm(view.pixel_nm)
        reach = np.ceil((domes.radius_nm + 4 * blur) / view.pixel_nm).astype(np.intp)
        # patches of like size are drawn together; sizes are rounded up to few classes
        classes = -(-reach // 4) * 4
        for half in np.unique(classes):
            _add_patches(total, domes, np.flatnonzero(classes == half), int(half), view, rows)
    return total.astype(np.float32).reshape(last - first, columns)


def _add_patches(
    total: Array,
    domes: Domes,
    which: NDArray[np.intp],
    half: int,
    view: View,
    rows: tuple[int, int],
) -> None:
    first, last = rows
    pixel, columns = view.pixel_nm, view.shape[1]
    x, y = domes.x_nm[which] / pixel, domes.y_nm[which] / pixel
    near = (y + half >= first) & (y - half <= last)
    which, x, y = which[near], x[near], y[near]
    if not len(which):
        return
    window = np.arange(-half, half + 1)
    j = np.floor(x).astype(np.intp)[:, None] + window
    i = np.floor(y).astype(np.intp)[:, None] + window
    dx = (j + 0.5 - x[:, None]) * pixel
    dy = (i + 0.5 - y[:, None]) * pixel
    r = np.sqrt(dx[:, None, :] ** 2 + dy[:, :, None] ** 2)
    radius = domes.radius_nm[which]
    height = blurred_dome(r, radius[:, None, None], _blur_nm(pixel))
    height *= (domes.peak_nm[which] / radius)[:, None, None]
    keep = ((i >= first) & (i < last))[:, :, None] & ((j >= 0) & (j < columns))[:, None, :]
    keep &= height > 0
    place = ((i - first) * columns)[:, :, None] + j[:, None, :]
    np.add.at(total, place[keep], height[keep])


def blurred_dome(r_nm: Array, radius_nm: Array, blur_nm: float) -> Array:
    """Height of a hemisphere, convolved with a Gaussian, at distances from its axis; nm.

    ``radius_nm`` broadcasts against ``r_nm`` over all but its first axis. The volume is that of the
    hemisphere, 2π/3 R³.
    """
    ratios, profiles = _profiles()
    ratio = np.clip(blur_nm / radius_nm, ratios[0], ratios[-1])
    place = np.log(ratio / ratios[0]) / math.log(ratios[1] / ratios[0])
    k = np.minimum(place.astype(np.intp), len(ratios) - 2)
    weight = place - k
    last = profiles.shape[1] - 1
    u = r_nm / (radius_nm * (1 + 5 * ratio)) * last
    inside = u < last
    base = np.minimum(u, last - 1).astype(np.intp)
    part = u - base
    low = profiles[k, base] * (1 - part) + profiles[k, base + 1] * part
    high = profiles[k + 1, base] * (1 - part) + profiles[k + 1, base + 1] * part
    return np.where(inside, radius_nm * (low + (high - low) * weight), 0.0)


def _blur_nm(pixel_nm: float) -> float:
    """Probe and pixel together: a square pixel blurs as a Gaussian of its variance."""
    return math.sqrt(PROBE_SIGMA_NM**2 + pixel_nm**2 / 12)


@lru_cache(maxsize=1)
def _profiles() -> tuple[Array, Array]:
    """Blurred unit hemispheres: blur-to-radius ratios (m,), profiles (m, n) over r from 0 to 1 + 5 ratio.

    The convolution of a radial function with a 2-D Gaussian of sigma s is
    ∫ f(t) t/s² exp(-(r-t)²/2s²) i0e(rt/s²) dt.
    """
    ratios = np.geomspace(0.008, 4.0, 64)
    # t = sin φ takes the steep edge of the dome out of the quadrature
    nodes, weights = np.polynomial.legendre.leggauss(600)
    angle = (nodes + 1) * (math.pi / 4)
    t = np.sin(angle)
    height_dt = np.cos(angle) ** 2 * weights * (math.pi / 4)
    profiles = np.empty((len(ratios), 161))
    for k, s in enumerate(ratios):
        r = np.linspace(0, 1 + 5 * s, profiles.shape[1])[:, None]
        kernel = np.exp(-((r - t) ** 2) / (2 * s * s)) * i0e(r * t / (s * s)) * t / (s * s)
        profiles[k] = kernel @ height_dt
    return ratios, profiles
