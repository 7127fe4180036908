"""What the window says to its operator: in the line of messages, and in the log."""

from __future__ import annotations

from acquire.engine.status import EngineState
from gui import text
from gui.answers import EmergencyAnswers
from gui.emergency import EmergencyReport
from gui.orders import CommandResult
from gui.panels.log import LogPanel
from gui.panels.notices import NO_ANSWER, Notices
from gui.panels.topbar import TopBar
from gui.session import StatusSnapshot
from gui.words import tr


class Telling:
    """For a while nothing takes the place of an answer to heater off; errors are shown after it."""

    def __init__(self, notices: Notices, log: LogPanel, topbar: TopBar) -> None:
        self._notices, self._log = notices, log
        self._answers = EmergencyAnswers(topbar, notices.info, notices.error, log.say)
        self._unread = ""
        """An error that waits until the answer to heater off has been read."""
        self._last_state: EngineState | None = None
        self._was_stale = True

    def complain(self, words: str) -> None:
        """Show and log an error."""
        self._log.say("error", words)
        if self._answers.shown:
            self._unread = words
        else:
            self._notices.error(words)

    def tell(self, words: str) -> None:
        """Show what went well."""
        if not self._answers.shown:
            self._notices.info(words)

    def not_aborted(self) -> None:
        """Abort was let go too early."""
        self._notices.error(tr("Not aborted: hold the button (or F9) until its bar is full."))

    def ask(self, words: str) -> None:
        """Show what the next press would do; whatever was to be read before is in the log."""
        self._notices.ask(words)

    def answered(self) -> None:
        """The question is none any more."""
        if self._notices.kind == "question":
            self._notices.clear()

    def tick(self) -> None:
        """Show what had to wait."""
        self._answers.tick()
        if self._unread and not self._answers.shown:
            self._notices.error(self._unread)
            self._unread = ""

    def emergency(self, report: EmergencyReport) -> None:
        """Show how far a heater-off is."""
        self._unread = ""
        self._answers.take(report)

    def result(self, result: CommandResult) -> None:
        """Say how a command ended."""
        if result.error:
            self.complain(f"{tr(result.name)}: {result.error}")
        else:
            words = tr("{order}: taken by the engine ({took})")
            self.tell(words.format(order=tr(result.name), took=text.short_time(result.took_s)))

    def changes(self, snapshot: StatusSnapshot) -> bool:
        """Say what a new status brings; returns whether the run's state is another."""
        if snapshot.stale != self._was_stale:
            self._was_stale = snapshot.stale
            words = tr("in contact")
            if snapshot.stale:
                why = snapshot.link_error or NO_ANSWER
                words = tr("no contact: {why}").format(why=why)
            self._log.say("warning" if snapshot.stale else "window", words)
        state = snapshot.status.state
        if snapshot.stale or state is self._last_state:
            return False
        if state is EngineState.FAILED and self._last_state is not None:
            self.complain(tr("The run failed: {why}").format(why=snapshot.status.cause))
        self._last_state = state
        return True
