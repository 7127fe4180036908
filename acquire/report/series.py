"""Spectra of one point over time: what was measured on them, as a curve with its σ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from acquire.measure.eels.live_quantities import LIVE_QUANTITIES
from acquire.store import Run, flags_of, unit_for_people

COLOUR = "#6a4c93"
FEWEST, MOST_POINTS = 4, 2000
MOST = 2
"""Series that a page has room for."""
_SPOILED = {quantity.name: frozenset(quantity.spoiled_by) for quantity in LIVE_QUANTITIES}
_FIRST = ("ti3_fraction", "ni_l_counts", "o_k_ratio", "ti_l_counts")
"""What is drawn where the recipe names nothing that was measured."""


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity of one stream."""

    stream: str
    quantity: str
    estimates: xr.Dataset

    @property
    def trusted(self) -> np.ndarray:
        """Which of its estimates have no flag that spoils them; bool (time,)."""
        spoiled = _SPOILED.get(self.quantity, frozenset())
        return np.array([spoiled.isdisjoint(flags) for flags in flags_of(self.estimates.flags)])


def spectral_series(run: Run) -> list[Series]:
    """What was measured on streams of spectra at one point, in the order of the estimators.

    Of each the quantity that the recipe decides or steers by, or the first that there is; of very many
    estimates some.
    """
    found = []
    for name in run.estimators:
        estimates = run.estimates(name)
        stream = str(estimates.attrs.get("stream", ""))
        if run.streams.get(stream) != "spectra" or estimates.sizes["time"] < FEWEST:
            continue
        spectra = run.spectra(stream)
        places = np.stack([spectra.position_x.values, spectra.position_y.values])
        told = [q for q in estimates.data_vars if f"{q}_sigma" in estimates and q in _SPOILED]
        if not told or "map_row" in spectra or np.ptp(places, axis=1).max() > 0:
            continue
        recipe = run.header.recipe_yaml
        wanted = [q for q in (*told, *_FIRST) if q in told and (str(q) in recipe or q in _FIRST)]
        wanted.sort(key=lambda q: str(q) not in recipe)
        if wanted:
            every = -(-estimates.sizes["time"] // MOST_POINTS)
            shown = estimates.isel(time=slice(None, None, every))
            found.append(Series(stream, str(wanted[0]), shown))
    return found[:MOST]


def draw_series(axes: Axes, series: Series, seconds: float) -> None:
    """Draw one; estimates that are not to be trusted are hollow.

    Args:
        axes: with time along x.
        series: what to draw.
        seconds: of one unit of time.
    """
    values = series.estimates[series.quantity]
    sigma = series.estimates[f"{series.quantity}_sigma"].values
    at, trusted = values.time.values / seconds, series.trusted
    for which, fill in ((trusted, COLOUR), (~trusted, "white")):
        axes.errorbar(
            at[which],
            values.values[which],
            yerr=sigma[which],
            color=COLOUR,
            markerfacecolor=fill,
            linestyle="none",
            marker="o",
            markersize=3.2,
            elinewidth=0.8,
        )
    unit = unit_for_people(str(values.attrs.get("units", "")))
    label = f"{series.stream}: {series.quantity}"
    axes.set_ylabel(f"{label} ({unit})" if unit else label, fontsize=8.5)
