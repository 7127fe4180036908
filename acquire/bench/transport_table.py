"""What the transport's bench measures, and the lines of its table."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from acquire.bench.verdicts import Verdict


class Bench:
    """What is measured, and what came of it."""

    def __init__(
        self, folder: Path, soak_s: float, *, quick: bool, seed: int | None = None
    ) -> None:
        self.folder = folder
        self.soak_s = soak_s
        self.quick = quick
        self.seed = secrets.randbits(31) if seed is None else seed
        self.verdicts: list[Verdict] = []
        self.measured: dict[str, Any] = {}
        self.notes: list[str] = []

    def say(
        self, section: str, what: str, value: str, goal: str = "", good: bool | None = None
    ) -> None:
        """Add a line to the table."""
        self.verdicts.append(Verdict(section, what, value, goal, good))
