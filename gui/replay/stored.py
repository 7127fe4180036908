"""A stored run with its segments on one axis of time: its story, and any of its frames."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr

from acquire.engine.live_maps import LiveMap
from acquire.engine.status import LiveImage, LiveSpectrum
from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store import JOURNAL_NAME, Run, segments, time_offsets_s
from acquire.store.layout import METADATA_NAME, NOTES_NAME
from acquire.store.locking import is_held
from acquire.store.segments import run_folder
from gui.replay.cache import ArrayCache
from gui.replay.curves import read_added, read_series, read_steps, step_starts_s
from gui.replay.maps import StoredMaps
from gui.replay.moments import NAN, Ending, Floats, Scene, Story, Wish
from gui.replay.places import StoredPlaces
from gui.replay.tables import ParticleTables

_T = TypeVar("_T")
IMAGES, SPECTRA = "images", "spectra"
_DETECTORS = ("time", "y", "x")
_READERS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The frames of a stream in one segment."""

    run: Run
    data: xr.Dataset
    index: AnyArray
    """(n,) int64 frame numbers."""
    t_start_s: Floats
    t_end_s: Floats


@dataclass(frozen=True, slots=True)
class Track:
    """All frames of one stream, oldest first; rows count through all segments."""

    name: str
    pieces: tuple[Piece, ...]
    t_end_s: Floats
    derived: bool
    """Made of other frames: shown only to those who ask for it by name."""

    def row_at(self, t_s: float) -> int:
        """The last frame whose exposure had ended at a time; -1 before the first."""
        return int(np.searchsorted(self.t_end_s, t_s, "right")) - 1

    def at(self, row: int) -> tuple[int, Piece, int]:
        """Number of the segment, its frames, and the row among those."""
        for number, piece in enumerate(self.pieces):
            if row < len(piece.index):
                return number, piece, row
            row -= len(piece.index)
        raise IndexError(row)


