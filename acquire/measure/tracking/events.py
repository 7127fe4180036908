"""What can happen to a tracked particle, as one record per event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EventKind(StrEnum):
    """Kinds of events."""

    NUCLEATION = "nucleation"
    """A particle was seen three times at an SNR above the threshold, away from the border."""
    DISAPPEARANCE = "disappearance"
    """A particle that had been seen well is not found any more, and nothing took it up."""
    RETURN = "return"
    """A particle that had disappeared or merged shows again at its place: it had done neither."""
    MERGE = "merge"
    """A particle went into a neighbour, whose volume grew by its own."""
    FIELD_MOVED = "field_moved"
    """Most particles are gone at once and the displacement is unknown: all tracks end."""


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """One event; ``t_s`` is when it happened, which is some frames before it could be told."""

    kind: EventKind
    t_s: float
    track: int
    """Of the particle; -1 for the whole field."""
    y_nm: float
    x_nm: float
    """Where, in the image of the frame in which it was told."""
    into: int = -1
    """The track that took it up, for a merge."""
    confidence: float = 1.0
    """Probability that it is what it is called, from its own errors."""
