"""How the window looks: a night and a day theme, fonts, and how widgets follow a change of theme.

Colours that mean something are Okabe and Ito's (2008), which any common colour blindness can tell
apart, darkened for the day so that text and lines keep a contrast of 4.5 on their ground.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.status import EngineState
from gui import style
from gui.words import tr


@dataclass(frozen=True, slots=True)
class Colours:
    """What is painted with what, as ``#rrggbb``."""

    name: str
    background: str
    panel: str
    raised: str
    pressed: str
    sunken: str
    """Ground of fields that are written in."""
    line: str
    edge: str
    """Around what can be pressed or written in: 3 to 1 to what lies around it (WCAG 2.2, 1.4.11)."""
    text: str
    muted: str
    faint: str
    """Of what is disabled or old; not for anything that must be read."""
    selection: str
    orange: str
    sky: str
    green: str
    yellow: str
    pink: str
    red: str
    """Kept for heater off and for faults: nothing else in the window is red."""
    error_text: str
    error_ground: str
    good_text: str
    good_ground: str

    @property
    def measured(self) -> str:
        """The measured temperature."""
        return self.orange

    @property
    def setpoint(self) -> str:
        """The temperature that is asked for."""
        return self.sky

    @property
    def planned(self) -> str:
        """The plan."""
        return self.muted

    @property
    def diameter(self) -> str:
        """Particle diameters."""
        return self.green

    @property
    def count(self) -> str:
        """Numbers of particles."""
        return self.pink

    @property
    def spectrum(self) -> str:
        """Spectra."""
        return self.yellow


NIGHT = Colours(
    name="night",
    background="#101418",
    panel="#161B21",
    raised="#222A33",
    pressed="#2E3945",
    sunken="#0C0F13",
    line="#303A45",
    edge="#6B7682",
    text="#E8ECF1",
    muted="#9DA9B5",
    faint="#6B7682",
    selection="#1C3A52",
    orange="#E69F00",
    sky="#56B4E9",
    green="#2FB98E",
    yellow="#F0E442",
    pink="#D98CB8",
    red="#B3261E",
    error_text="#FFB09A",
    error_ground="#3A1A14",
    good_text="#A6E8D3",
    good_ground="#12302A",
)
DAY = Colours(
    name="day",
    background="#E9ECEF",
    panel="#FFFFFF",
    raised="#F1F3F5",
    pressed="#DDE2E7",
    sunken="#FFFFFF",
    line="#B9C2CB",
    edge="#76808A",
    text="#14181C",
    muted="#4E5964",
    faint="#8A949E",
    selection="#CBE3F5",
    orange="#9A5B00",
    sky="#0062A3",
    green="#00704F",
    yellow="#6B5F00",
    pink="#96336C",
    red="#B3261E",
    error_text="#7A1A0C",
    error_ground="#FBE3DD",
    good_text="#0B4A38",
    good_ground="#DDF3EB",
)
THEMES = {theme.name: theme for theme in (NIGHT, DAY)}

OUTLINE = "#FFFFFF"
"""On images, which keep their own colours in both themes."""


@dataclass(frozen=True, slots=True)
class Badge:
    """A state as glyph, word and colour, so that no one of them is needed alone."""

    glyph: str
    word: str
    background: str
    foreground: str = "#FFFFFF"

    @property
    def text(self) -> str:
        """Glyph and word."""
        return f"{self.glyph}  {self.word}"


