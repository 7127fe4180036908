"""The runs in a folder, each in a line; what cannot be read is named, never left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from acquire.errors import StoreError
from acquire.store import JOURNAL_NAME, ZARR_NAME, Run, open_run
from acquire.store.layout import METADATA_NAME
from acquire.store.segments import segment_folders
from gui.replay.moments import NAN, Ending
from gui.replay.stored import begun_unix_s, ending_of, last_time_s

_DEPTH = 3
"""Folders below the chosen one that are looked into; runs are not."""
MOST_RUNS = 5000
_Stamp = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list; NaN where it does not tell."""

    path: Path
    name: str
    """Of its recipe."""
    ending: Ending
    cause: str
    begun_unix_s: float = NAN
    duration_s: float = NAN
    highest_celsius: float = NAN
    frames: int = 0
    bytes: int = 0
    segments: int = 1


class Catalogue:
    """Lists runs, and remembers those that have not changed since."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Stamp, RunLine]] = {}

    def lines(self, folder: Path) -> Iterator[RunLine]:
        """The runs in a folder and up to three folders below it, as they are found.

        Raises:
            StoreError: the folder itself cannot be read.
        """
        if not folder.exists():
            raise StoreError(f"there is no folder {folder}; choose another one.")
        for count, (place, error) in enumerate(_places(folder, _DEPTH)):
            if count >= MOST_RUNS:
                raise StoreError(f"{folder} has more than {MOST_RUNS} runs; choose one below it.")
            yield RunLine(place, "", Ending.UNREADABLE, error) if error else self._line(place)

    def _line(self, place: Path) -> RunLine:
        stamp = _stamp(place)
        known = self._known.get(place)
        if known is not None and known[0] == stamp and known[1].ending is not Ending.WRITTEN:
            return known[1]
        line = _read(place)
        self._known[place] = stamp, line
        return line


def _places(folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """Folders of runs, newest name first, and why one cannot be looked into (empty: it can)."""
    if _is_run(folder):
        yield folder, ""
        return
    try:
        below = sorted((p for p in folder.iterdir() if p.is_dir()), reverse=True)
    except OSError as error:
        if depth == _DEPTH:
            raise StoreError(
                f"{folder} cannot be read: {error.strerror or error}. Choose another folder."
            ) from error
        yield folder, f"the folder cannot be read: {error.strerror or error}"
        return
    for place in below:
        if _is_run(place):
            yield place, ""
        elif depth and not place.is_symlink() and not place.name.startswith("."):
            yield from _places(place, depth - 1)


def _is_run(place: Path) -> bool:
    return (place / ZARR_NAME).is_dir() or (place / JOURNAL_NAME).is_file()


def _read(place: Path) -> RunLine:
    try:
        folders = segment_folders(place)
        runs = [
            open_run(f) for f in folders if f == place or (f / ZARR_NAME / METADATA_NAME).exists()
        ]
        first, last = runs[0], runs[-1]
        ending, cause = ending_of(last)
        line = RunLine(place, first.header.name, ending, cause, begun_unix_s(first))
        return replace(
            line,
            duration_s=sum(_duration_s(run) for run in runs),
            highest_celsius=_highest([h for run in runs for h in _measured(run)]),
            frames=sum(_frames(run) for run in runs),
            bytes=_bytes(place),
            segments=len(runs),
        )
    except (StoreError, OSError) as error:
        return RunLine(place, "", Ending.UNREADABLE, str(error), bytes=_bytes(place))


def _duration_s(run: Run) -> float:
    return run.report.t_end_s if run.report is not None else last_time_s(run)


def _frames(run: Run) -> int:
    if run.report is not None:
        return sum(run.report.frames.values())
    kinds = run.streams.items()
    data = (run.images(name) if kind == "images" else run.spectra(name) for name, kind in kinds)
    return sum(found.sizes["time"] for found in data)


def _measured(run: Run) -> list[Any]:
    return (
        [run.holder.measured.values] if "holder" in run.tables and "measured" in run.holder else []
    )


def _highest(parts: list[Any]) -> float:
    highest = [float(np.nanmax(part)) for part in parts if np.isfinite(part).any()]
    return max(highest, default=NAN)


def _stamp(place: Path) -> _Stamp:
    names = (f"{ZARR_NAME}/{METADATA_NAME}", JOURNAL_NAME)
    return tuple(_size_and_time(folder / name) for folder in _segments_of(place) for name in names)


def _segments_of(place: Path) -> tuple[Path, ...]:
    try:
        return segment_folders(place)
    except OSError:
        return (place,)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _bytes(place: Path) -> int:
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue  # a file that was replaced while we looked
    return total
