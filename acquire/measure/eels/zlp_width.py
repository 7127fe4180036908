"""Measures the shape of the zero-loss peak on many spectra, each at its own position."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquire.measure.eels.zlp_shape import WINGS, ZeroLossShape, fitted

Array = NDArray[np.float64]

_WIDEST_PX = 25.0
"""Widths are first measured within 40 channels to either side of the peak."""
_MOST_ROWS = 256
_REACH = 3.0
"""Window on either side, in FWHM: the wings are told apart from the core there."""
_ROUNDS = 12
_SMALL = 1e-4
_PRIOR = np.array([1.0, 1.0, 0.4, 0.4])
"""σ of what is believed beforehand of log width, logit of twice the wings, log of the wings' width over
the core's, and asymmetry: only thousands of electrons move the last three."""


def fit_shape(
    electrons: Array, step_ev: float, readout_variance: float, asymmetric: bool = False
) -> ZeroLossShape:
    """The shape that maximises the likelihood of rows (n, channels) with positions and heights free.

    Gauss-Newton in the four parameters; what a position or a height of a row could explain is
    projected out of each row (variable projection), so that they need no columns of their own.
    """
    fwhm = measured_fwhm(electrons) if len(electrons) else 3.0
    shape = ZeroLossShape(fwhm * step_ev)
    rows = electrons[:: max(1, math.ceil(len(electrons) / _MOST_ROWS))]
    theta = np.array([math.log(fwhm), _logit(WINGS), 0.0, 0.0])
    centre = theta.copy()
    free = [0, 1, 2, 3] if asymmetric else [0, 1, 2]
    for _ in range(_ROUNDS):
        step = _step(rows, theta, centre, free, step_ev, readout_variance)
        if step is None:
            break
        theta[free] += np.clip(step, -0.3, 0.3)
        theta[0] = np.clip(theta[0], math.log(0.5 * fwhm), math.log(2.0 * fwhm))
        theta[1:] = np.clip(theta[1:], (-6.0, -1.2, -0.7), (1.2, 1.5, 0.7))
        if np.abs(step).max() < _SMALL:
            break
        shape = _shape(theta, step_ev)
    return shape


def _step(
    electrons: Array,
    theta: Array,
    centre: Array,
    free: list[int],
    step_ev: float,
    readout_variance: float,
) -> Array | None:
    shape = _shape(theta, step_ev)
    width = shape.fwhm_ev / step_ev
    half = max(3, math.ceil(_REACH * width))
    channels = electrons.shape[1]
    half = min(half, (channels - 3) // 2)
    if half < max(2.0, 1.2 * width):
        return None
    found = fitted(electrons, shape, step_ev, half, readout_variance)
    position, height, per_height = found[:, 0], found[:, 2], found[:, 3]
    good = (position > half) & (position < channels - 1 - half)
    good &= (height > 20.0) & (height * per_height > 8.0)
    if not good.any():
        return None
    position, height = position[good, None], height[good, None]
    middle = found[good, 7].astype(np.intp)
    at = middle[:, None] + np.arange(-half, half + 1)
    data = np.take_along_axis(electrons[good], at, axis=1)
    distance = (at - position) * step_ev
    share, slope = shape.in_channels(distance, step_ev)
    root = 1.0 / np.sqrt(height * share + readout_variance + 1e-9)
    nuisance = np.stack([share * root, height * slope * root], axis=2)
    basis, _ = np.linalg.qr(nuisance)

    def apart(values: Array) -> Array:
        inside = np.einsum("nkb,nk->nb", basis, values)
        return np.asarray(values - np.einsum("nkb,nb->nk", basis, inside))

    rest = apart((data - height * share) * root)
    columns = []
    for k in free:
        moved = []
        for sign in (1.0, -1.0):
            other = theta.copy()
            other[k] += sign * _SMALL
            moved.append(_shape(other, step_ev).in_channels(distance, step_ev)[0])
        columns.append(apart(height * (moved[0] - moved[1]) / (2 * _SMALL) * root).ravel())
    jacobian = np.stack(columns, axis=1)
    weight = 1.0 / _PRIOR[free] ** 2
    normal = jacobian.T @ jacobian + np.diag(weight)
    score = jacobian.T @ rest.ravel() - weight * (theta - centre)[free]
    return np.asarray(np.linalg.solve(normal, score))


def _shape(theta: Array, step_ev: float) -> ZeroLossShape:
    fwhm = math.exp(theta[0]) * step_ev
    wings = 0.5 / (1.0 + math.exp(-theta[1]))
    return ZeroLossShape(fwhm, wings, fwhm * math.exp(theta[2]), float(theta[3]))


def _logit(wings: float) -> float:
    return math.log(2.0 * wings / (1.0 - 2.0 * wings))


def measured_fwhm(electrons: Array) -> float:
    """Full width at half maximum, in channels, of the sum of all spectra laid peak on peak.

    Where the peak is wider than the window it is measured in, channels are summed by fours.
    """
    width = _fwhm_near(electrons, _first_position(electrons))
    if width < _WIDEST_PX or electrons.shape[1] < 256:
        return width
    whole = electrons[:, : electrons.shape[1] // 4 * 4]
    return 4.0 * measured_fwhm(whole.reshape(len(whole), -1, 4).sum(axis=2))


def _first_position(electrons: Array) -> NDArray[np.intp]:
    """Channel of the highest mean of five: one hot channel does not win over a peak."""
    sums = np.cumsum(np.pad(electrons, ((0, 0), (3, 2))), axis=1)
    return np.asarray(np.argmax(sums[:, 5:] - sums[:, :-5], axis=1))


def _fwhm_near(electrons: Array, first: NDArray[np.intp]) -> float:
    typical = int(np.median(first))
    reach = max(3, min(40, typical - 2, electrons.shape[1] - 3 - typical))
    middle = np.clip(first, reach, electrons.shape[1] - 1 - reach)
    window = middle[:, None] + np.arange(-reach, reach + 1)
    cut = np.take_along_axis(electrons, window, axis=1)
    weight = np.maximum(cut, 0.0) * (np.abs(np.arange(-reach, reach + 1)) <= 12)
    centroid = (weight * window).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    middle = np.clip(np.rint(centroid).astype(np.intp), reach, electrons.shape[1] - 1 - reach)
    window = middle[:, None] + np.arange(-reach, reach + 1)
    mean = np.take_along_axis(electrons, window, axis=1).sum(axis=0)
    top = int(np.argmax(mean))
    half = 0.5 * mean[top]
    left = top - _crossing(mean[top::-1], half)
    right = top + _crossing(mean[top:], half)
    # the template integrates over channels itself; that and the alignment widen by 1/12 channel² each
    own = (right - left) ** 2 - 8.0 * math.log(2.0) / 6.0
    return float(np.clip(math.sqrt(max(own, 0.5)), 0.7, reach))


def _crossing(falling: Array, level: float) -> float:
    under = np.flatnonzero(falling < level)
    if under.size == 0:
        return float(len(falling))
    k = int(under[0])
    drop = falling[k - 1] - falling[k]
    return float(k - 1 + (falling[k - 1] - level) / drop) if drop > 0 else float(k)
