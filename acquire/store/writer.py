"""Writes a run: every record to disk in the thread that made it, and soon visible to readers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

from acquire.errors import StoreError
from acquire.instruments import Frame, StreamSpec
from acquire.store.columns import Cell, ColumnSpec, Kind
from acquire.store.documents import plain
from acquire.store.estimates import EstimateStream
from acquire.store.files import (
    Reserve,
    make_folder,
    open_new,
    sync_files,
    write_whole,
)
from acquire.store.groups import GrowingGroup
from acquire.store.journal import Journal
from acquire.store.layout import (
    CHANNELS,
    CHECKSUMS_NAME,
    FORMAT_KEY,
    FORMAT_VERSION,
    GAPS,
    JOURNAL_NAME,
    LOSS_WINDOW_S,
    RECIPE_NAME,
    RESERVE_NAME,
    RESERVED,
    STATION_NAME,
    STRUCTURE_NAME,
    SYNCED_NAME,
    ZARR_NAME,
    check_distinct,
    check_name,
)
from acquire.store.pool import WritePool
from acquire.store.publisher import Publisher
from acquire.store.settings import StoreSettings
from acquire.store.streams import FrameStream
from acquire.store.upkeep import Upkeep
from acquire.stream.records import Estimate, Note, Quantity, Row
from acquire.stream.sink import FrameBlock, FrameContext, RunHeader, RunReport

RUNNING = "running"
MOST_STREAMS = 1000
"""A reader gets the metadata of all streams from one file, which is written five times a second."""

_RESERVE_AFTER_S = 2.0
"""How long the last lines of the journal wait for frames to take what room is left."""
GAP_COLUMNS = [
    ColumnSpec("stream", Kind.WORD, long_name="stream that lacks frames"),
    ColumnSpec("frame_index", Kind.COUNT, long_name="number of the first missing frame"),
    ColumnSpec("frames", Kind.COUNT, long_name="how many frames are missing"),
    ColumnSpec("t_start", unit="s", long_name="when they began to be missing, if it is known"),
    ColumnSpec("t_end", unit="s", long_name="when frames came again, if it is known"),
    ColumnSpec("reason", Kind.WORD, long_name="why they are missing"),
]


class RunWriter:
    """The :class:`~acquire.stream.sink.Sink` that makes a run folder.

    A frame is compressed and written by a few threads of the writer's own, within the room of
    :data:`~acquire.store.pool.MOST_WAITING_BYTES`. Coordinates, tables and the lengths of all arrays
    follow every :data:`PUBLISH_PERIOD_S` of wall time, whatever the run's clock;
    :data:`LOSS_WINDOW_S` is the most that a crash of the process can cost, and
    ``settings.sync_every_s`` more what a power cut can. An error in any of these threads is told to
    ``on_failure`` at once, and raised by the next append and by ``close``.
    """

    def __init__(self, path: Path | str, settings: StoreSettings | None = None) -> None:
        self.path = Path(path)
        self.zarr_path = self.path / ZARR_NAME
        self.settings = settings or StoreSettings()
        self._publisher = Publisher(self.zarr_path, self._root_attributes)
        self._declaring = threading.Lock()
        self._frames: dict[str, FrameStream] = {}
        self._estimates: dict[str, EstimateStream] = {}
        self._tables: dict[str, GrowingGroup] = {}
        self._gaps: GrowingGroup | None = None
        self._header: dict[str, Any] = {}
        self._report: RunReport | None = None
        self._journal: Journal | None = None
        self._checksums: FileIO | None = None
        self._reserve: Reserve | None = None
        self._upkeep = Upkeep(self.path, self._publisher, self.settings.sync_every_s)
        self._pool: WritePool | None = None

    @property
    def bytes_written(self) -> int:
        """Bytes of frames' data on the disk so far; coordinates and tables are small beside them."""
        return sum(stream.group.block_bytes for stream in list(self._frames.values()))

    @property
    def fullness(self) -> float:
        """How much of the room for frames that wait to be written is taken: 0 to 1."""
        return self._pool.fullness if self._pool is not None else 0.0

    @property
    def highest_fullness(self) -> float:
        """The highest ``fullness`` so far."""
        pool = self._pool
        return pool.highest_bytes / pool.most_bytes if pool is not None else 0.0

    def on_failure(self, tell: Callable[[StoreError], None]) -> None:
        """Call ``tell`` from the thread that meets the first error."""
        self._upkeep.tell = tell

    # ------------------------------------------------------------------ begin and end

    def open(self, header: RunHeader) -> None:
        """Make the run folder, which must not exist.

        Raises:
            StoreError: it exists, or cannot be written; nothing is overwritten.
        """
        make_folder(self.path, must_be_new=True)
        make_folder(self.zarr_path)
        self._reserve = Reserve(self.path / RESERVE_NAME)
        write_whole(self.path / RECIPE_NAME, header.recipe_yaml.encode(errors="replace"), sync=True)
        write_whole(
            self.path / STATION_NAME, header.station_toml.encode(errors="replace"), sync=True
        )
        self._header = plain(header)
        self._journal = Journal(self.path / JOURNAL_NAME)
        self._checksums = open_new(self.path / CHECKSUMS_NAME)
        facts = {k: v for k, v in self._header.items() if k not in ("recipe_yaml", "station_toml")}
        try:
            self._journal.write(Note("run", 0.0, f"run {header.name!r} begins", facts))
            self._publisher.publish(force=True)
            sync_files(self._publisher.take_unsynced())
        except StoreError:
            self._journal.close()
            self._journal = None
            self._checksums.close()
            self._reserve.release()
            raise
        self._pool = WritePool(
            self.settings.threads,
            wait=self.settings.when_behind == "wait",
            on_failure=self._upkeep.fail,
        )
        self._upkeep.start(self._pool, self._checksums)

    def close(self, report: RunReport) -> None:
        """Publish everything with the report, end the journal with it; idempotent.

        Raises:
            StoreError: something of the run could not be written, now or before; what was
                published stays readable.
        """
        if self._journal is None or self._report is not None:
            return
        self._publisher.seal()
        if self._pool is not None:
            self._pool.settle()
        self._upkeep.stop()
        failure = self._upkeep.failure
        try:
            self._publisher.offer_partial()
        except StoreError as error:
            failure = failure or error
        if self._pool is not None:
            self._pool.close()
            failure = failure or self._pool.failure
        if self._reserve is not None:
            self._reserve.release()
        self._report = report
        if failure is not None:
            self._end_as_failed(failure)
        steps: tuple[Callable[[], object], ...] = (
            # also what a failed pool left: frames before the failure, the report
            lambda: self._upkeep.publish(force=True, settle=False),
            lambda: self._upkeep.write_checksums(final=True),
            lambda: sync_files(self._publisher.take_unsynced()),
        )
        for step in steps:
            try:
                step()
            except StoreError as error:
                if failure is None:
                    failure = error
                    self._end_as_failed(error)
        report = self._report
        self._publisher.close()
        text = f"run {self._header['name']!r} {report.outcome}"
        try:
            self.note(
                Note(
                    "run",
                    report.t_end_s,
                    f"{text}: {report.cause}" if report.cause else text,
                    plain(report),
                )
            )
        except StoreError as error:
            failure = failure or error
        if failure is None:
            for name in (SYNCED_NAME, STRUCTURE_NAME):
                with suppress(OSError):  # where a reader holds it open, it stays; it is still true
                    (self.path / name).unlink(missing_ok=True)
        self._journal.close()
        if self._checksums is not None:
            self._checksums.close()
        if failure is not None:
            raise failure

    def _end_as_failed(self, failure: StoreError) -> None:
        """Say so, before a full disk has no room left for it."""
        report = self._report
        if report is not None and report.outcome == "completed":
            # what is not on the disk was not completed
            self._report = replace(report, outcome="failed", cause=str(failure))
        # where even that fails, recovery says it
        with suppress(StoreError):
            self._publisher.publish_root()

    def _root_attributes(self) -> Mapping[str, Any]:
        return {
            FORMAT_KEY: FORMAT_VERSION,
            "state": RUNNING if self._report is None else self._report.outcome,
            "durability": {
                "window_s": LOSS_WINDOW_S,
                "sync_every_s": self.settings.sync_every_s,
                "text": "what is older than window_s survives the death of the process; a power cut "
                "can cost, beyond that, what came within sync_every_s before it; the journal is on "
                "the disk line by line",
            },
            "store": plain(self.settings),
            **self._header,
            "report": None if self._report is None else plain(self._report),
        }

    def publish(self) -> None:
        """Show all readers everything that was appended, now; raises StoreError."""
        self._check()
        try:
            self._upkeep.publish(force=True)
        except StoreError as error:
            self._upkeep.fail(error)
            raise

    def _check(self) -> None:
        failure = self._upkeep.failure
        if failure is not None:
            raise StoreError(str(failure)) from failure
        if self._journal is None or self._report is not None:
            raise StoreError(f"{self.path} is not open for writing.")

    # --------------------------------------------------------------------- declarations

    def declare_frames(self, kind: str, spec: StreamSpec) -> None:
        """Make the group of a stream; the same declaration again changes nothing.

        Raises:
            StoreError: a stream of this name looks different, or the disk refuses.
        """
        self._check()
        with self._declaring:
            known = self._frames.get(spec.name)
            if known is not None:
                if (known.kind, known.spec) != (kind, spec):
                    raise StoreError(
                        f"stream {spec.name!r} of {self.path} was declared with other frames "
                        "before; give the new ones a stream of their own."
                    )
                return
            if len(self._frames) >= MOST_STREAMS:
                raise StoreError(
                    f"stream {spec.name!r} would be one more than the {MOST_STREAMS} that a run may "
                    "have. Let steps that repeat write to one stream: give them the same name."
                )
            check_distinct(spec.name, self._frames, "a stream")
            assert self._pool is not None
            stream = FrameStream(self.zarr_path, kind, spec, self._pool, self.settings.codec)
            self._show(stream.group)
            self._frames[spec.name] = stream

    def declare_estimates(
        self, name: str, quantities: tuple[Quantity, ...], columns: Mapping[str, str]
    ) -> None:
        """Make the groups of an estimator; raises StoreError."""
        self._check()
        with self._declaring:
            if name not in self._estimates:
                check_distinct(name, self._estimates, "an estimator")
                stream = EstimateStream(self.zarr_path, name, quantities, columns)
                self._show(*stream.groups)
                self._estimates[name] = stream

    def declare_rows(self, table: str, units: Mapping[str, str]) -> None:
        """Make the group of a table, or of a channel's readings; raises StoreError."""
        self._check()
        own = table.removeprefix(f"{CHANNELS}/")
        if check_name(own, "a table") in RESERVED and own == table:
            raise StoreError(f"{table!r} cannot be the name of a table: it has another meaning.")
        with self._declaring:
            if table not in self._tables:
                check_distinct(table, {*self._tables, *RESERVED}, "a table")
                columns = [ColumnSpec("time", unit="s", long_name="time on the run's clock")]
                for name, unit in units.items():
                    kind = Kind.WORD if unit == "text" else Kind.NUMBER
                    columns.append(ColumnSpec(name, kind, unit, name.replace("_", " ")))
                group = GrowingGroup(self.zarr_path, table, "time", columns)
                self._show(group)
                self._tables[table] = group

    def _show(self, *groups: GrowingGroup) -> None:
        """Let readers see new groups, still empty."""
        for group in groups:
            self._publisher.add(group)
        try:
            self._upkeep.publish()
        except StoreError as error:
            self._upkeep.fail(error)
            raise

    # -------------------------------------------------------------------------- records

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Take a frame: it is written in the background, and visible within the loss window.

        Waits while the room for waiting frames is taken. A jump of the index that nobody announced
        is recorded as a gap.

        Raises:
            StoreError: something could not be written before, the frame does not fit its
                declaration, or there is no room and the settings say not to wait.
        """
        self._check()
        stream = self._next(frame.stream, frame.index)
        try:
            stream.append(frame, context)
        except StoreError as error:
            self._upkeep.fail(error)
            raise

    def append_block(self, block: FrameBlock) -> None:
        """Take many frames at once; see :meth:`append_frame`."""
        self._check()
        stream = self._next(block.stream, block.first_index)
        try:
            stream.append_block(block)
        except StoreError as error:
            self._upkeep.fail(error)
            raise

    def _next(self, name: str, index: int) -> FrameStream:
        """The stream, when its frame ``index`` is due."""
        stream = self._stream(name)
        if index < stream.next_index:
            raise StoreError(
                f"frame {index} of {name!r} came after frame {stream.next_index - 1}: frames must "
                "come in order, each once."
            )
        if index > stream.next_index:
            self.gap(name, stream.next_index, "it never came", index - stream.next_index)
        return stream

    def append_estimate(self, estimate: Estimate) -> None:
        """Take an estimate and its table; raises StoreError."""
        self._check()
        stream = self._estimates.get(estimate.estimator)
        if stream is None:
            raise StoreError(f"estimator {estimate.estimator!r} was not declared in {self.path}.")
        stream.append(estimate)

    def append_row(self, row: Row) -> None:
        """Take a line of a table; raises StoreError."""
        self._check()
        group = self._tables.get(row.table)
        if group is None:
            raise StoreError(f"table {row.table!r} was not declared in {self.path}.")
        group.append({**row.values, "time": row.t_s})

    def gap(
        self,
        stream: str,
        index: int,
        reason: str,
        count: int = 1,
        span_s: tuple[float, float] = (float("nan"), float("nan")),
    ) -> None:
        """Record that ``count`` frames from ``index`` on are missing; raises StoreError."""
        self._check()
        frames = self._stream(stream)
        if index < frames.next_index:
            raise StoreError(
                f"frame {index} of {stream!r} cannot be missing: frame {frames.next_index - 1} came "
                "already, or is known to be missing."
            )
        if index > frames.next_index:
            self.gap(stream, frames.next_index, "it never came", index - frames.next_index)
        frames.skip(index, count)
        with self._declaring:
            if self._gaps is None:
                try:
                    self._gaps = GrowingGroup(self.zarr_path, GAPS, "row", GAP_COLUMNS)
                except StoreError as error:
                    self._upkeep.fail(error)  # no frame may follow a gap that is not recorded
                    raise
                self._publisher.add(self._gaps)
            cells: dict[str, Cell] = {
                "stream": stream,
                "frame_index": index,
                "frames": count,
                "t_start": span_s[0],
                "t_end": span_s[1],
                "reason": reason,
            }
            self._gaps.append(cells)
        what = f"frame {index}" if count == 1 else f"frames {index} to {index + count - 1}"
        text = f"{what} of {stream} {'is' if count == 1 else 'are'} missing: {reason}"
        self.note(Note("gap", span_s[0], text, cells))

    def note(self, note: Note) -> None:
        """Write to the journal; on disk when this returns.

        Raises:
            StoreError: the journal is not open, or the disk refuses even with the reserve freed.
        """
        if self._journal is None:
            raise StoreError(f"{self.path} is not open for writing.")
        try:
            self._journal.write(note)
        except StoreError as error:
            self._upkeep.fail(error)
            self._free_reserve()
            self._journal.write(note)

    def _free_reserve(self) -> None:
        """Make room for the reason of the end: the journal's last lines and the report."""
        if self._pool is not None:
            # frames that still wait would take it all; where the disk is full they soon fail
            self._pool.settle(_RESERVE_AFTER_S)
        if self._reserve is not None:
            self._reserve.release()

    def _stream(self, name: str) -> FrameStream:
        stream = self._frames.get(name)
        if stream is None:
            raise StoreError(f"stream {name!r} was not declared in {self.path}.")
        return stream
