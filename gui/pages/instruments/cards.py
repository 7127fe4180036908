"""Every instrument of the station as a card: how it stands, what to do, what it reads, allows and is."""

from __future__ import annotations

import html
import math

from PySide6 import QtCore, QtWidgets

from acquire.engine.station_view import InstrumentView, LinkState, ReadingView, StationView
from acquire.instruments import Limit
from acquire.units import show
from gui import text, theme
from gui.pages.instruments.consequences import source
from gui.widgets.panel import set_flag
from gui.words import tr

OLD_AFTER_S = 5.0
_SMALLER = ((1e3, "ms"), (1e6, "µs"), (1e9, "ns"), (1e300, "s"))
_UNITS = {
    "pa": "pA",
    "na": "nA",
    "kev": "keV",
    "ev": "eV",
    "mrad": "mrad",
    "nm": "nm",
    "ohm": "Ω",
    "celsius": "°C",
    "s": "s",
}
"""How the last word of a fact's name is written behind its number."""
_GLYPHS = {
    LinkState.CONNECTED: ("●", "green"),
    LinkState.LOST: ("✕", "orange"),
    LinkState.MAKING_SAFE: ("◔", "sky"),
    LinkState.FAULT: ("⚠", "error_text"),
    LinkState.UNKNOWN: ("○", "muted"),
}


_NM_PER_MM = 1e6
_PREFIXED = ("Ω", "V", "A")
"""Units whose figures go over many powers of ten."""
_PREFIXES = {-5: "f", -4: "p", -3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G"}
_ABSOLUTE_ZERO = -273.0


def reading_words(reading: ReadingView) -> str:
    """A live value as a person reads it."""
    if reading.word:
        return reading.word
    if not math.isfinite(reading.value):
        return text.UNKNOWN
    return amount(reading.value, reading.unit)


def amount(value: float, unit: str) -> str:
    """A quantity; times below a second in what a person would say."""
    if unit == "s" and 0 < abs(value) < 1:
        factor, smaller = next(step for step in _SMALLER if abs(value) >= 0.999 / step[0])
        return show(value * factor, smaller)
    if unit == "nm" and abs(value) >= _NM_PER_MM:
        return show(value / _NM_PER_MM, "mm")
    if unit in _PREFIXED and value and not 1e-2 <= abs(value) < 1e4:
        power = min(3, max(-5, math.floor(math.log10(abs(value)) / 3)))
        return show(value / 1000.0**power, f"{_PREFIXES[power]}{unit}")
    return show(value, unit)


class Card(QtWidgets.QFrame):
    """One instrument."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.words = QtWidgets.QLabel()
        self.words.setTextFormat(QtCore.Qt.TextFormat.RichText)
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(8, 5, 8, 6)
        column.addWidget(self.words)
        self._drawn = ""

    def show_instrument(self, view: InstrumentView, stale: bool) -> None:
        """Draw it; ``stale``: the host itself is silent."""
        set_flag(self, "stale", stale or view.link is LinkState.LOST)
        drawn = _card(view, stale)
        if drawn != self._drawn:  # a new text costs a layout, and ends a selection
            self._drawn = drawn
            self.words.setText(drawn)


class Cards(QtWidgets.QScrollArea):
    """All of them, in a column that scrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setAccessibleName(tr("Instruments of the station"))
        self.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        inner = QtWidgets.QWidget()
        self._column = QtWidgets.QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 4, 0)
        self._column.setSpacing(5)
        self._column.addStretch(1)
        self.setWidget(inner)
        self.cards: dict[str, Card] = {}

    def show_station(self, station: StationView, stale: bool) -> None:
        """Draw every instrument of a station."""
        roles = [view.role for view in station.instruments]
        for role in [role for role in self.cards if role not in roles]:
            self.cards.pop(role).deleteLater()
        for view in station.instruments:
            card = self.cards.get(view.role)
            if card is None:
                card = self.cards[view.role] = Card()
                self._column.insertWidget(self._column.count() - 1, card)
            card.show_instrument(view, stale)


def _card(view: InstrumentView, stale: bool) -> str:
    now = theme.now()
    glyph, colour = _GLYPHS[view.link]
    word = tr(view.link.value)
    if stale:
        glyph, colour, word = "?", "orange", tr("no contact with the engine")
    lines = [
        f'<b>{html.escape(tr(view.role))}</b> &nbsp;<span style="color:{getattr(now, colour)}">'
        f"<b>{glyph} {html.escape(word)}</b></span>"
    ]
    if view.trouble:
        lines.append(
            f'<span style="color:{now.error_text}">{html.escape(text.homely(view.trouble))}</span>'
        )
    if view.mend:
        lines.append(f"→ {html.escape(tr(view.mend))}")
    if view.readings:
        old = stale or view.age_s > OLD_AFTER_S
        values = " &nbsp; ".join(
            f"{html.escape(reading.name)} <b>{html.escape(reading_words(reading))}</b>"
            for reading in view.readings
        )
        if old:
            age = tr("read {age} ago").format(age=text.age(view.age_s))
            values = f'<span style="color:{now.faint}">{values} ({age})</span>'
        lines.append(values)
    muted = [*_identity(view), *_limits(view), *_facts(view)]
    lines += [f'<span style="color:{now.muted}">{line}</span>' for line in muted]
    return "<br>".join(lines)


def _identity(view: InstrumentView) -> list[str]:
    parts = [view.model, tr("driver {name}").format(name=view.driver) if view.driver else ""]
    parts += [tr("No. {serial}").format(serial=view.serial) if view.serial else ""]
    parts += [tr("SIMULATED") if view.simulated else ""]
    words = " · ".join(html.escape(part) for part in parts if part)
    return [words] if words else []


def _limits(view: InstrumentView) -> list[str]:
    return [
        html.escape(f"{limit.quantity.replace('_', ' ')} {_range(limit)}  ({source(limit)})")
        for limit in view.limits
    ]


def _range(limit: Limit) -> str:
    """From where to where; a lower end that limits nothing is left out."""
    low, high = limit.low, limit.high
    if low == 0 or (limit.unit == "°C" and low < _ABSOLUTE_ZERO):
        return tr("up to {high}").format(high=amount(high, limit.unit))
    if low == -high:
        return f"± {amount(high, limit.unit)}"
    return tr("{low} to {high}").format(low=amount(low, limit.unit), high=amount(high, limit.unit))


def _facts(view: InstrumentView) -> list[str]:
    parts = [_fact(name, value) for name, value in view.facts.items() if value != ""]
    if view.detectors:
        parts.insert(0, tr("detectors {names}").format(names=", ".join(view.detectors)))
    return [html.escape(" · ".join(parts))] if parts else []


def _fact(name: str, value: str | float) -> str:
    words, _, last = name.rpartition("_")
    if not isinstance(value, str) and words and last in _UNITS:
        return f"{words.replace('_', ' ')} {amount(value, _UNITS[last])}"
    return f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:.6g}'}"
