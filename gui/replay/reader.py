"""Reads one stored run for a window in threads of its own: the newest wish wins, nothing queues up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from acquire.errors import HotstageError
from gui.replay.cache import MOST_BYTES, ArrayCache
from gui.replay.moments import Scene, Story, Wish

if TYPE_CHECKING:
    from gui.replay.stored import StoredRun

logger = logging.getLogger(__name__)

REFRESH_S = 1.0
"""How often a run that is not closed is looked at again, at most."""
_REFRESH_SHARE = 5.0
"""Looking again takes no more than one part in so many of the time."""
_AHEAD_FRAMES = 6


@dataclass(frozen=True, slots=True)
class CannotOpen:
    """Why a run cannot be looked at."""

    path: Path
    error: str


Told = Story | Scene | CannotOpen


class Reader:
    """One run, opened at once in a worker thread.

    Args:
        path: its folder.
        tell: called from a worker thread with the :class:`Story` when it is open and whenever it
            has grown, with a :class:`Scene` for the newest wish, or with :class:`CannotOpen`.
        most_bytes: of frames and tables that are kept in memory.
    """

    def __init__(
        self, path: Path, tell: Callable[[Told], None], most_bytes: int = MOST_BYTES
    ) -> None:
        self.path = path
        self._tell = tell
        self._cache = ArrayCache(most_bytes)
        self._changed = threading.Condition()
        self._wish: Wish | None = None
        self._fulfilled = -1
        self._ahead: Wish | None = None
        self._stopped = self._again = False
        self._run: StoredRun | None = None
        self.threads = tuple(
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (
                ("window-replay", self._serve),
                ("window-replay-ahead", self._read_ahead),
            )
        )
        for thread in self.threads:
            thread.start()

    def wish(self, wish: Wish) -> None:
        """Ask for a scene; returns at once. A wish that was not begun yet is forgotten."""
        with self._changed:
            self._wish = wish
            self._ahead = None
            self._changed.notify_all()

    def look_again(self) -> None:
        """See what was added to the run, also to one that does not grow; returns at once."""
        with self._changed:
            self._again = True
            self._changed.notify_all()

    def close(self, wait_s: float = 0.0) -> None:
        """Stop telling, and end the threads; a read under way is not waited for unless ``wait_s``."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + wait_s
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # ------------------------------------------------------------------ the worker

    def _serve(self) -> None:
        try:
            # the first to need them imports zarr and xarray, off the UI thread
            from gui.replay.stored import StoredRun

            self._run = run = StoredRun(self.path, self._cache)
            story = run.story()
        except Exception as error:
            if not isinstance(error, HotstageError):
                logger.exception("opening %s", self.path)
            self._say(CannotOpen(self.path, str(error) or type(error).__name__))
            return
        self._say(story)
        look_again_s = time.monotonic() + REFRESH_S
        while True:
            wish = self._next_wish(look_again_s if run.growing else None)
            if self._stopped:
                break
            if wish is not None:
                self._fulfil(run, wish)
            due = run.growing and time.monotonic() >= look_again_s
            if due or self._again:
                self._again = False
                look_again_s = time.monotonic() + self._look_again(run)
        run.close()

    def _next_wish(self, until_s: float | None) -> Wish | None:
        """The newest wish that was not fulfilled, as soon as there is one; None when to look again."""
        with self._changed:
            while not self._stopped and not self._again:
                wish = self._wish
                if wish is not None and wish.serial != self._fulfilled:
                    self._fulfilled = wish.serial
                    return wish
                left = None if until_s is None else until_s - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
        return None

    def _fulfil(self, run: StoredRun, wish: Wish) -> None:
        begun = time.perf_counter()
        try:
            scene = run.scene(wish)
        except Exception as error:
            if not isinstance(error, HotstageError):
                logger.exception("reading %s at %s s", self.path, wish.t_s)
            scene = Scene(wish, None, None, trouble=(str(error) or type(error).__name__,))
        self._say(replace(scene, took_s=time.perf_counter() - begun))
        with self._changed:
            if wish.ahead and self._wish is wish:  # nothing newer waits: the time is free
                self._ahead = wish
                self._changed.notify_all()

    def _look_again(self, run: StoredRun) -> float:
        """See what was written since; returns after how many seconds to look again."""
        begun = time.monotonic()
        try:
            if run.refresh():
                self._say(run.story())
        except Exception as error:  # noqa: BLE001 - the next look may succeed
            log = logger.debug if isinstance(error, HotstageError) else logger.error
            log("looking at %s again: %s", self.path, error)
        return max(REFRESH_S, _REFRESH_SHARE * (time.monotonic() - begun))

    def _read_ahead(self) -> None:
        while True:
            with self._changed:
                while self._ahead is None and not self._stopped:
                    self._changed.wait()
                wish, self._ahead, run = self._ahead, None, self._run
            if self._stopped:
                return
            if wish is None or run is None:
                continue
            try:
                self._fetch_after(run, wish)
            except Exception as error:  # noqa: BLE001 - it is told when it is really wanted
                logger.debug("reading ahead in %s: %s", self.path, error)

    def _fetch_after(self, run: StoredRun, wish: Wish) -> None:
        track = run.track(wish)
        if track is None:
            return
        row = track.row_at(wish.t_s)
        for step in range(1, _AHEAD_FRAMES + 1):
            if self._wish is not wish or self._stopped:
                return
            wanted = row + step * wish.ahead
            if 0 <= wanted < len(track.t_end_s):
                run.fetch(track, wanted)

    def _say(self, told: Told) -> None:
        if not self._stopped:
            self._tell(told)
