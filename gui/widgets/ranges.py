"""Ranges of plots that follow what is drawn without moving for less than they must, and never under the hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from PySide6 import QtCore

from gui.widgets.trace import Floats

ROOM = 0.04
SMALLER = 0.55
"""A range is drawn in when what there is to see fills less of it."""


class Following(QtCore.QObject):
    """Whether a plot's range is ours to set: not after the hand zoomed or dragged, until a double click or Home."""

    returned = QtCore.Signal()

    def __init__(self, widget: Any) -> None:
        super().__init__()  # not a child: whoever makes it holds it
        self.on = True
        self._view = widget.getPlotItem().getViewBox()
        self._view.disableAutoRange()
        self._view.sigRangeChangedManually.connect(self._by_hand)
        widget.by_keys.whole = self._return

    def fit(self, across: Iterable[Floats], up: Iterable[Floats]) -> None:
        """Hold what is drawn."""
        if self.on:
            fit_x(self._view, across)
            fit_y(self._view, up)

    def _by_hand(self, *_: object) -> None:
        self.on = False

    def _return(self) -> None:
        self.on = True
        self.returned.emit()


def fit_y(view: Any, curves: Iterable[Floats]) -> None:
    """Let a view hold what is drawn, without moving for less than it must."""
    wanted = _room_for(curves, view.viewRange()[1])
    if wanted is not None:
        view.setYRange(*wanted, padding=0)


def fit_x(view: Any, curves: Iterable[Floats]) -> None:
    """As :func:`fit_y`, across."""
    wanted = _room_for(curves, view.viewRange()[0])
    if wanted is not None:
        view.setXRange(*wanted, padding=0)


def _room_for(curves: Iterable[Floats], now: tuple[float, float]) -> tuple[float, float] | None:
    known = [curve[np.isfinite(curve)] for curve in curves]
    known = [curve for curve in known if len(curve)]
    if not known:
        return None
    low = min(float(curve.min()) for curve in known)
    high = max(float(curve.max()) for curve in known)
    # an axis of zeros that tells 1e-13 says nothing
    span = high - low or abs(high) * 0.02 or 1.0
    fits = now[0] <= low and high <= now[1]
    if fits and high - low >= SMALLER * 0.7 * (now[1] - now[0]):
        return None
    wanted = (low - 1.5 * ROOM * span, high + 3 * ROOM * span)
    return None if np.allclose(wanted, now, rtol=1e-3, atol=1e-3 * span) else wanted
