"""The specimen against the papers: a table of simulated and published figures."""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from simulators.imaging.bench import speeds
from simulators.specimen.critical import critical_diameters_nm, measured_critical
from simulators.specimen.domes import VISIBLE_NM
from simulators.specimen.film import REGION_NM
from simulators.specimen.rates import lived
from simulators.specimen.sites import BOUNDARY, DISLOCATION
from simulators.specimen.specimen import Specimen, named

REGION_UM2 = (REGION_NM / 1000) ** 2
_RATE_CELSIUS_PER_S = 5 / 60
_TREATED_CELSIUS, _TREATED_S = 900.0, 36_000.0
_RISE_S = (_TREATED_CELSIUS - 25) / _RATE_CELSIUS_PER_S
END_S = 2 * _RISE_S + _TREATED_S
_SHORT = {"lsnt_nonstoichiometric": "A-poor", "lsnt_stoichiometric": "stoich."}
_IN_SITU_NM = 3.5
_MOST_WATCHED = 3
"""Specimens that are imaged: six fields of each take some twenty seconds."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure and its simulated counterpart."""

    name: str
    published: float
    """NaN where the papers give no number."""
    simulated: float
    """Mean over seeds."""
    spread: float
    """Standard deviation over seeds; NaN for one."""
    low: float
    high: float
    unit: str

    @property
    def good(self) -> bool:
        """Whether the mean lies within the limits."""
        return self.low <= self.simulated <= self.high


def treated(specimen: Specimen) -> Specimen:
    """A fresh specimen under the published treatment: 900 °C for 10 h, heated and cooled at 5 °C/min."""
    knots = [(_RISE_S, _TREATED_CELSIUS), (_RISE_S + _TREATED_S, _TREATED_CELSIUS), (END_S, 25.0)]
    return specimen.under(lived(knots))


@dataclass(frozen=True, slots=True)
class Population:
    """Particles at the surface of the whole region."""

    density_per_um2: float
    mean_diameter_nm: float
    reduced_percent: float
    on_boundaries_percent: float
    on_dislocations_percent: float
    resistivity_ratio: float
    """Of the fresh film over the present one, at 25 °C."""
    nickel_error: float
    """Relative change of all nickel since the beginning."""


def population(specimen: Specimen, t_s: float) -> Population:
    """What a perfect microscope would count on the whole surface at a time."""
    found = specimen.particles(t_s)
    found = found[(found.diameter_nm >= VISIBLE_NM) & (found.z_nm == 0)]
    state, count = specimen.state(t_s), len(found)
    total = state.particle_ni + state.boundary_ni + state.beside_ni + state.bulk_ni
    kind = specimen.sites.kind[found.id]
    return Population(
        density_per_um2=count / REGION_UM2,
        mean_diameter_nm=float(found.diameter_nm.mean()) if count else math.nan,
        reduced_percent=100 * specimen.ni_reduced_fraction(t_s),
        on_boundaries_percent=100 * float((kind == BOUNDARY).mean()) if count else math.nan,
        on_dislocations_percent=100 * float((kind == DISLOCATION).mean()) if count else math.nan,
        resistivity_ratio=specimen.resistivity_ohm_m(0.0) / specimen.resistivity_ohm_m(t_s),
        nickel_error=total / specimen.ni_total - 1,
    )


def time_to_s(specimen: Specimen, celsius: float) -> float:
    """Time at a temperature, reached at 5 °C/s, until the mean visible diameter is 3.5 nm; NaN for never."""
    begin_s = (celsius - 25) / 5
    hot = specimen.under(lived([(begin_s, celsius)]))
    for after_s in np.arange(0.0, 1200.0, 2.0).tolist():
        diameter = hot.particles(begin_s + after_s).diameter_nm
        visible = diameter[diameter >= VISIBLE_NM]
        if len(visible) and visible.mean() >= _IN_SITU_NM:
            return float(after_s)
    return math.nan


