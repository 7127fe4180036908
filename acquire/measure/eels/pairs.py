"""Measures everything of a block of DualEELS pairs in one call, with shapes that were measured once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels.camera import Camera, axis_ev, spectra
from acquire.measure.eels.edge_shapes import EdgeShape
from acquire.measure.eels.elements import EDGE_TABLE, Edge, chosen, edges_on, overlaps
from acquire.measure.eels.oxygen import BACKGROUND_EV, ONSET_EV, POST_EV
from acquire.measure.eels.pair_core import CoreSettings, measure_core
from acquire.measure.eels.pair_groups import PlacedShapes, groups_of, partners
from acquire.measure.eels.pair_low import (
    LowPart,
    PairShapes,
    losses_of,
    measure_low,
    measure_shapes,
)
from acquire.measure.eels.references import Reference
from acquire.measure.eels.valence import TI_WINDOWS_EV

__all__ = ["PairSettings", "PairShapes", "Pairs", "measure_pairs", "measure_shapes"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Follow = Callable[[Array, Array], tuple[Array, Array]]
"""Makes shifts of the core losses (n,) and their σ of zero-loss positions (n, reads) and theirs."""

USUAL_EDGES = ("ti_l", "o_k", "ni_l")
USUAL_FWHM_EV = 0.6
"""Of the zero-loss peak, where there is no low loss to tell it."""
_ROOM_EV = 1.0
"""A window that lacks so much at an end of the axis may be on it once that is shifted."""


@dataclass(frozen=True, slots=True)
class PairSettings:
    """What is measured, and with which references."""

    edges: Mapping[str, Edge] | Iterable[str] | None = None
    """Names of the table, or edges with windows of your own by name; None: those of
    :data:`USUAL_EDGES` that lie on the axis."""
    elements: frozenset[str] | None = frozenset()
    """Symbols of what else the specimen holds: their edges may be in the way. None: not known, so that
    of edges that can be fitted together (Ni-L with La-M) the other is taken to be there."""
    references: tuple[Reference, Reference] | None = None
    """Of Ti4+ and Ti3+, without background; the built-in ones if None."""
    fwhm_ev: float | None = None
    """Of the zero-loss peak; measured if None."""
    full_scale_counts: float | None = None

    def on(self, axis: Axis, channels: int) -> CoreSettings:
        """What of it lies on a core-loss axis.

        Raises:
            MeasureError: no energy axis, or an edge that the table does not hold.
        """
        offset, step = axis_ev(axis, "core_loss")
        low, high = offset - _ROOM_EV, offset + step * (channels - 1) + _ROOM_EV
        table = {name: EDGE_TABLE[name] for name in USUAL_EDGES}
        edges = edges_on(low, high, table) if self.edges is None else chosen(self.edges)
        others = partners(edges, low, high) if self.elements is None else self.elements
        held = {edge.element for edge in edges.values() if edge.element} | others
        disturbed = frozenset(
            name
            for name, edge in edges.items()
            if any(overlap.kind != "tail" for overlap in overlaps(name, edge, held))
        )
        return CoreSettings(
            edges,
            disturbed,
            low <= TI_WINDOWS_EV[0][0] and TI_WINDOWS_EV[-1][1] <= high,
            low <= BACKGROUND_EV[0] and ONSET_EV + POST_EV[1] <= high,
            self.references,
            groups_of({name: edges[name] for name in disturbed}, low, high),
        )


@dataclass(frozen=True, slots=True)
class Pairs:
    """What n pairs tell."""

    values: Mapping[str, tuple[Array, Array]]
    """(n,) and σ by name, NaN where not told: ``EDGE_counts`` (electrons above background),
    ``ti3_fraction``, ``o_k_ratio``; with low losses also ``zero_loss_position`` (eV, on the axis as
    given, mean of the reads), ``energy_shift`` (eV, taken off the axes), ``zero_loss_counts``
    (electrons of the peak) and ``relative_thickness`` (t/λ)."""
    flags: Mapping[str, Mask]
    """(n,) by name; see :func:`measure_pairs`."""

    @property
    def flagged(self) -> tuple[tuple[str, ...], ...]:
        """Names of the flags that each pair has."""
        if not self.flags:
            return ()
        names = tuple(self.flags)
        table = np.stack(list(self.flags.values()), axis=1)
        return tuple(tuple(names[k] for k in np.flatnonzero(row)) for row in table)


def measure_pairs(
    core_loss: NDArray[Any],
    core_axis: Axis,
    low_loss: NDArray[Any] | None = None,
    low_axis: Axis | None = None,
    *,
    camera: Camera | None = None,
    settings: PairSettings | CoreSettings | None = None,
    shapes: PairShapes | None = None,
    follow: Follow | None = None,
    full_scale_counts: float | None = None,
    placed: Mapping[str, EdgeShape] | PlacedShapes | None = None,
) -> Pairs:
    """Measure core losses (n, channels) with the low losses (n[, reads], channels) beside them.

    Flags. Of the pair: ``no_low_loss`` (the shift is taken as 0), ``no_zero_loss``,
    ``poor_zero_loss`` (another shape than the template), ``low_loss_saturated`` (or clipped),
    ``low_loss_faulty``, ``low_loss_spikes``, ``truncated_range`` and ``too_thick`` (of t/λ); of the
    core loss: ``saturated``, ``spikes``, ``dead_row``, ``no_counts``, ``negative_counts``,
    ``nonfinite`` (:func:`~acquire.measure.eels.faults.find_faults`). Of one quantity, after its name:
    ``EDGE_poor_fit``, ``EDGE_out_of_range``, ``EDGE_few_counts``, ``EDGE_overlapped`` (another edge of
    the specimen is in its windows, and they could not be fitted together);
    ``ti3_…`` as :class:`~acquire.measure.eels.valence.Valence` has them; ``o_k_ratio_…``.

    Args:
        core_loss: counts.
        core_axis: of energies.
        low_loss: counts.
        low_axis: of energies.
        camera: what lies between counts and electrons.
        settings: what is measured; made for an axis once (:meth:`PairSettings.on`) it saves a live
            estimator the choice.
        shapes: of the zero-loss peak; measured on these pairs if None.
        follow: makes shifts of zero-loss positions, as a filter does; the mean of the reads if None.
        full_scale_counts: counts from here on are saturated; the settings' own otherwise.
        placed: where the lines of edges lie that are fitted together; found on these pairs if None.

    Raises:
        MeasureError: shapes that do not belong together, no energy axis, no zero-loss peak to
            measure a shape on.
    """
    camera = camera or Camera()
    rows = spectra(core_loss, "core_loss")
    n = len(rows)
    settings = settings or PairSettings()
    fwhm, full_scale = USUAL_FWHM_EV, full_scale_counts
    if isinstance(settings, PairSettings):
        full_scale = settings.full_scale_counts if full_scale is None else full_scale
        fwhm = settings.fwhm_ev or fwhm
        chosen_here = settings.on(core_axis, rows.shape[1])
    else:
        chosen_here = settings
    values: dict[str, tuple[Array, Array]] = {}
    shift, shift_sigma = np.zeros(n), np.full(n, np.nan)
    losses = None
    if low_loss is None:
        flags: dict[str, Mask] = {"no_low_loss": np.ones(n, bool)}
    else:
        if low_axis is None:
            raise MeasureError("low_loss came without low_axis. Pass the low-loss channel's axis.")
        if shapes is None:
            given = settings.fwhm_ev if isinstance(settings, PairSettings) else None
            shapes = measure_shapes(low_loss, low_axis, camera=camera, fwhm_ev=given)
        fwhm = shapes.zero_loss.fwhm_ev
        low = measure_low(low_loss, low_axis, shapes, camera=camera, full_scale_counts=full_scale)
        if len(low.zero_loss) != n:
            raise MeasureError(
                f"{len(low.zero_loss)} low losses do not belong to {n} core losses. Pass one for each."
            )
        position = _mean_position(low)
        found = position if follow is None else follow(low.position_ev, low.sigma_ev)
        known = np.isfinite(found[0])
        shift, shift_sigma = np.where(known, found[0], 0.0), np.where(known, found[1], np.nan)
        values |= {
            "zero_loss_position": position,
            "energy_shift": (np.where(known, shift, np.nan), shift_sigma),
            "zero_loss_counts": (low.zero_loss, low.zero_loss_sigma),
            "relative_thickness": (low.relative_thickness, low.relative_thickness_sigma),
        }
        flags = dict(low.flags)
        if chosen_here.groups:
            losses = losses_of(low_loss, low_axis, low, shapes, camera)
    core = measure_core(
        rows,
        core_axis,
        shift,
        shift_sigma,
        chosen_here,
        fwhm_ev=fwhm,
        camera=camera,
        full_scale_counts=full_scale,
        losses=losses,
        placed=placed,
    )
    return Pairs(values | dict(core.values), flags | dict(core.flags))


def _mean_position(low: LowPart) -> tuple[Array, Array]:
    """Of the reads of each pair, weighted alike, for they differ by jitter; σ is that of their electrons."""
    known = np.isfinite(low.position_ev)
    count = np.maximum(known.sum(axis=1), 1)
    nan = np.where(known.any(axis=1), 0.0, np.nan)
    mean = np.where(known, low.position_ev, 0.0).sum(axis=1) / count + nan
    spread = np.sqrt((np.where(known, low.sigma_ev, 0.0) ** 2).sum(axis=1)) / count + nan
    return mean, spread
