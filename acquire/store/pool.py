"""A few threads that compress and write records; what waits for them is bounded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from acquire.errors import StoreError
from acquire.units import show_bytes

logger = logging.getLogger(__name__)

MOST_WAITING_BYTES = 48 * 2**20
"""Records in memory that are not on disk yet, of all streams together."""

WAKE_BYTES = 2**20
"""Whoever waits for room is woken when there is so much: to be woken for every record would cost a
fifth of the speed with small ones."""

MOST_OPEN_FILES = 256
"""Files that a run keeps open for its frames; systems allow a process 1024, Windows 512."""

Work = Callable[[], None]


class OpenFiles:
    """Counts the files that may stay open between two writes; who gets no place closes its own."""

    def __init__(self, most: int = MOST_OPEN_FILES) -> None:
        self._most = most
        self._open = 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether there is a place; it is taken then."""
        with self._lock:
            if self._open >= self._most:
                return False
            self._open += 1
            return True

    def give_back(self) -> None:
        """Give a place back that was taken."""
        with self._lock:
            self._open -= 1


class WritePool:
    """Does work in threads of its own, bounded by the bytes that the work holds in memory.

    After the first error nothing more is done: ``failure`` holds it, ``submit`` raises it and
    ``on_failure`` is told at once, from the thread that met it.
    """

    def __init__(
        self,
        threads: int = 2,
        most_bytes: int = MOST_WAITING_BYTES,
        *,
        wait: bool = True,
        on_failure: Callable[[StoreError], None] | None = None,
    ) -> None:
        self.most_bytes = most_bytes
        self.files = OpenFiles()
        self.highest_bytes = 0
        """The most that ever waited."""
        self.waits = 0
        """How often somebody had to wait for room."""
        self._wait = wait
        self._on_failure = on_failure
        self._queue: SimpleQueue[tuple[Work, int] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._settlers = 0
        self._wake_at = -1
        """Somebody waits for so few bytes to wait."""
        self._waiting_bytes = 0
        self._submitted = 0
        self._done = 0
        self._failure: StoreError | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"store-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def failure(self) -> StoreError | None:
        """The first error, if there was one."""
        return self._failure

    @property
    def fullness(self) -> float:
        """How much of the room is taken: 0 to 1, and above 1 for a record larger than the room."""
        return self._waiting_bytes / self.most_bytes

    def submit(self, work: Work, nbytes: int) -> None:
        """Let ``work`` be done, which holds ``nbytes`` in memory until then.

        Waits for room, or raises if the pool was told not to wait. A record larger than all room
        is taken when nothing else waits.

        Raises:
            StoreError: something could not be written before, or there is no room.
        """
        with self._lock:
            if self._waiting_bytes + nbytes > self.most_bytes and self._waiting_bytes:
                self._make_room(nbytes)
            if self._failure is not None:
                raise StoreError(str(self._failure)) from self._failure
            if self._closed:
                raise StoreError("the store is closed.")
            self._waiting_bytes += nbytes
            self._submitted += 1
            self.highest_bytes = max(self.highest_bytes, self._waiting_bytes)
        self._queue.put((work, nbytes))

    def _make_room(self, nbytes: int) -> None:
        self.waits += 1
        if not self._wait:
            raise StoreError(
                f"the disk cannot keep up: {show_bytes(self._waiting_bytes)} wait to be written and "
                f"{show_bytes(self.most_bytes)} is all that may. Record less, choose a faster disk, "
                "or let the run wait for the disk (store.when_behind: wait)."
            )
        level = max(0, self.most_bytes - max(nbytes, min(WAKE_BYTES, self.most_bytes // 2)))
        while self._waiting_bytes > level and self._failure is None:
            self._wake_at = max(self._wake_at, level)
            self._changed.wait()

    def settle(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was submitted before is done; False if that takes too long."""
        with self._lock:
            target = self._submitted
            self._settlers += 1
            try:
                return self._changed.wait_for(
                    lambda: self._done >= target or self._failure is not None, timeout_s
                )
            finally:
                self._settlers -= 1

    def close(self) -> None:
        """Finish what was submitted and end the threads; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            work, nbytes = item
            if self._failure is None:
                try:
                    work()
                except Exception as error:  # noqa: BLE001  a dead thread must end the run, not hide
                    self._fail(error)
            del work, item  # else the last record would stay in memory while nothing comes
            with self._lock:
                self._waiting_bytes -= nbytes
                self._done += 1
                if self._settlers or self._waiting_bytes <= self._wake_at:
                    self._wake_at = -1
                    self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, StoreError):
            logger.error("writing failed", exc_info=error)
            error = StoreError(f"a record could not be written: {error!r}.")
        with self._lock:
            if self._failure is not None:
                return
            self._failure = error
            self._changed.notify_all()
        if self._on_failure is not None:
            self._on_failure(error)
