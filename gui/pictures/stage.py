"""A window that is driven and photographed: in both themes and both sizes, dialogs and all."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.client import HostClient
from acquire.errors import HotstageError
from acquire.remote import emergency_off
from gui import theme
from gui.app import Folders, application_with_theme
from gui.session import Session
from gui.settings import Settings
from gui.window import OperatorWindow

SIZES = ((1280, 720), (2560, 1440))
"""What a picture has, in logical pixels."""
SETTLE_S = 0.35
"""Wall seconds after a change of size or theme: some ticks of the window."""
WITHIN_S = 120.0


class Stage:
    """One window on the host at an address; ``wanted`` are the names of pictures to take, all if empty."""

    def __init__(
        self,
        address: str,
        out: Path,
        settings: Path,
        wanted: frozenset[str] = frozenset(),
        sizes: tuple[tuple[int, int], ...] = SIZES,
        who: str = "window of the operator",  # who makes the pictures is of no interest
    ) -> None:
        self.application = application_with_theme()
        self._out, self._wanted, self._sizes = out, wanted, sizes
        session = Session(
            lambda: HostClient(address),
            lambda at, reason: emergency_off(at, reason=reason),
            who,
        )
        self.window = OperatorWindow(session, Folders(None), Settings(settings))
        self.window.resize(*sizes[0])
        self.window.show()
        self.taken: list[Path] = []
        self.until(lambda: not session.snapshot().stale, "the engine answers")

    def close(self) -> None:
        """Close the window; what was typed is not asked about."""
        self.window.editor.document.undo.setClean()
        self.window.close()

    def wait(self, seconds: float) -> None:
        """Let the window live for so many wall seconds."""
        self._live(time.monotonic() + seconds, lambda: False)

    def until(self, true: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
        """Let the window live until something is so.

        Raises:
            HotstageError: it was not within so many wall seconds.
        """
        if not self._live(time.monotonic() + within_s, true):
            status = self.window.session.snapshot().status
            raise HotstageError(
                f"waited {within_s:.0f} s in vain until {what}; the run is {status.state.value}, "
                f"{status.step_text or 'without a step'}, {status.cause or 'no cause'}; the window "
                f"says: {self.window.notices.message.text()}"
            )

    def wants(self, *names: str) -> bool:
        """Whether one of these pictures is to be taken."""
        return not self._wanted or bool(self._wanted & set(names))

    def take(self, name: str, before: Callable[[], object] | None = None) -> None:
        """Photograph the window in every theme and size, ``before`` each time; the first size comes back."""
        if not self.wants(name):
            return
        if self.window.tabs.hasFocus():  # no hand has brought it there
            self.window.stack.setFocus()
        for colours in theme.THEMES:
            theme.use(colours)
            for width, height in self._sizes:
                self.window.resize(width, height)
                if before is not None:
                    before()
                self.wait(SETTLE_S)
                path = self._out / f"{name}-{width}x{height}-{colours}.png"
                photograph(self.window, path)
                self.taken.append(path)
        theme.use(next(iter(theme.THEMES)))
        self.window.resize(*self._sizes[0])

    def _live(self, until_s: float, done: Callable[[], bool]) -> bool:
        while not done():
            if time.monotonic() > until_s:
                return False
            self.application.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
            # what was closed goes, as it does where Qt runs the loop
            self.application.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
            time.sleep(0.003)
        return True


def photograph(window: QtWidgets.QWidget, path: Path) -> None:
    """Draw a window, and the dialogs and menus over it, into a PNG file; raises OSError."""
    picture = window.grab()
    painter = QtGui.QPainter(picture)
    corner = window.mapToGlobal(QtCore.QPoint(0, 0))
    for other in QtWidgets.QApplication.topLevelWidgets():
        if other is not window and other.isVisible():
            place = other.mapToGlobal(QtCore.QPoint(0, 0)) - corner
            painter.drawPixmap(place, other.grab())
            painter.setPen(QtGui.QColor(theme.now().line))
            painter.drawRect(QtCore.QRect(place, other.size()).adjusted(-1, -1, 0, 0))
    painter.end()
    if not picture.save(str(path), "PNG"):
        raise OSError(f"the picture cannot be written to {path}; choose a folder that exists.")


def slim(source: Path, target: Path, most_bytes: int) -> int:
    """Copy a picture with as many colours as fit into a number of bytes; returns the bytes it took.

    Raises:
        HotstageError: it does not fit with 32 colours either.
    """
    from PIL import Image

    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    for colours in (256, 128, 64, 32):
        few = picture.quantize(colours, dither=Image.Dither.NONE)
        few.save(target, optimize=True)
        size = target.stat().st_size
        if size <= most_bytes:
            return size
    raise HotstageError(f"{source} has {size} bytes with 32 colours; {most_bytes} are allowed.")
