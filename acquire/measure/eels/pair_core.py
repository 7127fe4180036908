"""Measures the core losses of a block of DualEELS pairs: edges, the share of Ti3+, and the O-K ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import Axis
from acquire.measure.eels.background import fit_power_law
from acquire.measure.eels.camera import Camera, axis_ev
from acquire.measure.eels.elements import Edge
from acquire.measure.eels.faults import find_faults
from acquire.measure.eels.oxygen import BACKGROUND_EV, ONSET_EV, POST_EV, oxygen_ratio
from acquire.measure.eels.reference_shapes import ti3_reference, ti4_reference
from acquire.measure.eels.references import Reference
from acquire.measure.eels.valence import PER_ATOM_EV, TI_WINDOWS_EV, ti3_fraction
from acquire.measure.eels.windows import running_sum, window_sum

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WORST_CHI2, _POOR_SIGMA = 2.0, 5.0
_MARGIN = 3
"""Channels to either side of a window that are passed on with it."""
_FAULTY = ("saturated", "spikes", "dead_row", "no_counts", "negative_counts", "nonfinite")
_VALENCE_FLAGS = (
    "few_counts",
    "fraction_beyond",
    "wrong_references",
    "poor_fit",
    "no_fit",
    "no_background",
    "noisy_reference",
    "out_of_range",
)


@dataclass(frozen=True, slots=True)
class CorePart:
    """Core losses of n pairs: values with σ and flags by name, each (n,); NaN where not told."""

    values: Mapping[str, tuple[Array, Array]]
    flags: Mapping[str, Mask]


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """What is measured on core losses."""

    edges: Mapping[str, Edge]
    overlapped: frozenset[str] = frozenset()
    """Edges in whose windows another edge of the specimen lies."""
    valence: bool = True
    oxygen: bool = True
    references: tuple[Reference, Reference] | None = None
    """Of Ti4+ and Ti3+; the built-in ones if None."""


def measure_core(
    counts: NDArray[Any],
    axis: Axis,
    shift_ev: Array,
    shift_sigma_ev: Array,
    settings: CoreSettings,
    *,
    fwhm_ev: float,
    camera: Camera,
    full_scale_counts: float | None = None,
) -> CorePart:
    """Edges, Ti3+ and O-K ratio of counts (n, channels), each less its own shift (n,).

    Edges are power law and window, as :func:`~acquire.measure.eels.profile.line_profile` has them
    alone. σ of the share of Ti3+ holds the shift's, by its slope with the axis.
    """
    offset, step = axis_ev(axis, "core_loss")
    faults = find_faults(counts, camera=camera, full_scale_counts=full_scale_counts).flags
    finite = ~faults["nonfinite"]
    electrons = camera.electrons(counts)
    if not finite.all():
        electrons = np.where(finite[:, None], electrons, 0.0)
    rows = _Rows(electrons, offset - shift_ev, step, camera.readout_variance)
    sums = running_sum(electrons)
    values: dict[str, tuple[Array, Array]] = {}
    flags = {name: faults[name] for name in _FAULTY}
    for name, edge in settings.edges.items():
        values[f"{name}_counts"] = _edge(rows, sums, name, edge, name in settings.overlapped, flags)
    if settings.valence:
        values["ti3_fraction"] = _valence(rows, settings, fwhm_ev, shift_sigma_ev, flags)
    if settings.oxygen:
        values["o_k_ratio"] = _oxygen(rows, flags)
    dark = np.where(finite, 0.0, np.nan)
    return CorePart({name: (v + dark, s + dark) for name, (v, s) in values.items()}, flags)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Electrons, each spectrum on its own axis less its shift."""

    electrons: Array
    offset: Array
    step: float
    readout: float

    def within(self, low_ev: float, high_ev: float) -> _Rows:
        """The channels that hold a range of energies in every spectrum; what is not there is left out."""
        channels = self.electrons.shape[1]
        first = int((low_ev - self.offset.max()) // self.step) - _MARGIN
        last = int((high_ev - self.offset.min()) // self.step) + _MARGIN + 2
        first = min(max(first, 0), channels - 8)
        last = max(min(last, channels), first + 8)
        return _Rows(
            np.ascontiguousarray(self.electrons[:, first:last]),
            self.offset + self.step * first,
            self.step,
            self.readout,
        )


def _edge(
    rows: _Rows, sums: Array, name: str, edge: Edge, overlapped: bool, flags: dict[str, Mask]
) -> tuple[Array, Array]:
    """Electrons above the background in the edge's window, and σ."""
    n = len(rows.electrons)
    law = fit_power_law(rows.electrons, rows.offset, rows.step, *edge.fit_ev, rows.readout)
    gross = window_sum(sums, rows.offset, rows.step, *edge.window_ev)
    under, under_sigma = law.integral(*edge.window_ev)
    beyond = rows.offset - rows.step / 2 > edge.fit_ev[0] + rows.step
    outside = beyond | ~np.isfinite(gross)
    nan = np.where(outside, np.nan, 0.0)
    net = gross - under + nan
    channels = (edge.window_ev[1] - edge.window_ev[0]) / rows.step
    variance = np.maximum(gross, 0.0) + channels * rows.readout + under_sigma**2
    freedom = max((edge.fit_ev[1] - edge.fit_ev[0]) / rows.step - 2, 1.0)
    limit = max(_WORST_CHI2, 1.0 + _POOR_SIGMA * float(np.sqrt(2.0 / freedom)))
    told = np.isfinite(net)
    flags[f"{name}_out_of_range"] = np.asarray(outside)
    flags[f"{name}_poor_fit"] = told & (law.chi2 > limit)
    flags[f"{name}_few_counts"] = ~outside & (law.few_counts | ~told)
    flags[f"{name}_overlapped"] = np.full(n, overlapped)
    return net, np.sqrt(variance) + nan


def _valence(
    whole: _Rows,
    settings: CoreSettings,
    fwhm_ev: float,
    shift_sigma_ev: Array,
    flags: dict[str, Mask],
) -> tuple[Array, Array]:
    pair = settings.references or (ti4_reference(fwhm_ev), ti3_reference(fwhm_ev))
    rows = whole.within(TI_WINDOWS_EV[0][0], TI_WINDOWS_EV[-1][1])
    found = ti3_fraction(
        rows.electrons, rows.offset, rows.step, references=pair, readout_variance=rows.readout
    )
    for flag in _VALENCE_FLAGS:
        flags[f"ti3_{flag}"] = found.flags[flag]
    known = np.where(np.isfinite(shift_sigma_ev), shift_sigma_ev, 0.0)
    at_0, at_1 = shift_slopes(pair, rows.step)
    slope = at_0 + (at_1 - at_0) * np.clip(found.fraction, 0.0, 1.0)
    return found.fraction, np.hypot(found.sigma, slope * known)


@lru_cache(maxsize=8)
def shift_slopes(pair: tuple[Reference, Reference], step_ev: float) -> tuple[float, float]:
    """How much the share of Ti3+ changes per eV that an axis lies too high, for pure Ti4+ and pure Ti3+.

    By fitting the references themselves, moved, over a background of a tenth of their peak.
    """
    by = 0.05
    low = TI_WINDOWS_EV[0][0] - 2.0
    channels = int((TI_WINDOWS_EV[-1][1] + 2.0 - low) / step_ev)
    energy = low + step_ev * np.arange(channels)
    slopes = []
    for reference in pair:
        scaled = reference.normalised(*PER_ATOM_EV)
        edge = np.nan_to_num(scaled.on(low, step_ev, channels)[0])
        mean = 1e6 * (edge + 0.1 * edge.max() * (energy / energy[-1]) ** -3.0)
        moved = np.array([low - by, low + by])
        fraction = ti3_fraction(np.stack([mean, mean]), moved, step_ev, references=pair).fraction
        slopes.append(float(fraction[1] - fraction[0]) / (2 * by))
    return slopes[0], slopes[1]


def _oxygen(whole: _Rows, flags: dict[str, Mask]) -> tuple[Array, Array]:
    rows = whole.within(BACKGROUND_EV[0], ONSET_EV + POST_EV[1])
    found = oxygen_ratio(rows.electrons, rows.offset, rows.step, readout_variance=rows.readout)
    for flag in ("few_counts", "poor_fit", "out_of_range"):
        flags[f"o_k_ratio_{flag}"] = found.flags[flag]
    return found.ratio, found.sigma
