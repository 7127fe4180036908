"""What is done only when it is asked for twice: once to read what follows from it, once to have it."""

from __future__ import annotations

import time
from collections.abc import Callable

NOT_BEFORE_S = 0.4
"""A double click, or a key that bounces, is one press."""
FOR_S = 10.0
"""Nobody remembers for longer what was read."""


class Twice:
    """The first press tells, the second acts; ``state`` is what the presses are about, and must not change.

    Args:
        tell: says what follows, and to press again.
        act: does it.
    """

    def __init__(self, tell: Callable[[], None], act: Callable[[], None]) -> None:
        self._tell, self._act = tell, act
        self._state: object = None
        self._asked_s = float("-inf")

    @property
    def asked(self) -> bool:
        """Whether the next press may be the second."""
        return time.monotonic() - self._asked_s < FOR_S

    def press(self, state: object) -> None:
        """One press."""
        if not self.asked or state != self._state:
            self._state, self._asked_s = state, time.monotonic()
            self._tell()
        elif time.monotonic() - self._asked_s >= NOT_BEFORE_S:
            self.forget()
            self._act()

    def forget(self) -> None:
        """The next press is a first one."""
        self._asked_s = float("-inf")
