"""Line scans and maps of a stored run as they were at a moment: what was known of each point by then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from acquire.engine.live_maps import LiveMap
from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store import Run
from acquire.store.maps import grid_of
from gui.replay.moments import Floats

_SIGMA = "_sigma"
_MAP = "map_row"


class StoredMaps:
    """The maps of one segment; times are its own.

    ``serials`` rise through all segments, and when a run is looked at again: a map that differs from
    the one before has another.
    """

    def __init__(self, run: Run, step_starts_s: Sequence[float], serials: Iterator[int]) -> None:
        self._run = run
        self._serials = serials
        self._starts_s = np.sort(np.asarray([*step_starts_s, -np.inf], np.float64))
        self._last: tuple[tuple[object, ...], LiveMap] | None = None
        kinds = run.streams.items()
        self.streams = tuple(n for n, kind in kinds if kind == "spectra" and self._has_places(n))

    def at(self, stream: str, t_s: float) -> LiveMap | None:
        """A map or line with what was known at a time; ``""`` is the one that grew last.

        Raises:
            StoreError: it cannot be read.
        """
        there = [name for name in self.streams if stream in ("", name)]
        newest = [(self._newest_s(name, t_s), name) for name in there]
        begun = [(end_s, name) for end_s, name in newest if np.isfinite(end_s)]
        if not begun:
            return None
        name = max(begun)[1]
        spectra = self._run.spectra(name)
        rows = np.flatnonzero(spectra.t_end.values <= t_s)
        estimates = [e for e in self._estimates(name) if e.sizes["time"]]
        known = [int(np.searchsorted(e.time.values, t_s, "right")) for e in estimates]
        key = (name, len(rows), tuple(known), spectra.sizes["time"])
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        parts = list(zip(estimates, known, strict=True))
        found = self._build(name, spectra, rows, parts, next(self._serials))
        self._last = key, found
        return found

    def _build(
        self,
        name: str,
        spectra: xr.Dataset,
        rows: AnyArray,
        estimates: list[tuple[xr.Dataset, int]],
        serial: int,
    ) -> LiveMap:
        if _MAP in spectra:
            grid = grid_of(self._run, name)
            (passes, height, width), first, spacing = grid.shape, grid.first_nm, grid.spacing_nm
            places = (
                spectra.map_row.values[rows] * width + spectra.map_column.values[rows]
            ).astype(np.int64)
        else:
            rows, width, first, spacing = self._line(spectra, rows)
            passes, height = 1, 1
            places = np.arange(len(rows))
        count = height * width
        taken = np.bincount(places, minlength=count)[:count].reshape(height, width)
        place_of = dict(
            zip(spectra.frame_index.values[rows].tolist(), places.tolist(), strict=True)
        )
        values: dict[str, Floats] = {}
        for data, end in estimates:
            made_of = data.frame_index.values[:end].tolist()
            where = np.array([place_of.get(frame, -1) for frame in made_of], np.int64)
            values |= _means(data, end, where, (height, width))
        return LiveMap(
            serial, name, first, spacing, passes, taken.astype(np.int32), values, self.streams
        )

    def _line(
        self, spectra: xr.Dataset, rows: AnyArray
    ) -> tuple[AnyArray, int, tuple[float, float], tuple[float, float]]:
        """The newest line: rows since the step began, its number of points, first place, spacing."""
        start_s = spectra.time.values
        number = np.searchsorted(self._starts_s, start_s + 1e-9, "right")
        of_line = np.flatnonzero(number == number[rows[-1]])
        x, y = spectra.position_x.values[of_line], spectra.position_y.values[of_line]
        apart = float(np.hypot(x[-1] - x[0], y[-1] - y[0])) / max(1, len(of_line) - 1)
        kept = rows[np.isin(rows, of_line)]
        return kept, len(of_line), (float(x[0]), float(y[0])), (apart or 1.0, 0.0)

    def _newest_s(self, name: str, t_s: float) -> float:
        ends = self._run.spectra(name).t_end.values
        row = int(np.searchsorted(ends, t_s, "right")) - 1
        return float(ends[row]) if row >= 0 else float("nan")

    def _has_places(self, name: str) -> bool:
        try:
            spectra = self._run.spectra(name)
            if _MAP in spectra:
                return True
            return "position_x" in spectra and len(np.unique(spectra.position_x.values)) > 1
        except StoreError:
            return False

    def _estimates(self, stream: str) -> list[xr.Dataset]:
        found = (self._run.estimates(name) for name in self._run.estimators)
        return [data for data in found if data.attrs.get("stream") == stream]


def _means(
    data: xr.Dataset, end: int, where: AnyArray, shape: tuple[int, int]
) -> dict[str, Floats]:
    """Mean of each quantity by place, and its σ; NaN where nothing is known."""
    found: dict[str, Floats] = {}
    for variable in data.data_vars:
        name = str(variable)
        if f"{name}{_SIGMA}" not in data.data_vars:
            continue
        value, sigma = data[name].values[:end], data[f"{name}{_SIGMA}"].values[:end]
        good = (where >= 0) & np.isfinite(value)
        size = shape[0] * shape[1]
        many = np.bincount(where[good], minlength=size)[:size]
        known = np.where(many > 0, many, np.nan)
        total = np.bincount(where[good], value[good], minlength=size)[:size]
        variance = np.bincount(where[good], sigma[good] ** 2, minlength=size)[:size]
        found[name] = (total / known).reshape(shape)
        found[f"{name}{_SIGMA}"] = (np.sqrt(variance) / known).reshape(shape)
    return found
