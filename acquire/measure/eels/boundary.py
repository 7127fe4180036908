"""Solves for the boundary that profiles share: amounts exactly, place and width from a grid on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from acquire.errors import MeasureError

Array = NDArray[np.float64]
Shape = Literal["gaussian", "box"]

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


@dataclass(frozen=True, slots=True)
class Profile:
    """Points of one profile by rising distance, all finite."""

    x: Array
    values: Array
    sigma: Array


@dataclass(frozen=True, slots=True)
class Model:
    """What is common to all profiles of a fit."""

    shape: Shape
    probe_sigma_nm: float
    slope: bool
    blur_nm: float
    """The probe, or a third of the spacing: ends of boxes must not fall between points."""

    def peak(self, x: Array, position: float, width: float) -> Array:
        """Of height 1 for Gaussians as observed, and for boxes before they are blurred."""
        if self.shape == "box":
            return box(x - position, width, self.blur_nm)
        return np.exp(-0.5 * ((x - position) / width) ** 2)

    def columns(self, x: Array, position: float, width: float) -> Array:
        """Of the linear amounts: level, slope if any, peak; (n, 2 or 3)."""
        columns = [np.ones_like(x), x - position] if self.slope else [np.ones_like(x)]
        return np.stack([*columns, self.peak(x, position, width)], axis=1)


def profile_of(name: str, x: Array, values: ArrayLike, sigma: ArrayLike) -> Profile:
    """Points of a profile that can be fitted, by distance.

    Raises:
        MeasureError: shapes that do not belong together, or fewer than eight points.
    """
    y = np.asarray(values, np.float64)
    s = np.asarray(sigma, np.float64)
    if x.ndim != 1 or y.shape != x.shape or s.shape not in ((), x.shape):
        raise MeasureError(
            f"the profile {name!r} has values of shape {y.shape} at distances of shape {x.shape}: "
            "one value for each point of a line is needed."
        )
    s = np.broadcast_to(s, y.shape)
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(s) & (s > 0)
    if np.count_nonzero(good) < 8 or not np.ptp(x[good]) > 0:
        raise MeasureError(
            f"the profile {name!r} has {np.count_nonzero(good)} points with a value and a positive σ: "
            "a boundary needs at least 8 at different places."
        )
    order = np.argsort(x[good], kind="stable")
    return Profile(x[good][order], y[good][order], s[good][order])


def spacing_nm(x: Array) -> float:
    """Median distance of neighbours."""
    places = np.unique(x[np.isfinite(x)])
    return float(np.median(np.diff(places))) if places.size > 1 else 1.0


def box(x: Array, width: float, blur: float) -> Array:
    """A box of height 1 and full width ``width`` around 0, blurred by a Gaussian."""
    if blur <= 0:
        return np.where(np.abs(x) <= width / 2, 1.0, 0.0)
    return np.asarray(special.ndtr((x + width / 2) / blur) - special.ndtr((x - width / 2) / blur))


def observed_width(model: Model, fwhm_nm: float) -> float:
    """The width that is fitted, of a boundary's own."""
    if model.shape == "box":
        return fwhm_nm
    return math.hypot(fwhm_nm / FWHM_PER_SIGMA, model.probe_sigma_nm)


def linear(model: Model, part: Profile, place: float, width: float) -> tuple[Array, float]:
    """Level, slope if any, and excess that fit best, and their χ²."""
    columns = model.columns(part.x, place, width) / part.sigma[:, None]
    target = part.values / part.sigma
    amount = np.linalg.lstsq(columns, target, rcond=1e-10)[0]
    return np.asarray(amount, np.float64), float(np.square(target - columns @ amount).sum())


def searched(
    model: Model, parts: list[Profile], position: float | None, width: float | None
) -> tuple[float, float]:
    """Place and width of the smallest χ² on a grid, those that are held as they are."""
    low = min(float(part.x[0]) for part in parts)
    high = max(float(part.x[-1]) for part in parts)
    spacing, extent = spacing_nm(parts[0].x), high - low
    places = np.linspace(low, high, 61) if position is None else np.array([position])
    narrow, wide = width_limits(model, spacing, extent)
    widths = np.geomspace(narrow * 1.2, wide / 1.5, 13) if width is None else np.array([width])
    best, found = math.inf, (float(places[0]), float(widths[0]))
    for w in widths:
        for p in places:
            chi2 = sum(linear(model, part, float(p), float(w))[1] for part in parts)
            if chi2 < best:
                best, found = chi2, (float(p), float(w))
    return found


