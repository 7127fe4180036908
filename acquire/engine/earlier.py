"""What a run inherits from the segments that it continues: used-up limits, and the relation of their clocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from acquire.instruments import AnyArray
from acquire.stream import Continues, DetectorChoice, RunHeader

if TYPE_CHECKING:
    from acquire.measure.eels.corrections import AxisCorrection

DRIFT = 1e-4
"""A computer's clock gains or loses less than this, as a fraction, when nothing corrects it."""
READ_S = 1e-3
"""Wall time within which a clock's zero is related to Unix time."""


@dataclass(frozen=True, slots=True)
class Before:
    """The segment right before a new one, and where the new one goes on."""

    folder: str
    header: RunHeader
    t_end_s: float
    """Its last time."""
    steps_done: int
    rest: bool
    new_recipe: bool


@dataclass(frozen=True, slots=True)
class MapBegan:
    """Where a map that goes on began: every image of it is compared with its first one."""

    stream: str
    image: AnyArray
    pixel_nm: float


@dataclass(frozen=True, slots=True)
class Earlier:
    """What all segments before have used up; nothing for a run that continues none."""

    dose_e_per_nm2: float = 0.0
    run_time_s: float = 0.0
    disk_bytes: int = 0
    before: Before | None = None
    choices: Mapping[str, DetectorChoice] = field(default_factory=dict)
    """Detectors that estimators have chosen, by the estimator's name."""
    calibrations: tuple[tuple[float, AxisCorrection], ...] = ()
    """Of the energy axis, with the nominal dispersion of each, in the order in which they were made."""
    map_began: MapBegan | None = None
    """Of the map that is gone on with, if it has images."""

    def continues(self, epoch_unix_s: float, rate: float, known_s: float) -> Continues | None:
        """What the new segment's header says of the one before; None if there is none.

        Args:
            epoch_unix_s: Unix time at run time 0 of the new segment.
            rate: its run seconds per wall second.
            known_s: how well its instruments' clock is known, in s.
        """
        before = self.before
        if before is None:
            return None
        offset_s, uncertainty_s = offset_to(before.header, before.t_end_s, epoch_unix_s, rate)
        return Continues(
            folder=before.folder,
            t_end_s=before.t_end_s,
            t_offset_s=offset_s,
            t_uncertainty_s=uncertainty_s + known_s + before.header.clock_relation_s[1],
            steps_done=before.steps_done,
            rest=before.rest,
            new_recipe=before.new_recipe,
            dose_e_per_nm2=self.dose_e_per_nm2,
            run_time_s=self.run_time_s,
        )


NOTHING = Earlier()
"""What a run inherits that continues none."""


def offset_to(
    header: RunHeader, t_end_s: float, epoch_unix_s: float, rate: float
) -> tuple[float, float]:
    """Run time of an ended segment at a later one's zero, and its uncertainty, both in s.

    Within the segment time went at its own rate, from its end on at the later one's. Where the wall
    clock was set back meanwhile, the later one begins at the end of the segment: it did not begin
    before.
    """
    if not (math.isfinite(header.clock_rate) and math.isfinite(rate)):
        return t_end_s, math.inf
    end_unix_s = header.epoch_unix_s + t_end_s / header.clock_rate
    between_s = (epoch_unix_s - end_unix_s) * rate
    whole_s = t_end_s + max(0.0, between_s)
    uncertainty_s = DRIFT * whole_s + 2 * READ_S * rate
    return whole_s, uncertainty_s + max(0.0, -between_s)
