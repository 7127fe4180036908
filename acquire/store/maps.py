"""Reads a spectrum image as what it is: (pass, y, x, energy_loss), lazily, finished or not."""

from __future__ import annotations

import math
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
FAR_ROWS = 64
"""Rows further apart are read each by itself, so that a column of a map does not take all of it."""

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """The points of a map: passes, rows, columns, and where they lie in the recorded field."""

    shape: tuple[int, int, int]
    first_nm: tuple[float, float]
    spacing_nm: tuple[float, float]


def as_map(
    runs: Run | Sequence[Run], stream: str, *, summed: bool = False, taking: int = -1
) -> xr.Dataset:
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
        taking: which, of a map that was taken again and again, as within a ``repeat``: from 0, or
            from the end if negative. The newest unless given.

    Raises:
        StoreError: there is no such map, or it was not taken so often.
    """
    parts = [runs] if not isinstance(runs, Sequence) else list(runs)
    having = [run for run in parts if stream in run.streams]
    if not having:
        known = sorted({name for run in parts for name in map_names(run)})
        raise StoreError(
            f"there is no map {stream!r}; there are: {', '.join(known) or 'none'}. Maps are taken by "
            "the step 'spectrum_image'."
        )
    # without a journal a segment knows its grid as far as it was taken
    grid = max((grid_of(run, stream) for run in having), key=lambda grid: math.prod(grid.shape))
    found = _placed(_of_taking([run.spectra(stream) for run in having], taking, stream), grid)
    return sum_passes(found) if summed else found


def takings_of(places: Sequence[NDArray[np.float64]]) -> Index:
    """To which taking of a map each spectrum belongs, from 0; (n,).

    Points are taken in order, each once: where one is not beyond the one before, the map begins anew.

    Args:
        places: pass, row and column of the spectra in the order of time, each (n,).
    """
    if not len(places[0]):
        return np.zeros(0, np.int64)
    last_first = np.stack(places)[::-1]
    before, after = last_first[:, :-1], last_first[:, 1:]
    # by pass, then row, then column; what is not told begins nothing
    order = np.lexsort(last_first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    same = (before == after).all(axis=0)
    known = np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0)
    anew = known & (same | (np.diff(rank) < 0))
    return np.concatenate([[0], np.cumsum(anew)]).astype(np.int64)


def _of_taking(parts: Sequence[xr.Dataset], taking: int, stream: str) -> list[xr.Dataset]:
    """Those spectra of segments that belong to one taking of a map."""
    places = [np.concatenate([part[name].values for part in parts]) for name in PLACES]
    found = takings_of(places)
    count = int(found.max(initial=0)) + 1
    if not -count <= taking < count:
        raise StoreError(
            f"taking {taking} of the map {stream!r} is not there: it was taken {count} times; ask for 0 "
            f"to {count - 1}."
        )
    own = found == taking % count
    kept, first = [], 0
    for part in parts:
        rows = np.flatnonzero(own[first : first + part.sizes[_TEMPORAL]])
        first += part.sizes[_TEMPORAL]
        if rows.size:
            kept.append(part.isel({_TEMPORAL: slice(int(rows[0]), int(rows[-1]) + 1)}))
    return kept or [parts[0]]


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


def _placed(parts: Sequence[xr.Dataset], grid: Grid) -> xr.Dataset:
    """Spectra of one stream in one segment or several by their place; of a point the first segment's."""
    orders: list[Index] = []
    taken = np.zeros(grid.shape, bool)
    for part in parts:
        orders.append(np.where(taken, -1, _order(part, grid)))
        taken |= orders[-1] >= 0
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
    spectra = parts[0]
    for name in map(str, [*spectra.coords, *spectra.data_vars]):
        data = spectra[name]
        if data.dims[:1] != (_TEMPORAL,):
            _demand_same(name, parts)
            coordinates[name] = data.variable
            continue
        having = [(p[name], order) for p, order in zip(parts, orders, strict=True) if name in p]
        if data.ndim == 1:
            if name not in PLACES:
                coordinates[name] = (_DIMS, _merged(having), data.attrs)
        else:
            sources = [(array.variable, order) for array, order in having]
            lazily = indexing.LazilyIndexedArray(_Placed(sources))
            found[name] = ((*_DIMS, *data.dims[1:]), lazily, data.attrs)
    placed = xr.Dataset(found, coordinates)
    return _on_the_specimen(placed) if "field_offset_x" in coordinates else placed


