"""Whether the beam exposes the specimen while nobody counts it."""

from __future__ import annotations

from acquire.engine.status import EngineStatus
from gui.words import tr

UNCOUNTED = tr("⚠ The beam is on and nothing is recorded: its dose is not counted.")
_EXPOSING = ("beam", "live view")
"""In the words for what is on by hand: then its dose is counted."""


def is_uncounted(status: EngineStatus) -> bool:
    """Whether the beam is known to be on, with neither a run nor a hand that exposes with it.

    So a microscope stands when it was left un-blanked, or is looked through with other software.
    """
    if status.state.active or status.server or not status.beam_known or status.blanked:
        return False
    return not any(words in status.by_hand for words in _EXPOSING)
