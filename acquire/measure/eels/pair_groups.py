"""Measures edges of DualEELS pairs that lie on one another, as Ni-L on La-M does, by fitting them together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.measure.eels.edge_shapes import SHAPES, TOGETHER, EdgeShape, Losses
from acquire.measure.eels.elements import EDGE_TABLE, Edge
from acquire.measure.eels.pair_rows import CoreRows
from acquire.measure.eels.together import fit_together, place_shapes

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WORST_CHI2, _POOR_SIGMA = 1.5, 5.0
_ROOM_EV = 1.0
_CLEAR = 20.0
"""σ by which an edge of a group must stand out of that sum: else its lines would follow the noise."""
_PLACED_AT = (1, 2, 4, 8, 16, 32)
"""Numbers of pairs at which places and widths of lines are fitted anew, to their sum; then they are held."""


@dataclass(frozen=True, slots=True)
class Group:
    """Edges that are fitted together, and where."""

    edges: tuple[str, ...]
    range_ev: tuple[float, float]


def groups_of(names: Mapping[str, Edge], low_ev: float, high_ev: float) -> tuple[Group, ...]:
    """Groups that hold one of these edges, and whose range lies between two energies."""
    return tuple(
        Group(edges, (low, high))
        for edges, (low, high) in TOGETHER
        if any(name in names for name in edges)
        and low_ev - _ROOM_EV <= low
        and high <= high_ev + _ROOM_EV
    )


def partners(names: Mapping[str, Edge], low_ev: float, high_ev: float) -> frozenset[str]:
    """Elements of the groups of these edges: what may be in the way where nobody says what the specimen holds."""
    groups = groups_of(names, low_ev, high_ev)
    elements = (EDGE_TABLE[name].element for group in groups for name in group.edges)
    return frozenset(element for element in elements if element)


def fit_group(
    rows: CoreRows,
    group: Group,
    wanted: Mapping[str, Edge],
    members: list[str],
    losses: Losses,
    placed: Mapping[str, EdgeShape],
) -> tuple[dict[str, tuple[Array, Array]], Mask]:
    """Electrons of members of a group and σ (n,), NaN where the range leaves the axis; and poor fits.

    Args:
        rows: all that is measured.
        group: of the edges.
        wanted: windows of one's own, by name of the edge.
        members: that are told.
        losses: of these pairs.
        placed: shapes as the data placed them; of edges that are left out, the first guesses.
    """
    windows = {name: wanted.get(name, EDGE_TABLE[name]).window_ev for name in group.edges}
    fit = fit_together(
        rows.electrons,
        rows.offset,
        rows.step,
        windows,
        group.range_ev,
        shapes={**SHAPES, **placed},
        readout_variance=rows.readout,
        losses=losses,
        adjust=False,
    )
    freedom = max((group.range_ev[1] - group.range_ev[0]) / rows.step - 10, 1.0)
    limit = max(_WORST_CHI2, 1.0 + _POOR_SIGMA * math.sqrt(2.0 / freedom))
    values = {name: (fit.electrons[name], fit.sigma[name]) for name in members}
    return values, np.asarray(fit.chi2 > limit)


class PlacedShapes:
    """Places and widths of the lines of groups, from the sum of the first pairs of a stream, then held.

    In one spectrum alone they would follow its noise, and every spectrum's electrons with them; until
    their sum shows an edge clearly, first guesses are used.
    """

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self._groups = groups
        self._seen = 0
        self._sum: Array | None = None
        self._offset = 0.0
        self._losses: list[Losses] = []
        self.shapes: dict[str, EdgeShape] = {}
        """By edge; empty until enough was seen."""

    def saw(self, rows: CoreRows, losses: Losses) -> None:
        """Learn from more pairs."""
        if not self._groups or self._seen >= _PLACED_AT[-1]:
            return
        good = np.isfinite(rows.electrons).all(axis=1) & np.isfinite(rows.offset)
        before = self._seen
        for row, offset in zip(rows.electrons[good], rows.offset[good].tolist(), strict=True):
            if self._sum is None:
                self._sum, self._offset = np.zeros(row.size), offset
            # by whole channels: what is left smears lines by half of one, which their width takes up
            moved = round((offset - self._offset) / rows.step)
            source = slice(max(0, -moved), row.size - max(0, moved))
            self._sum[max(0, moved) : row.size - max(0, -moved)] += row[source]
            self._seen += 1
            self._losses.append(losses)
        if self._sum is None or not any(before < n <= self._seen for n in _PLACED_AT):
            return
        total = CoreRows(
            self._sum[None],
            np.array([self._offset]),
            rows.step,
            self._seen * rows.readout,
        )
        mean = _mean(self._losses)
        for group in self._groups:
            members, known = list(group.edges), {name: SHAPES[name] for name in group.edges}
            told, _ = fit_group(total, group, {}, members, mean, known)
            if any(bool((value > _CLEAR * sigma)[0]) for value, sigma in told.values()):
                self.shapes |= place_shapes(
                    self._sum,
                    self._offset,
                    rows.step,
                    known,
                    group.range_ev,
                    total.readout,
                    losses=mean,
                )


def _mean(losses: list[Losses]) -> Losses:
    size = min(each.per_ev.size for each in losses)
    return Losses(np.mean([each.per_ev[:size] for each in losses], axis=0), losses[0].step_ev)
