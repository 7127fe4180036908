"""What the child works out: fits of size distributions, what lies in a spectrum, files of numbers.

Heavy libraries are imported where they are used: only the child pays for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CURVE_POINTS = 200
_SIGNIFICANT = 5.0
"""σ above its background that an edge needs to be named where nobody asked for it."""


@dataclass(frozen=True, slots=True)
class SizeFit:
    """A fitted distribution of diameters."""

    kind: str
    """``normal`` or ``lognormal``."""
    count: int
    mean_nm: float
    mean_sigma_nm: float
    spread_nm: float
    """Standard deviation of the distribution."""
    x_nm: Floats
    per_nm: Floats
    """Density; its integral is 1."""


@dataclass(frozen=True, slots=True)
class FoundEdge:
    """An edge on the axis of a spectrum, in eV of that axis."""

    name: str
    label: str
    fit_ev: tuple[float, float]
    window_ev: tuple[float, float]
    net_counts: float
    """In the window, above the background."""
    energy_ev: Floats
    background: Floats
    """Counts per channel of the fitted power law at these energies; empty where there is no fit."""


@dataclass(frozen=True, slots=True)
class SpectrumFacts:
    """What was found in one spectrum."""

    serial: int
    channel: str
    edges: tuple[FoundEdge, ...]
    zero_loss_ev: float = math.nan
    """On the nominal axis of the low loss."""
    zero_loss_sigma_ev: float = math.nan
    fwhm_ev: float = math.nan


def fit_sizes(diameter_nm: Floats, kind: str) -> SizeFit:
    """Fit diameters (n,) by maximum likelihood; raises MeasureError where they tell nothing."""
    from acquire.errors import MeasureError

    sizes = diameter_nm[np.isfinite(diameter_nm) & (diameter_nm > 0)]
    low, high = float(sizes.min(initial=math.inf)), float(sizes.max(initial=-math.inf))
    x = np.linspace(max(0.0, low - 0.25 * (high - low)), high + 0.25 * (high - low), _CURVE_POINTS)
    if kind == "lognormal":
        from acquire.measure.particles import fit_lognormal

        found = fit_lognormal(sizes)
        width = math.sqrt(math.log1p(found.spread**2))
        x = np.maximum(x, 1e-6)
        z = np.log(x / found.median_nm) / width
        y = np.exp(-0.5 * z**2) / (x * width * math.sqrt(2 * math.pi))
        spread = found.spread * found.mean_nm
        return SizeFit(kind, found.count, found.mean_nm, found.mean_sigma_nm, spread, x, y)
    from scipy import stats

    if len(sizes) < 10 or high <= low:
        raise MeasureError(f"a normal distribution of {len(sizes)} diameters means nothing.")
    mean, spread = stats.norm.fit(sizes)
    sigma = spread / math.sqrt(len(sizes))
    y = np.asarray(stats.norm.pdf(x, mean, spread))
    return SizeFit("normal", len(sizes), float(mean), float(sigma), float(spread), x, y)


def look_at_spectrum(
    serial: int,
    channel: str,
    counts: Floats,
    axis_ev: tuple[float, float],
    wanted: Sequence[str],
    low_loss: Floats | None,
    low_axis_ev: tuple[float, float],
) -> SpectrumFacts:
    """Find edges with their backgrounds, and the zero loss.

    Args:
        serial: of the spectrum, to be given back.
        channel: likewise.
        counts: (channels,), in which edges are looked for.
        axis_ev: energy of its first channel and step, aligned if an alignment is known.
        wanted: names of the edges; empty: those that stand out.
        low_loss: (channels,) that holds the zero-loss peak, None if there is none.
        low_axis_ev: as ``axis_ev``, nominal.
    """
    from acquire.measure.eels.elements import EDGE_TABLE, edges_on

    first, step = axis_ev
    last = first + step * (len(counts) - 1)
    table = {name: EDGE_TABLE[name] for name in wanted if name in EDGE_TABLE} or EDGE_TABLE
    edges = []
    if wanted or first > 100.0:  # every low loss looks like some low-lying edge
        for name, edge in edges_on(first, last, table).items():
            found = _edge(name, edge, counts, first, step)
            noise = math.sqrt(max(1.0, float(found.background.sum() + abs(found.net_counts))))
            if name in wanted or found.net_counts > _SIGNIFICANT * noise:
                edges.append(found)
    zero = (math.nan, math.nan, math.nan)
    if low_loss is not None:
        from acquire.instruments import Axis
        from acquire.measure.eels.zlp import find_zero_loss

        peak = find_zero_loss(low_loss, Axis(low_axis_ev[0], low_axis_ev[1], "eV"))
        zero = float(peak.position_ev[0]), float(peak.sigma_ev[0]), float(peak.fwhm_ev)
    return SpectrumFacts(serial, channel, tuple(edges), *zero)


def _edge(name: str, edge: object, counts: Floats, first: float, step: float) -> FoundEdge:
    from acquire.measure.eels.background import fit_power_law
    from acquire.measure.eels.elements import Edge

    assert isinstance(edge, Edge)
    law = fit_power_law(counts[None], np.array([first]), step, *edge.fit_ev)
    begin = max(0, math.ceil((edge.fit_ev[0] - first) / step))
    end = min(len(counts), math.floor((edge.window_ev[1] - first) / step) + 1)
    energy = np.asarray(first + step * np.arange(begin, end), np.float64)
    background = law.in_channels(energy[None], step)[0]
    inside = energy >= edge.window_ev[0]
    net = float((counts[begin:end] - background)[inside].sum())
    if not np.isfinite(background).all():
        energy, background, net = energy[:0], energy[:0], math.nan
    return FoundEdge(name, edge.label, edge.fit_ev, edge.window_ev, net, energy, background)


def write_csv(path: str, head: Sequence[str], columns: Mapping[str, Floats], replace: bool) -> str:
    """Write equally long columns below a line of their names, and ``head`` as comments above.

    What is not known is empty. Appears whole or not at all; a file that exists is replaced only if so
    told. Returns the path; raises OSError.
    """
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.writelines(f"# {line}\n" for line in head)
            file.write(",".join(columns) + "\n")
            for row in zip(*(column.tolist() for column in columns.values()), strict=True):
                file.write(",".join("" if v != v else f"{v:.10g}" for v in row) + "\n")
        if target.exists() and not replace:
            raise FileExistsError(f"{target} exists already; choose another name.")
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
