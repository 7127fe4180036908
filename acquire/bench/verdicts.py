"""What a benchmark found of one goal, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line of the table."""

    section: str
    what: str
    value: str
    goal: str = ""
    good: bool | None = None
    """None: there is no goal, or it could not be measured."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def table_of(title: str, verdicts: Sequence[Verdict]) -> Table:
    """The table as a person reads it."""
    table = Table(title=title)
    table.add_column("row")
    table.add_column("seen", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("verdict")
    section = ""
    for verdict in verdicts:
        if verdict.section != section:
            section = verdict.section
            table.add_section()
            table.add_row(Text(section, "bold"))
        word = {None: "", True: "met", False: "MISSED"}[verdict.good]
        style = "red" if verdict.good is False else "green"
        table.add_row(verdict.what, verdict.value, verdict.goal, Text(word, style))
    return table
