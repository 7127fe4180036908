"""What is shown on the image and how: one menu for mouse and keys, remembered from day to day."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6 import QtCore, QtGui, QtWidgets

from gui.panels.image import contrast, tints
from gui.panels.image.contrast import Pair
from gui.panels.image.profile import WIDTHS_PX
from gui.settings import Settings
from gui.widgets.question import Question
from gui.words import tr

_OWN = "own"


class ShowMenu(QtCore.QObject):
    """The button with its menu; emits ``changed`` with the name of what was chosen.

    Keys work wherever the focus is, as long as the panel can be seen.
    """

    changed = QtCore.Signal(str)

    def __init__(self, panel: QtWidgets.QWidget, settings: Settings) -> None:
        super().__init__(panel)
        self._panel, self._settings = panel, settings
        self.button = QtWidgets.QPushButton(tr("&Show"))
        self.button.setToolTip(tr("What is shown on the image, and how (Alt+S)"))
        self.menu = QtWidgets.QMenu(self.button)
        self.menu.setToolTipsVisible(True)
        self.button.setMenu(self.menu)
        self.outlines = self._switch(
            "outlines", tr("Outlines"), "O", True, tr("Outlines of measured particles")
        )
        self.by = self._one_of(
            "outlines_by",
            tr("Outline colours"),
            {"track": tr("by particle"), "size": tr("by size"), "plain": tr("white")},
        )
        self.labels = self._switch(
            "labels", tr("Labels under the mouse"), "", True, tr("Number, diameter ± σ, growth")
        )
        self.trails = self._switch(
            "trails", tr("Trails"), "T", False, tr("Where particles have been in the last frames")
        )
        self.still = self._switch(
            "still",
            tr("Hold the specimen still"),
            "D",
            False,
            tr("Move every frame back by its drift, as far as the run measures it"),
        )
        self.menu.addSeparator()
        self.region = self._switch("region", tr("Region with statistics"), "R", None)
        self.profile = self._switch("profile", tr("Line profile"), "P", None)
        self.profile_width = self._one_of(
            "profile_width",
            tr("Width of the profile"),
            {str(n): tr("{n} px").format(n=n) for n in WIDTHS_PX},
        )
        self.next = self._action("next", tr("Follow the next particle"), "N")
        self.nobody = self._action("nobody", tr("Follow nobody"), "Escape")
        self.menu.addSeparator()
        self.colour_map = self._one_of(
            "colour_map", tr("Colour map"), {name: tr(name) for name in tints.MAPS}
        )
        self.percentiles = self._percentiles()
        self.frozen = self._switch(
            "frozen", tr("Freeze the contrast"), "K", None, tr("Keep black and white as they are")
        )
        self.scale_bar = self._switch("scale_bar", tr("Scale bar"), "", True)
        self.menu.addSeparator()
        self.fit = self._action("fit", tr("Whole image"), "F")
        self.figure = self._action("figure", tr("Save figure …"), "Ctrl+S")
        self.snapshot = self._action("snapshot", tr("Save figure at once"), "Ctrl+Shift+S")

    # ------------------------------------------------------------------ what is chosen

    def chosen(self, group: QtGui.QActionGroup) -> str:
        """The key of what is chosen in a group."""
        return str(group.checkedAction().data())

    def choose(self, group: QtGui.QActionGroup, key: str) -> None:
        """Choose by key, as if in the menu."""
        for action in group.actions():
            if action.data() == key:
                action.trigger()

    def percentile_pair(self) -> Pair:
        """The percentiles that are black and white."""
        words = self.chosen(self.percentiles)
        return self._own if words == _OWN else contrast.read_percentiles(words)

    def ask_percentiles(self) -> Question:
        """Ask for percentiles of the operator's own."""
        question = Question(
            self._panel.window(),
            tr("Contrast"),
            tr("Percentiles of the image that are shown black and white:"),
            contrast.show_percentiles(self._own),
            self._take_percentiles,
        )
        question.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
        question.rejected.connect(self._mark_percentiles)
        question.open()
        return question

    def _take_percentiles(self, words: str) -> None:
        self._own = contrast.read_percentiles(words)
        self._settings.put("image/own_percentiles", contrast.show_percentiles(self._own))
        self._settings.put("image/percentiles", _OWN)
        self._last_percentiles = _OWN
        self._mark_percentiles()
        self.changed.emit("percentiles")

    def _mark_percentiles(self) -> None:
        for action in self.percentiles.actions():
            action.setChecked(action.data() == self._last_percentiles)

    # ------------------------------------------------------------------ making it

    def _percentiles(self) -> QtGui.QActionGroup:
        words = self._settings.text("image/own_percentiles", "1 99")
        try:
            self._own = contrast.read_percentiles(words)
        except ValueError:  # a settings file that somebody wrote into
            self._own = (1.0, 99.0)
        presets = [contrast.show_percentiles(pair) for pair in contrast.PRESETS]
        names = {key: tr("{pair} %").format(pair=key.replace(" ", "–")) for key in presets}
        names[presets[-1]] = tr("darkest to brightest")
        names[_OWN] = tr("own …")
        group = self._one_of("percentiles", tr("Contrast"), names)
        self._last_percentiles = self.chosen(group)
        return group

    def _action(self, name: str, words: str, key: str, tip: str = "") -> QtGui.QAction:
        action = QtGui.QAction(words, self)
        if key:
            action.setShortcut(QtGui.QKeySequence(key))
            action.setAutoRepeat(False)
        if tip:
            action.setToolTip(tip)
        self.menu.addAction(action)
        self._panel.addAction(action)
        action.triggered.connect(lambda: self.changed.emit(name))
        return action

    def _switch(
        self, name: str, words: str, key: str, default: bool | None, tip: str = ""
    ) -> QtGui.QAction:
        """Yes or no, remembered unless ``default`` is None, which is no."""
        action = self._action(name, words, key, tip)
        action.setCheckable(True)
        stored = f"image/{name}"
        if default is not None:
            action.setChecked(self._settings.flag(stored, default))
            action.toggled.connect(lambda on: self._settings.put(stored, on))
        return action

    def _one_of(self, name: str, words: str, among: dict[str, str]) -> QtGui.QActionGroup:
        """One of several, the first by default."""
        menu = self.menu.addMenu(words)
        group = QtGui.QActionGroup(self)
        stored = self._settings.choice(f"image/{name}", _keys(among))
        for key, caption in among.items():
            action = menu.addAction(caption)
            action.setData(key)
            action.setCheckable(True)
            action.setChecked(key == stored)
            group.addAction(action)
        group.triggered.connect(lambda action: self._chose(name, str(action.data())))
        return group

    def _chose(self, name: str, key: str) -> None:
        if name == "percentiles":
            if key == _OWN:
                self.ask_percentiles()
                return
            self._last_percentiles = key
        self._settings.put(f"image/{name}", key)
        self.changed.emit(name)


def _keys(among: dict[str, str]) -> Sequence[str]:
    return tuple(among)
