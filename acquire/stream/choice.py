"""Which detector an estimator has chosen, as a record that is stored with its estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_OWN = ("detector", "detector_frame_index", "detector_time_s", "detector_segment")


@dataclass(frozen=True, slots=True)
class DetectorChoice:
    """Which detector an estimator has chosen, when, and why."""

    detector: str
    frame_index: int
    """The first frame that is measured on it."""
    t_s: float
    """End of that frame's exposure, on the frame's clock."""
    facts: Mapping[str, str | float] = field(default_factory=dict)
    """Why, and what else goes with it, by short names: ``score``, ``polarity``, …"""
    segment: str = ""
    """Folder of the earlier segment of the run that chose, whose frame and time these are; empty for
    a choice of its own."""

    @property
    def attributes(self) -> dict[str, str | float]:
        """The same for the attributes of stored estimates: flat, all names begin with ``detector``."""
        own = (self.detector, self.frame_index, self.t_s, self.segment)
        facts = {f"detector_{name}": value for name, value in self.facts.items()}
        return {**dict(zip(_OWN[: 4 if self.segment else 3], own, strict=False)), **facts}

    @classmethod
    def from_attributes(
        cls, attributes: Mapping[str, object], segment: str
    ) -> DetectorChoice | None:
        """The choice that the attributes of stored estimates tell of.

        Args:
            attributes: those of the estimates.
            segment: the folder that they are in, which has chosen unless it inherited the choice.

        Returns:
            None if their detector was not chosen, or is not told in full.
        """
        detector, index, t_s, inherited = (attributes.get(name) for name in _OWN)
        told = isinstance(detector, str) and isinstance(index, int) and isinstance(t_s, int | float)
        if not told:
            return None
        facts = {
            name.removeprefix("detector_"): value
            for name, value in attributes.items()
            if name.startswith("detector_") and name not in _OWN and isinstance(value, str | float)
        }
        assert isinstance(index, int)
        assert isinstance(t_s, int | float)
        return cls(str(detector), index, float(t_s), facts, str(inherited or segment))

    def __str__(self) -> str:
        facts = ", ".join(
            f"{name.replace('_', ' ')} {value:.3g}"
            if isinstance(value, float)
            else f"{name} {value}"
            for name, value in self.facts.items()
        )
        as_before = f", as in {self.segment}" if self.segment else ""
        return f"{self.detector}{as_before} ({facts})" if facts else f"{self.detector}{as_before}"
