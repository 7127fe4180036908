"""The card itself, and the ring around what it speaks of."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets

from gui import theme
from gui.tour.cards import Card
from gui.widgets.keys import Described
from gui.words import tr

Qt = QtCore.Qt
WIDTH = 380
_NEXT = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
_BACK = Qt.Key.Key_Backspace
_SKIP = Qt.Key.Key_Escape


class CardFrame(QtWidgets.QFrame):
    """Shows one card at a time. Its keys act while it has the focus; it holds up nothing and nobody."""

    went = QtCore.Signal(int)
    """By so many cards: 1 or -1."""
    skipped = QtCore.Signal()

    def __init__(self, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("tourCard")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFixedWidth(WIDTH)
        self.title = QtWidgets.QLabel()
        self.title.setObjectName("tourTitle")
        self.count = QtWidgets.QLabel()
        self.count.setProperty("muted", True)
        self.words = QtWidgets.QLabel()
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setWordWrap(True)
        self.skip = self._button(tr("Skip  Esc"), tr("End the tour; “?” begins it again (Esc)"))
        self.back = self._button(tr("Back  ⌫"), tr("The card before (Backspace)"))
        self.next = self._button("", tr("Go on (Return)"))
        self.next.setProperty("leading", True)
        self.skip.clicked.connect(self.skipped)
        self.back.clicked.connect(lambda: self.went.emit(-1))
        self.next.clicked.connect(lambda: self.went.emit(1))
        head = QtWidgets.QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(self.count)
        foot = QtWidgets.QHBoxLayout()
        foot.addWidget(self.skip)
        foot.addStretch(1)
        foot.addWidget(self.back)
        foot.addWidget(self.next)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(14, 11, 14, 11)
        column.setSpacing(9)
        column.addLayout(head)
        column.addWidget(self.words)
        column.addLayout(foot)
        Described(
            self,
            ("Return", tr("Tour: next card")),
            ("Backspace", tr("Tour: card before")),
            ("Esc", tr("Tour: end it")),
        )

    def show_card(self, card: Card, index: int, count: int) -> None:
        """Show the card with this number, from 0, of so many."""
        last = index == count - 1
        self.title.setText(card.title)
        self.count.setText(tr("{n} of {m}").format(n=index + 1, m=count))
        self.words.setText(card.words)
        self.back.setVisible(index > 0)
        self.skip.setVisible(not last or card.example)
        caption = tr("Open the example  ⏎") if card.example else tr("Next  ⏎")
        self.next.setText(tr("Done  ⏎") if last and not card.example else caption)
        inner = WIDTH - 28
        self.words.setFixedSize(inner, self.words.heightForWidth(inner))
        self.adjustSize()
        self.setFocus()

    def event(self, event: QtCore.QEvent) -> bool:
        """While it has the focus its keys are no shortcuts of the window."""
        if (
            event.type() == QtCore.QEvent.Type.ShortcutOverride
            and isinstance(event, QtGui.QKeyEvent)
            and event.key() in (*_NEXT, _BACK, _SKIP)
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Return goes on, Backspace back, Escape ends."""
        if event.isAutoRepeat():
            return
        if event.key() in _NEXT:
            self.went.emit(1)
        elif event.key() == _BACK:
            if self.back.isVisible():
                self.went.emit(-1)
        elif event.key() == _SKIP:
            self.skipped.emit()
        else:
            event.ignore()

    def _button(self, caption: str, tip: str) -> QtWidgets.QPushButton:
        button = QtWidgets.QPushButton(caption)
        button.setToolTip(tip)
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the card keeps the keys
        return button


class Ring(QtWidgets.QWidget):
    """A line around a part of the window; the mouse goes through it."""

    def __init__(self, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.setStyleSheet("background: transparent;")
        theme.follow(self, self.update)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the line."""
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setPen(QtGui.QPen(QtGui.QColor(theme.now().sky), 3))
        painter.drawRoundedRect(self.rect().adjusted(2, 2, -2, -2), 7, 7)
        painter.end()


def place_beside(part: QtCore.QRect, size: QtCore.QSize, room: QtCore.QRect) -> QtCore.QPoint:
    """Where a card of a size lies: beside the part, inside the room, over as little of the part as can be."""
    gap = 10
    middle = part.center()
    width, height = size.width(), size.height()
    wishes = (
        QtCore.QPoint(middle.x() - width // 2, part.bottom() + gap),
        QtCore.QPoint(part.right() + gap, middle.y() - height // 2),
        QtCore.QPoint(part.left() - gap - width, middle.y() - height // 2),
        QtCore.QPoint(middle.x() - width // 2, part.top() - gap - height),
    )

    def inside(wish: QtCore.QPoint) -> QtCore.QPoint:
        left = max(room.left(), min(wish.x(), room.right() - width))
        top = max(room.top(), min(wish.y(), room.bottom() - height))
        return QtCore.QPoint(left, top)

    def covered(place: QtCore.QPoint) -> int:
        over = QtCore.QRect(place, size).intersected(part)
        return over.width() * over.height() if over.isValid() else 0

    return min((inside(wish) for wish in wishes), key=covered)
