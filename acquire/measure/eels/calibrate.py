"""Calibrates the energy axis: its offset by the zero-loss peak, its dispersion by two known features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels.camera import Camera, axis_ev, spectra
from acquire.measure.eels.zlp import find_zero_loss

Array = NDArray[np.float64]

_SIGNIFICANT = 5.0
_WORST_CHI2 = 4.0


@dataclass(frozen=True, slots=True)
class Feature:
    """Something in a spectrum whose energy is known."""

    energy_ev: float
    """Of the maximum of a peak, or of the steepest place of an edge."""
    kind: Literal["peak", "edge"] = "peak"
    search_ev: float = 5.0
    """How far from its energy, on the axis as it is, it may show: nothing else of its kind may be there."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """An energy axis with what it is known to; ``axis`` takes the place of the one that was measured on."""

    axis: Axis
    """In eV."""
    offset_sigma_ev: float
    """Of the first channel's energy."""
    step_sigma_ev: float
    """0 where the dispersion was not measured."""
    covariance: float
    """Of offset and step, in eV²."""
    found_channels: tuple[float, ...]
    """Where the features were, in channels of the axis."""

    def sigma_ev(self, energy_ev: float) -> float:
        """σ of an energy that is read off this axis, in eV."""
        channel = (energy_ev - self.axis.offset) / self.axis.step
        variance = self.offset_sigma_ev**2 + (channel * self.step_sigma_ev) ** 2
        return math.sqrt(max(variance + 2.0 * channel * self.covariance, 0.0))


def offset_from_zero_loss(
    counts: NDArray[Any], axis: Axis, camera: Camera | None = None, fwhm_ev: float | None = None
) -> Calibration:
    """Axis whose 0 eV lies at the mean zero-loss position of spectra (n, channels) or (channels,).

    σ is the larger of what the electrons allow and of what the positions scatter. The axis as given
    need not hold 0 eV: the highest peak is taken for the zero-loss peak, so that there must be one.

    Raises:
        MeasureError: no zero-loss peak in any spectrum, or positions that scatter by more than its
            width, which means that other peaks were taken for it.
    """
    rows = spectra(counts, "low_loss")
    _, step = axis_ev(axis, "low_loss")
    # stored axes are not to be trusted, so that 0 eV may well lie outside
    own = Axis(-0.5 * step * rows.shape[1], step, "eV")
    found = find_zero_loss(rows, own, camera, fwhm_ev)
    good = np.isfinite(found.position_ev) & ~found.flags["poor_fit"]
    if not good.any():
        why = ", ".join(name for name, flag in found.flags.items() if flag.any())
        raise MeasureError(
            f"no zero-loss peak in {len(rows)} spectra ({why or 'none found'}): the offset cannot be "
            "told. Record it whole and unsaturated, with at least 20 electrons."
        )
    position, sigma = found.position_ev[good], found.sigma_ev[good]
    weight = 1.0 / sigma**2
    scatter = float(np.std(position, ddof=1)) if len(position) > 1 else 0.0
    if scatter > found.fwhm_ev:
        raise MeasureError(
            f"zero-loss positions of {len(position)} spectra scatter by {scatter:.3g} eV, more than the "
            f"width of {found.fwhm_ev:.3g} eV: other peaks pass for it. Take spectra with the zero loss."
        )
    if scatter**2 > 2.0 * float(np.mean(sigma**2)):
        weight = np.ones(len(position))  # the axis moved: every spectrum tells as much of its mean
    mean = float(np.average(position, weights=weight))
    error = max(
        float(weight.sum()) ** -0.5 if weight[0] != 1.0 else 0.0, scatter / math.sqrt(len(position))
    )
    channel = (mean - own.offset) / step
    return Calibration(Axis(-channel * step, step, "eV"), error, 0.0, 0.0, (channel,))


def dispersion_from_features(
    counts: NDArray[Any],
    axis: Axis,
    first: Feature,
    second: Feature,
    camera: Camera | None = None,
    *,
    largest_change: float = 0.2,
) -> Calibration:
    """Axis on which two features of the sum of spectra (n, channels) or (channels,) have their energies.

    Both are fitted by weighted least squares: a peak as a Gaussian on a line, an edge as a rounded
    step (error function) on a line that may bend there; offset and dispersion follow with σ.

    Raises:
        MeasureError: features too close together, off the axis or at the end of where they were looked
            for, below 5 σ, of another shape, or a dispersion that changes by more than
            ``largest_change`` (share): then they are others than was thought.
    """
    camera = camera or Camera()
    rows = spectra(counts, "counts")
    offset, step = axis_ev(axis, "counts")
    if not abs(second.energy_ev - first.energy_ev) > 10.0 * step:
        raise MeasureError(
            f"features at {first.energy_ev} and {second.energy_ev} eV lie within 10 channels of {step} eV: "
            "choose two that are far apart."
        )
    electrons = camera.electrons(rows)
    if not np.isfinite(electrons).all():
        raise MeasureError(
            "counts hold values that are not finite: no dispersion can be told from them."
        )
    total = electrons.sum(axis=0)
    readout = len(rows) * camera.readout_variance
    found = [_find(total, offset, step, feature, readout) for feature in (first, second)]
    (c1, s1), (c2, s2) = found
    new = (second.energy_ev - first.energy_ev) / (c2 - c1)
    if not abs(new / step - 1.0) <= largest_change:
        raise MeasureError(
            f"the features at {first.energy_ev} and {second.energy_ev} eV lie at channels {c1:.1f} and "
            f"{c2:.1f}, which makes {new:.4g} eV per channel instead of {step:.4g}: more than "
            f"{100 * largest_change:.0f} % off. Check which features these are, or the axis."
        )
    start = first.energy_ev - new * c1
    # E(0) and the step as functions of the two channels
    by = np.array(
        [[-c2 * new / (c2 - c1), c1 * new / (c2 - c1)], [new / (c2 - c1), -new / (c2 - c1)]]
    )
    covariance = by @ np.diag([s1**2, s2**2]) @ by.T
    return Calibration(
        Axis(start, new, "eV"),
        math.sqrt(covariance[0, 0]),
        math.sqrt(covariance[1, 1]),
        float(covariance[0, 1]),
        (c1, c2),
    )


