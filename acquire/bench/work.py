"""What every part of a bench shares: how much is done, from which seed, and what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from acquire.bench.verdicts import Verdict


@dataclass
class Bench:
    """How much is done, from which seed, and what was seen."""

    seed: int
    share: float = 1.0
    """Of the full number of frames; a quick run does little of each."""
    tell: Callable[[str], None] = lambda text: None
    verdicts: list[Verdict] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    """By row: all numbers behind it."""
    notes: list[str] = field(default_factory=list)

    def count(self, full: int) -> int:
        """How many frames are made of ``full`` ones; two at least."""
        return max(2, round(self.share * full))

    def seeds(self, what: str, count: int) -> Iterator[int]:
        """Seeds for something by name: others for another name, the same for the same run's seed."""
        name = [self.seed, *what.encode()]
        return iter(np.random.SeedSequence(name).generate_state(count, np.uint32).tolist())

    def add(
        self, section: str, what: str, value: str, goal: str, good: bool | None, **numbers: Any
    ) -> None:
        """A row of the table, and the numbers behind it."""
        met = None if good is None else bool(good)
        self.verdicts.append(Verdict(section, what, value, goal, met))
        if numbers:
            self.measured[f"{section}: {what}"] = numbers
        self.tell(what)
