"""Tells how the frames of a stream of spectra lie on the specimen: a map, a line, or one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from acquire.export.source import LinearAxis
from acquire.store.maps import takings_of

MAP_ROW, MAP_COLUMN, MAP_PASS = "map_row", "map_column", "map_pass"
"""Coordinates of a map's spectra: whole numbers from 0."""

_UNEVEN = 0.05
"""Points that are further than this part of their spacing from an even one are no even line."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where frames belong."""

    axes: tuple[LinearAxis, ...]
    """Slowest first; of places in nm, the others (passes of a map, repeats of a line) count from 0."""
    frames: Indices
    """Number of the frame in the stream at each place, one dimension per axis; -1 where there is none."""

    @property
    def missing(self) -> int:
        """Places without a frame."""
        return int(np.count_nonzero(self.frames < 0))


def layout_of(frames: xr.Dataset) -> Layout | None:
    """The layout of a stream of spectra; None if they are no even map or line: then time orders them.

    A map that was taken again and again, and a line, has an axis of repeats.
    """
    if MAP_ROW in frames and MAP_COLUMN in frames:
        return _map(frames)
    return _line(frames)


def _map(frames: xr.Dataset) -> Layout | None:
    found = [_whole(frames, name) for name in (MAP_PASS, MAP_ROW, MAP_COLUMN)]
    passes, rows, columns = (
        np.zeros(frames.sizes["time"], np.intp) if n is None else n for n in found
    )
    if min(int(n.min(initial=0)) for n in (passes, rows, columns)) < 0 or not len(rows):
        return None
    takings = takings_of([n.astype(np.float64) for n in (passes, rows, columns)])
    shape = tuple(int(n.max()) + 1 for n in (takings, passes, rows, columns))
    places = np.full(shape, -1, np.intp)
    places[takings, passes, rows, columns] = np.arange(len(rows))
    axes = (
        LinearAxis("repeat", 0.0, 1.0, shape[0], ""),
        LinearAxis("pass", 0.0, 1.0, shape[1], ""),
        _places("y", rows, frames, "position_y"),
        _places("x", columns, frames, "position_x"),
    )
    kept = [shape[0] > 1, shape[1] > 1, True, True]
    return Layout(
        tuple(axis for axis, wanted in zip(axes, kept, strict=True) if wanted),
        places.reshape([n for n, wanted in zip(shape, kept, strict=True) if wanted]),
    )


def _whole(frames: xr.Dataset, name: str) -> Indices | None:
    """A coordinate of whole numbers; None without it, -1 where it is not told."""
    if name not in frames:
        return None
    values = np.asarray(frames[name].values, np.float64)
    return np.asarray(np.where(np.isfinite(values), np.rint(values), -1.0), np.intp)


def _places(name: str, numbers: Indices, frames: xr.Dataset, column: str) -> LinearAxis:
    """The axis of rows or columns, in nm where positions tell a spacing."""
    size = int(numbers.max()) + 1
    nm = (
        np.asarray(frames[column].values, np.float64)
        if column in frames
        else np.full(len(numbers), np.nan)
    )
    known = np.isfinite(nm)
    if not known.any():
        return LinearAxis(name, 0.0, 1.0, size, "")
    n, at = numbers[known].astype(np.float64), nm[known]
    if np.ptp(n) == 0:
        # a single row or column: where it lies is known, but not how far apart others would be
        known_place = size == 1
        offset = float(np.median(at)) if known_place else 0.0
        return LinearAxis(name, offset, 1.0, size, "nm" if known_place else "")
    step, start = np.polyfit(n, at, 1)
    if step == 0:
        return LinearAxis(name, 0.0, 1.0, size, "")
    # no digits beyond those of the positions
    return LinearAxis(name, float(round(start, 9)), float(round(step, 9)), size, "nm")


def _line(frames: xr.Dataset) -> Layout | None:
    if "position_x" not in frames or "position_y" not in frames:
        return None
    x, y = (np.asarray(frames[name].values, np.float64) for name in ("position_x", "position_y"))
    if len(x) < 2 or not np.isfinite(x + y).all():
        return None
    # from the end of the line that was taken first
    distance = np.hypot(x - x[0], y - y[0])
    far = int(np.argmax(distance))
    length = float(distance[far])
    if not length > 0:
        return None
    along = ((x - x[0]) * (x[far] - x[0]) + (y - y[0]) * (y[far] - y[0])) / length
    across = ((x - x[0]) * (y[far] - y[0]) - (y - y[0]) * (x[far] - x[0])) / length
    spacings = np.diff(np.unique(np.round(along, 6)))
    if not spacings.size:
        return None
    step = length / max(1, round(length / float(spacings.min())))
    points = np.rint(along / step).astype(np.intp)
    if (
        points.min() < 0
        or max(np.ptp(across), np.abs(along - step * points).max()) > _UNEVEN * step
    ):
        return None
    # a point that is not beyond the one before begins the line anew
    repeats = np.concatenate([[0], np.cumsum(np.diff(points) <= 0)])
    count, most = int(points.max()) + 1, int(repeats[-1]) + 1
    if count < 2 or most * count > 4 * len(points):
        return None  # scattered points
    places = np.full((most, count), -1, np.intp)
    places[repeats, points] = np.arange(len(points))
    axis = LinearAxis("x", 0.0, step, count, "nm")
    if most == 1:
        return Layout((axis,), places[0])
    return Layout((LinearAxis("repeat", 0.0, 1.0, most, ""), axis), places)
