"""Notices when the machine itself stands still: nobody can publish while its disk takes no write."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from acquire.store.files import write_whole

EVERY_S = 0.1
FILES = 20
"""Files that it replaces each time: about a publication's."""
SEEN_S = 0.1
"""Shorter stalls are no excuse."""
BEFORE_S = 2.0
"""How long before a death a stall may have begun that delayed its last publications."""


class Canary:
    """Replaces small files again and again, as a publication does, and notes when that takes long."""

    def __init__(self, place: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="canary-", dir=place))
        self._stop = threading.Event()
        self._stalls: deque[tuple[float, float]] = deque(maxlen=10_000)
        """Wall time of the end, and duration."""
        self._thread = threading.Thread(target=self._sing, name="canary", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        shutil.rmtree(self._folder)

    def stalled_s(self, unix_s: float) -> float:
        """How long the machine stood still in all, in the time before a moment on the wall."""
        return sum(
            min(end_s, unix_s) - max(end_s - took_s, unix_s - BEFORE_S)
            for end_s, took_s in list(self._stalls)
            if end_s - took_s < unix_s and end_s > unix_s - BEFORE_S
        )

    def _sing(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            for number in range(FILES):
                write_whole(self._folder / str(number), b"all is well")
            self._stop.wait(EVERY_S)
            took_s = time.monotonic() - began - EVERY_S
            if took_s > SEEN_S:
                self._stalls.append((time.time(), took_s))
