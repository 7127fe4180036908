"""The live image: any stream and detector, with what was measured on it and what was not shown."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6 import QtCore, QtWidgets

from acquire.engine.status import EngineStatus, LiveImage
from gui import text
from gui.panels.image.canvas import Canvas, HoverLabel
from gui.panels.image.captions import figure_of, name_of
from gui.panels.image.contrast import Contrast
from gui.panels.image.figure import Figure
from gui.panels.image.following import NOBODY, Following
from gui.panels.image.menu import ShowMenu
from gui.panels.image.overlays import Overlays
from gui.panels.image.particles import particles_of, words_of_others
from gui.panels.image.profile import Profile
from gui.panels.image.region import Region
from gui.panels.image.saving import FigureSaver
from gui.panels.image.sightings import Shown
from gui.panels.image.source import NEWEST, Source
from gui.panels.image.standstill import Standstill
from gui.panels.image.strip import Strip
from gui.settings import Settings
from gui.widgets.panel import ElidedLabel, Panel, set_text
from gui.widgets.plot import dim
from gui.words import tr

_OLD_AFTER_S = 2.0


class ImagePanel(Panel):
    """Draws what :meth:`show_image` is given; what need not follow every frame is done in :meth:`tick`.

    Emits ``stream_chosen`` with a stream's name, or with ``""`` for whichever is newest, and
    ``complained`` and ``told`` with words for the operator.
    """

    stream_chosen = QtCore.Signal(str)
    complained = QtCore.Signal(str)
    told = QtCore.Signal(str)

    def __init__(self, settings: Settings) -> None:
        super().__init__(tr("Image"))
        self.source = Source(self)
        self.stream, self.detector = self.source.stream, self.source.detector
        self.canvas = Canvas()
        self.menu = ShowMenu(self, settings)
        self.contrast = Contrast(self.menu.percentile_pair())
        self.following = Following()
        self.profile = Profile(self.canvas)
        self.profile.width_px = int(self.menu.chosen(self.menu.profile_width))
        self.region = Region(self.canvas)
        self.overlays = Overlays(self.canvas, self.menu, self.following)
        self.standstill = Standstill()
        self.standstill.hold(self.menu.still.isChecked())
        self.saver = FigureSaver(settings)
        self.hover = HoverLabel(self.canvas)
        self.shown = 0
        self.not_shown = 0
        self.live = True
        """Whether images are of the present, so that their age is told."""
        self._image: LiveImage | None = None
        self._status = EngineStatus()
        self._came_at_s = 0.0
        self._measured_on = -1
        self._line_last = False  # of line and region the arrows move what was laid last
        self._compose()
        self._connect()
        self.canvas.set_map(self.menu.chosen(self.menu.colour_map))

    # ------------------------------------------------------------------ what comes

    def clear(self) -> None:
        """Forget what is shown: it belongs to another run."""
        self._image = None
        self.shown = self.not_shown = 0
        self.contrast.forget()
        self.canvas.clear_image()
        self._forget_course()
        self.hover.hide()
        self.empty.show()
        for label in (self.frame, self.measured, self.region.words):
            set_text(label, "")

    def show_image(self, image: LiveImage) -> None:
        """Draw a frame; counts those of its stream that came between it and the last as not shown."""
        last = self._image
        if last is None or last.stream != image.stream or image.index < last.index:
            self.shown, self.not_shown = 0, 0
            self.contrast.forget()
            if last is None or last.stream != image.stream:
                self._forget_course()
        else:
            self.not_shown += max(0, image.index - last.index - 1)
        self.shown += 1
        self._image, self._came_at_s = image, time.monotonic()
        self.source.offer(image)
        self._redraw()

    def show_status(self, status: EngineStatus) -> None:
        """Remember run and temperature for captions."""
        self._status = status

    def tick(self) -> None:
        """Ten times a second: numbers, curves, labels, the age of the image, and saved figures."""
        for saved in self.saver.take():
            (self.complained if saved.failed else self.told).emit(saved.words)
        image = self._image
        if image is None:
            return
        self._say_frame(image)
        self._say_particles(image)
        self._measure(image)
        self.following.draw()
        self._say_hover()

    @property
    def stream_shown(self) -> str:
        """The stream of the frame that is shown."""
        return self._image.stream if self._image else ""

    def set_stale(self, stale: bool, age_s: float) -> None:
        """Fade the image too."""
        super().set_stale(stale, age_s)
        dim(self.canvas, stale)
        self.profile.set_stale(stale)
        self.following.set_stale(stale)

    # ------------------------------------------------------------------ what is chosen

    def follow(self, track: int) -> None:
        """Follow a particle, or nobody."""
        if track == NOBODY:
            self.following.stop()
        else:
            self.following.follow(track, self.overlays.sightings)
            newest = self.overlays.sightings.newest
            if newest is not None:
                self.following.add(newest, self.overlays.sightings.growth(track))
        self.strip.follow_use()
        self._redraw()

    def figure(self) -> Figure | None:
        """What is seen, as a figure; None while there is no image."""
        image = self._image
        array = self.source.array(image) if image is not None else None
        if image is None or array is None:
            self.complained.emit(tr("There is no image to save yet."))
            return None
        return figure_of(
            image,
            array,
            self.source.detector_name,
            self._status,
            self.canvas,
            self.overlays,
            self.menu,
            self.contrast,
            self.standstill,
        )

    def _changed(self, name: str) -> None:
        """Something was chosen in the menu."""
        menu, act = self.menu, self._acts.get(name)
        if act is not None:
            act()
        elif name == "percentiles":
            self.contrast.set_percentiles(menu.percentile_pair())
            menu.frozen.setChecked(False)
        elif name == "frozen":
            self.contrast.frozen = menu.frozen.isChecked()
        elif name == "profile_width":
            self.profile.width_px = int(menu.chosen(menu.profile_width))
        elif name == "region":
            self._line_last = False
            self.region.show(menu.region.isChecked())
        elif name == "profile":
            self._line_last = True
            self.profile.show_line(menu.profile.isChecked())
            self.strip.follow_use()
        self.canvas.takes_nudges = self.region.on or self.profile.on
        self._redraw()
        self.tick()

    def _follow_next(self) -> None:
        track = self.overlays.next_track(self.following.track)
        if track != NOBODY:
            return self.follow(track)
        return self.complained.emit(tr("There is no particle to follow on this image."))

    def _save(self, at_once: bool) -> None:
        figure = self.figure()
        if figure is not None and at_once:
            self.saver.snapshot(figure, name_of(figure))
        elif figure is not None:
            self.saver.choose(self.window(), figure, name_of(figure))

    def _clicked(self, x_nm: float, y_nm: float) -> None:
        particles = self.overlays.particles
        if particles is None:
            return
        row = particles.at(x_nm, y_nm, 3 * self.canvas.nm_per_px)
        if row < 0:
            return
        track = int(particles.track[row])
        if track < 0:
            self.complained.emit(tr("This particle has no number yet: wait for the next frames."))
            return
        if not self.following.on:
            self.canvas.keep_scale()  # what was clicked stays under the hand
        self.follow(track)

    def _nudge(self, share_x: float, share_y: float, resize: bool) -> None:
        width, height = self.canvas.extent_nm
        dx, dy = share_x * width, share_y * height
        there = [one for one in (self.region, self.profile) if one.on]
        if there:
            there[-1 if self._line_last else 0].nudge(dx, dy, resize)

    # ------------------------------------------------------------------ drawing

    def _redraw(self) -> None:
        image = self._image
        array = self.source.array(image) if image is not None else None
        if image is None or array is None:
            return
        key = f"{image.stream}/{self.source.detector_name}"
        self.standstill.place(image)
        self.canvas.show_array(
            array, image.pixel_size_nm, self.contrast.levels(key, array), self.standstill.origin_nm
        )
        self._draw_particles(image)
        self.canvas.scale.setVisible(self.menu.scale_bar.isChecked())
        self._measured_on = -1
        self.empty.hide()

    def _draw_particles(self, image: LiveImage) -> None:
        # the view may have drifted since they were measured: an outline beside its particle misleads
        measured = image.index == image.estimate_index
        particles = particles_of(image.particles) if measured else None
        if particles is not None:
            self.overlays.take(Shown(image.index, image.t_s, self.standstill.place_nm, particles))
        if particles is not None and len(particles):
            self.overlays.show(particles, self.standstill.held_at)
        else:
            self.overlays.show_none()

    def _say_particles(self, image: LiveImage) -> None:
        drawn = self.overlays.particles is not None
        said = [self.overlays.words() if drawn else words_of_others(image)]
        if self.standstill.on:
            said.append(self.standstill.words(image))
        set_text(self.measured, " · ".join(said))

    def _measure(self, image: LiveImage) -> None:
        """Region and profile of a frame, once."""
        array = self.source.array(image)
        if array is None or self._measured_on == image.serial:
            return
        self._measured_on = image.serial
        if self.region.on:
            self.region.measure(array, image.pixel_size_nm, self.overlays.particles)
        if self.profile.on:
            self.profile.update_profile(array, image.pixel_size_nm)

    def _say_frame(self, image: LiveImage) -> None:
        wanted = self.source.waits_for
        parts = []
        if wanted not in (NEWEST, image.stream):
            parts.append(tr("waiting for {stream}; this is").format(stream=wanted))
        parts.append(tr("{stream} frame {n}").format(stream=image.stream, n=image.index))
        parts.append(text.clock(image.t_s))
        age_s = time.monotonic() - self._came_at_s
        if self.live and age_s > _OLD_AFTER_S:
            parts.append(tr("{age} ago").format(age=text.age(age_s)))
        array = self.source.array(image)
        if array is not None:
            parts.append(self.contrast.words(self.canvas.levels))
            parts.append(f"{array.shape[1]}×{array.shape[0]}")
        set_text(self.frame, " · ".join(parts))

    def _say_hover(self) -> None:
        at = self.canvas.mouse_nm()
        words = self.overlays.label_at(*at) if at and self.menu.labels.isChecked() else ""
        if words:
            self.hover.say(words, self.canvas.mouse_point())
        else:
            self.hover.hide()

    # ------------------------------------------------------------------ composition

    def _compose(self) -> None:
        self.fit_button = QtWidgets.QPushButton(tr("fit"))
        self.fit_button.setToolTip(
            tr("Show the whole image again (F); drag or arrows to move, wheel or + and - to zoom")
        )
        for widget in (self.stream, self.detector, self.menu.button, self.fit_button):
            widget.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
            self.head.addWidget(widget)
        self.empty = QtWidgets.QLabel(tr("No image yet"), self.canvas)
        self.empty.setProperty("muted", True)
        self.empty.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        within = QtWidgets.QVBoxLayout(self.canvas)
        within.addWidget(self.empty)
        self.body.addWidget(self.canvas, 4)
        self.strip = Strip(self.profile, self.following)
        self.body.addWidget(self.strip, 1)
        # below, where there is room for them: the head is full of choices in a small window
        self.frame, self.measured = ElidedLabel(align_left=True), ElidedLabel(align_left=True)
        self.measured.setProperty("muted", True)
        for label in (self.frame, self.measured, self.region.words):
            self.body.addWidget(label)

    def _connect(self) -> None:
        menu, canvas = self.menu, self.canvas
        self._acts: dict[str, Callable[[], None]] = {
            "colour_map": lambda: canvas.set_map(menu.chosen(menu.colour_map)),
            "still": lambda: self.standstill.hold(menu.still.isChecked()),
            "next": self._follow_next,
            "nobody": lambda: self.follow(NOBODY),
            "fit": canvas.fit,
            "figure": lambda: self._save(at_once=False),
            "snapshot": lambda: self._save(at_once=True),
        }
        self.source.stream_chosen.connect(self.stream_chosen)
        self.source.detector_chosen.connect(self._redraw)
        self.menu.changed.connect(self._changed)
        self.fit_button.clicked.connect(self.canvas.fit)
        self.canvas.hovered.connect(self._say_hover)
        self.canvas.clicked.connect(self._clicked)
        self.canvas.nudged.connect(self._nudge)
        self.region.changed.connect(self._measure_again)
        self.profile.moved.connect(self._measure_again)
        self.following.ended.connect(lambda: self.follow(NOBODY))

    def _forget_course(self) -> None:
        self.overlays.clear()
        self.following.stop()
        self.strip.follow_use()

    def _measure_again(self) -> None:
        self._measured_on = -1
        if self._image is not None:
            self._measure(self._image)
