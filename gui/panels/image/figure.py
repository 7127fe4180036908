"""A figure of the image as PNG or SVG: the part that is seen, outlines, scale bar, and its caption."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PySide6 import QtCore, QtGui, QtSvg

from acquire.instruments import AnyArray
from gui import text
from gui.panels.image.raster import picture_of

SUFFIXES = (".png", ".svg")
_LEAST_WIDTH_PX = 1200
_MOST_HEIGHT_PX = 4800
"""A tall sliver is not enlarged beyond that."""
_BAR_SHARE = 0.25

Circle = tuple[float, float, float]
"""x, y and radius in nm."""


@dataclass(frozen=True)
class Figure:
    """All that is drawn; made on the UI thread, drawn and written on another."""

    part: AnyArray
    """(y, x) pixels of the part that is seen."""
    left_nm: float
    top_nm: float
    """Where that part begins in the image."""
    pixel_nm: float
    levels: tuple[float, float]
    colour_map: str
    circles: tuple[tuple[str, bool, tuple[Circle, ...]], ...] = ()
    """Colour, whether dotted, and circles in nm in the image."""
    caption: Mapping[str, object] = field(default_factory=dict)
    words: str = ""
    """The caption as a sentence."""

    @property
    def scale_bar_nm(self) -> float:
        """Length of the scale bar."""
        return text.nice_length(_BAR_SHARE * self.part.shape[1] * self.pixel_nm)

    @property
    def zoom(self) -> int:
        """Pixels of the figure per pixel of the image, a whole number."""
        height, width = (int(side) for side in self.part.shape)
        return max(1, min(-(-_LEAST_WIDTH_PX // width), _MOST_HEIGHT_PX // height))


def write_figure(figure: Figure, path: Path, replace: bool) -> tuple[Path, Path]:
    """Write the picture, and the caption as JSON beside it; returns both paths.

    Args:
        figure: what to draw.
        path: ends in one of ``SUFFIXES``, which says the format.
        replace: whether a picture and caption of that name may be replaced.

    Raises:
        OSError: in words for a person; a file that was there is as it was.
    """
    beside = path.with_suffix(".json")
    if path.suffix.lower() not in SUFFIXES:
        raise OSError(f"{path.name} ends in neither .png nor .svg; choose one of them.")
    if beside.exists() and (not replace or not path.exists()):
        raise OSError(f"{beside.name} is there already; choose another name.")
    if path.exists() and not replace:
        raise OSError(f"{path.name} is there already; choose another name.")
    draw = _svg if path.suffix.lower() == ".svg" else _png
    caption = {**figure.caption, "scale_bar_nm": figure.scale_bar_nm, "caption": figure.words}
    words = json.dumps(_plain(caption), indent=2, ensure_ascii=False) + "\n"
    for target, content in ((path, draw(figure)), (beside, words.encode())):
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(content)
        part.replace(target)
    return path, beside


def _plain(caption: Mapping[str, object]) -> dict[str, object]:
    """JSON has no NaN: what is not known is null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in caption.items()
    }


def _png(figure: Figure) -> bytes:
    size = _size(figure)
    image = QtGui.QImage(size, QtGui.QImage.Format.Format_RGB32)
    image.setText("Description", figure.words)
    painter = QtGui.QPainter(image)
    _paint(figure, painter, size)
    painter.end()
    buffer = QtCore.QBuffer()
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    if not image.save(buffer, "PNG"):  # type: ignore[call-overload]  # a device is taken as well
        raise OSError("the picture could not be made; there may be too little memory.")
    return bytes(buffer.data().data())


def _svg(figure: Figure) -> bytes:
    size = _size(figure)
    buffer = QtCore.QBuffer()
    generator = QtSvg.QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(size)
    generator.setViewBox(QtCore.QRect(QtCore.QPoint(0, 0), size))
    generator.setTitle("hotstage")
    generator.setDescription(figure.words)
    painter = QtGui.QPainter(generator)
    _paint(figure, painter, size)
    painter.end()
    return bytes(buffer.data().data())


def _size(figure: Figure) -> QtCore.QSize:
    height, width = figure.part.shape
    return QtCore.QSize(width * figure.zoom, height * figure.zoom)


def _paint(figure: Figure, painter: QtGui.QPainter, size: QtCore.QSize) -> None:
    height, width = figure.part.shape
    picture = picture_of(figure.part, figure.levels, figure.colour_map)
    whole = QtCore.QRectF(0, 0, size.width(), size.height())
    painter.drawImage(whole, picture, QtCore.QRectF(0, 0, width, height))
    painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
    unit = max(size.width(), size.height()) / 1200
    px_per_nm = figure.zoom / figure.pixel_nm
    painter.setClipRect(whole)
    painter.setBrush(QtCore.Qt.BrushStyle.NoBrush)
    for colour, dotted, circles in figure.circles:
        pen = QtGui.QPen(QtGui.QColor(colour), 1.6 * unit)
        if dotted:
            pen.setStyle(QtCore.Qt.PenStyle.DotLine)
        painter.setPen(pen)
        for x, y, radius in circles:
            middle = QtCore.QPointF(
                (x - figure.left_nm) * px_per_nm, (y - figure.top_nm) * px_per_nm
            )
            painter.drawEllipse(middle, radius * px_per_nm, radius * px_per_nm)
    _paint_bar(figure, painter, size, unit)


def _paint_bar(figure: Figure, painter: QtGui.QPainter, size: QtCore.QSize, unit: float) -> None:
    length = figure.scale_bar_nm * figure.zoom / figure.pixel_nm
    right, bottom = size.width() - 28 * unit, size.height() - 28 * unit
    veil = QtCore.QRectF(
        right - length - 14 * unit, bottom - 54 * unit, length + 28 * unit, 66 * unit
    )
    painter.setPen(QtCore.Qt.PenStyle.NoPen)
    painter.setBrush(QtGui.QColor(8, 10, 12, 165))
    painter.drawRoundedRect(veil, 6 * unit, 6 * unit)
    painter.setBrush(QtGui.QColor("white"))
    painter.drawRect(QtCore.QRectF(right - length, bottom - 8 * unit, length, 8 * unit))
    font = QtGui.QFont()
    font.setPixelSize(max(8, round(30 * unit)))
    painter.setFont(font)
    painter.setPen(QtGui.QColor("white"))
    label = QtCore.QRectF(veil.left(), veil.top() + 2 * unit, veil.width(), 42 * unit)
    painter.drawText(label, QtCore.Qt.AlignmentFlag.AlignCenter, text.length(figure.scale_bar_nm))
