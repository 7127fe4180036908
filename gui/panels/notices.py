"""Messages that wait for eyes and never for a click: refusals, faults, prompts, and what the run is."""

from __future__ import annotations

import math
import time

from PySide6 import QtCore, QtWidgets

from acquire.engine.station_view import ContinuationView
from acquire.engine.status import EngineState, EngineStatus
from acquire.units import show
from gui import theme
from gui.beam import UNCOUNTED, is_uncounted
from gui.hand import ContinuationPlan
from gui.session import StatusSnapshot
from gui.text import homely
from gui.widgets.buttons import sign_button
from gui.widgets.hold_button import HoldButton
from gui.widgets.panel import ElidedLabel, set_text, set_tip
from gui.words import tr

_INFO_FOR_S = 6.0
_STEPS_SHOWN = 4
NO_ANSWER = tr("the engine does not answer in time")


class Notices(QtWidgets.QWidget):
    """One line that is always there, a fault bar and a prompt bar that come when needed.

    The line's place is reserved, so that a message moves nothing under the operator's hand.
    """

    confirm = QtCore.Signal()
    clear_fault = QtCore.Signal()
    look_at_run = QtCore.Signal(str)
    """Asks what going on with the run in a folder would do."""
    continue_run = QtCore.Signal(str)
    blank = QtCore.Signal()

    def __init__(self) -> None:
        super().__init__()
        self._folder = self._rest_of = ""
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        self.message = ElidedLabel(align_left=True, padding=8)
        self.message.setMinimumHeight(24)
        self.dismiss = sign_button("✕", tr("Dismiss this message; it stays in the log"), 26)
        self.dismiss.setFixedHeight(24)
        self.dismiss.clicked.connect(self.clear)
        self.simulated = QtWidgets.QLabel()
        line = QtWidgets.QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.message, 1)
        self.go_on = QtWidgets.QPushButton(tr("↻ Continue this run…"))
        self.go_on.setToolTip(
            tr("See what is left of the run that was cut off. Nothing moves before you confirm.")
        )
        self.go_on.setFixedHeight(24)
        self.go_on.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.go_on.clicked.connect(lambda: self.look_at_run.emit(self._folder))
        self.go_on.hide()
        line.addWidget(self.go_on)
        self.blank_button = QtWidgets.QPushButton(tr("◐ Blank"))
        self.blank_button.setToolTip(tr("Blank the beam, which nobody uses, now"))
        self.blank_button.setFixedHeight(24)
        self.blank_button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.blank_button.clicked.connect(self.blank)
        self.blank_button.hide()
        line.addWidget(self.blank_button)
        line.addWidget(self.dismiss)
        line.addWidget(self.simulated)
        column.addLayout(line)
        self.fault, self.fault_text, row = bar("faultBar")
        self.clear_button = HoldButton(tr("Clear fault (hold)"))
        self.clear_button.setToolTip(
            tr(
                "Hold for 0.6 s, with the mouse or Return. The heater may obey again afterwards: first "
                "see why it tripped."
            )
        )
        self.clear_button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.clear_button.confirmed.connect(self.clear_fault)
        row.addWidget(self.clear_button)
        self.prompt, self.prompt_text, row = bar("promptBar")
        self.continue_button = QtWidgets.QPushButton(tr("Continue"))
        self.continue_button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.continue_button.clicked.connect(self.confirm)
        row.addWidget(self.continue_button)
        self.rest, self.rest_text, row = bar("promptBar")
        self.rest_button = HoldButton(tr("↻ Continue  (hold)"))
        self.rest_button.setToolTip(tr("Hold for 0.6 s, with the mouse or Return"))
        self.rest_button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.rest_button.confirmed.connect(self._continue)
        self.leave_it = QtWidgets.QPushButton(tr("Leave it"))
        self.leave_it.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.leave_it.clicked.connect(self.rest.hide)
        row.addWidget(self.rest_button)
        row.addWidget(self.leave_it)
        for one in (self.fault, self.prompt, self.rest):
            column.addWidget(one)
        self._column = column
        buttons = (self.rest_button, self.clear_button, self.continue_button)
        self._tips = {button: button.toolTip() for button in buttons}
        self._said_at_s = 0.0
        self._kind = ""
        self._idle_text = ""
        self.clear()
        theme.follow(self, self._paint)

    @property
    def kind(self) -> str:
        """``error``, ``info``, ``question`` or ``""`` for the message that is shown."""
        return self._kind

    def error(self, words: str) -> None:
        """Show a refusal or failure until it is dismissed or followed by another."""
        self._say("error", f"✕  {words}")

    def info(self, words: str) -> None:
        """Show an acknowledgement for some seconds."""
        self._say("info", f"✓  {words}")

    def ask(self, words: str) -> None:
        """Show what the next press would do, until :meth:`clear` or another message."""
        self._say("question", f"?  {words}")

    def clear(self) -> None:
        """Go back to the quiet line."""
        self._kind = ""
        self.dismiss.hide()
        self._paint()
        self.message.setText(self._idle_text)

    def add_bar(self, one: QtWidgets.QWidget) -> None:
        """Place for a bar of somebody else's below the own ones."""
        self._column.addWidget(one)

    def ask_continuation(self, plan: ContinuationPlan) -> None:
        """Say what going on with a run would do, and let it be confirmed by holding."""
        self._rest_of = plan.folder
        set_text(self.rest_text, continuation_words(plan.view))
        self.rest.show()

    def _continue(self) -> None:
        self.rest.hide()
        self.continue_run.emit(self._rest_of)

    def show_status(
        self,
        snapshot: StatusSnapshot,
        sent: tuple[str, ...],
        looking_back: bool = False,
        held: str = "",
    ) -> None:
        """Draw what the status says of faults, prompts and the run.

        With ``looking_back``, a stored run is in front, and nothing can be answered here; ``held``
        says why this window may not command.
        """
        held = held or (tr("A stored run is in front") if looking_back else "")
        for button in (self.rest_button, self.clear_button, self.continue_button):
            set_tip(button, held or self._tips[button])
        status, fresh = snapshot.status, not snapshot.stale
        self._idle_text = (
            _run_line(status)
            if fresh
            else tr("No contact: {why}").format(why=snapshot.link_error or NO_ANSWER)
        )
        uncounted = fresh and is_uncounted(status)
        if uncounted:
            self._idle_text = UNCOUNTED
        self.blank_button.setVisible(uncounted)
        self.blank_button.setEnabled("Blank" not in sent)
        if sent and fresh:
            words = tr("{orders}: sent, waiting for the engine …")
            self._idle_text = words.format(orders=", ".join(tr(name) for name in sent))
        over = time.monotonic() - self._said_at_s > _INFO_FOR_S
        # what went well before is no news beside what has gone wrong since
        if self._kind == "info" and (over or not fresh or status.fault or status.server):
            self.clear()
        if not self._kind:
            set_text(self.message, self._idle_text)
        rate = f"  ×{status.clock_rate:g}" if status.clock_rate != 1 else ""
        set_text(self.simulated, tr("SIMULATED") + rate)
        self.simulated.setVisible(status.simulated)
        server = status.server if fresh else ""
        self.fault.setVisible(bool(status.fault or server))
        set_text(self.fault_text, homely(_fault_words(status.fault, server)))
        self.clear_button.setVisible(bool(status.fault))
        self._folder = status.folder
        cut_off = status.state in (EngineState.ABORTED, EngineState.FAILED)
        self.go_on.setVisible(cut_off and bool(status.folder) and fresh)
        self.go_on.setEnabled("Look at the run" not in sent and not looking_back)
        if status.state.active:
            self.rest.hide()
        self.rest_button.setEnabled(fresh and not held and "Continue run" not in sent)
        self.clear_button.setEnabled(
            fresh and not status.state.active and "Clear fault" not in sent and not held
        )
        self.prompt.setVisible(bool(status.prompt) and fresh)
        set_text(
            self.prompt_text, tr("The run waits for you: {prompt}").format(prompt=status.prompt)
        )
        self.continue_button.setEnabled("Continue" not in sent and not held)

    def _paint(self) -> None:
        now = theme.now()
        # an outline: a bright ground would be the brightest thing in a dark room
        self.simulated.setStyleSheet(
            f"color: {now.yellow}; border: 1px solid {now.yellow}; border-radius: 4px;"
            " padding: 1px 8px; font-weight: 700;"
        )
        if not self._kind:
            self.message.setStyleSheet(f"color: {now.muted};")
            return
        text, ground = {
            "error": (now.error_text, now.error_ground),
            "info": (now.good_text, now.good_ground),
            "question": (now.text, now.selection),
        }[self._kind]
        # the palette's colour is what the shortened text is painted with
        self.message.setStyleSheet(
            f"color: {text}; background: {ground}; border-radius: 4px; font-weight: 600;"
        )

    def _say(self, kind: str, words: str) -> None:
        self._kind, self._said_at_s = kind, time.monotonic()
        self._paint()
        self.message.setText(homely(words))
        self.dismiss.show()


