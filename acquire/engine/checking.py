"""Checks recipes for a station in a process of its own, of the lowest priority, beside whatever is going on.

A rehearsal is seconds of work for a whole core. In the engine's own process it would hold up the
recording of a run; in this one it takes what is left over. No instrument is asked or moved.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import psutil

from acquire.engine.checked import SUPERSEDED, CheckReport
from acquire.errors import HotstageError
from acquire.station import Station

logger = logging.getLogger(__name__)

SUPERSEDED_AFTER_S = 10.0
"""Wall seconds after which a check that still goes on gives way to a newer one."""
LONGEST_S = 320.0
_LOOK_S = 0.05


class Checker:
    """One process that checks one recipe at a time; begun when it is first needed.

    Any thread may call; ``close`` ends the process.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._lock = threading.Lock()
        self._process: Any = None
        self._ours: Connection | None = None
        self._newest = 0
        self._count = threading.Lock()
        self._closed = False

    def check(self, recipe_yaml: str) -> CheckReport:
        """What the station foresees of a recipe.

        Raises:
            RecipeError: the text is no recipe.
            HotstageError: a newer check took its place, or the station cannot be stood in for.
        """
        with self._count:
            self._newest += 1
            number = self._newest
        with self._lock:
            if number < self._newest:
                raise HotstageError(SUPERSEDED)
            if self._closed:
                raise HotstageError("the engine host is ending; nothing is checked any more.")
            return self._ask(recipe_yaml, number)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._closed = True
        self._end()

    def _ask(self, recipe_yaml: str, number: int) -> CheckReport:
        ours = self._begun()
        try:
            ours.send(recipe_yaml)
            begun_s = time.monotonic()
            while not ours.poll(_LOOK_S):
                waited_s = time.monotonic() - begun_s
                newer = number < self._newest and waited_s > SUPERSEDED_AFTER_S
                if newer or waited_s > LONGEST_S:
                    self._end()
                    raise HotstageError(
                        SUPERSEDED
                        if newer
                        else f"the check has not ended after {LONGEST_S:g} s. Shorten the recipe, or "
                        "use `hotstage check`, which waits."
                    )
            answer = ours.recv()
        except (OSError, EOFError) as error:
            self._end()
            raise HotstageError("the process that checks recipes ended; try again.") from error
        if isinstance(answer, HotstageError):
            raise answer
        assert isinstance(answer, CheckReport)
        return answer

    def _begun(self) -> Connection:
        if self._ours is not None and self._process.is_alive():
            return self._ours
        self._end()
        context = multiprocessing.get_context("spawn")  # not forked: this process has threads
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self._station), name="hotstage-check", daemon=True
        )
        process.start()
        theirs.close()
        self._process, self._ours = process, ours
        return ours

    def _end(self) -> None:
        process, ours = self._process, self._ours
        self._process = self._ours = None
        if process is not None:
            process.kill()
            process.join()
            process.close()
        if ours is not None:
            ours.close()


def _serve(theirs: Connection, station: Station) -> None:
    """Answer until the other end is closed: a report, or the error that a check raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which ends us
    psutil.Process().nice(getattr(psutil, "IDLE_PRIORITY_CLASS", 19))
    # loaded here: the host itself need not wait for it
    from acquire.engine.findings import report_of
    from acquire.engine.rehearsal import preflight
    from acquire.recipe import Recipe

    while True:
        try:
            text = theirs.recv()
        except (EOFError, OSError):
            return
        answer: CheckReport | HotstageError
        try:
            recipe = Recipe.parse(text)
            answer = report_of(recipe, preflight(recipe, station), station.name)
        except HotstageError as error:
            error.__cause__ = error.__context__ = None  # what pydantic says of itself cannot travel
            answer = error
        except Exception as error:
            logger.exception("a check failed")
            answer = HotstageError(f"the check failed ({type(error).__name__}: {error}).")
        try:
            theirs.send(answer)
        except OSError:
            return
