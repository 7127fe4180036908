"""Opens the operator's window: the application, its looks, and errors that are shown and never kill."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType

from PySide6 import QtCore, QtGui, QtWidgets

from acquire.errors import LinkError
from acquire.remote import emergency_off
from gui import theme
from gui.orders import Connect, HostConnection
from gui.session import Session
from gui.window import OperatorWindow
from gui.words import tr

logger = logging.getLogger(__name__)

SCREENSHOT_AFTER_S = 10.0
_SCREENSHOT_POLL_MS = 100
_SAME_ERROR_AGAIN_S = 5.0


def main(
    address: str,
    recipe: Path | None = None,
    folder: Path | None = None,
    screenshot: Path | None = None,
    start: bool = False,
    screenshot_after_s: float = SCREENSHOT_AFTER_S,
    stored: Path | None = None,
    opened: Path | None = None,
) -> int:
    """Show the window on the engine host at ``address`` until it is closed; returns an exit status.

    With ``""`` for the address there is no engine: the window is for stored runs.

    ``recipe`` is loaded, and with ``start`` run at once into ``folder`` (by default a new folder
    below ``runs``). With ``screenshot`` the window is drawn to that PNG file
    ``screenshot_after_s`` wall seconds after it came up, or when the run ends, and closes.
    ``stored`` is the folder of a run to look at. The file ``opened`` is made as soon as the engine has
    told how its instruments stand.
    """

    # imported by the worker that needs it first: the window is painted without waiting for that
    def connect() -> HostConnection:
        from acquire.engine.client import HostClient

        if not address:
            raise LinkError(
                "this window was opened on stored runs, without an engine; `hotstage gui` opens one "
                "with its instruments."
            )
        return HostClient(address)

    def emergency(server_address: str, reason: str) -> None:
        emergency_off(server_address, reason=reason)

    return show(
        connect,
        emergency,
        recipe=recipe,
        folder=folder,
        screenshot=screenshot,
        start=start,
        screenshot_after_s=screenshot_after_s,
        stored=stored,
        address=address,
        opened=opened,
    )


def show(
    connect: Connect,
    emergency: Callable[[str, str], None],
    *,
    recipe: Path | None = None,
    folder: Path | None = None,
    screenshot: Path | None = None,
    start: bool = False,
    screenshot_after_s: float = SCREENSHOT_AFTER_S,
    stored: Path | None = None,
    address: str = "",
    opened: Path | None = None,
) -> int:
    """As :func:`main`, for any way of reaching a host; ``address`` is told in the log."""
    application = application_with_theme()
    window = OperatorWindow(Session(connect, emergency), Folders(folder))
    if address:
        words = tr("another window on this engine: hotstage gui --host {address}")
        window.log.say("window", words.format(address=address))
    with _Errors(window):
        if recipe is not None:
            window.open_recipe(recipe, start=start)
        if stored is not None:
            window.open_run(stored)
        window.show()
        if opened is not None:
            _Opened(window, opened)
        if screenshot is None:
            if not start and stored is None:
                window.help.begin_tour_if_new()
            return application.exec()
        shot = _Screenshot(window, screenshot, screenshot_after_s)
        return application.exec() or (0 if shot.done else 1)


def application_with_theme() -> QtWidgets.QApplication:
    """The one Qt application, dressed."""
    found = QtWidgets.QApplication.instance()
    application = (
        found if isinstance(found, QtWidgets.QApplication) else QtWidgets.QApplication(sys.argv[:1])
    )
    application.setApplicationName("hotstage")
    theme.apply(application)
    return application


class Folders:
    """Names a new folder for every run: the first as asked for, then never one that exists."""

    def __init__(self, first: Path | None) -> None:
        self._first = first

    def __call__(self, recipe: Path) -> Path:
        """The absolute folder for the next run of a recipe; nothing is made yet."""
        if self._first is not None:
            wanted, self._first = self._first.absolute(), None
            return wanted
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        return (Path.cwd() / "runs" / f"{recipe.stem}-{stamp}").absolute()


def grab(window: QtWidgets.QWidget, path: Path) -> None:
    """Draw a window into a PNG file; raises OSError if it cannot be written."""
    picture: QtGui.QPixmap = window.grab()
    if not picture.save(str(path), "PNG"):
        raise OSError(f"the screenshot cannot be written to {path}; choose a folder that exists.")


class _Opened(QtCore.QTimer):
    """Makes a file when the window shows what is: whoever opened it may leave then."""

    def __init__(self, window: OperatorWindow, path: Path) -> None:
        super().__init__(window)
        self._window, self._path = window, path
        self.timeout.connect(self._look)
        self.start(_SCREENSHOT_POLL_MS)

    def _look(self) -> None:
        if not self._window.session.snapshot().stale:
            self.stop()
            try:
                self._path.touch()
            except OSError as error:  # whoever waited has gone
                logger.info("%s: %s", self._path, error)


class _Screenshot:
    """Grabs the window once, when the time has come or the run has ended, and closes it."""

    def __init__(self, window: OperatorWindow, path: Path, after_s: float) -> None:
        self._window, self._path = window, path
        self.done = False
        self._was_active = False
        self._elapsed = QtCore.QElapsedTimer()
        self._elapsed.start()
        self._after_s = after_s
        self._timer = QtCore.QTimer(window)
        self._timer.timeout.connect(self._look)
        self._timer.start(_SCREENSHOT_POLL_MS)

    def _look(self) -> None:
        active = self._window.session.snapshot().status.state.active
        ended = self._was_active and not active
        self._was_active = self._was_active or active
        if not ended and self._elapsed.elapsed() < 1000 * self._after_s:
            return
        self._timer.stop()
        try:
            grab(self._window, self._path)
            self.done = True
        except OSError:
            logger.exception("screenshot")
        self._window.close()


class _Errors:
    """While entered, errors of the window's own code are logged and shown instead of ending it."""

    def __init__(self, window: OperatorWindow) -> None:
        self._window = window
        self._relay = _Relay()
        self._last = ("", 0.0)
        self._relay.said.connect(window.complain)

    def __enter__(self) -> None:
        self._hooks = (sys.excepthook, threading.excepthook)
        sys.excepthook = self._caught
        threading.excepthook = self._caught_in_thread

    def __exit__(self, *_: object) -> None:
        sys.excepthook, threading.excepthook = self._hooks

    def _caught(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            self._window.close()
            return
        words = f"Error in this window ({kind.__name__}: {error}); the run goes on."
        last, at_s = self._last
        if words == last and time.monotonic() - at_s < _SAME_ERROR_AGAIN_S:
            return  # a timer that fails would flood the log 40 times a second
        self._last = (words, time.monotonic())
        logger.error("error in the window", exc_info=(kind, error, trace))
        self._relay.said.emit(words)

    def _caught_in_thread(self, caught: threading.ExceptHookArgs) -> None:
        if caught.exc_value is not None:
            self._caught(caught.exc_type, caught.exc_value, caught.exc_traceback)


class _Relay(QtCore.QObject):
    """Carries words to the UI thread from whichever thread they come."""

    said = QtCore.Signal(str)
