"""The curve of one particle that the operator has picked, and what became of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6 import QtCore, QtWidgets

from acquire.measure.series import break_at_gaps
from gui import text, theme
from gui.panels.image.particles import Particles
from gui.panels.image.sightings import Growth, Shown, Sightings
from gui.widgets.curve import Curve
from gui.widgets.panel import ElidedLabel, set_text
from gui.widgets.plot import dim, draw_in, make_plot
from gui.words import tr

NOBODY = -1
MOST_POINTS = 20_000


class Following(QtWidgets.QWidget):
    """Diameter against time of one track, of the frames that this window showed.

    Points beyond ``MOST_POINTS`` are thinned by half, so that a day costs no more memory than an hour.
    """

    ended = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__()
        self.track = NOBODY
        self.words = ElidedLabel(align_left=True)
        self.plot = make_plot(tr("time (s)"), tr("d (nm)"), left="diameter")
        self.plot.setAccessibleName(tr("Diameter of the followed particle"))
        self.curve = draw_in(self.plot.plot(), "diameter")
        self._bars: Any = pg.ErrorBarItem(beam=0)
        theme.follow(self, lambda: self._bars.setOpts(pen=pg.mkPen(theme.now().diameter, width=1)))
        self.plot.addItem(self._bars)
        self.end_button = QtWidgets.QPushButton("✕")
        self.end_button.setFixedWidth(28)
        self.end_button.setToolTip(tr("Follow nobody any more (Escape)"))
        self.end_button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.end_button.clicked.connect(self.ended)
        head = QtWidgets.QHBoxLayout()
        head.addWidget(self.words, 1)
        head.addWidget(self.end_button)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(head)
        column.addWidget(self.plot, 1)
        self.plot.setToolTip(
            tr("Frames that were not shown in this window are not in this curve; the run has them all.")
        )  # fmt: skip
        self._curve = Curve("d", "sigma")
        self._lost_frames = 0
        self.last: tuple[float, float, float, float] | None = None
        """Where it was seen last: t in s, x, y and outline diameter in nm in that frame."""
        self.hide()

    @property
    def on(self) -> bool:
        """Whether somebody is followed."""
        return self.track != NOBODY

    @property
    def lost(self) -> bool:
        """Whether it was not in the newest frame that was measured."""
        return self._lost_frames > 0

    def follow(self, track: int, sightings: Sightings) -> None:
        """Follow a track from where this window has first seen it."""
        self.track = track
        course = sightings.course(track)
        self._curve.clear()
        self._curve.append(course.t_s, d=course.diameter_nm, sigma=course.sigma_nm)
        self._lost_frames, self.last = 0, None
        self.show()
        self._draw()

    def stop(self) -> None:
        """Follow nobody."""
        self.track, self.last = NOBODY, None
        self._curve.clear()
        self._draw()
        self.hide()

    def add(self, shown: Shown, growth: Growth | None) -> None:
        """Take a frame that was measured."""
        if not self.on:
            return
        particles = shown.particles
        row = particles.row_of(self.track)
        if row < 0:
            self._lost_frames += 1
            self._say_lost(particles)
            return
        self._lost_frames = 0
        d, sigma = float(particles.diameter_nm[row]), float(particles.sigma_nm[row])
        x, y = float(particles.x_nm[row]), float(particles.y_nm[row])
        self.last = (shown.t_s, x, y, float(particles.outline_nm[row]))
        if not self._curve.count or shown.t_s > self._curve.x[-1]:
            self._curve.append(np.array([shown.t_s]), d=np.array([d]), sigma=np.array([sigma]))
            if self._curve.count > MOST_POINTS:
                self._curve.halve()
        said = [tr("Particle {n}").format(n=self.track), text.with_sigma(d, sigma, "nm")]
        if growth is not None:
            said.append(growth_words(growth))
        set_text(self.words, " · ".join([*said, *doubts(particles, row)]))

    def _say_lost(self, particles: Particles) -> None:
        if self.last is None:
            set_text(
                self.words,
                tr("Particle {n} is not in the frames shown here.").format(n=self.track),
            )
            return
        t_s, x, y, _ = self.last
        said = tr("✕ Particle {n} lost: not found for {frames} frames, seen last at {time}").format(
            n=self.track, frames=self._lost_frames, time=text.clock(t_s)
        )
        over = particles.at(x, y, 0.0)
        if over >= 0 and particles.track[over] >= 0:
            said += tr("; its place lies in particle {n} now, so they may have merged").format(
                n=particles.track[over]
            )
        set_text(self.words, said)

    def draw(self) -> None:
        """Draw the curve, 10 times a second at most."""
        if self.on:
            self._draw()

    def _draw(self) -> None:
        t_s, d, sigma = self._curve.x, self._curve.column("d"), self._curve.column("sigma")
        known = np.isfinite(d)
        if not known.any():
            self.curve.setData([], [])
            self._bars.setData(x=np.zeros(0), y=np.zeros(0), height=np.zeros(0))
            return
        self.curve.setData(*break_at_gaps(t_s[known], d[known]), connect="finite")
        few = known & np.isfinite(sigma)
        few[: max(0, len(few) - 400)] = False  # error bars are drawn one by one
        self._bars.setData(x=t_s[few], y=d[few], height=2 * sigma[few])

    def set_stale(self, stale: bool) -> None:
        """Fade."""
        dim(self.plot.getPlotItem(), stale)

    @property
    def points(self) -> int:
        """How many diameters the curve has."""
        return self._curve.count


def growth_words(growth: Growth) -> str:
    """A growth rate with its σ and what it rests on."""
    rate = text.with_sigma(growth.rate_nm_per_min, growth.sigma_nm_per_min, "nm/min")
    return tr("growth {rate} (of {frames} frames shown)").format(rate=rate, frames=growth.frames)


def doubts(particles: Particles, row: int) -> list[str]:
    """Why the size of a particle may be off."""
    said = []
    if particles.cut[row]:
        said.append(tr("cut by the border"))
    if particles.overlaps[row]:
        said.append(tr("overlaps another"))
    if particles.by_mask[row]:
        said.append(tr("size from its outline"))
    return said


def label_of(particles: Particles, row: int, growth: Growth | None) -> str:
    """What is said of the particle under the mouse."""
    track = int(particles.track[row])
    d, sigma = float(particles.diameter_nm[row]), float(particles.sigma_nm[row])
    head = tr("particle {n}").format(n=track) if track >= 0 else tr("not followed yet")
    size = text.with_sigma(d, sigma, "nm") if math.isfinite(d) else tr("size not known")
    lines = [f"{head}   ⌀ {size}"]
    if growth is not None:
        rate = text.with_sigma(growth.rate_nm_per_min, growth.sigma_nm_per_min, "nm/min")
        lines.append(tr("growth {rate}").format(rate=rate))
    return "\n".join([*lines, *doubts(particles, row)])
