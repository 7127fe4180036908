"""Knows the edges: where they begin, where each is measured, and which of them disturb each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from acquire.errors import MeasureError

BEFORE_EV = 3.0
"""A cross-section's window begins so far below the onset: lower valence and resolution move it down."""
TAIL_EV = 120.0
"""So far behind its onset an edge bends a power law that is fitted upon it."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Where an edge is integrated and where its background is fitted, in eV of energy loss."""

    fit_ev: tuple[float, float]
    window_ev: tuple[float, float]
    onsets_ev: tuple[float, ...] = ()
    """Of the edge and of its later parts (L3, L2); none: others are not told of it."""
    element: str = ""
    label: str = ""
    """For people: ``Ti-L2,3``."""
    hidden_by: tuple[str, ...] = ()
    """Edges whose own structure, not only their tail, lies under this one."""

    def over(self, width_ev: float) -> Edge:
        """The same edge, integrated over ``width_ev`` from 3 eV below its onset, as cross-sections are."""
        if not self.onsets_ev:
            raise MeasureError(
                f"an edge that is integrated from {self.window_ev[0]:g} eV has no onset: give "
                "onsets_ev, or a window of your own."
            )
        start = self.onsets_ev[0] - BEFORE_EV
        fit = (self.fit_ev[0], min(self.fit_ev[1], start))
        return replace(self, fit_ev=fit, window_ev=(start, start + width_ev))


EDGE_TABLE: Mapping[str, Edge] = MappingProxyType(
    {
        "ta_o": Edge((26.0, 33.0), (36.0, 50.0), (36.0,), "Ta", "Ta-O2,3"),
        "li_k": Edge((46.0, 53.0), (55.0, 65.0), (55.0,), "Li", "Li-K", ("ta_o",)),
        "c_k": Edge((240.0, 278.0), (284.0, 310.0), (284.0,), "C", "C-K"),
        "ti_l": Edge((410.0, 450.0), (456.0, 480.0), (456.0, 462.0), "Ti", "Ti-L2,3"),
        "o_k": Edge((500.0, 527.0), (532.0, 550.0), (532.0,), "O", "O-K"),
        "la_m": Edge((780.0, 826.0), (829.0, 853.0), (832.0, 849.0), "La", "La-M4,5"),
        "ni_l": Edge((800.0, 850.0), (853.0, 880.0), (855.0, 872.0), "Ni", "Ni-L2,3"),
        "ta_m": Edge((1650.0, 1730.0), (1735.0, 1785.0), (1735.0, 1793.0), "Ta", "Ta-M4,5"),
        "sr_l": Edge((1860.0, 1934.0), (1938.0, 1988.0), (1940.0, 2007.0), "Sr", "Sr-L2,3"),
        "ta_m3": Edge((2110.0, 2188.0), (2192.0, 2216.0), (2194.0,), "Ta", "Ta-M3"),
        "zr_l": Edge((2110.0, 2217.0), (2220.0, 2270.0), (2222.0, 2307.0), "Zr", "Zr-L2,3"),
    }
)
"""Edges by name. Onsets are those of the project's sheet of figures; Zr-L2 and Ta-M3 (2307, 2194 eV) are
of the X-ray tables. Windows are choices: the background is fitted as close before the edge as its
structure and that of its neighbours allow. Sr-L1 (2216 eV) under Zr-L is left out; it is weak."""

EDGES: Mapping[str, Edge] = MappingProxyType({name: EDGE_TABLE[name] for name in ("ti_l", "o_k")})
"""Ti-L2,3 and O-K; the background of O-K is fitted on the tail of Ti-L."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What another edge does to the measurement of this one."""

    other: str
    kind: str
    """``background``: it begins in the fit window; ``window``: in the integration window or between the
    two; ``hidden``: its structure lies under this edge; ``tail``: the background is fitted on its tail,
    which a power law follows roughly."""


def overlaps(
    name: str,
    edge: Edge,
    elements: Iterable[str],
    table: Mapping[str, Edge] = EDGE_TABLE,
) -> tuple[Overlap, ...]:
    """Which edges of the specimen's elements disturb one edge, by name of the other.

    Args:
        name: of the edge, which does not disturb itself.
        edge: with the windows that are to be used.
        elements: symbols of what the specimen holds.
        table: edges that are known of.
    """
    held = set(elements)
    found = []
    for other, entry in table.items():
        if other == name or entry.element not in held or not entry.onsets_ev:
            continue
        kind = _kind(other, entry, edge)
        if kind:
            found.append(Overlap(other, kind))
    return tuple(found)


def _kind(other: str, entry: Edge, edge: Edge) -> str:
    (low, high), (_, end) = edge.fit_ev, edge.window_ev
    if other in edge.hidden_by:
        return "hidden"
    # structure begins somewhat below the onset
    starts = [onset - BEFORE_EV for onset in entry.onsets_ev]
    if any(low < start < high for start in starts):
        return "background"
    if any(high <= start < end - BEFORE_EV for start in starts):
        return "window"
    # lines and their flanks reach some 10 eV beyond an onset: a fit may not begin there
    if any(start <= low < start + 10.0 for start in starts):
        return "background"
    if any(start + 10.0 <= low < start + TAIL_EV for start in starts):
        return "tail"
    return ""


def edges_on(
    low_ev: float, high_ev: float, table: Mapping[str, Edge] = EDGE_TABLE
) -> dict[str, Edge]:
    """Edges whose windows lie wholly between two energies.

    A Li-K is not offered where Ta-O could hide it: it must be asked for.
    """
    return {
        name: edge
        for name, edge in table.items()
        if low_ev <= edge.fit_ev[0] and edge.window_ev[1] <= high_ev and not edge.hidden_by
    }


def chosen(
    edges: Mapping[str, Edge] | Iterable[str], table: Mapping[str, Edge] = EDGE_TABLE
) -> dict[str, Edge]:
    """Edges by name: those given, or the table's of these names; windows are checked.

    Raises:
        MeasureError: a name that the table does not hold, or a window of no width.
    """
    if isinstance(edges, Mapping):
        found = dict(edges)
    else:
        found = {}
        for name in edges:
            if name not in table:
                raise MeasureError(
                    f"there is no edge {name!r}; there are {', '.join(table)}. Take one of these, "
                    "or pass an Edge with windows of your own."
                )
            found[name] = table[name]
    for name, edge in found.items():
        check_edge(name, edge)
    return found


def check_edge(name: str, edge: Edge) -> None:
    """Refuse windows of no width, and a background that is fitted behind its edge's begin."""
    for low, high in (edge.fit_ev, edge.window_ev):
        if not 0 < low < high < math.inf:
            raise MeasureError(
                f"the edge {name!r} has a window from {low} to {high} eV: "
                "it must be of positive energies and a positive width."
            )
    if edge.fit_ev[1] > edge.window_ev[0]:
        raise MeasureError(
            f"the background of {name!r} is fitted up to {edge.fit_ev[1]:g} eV, but the edge is "
            f"integrated from {edge.window_ev[0]:g} eV: the fit must end before. Move one of them."
        )
