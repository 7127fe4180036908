"""A program's signs of life to an engine host, by which it keeps control of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from acquire.errors import HotstageError

logger = logging.getLogger(__name__)

EVERY_S = 0.5


class Attending:
    """A thread that calls ``attend`` with a name, begun with the first command; any thread may call."""

    def __init__(self, attend: Callable[[str], bool]) -> None:
        self._attend = attend
        self._begun = False
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def begin(self, who: str) -> None:
        """Give signs of life from now on."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
        threading.Thread(target=self._go_on, args=(who,), name="attend", daemon=True).start()

    def end(self) -> None:
        """Give no more."""
        self._stop.set()

    def _go_on(self, who: str) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                self._attend(who)
            except HotstageError as error:
                logger.debug("the host does not hear that %s lives: %s", who, error)
