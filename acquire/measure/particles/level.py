"""Watches the level of the film: tells a beam that is off from one that was changed."""

from __future__ import annotations

import math
from typing import Literal

_CHANGED = 1.5
"""A level that differs by more than this factor from the last is a sudden change."""
_BLANK_SHARE = 0.02
"""A film this much darker, without particles, is a beam that is off even if none were known."""
_AGAIN = 0.3
"""Share of the known particles that must still show."""
_FEWEST = 3
_FLAGGED = 3
"""Frames that carry the flag of a change."""


class LevelWatch:
    """Judges the film's level of frame after frame."""

    def __init__(self) -> None:
        self._level = math.nan
        self._flagged = 0

    def judge(
        self, level: float, found: int, known: int, again: int
    ) -> tuple[Literal["", "blank", "dose_change"], bool]:
        """Flag of a frame, and whether the dose has changed with this very frame.

        A dark frame is ``blank`` if the particles are gone with the light; if they are still there,
        the beam is on and has been changed: the level that it has now is the reference from then on.
        A beam so weak that no particle shows is told from no beam by nothing, and reads ``blank``.

        Args:
            level: median of the film in counts; NaN where it was not measured.
            found: particles found.
            known: particles expected in view.
            again: how many of these show.
        """
        if not math.isfinite(level) or level <= 0:
            return "", False
        ratio = level / self._level
        if ratio < 1 / _CHANGED:
            told = known >= _FEWEST
            seen = again >= max(2.0, _AGAIN * known) if told else found >= _FEWEST
            if not seen and (told or ratio < _BLANK_SHARE):
                return "blank", False
        changed = ratio < 1 / _CHANGED or ratio > _CHANGED
        self._level = level
        self._flagged = _FLAGGED if changed else max(self._flagged - 1, 0)
        return ("dose_change" if self._flagged else ""), changed
