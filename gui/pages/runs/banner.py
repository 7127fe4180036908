"""The strip over a replay, by which nobody takes it for the present."""

from __future__ import annotations

from pathlib import Path

from PySide6 import QtCore, QtWidgets

from gui import text, theme
from gui.pages.runs.words import BADGES, when
from gui.replay.moments import Story
from gui.widgets.panel import ElidedLabel, set_text
from gui.words import tr

HEIGHT = 30


class Banner(QtWidgets.QFrame):
    """REPLAY, which run, how it ended, and the way back. Emits ``back``."""

    back = QtCore.Signal()

    def __init__(self, badge: theme.Badge = theme.REPLAY) -> None:
        super().__init__()
        self.setObjectName("replayBanner")
        self.setFixedHeight(HEIGHT)
        self.setStyleSheet(
            f"QFrame#replayBanner {{ background: {badge.background}; border-radius: 5px; }}"
            "QFrame#replayBanner QLabel { background: transparent; color: #FFFFFF; }"
        )
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(10, 2, 4, 2)
        row.setSpacing(12)
        self.badge = QtWidgets.QLabel(badge.text)
        font = self.badge.font()
        font.setBold(True)
        font.setPointSizeF(11.5)
        self.badge.setFont(font)
        self.words = ElidedLabel(align_left=True)
        self.ending = QtWidgets.QLabel()
        self.back_button = QtWidgets.QPushButton(tr("◂ All runs  ⌫"))
        self.back_button.setToolTip(tr("Back to the list of runs (Backspace)"))
        self.back_button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.back_button.clicked.connect(self.back)
        row.addWidget(self.badge)
        row.addWidget(self.ending)
        row.addWidget(self.words, 1)
        row.addWidget(self.back_button)

    def show_opening(self, path: Path) -> None:
        """Say what is being opened."""
        self.ending.hide()
        self.words.setText(text.homely(tr("opening {path} …").format(path=path)))

    def show_words(self, words: str) -> None:
        """Say anything."""
        self.ending.hide()
        set_text(self.words, words)

    def show_run(self, story: Story) -> None:
        """Say which run, when it was, and how it ended."""
        badge = BADGES[story.ending]
        self.ending.setText(badge.text)
        self.ending.setStyleSheet(
            f"QLabel {{ background: {badge.background}; color: {badge.foreground};"
            "border: 1px solid #FFFFFF; border-radius: 4px; padding: 0px 7px; font-weight: 700; }"
        )
        self.ending.setToolTip(story.cause)
        self.ending.show()
        parts = [
            story.name,
            tr("began {when}").format(when=when(story.begun_unix_s)),
            tr("{time} long").format(time=text.clock(story.t_end_s)),
            text.homely(str(story.path)),
        ]
        if story.simulated:
            parts.insert(1, tr("simulated"))
        if story.segments > 1:
            parts.insert(3, tr("{count} segments").format(count=story.segments))
        if story.cause:
            parts.insert(1, story.cause)
        self.words.setText("  ·  ".join(parts))
