"""Draws the maps of a run: what was estimated of every point, beside the image of the field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.store import Run, map_names, map_of_estimates, unit_for_people

PREFERRED = "haadf"
DPI = 150
COLUMNS = 4
PANEL_IN = 2.9
_STILL = 0.5
"""Of a point: what the field was off by at most, if the map is drawn on its grid."""
_EXTREMES = (1.0, 99.0)
"""Percentiles that the colours span, so that one bad fit does not hide the rest."""
_SIGMA = "_sigma"

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MapSummary:
    """How much of a map there is."""

    rows: int
    columns: int
    passes: int
    taken: int
    """Spectra."""
    quantities: tuple[str, ...]
    """That were estimated."""
    worst_offset_nm: float = math.nan
    """Farthest that an image found the specimen from its place in the field, before that was corrected;
    NaN if none told."""
    unplaced: int = 0
    """Spectra whose place on the specimen no image told."""


def summarise_maps(run: Run) -> dict[str, MapSummary]:
    """Every map of a run, by its stream."""
    return {name: _summarise(run, name) for name in map_names(run)}


def _summarise(run: Run, name: str) -> MapSummary:
    placed = run.map(name)
    taken = placed.taken.values
    worst, unplaced = math.nan, 0
    if "field_offset_x" in placed.coords:
        known = taken & (placed.field_offset_known.values == 1)
        offset = np.hypot(placed.field_offset_x.values, placed.field_offset_y.values)[known]
        worst = max([*offset.tolist(), *_found_nm(run, name)], default=math.nan)
        unplaced = int(np.count_nonzero(taken & ~known))
    passes, rows, columns = taken.shape
    quantities = [str(q) for told in _told(run, name) for q in told if not str(q).endswith(_SIGMA)]
    return MapSummary(
        rows, columns, passes, int(np.count_nonzero(taken)), tuple(quantities), worst, unplaced
    )


def _found_nm(run: Run, name: str) -> list[float]:
    """How far each image of a map found the specimen from its place, as the journal has it."""
    try:
        notes = [entry.details for entry in run.journal() if entry.kind == "map drift"]
    except StoreError:
        return []  # a run whose journal was lost still has its data
    own = [told for told in notes if told.get("stream") == name]
    return [
        math.hypot(*(float(str(told[f"offset_{axis}_nm"])) for axis in ("x", "y"))) for told in own
    ]


def plot_maps(run: Run, folder: Path) -> list[Path]:
    """Write ``map_<name>.png`` for every map of which something was estimated; returns their paths."""
    return [path for name in map_names(run) for path in _plot(run, name, folder)]


def _told(run: Run, name: str) -> list[xr.Dataset]:
    """What each estimator said of a map."""
    looking = [e for e in run.estimators if run.estimates(e).attrs.get("stream") == name]
    return [map_of_estimates(run, estimator, name) for estimator in looking]


def _plot(run: Run, name: str, folder: Path) -> Sequence[Path]:
    panels = [
        (str(quantity), told)
        for told in _told(run, name)
        for quantity in told
        if not str(quantity).endswith(_SIGMA) and np.isfinite(told[quantity].values).any()
    ]
    if not panels:
        return []
    image = _first_image(run, f"{name}_images")
    count = len(panels) + (image is not None)
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = Figure(
        figsize=(PANEL_IN * columns, PANEL_IN * rows),
        dpi=DPI,
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    if image is not None:
        _draw_image(grid[0], image, panels[0][1])
    for axes, (quantity, told) in zip(grid[count - len(panels) :], panels, strict=False):
        _draw(axes, told, quantity)
    figure.suptitle(f"map “{name}”, {run.header.name}", fontsize=10)
    path = folder / f"map_{name}.png"
    try:
        figure.savefig(path, format="png")
    except OSError:
        path.unlink(missing_ok=True)  # half a picture would pass for one
        raise
    return [path]


def _first_image(run: Run, stream: str) -> xr.DataArray | None:
    if run.streams.get(stream) != "images" or not run.images(stream).sizes["time"]:
        return None
    images = run.images(stream)
    detectors = [str(n) for n, data in images.data_vars.items() if data.dims == ("time", "y", "x")]
    if not detectors:
        return None
    return images[PREFERRED if PREFERRED in detectors else detectors[0]][0]


def _draw_image(axes: Axes, image: xr.DataArray, told: xr.Dataset) -> None:
    """The first image, from its own middle, with the mapped area in outline."""
    x, y = image.x.values, image.y.values
    half_x, half_y = (x[-1] - x[0]) / 2, (y[-1] - y[0]) / 2
    data = np.asarray(image.values, np.float64)
    low, high = np.percentile(data, [0.5, 99.7])
    axes.imshow(
        data,
        cmap="gray",
        vmin=low,
        vmax=max(high, low + 1e-9),
        extent=(-half_x, half_x, half_y, -half_y),
    )
    left, right, bottom, top = _extent(told)
    width, height = (right - left) / 2, (bottom - top) / 2
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * (width, height)
    axes.plot(*corners.T, color="#ffd166", linewidth=1.0)
    axes.set_title(f"{image.name}, before the map", fontsize=8)
    _finish(axes)


def _draw(axes: Axes, told: xr.Dataset, quantity: str) -> None:
    """One quantity: the mean of the passes on the grid, or every point where the specimen had it."""
    values = told[quantity].values
    low, high = np.percentile(values[np.isfinite(values)], _EXTREMES)
    drawn: ScalarMappable
    if _moved(told):
        squares = _squares(told, values)
        axes.add_collection(squares)
        drawn = squares
        axes.autoscale()
        axes.set_aspect("equal")
        axes.invert_yaxis()
    else:
        count = np.isfinite(values).sum(axis=0)
        mean = np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)
        drawn = axes.imshow(mean, extent=_extent(told), interpolation="nearest")
    drawn.set_cmap("viridis")
    drawn.set_clim(float(low), float(max(high, low + 1e-12)))
    unit = unit_for_people(str(told[quantity].attrs.get("units", "")))
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.ax.tick_params(labelsize=6.5)
    name = quantity.replace("_", " ")
    axes.set_title(f"{name} ({unit})" if unit not in ("", "1") else name, fontsize=8)
    _finish(axes)


def _moved(told: xr.Dataset) -> bool:
    """Whether points lay elsewhere on the specimen than on the grid, by so much that it shows."""
    if "x_specimen" not in told.coords:
        return False
    width, height = _spacing(told)
    off_x = np.abs(told.x_specimen.values - told.x.values) / width
    off_y = np.abs(told.y_specimen.values - told.y.values[:, None]) / height
    off = np.maximum(off_x, off_y)
    return bool(np.isfinite(off).any() and np.nanmax(off) > _STILL)


def _squares(told: xr.Dataset, values: Array) -> PolyCollection:
    x, y = told.x_specimen.values.ravel(), told.y_specimen.values.ravel()
    flat = values.ravel()
    seen = np.isfinite(x + y + flat)
    width, height = _spacing(told)
    shape = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)
    corners = np.stack([x[seen], y[seen]], axis=1)[:, None, :] + shape
    return PolyCollection(list(corners), array=flat[seen], linewidths=0)


def _spacing(told: xr.Dataset) -> tuple[float, float]:
    x, y = told.x.values, told.y.values
    width = float(x[1] - x[0]) if len(x) > 1 else math.nan
    height = float(y[1] - y[0]) if len(y) > 1 else math.nan
    width = height if math.isnan(width) else width
    return width, width if math.isnan(height) else height


def _extent(told: xr.Dataset) -> tuple[float, float, float, float]:
    """Left, right, bottom, top in nm: the outer edges of the points."""
    width, height = _spacing(told)
    x, y = told.x.values, told.y.values
    return (
        float(x[0] - width / 2),
        float(x[-1] + width / 2),
        float(y[-1] + height / 2),
        float(y[0] - height / 2),
    )


def _finish(axes: Axes) -> None:
    axes.tick_params(labelsize=6.5)
    axes.set_xlabel("nm", fontsize=7)
