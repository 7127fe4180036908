"""What the operator is told of a heater-off: on the button, in the line of messages and in the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from gui.emergency import EmergencyReport

SHOWN_S = 8.0
WAYS = 2


class Button(Protocol):
    """Where the newest answer is shown, beside what was pressed."""

    def show_heater_off(self, answer: str, good: bool = True) -> None:
        """Show it; empty for none."""


class EmergencyAnswers:
    """The answers to the last press, over both ways; ``error`` and ``info`` show a message."""

    def __init__(
        self,
        button: Button,
        info: Callable[[str], None],
        error: Callable[[str], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._button = button
        self._info, self._error, self._log = info, error, log
        self._press = 0
        self._answers: dict[str, EmergencyReport] = {}
        self._at_s = 0.0

    @property
    def shown(self) -> bool:
        """Whether an answer is what must be read now."""
        return bool(self._answers) and time.monotonic() - self._at_s <= SHOWN_S

    def tick(self) -> None:
        """Forget answers that were shown long enough, but not that none has come."""
        done = any(answer.done for answer in self._answers.values())
        if done and not self.shown:
            self._answers = {}
            self._button.show_heater_off("")

    def take(self, report: EmergencyReport) -> None:
        """Show one answer beside the others of its press."""
        if report.press < self._press:
            return
        if report.press > self._press:
            self._press, self._answers = report.press, {}
        self._answers[report.path] = report
        self._at_s = time.monotonic()
        done = [answer for answer in self._answers.values() if answer.done]
        words = "; ".join(_words(answer) for answer in self._answers.values())
        if done:
            first = min(answer.took_s for answer in done)
            self._button.show_heater_off(f"✓ ack. {first * 1000:.0f} ms")
            say = self._info if len(done) == len(self._answers) else self._error
            say(f"HEATER OFF: {words}")
        elif len(self._answers) == WAYS and all(one.final for one in self._answers.values()):
            self._button.show_heater_off("✕ NOT SENT", good=False)
            self._error(
                f"HEATER OFF did not arrive: {words}. Switch the heater off at its control unit."
            )
        else:
            self._button.show_heater_off("trying …", good=False)
            self._error(f"HEATER OFF: {words}")
        self._log("window" if report.done else "error", f"heater off: {_words(report)}")


def _words(report: EmergencyReport) -> str:
    if report.done:
        return f"{report.path} acknowledged in {report.took_s * 1000:.0f} ms"
    return f"{report.path}: {report.error}"
