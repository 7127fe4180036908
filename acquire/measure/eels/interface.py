"""Fits the dip or excess of profiles across a boundary: how much, how wide, where, and how sure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from acquire.errors import MeasureError
from acquire.measure.eels.boundary import (
    FWHM_PER_SIGMA,
    Model,
    Profile,
    Shape,
    box,
    covariances,
    linear,
    observed_width,
    profile_of,
    refined,
    searched,
    spacing_nm,
    width_limits,
)
from acquire.stream import Value

Array = NDArray[np.float64]

_SIGNIFICANT = 3.0
_LEAST_PROBABILITY = 1e-3
_FEWEST_BESIDE = 4


@dataclass(frozen=True, slots=True)
class InterfaceFit:
    """One profile's fit: level + slope · (x - position) + excess · g((x - position) / width)."""

    shape: Shape
    level: Value
    """Of the matrix, at the boundary's place, in the unit of the profile."""
    slope_per_nm: Value
    excess: Value
    """Height of the boundary's peak over the matrix, without the probe where that was given; a dip is
    negative."""
    change: Value
    """``excess`` over ``level``: -0.26 is 26 % less."""
    observed_change: Value
    """As the probe shows it."""
    fwhm_nm: Value
    """Of the boundary itself; of a box, its full width."""
    position_nm: Value
    integrated: Value
    """∫ excess dx in the profile's unit times nm: this neither probe nor width can change."""
    covariance: Array
    """(5, 5) of level, slope, excess · width factor as observed, position, observed width (σ, or the box's
    full width); zero where a parameter was held."""
    chi2: float
    freedom: int
    flags: tuple[str, ...]
    """``unresolved``: not told from a flat profile at 3 σ, or no wider than the probe or the spacing
    allow, so that only ``integrated`` means something; ``edge_of_scan``: the boundary is less than its
    width from the end; ``poor_fit``: a χ² that happens once in a thousand; ``few_points``."""

    def at(self, distance_nm: ArrayLike, probe_sigma_nm: float = 0.0) -> Array:
        """The fitted profile as the probe shows it."""
        x = np.asarray(distance_nm, np.float64) - self.position_nm.value
        width = self.fwhm_nm.value
        base = self.level.value + self.slope_per_nm.value * x
        if self.shape == "box":
            return np.asarray(base + self.excess.value * box(x, width, probe_sigma_nm))
        own = width / FWHM_PER_SIGMA
        wide = math.hypot(own, probe_sigma_nm)
        peak = self.integrated.value / (wide * math.sqrt(2 * math.pi))
        return np.asarray(base + peak * np.exp(-0.5 * (x / wide) ** 2))


def fit_interface(
    distance_nm: ArrayLike,
    values: ArrayLike,
    sigma: ArrayLike,
    shape: Shape = "gaussian",
    probe_sigma_nm: float = 0.0,
    *,
    slope: bool = True,
    position_nm: float | None = None,
    fwhm_nm: float | None = None,
) -> InterfaceFit:
    """Fit one profile across a boundary by weighted least squares.

    The matrix is a level with a slope, the boundary a Gaussian, or a box blurred by the probe. With
    ``probe_sigma_nm`` the probe is taken out: of Gaussians in quadrature, with the same integral.
    Place and width start from the best of a grid, so that no guess is needed. σ are those of the
    values given, whatever χ² is. A place and a width that are free find something in any noise: an
    ``excess`` below 3 σ is flagged, and its σ then holds for its best place. Hold them, or fit
    profiles together (:func:`fit_interfaces`), to say how little there is.

    Args:
        distance_nm: (n,) along the line, in any order.
        values: (n,); points that are not finite are left out.
        sigma: (n,) positive.
        shape: ``gaussian`` or ``box``.
        probe_sigma_nm: standard deviation of the probe along the line; 0 leaves the width as observed.
        slope: whether the matrix may slope.
        position_nm: held, if given.
        fwhm_nm: the boundary's own width, held if given.

    Raises:
        MeasureError: arrays that do not belong together, fewer than eight points, no extent.
    """
    fits = fit_interfaces(
        distance_nm,
        {"profile": (values, sigma)},
        shape,
        probe_sigma_nm,
        slope=slope,
        position_nm=position_nm,
        fwhm_nm=fwhm_nm,
    )
    return fits["profile"]


