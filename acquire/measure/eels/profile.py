"""Turns a DualEELS line scan into edge integrals, energy shifts and a first sign of valence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels.background import PowerLaw, fit_power_law
from acquire.measure.eels.camera import Camera, axis_ev, spectra
from acquire.measure.eels.windows import running_sum, window_sum
from acquire.measure.eels.zlp import find_zero_loss

_WORST_CHI2 = 2.0


@dataclass(frozen=True, slots=True)
class Edge:
    """Where an edge is integrated and where its background is fitted, in eV of energy loss."""

    fit_ev: tuple[float, float]
    window_ev: tuple[float, float]


EDGES: Mapping[str, Edge] = MappingProxyType(
    {
        "ti_l": Edge(fit_ev=(410.0, 450.0), window_ev=(456.0, 480.0)),
        "o_k": Edge(fit_ev=(500.0, 527.0), window_ev=(532.0, 550.0)),
    }
)
"""Ti-L2,3 and O-K; the background of O-K is fitted on the tail of Ti-L."""

TI_CENTROID_EV = (454.0, 470.0)
"""Window of the centroid of Ti-L2,3, which moves down as Ti4+ turns into Ti3+."""


@dataclass(frozen=True, slots=True)
class EdgeProfile:
    """One edge along the line, in electrons above background; NaN where it could not be told."""

    electrons: NDArray[np.float64]
    sigma: NDArray[np.float64]
    background: NDArray[np.float64]
    exponent: NDArray[np.float64]
    chi2: NDArray[np.float64]
    """Reduced χ² of the background in its fit window."""


@dataclass(frozen=True, slots=True)
class LineProfile:
    """A line scan point by point; every array is (points,)."""

    edges: Mapping[str, EdgeProfile]
    shift_ev: NDArray[np.float64]
    """Zero-loss position that was taken off the core-loss axis; 0 where it is unknown."""
    shift_sigma_ev: NDArray[np.float64]
    """NaN where the shift is unknown."""
    ti_l_centroid_ev: NDArray[np.float64]
    ti_l_centroid_sigma_ev: NDArray[np.float64]
    flags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Per point: ``no_zero_loss``, ``nonfinite``, ``saturated``, ``poor_fit``, ``out_of_range``."""


def line_profile(
    core_loss: NDArray[Any],
    core_axis: Axis,
    low_loss: NDArray[Any] | None = None,
    low_axis: Axis | None = None,
    *,
    camera: Camera | None = None,
    edges: Mapping[str, Edge] = EDGES,
    fwhm_ev: float | None = None,
    full_scale_counts: float | None = None,
) -> LineProfile:
    """Measure core-loss spectra (points, channels), each with the low loss recorded beside it.

    Every spectrum keeps its own energy axis, ``core_axis`` less its zero-loss position: counts are
    never resampled. σ holds the electrons' statistics, the readout noise and the background's fit
    with its extrapolation; the shift's σ is given separately. ``fwhm_ev`` is the zero-loss width,
    measured if None. Counts at ``full_scale_counts`` and above are saturated.

    Raises:
        MeasureError: shapes that do not belong together, no energy axis, a window of no width.
    """
    camera = camera or Camera()
    rows = spectra(core_loss, "core_loss")
    offset, step = axis_ev(core_axis, "core_loss")
    _check_edges(edges)
    shift, shift_sigma = _shifts(rows, low_loss, low_axis, camera, fwhm_ev)
    known = np.isfinite(shift)
    shift = np.where(known, shift, 0.0)
    electrons = camera.electrons(rows)
    finite = np.asarray(np.isfinite(electrons).all(axis=1))
    electrons = np.where(finite[:, None], electrons, 0.0)
    offsets = offset - shift
    # Poisson variance is estimated by the counts themselves, summed over a window
    signal_sums = running_sum(electrons)
    measured: dict[str, EdgeProfile] = {}
    laws: dict[str, PowerLaw] = {}
    outside = np.zeros(len(rows), bool)
    poor = np.zeros(len(rows), bool)
    for name, edge in edges.items():
        law = fit_power_law(electrons, offsets, step, *edge.fit_ev, camera.readout_variance)
        beyond = (offsets - step / 2 > edge.fit_ev[0] + step) | ~finite
        laws[name] = law
        gross = window_sum(signal_sums, offsets, step, *edge.window_ev)
        under, under_sigma = law.integral(*(np.full(len(rows), e) for e in edge.window_ev))
        channels = (edge.window_ev[1] - edge.window_ev[0]) / step
        variance = np.maximum(gross, 0.0) + channels * camera.readout_variance
        nan = np.where(beyond, np.nan, 0.0)
        net = gross - under + nan
        sigma = np.sqrt(variance + under_sigma**2) + nan
        measured[name] = EdgeProfile(net, sigma, under + nan, law.exponent, law.chi2)
        outside |= ~np.isfinite(net) & finite
        poor |= law.chi2 > _WORST_CHI2
    centroid, centroid_sigma = _ti_centroid(
        electrons, offsets, step, laws.get("ti_l"), camera.readout_variance
    )
    full = np.zeros(len(rows), bool)
    if full_scale_counts is not None:
        full = np.asarray((rows >= full_scale_counts).any(axis=1))
    return LineProfile(
        measured,
        shift,
        np.where(known, shift_sigma, np.nan),
        np.where(finite, centroid, np.nan),
        np.where(finite, centroid_sigma, np.nan),
        {
            "no_zero_loss": ~known,
            "nonfinite": ~finite,
            "saturated": full,
            "poor_fit": poor,
            "out_of_range": outside,
        },
    )


