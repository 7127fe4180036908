"""Several panels in one place, of which one is seen; the tabs stand where the panel's title would."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6 import QtCore, QtWidgets

from gui.widgets.choice import Tabs
from gui.widgets.panel import Panel


class Deck(QtWidgets.QStackedWidget):
    """Each panel carries a bar with the titles of all, so that no height is lost."""

    turned = QtCore.Signal(int)

    def __init__(self, panels: Sequence[Panel], tip: str) -> None:
        super().__init__()
        self.panels = tuple(panels)
        self.bars: list[QtWidgets.QTabBar] = []
        for index, panel in enumerate(self.panels):
            bar = Tabs()
            bar.setDrawBase(False)
            bar.setExpanding(False)
            bar.setUsesScrollButtons(False)
            bar.setElideMode(QtCore.Qt.TextElideMode.ElideNone)
            bar.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
            bar.setToolTip(tip)
            bar.setAccessibleName(tip)
            for other in self.panels:
                bar.addTab(other.title.text())
            bar.setCurrentIndex(index)
            bar.currentChanged.connect(self.turn)
            panel.title.hide()
            panel.head.insertWidget(0, bar)
            self.bars.append(bar)
            self.addWidget(panel)

    def turn(self, index: int) -> None:
        """Show a panel; the focus stays on the tabs if it was there."""
        before = self.currentIndex()
        if not 0 <= index < len(self.panels) or index == before:
            return
        focused = self.bars[before].hasFocus()
        for number, bar in enumerate(self.bars):
            bar.blockSignals(True)
            bar.setCurrentIndex(number)
            bar.blockSignals(False)
        self.setCurrentIndex(index)
        if focused:
            self.bars[index].setFocus()
        self.turned.emit(index)
