"""Work that the UI thread must not wait for: done elsewhere in order, its outcome brought back when the UI asks."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acquire.errors import HotstageError

logger = logging.getLogger(__name__)

Done = Callable[[Any, Exception | None], None]
"""Is given what a job returned, or what it raised; called on the UI thread."""


@dataclass(slots=True)
class _Job:
    name: str
    run: Callable[[], Any]
    done: Done


class Background:
    """Lanes of work with a thread or more each, begun with their first job; ``close`` ends them."""

    def __init__(self, stop: threading.Event, threads: dict[str, int] | None = None) -> None:
        self._stop = stop
        self._per_lane = threads or {}
        self._due = threading.Condition()
        self._waiting: dict[str, deque[_Job]] = {}
        self._finished: deque[tuple[_Job, Any, Exception | None]] = deque()
        self.threads: list[threading.Thread] = []

    def submit(
        self, lane: str, run: Callable[[], Any], done: Done, *, newest: bool = False
    ) -> None:
        """Have a job done after those of its lane; ``newest`` drops those that were not begun yet."""
        with self._due:
            if lane not in self._waiting:
                self._waiting[lane] = deque()
                for number in range(self._per_lane.get(lane, 1)):
                    thread = threading.Thread(
                        target=self._serve,
                        args=(lane,),
                        name=f"window-{lane}-{number}",
                        daemon=True,
                    )
                    self.threads.append(thread)
                    thread.start()
            if newest:
                self._waiting[lane].clear()
            self._waiting[lane].append(_Job(lane, run, done))
            self._due.notify_all()

    def deliver(self) -> None:
        """Call who waits for what has been done since the last call; on the UI thread."""
        while self._finished:
            job, result, error = self._finished.popleft()
            job.done(result, error)

    def wake(self) -> None:
        """Let the threads see that they are to stop."""
        with self._due:
            self._due.notify_all()

    def _serve(self, lane: str) -> None:
        while True:
            with self._due:
                while not self._waiting[lane] and not self._stop.is_set():
                    self._due.wait(0.5)
                # what was to be written is written, also when the window closes
                if not self._waiting[lane]:
                    return
                job = self._waiting[lane].popleft()
            result, error = None, None
            try:
                result = job.run()
            except Exception as raised:
                if not isinstance(raised, HotstageError | OSError):
                    logger.exception("%s failed", job.name)
                error = raised
            self._finished.append((job, result, error))
