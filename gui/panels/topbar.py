"""The bar along the top: state, controls, progress, temperature, beam, and heater off."""

from __future__ import annotations

import math

from PySide6 import QtCore, QtWidgets

from acquire.engine.status import EngineState, EngineStatus
from gui import text, theme
from gui.session import StatusSnapshot
from gui.widgets.hold_button import HoldButton
from gui.widgets.panel import ElidedLabel, set_flag, set_text

HEIGHT = 62
READING_OLD_AFTER_S = 2.0
"""Wall seconds after which a temperature reading counts as old although the engine answers."""

S = EngineState


class TopBar(QtWidgets.QWidget):
    """Shows a status and offers exactly the controls that make sense in it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        self.state = QtWidgets.QLabel()
        self.state.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self.state.setFixedSize(158, HEIGHT)
        self.run = _control("▶ Run", "F5", "Start the loaded recipe")
        self.pause = _control("❚❚ Pause", "Space", "Pause after or within the exposure; go on")
        self.hold = _control("═ Hold T", "H", "Freeze the temperature now; recording goes on")
        self.abort = HoldButton("■ Abort\nhold  F9")
        self.abort.setToolTip("Hold for 0.6 s: ends the run safely, at once")
        for button, width in (
            (self.run, 72),
            (self.pause, 92),
            (self.hold, 86),
            (self.abort, 84),
        ):
            button.setFixedSize(width, HEIGHT)
        self.step = ElidedLabel(align_left=True)
        self.eta = ElidedLabel(align_left=True)
        self.eta.setProperty("muted", True)
        self.progress = QtWidgets.QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.setFixedHeight(17)
        steps = QtWidgets.QVBoxLayout()
        steps.setSpacing(2)
        steps.setContentsMargins(4, 0, 4, 0)
        for widget in (self.step, self.progress, self.eta):
            steps.addWidget(widget)
        self.measured = QtWidgets.QLabel()
        self.setpoint = QtWidgets.QLabel()
        self.holder = QtWidgets.QLabel()
        for label, size in ((self.measured, 21.0), (self.setpoint, 9.5), (self.holder, 9.5)):
            font = label.font()
            font.setPointSizeF(size)
            font.setBold(size > 15)
            label.setFont(font)
            label.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight)
        self.measured.setFixedWidth(158)
        heat = QtWidgets.QVBoxLayout()
        heat.setSpacing(0)
        heat.addWidget(self.measured)
        below = QtWidgets.QHBoxLayout()
        below.setSpacing(8)  # the state and the setpoint must not read as one word
        below.addWidget(self.holder)
        below.addStretch(1)
        below.addWidget(self.setpoint)
        heat.addLayout(below)
        self.beam = QtWidgets.QLabel()
        self.beam.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        self.beam.setFixedSize(92, HEIGHT)
        self.heater_off = QtWidgets.QPushButton()
        self.heater_off.setFixedSize(146, HEIGHT)
        self.heater_off.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.heater_off.setToolTip(
            "One press makes the instruments safe: straight to the instrument server, and by the "
            "engine. F12 does the same, over any dialog."
        )
        row.addWidget(self.state)
        for button in (self.run, self.pause, self.hold, self.abort):
            row.addWidget(button)
        row.addLayout(steps, 1)
        row.addLayout(heat)
        row.addSpacing(6)
        row.addWidget(self.beam)
        row.addSpacing(22)  # nothing that is pressed often lies beside heater off
        row.addWidget(self.heater_off)
        self.show_heater_off("")

    def show_heater_off(self, answer: str, good: bool = True) -> None:
        """Put the newest answer to a heater-off on the button; it can be pressed again at any time."""
        self.heater_off.setText(f"HEATER OFF\n{answer or 'F12'}")
        colour = theme.NIGHT.red if good else "#7A0F0A"
        border = "#FF8A7A" if good else theme.NIGHT.yellow
        self.heater_off.setStyleSheet(
            f"QPushButton {{ background: {colour}; color: white; border: 2px solid {border};"
            "border-radius: 6px; font-weight: 700; font-size: 11pt; }"
            "QPushButton:pressed { background: #6E0F0A; }"
        )

    def show_status(self, snapshot: StatusSnapshot, recipe: bool, sent: tuple[str, ...]) -> None:
        """Draw a status; ``recipe`` says whether one is loaded, ``sent`` names unanswered commands."""
        status, fresh = snapshot.status, not snapshot.stale
        self._show_state(status, snapshot)
        self._show_controls(status, fresh, recipe, sent)
        self._show_step(status)
        self._show_temperature(status, fresh)
        self.progress.setEnabled(fresh)
        for label in (self.step, self.eta):
            set_flag(label, "stale", not fresh)

    def _show_state(self, status: EngineStatus, snapshot: StatusSnapshot) -> None:
        if snapshot.stale:
            badge = theme.NO_CONTACT
            known = math.isfinite(snapshot.age_s)
            detail = f"was {status.state.value}" if known else "connecting …"
        else:
            badge = theme.STATES[status.state]
            # the station's clock goes on after a run: it would look like a run that goes on
            detail = text.clock(status.t_s) if status.state.active else ""
        lines = badge.text if not detail else f"{badge.text}\n{detail}"
        set_text(self.state, lines)
        _paint(self.state, badge.background, badge.foreground, "font-weight: 700; font-size: 11pt;")
        self.state.setToolTip(snapshot.link_error or status.cause)
        beam = ("◐", "BLANKED", "#2A333D") if status.blanked else ("☀", "BEAM ON", "#5C4A00")
        set_text(self.beam, f"{beam[0]}\n{beam[1]}" if not snapshot.stale else "?\nBEAM")
        _paint(self.beam, beam[2] if not snapshot.stale else "#22272D", "#E8ECF1")

    def _show_controls(
        self, status: EngineStatus, fresh: bool, recipe: bool, sent: tuple[str, ...]
    ) -> None:
        state = status.state
        paused = state is S.PAUSED
        caption = "▶ Resume" if paused else "❚❚ Pause"
        _caption(self.pause, caption, "Space")
        self.run.setEnabled(fresh and recipe and not state.active and "Run" not in sent)
        self.pause.setEnabled(
            fresh and state in (S.RUNNING, S.PAUSED) and not {"Pause", "Resume"} & set(sent)
        )
        self.hold.setEnabled(
            fresh and state in (S.RUNNING, S.PAUSING, S.PAUSED) and "Hold T" not in sent
        )
        self.abort.setEnabled(
            fresh and state in (S.PREPARING, S.RUNNING, S.PAUSING, S.PAUSED) and "Abort" not in sent
        )

    def _show_step(self, status: EngineStatus) -> None:
        if status.step_index >= 0:
            head = f"Step {status.step_index + 1} of {status.step_count}   {status.step_text}"
        else:
            head = status.step_text or ("No run yet" if status.state is S.IDLE else "")
        set_text(self.step, head)
        known = math.isfinite(status.step_progress)
        fraction = min(1.0, max(0.0, status.step_progress)) if known else 0.0
        self.progress.setValue(round(1000 * fraction))
        self.progress.setFormat(f"{100 * fraction:.0f} %" if known else "")
        if status.state.active:
            line = f"ETA {text.clock(status.eta_s)}   of run time"
            if status.clock_rate != 1 and math.isfinite(status.eta_s):
                wall_s = status.eta_s / max(status.clock_rate, 1e-9)
                line = f"ETA {text.clock(status.eta_s)}   ({text.clock(wall_s)} on the wall)"
        else:
            line = status.cause
        set_text(self.eta, line)

    def _show_temperature(self, status: EngineStatus, fresh: bool) -> None:
        old_s = (status.t_s - status.reading_t_s) / max(status.clock_rate, 1e-9)
        known = math.isfinite(status.measured_celsius)
        # also after a run: nobody reads the holder then, and the last reading must not look present
        old = known and old_s > READING_OLD_AFTER_S
        set_text(self.measured, text.celsius(status.measured_celsius))
        present = fresh and known and not old
        self.measured.setStyleSheet(
            f"color: {theme.now().measured if present else theme.now().faint};"
        )
        right = f"set {text.celsius(status.setpoint_celsius)}"
        if old:
            right = f"read {text.age(old_s)} ago"
        set_text(self.setpoint, right)
        self.setpoint.setStyleSheet(
            f"color: {theme.now().setpoint if present else theme.now().faint};"
        )
        set_text(self.holder, status.holder_state.replace("_", " "))
        set_flag(self.holder, "stale", not fresh or old)


def _control(caption: str, key: str, tip: str) -> QtWidgets.QPushButton:
    button = QtWidgets.QPushButton()
    _caption(button, caption, key)
    button.setToolTip(f"{tip} ({key})")
    button.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)  # Space shall never press what has focus
    return button


def _caption(button: QtWidgets.QPushButton, caption: str, key: str) -> None:
    words = f"{caption}\n{key}"
    if button.text() != words:
        button.setText(words)


def _paint(label: QtWidgets.QLabel, background: str, foreground: str, more: str = "") -> None:
    style = f"background: {background}; color: {foreground}; border-radius: 6px; {more}"
    if label.styleSheet() != style:
        label.setStyleSheet(style)
