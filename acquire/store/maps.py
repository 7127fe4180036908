"""Reads a spectrum image as what it is: (pass, y, x, energy_loss), lazily, finished or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from acquire.errors import StoreError
from acquire.store.map_sums import sum_passes

if TYPE_CHECKING:
    from acquire.store.run import Run

MAP_NOTE = "map"
"""Kind of the journal's notes that tell the grid of a map."""
PLACES = ("map_pass", "map_row", "map_column")
_DIMS = ("pass", "y", "x")
_TEMPORAL = "time"
_SIGMA = "_sigma"

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """The points of a map: passes, rows, columns, and where they lie in the recorded field."""

    shape: tuple[int, int, int]
    first_nm: tuple[float, float]
    spacing_nm: tuple[float, float]


def as_map(runs: Run | Sequence[Run], stream: str, *, summed: bool = False) -> xr.Dataset:
    """The spectra of a spectrum image by their place: ``core_loss`` (pass, y, x, energy_loss) and more.

    Everything of the stream is there with its time replaced by pass, y and x: spectra are read when
    they are used, numbers beside them (``time``, ``t_end``, temperatures, dose, ``field_offset_x``, …)
    at once. ``y`` and ``x`` (nm) are the centres of the points in the field of view of the recorded
    scan; with images, ``y_specimen`` and ``x_specimen`` (pass, y, x) are where they lay on the specimen
    as the map's first image shows it. Points without a spectrum are NaN, and make the spectra floats;
    a complete map has them as they were recorded. ``taken`` tells which there are.

    Args:
        runs: a run, also one that is being written or was cut off; or its segments, of which later
            ones fill what earlier ones lack.
        stream: name of the map.
        summed: spectra are summed over the passes, see :func:`sum_passes`.

    Raises:
        StoreError: there is no such map.
    """
    parts = [runs] if not isinstance(runs, Sequence) else list(runs)
    having = [run for run in parts if stream in run.streams]
    if not having:
        known = sorted({name for run in parts for name in map_names(run)})
        raise StoreError(
            f"there is no map {stream!r}; there are: {', '.join(known) or 'none'}. Maps are taken by "
            "the step 'spectrum_image'."
        )
    grid = grid_of(having[0], stream)
    found: xr.Dataset | None = None
    for run in having:
        part = _placed(run.spectra(stream), grid)
        found = part if found is None else _filled(found, part)
    assert found is not None
    if len(having) > 1 and bool(found.taken.all()):
        recorded = having[0].spectra(stream)
        found = found.assign({name: found[name].astype(recorded[name].dtype) for name in found})
    return sum_passes(found) if summed else found


def map_names(run: Run) -> tuple[str, ...]:
    """The maps of a run."""
    spectra = (name for name, kind in run.streams.items() if kind == "spectra")
    return tuple(name for name in spectra if "map_row" in run.spectra(name))


def grid_of(run: Run, stream: str) -> Grid:
    """The grid of a map, as the journal tells it, or else as far as its spectra do.

    Raises:
        StoreError: the stream is no map.
    """
    spectra = run.spectra(stream)
    if "map_row" not in spectra:
        raise StoreError(
            f"{stream!r} is no map; maps are: {', '.join(map_names(run)) or 'none'}. Maps are taken by "
            "the step 'spectrum_image'."
        )
    try:
        notes = [e.details for e in run.journal() if e.kind == MAP_NOTE]
    except StoreError:
        notes = []
    for told in notes:
        if told.get("stream") == stream:
            number = {key: float(str(value)) for key, value in told.items() if key != "stream"}
            return Grid(
                (int(number["passes"]), int(number["rows"]), int(number["columns"])),
                (number["first_x_nm"], number["first_y_nm"]),
                (number["spacing_x_nm"], number["spacing_y_nm"]),
            )
    return _grid_by_places(spectra)


def _grid_by_places(spectra: xr.Dataset) -> Grid:
    """As far as it was taken: what a run with a lost journal still knows."""
    shape = [int(np.nanmax(spectra[name].values, initial=0)) + 1 for name in PLACES]
    axes = []
    for place, position, count in (
        ("map_column", "position_x", shape[2]),
        ("map_row", "position_y", shape[1]),
    ):
        if count > 1:
            step, first = np.polyfit(spectra[place].values, spectra[position].values, 1)
        else:
            step, first = 1.0, float(spectra[position].values[0]) if spectra.sizes["time"] else 0.0
        axes.append((float(first), float(step)))
    (x, dx), (y, dy) = axes
    return Grid((shape[0], shape[1], shape[2]), (x, y), (dx, dy))


def _order(spectra: xr.Dataset, grid: Grid) -> Index:
    """The row of the stream for every point, of several the last; -1 without one."""
    order = np.full(grid.shape, -1, np.int64)
    places = np.stack([spectra[name].values for name in PLACES])
    inside = np.isfinite(places).all(axis=0)
    inside &= (places >= 0).all(axis=0) & (places < np.array(grid.shape)[:, None]).all(axis=0)
    rows = np.flatnonzero(inside)
    order[tuple(places[:, rows].astype(np.int64))] = rows
    return order


