"""Writes a run: every record to disk in the thread that made it, and soon visible to readers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acquire.errors import StoreError
from acquire.instruments import Frame, StreamSpec
from acquire.store.columns import ColumnSpec, Kind
from acquire.store.documents import plain
from acquire.store.files import Reserve, make_folder, write_whole
from acquire.store.groups import GrowingGroup, Publisher
from acquire.store.journal import Journal
from acquire.store.layout import (
    FORMAT_KEY,
    FORMAT_VERSION,
    GAPS,
    JOURNAL_NAME,
    LOSS_WINDOW_S,
    PUBLISH_PERIOD_S,
    RECIPE_NAME,
    RESERVE_NAME,
    RESERVED,
    STATION_NAME,
    ZARR_NAME,
    check_name,
)
from acquire.store.streams import EstimateStream, FrameStream
from acquire.stream.records import Estimate, Note, Quantity, Row
from acquire.stream.sink import FrameContext, RunHeader, RunReport

logger = logging.getLogger(__name__)

RUNNING = "running"


class RunWriter:
    """The :class:`~acquire.stream.sink.Sink` that makes a run folder.

    A frame's data is written by the thread that appends it. Coordinates, tables and the lengths of
    all arrays follow every :data:`PUBLISH_PERIOD_S` of wall time, in a thread of the writer's own
    whatever the run's clock; :data:`LOSS_WINDOW_S` is the most a crash of the process can cost. An
    error there is raised by the next append and by ``close``.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.zarr_path = self.path / ZARR_NAME
        self._publisher = Publisher(self.zarr_path, self._root_attributes)
        self._declaring = threading.Lock()
        self._frames: dict[str, FrameStream] = {}
        self._estimates: dict[str, EstimateStream] = {}
        self._tables: dict[str, GrowingGroup] = {}
        self._gaps: GrowingGroup | None = None
        self._header: dict[str, Any] = {}
        self._report: RunReport | None = None
        self._journal: Journal | None = None
        self._reserve: Reserve | None = None
        self._failure: StoreError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._publish_on_time, name=f"publish {self.path.name}", daemon=True
        )

    @property
    def bytes_written(self) -> int:
        """Bytes of frames' data on the disk so far; coordinates and tables are small beside them."""
        return sum(stream.group.block_bytes for stream in list(self._frames.values()))

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
        facts = {k: v for k, v in self._header.items() if k not in ("recipe_yaml", "station_toml")}
        try:
            self._journal.write(Note("run", 0.0, f"run {header.name!r} begins", facts))
            self._publisher.publish(force=True, sync=True)
        except StoreError:
            self._journal.close()
            self._journal = None
            self._reserve.release()
            raise
        self._thread.start()

    def close(self, report: RunReport) -> None:
        """Publish everything with the report, end the journal with it; idempotent.

        Raises:
            StoreError: something of the run could not be written, now or before; what was
                published stays readable.
        """
        if self._journal is None or self._report is not None:
            return
        self._report = report
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._reserve is not None:
            self._reserve.release()
        failure = self._failure
        try:
            self._publish(force=True, sync=True)
        except StoreError as error:
            failure = failure or error
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
        self._journal.close()
        if failure is not None:
            raise failure

    def _root_attributes(self) -> Mapping[str, Any]:
        return {
            FORMAT_KEY: FORMAT_VERSION,
            "state": RUNNING if self._report is None else self._report.outcome,
            "durability": {
                "window_s": LOSS_WINDOW_S,
                "text": "what is older than this survives the death of the process; a power cut can "
                "cost, beyond that, what the operating system had not yet brought to the disk; the "
                "journal is on the disk line by line",
            },
            **self._header,
            "report": None if self._report is None else plain(self._report),
        }

    # ---------------------------------------------------------------------- publication

    def _publish_on_time(self) -> None:
        """Publish on time until told to stop, or until it fails."""
        while not self._stop.wait(PUBLISH_PERIOD_S):
            began = time.monotonic()
            try:
                self._publish()
            except StoreError as error:
                self._fail(error)
                return
            took = time.monotonic() - began
            if took > LOSS_WINDOW_S - PUBLISH_PERIOD_S:
                logger.warning("the disk is slow: publishing %s took %.2f s", self.path, took)

    def publish(self) -> None:
        """Show all readers everything that was appended, now; raises StoreError."""
        self._check()
        try:
            self._publish(force=True)
        except StoreError as error:
            self._fail(error)
            raise

    def _publish(self, *, force: bool = False, sync: bool = False) -> None:
        try:
            self._publisher.publish(force=force, sync=sync)
        except StoreError:
            raise
        except Exception as error:
            # whatever it is: a dead publisher must end the run, not hide
            logger.exception("publication of %s failed", self.path)
            raise StoreError(f"{self.path} cannot be published: {error!r}.") from error

    def _fail(self, error: StoreError) -> None:
        if self._failure is None:
            self._failure = error
            logger.error("%s", error)
            if self._reserve is not None:
                # room for the reason: the journal's last lines and the report
                self._reserve.release()

    def _check(self) -> None:
        if self._failure is not None:
            raise StoreError(str(self._failure)) from self._failure
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
            stream = FrameStream(self.zarr_path, kind, spec)
            self._publish_with(stream.group)
            self._frames[spec.name] = stream

    def declare_estimates(
        self, name: str, quantities: tuple[Quantity, ...], columns: Mapping[str, str]
    ) -> None:
        """Make the groups of an estimator; raises StoreError."""
        self._check()
        with self._declaring:
            if name not in self._estimates:
                stream = EstimateStream(self.zarr_path, name, quantities, columns)
                self._publish_with(*stream.groups)
                self._estimates[name] = stream

    def declare_rows(self, table: str, units: Mapping[str, str]) -> None:
        """Make the group of a table; raises StoreError."""
        self._check()
        if check_name(table, "a table") in RESERVED:
            raise StoreError(f"{table!r} cannot be the name of a table: it has another meaning.")
        with self._declaring:
            if table not in self._tables:
                columns = [ColumnSpec("time", unit="s", long_name="time on the run's clock")]
                for name, unit in units.items():
                    kind = Kind.WORD if unit == "text" else Kind.NUMBER
                    columns.append(ColumnSpec(name, kind, unit, name.replace("_", " ")))
                group = GrowingGroup(self.zarr_path, table, "time", columns)
                self._publish_with(group)
                self._tables[table] = group

    def _publish_with(self, *groups: GrowingGroup) -> None:
        for group in groups:
            self._publisher.add(group)
        self.publish()

    # -------------------------------------------------------------------------- records

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Write a frame; its data has left the process when this returns.

        A jump of the index that nobody announced is recorded as a gap.

        Raises:
            StoreError: it could not be written, or does not fit its declaration.
        """
        self._check()
        stream = self._stream(frame.stream)
        if frame.index < stream.next_index:
            raise StoreError(
                f"frame {frame.index} of {frame.stream!r} came after frame "
                f"{stream.next_index - 1}: frames must come in order, each once."
            )
        for index in range(stream.next_index, frame.index):
            self.gap(frame.stream, index, "it never came")
        try:
            stream.append(frame, context)
        except StoreError as error:
            self._fail(error)
            raise

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

    def gap(self, stream: str, index: int, reason: str) -> None:
        """Record that frame ``index`` of a stream is missing; raises StoreError."""
        self._check()
        frames = self._stream(stream)
        frames.skip(index)
        with self._declaring:
            if self._gaps is None:
                self._gaps = GrowingGroup(
                    self.zarr_path,
                    GAPS,
                    "row",
                    [
                        ColumnSpec("stream", Kind.WORD, long_name="stream that lacks a frame"),
                        ColumnSpec("frame_index", Kind.COUNT, long_name="number of that frame"),
                        ColumnSpec("reason", Kind.WORD, long_name="why it is missing"),
                    ],
                )
                self._publisher.add(self._gaps)
            self._gaps.append({"stream": stream, "frame_index": index, "reason": reason})
        details = {"stream": stream, "frame_index": index, "reason": reason}
        self.note(
            Note("gap", float("nan"), f"frame {index} of {stream} is missing: {reason}", details)
        )

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
            self._fail(error)
            self._journal.write(note)

    def _stream(self, name: str) -> FrameStream:
        stream = self._frames.get(name)
        if stream is None:
            raise StoreError(f"stream {name!r} was not declared in {self.path}.")
        return stream
