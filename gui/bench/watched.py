"""A window in a process of its own that watches itself: the near side of the window bench.

``python -m gui.bench.watched --address HOST:PORT --seconds N`` opens the operator's window on an engine
host, lets it run, and writes one line of JSON: when it was first painted, frames shown, processor time,
how late the UI thread was, memory, reference counts and warnings.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from array import array
from typing import Any

import psutil
from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.client import HostClient
from acquire.remote import emergency_off
from gui.app import Folders, application_with_theme
from gui.session import Session
from gui.window import OperatorWindow

BEAT_MS = 10
"""How often the UI thread is asked whether it is there."""
MOVE_MS = 40
"""How often the mouse of a crowd moves."""
LOOK_S = 5.0
_IMMORTAL_FROM = 1 << 29
"""Reference counts of immortal objects (Python 3.12 and later) say nothing."""


class Watch(QtCore.QObject):
    """Counts what happens in a window's process from ``begin`` on."""

    def __init__(self, window: OperatorWindow, born_s: float) -> None:
        super().__init__(window)
        self._window, self._born_s = window, born_s
        self._process = psutil.Process()
        self.painted_s = float("nan")
        self.lags_s = array("d")
        self.looks: list[dict[str, float]] = []
        self._watching = False
        self._due_s = self._looked_s = 0.0
        window.installEventFilter(self)
        self._beat = QtCore.QTimer(self)
        self._beat.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._beat.timeout.connect(self._tick)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """Note the first paint."""
        if event.type() == QtCore.QEvent.Type.Paint and self.painted_s != self.painted_s:
            self.painted_s = time.time() - self._born_s
        return False

    def begin(self) -> None:
        """Warm-up is over: count from now."""
        self._shown, self._not_shown = self._window.image.shown, self._window.image.not_shown
        self._cpu_s, self._began_s = self._used_s(), time.perf_counter()
        self._due_s = self._began_s + BEAT_MS / 1000
        self._look()
        self._beat.start(BEAT_MS)

    def report(self) -> dict[str, Any]:
        """What was seen since ``begin``."""
        took_s = time.perf_counter() - self._began_s
        self._look()
        lags = sorted(self.lags_s)
        return {
            "painted_s": self.painted_s,
            "seconds": took_s,
            "shown_per_s": (self._window.image.shown - self._shown) / took_s,
            "not_shown": self._window.image.not_shown - self._not_shown,
            "cores": (self._used_s() - self._cpu_s) / took_s,
            "lag_p99_s": lags[int(0.99 * (len(lags) - 1))] if lags else float("nan"),
            "lag_max_s": lags[-1] if lags else float("nan"),
            "beats": len(lags),
            "looks": self.looks,
        }

    def _used_s(self) -> float:
        used = self._process.cpu_times()
        return float(used.user + used.system)

    def _tick(self) -> None:
        now_s = time.perf_counter()
        self.lags_s.append(max(0.0, now_s - self._due_s))
        self._due_s = now_s + BEAT_MS / 1000
        if now_s - self._looked_s > LOOK_S:
            self._look()

    def _look(self) -> None:
        self._looked_s = time.perf_counter()
        counts = [sys.getrefcount(it) for it in (None, True, False)]
        mortal = [count for count in counts if count < _IMMORTAL_FROM]
        self.looks.append(
            {
                "memory_bytes": float(self._process.memory_info().rss),
                "references": float(sum(mortal)),
            }
        )


class Hand(QtCore.QObject):
    """Shows all that can be shown of particles, follows one, and moves the mouse over the image."""

    def __init__(self, window: OperatorWindow) -> None:
        super().__init__(window)
        self._image = window.image
        self._steps = 0
        self.labelled = 0
        """How often a label stood beside the mouse."""
        for switch in (self._image.menu.outlines, self._image.menu.labels, self._image.menu.trails):
            switch.setChecked(True)
        self._timer = QtCore.QTimer(self)
        self._timer.timeout.connect(self._move)
        self._timer.start(MOVE_MS)

    def _move(self) -> None:
        canvas = self._image.canvas
        if self._image.overlays.particles is None:
            return
        if not self._image.following.on:
            self._image.menu.next.trigger()
        self._steps += 1
        self.labelled += self._image.hover.isVisible()
        area = canvas.viewport().rect()
        at = QtCore.QPointF(
            area.width() * (0.2 + 0.6 * (self._steps * 0.013 % 1)),
            area.height() * (0.2 + 0.6 * (self._steps * 0.029 % 1)),
        )
        none = QtCore.Qt.MouseButton.NoButton
        move = QtGui.QMouseEvent(
            QtCore.QEvent.Type.MouseMove,
            at,
            canvas.viewport().mapToGlobal(at),
            none,
            none,
            QtCore.Qt.KeyboardModifier.NoModifier,
        )
        QtWidgets.QApplication.sendEvent(canvas.viewport(), move)


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


def main() -> int:
    """The process's entry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--warm-s", type=float, default=3.0)
    parser.add_argument("--size", default="1600x900")
    parser.add_argument("--crowd", action="store_true", help="trails, labels, one that is followed")
    given = parser.parse_args()
    kept = _Kept()
    logging.getLogger().addHandler(kept)
    logging.captureWarnings(True)
    warnings.simplefilter("always")
    QtCore.qInstallMessageHandler(lambda kind, context, words: kept.words.append(words))
    application = application_with_theme()
    session = Session(
        lambda: HostClient(given.address), lambda at, reason: emergency_off(at, reason=reason)
    )
    window = OperatorWindow(session, Folders(None))
    watch = Watch(window, psutil.Process().create_time())
    width, height = (int(part) for part in given.size.split("x"))
    window.resize(width, height)
    window.show()
    hand = Hand(window) if given.crowd else None
    report: dict[str, Any] = {}

    def end() -> None:
        report.update(watch.report())
        window.close()
        QtWidgets.QApplication.quit()

    QtCore.QTimer.singleShot(round(1000 * given.warm_s), watch.begin)
    QtCore.QTimer.singleShot(round(1000 * (given.warm_s + given.seconds)), end)
    application.exec()
    report["labelled"] = hand.labelled if hand is not None else 0
    report["warnings"] = kept.words[:20]
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
