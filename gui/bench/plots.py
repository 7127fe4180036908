"""What it costs to keep plots of a long run up to date."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from PySide6 import QtCore, QtWidgets

from acquire.engine.status import EngineState, EngineStatus, LiveNote, LiveSeries, PlanView
from gui.panels.curves import RunCurves
from gui.panels.sizes import SizesPanel
from gui.panels.temperature import TemperaturePanel
from gui.widgets.cursor import TimeCursor
from gui.widgets.trace import Floats

READINGS_PER_S = 50.0
_PIECE = 100_000
_SIZE = (560, 480)


@dataclass(frozen=True, slots=True)
class PlotUpdates:
    """Times of updates in ms, one of each update (n,)."""

    draw_ms: Floats
    """Both time plots take 10 new points a curve and are given what there is to draw."""
    paint_ms: Floats
    """Then they are painted, unless nothing changed on the screen."""

    @property
    def total_ms(self) -> Floats:
        """Both."""
        return self.draw_ms + self.paint_ms


def measure_plot_updates(points: int = 1_000_000, updates: int = 100) -> PlotUpdates:
    """Fill every curve of the time plots with so many points, and bring them up to date so often.

    Temperature (measured, set), mean diameter with its σ and count; needs an application.
    """
    curves, cursor = RunCurves(), TimeCursor()
    panels = (TemperaturePanel(curves, cursor), SizesPanel(curves, cursor))
    window = QtWidgets.QWidget()
    column = QtWidgets.QVBoxLayout(window)
    for panel in panels:
        column.addWidget(panel)
    window.resize(*_SIZE)
    window.show()
    QtWidgets.QApplication.processEvents()  # what is not on the screen yet is not drawn
    rng = np.random.default_rng(3)
    for first in range(0, points, _PIECE):
        curves.add(_series(rng, first, min(_PIECE, points - first)), first == 0)
    end_s = (points + 10 * updates) / READINGS_PER_S
    plan = PlanView("bench", (), (0.0, 60.0, 1.2 * end_s), (25.0, 700.0, 700.0))
    draw_ms, paint_ms = [], []
    for number in range(updates + 5):
        at = points + 10 * number
        status = EngineStatus(state=EngineState.RUNNING, t_s=at / READINGS_PER_S)
        piece = _series(rng, at, 10)
        begun = time.perf_counter()
        curves.add(piece, False)
        panels[0].show_status(status, plan)
        panels[1].show_status(status)
        drawn = time.perf_counter()
        for panel in panels:
            panel.plot.viewport().repaint()
        done = time.perf_counter()
        if number >= 5:  # the first set up fonts and ranges
            draw_ms.append(1000 * (drawn - begun))
            paint_ms.append(1000 * (done - drawn))
    window.close()
    window.deleteLater()
    # now, while all that Python holds of it is there
    QtCore.QCoreApplication.sendPostedEvents(window, QtCore.QEvent.Type.DeferredDelete.value)
    return PlotUpdates(np.array(draw_ms), np.array(paint_ms))


def _series(rng: np.random.Generator, first: int, count: int) -> LiveSeries:
    t_s = (first + np.arange(count)) / READINGS_PER_S
    set_celsius = 700 + 40 * np.sin(t_s / 900)
    noise = rng.normal(0, 0.7, count)
    notes = (LiveNote(float(t_s[0]), "mark", "a mark"),) if count == _PIECE else ()
    return LiveSeries(
        (first + count, first + count, 0),
        1,
        t_s,
        set_celsius + noise,
        set_celsius,
        t_s,
        {
            "mean_diameter": 6 + 2 * np.sin(t_s / 3000) + 0.1 * noise,
            "mean_diameter_sigma": np.full(count, 0.1),
            "count": np.round(60 + 5 * noise),
        },
        notes,
    )
