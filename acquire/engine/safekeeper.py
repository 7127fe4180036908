"""Makes heater and beam safe when a run must end and its own thread is held up."""

from __future__ import annotations

import logging
from collections.abc import Callable

from acquire.clock import finite_rate
from acquire.engine.context import RunContext

logger = logging.getLogger(__name__)

GRACE_WALL_S = 0.2
"""So long the run's own thread may take to come to its end by itself."""
PATIENCE_WALL_S = 10.0


class Safekeeper:
    """A task that waits for the end of a run.

    The run's thread may be anywhere when somebody aborts: in a record that waits for a slow disk, in
    a call to an instrument that hangs, in the code of a script. Heat and beam do not wait for it.
    """

    def __init__(self, run: RunContext, make_safe: Callable[[], None]) -> None:
        self._run = run
        self._make_safe = make_safe
        self._taken_over = run.clock.signal()
        self._task = run.clock.spawn(self._watch, "safekeeper")

    def release(self) -> None:
        """The run's own thread makes everything safe from here on."""
        self._taken_over.set()
        self._run.ends.set()

    def close(self) -> None:
        """Wait until the task has ended; an instrument that hangs is left behind."""
        self.release()
        if not self._task.join(PATIENCE_WALL_S * finite_rate(self._run.clock)):
            logger.error("an instrument hangs while it is made safe")

    def _watch(self) -> None:
        self._run.ends.wait()
        if self._taken_over.wait(GRACE_WALL_S * finite_rate(self._run.clock)):
            return
        logger.warning("the run is held up; heater and beam are made safe meanwhile")
        try:
            self._make_safe()
        except Exception as error:  # noqa: BLE001  the run's own end tries again, and tells
            self._run.fail(error)
