"""Sinks that keep a run in memory, or only count it: for preflight and for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from acquire.errors import StoreError
from acquire.instruments import Frame, StreamSpec
from acquire.stream.records import Estimate, Note, Quantity, Row
from acquire.stream.sink import FrameBlock, FrameContext, RunHeader, RunReport

ASSUMED_COMPRESSION = 2.1
"""Poisson images shrink to 1/2.1 by blosc lz4 with bitshuffle, spectra more: an upper estimate."""

FRAME_OVERHEAD_BYTES = 200
ROW_BYTES = 100
"""Coordinates of a frame, or columns of a row, on disk."""


class CountingSink:
    """Counts frames and bytes, keeps nothing; may be used as a run's sink from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.header: RunHeader | None = None
        self.report: RunReport | None = None
        self.frames: dict[str, int] = {}
        """Frames by stream."""
        self.raw_bytes = 0
        """Bytes of the frames' data before compression."""
        self.rows = 0
        """Rows of tables, estimates and particles."""
        self.gaps: list[tuple[str, int, str, int]] = []
        """Stream, first index, reason and number of missing frames."""

    @property
    def expected_bytes(self) -> int:
        """What the same run would take on disk, at :data:`ASSUMED_COMPRESSION`."""
        return int(
            self.raw_bytes / ASSUMED_COMPRESSION
            + sum(self.frames.values()) * FRAME_OVERHEAD_BYTES
            + self.rows * ROW_BYTES
        )

    @property
    def fullness(self) -> float:
        """Nothing ever waits."""
        return 0.0

    def on_failure(self, tell: Callable[[StoreError], None]) -> None:
        """Nothing can fail."""

    def open(self, header: RunHeader) -> None:
        """Begin."""
        self.header = header

    def declare_frames(self, kind: str, spec: StreamSpec) -> None:
        """Count this stream, too."""
        with self._lock:
            self.frames.setdefault(spec.name, 0)

    def declare_estimates(
        self, name: str, quantities: tuple[Quantity, ...], columns: Mapping[str, str]
    ) -> None:
        """Nothing to prepare."""

    def declare_rows(self, table: str, units: Mapping[str, str]) -> None:
        """Nothing to prepare."""

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Count a frame and its bytes."""
        with self._lock:
            self.frames[frame.stream] = self.frames.get(frame.stream, 0) + 1
            self.raw_bytes += sum(array.nbytes for array in frame.data.values())

    def append_block(self, block: FrameBlock) -> None:
        """Count the frames of a block and their bytes."""
        with self._lock:
            self.frames[block.stream] = self.frames.get(block.stream, 0) + len(block)
            self.raw_bytes += sum(array.nbytes for array in block.data.values())

    def append_estimate(self, estimate: Estimate) -> None:
        """Count an estimate and the rows of its table."""
        with self._lock:
            self.rows += 1 + max((len(column) for column in estimate.table.values()), default=0)

    def append_row(self, row: Row) -> None:
        """Count a row."""
        with self._lock:
            self.rows += 1

    def gap(
        self,
        stream: str,
        index: int,
        reason: str,
        count: int = 1,
        span_s: tuple[float, float] = (float("nan"), float("nan")),
    ) -> None:
        """Keep the gap: there are few."""
        with self._lock:
            self.gaps.append((stream, index, reason, count))

    def note(self, note: Note) -> None:
        """Forget it."""

    def close(self, report: RunReport) -> None:
        """End."""
        self.report = report


class MemorySink(CountingSink):
    """Keeps everything but, unless asked, the frames' data."""

    def __init__(self, *, keep_frames: bool = False) -> None:
        super().__init__()
        self._keep_frames = keep_frames
        self.specs: dict[str, tuple[str, StreamSpec]] = {}
        """Kind and spec by stream."""
        self.quantities: dict[str, tuple[Quantity, ...]] = {}
        """What each estimator gives."""
        self.kept_frames: list[Frame] = []
        self.contexts: dict[str, list[FrameContext]] = {}
        """What the engine knew of each frame, by stream."""
        self.estimates: list[Estimate] = []
        self.table_rows: list[Row] = []
        self.notes: list[Note] = []

    def declare_frames(self, kind: str, spec: StreamSpec) -> None:
        """Keep the declaration."""
        super().declare_frames(kind, spec)
        self.specs[spec.name] = (kind, spec)

    def declare_estimates(
        self, name: str, quantities: tuple[Quantity, ...], columns: Mapping[str, str]
    ) -> None:
        """Keep the declaration."""
        self.quantities[name] = quantities

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Keep the context, and the frame if asked to."""
        super().append_frame(frame, context)
        with self._lock:
            self.contexts.setdefault(frame.stream, []).append(context)
            if self._keep_frames:
                self.kept_frames.append(frame)

    def append_block(self, block: FrameBlock) -> None:
        """Keep what single frames would leave, and the frames if asked to."""
        super().append_block(block)
        with self._lock:
            self.contexts.setdefault(block.stream, []).extend(block.contexts())
            if self._keep_frames:
                self.kept_frames.extend(block.frames())

    def append_estimate(self, estimate: Estimate) -> None:
        """Keep the estimate."""
        super().append_estimate(estimate)
        with self._lock:
            self.estimates.append(estimate)

    def append_row(self, row: Row) -> None:
        """Keep the row."""
        super().append_row(row)
        with self._lock:
            self.table_rows.append(row)

    def note(self, note: Note) -> None:
        """Keep the note."""
        with self._lock:
            self.notes.append(note)
