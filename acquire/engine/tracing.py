"""A sink that stores nothing, and keeps what a preflight tells of a run."""

from __future__ import annotations

from acquire.engine.disk import Demand
from acquire.engine.monitor import TABLE as HOLDER
from acquire.engine.regulation import TABLE as REGULATION
from acquire.instruments import Frame
from acquire.store import ASSUMED_COMPRESSION, CountingSink
from acquire.stream import FrameBlock, FrameContext, Row

PROFILE_POINTS = 2000


class TracingSink(CountingSink):
    """Counts, finds how fast a disk must be, and keeps the temperature profile."""

    def __init__(self, compression: float) -> None:
        super().__init__()
        self._compression = compression
        self._demand = Demand()
        self.profile: list[tuple[float, float]] = []
        self.regulation: list[Row] = []
        """What regulate steps decided."""

    @property
    def bytes_written(self) -> int:
        """What the same run would have taken of the disk by now."""
        return int(self.raw_bytes / self._compression)

    @property
    def expected_bytes(self) -> int:
        """What the same run would take on disk, as far as its data shrink by the codec."""
        return (
            super().expected_bytes - int(self.raw_bytes / ASSUMED_COMPRESSION) + self.bytes_written
        )

    @property
    def needed_bytes_per_s(self) -> float:
        """What the disk must take per second of run time, where the plan is fastest."""
        return self._demand.bytes_per_s / self._compression

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Keep when its bytes come."""
        super().append_frame(frame, context)
        self._demand.add(frame.t_end_s, sum(array.nbytes for array in frame.data.values()))

    def append_block(self, block: FrameBlock) -> None:
        """Keep when its bytes come."""
        super().append_block(block)
        self._demand.add(
            float(block.t_end_s[-1]), sum(array.nbytes for array in block.data.values())
        )

    def append_row(self, row: Row) -> None:
        """Keep the setpoint of a holder reading."""
        super().append_row(row)
        if row.table.startswith(REGULATION):
            self.regulation.append(row)
        if row.table != HOLDER:
            return
        setpoint = row.values.get("setpoint")
        if not isinstance(setpoint, float):
            return
        # a point within a straight line says nothing, and a day has a million of them
        last = self.profile[-2:]
        if len(last) == 2 and _on_line(last[0], last[1], (row.t_s, setpoint)):
            self.profile.pop()
        self.profile.append((row.t_s, setpoint))


def _on_line(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    if not a[0] < b[0] < c[0]:
        return False
    return abs(a[1] + (c[1] - a[1]) * (b[0] - a[0]) / (c[0] - a[0]) - b[1]) < 1e-6


def thinned(profile: list[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Times and temperatures of a profile, as many as a window draws; its end is kept."""
    every = max(1, len(profile) // PROFILE_POINTS)
    kept = profile[::every]
    if profile and kept[-1] != profile[-1]:
        kept.append(profile[-1])
    return tuple(t for t, _ in kept), tuple(celsius for _, celsius in kept)
