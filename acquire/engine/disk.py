"""The disk that a run is written to: how fast it is, how far behind, how much of it is left."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from acquire.engine.context import RunContext
from acquire.errors import HotstageError
from acquire.units import show_bytes

BEHIND = 0.5
"""Fullness of the room for waiting records from which the disk counts as behind."""
LEAST_FREE_BYTES = 256_000_000
"""A run ends before less than this is free: enough for what waits, the way down and the summary."""
LOOK_EVERY_S = 1.0
_MOMENT_S = 0.1
"""Wall time in which a disk that is well tells its free space."""

_STEP_BYTES = 4 * 2**20
_MOST_BYTES = 48 * 2**20
_MEASURE_FOR_S = 0.5
_WINDOWS_S = (1.0, 10.0)
_BUFFERED_BYTES = 24 * 2**20
"""Half the room for waiting records: a burst of so much need not be on the disk at once."""


def nearest(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def free_bytes(folder: Path) -> int:
    """Free space where a folder is, or will be; raises HotstageError."""
    place = nearest(folder)
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        raise HotstageError(f"the free space of {place} cannot be read: {error}") from error


class FreeSpace:
    """Free space where a folder is, for whoever must not be held up by a disk that does not answer.

    Any thread may call.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._known: int | None = None
        self._reading: threading.Thread | None = None

    def look(self) -> int | None:
        """Bytes, read now, or if that takes longer than a moment the last that were read.

        None if none were, or the disk says that they cannot be.
        """
        with self._lock:
            if self._reading is not None and self._reading.is_alive():
                return self._known  # nobody waits twice for a disk that hangs
            self._reading = threading.Thread(target=self._read, name="free-space", daemon=True)
            self._reading.start()
            reading = self._reading
        reading.join(_MOMENT_S)
        return self._known

    def _read(self) -> None:
        try:
            self._known = free_bytes(self._folder)
        except HotstageError:
            self._known = None  # the writer will say what is wrong with the disk


def disk_bytes_per_s(folder: Path) -> float:
    """How fast files grow durably where a folder is, or will be; takes half a second, leaves nothing.

    Raises:
        HotstageError: nothing can be written there.
    """
    place = nearest(folder)
    data = os.urandom(_STEP_BYTES)  # because a compressing file system would not write zeros
    written = 0
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            began = time.monotonic()
            while written < _MOST_BYTES and time.monotonic() - began < _MEASURE_FOR_S:
                written += file.write(data)
                os.fsync(file.fileno())
            took_s = time.monotonic() - began
    except OSError as error:
        raise HotstageError(
            f"the speed of the disk cannot be measured in {place}: {error.strerror or error}."
        ) from error
    return written / took_s


class Demand:
    """Finds, from records as they come, the fastest that a disk would have to be.

    It is the most bytes within a window of time, less what may wait in memory, for a short window
    and for a long one.
    """

    def __init__(self) -> None:
        self.bytes_per_s = 0.0
        self._windows = [(width_s, _Window(width_s)) for width_s in _WINDOWS_S]

    def add(self, t_s: float, nbytes: int) -> None:
        """A record of ``nbytes`` comes at ``t_s``, in run time."""
        for width_s, window in self._windows:
            within = window.add(t_s, nbytes)
            self.bytes_per_s = max(self.bytes_per_s, (within - _BUFFERED_BYTES) / width_s)


class _Window:
    def __init__(self, width_s: float) -> None:
        self._width_s = width_s
        self._records: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def add(self, t_s: float, nbytes: int) -> int:
        self._records.append((t_s, nbytes))
        self._bytes += nbytes
        while self._records[0][0] <= t_s - self._width_s:
            self._bytes -= self._records.popleft()[1]
        return self._bytes


class DiskWatch:
    """Looks after the disk while a run is on; any thread may call."""

    def __init__(self, run: RunContext, folder: Path | None) -> None:
        self._run = run
        self._space = FreeSpace(folder) if folder is not None and run.enforce else None
        self._looked_s = -math.inf
        self._told_behind = False
        when_behind = run.recipe.store.when_behind
        self._behind_text = (
            "the disk is behind: half of the memory for records that wait to be written is in use. "
            f"When all of it is, the run {'waits' if when_behind == 'wait' else 'fails'} "
            f"(store.when_behind: {when_behind}). Record less, or choose a faster disk."
        )

    def took_record(self) -> None:
        """Warn, once, if records come faster than they are written."""
        if not self._told_behind and self._run.sink.fullness > BEHIND:
            self._told_behind = True
            self._run.warn(self._behind_text)

    def look(self) -> None:
        """End the run if it has taken what it may, or the disk is almost full; once a second."""
        run, now_s = self._run, self._run.now_s()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        limit = run.recipe.limits.disk
        written = int(getattr(run.sink, "bytes_written", 0)) + run.earlier.disk_bytes
        if limit is not None and written > limit:
            run.break_limit(
                "disk",
                f"the run has taken {show_bytes(written)} of the disk, more than the recipe's limit "
                f"of {show_bytes(limit)} (limits.disk). Raise the limit, or record less.",
            )
        free = self._space.look() if self._space is not None else None
        if free is not None and free < LEAST_FREE_BYTES:
            run.abort(
                f"the disk is almost full: {show_bytes(free)} are free, and a run ends before less "
                f"than {show_bytes(LEAST_FREE_BYTES)} is. Free some space; what was recorded is whole."
            )
