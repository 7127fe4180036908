"""Calibrates what a frame alone cannot determine: the dome's exponent and the probe's blur.

Both are pooled over all well-seen particles of some frames and then *held*: fitted anew in every
frame they would make the mean diameter jump.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.spatial import KDTree

from acquire.errors import MeasureError
from acquire.measure.particles.checks import UNMEASURABLE, check_image, image_flags
from acquire.measure.particles.detect import Detection
from acquire.measure.particles.measure import plain_image
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.prepare import prepare
from acquire.measure.particles.shapes import dome_between
from acquire.measure.particles.size import PIXEL_VARIANCE, Profiles, take_profiles
from acquire.measure.particles.starts import cut_by_border
from acquire.measure.particles.weigh import weigh_domes

FEWEST = 5
"""Fewer well-seen particles than this calibrate nothing."""
_MOST = 240
"""More profiles than this only cost time."""
_AT_FIRST = 60
"""So many are enough to come near."""
_CLEAR_SNR = 12.0
_CLEAR_RADIUS_PX = 3.0
_FREE_PX = 2.5
"""Film is what lies so far beyond the footprint of a neighbour: the blur of its edge ends there."""
_FILM_PX = 2.0
"""So much of it is needed around a particle, all the way around."""
_WORST_CHI2 = 25.0
"""Profiles that no dome fits would drag the others along."""
_BLUR_KNOWN = 0.06
"""Relative σ of the given blur: flat caps hardly tell it, and centres that scatter make it seem wider."""
_LEAST_SIGMA = 0.01
"""Of the exponent: how centres scatter on a rough film shifts it by so much, measured on scenes."""
_LOW, _HIGH = np.array([0.0, 0.0]), np.array([1.3, 4.0])
"""Exponents and blurs (px) that are looked at."""
_TOO_UNSURE = 0.25
_STEPS = np.array([0.02, 0.05])


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
    The σ given hold for images of one place, whose texture no number of frames averages out, and
    contain the scatter of the profiles about the model, if that exceeds their noise. The blur
    that the options give counts as known to 6 %: steep edges overrule it, flat caps do not.

    Raises:
        MeasureError: fewer than five clear particles, or they do not determine the exponent.
    """
    pool = ShapePool(pixel_size_nm, options or ParticleOptions())
    for image in images:
        pool.add(image)
    return pool.calibrate()