def _placed(spectra: xr.Dataset, grid: Grid) -> xr.Dataset:
    order = _order(spectra, grid)
    taken = order >= 0
    axes = [
        first + step * np.arange(count)
        for first, step, count in zip(
            grid.first_nm, grid.spacing_nm, grid.shape[:0:-1], strict=True
        )
    ]
    words = {"units": "nm", "long_name": "centre of the point in the recorded field of view"}
    coordinates: dict[str, Any] = {
        "pass": ("pass", np.arange(grid.shape[0])),
        "y": ("y", axes[1], words),
        "x": ("x", axes[0], words),
        "taken": (_DIMS, taken, {"long_name": "whether the point has a spectrum"}),
    }
    found: dict[str, Any] = {}
    for name in [*spectra.coords, *spectra.data_vars]:
        data = spectra[name]
        if data.dims[:1] != (_TEMPORAL,):
            coordinates[str(name)] = data.variable
        elif data.ndim == 1:
            if name not in PLACES:
                coordinates[str(name)] = (_DIMS, _numbers(data.values, order), data.attrs)
        else:
            found[str(name)] = (
                (*_DIMS, *data.dims[1:]),
                indexing.LazilyIndexedArray(_Placed(data.variable, order)),
                data.attrs,
            )
    placed = xr.Dataset(found, coordinates)
    return _on_the_specimen(placed) if "field_offset_x" in coordinates else placed


def _numbers(values: NDArray[Any], order: Index) -> NDArray[Any]:
    """Numbers by place, NaN (0 of what is no number) where there is none."""
    if not len(values):
        return np.full(order.shape, np.nan)
    placed = values[np.maximum(order, 0)]
    if (order >= 0).all():
        return np.asarray(placed)
    if placed.dtype.kind not in "iuf":
        return np.where(order >= 0, placed, np.zeros((), placed.dtype))
    return np.where(order >= 0, placed.astype(np.float64), np.nan)


def _on_the_specimen(placed: xr.Dataset) -> xr.Dataset:
    """With where the points lay on the specimen: what lies further right is met further left on it."""
    known = placed.field_offset_known == 1
    for axis in ("y", "x"):
        place = (placed[axis] - placed[f"field_offset_{axis}"]).transpose(*_DIMS).where(known)
        place.attrs = {
            "units": "nm",
            "long_name": "centre of the point on the specimen, as the map's first image shows it; NaN "
            "where no image told",
        }
        placed = placed.assign_coords({f"{axis}_specimen": place.drop_vars(list(place.coords))})
    return placed


def _filled(first: xr.Dataset, more: xr.Dataset) -> xr.Dataset:
    """A map with what a later segment took of it."""
    names = [name for name in first.coords if first[name].dims == _DIMS and name != "taken"]
    coordinates = {name: first[name].where(first.taken, more[name]) for name in names}
    filled = first.where(first.taken, more).assign_coords(coordinates)
    return filled.assign_coords(taken=first.taken | more.taken)


class _Placed(BackendArray):
    """Rows of an array over time by their place on the map, read when they are used."""

    def __init__(self, variable: xr.Variable, order: Index) -> None:
        self._variable = variable
        self._order = order
        self._whole = bool((order >= 0).all())
        self.shape = (*order.shape, *variable.shape[1:])
        self.dtype = variable.dtype if self._whole else np.dtype(np.float64)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        return indexing.explicit_indexing_adapter(  # type: ignore[no-any-return]
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        order = self._order[key[:3]]
        rows = np.unique(order[order >= 0])
        inner = self._variable.shape[1:]
        inside = tuple(key[3:])
        if not rows.size:
            return np.full((*np.shape(order), *np.empty(inner)[inside].shape), np.nan, self.dtype)
        # in one go from the first to the last: rows that follow each other share chunks
        first = int(rows[0])
        read = self._variable[(slice(first, int(rows[-1]) + 1), *inside)].values
        placed = read[np.maximum(order, first) - first]
        if self._whole:
            return np.asarray(placed)
        placed = placed.astype(self.dtype)
        placed[order < 0] = np.nan
        return np.asarray(placed)


def map_of_estimates(run: Run, estimator: str, stream: str = "") -> xr.Dataset:
    """What an estimator said of the spectra of a map: every quantity with its ``_sigma`` (pass, y, x).

    NaN where it said nothing: an estimator that is slower than the spectra leaves some out.

    Args:
        run: also one that is being written or was cut off.
        estimator: its name.
        stream: name of the map; that which the estimator looked at unless given.

    Raises:
        StoreError: there is no such estimator, or it looked at no map.
    """
    told = run.estimates(estimator)
    stream = stream or str(told.attrs.get("stream", ""))
    grid = grid_of(run, stream)
    spectra = run.spectra(stream)
    order = _order(spectra, grid)
    number = spectra.frame_index.values
    at = {int(frame): row for row, frame in enumerate(told.frame_index.values)}
    rows = np.array([at.get(int(frame), -1) for frame in number], np.int64)
    places = np.where(order >= 0, rows[np.maximum(order, 0)] if len(rows) else -1, -1)
    frame = _placed(spectra, grid)
    names = [str(name) for name in told.data_vars if f"{name}{_SIGMA}" in told]
    values = {
        name: (_DIMS, _numbers(told[name].values.astype(np.float64), places), told[name].attrs)
        for quantity in names
        for name in (quantity, f"{quantity}{_SIGMA}")
    }
    kept = [name for name in ("pass", "y", "x", "y_specimen", "x_specimen") if name in frame.coords]
    return xr.Dataset(values, {name: frame.coords[name].variable for name in kept})
