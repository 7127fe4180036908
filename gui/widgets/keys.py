"""Keys are installed with the words that the sheet of keys shows: what it says is what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PySide6 import QtCore, QtGui, QtWidgets

Qt = QtCore.Qt
Act = Callable[[], object]
WINDOW = Qt.ShortcutContext.WindowShortcut
INSIDE = Qt.ShortcutContext.WidgetWithChildrenShortcut
ALONE = Qt.ShortcutContext.WidgetShortcut
_WITH_ANOTHER = (Qt.Key.Key_Shift, Qt.Key.Key_Control, Qt.Key.Key_Alt, Qt.Key.Key_Meta)
"""Keys that one also holds while one clicks."""


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One line of the sheet."""

    owner: QtWidgets.QWidget
    """In whose reach the keys act."""
    keys: tuple[str, ...]
    """As the keyboard of this computer writes them; several may do the same."""
    words: str
    over_dialogs: bool = False


def install(
    owner: QtWidgets.QWidget,
    *keys: tuple[str | Qt.Key, str, Act],
    context: Qt.ShortcutContext = WINDOW,
    auto_repeat: bool = False,
) -> list[QtGui.QShortcut]:
    """Install shortcuts, each given as keys, words for the sheet, and what they do.

    ``context`` says where the focus must be: anywhere in the window, inside the owner, or on it.
    """
    made = []
    for sequence, words, act in keys:
        shortcut = QtGui.QShortcut(QtGui.QKeySequence(sequence), owner)
        shortcut.setContext(context)
        shortcut.setAutoRepeat(auto_repeat)
        shortcut.setWhatsThis(words)
        shortcut.activated.connect(act)
        made.append(shortcut)
    return made


class Described(QtCore.QObject):
    """Keys that a widget takes in its own way, for the sheet; lives as long as the widget."""

    def __init__(
        self, owner: QtWidgets.QWidget, *keys: tuple[str, str], over_dialogs: bool = False
    ) -> None:
        super().__init__(owner)
        self.keys, self.over_dialogs = keys, over_dialogs


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that acts wherever the focus is; ``released`` follows ``pressed``, or the window's going behind."""

    key: Qt.Key
    words: str
    pressed: Act
    released: Act | None = None


class OverAll(QtCore.QObject):
    """Keys that work over any dialog, where a shortcut would be dead: a filter of the application.

    It sees all events before anybody else, and so tells as well whether the hand is on keys or mouse.
    """

    turned = QtCore.Signal(bool)
    """The hand has gone to the keyboard (True), or to the mouse."""

    def __init__(self, window: QtWidgets.QWidget, *keys: HeldKey) -> None:
        super().__init__(window)
        self._on_keys = False
        self._window = window
        self._keys = {int(key.key): key for key in keys}
        named = ((QtGui.QKeySequence(key.key).toString(), key.words) for key in keys)
        Described(window, *named, over_dialogs=True)
        self._listen()

    def _listen(self) -> None:
        """See events before every other filter that is installed by now."""
        application = QtWidgets.QApplication.instance()
        if application is not None:
            application.installEventFilter(self)

    def end(self) -> None:
        """Listen no more."""
        application = QtWidgets.QApplication.instance()
        if application is not None:
            application.removeEventFilter(self)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        """See every event of the application before anybody else."""
        if watched is self._window and event.type() == QtCore.QEvent.Type.WindowDeactivate:
            # the release of the key goes to whatever took the focus: nobody holds it any more
            for key in self._keys.values():
                if key.released is not None:
                    key.released()
            return False
        if isinstance(event, QtGui.QDragEnterEvent):
            # Qt eats all keys while something is dragged, by a filter that has come after this one
            self._listen()
        if not isinstance(event, QtGui.QKeyEvent):
            if isinstance(event, QtGui.QMouseEvent) and self._on_keys and event.button():
                self._turn(False)
            return False
        if not self._on_keys and event.key() not in _WITH_ANOTHER:
            self._turn(True)
        held = self._keys.get(int(event.key()))
        if held is None:
            return False
        act = {
            QtCore.QEvent.Type.KeyPress: held.pressed,
            QtCore.QEvent.Type.KeyRelease: held.released,
        }.get(event.type())
        if act is None:
            return False
        if not event.isAutoRepeat():
            act()
        return True

    def _turn(self, to_keys: bool) -> None:
        self._on_keys = to_keys
        self.turned.emit(to_keys)


def lines_of(root: QtWidgets.QWidget) -> list[KeyLine]:
    """All keys that are installed in a window, in the order of their installation."""
    found: dict[tuple[int, str, bool], tuple[QtWidgets.QWidget, list[str]]] = {}

    def put(
        owner: QtCore.QObject | None, keys: Sequence[str], words: str, over: bool = False
    ) -> None:
        widget = _widget(owner, root)
        _, kept = found.setdefault((id(widget), words, over), (widget, []))
        kept += [key for key in keys if key not in kept]

    for shortcut in root.findChildren(QtGui.QShortcut):
        put(shortcut.parent(), _native(shortcut.keys()), shortcut.whatsThis())
    for action in root.findChildren(QtGui.QAction):
        if not action.shortcut().isEmpty():
            put(action.parent(), _native(action.shortcuts()), action.toolTip())
    for described in root.findChildren(Described):
        for key, words in described.keys:
            put(described.parent(), [key], words, described.over_dialogs)
    return [
        KeyLine(owner, tuple(keys), words, over)
        for (_, words, over), (owner, keys) in found.items()
    ]


def _native(keys: Sequence[QtGui.QKeySequence]) -> list[str]:
    return [one.toString(QtGui.QKeySequence.SequenceFormat.NativeText) for one in keys]


def _widget(found: QtCore.QObject | None, root: QtWidgets.QWidget) -> QtWidgets.QWidget:
    while found is not None and not isinstance(found, QtWidgets.QWidget):
        found = found.parent()
    return found if found is not None else root
