"""The bar along the top: state, controls, progress, temperature, beam, and heater off."""

from __future__ import annotations

import math

from PySide6 import QtCore, QtWidgets

from acquire.engine.status import EngineState, EngineStatus
from gui import text, theme
from gui.beam import UNCOUNTED, is_uncounted
from gui.session import StatusSnapshot
from gui.widgets.hold_button import HoldButton
from gui.widgets.panel import ElidedLabel, set_flag, set_text, set_tip
from gui.words import tr

HEIGHT = 62
READING_OLD_AFTER_S = 2.0
"""Wall seconds after which a temperature reading counts as old although the engine answers."""

S = EngineState
_DARK, _LIT, _WARNS, _UNKNOWN = "#2A333D", "#5C4A00", "#7A4310", "#22272D"
_HEATER = {
    "off": ("○", _DARK),
    "ramping": ("♨", "#6E3A00"),
    "holding": ("♨", "#6E3A00"),
    "making_safe": ("◔", "#1B4F7A"),
    "tripped": ("⚠", theme.NIGHT.red),
}
"""Glyph and ground of what the heater does; the words stand beside them."""
_HELD_BACK = tr(
    "A stored run is in front: this acts on the live one. Go to the Run page first (Ctrl+1)"
)


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
        self.run = _control(
            tr("▶ Run"),
            "F5",
            tr("Run the recipe that is in front: says what it does, and starts when pressed again"),
        )
        self.pause = _control(
            tr("❚❚ Pause"), "Space", tr("Pause after or within the exposure; go on")
        )
        self.hold = _control(tr("═ Hold T"), "H", "")
        self.abort = HoldButton(tr("■ Abort\nhold  F9"))
        self.abort.setToolTip(
            tr("Hold for 0.6 s: ends the live run safely, at once, whatever page is in front")
        )
        self.hold.setToolTip(
            tr("Freeze the temperature of the live run now; recording goes on. On every page (H)")
        )
        self.asks_run = False
        """Whether the next press of Run starts: what it does has been said."""
        self._tips = {button: button.toolTip() for button in (self.run, self.pause)}
        for button, width in (
            (self.run, 72),
            (self.pause, 92),
            (self.hold, 86),
            (self.abort, 84),
        ):
            button.setFixedSize(width, HEIGHT)
        self.offers_resume = False
        """Whether Pause goes on with a paused run, as its caption says."""
        self.step = ElidedLabel(align_left=True)
        self.eta = ElidedLabel(align_left=True)
        self.eta.setProperty("muted", True)
        self.progress = QtWidgets.QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.setFixedHeight(17)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        steps = QtWidgets.QVBoxLayout()
        steps.setSpacing(2)
        steps.setContentsMargins(4, 0, 4, 0)
        for widget in (self.step, self.progress, self.eta):
            steps.addWidget(widget)
        self.measured = QtWidgets.QLabel()
        self.setpoint = QtWidgets.QLabel()
        self.holder = QtWidgets.QLabel()
        for label, size in ((self.measured, 21.0), (self.setpoint, 9.5)):
            font = label.font()
            font.setPointSizeF(size)
            font.setBold(size > 15)
            label.setFont(font)
            label.setAlignment(QtCore.Qt.AlignmentFlag.AlignRight)
        self.measured.setFixedWidth(158)
        self.setpoint.setFixedWidth(158)
        self.setpoint.setToolTip(tr("Setpoint, and the plan's temperature, in °C"))
        heat = QtWidgets.QVBoxLayout()
        heat.setSpacing(0)
        heat.addWidget(self.measured)
        heat.addWidget(self.setpoint)
        self.beam = QtWidgets.QLabel()
        badges = QtWidgets.QVBoxLayout()
        badges.setSpacing(2)
        for label in (self.holder, self.beam):
            label.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
            label.setFixedSize(112, (HEIGHT - 2) // 2)
            badges.addWidget(label)
        self.heater_off = QtWidgets.QPushButton()
        self.heater_off.setFixedSize(146, HEIGHT)
        self.heater_off.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.heater_off.setToolTip(
            tr(
                "One press makes the instruments safe: straight to the instrument server, and by the "
                "engine. F12 does the same, over any dialog."
            )
        )
        row.addWidget(self.state)
        for button in (self.run, self.pause, self.hold, self.abort):
            row.addWidget(button)
        row.addLayout(steps, 1)
        row.addLayout(heat)
        row.addSpacing(6)
        row.addLayout(badges)
        row.addSpacing(22)  # nothing that is pressed often lies beside heater off
        row.addWidget(self.heater_off)
        self.show_heater_off("")

    def show_heater_off(self, answer: str, good: bool = True) -> None:
        """Put the newest answer to a heater-off on the button; it can be pressed again at any time."""
        self.heater_off.setText(tr("HEATER OFF") + f"\n{answer or 'F12'}")
        colour = theme.NIGHT.red if good else "#7A0F0A"
        border = "#FF8A7A" if good else theme.NIGHT.yellow
        self.heater_off.setStyleSheet(
            f"QPushButton {{ background: {colour}; color: white; border: 2px solid {border};"
            "border-radius: 6px; font-weight: 700; font-size: 11pt; }"
            "QPushButton:pressed { background: #6E0F0A; }"
        )

    def show_status(
        self,
        snapshot: StatusSnapshot,
        recipe: bool,
        sent: tuple[str, ...],
        looking_back: bool = False,
        held: str = "",
    ) -> None:
        """Draw a status; ``recipe`` says whether one is loaded, ``sent`` names unanswered commands.

        With ``looking_back``, a stored run is in front: Run and Pause, which one presses by what one
        sees, are held back. So they are with ``held``, which says why this window may not command.
        Hold T, Abort and heater off act on the live run at all times.
        """
        status, fresh = snapshot.status, not snapshot.stale
        self._show_state(status, snapshot)
        self._show_controls(status, fresh, recipe, sent)
        held = _HELD_BACK if looking_back else held
        for button, tip in self._tips.items():
            if held:
                button.setEnabled(False)
            set_tip(button, held or tip)
        self._show_step(status)
        self._show_temperature(status, fresh)
        self.progress.setEnabled(fresh)
        for label in (self.step, self.eta):
            set_flag(label, "stale", not fresh)

    def _show_state(self, status: EngineStatus, snapshot: StatusSnapshot) -> None:
        if snapshot.stale:
            badge = theme.NO_CONTACT
            known = math.isfinite(snapshot.age_s)
            was = tr("was {state}").format(state=tr(status.state.value))
            detail = was if known else tr("connecting …")
        else:
            badge = _badge(status)
            # the station's clock goes on after a run: it would look like a run that goes on
            detail = text.clock(status.t_s) if status.state.active else ""
            if status.prompt:
                detail = tr("waits for you")
        lines = badge.text if not detail else f"{badge.text}\n{detail}"
        set_text(self.state, lines)
        _paint(self.state, badge.background, badge.foreground, "font-weight: 700; font-size: 11pt;")
        self.state.setToolTip(snapshot.link_error or status.cause)
        known = not snapshot.stale and not status.server and status.beam_known
        words, ground = (tr("◐  blanked"), _DARK) if status.blanked else (tr("☀  beam on"), _LIT)
        uncounted = known and is_uncounted(status)
        if uncounted:
            words, ground = tr("⚠  beam on"), _WARNS
        set_text(self.beam, words if known else tr("?  beam"))
        _paint(self.beam, ground if known else _UNKNOWN, "#E8ECF1" if known else "#9DA9B5")
        set_tip(self.beam, UNCOUNTED if uncounted else "")

    def _show_controls(
        self, status: EngineStatus, fresh: bool, recipe: bool, sent: tuple[str, ...]
    ) -> None:
        state = status.state
        paused = state is S.PAUSED
        self.offers_resume = paused
        caption = tr("▶ Resume") if paused else tr("❚❚ Pause")
        _caption(self.pause, caption, "Space")
        _caption(self.run, tr("▶ Again") if self.asks_run else tr("▶ Run"), "F5")
        self.run.setEnabled(fresh and recipe and not state.active and "Run" not in sent)
        self.pause.setEnabled(
            fresh and state in (S.RUNNING, S.PAUSED) and not {"Pause", "Resume"} & set(sent)
        )
        self.hold.setEnabled(
            fresh
            and (state in (S.RUNNING, S.PAUSING, S.PAUSED) or _heated_by_hand(status))
            and "Hold T" not in sent
        )
        self.abort.setEnabled(
            fresh and state in (S.PREPARING, S.RUNNING, S.PAUSING, S.PAUSED) and "Abort" not in sent
        )

    def _show_step(self, status: EngineStatus) -> None:
        if status.step_index >= 0:
            head = tr("Step {n} of {m}   {text}").format(
                n=status.step_index + 1, m=status.step_count, text=status.step_text
            )
        else:
            head = status.step_text or (tr("No run yet") if status.state is S.IDLE else "")
        if not status.state.active and status.by_hand:
            head = tr("By hand: {what}").format(what=status.by_hand)
        set_text(self.step, head)
        known = math.isfinite(status.step_progress)
        fraction = min(1.0, max(0.0, status.step_progress)) if known else 0.0
        self.progress.setValue(round(1000 * fraction))
        self.progress.setFormat(f"{100 * fraction:.0f} %" if known and not status.prompt else "")
        self.progress.setVisible(status.step_index >= 0 and not status.by_hand_of)
        if status.state.active:
            line = tr("ETA {run}   of run time").format(run=text.clock(status.eta_s))
            if status.clock_rate != 1 and math.isfinite(status.eta_s):
                wall_s = status.eta_s / max(status.clock_rate, 1e-9)
                line = tr("ETA {run} (wall {wall})").format(
                    run=text.clock(status.eta_s), wall=text.clock(wall_s)
                )
        else:
            line = status.cause
        set_text(self.eta, line)

    def _show_temperature(self, status: EngineStatus, fresh: bool) -> None:
        old_s = (status.t_s - status.reading_t_s) / max(status.clock_rate, 1e-9)
        known = math.isfinite(status.measured_celsius)
        # also after a run: nobody reads the holder then, and the last reading must not look present
        old = known and old_s > READING_OLD_AFTER_S
        set_text(self.measured, text.celsius(status.measured_celsius))
        present = fresh and known and not old and not status.server
        _tint(self.measured, theme.now().measured if present else theme.now().faint)
        right = tr("set {celsius}").format(celsius=text.celsius(status.setpoint_celsius))
        if status.state.active and math.isfinite(status.planned_celsius):
            right = tr("set {present:.1f} · plan {plan:.1f}").format(
                present=status.setpoint_celsius, plan=status.planned_celsius
            )
        if old:
            right = tr("read {age} ago").format(age=text.age(old_s))
        set_text(self.setpoint, right)
        _tint(self.setpoint, theme.now().setpoint if present else theme.now().faint)
        state = status.holder_state
        glyph, ground = _HEATER.get(state, ("?", _UNKNOWN))
        words = tr("heater off") if state == "off" else tr(state.replace("_", " "))
        if not fresh or status.server or not known:  # what it did is not what it does
            glyph, words = "?", tr("heater")
        set_text(self.holder, f"{glyph}  {words}")
        _paint(self.holder, ground if present else _UNKNOWN, "#E8ECF1" if present else "#9DA9B5")
        set_flag(self.holder, "stale", not present)


def _badge(status: EngineStatus) -> theme.Badge:
    """What the state is to an operator: a hand on the instruments, or a fault, is not idle."""
    if status.fault and status.state in (S.IDLE, S.COMPLETED):
        return theme.FAULT
    if status.by_hand_of:
        return theme.BY_HAND
    return theme.STATES[status.state]


def _heated_by_hand(status: EngineStatus) -> bool:
    """Whether a temperature can be held although no run is on."""
    moving = status.holder_state in ("ramping", "holding")
    return not status.state.active and bool(status.by_hand_of) and moving


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
    _style(label, f"background: {background}; color: {foreground}; border-radius: 6px; {more}")


def _tint(label: QtWidgets.QLabel, colour: str) -> None:
    _style(label, f"color: {colour};")


def _style(label: QtWidgets.QLabel, style: str) -> None:
    if label.styleSheet() != style:  # a new one is read and laid out anew
        label.setStyleSheet(style)
