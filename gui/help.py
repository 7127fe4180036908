"""The "?" of the window: the tour, which begins by itself at the first start, and the sheet of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6 import QtCore, QtWidgets

from gui.keys_sheet import show_sheet
from gui.recipes import templates
from gui.tour import Tour
from gui.tour.cards import EXAMPLE
from gui.widgets.buttons import sign_button
from gui.widgets.keys import Act
from gui.words import tr

if TYPE_CHECKING:
    from gui.window import OperatorWindow

Qt = QtCore.Qt
_ENDED = "tour/ended"
_LOOK_MS = 100


class Help(QtCore.QObject):
    """A button with a menu, and the keys that do the same."""

    def __init__(self, window: OperatorWindow) -> None:
        super().__init__(window)
        self._window = window
        self.tour: Tour | None = None
        """The tour that is on."""
        self.button = sign_button("?", tr("Keys (F1), tour (Shift+F1)"))
        self.menu = QtWidgets.QMenu(self.button)
        self.menu.addAction(tr("Keys\tF1")).triggered.connect(self.show_keys)
        self.menu.addAction(tr("Tour of this window\tShift+F1")).triggered.connect(self.begin_tour)
        self.button.clicked.connect(self._open_menu)
        self.keys: tuple[tuple[str, str, Act], ...] = (
            ("F1", tr("This sheet"), self.show_keys),
            ("Shift+F1", tr("Tour of this window"), self.begin_tour),
        )
        self._waiting = QtCore.QTimer(self)
        self._waiting.setInterval(_LOOK_MS)
        self._waiting.timeout.connect(self._look)

    @property
    def waiting(self) -> bool:
        """Whether the tour begins by itself as soon as the engine answers."""
        return self._waiting.isActive()

    def begin_tour_if_new(self) -> None:
        """Begin the tour when the engine answers, unless it was ended once or a run is on by then."""
        if not self._window.settings.flag(_ENDED, False):
            self._waiting.start()

    def begin_tour(self) -> None:
        """Begin it, or go on with the one that is on."""
        self._waiting.stop()
        if self.tour is not None:
            self.tour.frame.setFocus()
            return
        self.tour = Tour(self._window, self._open_example)
        self.tour.ended.connect(self._tour_ended)
        self.tour.begin()

    def show_keys(self) -> None:
        """Open the sheet of keys."""
        show_sheet(self._window, self._window.pages, self.begin_tour)

    def _open_menu(self) -> None:
        self.menu.popup(self.button.mapToGlobal(QtCore.QPoint(0, self.button.height())))

    def _look(self) -> None:
        snapshot = self._window.session.snapshot()
        if snapshot.stale:
            return
        self._waiting.stop()
        status = snapshot.status
        if not (status.state.active or status.by_hand_of or status.fault):
            self.begin_tour()

    def _tour_ended(self) -> None:
        self.tour = None
        self._window.settings.put(_ENDED, True)

    def _open_example(self) -> bool:
        found = next((path for path in templates.examples() if path.stem == EXAMPLE), None)
        if found is None:
            self._window.complain(tr("The example recipe is not installed with this window."))
            return False
        self._window.open_recipe(found)
        return True
