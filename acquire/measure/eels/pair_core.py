"""Measures the core losses of a block of DualEELS pairs: edges, the share of Ti3+, and the O-K ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import Axis
from acquire.measure.eels.background import LOOSE_EXPONENT, SIGNIFICANT, fit_law, fit_power_law
from acquire.measure.eels.camera import Camera, axis_ev
from acquire.measure.eels.edge_shapes import EdgeShape, Losses
from acquire.measure.eels.elements import Edge
from acquire.measure.eels.faults import find_faults
from acquire.measure.eels.oxygen import (
    BACKGROUND_EV,
    NOTHING,
    ONSET_EV,
    POST_EV,
    PRE_EV,
    WEAK,
    WORST_CHI2,
    oxygen_ratio,
)
from acquire.measure.eels.pair_groups import Group, PlacedShapes, fit_group
from acquire.measure.eels.pair_rows import CoreRows
from acquire.measure.eels.reference_shapes import ti3_reference, ti4_reference
from acquire.measure.eels.references import Reference
from acquire.measure.eels.valence import PER_ATOM_EV, TI_WINDOWS_EV, ti3_fraction
from acquire.measure.eels.windows import running_sum, window_sum

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WORST_CHI2, _POOR_SIGMA = 2.0, 5.0
_OXYGEN_FLAGS = ("few_counts", "poor_fit", "out_of_range")
_NODES = np.stack(np.polynomial.legendre.leggauss(12))
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
    groups: tuple[Group, ...] = ()
    """Of overlapped edges, which are fitted together where a low loss tells the plural scattering."""


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
    losses: Losses | None = None,
    placed: Mapping[str, EdgeShape] | PlacedShapes | None = None,
) -> CorePart:
    """Edges, Ti3+ and O-K ratio of counts (n, channels), each less its own shift (n,).

    Edges are power law and window, as :func:`~acquire.measure.eels.profile.line_profile` has them
    alone, or fitted together with what lies on them where ``losses`` of these pairs are given; places
    of lines are ``placed``, or else found on these rows. σ of the share of Ti3+ holds the shift's, by
    its slope with the axis.
    """
    offset, step = axis_ev(axis, "core_loss")
    electrons = np.ascontiguousarray(camera.electrons(counts))
    faults = find_faults(
        counts, camera=camera, full_scale_counts=full_scale_counts, electrons=electrons
    ).flags
    finite = ~faults["nonfinite"]
    if not finite.all():
        electrons = np.where(finite[:, None], electrons, 0.0)
    rows = CoreRows(electrons, offset - shift_ev, step, camera.readout_variance)
    values: dict[str, tuple[Array, Array]] = {}
    flags = {name: faults[name] for name in _FAULTY}
    for name, edge in settings.edges.items():
        values[f"{name}_counts"] = _edge(rows, name, edge, name in settings.overlapped, flags)
    if losses is not None:
        _together(rows, settings, losses, placed, values, flags)
    if settings.valence:
        values["ti3_fraction"] = _valence(rows, settings, fwhm_ev, shift_sigma_ev, flags)
    if settings.oxygen:
        values["o_k_ratio"] = _oxygen(rows, flags)
    dark = np.where(finite, 0.0, np.nan)
    return CorePart({name: (v + dark, s + dark) for name, (v, s) in values.items()}, flags)


def _edge(
    rows: CoreRows, name: str, edge: Edge, overlapped: bool, flags: dict[str, Mask]
) -> tuple[Array, Array]:
    """Electrons above the background in the edge's window, and σ."""
    n = len(rows.electrons)
    freedom = max((edge.fit_ev[1] - edge.fit_ev[0]) / rows.step - 2, 1.0)
    limit = max(_WORST_CHI2, 1.0 + _POOR_SIGMA * math.sqrt(2.0 / freedom))
    flags[f"{name}_overlapped"] = np.full(n, overlapped)
    out, few = np.empty((n, 4)), np.zeros(n, bool)
    law = _law(rows, edge.fit_ev)
    if law is None:  # some row is too weak for an exponent of its own
        few = _weak_edge(rows, edge, limit, out)
    else:
        from acquire.measure.eels.pair_kernel import edge_rows

        edge_rows(
            rows.electrons, rows.offset, rows.step, law, edge.fit_ev, edge.window_ev, _NODES,
            rows.readout, limit, out,
        )  # fmt: skip
    outside = out[:, 2] > 0.0
    flags[f"{name}_out_of_range"] = outside
    flags[f"{name}_poor_fit"] = out[:, 3] > 0.0
    flags[f"{name}_few_counts"] = ~outside & (few | ~np.isfinite(out[:, 0]))
    return out[:, 0], out[:, 1]


