"""What a frame adds to the tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.measure.tracking.events import TrackEvent

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one frame adds; arrays run over the rows of its table."""

    track: Ints
    segment: Ints
    """Diameters of one track are comparable within a segment only."""
    age_frames: Ints
    """Frames in which the track was seen, this one included."""
    linked: Bools
    """Whether it was known before."""
    shift_nm: Array
    """(2,) as (y, x): how far the view's content has moved since the last frame."""
    shift_known: bool
    """False where too few particles agree; the shift is then the last rate's, or zero."""
    events: tuple[TrackEvent, ...]
