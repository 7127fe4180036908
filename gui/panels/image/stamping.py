"""Thousands of circles as pixels: what a painter draws one by one, numpy writes all at once."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6 import QtCore, QtGui

from gui.panels.image.particles import Bools, Floats, Ints

LARGEST_PX = 200.0
"""Circles of a larger radius are few on any screen, and are left to the painter."""
_STEPS = 4
"""Radii are rounded to this part of a pixel."""
_SMALLEST_PX = 1.5
"""A circle of a smaller radius would hide the particle: a dot marks it."""
_DASH = 5
"""Of so many pixels along a dotted circle the first two are drawn."""


def stamp(
    width: int,
    height: int,
    x: Floats,
    y: Floats,
    radius: Floats,
    dotted: Bools,
    colours: NDArray[np.uint32],
) -> QtGui.QImage:
    """Circles one pixel wide on a transparent picture.

    Args:
        width: of the picture, in pixels.
        height: likewise.
        x: (n,) of the centres, in pixels to the right of its left edge.
        y: (n,) downwards.
        radius: (n,) in pixels, none above :data:`LARGEST_PX`.
        dotted: (n,) which circles are dotted.
        colours: (n,) 0xFFRRGGBB; where circles cross, any of them may lie above.
    """
    # a circle of which only the edge is seen has its centre, and its other edge, that far outside
    margin = 2 * math.ceil(float(radius.max())) + 3 if len(radius) else 0
    across, down = width + 2 * margin, height + 2 * margin
    pixels = np.zeros(across * down, np.uint32)
    seen = (np.abs(x - width / 2) <= width / 2 + radius) & (
        np.abs(y - height / 2) <= height / 2 + radius
    )
    rows = np.flatnonzero(seen)
    corner = (np.floor(y[rows]).astype(np.int64) + margin) * across
    corner += np.floor(x[rows]).astype(np.int64) + margin
    kind = np.maximum(np.rint(radius[rows] * _STEPS).astype(np.int64), 1) * 2 + dotted[rows]
    order = np.argsort(kind, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(kind[order])) + 1):
        if len(part):
            size, is_dotted = divmod(int(kind[part[0]]), 2)
            dx, dy = _ring(size, bool(is_dotted))
            at = corner[part, np.newaxis] + (dy * across + dx)
            pixels[at] = colours[rows[part], np.newaxis]
    inner = pixels.reshape(down, across)[margin : margin + height, margin : margin + width]
    return _as_image(np.ascontiguousarray(inner))


@cache
def _ring(size: int, dotted: bool) -> tuple[Ints, Ints]:
    """Pixels (dx, dy) of a circle about its centre, going round, of so many parts of a pixel."""
    radius = size / _STEPS
    if radius < _SMALLEST_PX:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    turn = np.linspace(0, 2 * np.pi, max(8, math.ceil(8 * radius)), endpoint=False)
    places = np.rint(radius * np.exp(1j * turn))
    places = places[np.flatnonzero(np.diff(places, prepend=places[-1] + 1))]
    if dotted:
        places = places[np.arange(len(places)) % _DASH < 2]
    return places.real.astype(np.int64), places.imag.astype(np.int64)


def _as_image(pixels: NDArray[np.uint32]) -> QtGui.QImage:
    height, width = pixels.shape
    kind = QtGui.QImage.Format.Format_ARGB32_Premultiplied
    data: Any = pixels.data
    # a copy: the array is gone when this returns
    return QtGui.QImage(data, width, height, 4 * width, kind).copy()


def argb(colour: str) -> int:
    """A colour as the pixels hold it."""
    return QtGui.QColor(colour).rgba()


def draw_over(painter: QtGui.QPainter, picture: QtGui.QImage) -> None:
    """Lay a picture of the painter's device over it, pixel by pixel."""
    picture.setDevicePixelRatio(painter.device().devicePixelRatioF())
    painter.save()
    painter.resetTransform()
    painter.drawImage(QtCore.QPointF(0, 0), picture)
    painter.restore()