STATES: dict[EngineState, Badge] = {
    EngineState.IDLE: Badge("○", tr("IDLE"), "#39434E"),
    EngineState.PREPARING: Badge("◔", tr("PREPARING"), "#1B4F7A"),
    EngineState.RUNNING: Badge("▶", tr("RUNNING"), "#0B5F47"),
    EngineState.PAUSING: Badge("❚❚", tr("PAUSING"), "#6E4E00"),
    EngineState.PAUSED: Badge("❚❚", tr("PAUSED"), "#8A6200"),
    EngineState.FINISHING: Badge("◕", tr("FINISHING"), "#1B4F7A"),
    EngineState.COMPLETED: Badge("✓", tr("COMPLETED"), "#1F4D63"),
    EngineState.ABORTED: Badge("■", tr("ABORTED"), "#7A4310"),
    EngineState.FAILED: Badge("✕", tr("FAILED"), NIGHT.red),
}
NO_CONTACT = Badge("?", tr("NO CONTACT"), "#4A4033", "#FFD27A")
BY_HAND = Badge("☛", tr("BY HAND"), "#6E3A00")
FAULT = Badge("⚠", tr("FAULT"), NIGHT.red)
REPLAY = Badge("⟲", tr("REPLAY"), "#4B3A6B")


_APPLIED = "hotstageTheme"
_now = NIGHT
_followers: dict[int, Callable[[], None]] = {}
_numbers = itertools.count()


def now() -> Colours:
    """The colours of the present theme; ask each time, they change."""
    return _now


def other() -> str:
    """The name of the theme that follows the present one."""
    names = list(THEMES)
    return names[(names.index(_now.name) + 1) % len(names)]


def follow(owner: QtCore.QObject, paint: Callable[[], None]) -> None:
    """Paint now, and again whenever the theme changes, for as long as ``owner`` lives."""
    number = next(_numbers)
    _followers[number] = paint
    owner.destroyed.connect(lambda: _followers.pop(number, None))
    paint()


def use(name: str) -> None:
    """Change to the theme of a name in ``THEMES``; all that follows it is painted anew."""
    global _now
    _now = THEMES[name]
    application = QtWidgets.QApplication.instance()
    if isinstance(application, QtWidgets.QApplication):
        apply(application)
    for paint in tuple(_followers.values()):
        paint()


def dress(window: QtWidgets.QWidget) -> None:
    """Give a window the style sheet of the present theme, and of every one that follows.

    The window and not the application: that would have the hundreds of widgets that pyqtgraph keeps in
    menus nobody opens restyled too, which takes longer than the whole window.
    """
    follow(window, lambda: window.setStyleSheet(style.sheet(_now)))


def apply(app: QtWidgets.QApplication) -> None:
    """Dress the application; works on every platform plug-in, offscreen too."""
    if app.property(_APPLIED) == _now.name:
        return
    if app.property(_APPLIED) is None:
        app.setStyle("Fusion")
        font = QtGui.QFont()
        font.setFamilies(["Segoe UI", "Noto Sans", "DejaVu Sans", "Arial"])
        font.setPointSizeF(9.5)
        app.setFont(font)
    app.setProperty(_APPLIED, _now.name)
    pg.setConfigOptions(background=_now.panel, foreground=_now.muted, imageAxisOrder="row-major")
    palette = QtGui.QPalette()
    role = QtGui.QPalette.ColorRole
    for which, colour in {
        role.Window: _now.background,
        role.Base: _now.sunken,
        role.AlternateBase: _now.panel,
        role.Text: _now.text,
        role.WindowText: _now.text,
        role.Button: _now.raised,
        role.ButtonText: _now.text,
        role.Highlight: _now.selection,
        role.HighlightedText: _now.text,
        role.PlaceholderText: _now.muted,
        role.ToolTipBase: _now.raised,
        role.ToolTipText: _now.text,
    }.items():
        palette.setColor(which, QtGui.QColor(colour))
    app.setPalette(palette)


def mono(size: float = 9.0) -> QtGui.QFont:
    """The fixed-width font for logs and recipes."""
    font = QtGui.QFont()
    font.setFamilies(["Cascadia Mono", "Consolas", "DejaVu Sans Mono", "Courier New"])
    font.setStyleHint(QtGui.QFont.StyleHint.Monospace)
    font.setPointSizeF(size)
    return font
