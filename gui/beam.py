"""What the beam does to the specimen beside runs: exposed by hand, or while nobody counts it."""

from __future__ import annotations

import math

from acquire.engine.status import EngineStatus
from gui import text
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


def dose_before(given: float, limit: float, foreseen: float = math.nan) -> str:
    """What exposure by hand leaves to a run, in words; empty where there is nothing to say.

    Args:
        given: e/nm² that the worst place has got by hand.
        limit: ``limits.dose`` of the recipe; NaN if it has none.
        foreseen: what the run is to give; NaN if that is not known.
    """
    words = []
    if given > 0 and math.isfinite(limit):
        words.append(
            tr("{given} e/nm² given by hand count: {left} of {limit} e/nm² are left").format(
                given=text.dose(given),
                left=text.dose(max(0.0, limit - given)),
                limit=text.dose(limit),
            )
        )
    elif given > 0:
        words.append(
            tr("{given} e/nm² given by hand count in its dose").format(given=text.dose(given))
        )
    if foreseen + given > limit:
        words.append(
            tr("⚠ {foreseen} are foreseen: it would end early").format(foreseen=text.dose(foreseen))
        )
    elif words and math.isfinite(foreseen):
        words.append(tr("{foreseen} are foreseen").format(foreseen=text.dose(foreseen)))
    return ", ".join(words)
