"""After a run: smaller images for quick looks, and least, greatest and mean values of every frame.

Everything is made in a folder beside the Zarr group and moved into it when it is whole; the metadata
that show it come last. Whoever is stopped or killed before leaves the run as it was, and the next
call goes on where that one ended.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.store.after.condensing import Channel, Condenser
from acquire.store.after.plan import Overview, plan_overviews
from acquire.store.files import append_lines, make_folder, store_error, sync_files, write_whole
from acquire.store.layout import (
    CHECKSUMS_NAME,
    JOURNAL_NAME,
    METADATA_NAME,
    ZARR_NAME,
    ArrayLayout,
    to_json,
)
from acquire.store.locking import try_hold
from acquire.store.rewrite import rewrite_metadata
from acquire.store.run import open_run
from acquire.units import show_bytes

logger = logging.getLogger(__name__)

WORK_NAME = "consolidating"
"""Folder of a run with what is not finished yet."""

_PROGRESS_NAME = "progress.json"
_THREADS = 2
_SPARE_BYTES = 256 * 2**20
"""Room on the disk that is left alone."""


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What :func:`consolidate_run` did."""

    complete: bool
    """False if it was stopped; the next call goes on."""
    made: tuple[str, ...] = ()
    """Paths of arrays that are new; empty if all were there."""
    frames: int = 0
    """Frames that were read."""
    unreadable: tuple[str, ...] = ()
    """Frames whose checksum is wrong: their statistics are NaN, and they have no smaller image."""


