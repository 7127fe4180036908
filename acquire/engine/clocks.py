"""Keeps with a run how the clock of its instrument server was related to its own while it lasted."""

from __future__ import annotations

from acquire.engine.context import RunContext
from acquire.stream import Row

TABLE = "clock"
UNITS = {"offset": "s", "uncertainty": "s"}
EVERY_S = 60.0
"""Run time from one row to the next, unless the clocks move."""


class ClockLog:
    """Looks at the relation of the clocks whenever :meth:`look` is called; from one thread at a time.

    The header has the relation at the beginning. Rows follow only where it was measured again: the
    first when it moves by more than its uncertainty, or after a minute. Every time stamp of the run
    has the relation of its moment in it already.
    """

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._written = run.station.relation
        self._written_s = run.now_s()
        self._declared = False

    def look(self) -> None:
        """Write a row if there is something new to say; raises StoreError."""
        run, relation = self._run, self._run.station.relation
        if relation == self._written:
            return
        now_s = run.now_s()
        moved_s = abs(relation.offset_s - self._written.offset_s)
        known_s = relation.uncertainty_s + self._written.uncertainty_s
        if now_s - self._written_s < EVERY_S and moved_s <= known_s:
            return
        if not self._declared:
            run.sink.declare_rows(TABLE, UNITS)
            self._declared = True
        values = {"offset": relation.offset_s, "uncertainty": relation.uncertainty_s}
        run.sink.append_row(Row(TABLE, now_s, values))
        self._written, self._written_s = relation, now_s
