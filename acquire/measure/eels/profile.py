"""Turns a DualEELS line scan into edge integrals, energy shifts and a first sign of valence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import Axis
from acquire.measure.eels.background import PowerLaw, fit_power_law
from acquire.measure.eels.camera import Camera, axis_ev, spectra
from acquire.measure.eels.centroid import ti_centroid
from acquire.measure.eels.edge_shapes import TOGETHER
from acquire.measure.eels.elements import EDGES, Edge, Overlap, chosen, overlaps
from acquire.measure.eels.pairing import Pairing, pair_with
from acquire.measure.eels.together import fit_together
from acquire.measure.eels.windows import running_sum, window_sum

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WORST_CHI2, _WORST_TOGETHER = 2.0, 1.5
_POOR_SIGMA = 5.0


@dataclass(frozen=True, slots=True)
class EdgeProfile:
    """One edge along the line, in electrons above background; NaN where it could not be told."""

    electrons: Array
    sigma: Array
    background: Array
    """Under the edge: power law, and what other edges have there if they were fitted together."""
    exponent: Array
    chi2: Array
    """Reduced χ² of the background in its fit window, or of edges that were fitted together."""
    flags: Mapping[str, Mask] = field(default_factory=dict)
    """Per point: ``poor_fit``, ``out_of_range``, ``no_counts``, ``few_counts``, ``overlapped``."""
    overlaps: tuple[Overlap, ...] = ()
    """Edges of the same specimen that are in the way."""
    together: tuple[str, ...] = ()
    """Edges that were fitted together with this one."""


@dataclass(frozen=True, slots=True)
class LineProfile:
    """A line scan point by point; every array is (points,)."""

    edges: Mapping[str, EdgeProfile]
    shift_ev: Array
    """Zero-loss position that was taken off the core-loss axis; 0 where it is unknown."""
    shift_sigma_ev: Array
    """NaN where the shift is unknown."""
    ti_l_centroid_ev: Array
    ti_l_centroid_sigma_ev: Array
    flags: Mapping[str, Mask] = field(default_factory=dict)
    """Per point: ``no_zero_loss``, ``nonfinite``, ``saturated``, and what any edge is flagged with."""

    def counted_flags(self) -> dict[str, int]:
        """Points by flag, those of edges as ``poor_fit o_k``; flags that no point has are left out."""
        found = {}
        for name in ("no_zero_loss", "nonfinite", "saturated"):
            if name in self.flags:
                found[name] = int(self.flags[name].sum())
        for edge, measured in self.edges.items():
            found |= {f"{name} {edge}": int(mask.sum()) for name, mask in measured.flags.items()}
        return {name: count for name, count in found.items() if count}


def line_profile(
    core_loss: NDArray[Any],
    core_axis: Axis,
    low_loss: NDArray[Any] | None = None,
    low_axis: Axis | None = None,
    *,
    camera: Camera | None = None,
    edges: Mapping[str, Edge] | Iterable[str] = EDGES,
    elements: Iterable[str] = (),
    fwhm_ev: float | None = None,
    full_scale_counts: float | None = None,
) -> LineProfile:
    """Measure core-loss spectra (points, channels), each with the low loss recorded beside it.

    Every spectrum keeps its own energy axis, ``core_axis`` less its zero-loss position: counts are
    never resampled. ``low_loss`` is (points, channels), or (points, reads, channels) where several
    reads lie in one core-loss dwell: the mean of their positions counts then. σ holds the electrons'
    statistics, the readout noise and the background's fit with its extrapolation; the shift's σ is
    given separately.

    An edge whose windows hold another edge of the specimen (:func:`~acquire.measure.eels.elements.overlaps`)
    is fitted together with it where their shapes are known (La-M with Ni-L, Ta-M3 with Zr-L), for which
    the low loss must tell the plural scattering; else it is flagged ``overlapped``.

    Args:
        core_loss: counts.
        core_axis: of energies.
        low_loss: counts; without it the shift is taken as 0, and flagged.
        low_axis: of energies.
        camera: what lies between counts and electrons.
        edges: to be measured: names of the table, or edges with windows of your own by name.
        elements: symbols of what else the specimen holds; those of the edges are known.
        fwhm_ev: the zero-loss width, measured if None.
        full_scale_counts: counts from here on are saturated.

    Raises:
        MeasureError: shapes that do not belong together, no energy axis, a window of no width, an
            edge that the table does not hold.
    """
    camera = camera or Camera()
    rows = spectra(core_loss, "core_loss")
    offset, step = axis_ev(core_axis, "core_loss")
    wanted = chosen(edges)
    pairing = pair_with(len(rows), low_loss, low_axis, camera, fwhm_ev, full_scale_counts)
    known = np.isfinite(pairing.shift_ev)
    shift = np.where(known, pairing.shift_ev, 0.0)
    electrons = camera.electrons(rows)
    finite = np.asarray(np.isfinite(electrons).all(axis=1))
    scan = _Scan(
        np.where(finite[:, None], electrons, 0.0), offset - shift, step, finite, camera, pairing
    )
    held = {edge.element for edge in wanted.values() if edge.element} | set(elements)
    disturbed = {name: overlaps(name, edge, held) for name, edge in wanted.items()}
    measured: dict[str, EdgeProfile] = {}
    law: PowerLaw | None = None
    for name, edge in wanted.items():
        measured[name], own = scan.alone(edge, disturbed[name])
        law = own if name == "ti_l" else law
    for group, range_ev in TOGETHER:
        members = [name for name in group if _in_the_way(disturbed.get(name, ()), group)]
        if members:
            measured |= scan.together(members, group, range_ev, wanted, measured)
    centroid, centroid_sigma = ti_centroid(
        scan.electrons, scan.offsets, step, law, camera.readout_variance
    )
    full = pairing.saturated.copy()
    if full_scale_counts is not None:
        full |= np.asarray((rows >= full_scale_counts).any(axis=1))
    return LineProfile(
        measured,
        shift,
        np.where(known, pairing.shift_sigma_ev, np.nan),
        np.where(finite, centroid, np.nan),
        np.where(finite, centroid_sigma, np.nan),
        {
            "no_zero_loss": ~known,
            "nonfinite": ~finite,
            "saturated": full,
            **_any_of(measured, len(rows)),
        },
    )


@dataclass(frozen=True, slots=True)
class _Scan:
    """Electrons of all points, each with its own axis."""

    electrons: Array
    offsets: Array
    step: float
    finite: Mask
    camera: Camera
    pairing: Pairing

    def alone(self, edge: Edge, disturbed: tuple[Overlap, ...]) -> tuple[EdgeProfile, PowerLaw]:
        """One edge above a power law."""
        readout, n = self.camera.readout_variance, len(self.electrons)
        law = fit_power_law(self.electrons, self.offsets, self.step, *edge.fit_ev, readout)
        # a fit window that is cut by the begin of the axis is too short to be trusted
        beyond = self.offsets - self.step / 2 > edge.fit_ev[0] + self.step
        # Poisson variance is estimated by the counts themselves, summed over a window
        gross = window_sum(running_sum(self.electrons), self.offsets, self.step, *edge.window_ev)
        under, under_sigma = law.integral(*(np.full(n, e) for e in edge.window_ev))
        channels = (edge.window_ev[1] - edge.window_ev[0]) / self.step
        variance = np.maximum(gross, 0.0) + channels * readout
        nan = np.where(beyond | ~self.finite, np.nan, 0.0)
        net = gross - under + nan
        freedom = max((edge.fit_ev[1] - edge.fit_ev[0]) / self.step - 2, 1.0)
        outside = (beyond | ~np.isfinite(gross)) & self.finite
        few = law.few_counts if law.few_counts.size else np.zeros(n, bool)
        hard = any(o.kind != "tail" for o in disturbed)
        flags = {
            "poor_fit": self.finite & ~outside & (law.chi2 > _limit(_WORST_CHI2, freedom)),
            "out_of_range": outside,
            "no_counts": self.finite & ~outside & ~np.isfinite(net),
            "few_counts": self.finite & ~outside & np.isfinite(net) & few,
            "overlapped": np.full(n, hard) & np.isfinite(net),
        }
        sigma = np.sqrt(variance + under_sigma**2) + nan
        profile = EdgeProfile(net, sigma, under + nan, law.exponent, law.chi2, flags, disturbed)
        return profile, law

    def together(
        self,
        members: list[str],
        group: tuple[str, ...],
        range_ev: tuple[float, float],
        wanted: Mapping[str, Edge],
        alone: Mapping[str, EdgeProfile],
    ) -> dict[str, EdgeProfile]:
        """Edges of a group fitted together; those that cannot be stay as they were, and flagged."""
        table = chosen(group)
        windows = {name: wanted.get(name, table[name]).window_ev for name in group}
        losses = self.pairing.losses()
        fit = fit_together(
            self.electrons,
            self.offsets,
            self.step,
            windows,
            range_ev,
            readout_variance=self.camera.readout_variance,
            losses=losses,
        )
        freedom = max((range_ev[1] - range_ev[0]) / self.step - 10, 1.0)
        found = {}
        for name in members:
            told = np.isfinite(fit.electrons[name]) & self.finite
            nan = np.where(told, 0.0, np.nan)
            if not told.any():
                continue
            before = alone[name]
            # without the low loss, white lines that were scattered once more pass for the next edge
            flags = {
                "poor_fit": told & (fit.chi2 > _limit(_WORST_TOGETHER, freedom)),
                "out_of_range": before.flags["out_of_range"] | (self.finite & ~told),
                "no_counts": before.flags["no_counts"],
                "few_counts": before.flags["few_counts"] & ~told,
                "overlapped": told & (losses is None),
            }
            found[name] = EdgeProfile(
                fit.electrons[name] + nan,
                fit.sigma[name] + nan,
                fit.background[name] + nan,
                fit.exponent,
                fit.chi2,
                flags,
                before.overlaps,
                tuple(other for other in group if other != name),
            )
        return found


def _in_the_way(found: tuple[Overlap, ...], group: tuple[str, ...]) -> bool:
    return any(o.kind != "tail" and o.other in group for o in found)


def _limit(worst: float, freedom: float) -> float:
    return float(max(worst, 1.0 + _POOR_SIGMA * np.sqrt(2.0 / freedom)))


def _any_of(measured: Mapping[str, EdgeProfile], n: int) -> dict[str, Mask]:
    found: dict[str, Mask] = {}
    for name in ("poor_fit", "out_of_range", "no_counts", "few_counts", "overlapped"):
        masks = [edge.flags[name] for edge in measured.values()]
        found[name] = np.any(masks, axis=0) if masks else np.zeros(n, bool)
    return found