def width_limits(model: Model, spacing: float, extent: float) -> tuple[float, float]:
    """Of the width that is fitted."""
    if model.shape == "box":
        return 0.3 * spacing, 0.8 * extent
    return max(0.3 * spacing, 0.5 * model.probe_sigma_nm), 0.35 * extent


def refined(
    model: Model,
    parts: list[Profile],
    place: float,
    width: float,
    position: float | None,
    held_width: float | None,
) -> tuple[float, float]:
    """Place and width that fit best near a start; amounts are solved for at every step."""
    low = min(float(part.x[0]) for part in parts)
    high = max(float(part.x[-1]) for part in parts)
    narrow, wide = width_limits(model, spacing_nm(parts[0].x), high - low)
    start, lower, upper = [], [], []
    if position is None:
        start.append(place)
        lower.append(low - 0.5 * (high - low))
        upper.append(high + 0.5 * (high - low))
    if held_width is None:
        start.append(math.log(min(max(width, narrow * 1.01), wide / 1.01)))
        lower.append(math.log(narrow))
        upper.append(math.log(wide))
    if not start:
        return place, width

    def both(free: Array) -> tuple[float, float]:
        p = place if position is not None else float(free[0])
        w = width if held_width is not None else math.exp(float(free[-1]))
        return p, w

    def residuals(free: Array) -> Array:
        p, w = both(free)
        rest = []
        for part in parts:
            amount, _ = linear(model, part, p, w)
            rest.append((part.values - model.columns(part.x, p, w) @ amount) / part.sigma)
        return np.concatenate(rest)

    found = optimize.least_squares(
        residuals,
        np.array(start),
        bounds=(lower, upper),
        x_scale=np.array(_scales(start, width)),
        xtol=1e-10,
        ftol=1e-12,
        gtol=1e-10,
        max_nfev=200,
    )
    return both(np.asarray(found.x, np.float64))


def _scales(start: list[float], width: float) -> list[float]:
    return [width, 1.0][: len(start)] if len(start) == 2 else [1.0]


def covariances(
    model: Model,
    parts: list[Profile],
    amounts: list[Array],
    place: float,
    width: float,
    free: tuple[bool, bool],
) -> list[Array]:
    """(5, 5) for every profile, of level, slope, excess, place and width; common ones from all together."""
    linear = 3 if model.slope else 2
    total = linear * len(parts) + sum(free)
    information = np.zeros((total, total))
    step_p, step_w = 1e-4 * width, 1e-4 * width
    for k, (part, amount) in enumerate(zip(parts, amounts, strict=True)):
        jacobian = np.zeros((part.x.size, total))
        jacobian[:, k * linear : (k + 1) * linear] = model.columns(part.x, place, width)
        column = linear * len(parts)
        if free[0]:
            moved = [model.peak(part.x, place + s * step_p, width) for s in (1, -1)]
            by_place = amount[-1] * (moved[0] - moved[1]) / (2 * step_p)
            jacobian[:, column] = by_place - (amount[1] if model.slope else 0.0)
            column += 1
        if free[1]:
            moved = [model.peak(part.x, place, width + s * step_w) for s in (1, -1)]
            jacobian[:, column] = amount[-1] * (moved[0] - moved[1]) / (2 * step_w)
        jacobian /= part.sigma[:, None]
        information += jacobian.T @ jacobian
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    whole = np.linalg.pinv(information / np.outer(scale, scale), rcond=1e-12) / np.outer(
        scale, scale
    )
    found = []
    for k in range(len(parts)):
        rows = [k * linear, k * linear + 1 if model.slope else -1, (k + 1) * linear - 1]
        rows += [linear * len(parts) if free[0] else -1, total - 1 if free[1] else -1]
        covariance = np.zeros((5, 5))
        for i, row in enumerate(rows):
            for j, column in enumerate(rows):
                if row >= 0 and column >= 0:
                    covariance[i, j] = whole[row, column]
        found.append(covariance)
    return found