def figures(seeds: Sequence[int], tell: Callable[[str], None] = lambda _: None) -> list[Figure]:
    """Simulate everything that the table compares; ``tell`` hears of each step."""
    found: list[Figure] = []
    rows = {
        "lsnt_nonstoichiometric": (
            ("density", "density_per_um2", 795.0, 0.92 * 795, 1.08 * 795, "1/µm²"),
            ("mean diameter", "mean_diameter_nm", 8.8, 8.5, 9.1, "nm"),
            ("Ni reduced near the surface", "reduced_percent", 66.0, 61.0, 71.0, "%"),
            ("on a boundary", "on_boundaries_percent", math.nan, 50.0, 100.0, "%"),
            ("on a dislocation", "on_dislocations_percent", 10.0, 10.0, 25.0, "%"),
            ("resistivity falls by", "resistivity_ratio", 1e3, 1e3, math.inf, ""),
        ),
        "lsnt_stoichiometric": (
            ("density", "density_per_um2", 51.0, 0.85 * 51, 1.15 * 51, "1/µm²"),
            ("mean diameter", "mean_diameter_nm", 10.7, 10.2, 11.2, "nm"),
            ("Ni reduced near the surface", "reduced_percent", 10.0, 7.0, 13.0, "%"),
        ),
    }
    for preset, wanted in rows.items():
        populations = []
        for seed in seeds:
            tell(f"{preset}, seed {seed}: 10 h at 900 °C")
            populations.append(population(treated(named(preset, seed)), END_S))
        short = _SHORT[preset]
        for name, attribute, published, low, high, unit in wanted:
            values = [float(getattr(p, attribute)) for p in populations]
            found.append(_figure(f"{short}: {name}", published, values, low, high, unit))
        errors = [abs(p.nickel_error) for p in populations]
        found.append(_figure(f"{short}: nickel lost", 0.0, errors, 0.0, 1e-9, ""))
    for celsius in (700.0, 800.0):
        tell(f"heating to {celsius:g} °C at 5 °C/s")
        taken = [time_to_s(named("lsnt_nonstoichiometric", seed), celsius) for seed in seeds]
        name = f"A-poor: {_IN_SITU_NM} nm at {celsius:g} °C after"
        found.append(_figure(name, math.nan, taken, 10.0, 600.0, "s"))
    criticals, spreads = [], []
    for seed in seeds:
        tell(f"seed {seed}: crystals at 800 °C")
        sizes = critical_diameters_nm(named("lsnt_nonstoichiometric", seed))
        criticals.append(float(sizes.mean()))
        spreads.append(float(sizes.std()))
    critical = partial(_figure, unit="nm")
    found.append(critical("critical diameter at 800 °C", 3.83, criticals, 3.75, 3.91))
    found.append(critical("its spread", 0.08, spreads, 0.05, 0.11))
    found.append(critical("from images alone", 3.83, list(_measured(seeds, tell)), 3.75, 3.91))
    for speed in speeds(tell):
        name = f"images of {speed.size}² with {speed.particles} particles"
        rate, goal = speed.frames_per_s, speed.goal_per_s
        found.append(Figure(name, math.nan, rate, math.nan, goal, math.inf, "1/s"))
    return found


def _measured(seeds: Sequence[int], tell: Callable[[str], None]) -> Iterator[float]:
    """Critical diameters as the live estimator finds them in images, for up to three of the seeds."""
    for seed in seeds[:_MOST_WATCHED]:
        tell(f"seed {seed}: images of single particles at 800 °C")
        yield measured_critical("lsnt_nonstoichiometric", (seed,), fields=6).diameter_nm


def main(seeds: Sequence[int] = (1, 2, 3, 4, 5), check: bool = False, json: bool = False) -> int:
    """Print the table, or JSON; returns 1 when ``check`` and a figure is outside its limits, else 0."""
    console = Console()
    found = figures(seeds, lambda text: None if json else console.print(f"[dim]{text}[/]"))
    if json:
        # infinity is not JSON
        rows = [
            {
                key: value if not isinstance(value, float) or math.isfinite(value) else None
                for key, value in (asdict(figure) | {"good": figure.good}).items()
            }
            for figure in found
        ]
        console.print_json(jsonlib.dumps({"seeds": list(seeds), "figures": rows}))
    else:
        console.print(_table(found, seeds))
    return int(check and not all(figure.good for figure in found))


def _figure(
    name: str, published: float, values: Sequence[float], low: float, high: float, unit: str
) -> Figure:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Figure(name, published, float(np.mean(values)), spread, low, high, unit)


def _table(found: Sequence[Figure], seeds: Sequence[int]) -> Table:
    table = Table(
        title=f"Simulated against published: {REGION_UM2:.2f} µm² each of seeds {', '.join(map(str, seeds))}"
    )
    for heading, side in (
        ("figure", "left"),
        ("published", "right"),
        ("simulated", "right"),
        ("± seeds", "right"),
        ("allowed", "right"),
        ("", "left"),
    ):
        table.add_column(heading, justify="right" if side == "right" else "left")
    for f in found:
        table.add_row(
            f"{f.name} ({f.unit})" if f.unit else f.name,
            "–" if math.isnan(f.published) else f"{f.published:.4g}",
            f"{f.simulated:.4g}",
            "–" if math.isnan(f.spread) else f"{f.spread:.2g}",
            f"{f.low:.4g} – {f.high:.4g}",
            "[green]good[/]" if f.good else "[red]outside[/]",
        )
    return table
