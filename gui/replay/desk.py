"""One worker thread for what the runs page wants read: the newest job of each kind, piece by piece."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from acquire.errors import HotstageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """A job has told everything; ``error`` says why it could not, and is empty otherwise."""

    error: str = ""


class Desk:
    """Carries out jobs one after another.

    Args:
        tell: called from the worker with kind and serial number of a job and a piece of its
            result, the last of which is :class:`Done`.
    """

    def __init__(self, tell: Callable[[str, int, object], None]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._asked: dict[str, tuple[int, Callable[[], Iterable[object]]]] = {}
        self._newest: dict[str, int] = {}
        self._serial = 0
        self._stopped = False
        self.thread = threading.Thread(target=self._work, name="window-runs", daemon=True)
        self.thread.start()

    def ask(self, kind: str, job: Callable[[], Iterable[object]]) -> int:
        """Have a job done; what was asked of its kind before is given up. Returns its number."""
        with self._changed:
            self._serial += 1
            self._asked[kind] = self._serial, job
            self._newest[kind] = self._serial
            self._changed.notify_all()
            return self._serial

    def close(self, wait_s: float = 0.0) -> None:
        """Give up what is asked for and end; waits so many wall seconds at most."""
        with self._changed:
            self._stopped = True
            self._asked.clear()
            self._changed.notify_all()
        self.thread.join(wait_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._asked and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                kind = next(iter(self._asked))
                serial, job = self._asked.pop(kind)
            self._carry_out(kind, serial, job)

    def _carry_out(self, kind: str, serial: int, job: Callable[[], Iterable[object]]) -> None:
        error = ""
        try:
            for piece in job():
                if self._stopped or self._newest[kind] != serial:
                    return
                self._tell(kind, serial, piece)
        except Exception as caught:
            if not isinstance(caught, HotstageError):
                logger.exception("%s", kind)
            error = str(caught) or type(caught).__name__
        if not self._stopped and self._newest[kind] == serial:
            self._tell(kind, serial, Done(error))
