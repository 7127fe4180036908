"""A stored run, at any moment of its time; everything follows the cursor."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from gui import text
from gui.aside import Aside
from gui.pages.runs.banner import Banner
from gui.pages.runs.timeline import Mark, TimeLine
from gui.pages.runs.transport import TICK_MS, Transport
from gui.pages.runs.views import ReplayPanels
from gui.replay.moments import Ending, Floats, Scene, Story, Wish
from gui.replay.reader import CannotOpen, Reader, Told
from gui.settings import Settings
from gui.widgets.export import Exporter
from gui.widgets.keys import INSIDE, install
from gui.widgets.panel import ElidedLabel, set_text
from gui.words import tr

_MARKS = {
    "mark": "mark",
    "note": "mark",
    "fault": "fault",
    "warning": "fault",
    "condition": "condition",
}
_AT_END_S = 1e-6
_OLD_READING_S = 10.0
"""A temperature that was read longer ago is told with its age."""
_CLOSE_WITHIN_S = 0.5


class ReplayView(QtWidgets.QWidget):
    """Shows one run at a time. Emits ``left`` when the operator goes back to the list."""

    left = QtCore.Signal()
    refused = QtCore.Signal(str)
    told = QtCore.Signal(str)
    note_wanted = QtCore.Signal(object, float)
    """A note about this run, at this time."""
    _read = QtCore.Signal(object, object)

    def __init__(self, settings: Settings, aside: Aside, exporter: Exporter) -> None:
        super().__init__()
        self._reader: Reader | None = None
        self.story: Story | None = None
        self.scene: Scene | None = None
        self.t_s = 0.0
        self.wished = 0
        """Number of the newest wish."""
        self._stream = self._map = ""
        self._ahead = 0
        self._follow_end = False
        self.banner = Banner()
        self.panels = ReplayPanels(settings, aside, exporter)
        self.trouble = ElidedLabel(align_left=True)
        self.transport = Transport(settings)
        self.timeline = TimeLine()
        self._compose()
        self._connect()

    # ------------------------------------------------------------------ for the page

    @property
    def path(self) -> Path | None:
        """The run that is open, or being opened."""
        return self._reader.path if self._reader is not None else None

    def open(self, path: Path) -> None:
        """Look at a run from its beginning."""
        self.close_run()
        self.banner.show_opening(path)
        reader: Reader | None = None

        def tell(told: Told) -> None:
            self._read.emit(reader, told)

        reader = self._reader = Reader(path, tell)
        self.timeline.setFocus()

    def close_run(self, wait_s: float = 0.0) -> None:
        """Let go of the run."""
        self.transport.stop()
        if self._reader is not None:
            self._reader.close(wait_s)
        self._reader, self.story, self.scene = None, None, None
        self.t_s, self._follow_end = 0.0, False
        self._stream = self._map = ""
        self.panels.clear()
        self.trouble.hide()

    def go(self, t_s: float, play_on: bool = False, ahead: int = 0) -> None:
        """Show a time; what lies outside of the run is its beginning or end.

        Args:
            t_s: run seconds.
            play_on: whether what plays goes on.
            ahead: by how many frames one will probably go on from there; 0 if nobody knows.
        """
        story = self.story
        if story is None:
            return
        if not play_on:
            self.transport.stop()
        self.t_s = min(max(t_s, 0.0), story.t_end_s)
        self._follow_end = story.ending is Ending.WRITTEN and self.t_s >= story.t_end_s - _AT_END_S
        self._ahead = ahead
        self._show_time()
        self._wish()

    def step(self, frames: int) -> None:
        """Go so many frames of the shown stream on or back."""
        times = self._frame_times()
        if self.story is None or times is None or not len(times):
            return
        row = int(times.searchsorted(self.t_s + _AT_END_S, "right")) - 1 + frames
        if row >= len(times):
            self.go(self.story.t_end_s)
        else:
            self.go(float(times[row]) if row >= 0 else 0.0, ahead=frames)

    def jump(self, forward: bool) -> None:
        """Go to the next step, mark or fault, or to the one before."""
        mark = self.timeline.next_mark(forward)
        if mark is not None:
            self.go(mark.t_s)

    def look_again(self) -> None:
        """See what was added to the run."""
        if self._reader is not None:
            self._reader.look_again()

    def keep(self) -> None:
        """Remember the layout, and let go."""
        self.panels.keep()
        self.close_run(_CLOSE_WITHIN_S)

    # ------------------------------------------------------------------ what comes

    def _take(self, reader: Reader | None, told: Told) -> None:
        if self._reader is None or (reader is not None and reader is not self._reader):
            return  # of a run that is not looked at any more
        if isinstance(told, CannotOpen):
            self.close_run()
            self.left.emit()
            words = tr("{path} cannot be opened: {error}")
            self.refused.emit(words.format(path=told.path, error=told.error))
        elif isinstance(told, Story):
            self._take_story(told)
        elif self.story is not None:
            self.scene = told
            self.panels.show_scene(told)
            set_text(self.trouble, f"⚠  {told.trouble[0]}" if told.trouble else "")
            self.trouble.setVisible(bool(told.trouble))

    def _take_story(self, story: Story) -> None:
        fresh = self.story is None
        self.story = story
        self.banner.show_run(story)
        marks = [Mark(s.t_start_s, "step", s.text) for s in story.plan.steps]
        marks += [
            Mark(n.t_s, _MARKS[n.kind], n.text) for n in story.series.notes if n.kind in _MARKS
        ]
        growing = story.ending is Ending.WRITTEN
        self.timeline.show_run(story.t_end_s, story.plan.steps, marks, growing)
        self.panels.show_story(story)
        if story.trouble:
            self.refused.emit(tr("Not all of it can be read: {why}").format(why=story.trouble[0]))
        if fresh:
            first = [float(t[0]) for t in story.frames.values() if len(t)]
            self.go(min(first, default=0.0))
        elif self._follow_end:
            self.go(story.t_end_s, play_on=True)
        else:
            self._show_time()

    # ------------------------------------------------------------------ inside

    def _wish(self) -> None:
        if self._reader is not None:
            self.wished += 1
            self._reader.wish(Wish(self.wished, self.t_s, self._stream, self._map, self._ahead))

    def _show_time(self) -> None:
        story = self.story
        if story is None:
            return
        status = story.status_at(self.t_s)
        self.timeline.show_time(self.t_s)
        self.panels.show_time(self.t_s, status)
        measured = text.celsius(status.measured_celsius)
        old_s = self.t_s - status.reading_t_s
        if old_s > _OLD_READING_S:
            measured = tr("{celsius} {age} before").format(celsius=measured, age=text.age(old_s))
        facts = [
            measured,
            tr("set {celsius}").format(celsius=text.celsius(status.setpoint_celsius)),
        ]
        if status.step_index >= 0:
            words = tr("step {n} of {m}: {text}")
            n, m = status.step_index + 1, status.step_count
            facts.append(words.format(n=n, m=m, text=status.step_text))
        self.transport.show_time(self.t_s, story.t_end_s, "   ·   ".join(facts))

    def _frame_times(self) -> Floats | None:
        """When frames of the stream that is shown were there; of any, where none is shown yet."""
        if self.story is None:
            return None
        shown = self.scene.image.stream if self.scene and self.scene.image else self._stream
        frames = self.story.frames
        return frames.get(shown, next(iter(frames.values()), None))

    def _play_on(self, run_s: float) -> None:
        story = self.story
        if story is None:
            return
        times, ahead = self._frame_times(), 1
        if times is not None and len(times) > 1:
            typical_s = max((float(times[-1]) - float(times[0])) / (len(times) - 1), 1e-9)
            a_tick_s = self.transport.run_s_per_s * TICK_MS / 1000
            ahead = max(1, round(a_tick_s / typical_s))
        self.go(self.t_s + run_s, play_on=True, ahead=ahead)
        if self.t_s >= story.t_end_s and story.ending is not Ending.WRITTEN:
            self.transport.stop()

    def _start(self, playing: bool) -> None:
        """Play from the beginning again, where there is nothing left to play."""
        story = self.story
        if not playing or story is None or story.ending is Ending.WRITTEN:
            return
        if self.t_s >= story.t_end_s - _AT_END_S:
            self.go(0.0, play_on=True)

    def _watch(self, stream: str) -> None:
        self._stream = stream
        self._wish()

    def _watch_map(self, stream: str) -> None:
        self._map = stream
        self._wish()

    def _edit_time(self) -> None:
        self.transport.stop()
        self.transport.field.setFocus()
        self.transport.field.selectAll()

    def _want_note(self) -> None:
        if self.story is not None:
            self.note_wanted.emit(self.story.path, self.t_s)

    def _leave_field(self) -> None:
        self.timeline.setFocus()
        self._show_time()

    # ------------------------------------------------------------------ composition

    def _compose(self) -> None:
        self.trouble.setStyleSheet("font-weight: 600;")
        self.trouble.hide()
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addWidget(self.banner)
        column.addWidget(self.panels, 1)
        column.addWidget(self.trouble)
        column.addWidget(self.transport)
        column.addWidget(self.timeline)

    def _connect(self) -> None:
        self._read.connect(self._take)
        self.banner.back.connect(self.left)
        self.timeline.moved.connect(self.go)
        self.panels.went.connect(self.go)
        self.panels.happened.add.clicked.connect(self._want_note)
        self.panels.complained.connect(self.refused)
        self.panels.told.connect(self.told)
        self.panels.image.stream_chosen.connect(self._watch)
        self.panels.map.stream_chosen.connect(self._watch_map)
        self.transport.went.connect(self.go)
        self.transport.stepped.connect(self.step)
        self.transport.jumped.connect(self.jump)
        self.transport.played.connect(self._play_on)
        self.transport.play.toggled.connect(self._start)
        self.transport.refused.connect(self.refused)
        self.transport.field.left.connect(self._leave_field)
        back, on = partial(self.step, -1), partial(self.step, 1)
        self._arrows = install(
            self,
            ("Left", tr("one frame back"), back),
            ("Right", tr("one frame on"), on),
            ("Shift+Left", tr("ten frames back"), partial(self.step, -10)),
            ("Shift+Right", tr("ten frames on"), partial(self.step, 10)),
            ("Home", tr("to the beginning of the run"), partial(self.go, 0.0)),
            ("End", tr("to its end"), lambda: self.go(float("inf"))),
            context=INSIDE,
            auto_repeat=True,
        )
        install(
            self,
            (",", tr("one frame back"), back),
            (".", tr("one frame on"), on),
            context=INSIDE,
            auto_repeat=True,
        )
        install(
            self,
            ("PgUp", tr("to the step or mark before"), partial(self.jump, False)),
            ("PgDown", tr("to the next step or mark"), partial(self.jump, True)),
            ("L", tr("play, and stop again"), self.transport.play.toggle),
            ("G", tr("write a time to go to"), self._edit_time),
            ("W", tr("write a note about this moment, added later"), self._want_note),
            ("Backspace", tr("back to all runs"), self.left.emit),
            context=INSIDE,
        )
        application = QtWidgets.QApplication.instance()
        if isinstance(application, QtWidgets.QApplication):
            application.focusChanged.connect(self._focus_moved)

    def _focus_moved(self, old: QtWidgets.QWidget | None, now: QtWidgets.QWidget | None) -> None:
        """Arrows move the image while it has the focus; comma and full stop step at all times."""
        inside = now is not None and self.panels.image.isAncestorOf(now)
        for shortcut in self._arrows:
            shortcut.setEnabled(not inside)
