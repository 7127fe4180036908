"""Tells the centroid of Ti-L2,3, which moves down as Ti4+ turns into Ti3+."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from acquire.measure.eels.background import PowerLaw
from acquire.measure.eels.windows import running_sum, window_sum

Array = NDArray[np.float64]

TI_CENTROID_EV = (454.0, 470.0)
"""Window of the centroid."""
_SIGNIFICANT = 5.0


def ti_centroid(
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    law: PowerLaw | None,
    readout_variance: float,
) -> tuple[Array, Array]:
    """Centroid of Ti-L2,3 above background and its σ, in eV; NaN without a background or below 5 σ.

    Args:
        electrons: (n, channels), finite.
        offset_ev: (n,) energy of the first channel's centre.
        step_ev: width of a channel.
        law: the background under Ti-L; None if it was not fitted.
        readout_variance: e-² per channel.
    """
    n, channels = electrons.shape
    if law is None:
        nan = np.full(n, np.nan)
        return nan, nan.copy()
    low, high = TI_CENTROID_EV
    middle = 0.5 * (low + high)
    relative = offset_ev[:, None] + step_ev * np.arange(channels) - middle
    sums = running_sum(electrons)
    first = running_sum(electrons * relative)
    second = running_sum(electrons * relative**2)
    n0, n1, n2 = (window_sum(s, offset_ev, step_ev, low, high) for s in (sums, first, second))
    b0, _ = law.integral(np.full(n, low), np.full(n, high))
    b1, _ = law.moment(low, high, np.full(n, middle))
    net = n0 - b0
    safe = np.where(net > 0, net, np.nan)
    shift = (n1 - b1) / safe
    # Σ (E - c)² n, from the moments about the middle, plus the readout noise's own
    spread = np.maximum(n2 - 2 * shift * n1 + shift**2 * n0, 0.0)
    width = high - low
    spread += readout_variance * width / step_ev * (width**2 / 12 + shift**2)
    _, by_law = law.moment(low, high, middle + shift)
    sigma = np.sqrt(spread + by_law**2) / safe
    # below 5 σ a centroid is noise
    weak = ~(net > _SIGNIFICANT * np.sqrt(np.maximum(n0, 1.0)))
    return np.where(weak, np.nan, middle + shift), np.where(weak, np.nan, sigma)
