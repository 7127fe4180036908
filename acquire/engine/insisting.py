"""Commands that make safe: given again until they are obeyed, and none keeps another from being given."""

from __future__ import annotations

import logging
from collections.abc import Callable

from acquire.errors import HotstageError

logger = logging.getLogger(__name__)


def insist(*commands: tuple[Callable[[], None], str]) -> str:
    """Give every command; whoever calls this again and again gives those that failed again.

    Args:
        commands: each with what may be so while it is not obeyed.

    Returns:
        What may be so, and why; empty if all were obeyed.
    """
    doubts = []
    for command, doubt in commands:
        try:
            command()
        except Exception as error:  # whatever it is, it is told and tried again
            unforeseen = None if isinstance(error, HotstageError) else error
            logger.warning("%s: %s", doubt, error, exc_info=unforeseen)
            doubts.append(f"{doubt}, which is tried again: {error}")
    return " ".join(doubts)
