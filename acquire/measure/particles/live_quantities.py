"""What the live estimator tells: the quantities of one image, and those that need a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from acquire.measure.particles.summary import COLUMNS, QUANTITIES
from acquire.stream.records import Quantity

_TRANSITION = ("dose_change", "field_moved", "calibrating")
"""Numbers are measured, but not to be compared with those of the frames before."""
CHOOSING = "choosing"
"""The flag of an estimator that has not chosen its detector yet: nothing is measured."""
_NO_RATE = ("few_tracked", "short_watch", "stale_growth", "saturated", "polarity", "field_moved")

_MEASURED: tuple[Quantity, ...] = (
    *(replace(q, spoiled_by=(*q.spoiled_by, *_TRANSITION)) for q in QUANTITIES),
    Quantity("growth_rate", "nm/min", "mean growth of the same particles' diameters", _NO_RATE),
    Quantity("nucleations", "1", "particles that appeared since the run began", ("polarity",)),
    Quantity("merges", "1", "particles that went into another since the run began", ("polarity",)),
    Quantity("disappearances", "1", "particles lost otherwise since the run began", ("polarity",)),
)

LIVE_QUANTITIES: tuple[Quantity, ...] = tuple(
    replace(q, spoiled_by=(*q.spoiled_by, CHOOSING)) for q in _MEASURED
)
"""Those of :data:`QUANTITIES`, and over time.

``growth_rate``: paired, over the growth window (see :func:`acquire.measure.tracking.paired_growth`);
NaN with ``short_watch`` until a quarter of the window has been watched, with ``few_tracked`` below
five tracked particles, and in frames that cannot be measured. The counts are told in every frame;
their σ says how many particles are not yet decided on, or were decided on narrowly.
"""

LIVE_COLUMNS: Mapping[str, str] = {**COLUMNS, "age_frames": "1"}
"""Those of :data:`COLUMNS`, of which ``id`` is now the track's, -1 where the frame was not tracked;
``age_frames`` int, frames in which the particle has been seen so far.
"""