def _find(
    total: Array, offset: float, step: float, feature: Feature, readout: float
) -> tuple[float, float]:
    """Channel of a feature and its σ."""
    name = f"the {feature.kind} at {feature.energy_ev} eV"
    middle = (feature.energy_ev - offset) / step
    reach = max(8, round(2.0 * feature.search_ev / step))
    low, high = max(0, math.floor(middle - reach)), min(len(total), math.ceil(middle + reach) + 1)
    if high - low < 16 or not low < middle < high:
        raise MeasureError(
            f"{name} does not lie on the axis from {offset:.6g} to {offset + step * (len(total) - 1):.6g} eV "
            f"with {feature.search_ev} eV to either side."
        )
    x = np.arange(low, high, dtype=np.float64)
    y = total[low:high]
    near = np.abs(x - middle) <= feature.search_ev / step + 1
    model = _peak if feature.kind == "peak" else _edge
    # the noise of a smoothed spectrum: weights by the counts themselves would pull the fit down
    smooth = np.convolve(np.pad(y, 4, mode="edge"), np.full(9, 1 / 9), mode="valid")
    sigma = np.sqrt(np.maximum(smooth, 1.0) + readout)

    def rest(theta: Array) -> Array:
        return np.asarray((y - model(x, *theta)) / sigma)

    best: tuple[Array, Array, float] | None = None
    for width in (1.5, 4.0, 10.0, 25.0):
        if width * 4 > reach and width > 1.5:
            continue
        begin = _start(x, y, near, width, feature.kind)
        fit = optimize.least_squares(rest, begin, x_scale=np.abs(begin) + 1.0, max_nfev=400)
        jacobian = np.asarray(fit.jac, np.float64)
        normal = jacobian.T @ jacobian
        if not (fit.success and np.linalg.cond(normal) < 1e14):
            continue
        chi2 = 2.0 * float(fit.cost) / len(x)
        if best is None or chi2 < best[2]:
            best = (np.asarray(fit.x), np.asarray(np.linalg.inv(normal), np.float64), chi2)
    if best is None:
        raise MeasureError(f"{name} could not be fitted. Widen search_ev, or take more spectra.")
    theta, covariance, chi2 = best
    height, error = theta[0], math.sqrt(covariance[0, 0])
    if not height > _SIGNIFICANT * error:
        raise MeasureError(
            f"{name} does not stand out: {height:.3g} ± {error:.3g} electrons. Take more spectra."
        )
    if not abs(theta[1] - middle) <= feature.search_ev / step:
        raise MeasureError(
            f"{name} was not found within {feature.search_ev} eV: the nearest lies "
            f"{(theta[1] - middle) * step:+.3g} eV off. Correct the offset first, or widen search_ev."
        )
    # at high counts no simple shape fits to the noise; what it leaves widens σ
    if chi2 > _WORST_CHI2 and height < 10.0 * math.sqrt(chi2) * float(np.median(sigma)):
        raise MeasureError(
            f"{name} has another shape: reduced χ² is {chi2:.1f}. Choose a clearer one."
        )
    return float(theta[1]), math.sqrt(covariance[1, 1] * max(chi2, 1.0))


def _start(x: Array, y: Array, near: NDArray[np.bool_], width: float, kind: str) -> list[float]:
    """Parameters to begin at: height, place, width, level, slope."""
    reach = max(1, round(width))
    sums = np.cumsum(np.pad(y, (1, 0)))

    def mean(a: NDArray[np.intp], b: NDArray[np.intp]) -> Array:
        a, b = np.clip(a, 0, len(y)), np.clip(b, 0, len(y))
        return np.asarray((sums[b] - sums[a]) / np.maximum(b - a, 1))

    at = np.arange(len(y))
    above, under = mean(at, at + 2 * reach + 1), mean(at - 2 * reach, at + 1)
    here = mean(at - reach // 2, at + reach // 2 + 1)
    rise = (
        above - under
        if kind == "edge"
        else here
        - 0.5 * (mean(at - 3 * reach, at - reach) + mean(at + reach + 1, at + 3 * reach + 1))
    )
    best = int(np.argmax(np.where(near, rise, -np.inf)))
    level = float(under[best]) if kind == "edge" else float(here[best] - rise[best])
    return [max(float(rise[best]), 1e-3), float(x[best]), width, level, 0.0] + (
        [0.0] if kind == "edge" else []
    )


def _peak(x: Array, height: float, at: float, width: float, level: float, slope: float) -> Array:
    return np.asarray(
        height * np.exp(-0.5 * np.square((x - at) / width)) + level + slope * (x - at)
    )


def _edge(
    x: Array, height: float, at: float, width: float, level: float, slope: float, after: float
) -> Array:
    step = special.ndtr((x - at) / width)
    return np.asarray(height * step + level + slope * (x - at) + after * (x - at) * step)