def _demand_same(name: str, parts: Sequence[xr.Dataset]) -> None:
    """Raises StoreError for an axis of one segment that is not that of another."""
    first = parts[0][name].values
    for part in parts[1:]:
        other = part[name].values if name in part else first
        if other.shape == first.shape and first.dtype.kind == other.dtype.kind == "f":
            near = 1e-3 * float(np.abs(np.diff(first)).min(initial=np.inf)) if first.ndim else 0.0
            if np.abs(other - first).max(initial=0.0) <= near:
                continue
        if not np.array_equal(other, first):
            raise StoreError(
                f"{name} of this map is from {first.flat[0]} to {first.flat[-1]} in one segment, and from "
                f"{other.flat[0]} to {other.flat[-1]} in a later one. Read each segment by itself."
            )


def _merged(having: Sequence[tuple[xr.DataArray, Index]]) -> NDArray[Any]:
    """Numbers of several segments by place."""
    found = _numbers(having[0][0].values, having[0][1])
    for data, order in having[1:]:
        found = np.where(order >= 0, _numbers(data.values, order), found)
    return found


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


class _Placed(BackendArray):
    """Rows of arrays over time, one of each segment, by their place on the map; read when they are used."""

    def __init__(self, sources: Sequence[tuple[xr.Variable, Index]]) -> None:
        self._sources = sources
        variable, order = sources[0]
        missing = ~np.logical_or.reduce([order >= 0 for _, order in sources])
        self.shape = (*order.shape, *variable.shape[1:])
        self.dtype = np.dtype(np.float64) if missing.any() else variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        return indexing.explicit_indexing_adapter(  # type: ignore[no-any-return]
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        inside = tuple(key[3:])
        inner = np.empty(self.shape[3:], bool)[inside].shape
        orders = [np.asarray(order[key[:3]]) for _, order in self._sources]
        empty = np.nan if self.dtype.kind == "f" else 0
        placed = np.full((*orders[0].shape, *inner), empty, self.dtype)
        for (variable, _), order in zip(self._sources, orders, strict=True):
            for rows in _stretches(np.unique(order[order >= 0])):
                first, last = int(rows[0]), int(rows[-1])
                read = variable[(slice(first, last + 1), *inside)].values
                here = (order >= first) & (order <= last)
                placed[here] = read[order[here] - first]
        return placed


def _stretches(rows: Index) -> list[Index]:
    """Rows in ascending order that are read in one go each: those that are near share chunks."""
    if not rows.size:
        return []
    return np.split(rows, np.flatnonzero(np.diff(rows) > FAR_ROWS) + 1)


def map_of_estimates(run: Run, estimator: str, stream: str = "") -> xr.Dataset:
    """What an estimator said of the spectra of a map, taken last: every quantity with its ``_sigma`` (pass, y, x).

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
    [spectra] = _of_taking([run.spectra(stream)], -1, stream)
    order = _order(spectra, grid)
    number = spectra.frame_index.values
    at = {int(frame): row for row, frame in enumerate(told.frame_index.values)}
    rows = np.array([at.get(int(frame), -1) for frame in number], np.int64)
    places = np.where(order >= 0, rows[np.maximum(order, 0)] if len(rows) else -1, -1)
    frame = _placed([spectra], grid)
    names = [str(name) for name in told.data_vars if f"{name}{_SIGMA}" in told]
    values = {
        name: (_DIMS, _numbers(told[name].values.astype(np.float64), places), told[name].attrs)
        for quantity in names
        for name in (quantity, f"{quantity}{_SIGMA}")
    }
    kept = [name for name in ("pass", "y", "x", "y_specimen", "x_specimen") if name in frame.coords]
    return xr.Dataset(values, {name: frame.coords[name].variable for name in kept})
