"""Who is in control of the engine, as this window sees it: told, taken, given away, and lost."""

from __future__ import annotations

import time

from PySide6 import QtCore, QtWidgets

from acquire.engine.clients import is_client
from acquire.engine.status import EngineStatus
from gui.panels.facts import FactsLine
from gui.panels.notices import Notices, bar
from gui.session import Session, StatusSnapshot
from gui.telling import Telling
from gui.widgets import keys
from gui.widgets.hold_button import HoldButton
from gui.widgets.panel import set_text
from gui.words import tr

KEY = "Ctrl+G"
GIVEN_WITHIN_S = 20.0
"""Control that is free so soon after it was given away was not lost."""
_ENDS = tr(" What is on by hand ends: heater off, beam blanked.")
_ENDED = tr(" What was on by hand has ended: heater off, beam blanked.")
_EVERYBODY = tr(" Heater off, Hold T, Abort and notes need no control.")


def why_not(status: EngineStatus, who: str) -> str:
    """Why this window, by its name, may not command; empty if it may."""
    if not status.driven_by or is_client(status.driven_by, who):
        return ""
    return tr("take control first ({key}): {who} has it").format(who=status.driven_by, key=KEY)


class Control(QtCore.QObject):
    """A bar that says what taking or giving control means, and one that says that it was lost.

    Commands rest while another is in control; :meth:`show` gives the reason.
    """

    def __init__(
        self,
        window: QtWidgets.QWidget,
        session: Session,
        notices: Notices,
        facts: FactsLine,
        telling: Telling,
    ) -> None:
        super().__init__(window)
        self._session = session
        self._telling = telling
        self._held = ""
        self._status = EngineStatus()
        self._had = self._had_in_hand = False
        self._gave_s = -float("inf")
        self._lost = ""
        """What there is to say of a loss until it is dismissed."""
        self.bar, self.words, row = bar("promptBar")
        self.take = HoldButton(tr("⇄ Take control  (hold)"))
        self.take.setToolTip(tr("Hold for 0.6 s, with the mouse or Return"))
        self.give = QtWidgets.QPushButton(tr("⇄ Give control away"))
        self.give.setToolTip(tr("The next window or script that commands is in control then"))
        self.leave = QtWidgets.QPushButton(tr("Leave it"))
        self.leave.setToolTip(tr("Close this bar; nothing changes"))
        for button in (self.take, self.give, self.leave):
            button.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
            row.addWidget(button)
        self.take.confirmed.connect(self._take)
        self.take.released_early.connect(
            lambda: telling.complain(
                tr("Control was not taken: hold the button until its bar is full.")
            )
        )
        self.give.clicked.connect(self._give)
        self.leave.clicked.connect(self._close)
        notices.add_bar(self.bar)
        facts.change.clicked.connect(self.ask)
        keys.install(window, (KEY, tr("Who is in control: take it, give it away"), self.ask))

    def ask(self) -> None:
        """Say what taking or giving control would do, and offer it; a second time: leave it."""
        if self.bar.isVisible():
            self._close()
            return
        self.bar.show()
        self._draw()
        (self.take if self.take.isVisible() else self.give).setFocus()

    def show(self, snapshot: StatusSnapshot) -> str:
        """Draw a status; returns why commands of this window rest, empty if they do not."""
        status, who = snapshot.status, self._session.who
        self._status = status
        if not snapshot.stale:
            has = is_client(status.driven_by, who)
            if self._had and not has:
                self._was_lost(status)
            elif has and self._lost:
                self._close()
            self._had, self._had_in_hand = has, has and bool(status.by_hand_of)
        for button in (self.take, self.give):
            button.setEnabled(not snapshot.stale)
        if self.bar.isVisible():
            self._draw()
        self._held = "" if snapshot.stale else why_not(status, who)
        return self._held

    def refused(self) -> bool:
        """Whether a command is refused because another is in control; says so."""
        if self._held:
            self._telling.complain(self._held)
        return bool(self._held)

    def _was_lost(self, status: EngineStatus) -> None:
        if not status.driven_by:
            if time.monotonic() - self._gave_s > GIVEN_WITHIN_S:
                self._telling.tell(
                    tr("Control is free: the engine had not heard of this window for a while.")
                )
            return
        words = tr("⚠  {who} took control at {at}.").format(
            who=status.driven_by, at=time.strftime("%H:%M:%S")
        )
        words += tr(" The run goes on.") if status.state.active else ""
        self._lost = words + (_ENDED if self._had_in_hand else "")
        self.bar.show()
        self._draw()

    def _draw(self) -> None:
        status = self._status
        mine = is_client(status.driven_by, self._session.who)
        self.take.setVisible(not mine)
        self.give.setVisible(mine)
        caption = tr("I have seen it") if self._lost else tr("Leave it")
        if self.leave.text() != caption:
            self.leave.setText(caption)
        set_text(self.words, self._lost or asked_words(status, mine))

    def _take(self) -> None:
        self._close()
        self._session.hand.take_control()

    def _give(self) -> None:
        self._close()
        self._gave_s = time.monotonic()
        self._session.hand.give_control()

    def _close(self) -> None:
        self._lost = ""
        self.bar.hide()


def asked_words(status: EngineStatus, mine: bool) -> str:
    """What taking control, or giving it away, does."""
    ends = _ENDS if status.by_hand_of else ""
    if mine:
        return tr("This window is in control. Given away, whoever commands next has it.") + ends
    if not status.driven_by:
        return tr("Nobody is in control: whoever commands first has it.") + _EVERYBODY
    goes_on = tr(" The run goes on.") if status.state.active else ""
    words = tr("{who} is in control, and is told when you take it.").format(who=status.driven_by)
    return words + goes_on + ends + _EVERYBODY
