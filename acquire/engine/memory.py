"""Tells which estimator makes the process grow, and accuses none that may be innocent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import psutil

LEAK_BYTES = 512 * 2**20
"""Growth of the process from which somebody is to blame."""


def resident_bytes() -> int:
    """Memory that this process has in use."""
    return int(_process(os.getpid()).memory_info().rss)


@lru_cache(maxsize=1)
def _process(pid: int) -> psutil.Process:
    # it reads when the process was created, which takes longer than what is asked of it twice a frame
    return psutil.Process(pid)


class MemoryAccount:
    """Growth of the process during the work of each of several names, for use from many threads.

    What grows while two of them work at once is put down to neither, so that a slow innocent one is
    not taken for a leaking one beside it.
    """

    def __init__(self, limit_bytes: int, measure: Callable[[], int] = resident_bytes) -> None:
        self._limit = limit_bytes
        self._measure = measure
        self._lock = threading.Lock()
        self._working: list[str] = []
        self._own: dict[str, int] = {}
        self._first = self._last = measure()

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """Context in which ``name`` works."""
        with self._lock:
            self._settle()
            self._working.append(name)
        try:
            yield
        finally:
            with self._lock:
                self._settle()
                self._end(name)

    def forget(self, name: str) -> None:
        """Count ``name`` as not working any more, although it never came back."""
        with self._lock:
            self._settle()
            self._end(name)

    def _end(self, name: str) -> None:
        if name in self._working:
            self._working.remove(name)

    def _settle(self) -> None:
        now = self._measure()
        if len(self._working) == 1:
            name = self._working[0]
            self._own[name] = self._own.get(name, 0) + now - self._last
        self._last = now

    def leaked_by(self, name: str) -> int:
        """Bytes that ``name`` is to blame for, 0 if it may be innocent.

        It is to blame if the process has grown beyond the limit and more than half of that came
        while it alone was working. Then all are judged anew from here on.
        """
        with self._lock:
            grown, own = self._last - self._first, self._own.get(name, 0)
            if grown <= self._limit or own <= grown / 2:
                return 0
            self._first = self._last
            self._own.clear()
            return own
