"""What every page of the window is: it is shown under the bar that is always there, and is told what is new."""

from __future__ import annotations

from collections.abc import Callable

from PySide6 import QtCore, QtWidgets

from acquire.engine.status import PlanView
from gui.session import Session, StatusSnapshot
from gui.settings import Settings


class Page(QtWidgets.QWidget):
    """A page; never calls anything that may wait, since it lives on the UI thread."""

    title = ""
    key = ""
    """The shortcut that shows it, as ``Ctrl+1``."""
    complained = QtCore.Signal(str)
    """An error, for the line that is always there and for the log."""
    told = QtCore.Signal(str)
    """Something that went well, for the same line."""

    def __init__(self, session: Session, settings: Settings) -> None:
        super().__init__()
        self.session = session
        self.settings = settings

    def show_status(self, snapshot: StatusSnapshot, plan: PlanView) -> None:
        """Draw a status, 10 times a second, also while the page is hidden."""

    def take_image(self) -> None:
        """Draw the newest image; only the page in front is told, 40 times a second."""

    def entered(self) -> None:
        """The page has come to the front."""

    def left(self) -> None:
        """The page is hidden now."""

    def may_close(self, close: Callable[[], object]) -> bool:
        """Whether nothing would be lost; else the operator is asked, and ``close`` may follow."""
        return True

    def keep(self) -> None:
        """Store what the page wants to remember; the window closes."""
