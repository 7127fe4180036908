"""Where the specimen lies in the images of a stored run, so that a viewer can hold it still."""

from __future__ import annotations

import numpy as np
import xarray as xr

from acquire.instruments import AnyArray
from acquire.store import Run
from gui.replay.moments import NAN, Floats

_AXES = ("x", "y")


class StoredPlaces:
    """Drift less scan shift of every image of a stream in one segment that could be placed."""

    def __init__(self, run: Run, stream: str, images: xr.Dataset) -> None:
        self._index: AnyArray = np.empty(0, np.int64)
        self._places: Floats = np.empty((2, 0))
        for name in run.estimators:
            data = run.estimates(name)
            columns = [_ending(data, f"drift_{axis}") for axis in _AXES]
            if data.attrs.get("stream") == stream and all(columns):
                self._take(data, columns, images)
                return

    def at(self, index: int) -> tuple[int, float, float]:
        """Frame that was placed, this one or the last before it, and x and y in nm; -1 and NaN."""
        row = int(np.searchsorted(self._index, index, "right")) - 1
        if row < 0:
            return -1, NAN, NAN
        return int(self._index[row]), float(self._places[0, row]), float(self._places[1, row])

    def _take(self, data: xr.Dataset, columns: list[str], images: xr.Dataset) -> None:
        made_of, frames = data.frame_index.values, images.frame_index.values
        rows = np.searchsorted(frames, made_of)
        there = rows < len(frames)
        there[there] = frames[rows[there]] == made_of[there]
        moved = np.stack([data[column].values for column in columns])
        for row, axis in enumerate(_AXES):
            if f"scan_shift_{axis}" in images:
                shifts = images[f"scan_shift_{axis}"].values
                moved[row, there] -= np.nan_to_num(shifts[rows[there]])
        known = there & np.isfinite(moved).all(axis=0)
        self._index, self._places = made_of[known], moved[:, known]


def _ending(data: xr.Dataset, words: str) -> str:
    """A variable with this name, also after a recipe's prefix; empty if there is none."""
    return next((str(name) for name in data.data_vars if str(name).endswith(words)), "")
