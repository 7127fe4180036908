"""Tells scripts and displays what happens in a run, from a thread of its own, so that none can hold it up."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any

from psygnal import Signal, SignalGroup, SignalInstance

logger = logging.getLogger(__name__)

BACKLOG = 1000
"""Events kept for slow listeners; beyond it the oldest are dropped, which is logged."""


class EngineEvents(SignalGroup):
    """What listeners can connect to; they are called in the events' own thread."""

    state_changed = Signal(str)
    """The new EngineState."""
    step_started = Signal(int, str)
    """Index and text of the step."""
    step_finished = Signal(int, str)
    """Index and result of the step."""
    frame_recorded = Signal(object)
    """A Frame, as it was recorded; of a block of spectra the last one."""
    estimated = Signal(object)
    """An Estimate."""
    noted = Signal(float, str, str)
    """Time, kind and text of a journal line."""


class Dispatcher:
    """Emits an engine's events in order from one daemon thread; never makes the emitter wait."""

    def __init__(self, events: EngineEvents) -> None:
        self.events = events
        self._queue: deque[tuple[SignalInstance, tuple[Any, ...]]] = deque(maxlen=BACKLOG)
        self._changed = threading.Condition()
        self._busy = False
        self._started = False
        self._behind = False

    def emit(self, signal: SignalInstance, *args: Any) -> None:
        """Queue one event."""
        if len(signal) == 0:
            return
        with self._changed:
            if not self._started:  # most engines have no listener, and need no thread
                self._started = True
                threading.Thread(target=self._loop, name="engine-events", daemon=True).start()
            if len(self._queue) == BACKLOG and not self._behind:
                self._behind = True
                logger.warning("listeners are too slow: the oldest events are dropped")
            self._queue.append((signal, args))
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait in wall time until every queued event has been seen; False if it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout_s)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._queue))
                signal, args = self._queue.popleft()
                self._busy = True
            try:
                signal.emit(*args)
            except Exception:
                logger.exception("a listener of %s failed", signal.name)
