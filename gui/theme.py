"""How the window looks: colours that colour-blind eyes can tell apart, fonts, and one dark style sheet."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6 import QtGui, QtWidgets

from acquire.engine.status import EngineState

BACKGROUND = "#101418"
PANEL = "#161B21"
RAISED = "#222A33"
LINE = "#303A45"
TEXT = "#E8ECF1"
MUTED = "#9DA9B5"
FAINT = "#6B7682"

# Okabe and Ito 2008: distinguishable with any common colour blindness
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#2FB98E"
YELLOW = "#F0E442"
PINK = "#D98CB8"

RED = "#B3261E"
"""Kept for the heater-off button and for faults: nothing else in the window is red."""

MEASURED = ORANGE
SETPOINT = SKY
PLANNED = MUTED
DIAMETER = GREEN
COUNT = PINK
SPECTRUM = YELLOW
OUTLINE = "#FFFFFF"


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
    EngineState.IDLE: Badge("○", "IDLE", "#39434E"),
    EngineState.PREPARING: Badge("◔", "PREPARING", "#1B4F7A"),
    EngineState.RUNNING: Badge("▶", "RUNNING", "#0B5F47"),
    EngineState.PAUSING: Badge("❚❚", "PAUSING", "#6E4E00"),
    EngineState.PAUSED: Badge("❚❚", "PAUSED", "#8A6200"),
    EngineState.FINISHING: Badge("◕", "FINISHING", "#1B4F7A"),
    EngineState.COMPLETED: Badge("✓", "COMPLETED", "#1F4D63"),
    EngineState.ABORTED: Badge("■", "ABORTED", "#7A4310"),
    EngineState.FAILED: Badge("✕", "FAILED", RED),
}
NO_CONTACT = Badge("?", "NO CONTACT", "#4A4033", "#FFD27A")

STYLE = f"""
* {{ outline: none; }}
QWidget {{ background: {BACKGROUND}; color: {TEXT}; }}
QToolTip {{ background: {RAISED}; color: {TEXT}; border: 1px solid {LINE}; padding: 4px; }}
QLabel {{ background: transparent; }}
QLabel[muted="true"] {{ color: {MUTED}; }}
QLabel[stale="true"] {{ color: {FAINT}; }}

QFrame#panel {{ background: {PANEL}; border: 1px solid {LINE}; border-radius: 5px; }}
QFrame#panel[stale="true"] {{ border: 1px dashed {ORANGE}; }}
QFrame#panel QWidget {{ background: {PANEL}; }}
QLabel#panelTitle {{ font-weight: 600; }}
QFrame#panel QLabel#staleChip {{ color: #101418; background: {ORANGE}; border-radius: 3px; padding: 2px 8px; font-weight: 700; font-size: 11pt; }}

QPushButton {{ background: {RAISED}; border: 1px solid {LINE}; border-radius: 5px; padding: 4px 9px; }}
QFrame#panel QPushButton {{ background: {RAISED}; }}
QPushButton:hover {{ border-color: {SKY}; }}
QPushButton:focus {{ border-color: {SKY}; }}
QPushButton:pressed {{ background: #2E3945; }}
QPushButton:checked {{ border-color: {SKY}; color: {SKY}; }}
QPushButton:disabled, QFrame#panel QPushButton:disabled {{ color: {FAINT}; background: #171C22; border-color: #232B34; }}

QFrame#faultBar {{ background: #5A1512; border: 1px solid {RED}; border-radius: 5px; }}
QFrame#promptBar {{ background: #123A59; border: 1px solid {SKY}; border-radius: 5px; }}
QFrame#faultBar QLabel, QFrame#promptBar QLabel {{ background: transparent; font-weight: 600; }}

QLineEdit, QPlainTextEdit, QComboBox {{ background: #0C0F13; border: 1px solid {LINE}; border-radius: 4px;
    padding: 3px 5px; selection-background-color: #1B4F7A; }}
QFrame#panel QLineEdit, QFrame#panel QPlainTextEdit, QFrame#panel QComboBox {{ background: #0C0F13; }}
QLineEdit:focus, QComboBox:focus {{ border-color: {SKY}; }}
QLineEdit:disabled, QComboBox:disabled {{ color: {FAINT}; border-color: #232B34; }}
QComboBox QAbstractItemView {{ background: {RAISED}; border: 1px solid {LINE}; selection-background-color: #1B4F7A; }}

QProgressBar {{ background: #0C0F13; border: 1px solid {LINE}; border-radius: 4px; text-align: center; }}
QProgressBar::chunk {{ background: #24587F; border-radius: 3px; }}
QProgressBar:disabled {{ color: {FAINT}; }}
QProgressBar::chunk:disabled {{ background: #2C333B; }}

QTableView {{ background: {PANEL}; border: none; gridline-color: #232B34; selection-background-color: #1C3A52;
    selection-color: {TEXT}; }}
QTableView::item {{ padding: 3px 2px; }}
QHeaderView::section {{ background: #1B2128; color: {MUTED}; border: none; border-bottom: 1px solid {LINE}; padding: 3px 5px; }}
QTableCornerButton::section {{ background: #1B2128; border: none; }}
QTabWidget::pane {{ border: none; }}
QTabBar::tab {{ background: transparent; color: {MUTED}; padding: 3px 10px; border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {TEXT}; border-bottom: 2px solid {SKY}; }}
QSplitter::handle {{ background: {BACKGROUND}; }}
QSplitter::handle:hover {{ background: {LINE}; }}
QScrollBar:vertical {{ background: transparent; width: 10px; margin: 0; }}
QScrollBar:horizontal {{ background: transparent; height: 10px; margin: 0; }}
QScrollBar::handle {{ background: #3A4653; border-radius: 4px; min-height: 24px; min-width: 24px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QFileDialog QWidget {{ background: {BACKGROUND}; }}
"""


def apply(app: QtWidgets.QApplication) -> None:
    """Dress the application, once; works on every platform plug-in, offscreen too."""
    if app.styleSheet() == STYLE:
        return
    app.setStyle("Fusion")
    font = QtGui.QFont()
    font.setFamilies(["Segoe UI", "Noto Sans", "DejaVu Sans", "Arial"])
    font.setPointSizeF(9.5)
    app.setFont(font)
    palette = QtGui.QPalette()
    role = QtGui.QPalette.ColorRole
    for which, colour in {
        role.Window: BACKGROUND,
        role.Base: "#0C0F13",
        role.AlternateBase: PANEL,
        role.Text: TEXT,
        role.WindowText: TEXT,
        role.Button: RAISED,
        role.ButtonText: TEXT,
        role.Highlight: "#1B4F7A",
        role.HighlightedText: TEXT,
        role.PlaceholderText: FAINT,
        role.ToolTipBase: RAISED,
        role.ToolTipText: TEXT,
    }.items():
        palette.setColor(which, QtGui.QColor(colour))
    app.setPalette(palette)
    app.setStyleSheet(STYLE)


def mono(size: float = 9.0) -> QtGui.QFont:
    """The fixed-width font for logs and recipes."""
    font = QtGui.QFont()
    font.setFamilies(["Cascadia Mono", "Consolas", "DejaVu Sans Mono", "Courier New"])
    font.setStyleHint(QtGui.QFont.StyleHint.Monospace)
    font.setPointSizeF(size)
    return font
