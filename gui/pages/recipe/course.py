"""What the recipe plans: temperature against time, how long, how much dose and disk, and what speaks against it."""

from __future__ import annotations

import math

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from acquire.engine.checked import CheckReport, Finding, Place
from acquire.units import show_bytes, show_duration
from gui import text, theme
from gui.recipes.reading import Reading
from gui.widgets.panel import ElidedLabel, Panel, set_text
from gui.widgets.plot import draw_in, make_plot
from gui.widgets.time_plot import ClockAxis
from gui.words import tr

_PLACES = QtCore.Qt.ItemDataRole.UserRole
Qt = QtCore.Qt


class CoursePanel(Panel):
    """The planned temperature, and the step that is chosen as a band."""

    def __init__(self) -> None:
        super().__init__(tr("Course in °C"))
        self.plot = make_plot("", "", x_axis=ClockAxis("bottom"))
        self.plot.setAccessibleName(tr("Planned temperature"))
        self.planned = draw_in(self.plot.plot(), "setpoint")
        self.band = pg.LinearRegionItem(movable=False)
        self.band.hide()
        self.plot.addItem(self.band, ignoreBounds=True)
        self.figures = ElidedLabel(align_left=True)
        self.figures.setMinimumHeight(20)
        self.body.addWidget(self.plot, 1)
        self.body.addWidget(self.figures)
        self._drawn: tuple[tuple[float, ...], ...] = ((), ())
        theme.follow(self, self._paint)

    def show_reading(self, reading: Reading, report: CheckReport | None, word: str) -> None:
        """Draw the course: as checked, or by the recipe's own figures; ``word`` says how it stands."""
        course = reading.course
        checked = report is not None and bool(report.plan.profile_t_s)
        if report is not None and checked:
            times, celsius = report.plan.profile_t_s, report.plan.profile_celsius
        else:
            times, celsius = course.profile_t_s, course.profile_celsius
        drawn = (times, celsius)
        if drawn != self._drawn:
            self._drawn = drawn
            self.planned.setData(np.array(times), np.array(celsius))
            for side in ("left", "bottom"):  # figures beside no curve would mislead
                self.plot.getPlotItem().getAxis(side).setStyle(showValues=bool(times))
            if not times:
                self.band.hide()
        set_text(self.info, word)
        set_text(self.figures, _figures(reading, report if checked else None))

    def show_step(self, span: tuple[float, float] | None) -> None:
        """Mark a step by when it begins and ends, in run seconds."""
        self.band.setVisible(span is not None and bool(self._drawn[0]))
        if span is not None:
            self.band.setRegion(span)

    def _paint(self) -> None:
        colour = QtGui.QColor(theme.now().sky)
        colour.setAlpha(50)
        self.band.setBrush(colour)
        for line in self.band.lines:
            line.setPen(pg.mkPen(theme.now().sky, width=1))


def _figures(reading: Reading, report: CheckReport | None) -> str:
    if reading.recipe is None:
        return tr("No course: the recipe cannot be read as it stands.")
    if report is None:
        longest = "" if reading.course.exact else tr("at most ")
        return tr("takes {longest}{time} by its own figures").format(
            longest=longest, time=show_duration(reading.course.duration_s)
        )
    parts = [tr("takes {0}").format(show_duration(report.duration_s))]
    if math.isfinite(report.worst_s):
        parts.append(tr("at worst {0}").format(show_duration(report.worst_s)))
    dose = tr("dose {0} e/nm²").format(text.dose(report.dose_e_per_nm2))
    if math.isfinite(report.dose_limit_e_per_nm2):
        share = 100 * report.dose_e_per_nm2 / report.dose_limit_e_per_nm2
        dose += tr(" ({0:.0f} % of the limit)").format(share)
    parts.append(dose)
    parts.append(
        tr("{data} of {free} free").format(
            data=show_bytes(report.expected_bytes), free=show_bytes(report.free_bytes)
        )
    )
    return "  ·  ".join(parts)


class Objections(Panel):
    """Everything that is wrong or worth knowing; a click goes to where it belongs."""

    gone_to = QtCore.Signal(tuple)

    def __init__(self) -> None:
        super().__init__(tr("Checks"))
        self.list = QtWidgets.QListWidget()
        self.list.setAccessibleName(tr("What the checks found"))
        self.list.setWordWrap(True)
        self.list.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.list.itemClicked.connect(self._go)
        self.list.itemActivated.connect(self._go)
        self.body.addWidget(self.list, 1)
        self._shown: tuple[tuple[str, str, Place], ...] = ()
        theme.follow(self, self._fill)

    def show_reading(self, reading: Reading, report: CheckReport | None, word: str) -> None:
        """List what is wrong with the text, and else what the station says."""
        rows = [("✕", _at(p.line, p.words), p.path) for p in reading.problems]
        for finding in report.findings if report is not None else ():
            glyph = "✕" if finding.kind == "problem" else "⚠"
            rows.append((glyph, finding.text, _first(finding)))
        if not rows and report is not None:
            words = tr("Nothing would stop this run on station {0}.").format(report.station)
            if report.twin:
                words += " " + tr("Simulated instruments stood in for its own, under its limits.")
            rows.append(("✓", words, ()))
        set_text(self.info, word)
        if tuple(rows) != self._shown:
            self._shown = tuple(rows)
            self._fill()

    @property
    def rows(self) -> tuple[tuple[str, str, Place], ...]:
        """Glyph, words and place of what is listed."""
        return self._shown

    def _fill(self) -> None:
        now = theme.now()
        colours = {"✕": now.error_text, "⚠": now.orange, "✓": now.green}
        self.list.clear()
        for glyph, words, path in self._shown:
            item = QtWidgets.QListWidgetItem(f"{glyph}  {words}")
            item.setForeground(QtGui.QBrush(QtGui.QColor(colours[glyph])))
            item.setData(_PLACES, path)
            item.setToolTip(words)
            self.list.addItem(item)

    def _go(self, item: QtWidgets.QListWidgetItem) -> None:
        self.gone_to.emit(tuple(item.data(_PLACES)))


def _at(line: int, words: str) -> str:
    return tr("line {line}: {words}").format(line=line, words=words) if line else words


def _first(finding: Finding) -> Place:
    return finding.places[0] if finding.places else ()