def fit_interfaces(
    distance_nm: ArrayLike,
    profiles: Mapping[str, tuple[ArrayLike, ArrayLike]],
    shape: Shape = "gaussian",
    probe_sigma_nm: float = 0.0,
    *,
    slope: bool = True,
    position_nm: float | None = None,
    fwhm_nm: float | None = None,
) -> dict[str, InterfaceFit]:
    """Fit several profiles along one line, which share the boundary's place and width.

    Each has a level, a slope and an excess of its own, so that one without an excess is told with the σ
    that the others' place and width allow. Arguments and errors as in :func:`fit_interface`;
    ``profiles`` are (values, sigma) by name.
    """
    x = np.asarray(distance_nm, np.float64)
    if shape not in ("gaussian", "box"):
        raise MeasureError(f"shape = {shape!r}: write 'gaussian' or 'box'.")
    if not profiles:
        raise MeasureError("there is no profile to fit. Give values and sigma by name.")
    if not (math.isfinite(probe_sigma_nm) and probe_sigma_nm >= 0):
        raise MeasureError(f"probe_sigma_nm = {probe_sigma_nm!r} must be finite and not negative.")
    if fwhm_nm is not None and not (math.isfinite(fwhm_nm) and fwhm_nm > 0):
        raise MeasureError(f"fwhm_nm = {fwhm_nm!r} must be positive and finite.")
    used = {name: profile_of(name, x, *pair) for name, pair in profiles.items()}
    model = Model(
        shape, probe_sigma_nm, slope, probe_sigma_nm or spacing_nm(x) / 3 if shape == "box" else 0.0
    )
    parts = list(used.values())
    held_width = None if fwhm_nm is None else observed_width(model, fwhm_nm)
    place, width = searched(model, parts, position_nm, held_width)
    place, width = refined(model, parts, place, width, position_nm, held_width)
    free = (position_nm is None, held_width is None)
    amounts = [linear(model, part, place, width)[0] for part in parts]
    spreads = covariances(model, parts, amounts, place, width, free)
    return {
        name: _told(model, part, amount, place, width, covariance, free)
        for (name, part), amount, covariance in zip(used.items(), amounts, spreads, strict=True)
    }


def _told(
    model: Model,
    part: Profile,
    amount: Array,
    place: float,
    width: float,
    covariance: Array,
    free: tuple[bool, bool],
) -> InterfaceFit:
    level, height = float(amount[0]), float(amount[-1])
    slope = float(amount[1]) if model.slope else 0.0
    parameters = np.array([level, slope, height, place, width])

    def value(function: str) -> Value:
        return _propagated(lambda p: _derived(model, p)[function], parameters, covariance)

    rest = part.values - model.columns(part.x, place, width) @ amount
    chi2 = float(np.square(rest / part.sigma).sum())
    freedom = part.x.size - (3 if model.slope else 2) - sum(free)
    fit = InterfaceFit(
        shape=model.shape,
        level=value("level"),
        slope_per_nm=value("slope"),
        excess=value("excess"),
        change=value("change"),
        observed_change=value("observed"),
        fwhm_nm=value("fwhm"),
        position_nm=value("position"),
        integrated=value("integrated"),
        covariance=covariance,
        chi2=chi2,
        freedom=freedom,
        flags=(),
    )
    return _flagged(fit, model, part, width, free)


def _derived(model: Model, p: Array) -> Mapping[str, float]:
    level, slope, height, place, width = (float(v) for v in p)
    if model.shape == "box":
        own, excess, integral, fwhm = width, height, height * width, width
        seen = height * float(box(np.zeros(1), width, model.blur_nm)[0])
    else:
        own = math.sqrt(max(width**2 - model.probe_sigma_nm**2, 0.0))
        integral, fwhm, seen = height * width * math.sqrt(2 * math.pi), FWHM_PER_SIGMA * own, height
        excess = height * width / own if own > 0 else math.nan
    over = 1 / level if level else math.nan
    return MappingProxyType(
        {
            "level": level,
            "slope": slope,
            "excess": excess,
            "change": excess * over,
            "observed": seen * over,
            "fwhm": fwhm,
            "position": place,
            "integrated": integral,
        }
    )


def _propagated(function: Callable[[Array], float], parameters: Array, covariance: Array) -> Value:
    value = function(parameters)
    spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    gradient = np.zeros(parameters.size)
    for k, by in enumerate(spread):
        if by > 0:
            step = np.zeros(parameters.size)
            step[k] = 1e-3 * by
            gradient[k] = (function(parameters + step) - function(parameters - step)) / (2e-3 * by)
    variance = float(gradient @ covariance @ gradient)
    return Value(value, math.sqrt(max(variance, 0.0)) if variance == variance else math.nan)


def _flagged(
    fit: InterfaceFit, model: Model, part: Profile, width: float, free: tuple[bool, bool]
) -> InterfaceFit:
    flags = []
    spacing, extent = spacing_nm(part.x), float(part.x[-1] - part.x[0])
    narrow, wide = width_limits(model, spacing, extent)
    amplitude, own = fit.integrated, fit.fwhm_nm
    faint = not abs(amplitude.value) > _SIGNIFICANT * amplitude.sigma
    # a width that its error or the grid of points does not tell from nothing
    thin = free[1] and not (own.value > 2 * own.sigma and width > 1.05 * narrow)
    broad = free[1] and width > 0.98 * wide
    if any(free) and (faint or thin or broad):
        flags.append("unresolved")
    half = (width / 2) if model.shape == "box" else FWHM_PER_SIGMA / 2 * width
    place = fit.position_nm.value
    if place - half < part.x[0] or place + half > part.x[-1]:
        flags.append("edge_of_scan")
    reach = 2.0 * half
    beside = [np.count_nonzero(part.x < place - reach), np.count_nonzero(part.x > place + reach)]
    if min(beside) < _FEWEST_BESIDE or fit.freedom < 3:
        flags.append("few_points")
    if fit.freedom > 0 and stats.chi2.sf(fit.chi2, fit.freedom) < _LEAST_PROBABILITY:
        flags.append("poor_fit")
    return replace(fit, flags=tuple(flags))
