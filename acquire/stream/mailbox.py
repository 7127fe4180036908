"""Newest-wins hand-over to whoever must never hold anything up."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from acquire.clock import Clock

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds the newest item; a slow reader misses older ones and is told how many."""

    def __init__(self, clock: Clock) -> None:
        self._lock = threading.Lock()
        self._arrived = clock.signal()
        self._item: T | None = None
        self.missed = 0
        """Items that were replaced before anybody took them."""

    def put(self, item: T) -> None:
        """Replace what is there; never waits."""
        with self._lock:
            if self._item is not None:
                self.missed += 1
            self._item = item
        self._arrived.set()

    def clear(self) -> None:
        """Drop what is there."""
        with self._lock:
            self._item = None

    def wake(self) -> None:
        """Let a waiting ``take`` return with None."""
        self._arrived.set()

    def take(self, timeout_s: float | None = None) -> T | None:
        """The newest item, waiting up to ``timeout_s`` clock seconds for one; None if none came."""
        self._arrived.wait(timeout_s)
        with self._lock:
            item, self._item = self._item, None
            self._arrived.clear()
        return item
