"""How long it takes from a wish to a drawn frame, for `hotstage bench window` and tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from gui.pages.runs.replay import ReplayView

_EVENTS = QtCore.QEventLoop.ProcessEventsFlag.AllEvents
_LOOK_MS = 1


def open_and_wait(view: ReplayView, path: Path, within_s: float = 30.0) -> float:
    """Open a run in a view that is shown; wall seconds until its first scene is there.

    Raises:
        TimeoutError: it did not come.
    """
    begun = time.perf_counter()
    view.open(path)
    _wait(lambda: view.scene is not None, within_s, f"{path} was not opened")
    return time.perf_counter() - begun


def scrub(view: ReplayView, t_s: float, within_s: float = 10.0) -> float:
    """Wall seconds from putting the cursor at a run time until its frame and curves are painted.

    Raises:
        TimeoutError: they did not come.
    """
    begun = time.perf_counter()
    view.go(t_s)
    wish = view.wished
    _wait(
        lambda: view.scene is not None and view.scene.wish.serial == wish,
        within_s,
        f"nothing came for {t_s} s",
    )
    QtWidgets.QApplication.processEvents()  # what of it is still to be painted
    return time.perf_counter() - begun


def _wait(until: Callable[[], bool], within_s: float, words: str) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        QtWidgets.QApplication.processEvents(_EVENTS, _LOOK_MS)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{words} within {within_s:g} s.")
        time.sleep(0.0005)
