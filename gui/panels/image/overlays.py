"""Draws particles over the image: outlines in their colours, trails, the one that is followed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from gui.panels.image import tints
from gui.panels.image.canvas import Canvas
from gui.panels.image.following import Following, label_of
from gui.panels.image.legend import SizeLegend
from gui.panels.image.marks import Emphasis, Outlines, Trails
from gui.panels.image.menu import ShowMenu
from gui.panels.image.particles import Ints, Particles
from gui.panels.image.sightings import Shown, Sightings
from gui.words import tr

_TRAILS_EVERY_S = 0.2


class Overlays:
    """Everything that is drawn of the particles of one frame."""

    def __init__(self, canvas: Canvas, menu: ShowMenu, following: Following) -> None:
        self._canvas, self._menu, self._following = canvas, menu, following
        self.outlines = Outlines()
        self.emphasis = Emphasis()
        for item in (self.outlines, self.emphasis):
            canvas.view.addItem(item, ignoreBounds=True)
        self.outlines.setZValue(10)
        self.trails = Trails(canvas.view)
        self.legend = SizeLegend(canvas)
        self.sightings = Sightings()
        self.particles: Particles | None = None
        """Of the frame that is shown; None if it was not measured."""
        self._limits = (0.0, 0.0)
        self._trails_at_s = 0.0

    def clear(self) -> None:
        """Forget everything: it belongs to another run or stream."""
        self.sightings.clear()
        self._limits = (0.0, 0.0)
        self.show_none()

    def take(self, shown: Shown) -> None:
        """Remember a frame's particles, once."""
        if self.sightings.add(shown) and self._following.on:
            self._following.add(shown, self.sightings.growth(self._following.track))

    def show_none(self) -> None:
        """Draw nothing: an outline beside its particle would mislead."""
        self.particles = None
        self.outlines.clear_circles()
        self.trails.clear()
        self.emphasis.remove()
        self.legend.hide()

    def show(self, particles: Particles, still_at: tuple[float, float] | None) -> None:
        """Draw the particles of the frame that is shown, ``still_at`` as the trails want it."""
        self.particles = particles
        menu, origin = self._menu, self._canvas.origin_nm
        by = menu.chosen(menu.by)
        colours = tints.palette(by)
        if by == "size":
            self._limits = _steady(self._limits, tints.size_limits(particles))
        tint = tints.tint_of(particles, by, self._limits)
        outlined = menu.outlines.isChecked()
        if outlined:
            x, y = particles.x_nm + origin[0], particles.y_nm + origin[1]
            self.outlines.set_circles(x, y, particles.outline_nm, particles.cut, tint, colours)
        else:
            self.outlines.clear_circles()
        if outlined and by == "size":
            self.legend.show_limits(self._limits)
        else:
            self.legend.hide()
        if menu.trails.isChecked():
            self._draw_trails(particles, tint, colours, still_at)
        else:
            self.trails.clear()
        self._emphasise()

    def _draw_trails(
        self,
        particles: Particles,
        tint: Ints,
        colours: Sequence[str],
        still_at: tuple[float, float] | None,
    ) -> None:
        """A few times a second: they stay where they are, and are the dearest thing to draw."""
        now_s = time.monotonic()
        if not self.trails.points or now_s - self._trails_at_s > _TRAILS_EVERY_S:
            self._trails_at_s = now_s
            track, x, y = self.sightings.trails(still_at)
            order = np.argsort(particles.track, kind="stable")
            found = np.searchsorted(particles.track, track, sorter=order)
            found = np.minimum(
                found, len(order) - 1
            )  # every trail ends in a particle of this frame
            self.trails.draw(track, x, y, tint[order[found]], colours)

    def _emphasise(self) -> None:
        """The ring stays where the followed particle was seen last."""
        last = self._following.last
        if not self._following.on or last is None:
            self.emphasis.remove()
            return
        _, x, y, diameter = last
        x0, y0 = self._canvas.origin_nm
        self.emphasis.put(x + x0, y + y0, diameter, self._following.lost)

    def label_at(self, x_nm: float, y_nm: float) -> str:
        """What is said of the particle at a place; empty if there is none."""
        particles = self.particles
        if particles is None:
            return ""
        row = particles.at(x_nm, y_nm, 3 * self._canvas.nm_per_px)
        if row < 0:
            return ""
        return label_of(particles, row, self.sightings.growth(int(particles.track[row])))

    def next_track(self, after: int) -> int:
        """The track that comes after another among those that are seen; -1 if there is none."""
        if self.particles is None:
            return -1
        tracks = sorted(set(self.particles.track[self.particles.track >= 0].tolist()))
        later = [track for track in tracks if track > after]
        return later[0] if later else (tracks[0] if tracks else -1)

    def words(self) -> str:
        """What is drawn, in words."""
        if self.particles is None:
            return ""
        n, cut = len(self.particles), int(self.particles.cut.sum())
        if not self._menu.outlines.isChecked():
            return tr("{n} particles measured, outlines off").format(n=n)
        words = tr("{n} particles outlined").format(n=n)
        if cut:
            words += tr(", {n} cut by the border (dotted)").format(n=cut)
        return words

    def caption(self) -> str:
        """What the outlines of a figure mean."""
        if self.particles is None or not self._menu.outlines.isChecked():
            return tr("no outlines")
        by = self._menu.chosen(self._menu.by)
        how = {
            "track": tr("coloured by particle"),
            "size": tr("coloured by diameter {limits}").format(limits=self.legend.words),
        }.get(by, tr("white"))
        return f"{self.words()}, {how}"


def _steady(known: tuple[float, float], wanted: tuple[float, float]) -> tuple[float, float]:
    """Limits that change only when they no longer fit: colours that flicker tell nothing."""
    low, high = wanted
    fits = known[0] <= low and high <= known[1]
    if fits and (high - low) > 0.5 * (known[1] - known[0]):
        return known
    return wanted
