"""The style sheet of the window, made of a theme's colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gui.theme import Colours


def sheet(c: Colours) -> str:
    """The style sheet for these colours."""
    return f"""
* {{ outline: none; }}
QWidget {{ background: {c.background}; color: {c.text}; }}
QToolTip {{ background: {c.raised}; color: {c.text}; border: 1px solid {c.line}; padding: 4px; }}
QLabel {{ background: transparent; }}
QLabel[muted="true"] {{ color: {c.muted}; }}
QLabel[stale="true"] {{ color: {c.faint}; }}

QFrame#panel {{ background: {c.panel}; border: 1px solid {c.line}; border-radius: 5px; }}
QFrame#panel[stale="true"] {{ border: 1px dashed {c.orange}; }}
QFrame#panel QWidget {{ background: {c.panel}; }}
QLabel#panelTitle {{ font-weight: 600; }}
QFrame#panel QLabel#staleChip {{ color: {c.panel}; background: {c.orange}; border-radius: 3px; padding: 2px 8px; font-weight: 700; font-size: 11pt; }}

QFrame#panel QLabel#imageLabel {{ background: rgba(8, 10, 12, 215); color: #FFFFFF; border-radius: 4px; padding: 4px 7px; }}
QLabel#refusal {{ color: {c.error_text}; font-weight: 600; }}

QPushButton {{ background: {c.raised}; border: 1px solid {c.edge}; border-radius: 5px; padding: 4px 9px; }}
QFrame#panel QPushButton {{ background: {c.raised}; }}
QPushButton:hover {{ border-color: {c.sky}; }}
QPushButton:focus {{ border-color: {c.sky}; }}
QPushButton:pressed {{ background: {c.pressed}; }}
QPushButton:checked {{ border-color: {c.sky}; color: {c.sky}; }}
QPushButton:disabled, QFrame#panel QPushButton:disabled {{ color: {c.faint}; background: {c.background}; border-color: {c.line}; }}

QFrame#faultBar {{ background: #5A1512; border: 1px solid {c.red}; border-radius: 5px; }}
QFrame#promptBar {{ background: #123A59; border: 1px solid {c.sky}; border-radius: 5px; }}
QFrame#faultBar QLabel, QFrame#promptBar QLabel {{ background: transparent; color: #FFFFFF; font-weight: 600; }}

QLineEdit, QPlainTextEdit, QComboBox {{ background: {c.sunken}; border: 1px solid {c.edge}; border-radius: 4px;
    padding: 3px 5px; selection-background-color: {c.selection}; }}
QFrame#panel QLineEdit, QFrame#panel QPlainTextEdit, QFrame#panel QComboBox {{ background: {c.sunken}; }}
QLineEdit:focus, QPlainTextEdit:focus, QComboBox:focus {{ border-color: {c.sky}; }}
QLineEdit, QPlainTextEdit {{ placeholder-text-color: {c.muted}; }}
QLineEdit[refused="true"] {{ border-color: {c.orange}; }}
QLineEdit:disabled, QComboBox:disabled {{ color: {c.faint}; border-color: {c.line}; }}
QComboBox::drop-down {{ border: none; width: 16px; }}
QComboBox::down-arrow {{ width: 0; height: 0; border-left: 4px solid {c.sunken}; border-right: 4px solid {c.sunken};
    border-top: 5px solid {c.muted}; }}
QComboBox QAbstractItemView {{ background: {c.raised}; border: 1px solid {c.line}; selection-background-color: {c.selection}; }}

QProgressBar {{ background: {c.sunken}; border: 1px solid {c.line}; border-radius: 4px; text-align: center; }}
QProgressBar::chunk {{ background: {c.selection}; border-radius: 3px; }}
QProgressBar:disabled {{ color: {c.faint}; }}
QProgressBar::chunk:disabled {{ background: {c.raised}; }}

QTableView {{ background: {c.panel}; border: none; gridline-color: {c.line}; selection-background-color: {c.selection};
    selection-color: {c.text}; }}
QTableView::item {{ padding: 3px 2px; }}
QTableView:focus, QTreeView:focus, QListView:focus {{ outline: 1px solid {c.sky}; }}
QHeaderView::section {{ background: {c.raised}; color: {c.muted}; border: none; border-bottom: 1px solid {c.line}; padding: 3px 5px; }}
QTableCornerButton::section {{ background: {c.raised}; border: none; }}
QTabWidget::pane {{ border: none; }}
QTabBar::tab {{ background: transparent; color: {c.muted}; padding: 3px 10px; border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {c.text}; border-bottom: 2px solid {c.sky}; }}
QSplitter::handle {{ background: {c.background}; }}
QSplitter::handle:hover {{ background: {c.line}; }}
QScrollBar:vertical {{ background: transparent; width: 10px; margin: 0; }}
QScrollBar:horizontal {{ background: transparent; height: 10px; margin: 0; }}
QScrollBar::handle {{ background: {c.faint}; border-radius: 4px; min-height: 24px; min-width: 24px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QLabel#key {{ font-weight: 700; }}
QFrame#tourCard {{ background: {c.raised}; border: 2px solid {c.sky}; border-radius: 8px; }}
QFrame#tourCard QLabel {{ background: transparent; }}
QLabel#tourTitle {{ font-weight: 700; font-size: 12pt; }}
QPushButton[leading="true"] {{ background: {c.selection}; border-color: {c.sky}; font-weight: 600; }}
QFileDialog QWidget {{ background: {c.background}; }}
"""