class ShapePool:
    """Collects profiles image by image, to spread what :func:`calibrate_shape` costs over frames."""

    def __init__(self, pixel_size_nm: float, options: ParticleOptions) -> None:
        self._pixel_size_nm = pixel_size_nm
        self._options = options
        self._pooled: list[Profiles] = []
        self._whose: list[NDArray[np.int64]] = []
        self._places = np.zeros((0, 2))

    def __len__(self) -> int:
        """Images that showed particles."""
        return len(self._pooled)

    def add(self, image: NDArray[Any]) -> None:
        """Take the profiles of an image (y, x); one that cannot be measured has none.

        Raises:
            MeasureError: the array is no image, or the pixel size cannot be used.
        """
        options = self._options
        image = plain_image(image)
        check_image(image, self._pixel_size_nm)
        if UNMEASURABLE.intersection(image_flags(image, options.dark_level)):
            return
        ready = prepare(image, self._pixel_size_nm, options)
        if not len(ready.found):
            return
        profiles = take_profiles(
            ready.contrast,
            ready.coarse,
            ready.found,
            options.dome,
            options.probe_sigma_nm / self._pixel_size_nm,
            ready.film.brightness(ready.found.y_px, ready.found.x_px),
            options.shot,
        )
        profiles = _clear(ready.found, profiles, ready.contrast.shape)
        self._pooled.append(profiles)
        self._whose.append(self._named(profiles.fitted[:, :2], profiles.fitted[:, 2]))

    def forget_oldest(self) -> None:
        """Drop the image taken first."""
        self._pooled.pop(0)
        self._whose.pop(0)

    def calibrate(self) -> ShapeCalibration:
        """What the images taken so far say; see :func:`calibrate_shape`.

        Raises:
            MeasureError: they do not say it.
        """
        images = len(self._pooled)
        clear = sum(len(one.count) for one in self._pooled)
        if clear < FEWEST:
            raise MeasureError(
                f"{clear} clear particles do not calibrate the shape: at least {FEWEST} are needed, "
                f"whole, apart from each other and above {_CLEAR_SNR:g} times the noise. Take more "
                "images or a higher dose."
            )
        shot = self._options.shot
        blur_px = self._options.probe_sigma_nm / self._pixel_size_nm
        best = np.array([self._options.dome.exponent, blur_px])
        for most in (_AT_FIRST, _MOST):
            # the information of n images of white noise w and one texture t is that of w + n t
            pooled = _Pooled(
                self._pooled, self._whose, math.ceil(most / images), images, blur_px, shot
            )
            pooled.refit(best)
            best = pooled.least(best)
        sigma = np.sqrt(np.diag(pooled.covariance(best)) + np.square([_LEAST_SIGMA, 0.0]))
        most = math.ceil(_MOST / images)
        chi2 = _Pooled(self._pooled, self._whose, most, 1, blur_px, shot).chi2(best)
        if not np.isfinite(sigma).all() or sigma[0] > _TOO_UNSURE:
            raise MeasureError(
                f"the exponent of {len(chi2)} particles is {best[0]:.2f} ± {sigma[0]:.2f}: too "
                "unsure to be held. Take more images, or a finer pixel."
            )
        return ShapeCalibration(
            float(best[0]),
            float(sigma[0]),
            float(best[1]) * self._pixel_size_nm,
            float(sigma[1]) * self._pixel_size_nm,
            len(chi2),
            float(np.median(chi2)),
        )

    def _named(self, places: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[np.int64]:
        """Numbers of particles, the same where an earlier image had one within half a radius."""
        names = np.full(len(places), -1, np.int64)
        if len(self._places) and len(places):
            away, nearest = KDTree(self._places).query(places)
            names = np.where(away < 0.5 * radius, nearest, -1)
            # followed, so that a slow drift does not part them
            self._places[names[names >= 0]] = places[names >= 0]
        new = names < 0
        names[new] = len(self._places) + np.arange(int(new.sum()))
        self._places = np.concatenate([self._places, places[new]])
        return names


def _clear(found: Detection, profiles: Profiles, shape: tuple[int, ...]) -> Profiles:
    """Those of particles that are bright, whole and apart, as far out as there is only film."""
    y, x, radius = profiles.fitted[:, 0], profiles.fitted[:, 1], profiles.fitted[:, 2]
    apart = np.hypot(y[:, None] - y, x[:, None] - x)
    np.fill_diagonal(apart, math.inf)
    free = np.min(apart - radius, axis=1, initial=math.inf) - _FREE_PX
    inside = np.minimum.reduce([y, x, shape[0] - y, shape[1] - x])
    clear = (found.peak_snr > _CLEAR_SNR) & ~cut_by_border(found, shape).any(axis=0)
    clear &= (np.minimum(free, inside) > radius + _FILM_PX) & (radius > _CLEAR_RADIUS_PX)
    rings = profiles.rings.copy()
    outer = rings[:, :, 4] * profiles.width[:, None]
    rings[:, :, 2] = np.where(outer > free[:, None], 0.0, rings[:, :, 2])
    # the brightest first: where few are taken, those whose centres are known best
    order = np.argsort(-found.peak_snr, kind="stable")
    return _only(replace(profiles, rings=rings), order[clear[order]])


class _Pooled:
    """Profiles of several images, their χ², and where it is least."""

    def __init__(
        self,
        images: list[Profiles],
        whose: list[NDArray[np.int64]],
        most: int,
        rougher: float,
        blur_px: float,
        shot: int,
    ) -> None:
        """Take at most so many of each image, with a texture that is ``rougher`` by a factor."""
        self._blur_px = blur_px
        self._images = [
            replace(_only(one, slice(most)), texture=one.texture * rougher) for one in images
        ]
        self._whose = [names[:most] for names in whose]
        self._shot = shot

    def refit(self, at: NDArray[np.float64]) -> None:
        """Start from the radii, heights and offsets of this exponent and blur; the centres stay."""
        # so far from the right exponent that all fit badly, only the worst of them are left out
        most = max(_WORST_CHI2, 4.0 * float(np.median(self.chi2(at))))
        for i, profiles in enumerate(self._images):
            fits = self._fits(profiles, at)
            fitted = profiles.fitted.copy()
            good = np.isfinite(fits[:, :5]).all(axis=1) & (fits[:, 2] > 0.0)
            fitted[good, 2:] = fits[good][:, [0, 2, 4]]
            usual = fits[:, 5] < most
            self._images[i] = _only(replace(profiles, fitted=fitted), usual)
            self._whose[i] = self._whose[i][usual]

    def chi2(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reduced χ² of every profile."""
        return np.concatenate([self._fits(one, at)[:, 5] for one in self._images])

    def least(self, start: NDArray[np.float64]) -> NDArray[np.float64]:
        """Exponent and blur (px) of least χ²."""

        def total(p: NDArray[np.float64]) -> float:
            at = np.clip(p, _LOW, _HIGH)
            outside = float(np.square(p - at).sum())
            return float(self._losses(at).sum()) * (1.0 + 10.0 * outside)

        simplex = start + np.array([[0.0, 0.0], [0.15, 0.0], [0.0, 0.25]])
        found = optimize.minimize(
            total,
            start,
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "xatol": 2e-3, "fatol": 1e-2, "maxfev": 40},
        )
        return np.asarray(np.clip(found.x, _LOW, _HIGH), np.float64)

    def covariance(self, best: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of exponent and blur, from how much the single particles disagree; inf where undetermined.

        The sandwich A⁻¹ B A⁻¹ of the second derivatives A and the scatter B of the first ones
        (Huber 1967), those of one particle in several images taken together; at least A⁻¹.
        """
        for finer in (1.0, 0.25, 0.06):
            second, first = self._derivatives(best, finer * _STEPS)
            if np.isfinite(second).all() and np.linalg.eigvalsh(second).min() > 0.0:
                break
        else:
            return np.full((2, 2), math.inf)
        inverse = np.asarray(np.linalg.inv(second), np.float64)
        _, whose = np.unique(np.concatenate(self._whose), return_inverse=True)
        pull = np.stack([np.bincount(whose, g - g.mean()) for g in first])
        count = pull.shape[1]
        scatter = pull @ pull.T * (count / max(count - 2, 1))
        by_scatter = np.asarray(inverse @ scatter @ inverse, np.float64)
        return inverse if np.trace(scatter @ inverse) < 2.0 else by_scatter

    def _derivatives(
        self, best: NDArray[np.float64], steps: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """Half of the second derivatives (2, 2) of χ², and of the first ones of every profile."""
        # at the edge of what is allowed the derivatives are taken beside it
        at = np.maximum(best, steps)
        here = float(self._losses(at).sum())
        second, first = np.empty((2, 2)), []
        for i, d in enumerate(np.diag(steps)):
            more, less = self._losses(at + d), self._losses(at - d)
            second[i, i] = (more.sum() - 2.0 * here + less.sum()) / (2.0 * steps[i] ** 2)
            first.append((more - less) / (4.0 * steps[i]))
        a, b = np.diag(steps)
        corners = [self._losses(at + p).sum() for p in (a + b, a - b, b - a, -a - b)]
        cross = corners[0] - corners[1] - corners[2] + corners[3]
        second[0, 1] = second[1, 0] = cross / (8.0 * steps[0] * steps[1])
        return second, first

    def _losses(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        fits = np.concatenate([self._fits(one, at) for one in self._images])
        known = (at[1] - self._blur_px) / max(_BLUR_KNOWN * self._blur_px, 0.01)
        chi2 = fits[:, 5] * np.maximum(fits[:, 7] - 3.0, 1.0)
        return np.asarray(chi2 + known**2 / max(len(chi2), 1), np.float64)

    def _fits(self, profiles: Profiles, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """What :func:`weigh_domes` says of every profile at (exponent, blur in px)."""
        blur = math.hypot(float(at[1]), math.sqrt(PIXEL_VARIANCE))
        how = (profiles.rings, profiles.count, profiles.width, profiles.white, profiles.texture)
        values = dome_between(float(at[0])).values
        return weigh_domes(profiles.fitted, *how, values, blur, self._shot, 0.0)


def _only(profiles: Profiles, which: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Profiles:
    per_particle = {
        one.name: getattr(profiles, one.name)[which]
        for one in fields(profiles)
        if one.name not in ("texture", "noise")
    }
    return replace(profiles, **per_particle)
