"""Brings a beam to its safe state in the background, again and again until the device confirms it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from acquire.errors import HotstageError

logger = logging.getLogger(__name__)

AGAIN_WALL_S = 0.3
"""Pause between two attempts."""
CLOSE_WALL_S = 0.5
"""An attempt under way then ends by itself, at the latest when its link is closed."""


class Keeper:
    """One thing that must be done however often it fails.

    Args:
        what: for messages: ``the beam of … is being blanked``.
        action: does it and returns when the device has confirmed it, within bounded time; raises
            HotstageError when it could not.
    """

    def __init__(self, what: str, action: Callable[[], None]) -> None:
        self._what = what
        self._action = action
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._wanted = 0
        self._done = threading.Event()
        self._done.set()

    @property
    def pending(self) -> bool:
        """Whether it is not known yet that it was done."""
        return not self._done.is_set()

    def start(self) -> None:
        """Begin, and return at once; when it is under way already it is done once more."""
        with self._lock:
            if self._closed.is_set():
                return
            self._wanted += 1
            self._done.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
                self._thread.start()

    def wait(self, within_s: float) -> bool:
        """Wait, in wall seconds, until it is done; False if it is not."""
        return self._done.wait(within_s)

    def close(self) -> None:
        """Try no more; idempotent."""
        self._closed.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_WALL_S)

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            with self._lock:
                wanted = self._wanted
            try:
                self._action()
            except HotstageError as error:
                failures += 1
                if failures == 1:
                    logger.warning("%s: failed, and is tried again: %s", self._what, error)
                self._closed.wait(AGAIN_WALL_S)
                continue
            with self._lock:
                if wanted != self._wanted:
                    continue
                if failures:
                    logger.warning("%s: done, after %d failures", self._what, failures)
                self._thread = None
                self._done.set()
                return
        with self._lock:
            self._thread = None