class StoredRun:
    """A run that is looked at; one thread calls its methods, except :meth:`fetch`, which any may call.

    Args:
        path: folder of the run or of a segment, or the ``run.zarr`` in it.

    Raises:
        StoreError: there is none, or it cannot be read.
    """

    def __init__(self, path: Path, cache: ArrayCache | None = None) -> None:
        self._cache = cache if cache is not None else ArrayCache()
        self._given = path
        self._map_serials = itertools.count(1)
        self._readers = ThreadPoolExecutor(_READERS, "replay-read")
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the reading threads."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------ as a whole

    def story(self) -> Story:
        """What happened; reads every curve."""
        first, last = self._runs[0], self._runs[-1]
        trouble: list[str] = list(self._trouble)
        series, units = read_series(self._runs, self._offsets_s, trouble)
        series = replace(series, notes=(*series.notes, *read_added(first, trouble)))
        times = [t.t_end_s[-1] for t in self._tracks.values() if len(t.t_end_s)]
        times += [t[-1] for t in (series.t_s, series.estimate_t_s) if len(t)]
        if last.report is not None:
            times.append(last.report.t_end_s + self._offsets_s[-1])
        t_end_s = max((float(t) for t in times if np.isfinite(t)), default=0.0)
        ending, cause = ending_of(last)
        header = first.header
        simulated = bool(header.simulation) or any(i.simulated for i in header.instruments.values())
        return Story(
            path=first.path,
            name=header.name,
            station=header.station,
            simulated=simulated,
            begun_unix_s=begun_unix_s(first),
            ending=ending,
            cause=cause,
            t_end_s=t_end_s,
            series=series,
            units=units,
            plan=read_steps(self._runs, self._offsets_s, t_end_s),
            frames={name: track.t_end_s for name, track in self._tracks.items()},
            segments=len(self._runs),
            trouble=tuple(dict.fromkeys(trouble)),
        )

    def refresh(self) -> bool:
        """See what has been written since; whether anything has."""
        if self._marks() == self._seen:
            return False
        self._look()
        return True

    @property
    def growing(self) -> bool:
        """Whether the run may still grow: it is being written, or has not been closed."""
        return self._runs[-1].report is None

    # ------------------------------------------------------------------ at a moment

    def scene(self, wish: Wish) -> Scene:
        """What was there at the wished time; what cannot be read is left out and named."""
        trouble: list[str] = []
        image = self._try(trouble, lambda: self._image(wish, trouble))
        spectrum = self._try(trouble, lambda: self._spectrum(wish.t_s))
        grown = self._try(trouble, lambda: self._map(wish))
        return Scene(wish, image, spectrum, grown, tuple(dict.fromkeys(trouble)))

    def track(self, wish: Wish) -> Track | None:
        """The image stream that a wish is for."""
        tracks = [t for t in self._tracks.values() if self._kinds[t.name] == IMAGES]
        if wish.stream:
            return next((t for t in tracks if t.name == wish.stream), None)
        there = [(t.t_end_s[t.row_at(wish.t_s)], t) for t in tracks if t.row_at(wish.t_s) >= 0]
        first = [(t_s, t) for t_s, t in there if not t.derived] or there
        return max(first, key=lambda pair: pair[0])[1] if first else None

    def fetch(self, track: Track, row: int) -> None:
        """Read a frame into the cache, if it is not there yet; raises StoreError."""
        number, piece, row = track.at(row)
        for name in _detectors(piece):
            self._array(track.name, number, piece, row, name)

    # ------------------------------------------------------------------ inside

    def _look(self) -> None:
        self._runs = segments(self._given)
        self._seen = self._marks()  # before anything else is read: what comes meanwhile is new
        self._offsets_s = time_offsets_s(self._runs)
        self._trouble: list[str] = []
        self._kinds: dict[str, str] = {}
        for run in self._runs:
            self._kinds |= run.streams
        self._tracks = {name: self._track(name, kind) for name, kind in self._kinds.items()}
        self._tables = ParticleTables(self._runs, self._cache)
        self._places: dict[tuple[int, str], StoredPlaces] = {}
        self._maps = [StoredMaps(run, step_starts_s(run), self._map_serials) for run in self._runs]

    def _track(self, name: str, kind: str) -> Track:
        pieces = []
        for run, offset_s in zip(self._runs, self._offsets_s, strict=True):
            if name not in run.streams:
                continue
            try:
                data = run.images(name) if kind == IMAGES else run.spectra(name)
                index = data.frame_index.values
                start_s, end_s = data.time.values + offset_s, data.t_end.values + offset_s
            except StoreError as error:
                self._trouble.append(str(error))
                continue
            pieces.append(Piece(run, data, index, start_s, end_s))
        ends = [piece.t_end_s for piece in pieces]
        derived = any("frames" in p.data.data_vars for p in pieces)
        return Track(name, tuple(pieces), np.concatenate(ends) if ends else np.empty(0), derived)

    def _marks(self) -> tuple[object, ...]:
        files = [
            p for r in self._runs for p in (r.zarr_path / METADATA_NAME, r.path / JOURNAL_NAME)
        ] + [run_folder(self._given) / NOTES_NAME]
        return len(self._runs), [_stamp(file) for file in files], ending_of(self._runs[-1])

    def _image(self, wish: Wish, trouble: list[str]) -> LiveImage | None:
        track = self.track(wish)
        row = track.row_at(wish.t_s) if track is not None else -1
        if track is None or row < 0:
            return None
        number, piece, own = track.at(row)
        names = _detectors(piece)
        arrays = self._readers.map(
            lambda name: self._array(track.name, number, piece, own, name), names
        )
        index = int(piece.index[own])
        measured, table = -1, dict[str, AnyArray]()
        found = self._try(trouble, lambda: self._tables.at(number, track.name, index))
        if found is not None:
            measured, table = found
        placed = self._try(trouble, lambda: self._place(number, track.name, piece, index))
        place_index, place_x_nm, place_y_nm = placed or (-1, NAN, NAN)
        x, y = piece.data.x.values, piece.data.y.values
        axis = x if len(x) > 1 else y  # pixels are square, and an image may be one wide
        return LiveImage(
            serial=row,
            stream=track.name,
            index=index,
            t_s=float(piece.t_start_s[own]),
            pixel_size_nm=abs(float(axis[1] - axis[0])) if len(axis) > 1 else 1.0,
            detectors=dict(zip(names, arrays, strict=True)),
            estimate_index=measured,
            particles=table,
            streams=tuple(name for name, kind in self._kinds.items() if kind == IMAGES),
            place_index=place_index,
            place_x_nm=place_x_nm,
            place_y_nm=place_y_nm,
        )

    def _place(
        self, number: int, stream: str, piece: Piece, index: int
    ) -> tuple[int, float, float]:
        if (number, stream) not in self._places:
            self._places[number, stream] = StoredPlaces(piece.run, stream, piece.data)
        return self._places[number, stream].at(index)

    def _map(self, wish: Wish) -> LiveMap | None:
        """Of the newest segment that had one by then."""
        parts = list(zip(self._maps, self._offsets_s, strict=True))
        found = (maps.at(wish.map, wish.t_s - offset_s) for maps, offset_s in reversed(parts))
        return next((one for one in found if one is not None), None)

    def _spectrum(self, t_s: float) -> LiveSpectrum | None:
        tracks = [t for t in self._tracks.values() if self._kinds[t.name] == SPECTRA]
        there = [(t.t_end_s[t.row_at(t_s)], t) for t in tracks if t.row_at(t_s) >= 0]
        if not there:
            return None
        track = max(there, key=lambda pair: pair[0])[1]
        row = track.row_at(t_s)
        number, piece, own = track.at(row)
        counts: dict[str, AnyArray] = {}
        energies: dict[str, AnyArray] = {}
        for name, variable in piece.data.data_vars.items():
            axis = str(variable.dims[-1])
            if not axis.startswith("energy"):
                continue
            values = self._array(track.name, number, piece, own, str(name))
            energies[str(name)] = piece.data[axis].values
            counts[str(name)] = values.reshape(-1, values.shape[-1])[-1]
        return LiveSpectrum(
            row, track.name, int(piece.index[own]), float(piece.t_start_s[own]), counts, energies
        )

    def _array(self, stream: str, number: int, piece: Piece, row: int, name: str) -> AnyArray:
        def read() -> AnyArray:
            found: AnyArray = np.asarray(piece.data[name].variable[row].values)
            found.setflags(write=False)
            return found

        return self._cache.get((stream, number, row, name), read)

    @staticmethod
    def _try(trouble: list[str], read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except StoreError as error:
            trouble.append(str(error))
            return None


def ending_of(run: Run) -> tuple[Ending, str]:
    """How a segment ended, and why; whether anybody writes it is asked of its journal's lock."""
    if run.report is not None:
        return Ending(run.report.outcome), run.report.cause
    try:
        alive = is_held(run.path / JOURNAL_NAME)
    except StoreError as error:
        return Ending.CUT_OFF, str(error)
    if alive:
        return Ending.WRITTEN, ""
    return Ending.CUT_OFF, (
        f"its program died; what it left can be seen here. `hotstage recover {run.path}` gets back "
        "what else lies on the disk, and closes it."
    )


def begun_unix_s(run: Run) -> float:
    """When a run began on the wall; runs in virtual time tell it in their journal only."""
    if run.header.epoch_unix_s > 0:
        return run.header.epoch_unix_s
    try:
        with (run.path / JOURNAL_NAME).open("rb") as journal:
            return datetime.fromisoformat(json.loads(journal.readline())["wall"]).timestamp()
    except (OSError, ValueError, KeyError, TypeError):
        return NAN


def last_time_s(run: Run) -> float:
    """The latest time on anything in a segment that was not closed; NaN if it is empty."""
    times = [run.table(name).time.values[-1:] for name in run.tables]
    for name, kind in run.streams.items():
        data = run.images(name) if kind == IMAGES else run.spectra(name)
        times.append(data.t_end.values[-1:])
    joined = np.concatenate(times) if times else np.empty(0)
    return float(joined.max()) if joined.size else NAN


def _detectors(piece: Piece) -> list[str]:
    """Detectors in the order in which the recipe names them: the store has them by the alphabet."""
    variables = piece.data.data_vars.items()
    names = [str(n) for n, v in variables if v.dims == _DETECTORS and n != "frames"]
    recipe = piece.run.header.recipe_yaml
    return sorted(names, key=lambda name: (name not in recipe, recipe.find(name)))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
