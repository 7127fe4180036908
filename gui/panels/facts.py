"""The line along the foot: dose, disk, frames, station, clock, control."""

from __future__ import annotations

import math

from PySide6 import QtWidgets

from acquire.units import show_bytes
from gui import text, theme
from gui.session import StatusSnapshot
from gui.widgets.panel import ElidedLabel, set_flag, set_text

LOW_DISK_BYTES = 5e9
_DOSE_WARNS_AT = 0.8


class FactsLine(QtWidgets.QWidget):
    """What an operator glances at; turns amber where it needs attention."""

    def __init__(self) -> None:
        super().__init__()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 0)
        row.setSpacing(18)
        self.link = QtWidgets.QLabel()
        self.dose = QtWidgets.QLabel()
        self.disk = QtWidgets.QLabel()
        self.frames = QtWidgets.QLabel()
        self.control = QtWidgets.QLabel()
        self.close_note = ElidedLabel()
        self.close_note.setProperty("muted", True)
        for label in (self.link, self.control, self.dose, self.disk, self.frames):
            row.addWidget(label)
        row.addWidget(self.close_note, 1)

    def show_status(
        self, snapshot: StatusSnapshot, stream: str, shown: int, not_shown: int
    ) -> None:
        """Draw a status, and what this window made of the frames of the stream that it shows."""
        status, fresh = snapshot.status, not snapshot.stale
        if fresh:
            set_text(self.link, "● LIVE")
            self._colour(self.link, theme.now().green)
        else:
            set_text(self.link, f"✕ STALE {text.age(snapshot.age_s)}")
            self._colour(self.link, theme.now().orange)
        limit = status.dose_limit_e_per_nm2
        words = f"dose {text.dose(status.dose_e_per_nm2)}"
        near = False
        if math.isfinite(limit) and limit > 0:
            share = status.dose_e_per_nm2 / limit
            near = share >= _DOSE_WARNS_AT
            words += f" of {text.dose(limit)} e/nm² ({100 * share:.0f} %)"
        else:
            words += " e/nm²"
        set_text(self.dose, f"⚠ {words}" if near else words)
        low = 0 < status.disk_free_bytes < LOW_DISK_BYTES
        words = f"disk {show_bytes(status.disk_free_bytes)} free" if status.disk_free_bytes else ""
        set_text(self.disk, f"⚠ {words}" if low else words)
        recorded = ", ".join(f"{name} {count}" for name, count in sorted(status.frames.items()))
        self.frames.setToolTip(f"Recorded frames by stream: {recorded or 'none'}")
        set_text(
            self.frames,
            f"frames: {sum(status.frames.values())} recorded, here {shown} shown, {not_shown} not shown",
        )
        held = not status.control
        set_text(self.control, "in control" if held else f"⚠ control: {status.control}")
        for label, warns in ((self.dose, near), (self.disk, low), (self.control, not held)):
            set_flag(label, "stale", not fresh)
            self._colour(label, theme.now().orange if warns and fresh else "")
        set_flag(self.frames, "stale", not fresh)
        note = "Closing this window does not touch the run." if status.state.active else ""
        set_text(self.close_note, note)

    @staticmethod
    def _colour(label: QtWidgets.QLabel, colour: str) -> None:
        style = f"color: {colour}; font-weight: 600;" if colour else ""
        if label.styleSheet() != style:
            label.setStyleSheet(style)
