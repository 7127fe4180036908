"""Where the image is drawn: only as many of its pixels as the view can show, moved as the drift asks."""

from __future__ import annotations

import math
from typing import Any

import pyqtgraph as pg
from PySide6 import QtCore, QtGui, QtWidgets

from acquire.instruments import AnyArray
from gui import theme
from gui.panels.image.raster import Raster
from gui.panels.image.shrinking import summed
from gui.widgets.keys import Described
from gui.widgets.plot import paint_alone
from gui.widgets.scale_bar import ScaleBar, nm_per_pixel
from gui.words import tr

Qt = QtCore.Qt
_ARROWS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}
_PAN, _ZOOM, _NUDGE = 0.08, 1.25, 0.01


class Canvas(pg.GraphicsView):  # type: ignore[misc]
    """A view in nm on the specimen, y downwards; the image's own corner lies at ``origin_nm``.

    Emits ``hovered`` when the mouse has moved or left, ``clicked`` with a place in nm in the image,
    and ``nudged`` with a share of the field when arrows are pressed with Shift (to move what lies on
    the image) or with Ctrl and Shift (to size it).
    """

    hovered = QtCore.Signal()
    clicked = QtCore.Signal(float, float)
    nudged = QtCore.Signal(float, float, bool)

    def __init__(self) -> None:
        super().__init__()
        self.view: Any = pg.ViewBox(
            lockAspect=True, invertY=True, enableMenu=False, defaultPadding=0.0
        )
        self.setCentralItem(self.view)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(tr("Image"))
        Described(
            self,
            (tr("Arrows"), tr("move the image, where it has the focus")),
            ("+", tr("nearer")),
            ("-", tr("farther")),
            (tr("Shift+arrows"), tr("move a region or profile; with Ctrl its size")),
        )
        theme.follow(self, lambda: self.setBackground(theme.now().panel))
        paint_alone(self)
        self.item = Raster()
        self.view.addItem(self.item)
        self.scale = ScaleBar(self.view)
        self.scale.hide()
        self.origin_nm = (0.0, 0.0)
        self.levels = (0.0, 1.0)
        self.takes_nudges = False
        self._array: AnyArray | None = None
        self._pixel_nm = 1.0
        self._extent_nm = (0.0, 0.0)
        self._fitted = True
        self._keep_scale = False
        self._part: tuple[int, int, int, int, int] | None = None
        self._mouse: QtCore.QPointF | None = None
        self.view.sigRangeChangedManually.connect(self._moved_by_hand)
        self.view.sigRangeChanged.connect(self._range_changed)
        self.scene().sigMouseMoved.connect(self._mouse_moved)
        self.scene().sigMouseClicked.connect(self._mouse_clicked)

    # ------------------------------------------------------------------ what is drawn

    def set_map(self, name: str) -> None:
        """Take a colour map, by its name in :data:`tints.MAPS`."""
        self.item.set_map(name)

    def show_array(
        self,
        array: AnyArray,
        pixel_nm: float,
        levels: tuple[float, float],
        origin_nm: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Draw a (y, x) image whose upper left corner lies at ``origin_nm`` (x, y)."""
        self._array, self._pixel_nm, self.levels = array, pixel_nm, levels
        self.origin_nm = origin_nm
        extent = (array.shape[1] * pixel_nm, array.shape[0] * pixel_nm)
        self.scale.within = QtCore.QRectF(*origin_nm, *extent)
        if extent != self._extent_nm:
            self._extent_nm = extent
            self.fit()
        self._draw()

    def getViewBox(self) -> Any:  # noqa: N802 - as pyqtgraph's plots call it
        """The view that holds the image and what is drawn on it."""
        return self.view

    def clear_image(self) -> None:
        """Show nothing."""
        self._array, self._part = None, None
        self.item.clear()
        self.scale.hide()

    @property
    def nm_per_px(self) -> float:
        """Length of a pixel of the view."""
        return nm_per_pixel(self.view)

    @property
    def pixel_nm(self) -> float:
        """Length of a pixel of the image."""
        return self._pixel_nm

    @property
    def extent_nm(self) -> tuple[float, float]:
        """Width and height of the image."""
        return self._extent_nm

    def visible_nm(self) -> QtCore.QRectF:
        """What part of the image the view shows, in the image's own nm."""
        seen: QtCore.QRectF = self.view.viewRect().translated(
            -self.origin_nm[0], -self.origin_nm[1]
        )
        return seen.intersected(QtCore.QRectF(0, 0, *self._extent_nm))

    def _draw(self) -> None:
        array = self._array
        if array is None:
            return
        top, bottom, left, right, step = self._part = self._visible_part(array)
        part, pixels = summed(array[top:bottom, left:right], step)
        pixel, (x_nm, y_nm) = self._pixel_nm, self.origin_nm
        height, width = part.shape
        rect = QtCore.QRectF(
            x_nm + left * pixel, y_nm + top * pixel, width * step * pixel, height * step * pixel
        )
        low, high = self.levels
        self.item.draw(part, (low * pixels, high * pixels), rect)

    def _visible_part(self, array: AnyArray) -> tuple[int, int, int, int, int]:
        """Rows and columns that the view shows, and how many of them one pixel of it stands for.

        Blocks begin at multiples of themselves, so that the picture does not swim while it moves.
        """
        height, width = array.shape
        nm_per_px = self.nm_per_px / max(1.0, self.devicePixelRatioF())
        step = max(1, round(nm_per_px / self._pixel_nm))
        step = min(step, max(1, min(height, width) // 16))
        seen = self.visible_nm()
        if seen.isEmpty():
            return 0, min(height, step), 0, min(width, step), step
        pixel = self._pixel_nm
        left = int(seen.left() / pixel) // step * step
        top = int(seen.top() / pixel) // step * step
        right = min(width, math.ceil(seen.right() / pixel) + step)
        bottom = min(height, math.ceil(seen.bottom() / pixel) + step)
        return top, bottom, left, right, step

    # ------------------------------------------------------------------ what is seen of it

    def fit(self) -> None:
        """Show the whole image."""
        width, height = self._extent_nm
        if height > 0 and width > 0:
            self.view.setRange(QtCore.QRectF(*self.origin_nm, width, height), padding=0.01)
            self._fitted = True

    def keep_scale(self) -> None:
        """At the next change of size, leave the image where it is instead of fitting it anew."""
        self._keep_scale = True

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Fit the image again, or keep its scale and its upper left corner under the hand."""
        if not hasattr(self, "_keep_scale"):  # pyqtgraph resizes in its own __init__
            super().resizeEvent(event)
            return
        before, old = self.view.viewRect(), self.view.rect()
        super().resizeEvent(event)
        if self._fitted and not self._keep_scale:
            self.fit()
        elif old.width() > 0 and old.height() > 0:
            new = self.view.rect()
            across, down = new.width() / old.width(), new.height() / old.height()
            kept = QtCore.QRectF(
                before.left(), before.top(), before.width() * across, before.height() * down
            )
            self.view.setRange(kept, padding=0)
            self._fitted = False
        self._keep_scale = False

    def event(self, event: QtCore.QEvent) -> bool:
        """While something lies on the image that arrows can move, no shortcut takes these keys."""
        if (
            event.type() == QtCore.QEvent.Type.ShortcutOverride
            and isinstance(event, QtGui.QKeyEvent)
            and self.takes_nudges
            and event.key() in _ARROWS
            and event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        ):
            event.accept()
            return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Arrows move the view, + and - zoom; with Shift they move what lies on the image."""
        key = Qt.Key(event.key())
        modifiers = event.modifiers()
        if key in _ARROWS:
            dx, dy = _ARROWS[key]
            if modifiers & Qt.KeyboardModifier.ShiftModifier:
                resize = bool(modifiers & Qt.KeyboardModifier.ControlModifier)
                self.nudged.emit(dx * _NUDGE, dy * _NUDGE, resize)
            else:
                seen = self.view.viewRect()
                self.view.translateBy(x=dx * _PAN * seen.width(), y=dy * _PAN * seen.height())
                self._moved_by_hand()
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal, Qt.Key.Key_Minus):
            factor = _ZOOM if key == Qt.Key.Key_Minus else 1 / _ZOOM
            self.view.scaleBy((factor, factor))
            self._moved_by_hand()
        else:
            event.ignore()

    def leaveEvent(self, event: QtCore.QEvent) -> None:  # noqa: N802 - Qt's name
        """The mouse is gone."""
        super().leaveEvent(event)
        self._mouse = None
        self.hovered.emit()

    def _moved_by_hand(self, *_: object) -> None:
        self._fitted = False

    def _range_changed(self, *_: object) -> None:
        if self._array is not None and self._visible_part(self._array) != self._part:
            self._draw()

    def mouse_nm(self) -> tuple[float, float] | None:
        """The place (x, y) in the image under the mouse; None if it is not here."""
        if self._mouse is None or self._array is None:
            return None
        return self._in_image(self._mouse)

    def mouse_point(self) -> QtCore.QPoint:
        """Where the mouse is, in pixels of this widget."""
        return self.mapFromScene(self._mouse) if self._mouse is not None else QtCore.QPoint()

    def point_of(self, x_nm: float, y_nm: float) -> QtCore.QPoint:
        """A place in the image in pixels of this widget."""
        x, y = x_nm + self.origin_nm[0], y_nm + self.origin_nm[1]
        point: QtCore.QPoint = self.mapFromScene(self.view.mapViewToScene(QtCore.QPointF(x, y)))
        return point

    def visible_pixels(self) -> tuple[slice, slice]:
        """Rows and columns of the image that are seen; all of them if none is."""
        if self._array is None:
            return slice(0, 0), slice(0, 0)
        height, width = self._array.shape
        seen, pixel = self.visible_nm(), self._pixel_nm
        if seen.isEmpty():
            return slice(0, height), slice(0, width)
        return (
            slice(int(seen.top() / pixel), min(height, math.ceil(seen.bottom() / pixel - 1e-6))),
            slice(int(seen.left() / pixel), min(width, math.ceil(seen.right() / pixel - 1e-6))),
        )

    def _in_image(self, scene_pos: QtCore.QPointF) -> tuple[float, float]:
        place = self.view.mapSceneToView(scene_pos)
        return place.x() - self.origin_nm[0], place.y() - self.origin_nm[1]

    def _mouse_moved(self, scene_pos: QtCore.QPointF) -> None:
        self._mouse = scene_pos
        self.hovered.emit()

    def _mouse_clicked(self, event: Any) -> None:
        if (
            self._array is not None
            and event.button() == Qt.MouseButton.LeftButton
            and not event.isAccepted()
        ):
            self.clicked.emit(*self._in_image(event.scenePos()))


class HoverLabel(QtWidgets.QLabel):
    """Words beside the mouse, over any image."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__(canvas)
        self.setObjectName("imageLabel")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def say(self, words: str, at: QtCore.QPoint) -> None:
        """Show words near a place of the canvas, within it."""
        if self.text() != words:
            self.setText(words)
            self.adjustSize()
        parent = self.parentWidget()
        assert parent is not None
        x = (
            at.x() + 14
            if at.x() + 14 + self.width() < parent.width()
            else at.x() - 10 - self.width()
        )
        y = min(at.y() + 14, parent.height() - self.height() - 4)
        self.move(max(2, x), max(2, y))
        self.show()
        self.raise_()