def continuation_words(view: ContinuationView) -> str:
    """What going on with a run would do, as it is confirmed."""
    shown = ", ".join(view.remaining[:_STEPS_SHOWN])
    more = len(view.remaining) - _STEPS_SHOWN
    words = tr(
        "Go on with {run}? So far: {ended}. {done} steps are done and not repeated. Left: {left}"
    )
    text = words.format(
        run=view.run,
        ended=view.ended,
        done=len(view.done),
        left=shown + (tr(", … {more} more").format(more=more) if more > 0 else ""),
    )
    if math.isfinite(view.hottest_celsius):
        text += tr(".   ♨ It heats up to {hottest}.").format(
            hottest=show(view.hottest_celsius, "°C")
        )
    return text


def _fault_words(fault: str, server: str) -> str:
    words = []
    if server:
        words.append(
            tr(
                "✕  The instrument server is lost: {why}. What the heater does is not known here; the "
                "server, or its supervisor, makes it safe. Switch it off by hand if in doubt."
            ).format(why=server.rstrip("."))
        )
    if fault:
        words.append(tr("⚠  Heater fault: {fault}").format(fault=fault))
    return "   ".join(words)


def _run_line(status: EngineStatus) -> str:
    parts = [
        status.run_name,
        status.folder,
        tr("station {name}").format(name=status.station) if status.station else "",
    ]
    if status.warnings:
        parts.insert(0, f"⚠ {status.warnings[-1]}")
    return homely("   ·   ".join(part for part in parts if part))


def bar(name: str) -> tuple[QtWidgets.QFrame, QtWidgets.QLabel, QtWidgets.QHBoxLayout]:
    """A bar that is hidden until it has something to say: itself, its words, the row for buttons."""
    frame = QtWidgets.QFrame()
    frame.setObjectName(name)
    row = QtWidgets.QHBoxLayout(frame)
    row.setContentsMargins(10, 5, 6, 5)
    label = QtWidgets.QLabel()
    label.setTextFormat(QtCore.Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    row.addWidget(label, 1)
    frame.hide()
    return frame, label, row