def _together(
    rows: CoreRows,
    settings: CoreSettings,
    losses: Losses,
    placed: Mapping[str, EdgeShape] | PlacedShapes | None,
    values: dict[str, tuple[Array, Array]],
    flags: dict[str, Mask],
) -> None:
    """Put edges that are fitted together in the place of those that were taken alone."""
    if not settings.groups:
        return
    if placed is None:
        placed = PlacedShapes(settings.groups)
    if isinstance(placed, PlacedShapes):
        placed.saw(rows, losses)
        shapes: Mapping[str, EdgeShape] = placed.shapes
    else:
        shapes = placed
    for group in settings.groups:
        members = [n for n in group.edges if n in settings.overlapped]
        found, poor = fit_group(rows, group, settings.edges, members, losses, shapes)
        for name, told in found.items():
            values[f"{name}_counts"] = told
            known = np.isfinite(told[0])
            flags[f"{name}_poor_fit"] = known & poor
            flags[f"{name}_out_of_range"] = flags[f"{name}_out_of_range"] | ~known
            flags[f"{name}_few_counts"] = flags[f"{name}_few_counts"] & ~known
            flags[f"{name}_overlapped"] = ~known


def _law(rows: CoreRows, fit_ev: tuple[float, float]) -> Array | None:
    """The background of every row by itself; None where one needs an exponent that is held."""
    from acquire.measure.eels.pair_kernel import trustworthy  # numba takes half a second

    low, high = fit_ev
    law = fit_law(rows.electrons, rows.offset, rows.step, low, high, rows.readout)
    return law if trustworthy(law, rows.readout, SIGNIFICANT, LOOSE_EXPONENT) else None


def _weak_edge(rows: CoreRows, edge: Edge, worst_chi2: float, out: Array) -> Mask:
    """The same as ``edge_rows``, with exponents held where they must be; says where they are."""
    law = fit_power_law(rows.electrons, rows.offset, rows.step, *edge.fit_ev, rows.readout)
    gross = window_sum(running_sum(rows.electrons), rows.offset, rows.step, *edge.window_ev)
    under, under_sigma = law.integral(*edge.window_ev)
    beyond = rows.offset - rows.step / 2 > edge.fit_ev[0] + rows.step
    outside = beyond | ~np.isfinite(gross)
    nan = np.where(outside, np.nan, 0.0)
    channels = (edge.window_ev[1] - edge.window_ev[0]) / rows.step
    variance = np.maximum(gross, 0.0) + channels * rows.readout + under_sigma**2
    out[:, 0] = gross - under + nan
    out[:, 1] = np.sqrt(variance) + nan
    out[:, 2] = outside
    out[:, 3] = np.isfinite(out[:, 0]) & (law.chi2 > worst_chi2)
    return law.few_counts


def _valence(
    whole: CoreRows,
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


def _oxygen(whole: CoreRows, flags: dict[str, Mask]) -> tuple[Array, Array]:
    rows = whole.within(BACKGROUND_EV[0], ONSET_EV + POST_EV[1])
    law = _law(rows, BACKGROUND_EV)
    if law is None:
        found = oxygen_ratio(rows.electrons, rows.offset, rows.step, readout_variance=rows.readout)
        for flag in _OXYGEN_FLAGS:
            flags[f"o_k_ratio_{flag}"] = found.flags[flag]
        return found.ratio, found.sigma
    from acquire.measure.eels.pair_kernel import ratio_rows

    out = np.empty((len(rows.electrons), 5))
    first, second = ((ONSET_EV + low, ONSET_EV + high) for low, high in (PRE_EV, POST_EV))
    ratio_rows(
        rows.electrons, rows.offset, rows.step, law, BACKGROUND_EV, first, second, _NODES,
        rows.readout, (WEAK, NOTHING, WORST_CHI2), out,
    )  # fmt: skip
    for k, flag in enumerate(_OXYGEN_FLAGS, 2):
        flags[f"o_k_ratio_{flag}"] = out[:, k] > 0.0
    return out[:, 0], out[:, 1]