def _shifts(
    rows: NDArray[Any],
    low_loss: NDArray[Any] | None,
    low_axis: Axis | None,
    camera: Camera,
    fwhm_ev: float | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if low_loss is None:
        nan = np.full(len(rows), np.nan)
        return nan, nan.copy()
    if low_axis is None:
        raise MeasureError("low_loss came without low_axis. Pass the axis of the low-loss channel.")
    low = spectra(low_loss, "low_loss")
    if len(low) != len(rows):
        raise MeasureError(
            f"{len(low)} low-loss spectra do not belong to {len(rows)} core-loss spectra. "
            "Pass one for each point."
        )
    found = find_zero_loss(low, low_axis, camera, fwhm_ev)
    return found.position_ev, found.sigma_ev


def _ti_centroid(
    electrons: NDArray[np.float64],
    offsets: NDArray[np.float64],
    step: float,
    law: PowerLaw | None,
    readout_variance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centroid of Ti-L2,3 above background and its σ, in eV."""
    n, channels = electrons.shape
    if law is None:
        nan = np.full(n, np.nan)
        return nan, nan.copy()
    low, high = TI_CENTROID_EV
    middle = 0.5 * (low + high)
    relative = offsets[:, None] + step * np.arange(channels) - middle
    sums = running_sum(electrons)
    first = running_sum(electrons * relative)
    second = running_sum(electrons * relative**2)
    n0, n1, n2 = (window_sum(s, offsets, step, low, high) for s in (sums, first, second))
    b0, _ = law.integral(np.full(n, low), np.full(n, high))
    b1, _ = law.moment(low, high, np.full(n, middle))
    net = n0 - b0
    safe = np.where(net > 0, net, np.nan)
    shift = (n1 - b1) / safe
    # Σ (E - c)² n, from the moments about the middle, plus the readout noise's own
    spread = np.maximum(n2 - 2 * shift * n1 + shift**2 * n0, 0.0)
    width = high - low
    spread += readout_variance * width / step * (width**2 / 12 + shift**2)
    _, by_law = law.moment(low, high, middle + shift)
    sigma = np.sqrt(spread + by_law**2) / safe
    # below 5 σ a centroid is noise
    weak = ~(net > 5 * np.sqrt(np.maximum(n0, 1.0)))
    return np.where(weak, np.nan, middle + shift), np.where(weak, np.nan, sigma)


def _check_edges(edges: Mapping[str, Edge]) -> None:
    for name, edge in edges.items():
        for low, high in (edge.fit_ev, edge.window_ev):
            if not 0 < low < high < np.inf:
                raise MeasureError(
                    f"the edge {name!r} has a window from {low} to {high} eV: "
                    "it must be of positive energies and a positive width."
                )
