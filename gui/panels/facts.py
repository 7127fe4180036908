"""The line along the foot: dose, disk, frames, station, clock, control."""

from __future__ import annotations

import math

from PySide6 import QtWidgets

from acquire.engine.clients import is_client
from acquire.engine.status import EngineStatus
from acquire.units import show, show_bytes
from gui import text, theme
from gui.session import StatusSnapshot
from gui.widgets.buttons import sign_button
from gui.widgets.panel import ElidedLabel, set_flag, set_text, set_tip
from gui.words import tr

LOW_DISK_BYTES = 5e9
WIDE = 1500
"""Narrower, the last words of the line are the tip of its first."""
_DOSE_WARNS_AT = 0.8


class FactsLine(QtWidgets.QWidget):
    """What an operator glances at; turns amber where it needs attention."""

    def __init__(self) -> None:
        super().__init__()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 0)
        row.setSpacing(14)
        self.link = QtWidgets.QLabel()
        self.dose = QtWidgets.QLabel()
        self.disk = QtWidgets.QLabel()
        self.frames = QtWidgets.QLabel()
        self.close_note = ElidedLabel()
        self.close_note.setProperty("muted", True)
        self.drift = QtWidgets.QLabel()
        self.channels = ElidedLabel(align_left=True)
        # as long as its words may be, it gives way to the figures
        self.control = ElidedLabel(align_left=True)
        self.control.setMinimumWidth(110)
        self.change = sign_button(
            "⇄", tr("Who is in control of the engine: take it, or give it away (Ctrl+G)"), 28
        )
        row.addWidget(self.link)
        row.addWidget(self.change)
        row.addWidget(self.control, 3)
        for label in (self.dose, self.drift, self.disk, self.frames):
            row.addWidget(label)
        row.addWidget(self.channels, 3)
        row.addWidget(self.close_note, 2)

    def show_status(
        self,
        snapshot: StatusSnapshot,
        stream: str,
        shown: int,
        not_shown: int,
        looking_back: bool = False,
        who: str = "",
        by_hand_e_per_nm2: float = 0.0,
    ) -> None:
        """Draw a status, and what this window, ``who``, made of the frames of the stream that it shows.

        With ``looking_back``, a stored run is in front, which this line is not about.
        """
        status, fresh = snapshot.status, not snapshot.stale
        if fresh:
            set_text(
                self.link, tr("top bar and this line: ● LIVE") if looking_back else tr("● LIVE")
            )
            self._colour(self.link, theme.now().green)
        else:
            set_text(self.link, tr("✕ STALE {age}").format(age=text.age(snapshot.age_s)))
            self._colour(self.link, theme.now().orange)
        limit = status.dose_limit_e_per_nm2
        words = tr("dose {dose}").format(dose=text.dose(status.dose_e_per_nm2))
        near = False
        if math.isfinite(limit) and limit > 0:
            share = status.dose_e_per_nm2 / limit
            near = share >= _DOSE_WARNS_AT
            words = tr("dose {share:.0f} % of {limit} e/nm²").format(
                share=100 * share, limit=text.dose(limit)
            )
            left_s = status.dose_used_up_s - status.t_s
            if math.isfinite(left_s) and status.state.active:
                words += tr(", {time} left").format(time=text.clock(left_s))
            self.dose.setToolTip(
                tr(
                    "{dose} of {limit} e/nm² at the worst place; the time left is that at the present rate"
                ).format(dose=text.dose(status.dose_e_per_nm2), limit=text.dose(limit))
            )
        else:
            words += " e/nm²"
        if by_hand_e_per_nm2 > 0 and not status.state.active:  # what the next run begins with
            words = tr("dose by hand {dose} e/nm²").format(dose=text.dose(by_hand_e_per_nm2))
            near = False
        set_text(self.dose, f"⚠ {words}" if near else words)
        low = 0 < status.disk_free_bytes < LOW_DISK_BYTES
        words = ""
        if status.disk_free_bytes:
            words = tr("disk {size} free").format(size=show_bytes(status.disk_free_bytes))
        set_text(self.disk, f"⚠ {words}" if low else words)
        recorded = ", ".join(f"{name} {count}" for name, count in sorted(status.frames.items()))
        self.frames.setToolTip(
            tr(
                "Recorded frames by stream: {counts}. Shown and not shown: those of stream {stream}."
            ).format(counts=recorded or tr("none"), stream=stream or tr("any"))
        )
        set_text(
            self.frames,
            # of one stream, so that they add up; the tip has the others
            tr("{stream}: {recorded} recorded, {shown} shown, {not_shown} not").format(
                stream=stream,
                recorded=status.frames.get(stream, 0),
                shown=shown,
                not_shown=not_shown,
            )
            if status.frames.get(stream)
            else tr("{recorded} frames recorded").format(recorded=sum(status.frames.values())),
        )
        words, held = control_words(status, who)
        set_text(self.control, words)
        others = [one for one in status.attended if not is_client(one, who)]
        if others:
            words += tr("\nattached as well: {names}").format(names=", ".join(others))
        self.control.setToolTip(words)
        drift, set_drift = status.estimates.get("drift_rate"), ""
        if drift is not None and math.isfinite(drift.value):
            set_drift = tr("drift {rate:.2f} nm/min").format(rate=60 * drift.value)
        set_text(self.drift, set_drift)
        for label, warns in ((self.dose, near), (self.disk, low), (self.control, not held)):
            set_flag(label, "stale", not fresh)
            self._colour(label, theme.now().orange if warns and fresh else "")
        for label in (self.frames, self.drift, self.channels):
            set_flag(label, "stale", not fresh)
        note = tr("Closing this window does not touch the run.") if status.state.active else ""
        if status.by_hand_of:
            note = tr("Closing the window that has it in hand switches all off.")
        set_text(self.close_note, note)
        self.close_note.setVisible(self.width() > WIDE)
        set_text(self.channels, channel_words(status))
        self.channels.setMinimumWidth(100 if self.channels.text() else 0)
        set_tip(self.link, note)

    @staticmethod
    def _colour(label: QtWidgets.QLabel, colour: str) -> None:
        style = f"color: {colour}; font-weight: 600;" if colour else ""
        if label.styleSheet() != style:
            label.setStyleSheet(style)


def control_words(status: EngineStatus, who: str = "") -> tuple[str, bool]:
    """Who is in control, seen from the window ``who``, and whether that is as it should be."""
    if status.server:
        return tr("✕ instrument server lost"), False
    if status.control:
        return tr("⚠ control: {problem}").format(problem=status.control), False
    asked = tr("; {who} asks for it").format(who=status.asked_by) if status.asked_by else ""
    others = status.commander and not status.state.active and not status.by_hand_of
    if others and not status.driven_by:  # a program that is no client of this engine
        return tr("control: {who}").format(who=status.commander) + asked, True
    words = tr("control free")
    if status.driven_by:
        mine = is_client(status.driven_by, who)
        name = tr("this window") if mine else status.driven_by
        words = tr("control: {who}").format(who=name)
    if status.by_hand_of:
        words += tr(", in hand")
    needed = bool(status.by_hand_of) or status.state.active
    return words + asked, not (asked and needed)


def channel_words(status: EngineStatus) -> str:
    """The readings of recorded channels, whose names have a dot: ``film.resistance``."""
    return "   ".join(
        f"{name.rpartition('.')[2].replace('_', ' ')} {show(view.value, view.unit)}"
        for name, view in sorted(status.estimates.items())
        if "." in name
    )