def consolidate_run(
    path: Path | str,
    *,
    progress: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Consolidation:
    """Make smaller images and statistics of a run that has ended; nothing recorded is altered.

    Images get levels of half, a quarter and so on of their size, down to 256 pixels, which OME-NGFF
    readers find by themselves, and columns ``<detector>_min``, ``_max``, ``_mean``; spectra get
    ``<channel>_total``. Memory is bounded (a batch is some 64 MB of half-size images). What is there
    and fits is not made again.

    Args:
        path: the folder of a run.
        progress: told the part that is done, 0 to 1.
        stop: asked after every batch (about a second); what is done is kept for the next call.

    Raises:
        StoreError: the run is being written or was cut off, the disk has no room, or a file cannot
            be read or written; the run is as it was.
    """
    run = open_run(path)
    with _alone(run.path):
        run.refresh()
        if run.report is None:
            raise StoreError(
                f"{run.path} was cut off and never closed. Run `hotstage recover {run.path}` first."
            )
        group = zarr.open_group(run.zarr_path, mode="r", use_consolidated=True)
        overview = plan_overviews(run.zarr_path, group)
        if overview.shows():
            _remove(run.path / WORK_NAME)
            return Consolidation(complete=True)
        work = _Work(run.path, overview, group)
        return work.carry_out(progress or (lambda part: None), stop or (lambda: False))


def consolidate_within(
    path: Path | str, wall_s: float, stop: Callable[[], bool] | None = None
) -> str:
    """Consolidate a run that has just ended, for so long; what is left to do in words, else ``""``.

    Raises:
        StoreError: see :func:`consolidate_run`.
    """
    ends = time.monotonic() + wall_s
    done = consolidate_run(
        path, stop=lambda: time.monotonic() > ends or (stop is not None and stop())
    )
    if done.complete:
        return ""
    return (
        "smaller images and statistics are not finished; for the rest run "
        f"`hotstage consolidate {path}`"
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of the run: nobody writes, recovers or consolidates it meanwhile."""
    journal = folder / JOURNAL_NAME
    try:
        file: FileIO = journal.open("r+b", buffering=0)
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} has lost its journal. Run `hotstage recover {folder}` first."
        ) from error
    except OSError as error:
        raise store_error(journal, error) from error
    with file:
        if not try_hold(file):
            raise StoreError(
                f"{folder} is in use: it is still being written, recovered or consolidated. "
                "Wait until that has ended."
            )
        yield


@dataclass(slots=True)
class _Done:
    """How far the work is, as it stands in the progress file."""

    channels: list[str] = field(default_factory=list)
    """Paths of channels that are done."""
    current: str = ""
    rows: int = 0
    tails: dict[str, list[float]] = field(default_factory=dict)
    unreadable: dict[str, list[int]] = field(default_factory=dict)
    """Rows by channel."""


class _Work:
    def __init__(self, run: Path, overview: Overview, group: zarr.Group) -> None:
        self._run = run
        self._root = run / ZARR_NAME
        self._folder = run / WORK_NAME
        self._overview = overview
        self._group = group
        self._frames = 0
        self._fingerprint = overview.fingerprint()
        self._done = self._continued()

    def carry_out(
        self, progress: Callable[[float], None], stop: Callable[[], bool]
    ) -> Consolidation:
        todo = [channel for channel in self._overview.channels if not self._is_made(channel)]
        self._check_room(todo)
        total = sum(channel.nbytes for channel in todo) or 1
        before = 0
        with ThreadPoolExecutor(_THREADS, "condense") as threads:
            for channel in todo:
                for rows in self._condense(channel, threads):
                    progress((before + rows * channel.frame_bytes) / total)
                    if stop() and not (channel is todo[-1] and rows == channel.rows):
                        return Consolidation(False, (), self._frames, self._unreadable())
                before += channel.nbytes
        made = self._install()
        progress(1.0)
        return Consolidation(True, made, self._frames, self._unreadable())

    def _is_made(self, channel: Channel) -> bool:
        """Whether all arrays of a channel are in the run, or whole beside it."""
        return all(
            self._overview.fits(path)
            or (
                channel.path in self._done.channels
                and (self._folder / path / METADATA_NAME).exists()
            )
            for path in channel.documents()
        )

    def _condense(self, channel: Channel, threads: ThreadPoolExecutor) -> Iterator[int]:
        """Do a channel; gives the rows done after every batch."""
        done = self._done
        array = self._group[channel.path]
        assert isinstance(array, zarr.Array)
        goes_on = done.current == channel.path
        rows, tails = (done.rows, done.tails) if goes_on else (0, {})
        condenser = Condenser(channel, array, self._folder, rows, tails)
        if not channel.rows:
            condenser.finish_empty()
        while condenser.rows < channel.rows:
            unreadable = condenser.batch(threads)
            self._frames += condenser.rows - rows
            rows = condenser.rows
            if unreadable:
                done.unreadable.setdefault(channel.path, []).extend(unreadable)
            if rows == channel.rows:
                done.channels = list(dict.fromkeys([*done.channels, channel.path]))
                done.current, done.rows, done.tails = "", 0, {}
            else:
                done.current, done.rows = channel.path, rows
                done.tails = {name: tail.tolist() for name, tail in condenser.tails.items()}
            self._note_progress()
            yield rows

    # ------------------------------------------------------------------- where it stands

    def _continued(self) -> _Done:
        """How far an earlier call came; nothing if it was after something else."""
        try:
            document = json.loads((self._folder / _PROGRESS_NAME).read_bytes())
            of = document.pop("of")
            if of == self._fingerprint:
                return _Done(**document)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.debug("%s begins anew: %r", self._folder, error)
        _remove(self._folder)
        make_folder(self._folder)
        return _Done()

    def _note_progress(self) -> None:
        done = self._done
        document = {
            "of": self._fingerprint,
            "channels": done.channels,
            "current": done.current,
            "rows": done.rows,
            "tails": done.tails,
            "unreadable": done.unreadable,
        }
        path = self._folder / _PROGRESS_NAME
        write_whole(path, json.dumps(document).encode())
        sync_files([path])

    def _unreadable(self) -> tuple[str, ...]:
        return tuple(
            f"{path}: row {row}" for path, rows in self._done.unreadable.items() for row in rows
        )

    def _check_room(self, todo: list[Channel]) -> None:
        """Refuse before a disk is filled: smaller images take about a third of the frames' room."""
        needed = 0
        for channel in todo:
            if channel.levels:
                files = (self._root / channel.path).iterdir()
                size = sum(file.stat().st_size for file in files) // 3
                rows = self._done.rows if channel.path == self._done.current else 0
                needed += size * (channel.rows - rows) // max(1, channel.rows)
        free = shutil.disk_usage(self._run).free
        if needed + _SPARE_BYTES > free:
            raise StoreError(
                f"smaller images of {self._run} need about {show_bytes(needed)}, and of the "
                f"{show_bytes(free)} free {show_bytes(_SPARE_BYTES)} are left alone. Free space, "
                "and try again; the run itself is whole."
            )

    # ------------------------------------------------------------------------- the end

    def _install(self) -> tuple[str, ...]:
        """Move what was made into the run, and show it; returns the paths of what is new."""
        overview = self._overview
        shown = overview.shown()
        new = [path for path in overview.documents if not overview.fits(path)]
        for path in new:
            if path in overview.axes:
                self._write_axis(path, *overview.axes[path])
        for path in new:
            self._move(self._folder / path, self._root / path)
        sync_files([self._root / path / METADATA_NAME for path in new])
        self._write_checksums()
        rewrite_metadata(self._root, attributes=overview.attributes)
        _remove(self._folder)
        return tuple(path for path in overview.documents if path not in shown)

    def _write_axis(self, path: str, layout: ArrayLayout, values: NDArray[np.float64]) -> None:
        folder = self._folder / path
        make_folder(folder)
        files = []
        for number, first in enumerate(range(0, len(values), layout.chunk_rows)):
            part = values[first : first + layout.chunk_rows]
            chunk = np.full(layout.chunk_rows, layout.fill, layout.dtype)
            chunk[: len(part)] = part
            files.append(folder / layout.chunk_name(number))
            write_whole(files[-1], layout.compress(chunk))
        files.append(folder / METADATA_NAME)
        write_whole(files[-1], to_json(self._overview.documents[path]))
        sync_files(files)

    def _move(self, source: Path, target: Path) -> None:
        make_folder(target.parent)
        if target.exists():
            _remove(target)  # made for another length: the run was recovered since
        try:
            source.replace(target)
        except OSError as error:
            raise store_error(target, error) from error

    def _write_checksums(self) -> None:
        """Note the checksums of the new columns, whose chunks carry none."""
        lines = []
        for path, document in self._overview.documents.items():
            if len(document["shape"]) > 1:
                continue
            left = document["shape"][0] * 8
            chunk = document["chunk_grid"]["configuration"]["chunk_shape"][0] * 8
            for number in range(-(-left // chunk)):
                name = f"{path}/{ArrayLayout.column_chunk_name(number)}"
                data = (self._root / name).read_bytes()[: min(chunk, left - number * chunk)]
                crc = google_crc32c.value(data)
                lines.append({"path": name, "bytes": len(data), "crc32c": crc})
        file_path = self._run / CHECKSUMS_NAME
        try:
            with file_path.open("a+b", buffering=0) as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                append_lines(file, lines, sync=True)
        except OSError as error:
            raise store_error(file_path, error) from error


def _remove(folder: Path) -> None:
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise store_error(folder, error) from error
