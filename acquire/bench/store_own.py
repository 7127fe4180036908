"""Our own writers on the same work: the shard appender alone, and the whole path of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from acquire.bench.store_peers import Stopwatch
from acquire.bench.store_run import STREAM, header, report
from acquire.bench.store_work import CHANNEL, IMAGES, Work
from acquire.clock import WallClock
from acquire.engine.context import RunContext
from acquire.engine.disk import DiskWatch
from acquire.engine.events import Dispatcher, EngineEvents
from acquire.engine.header import run_header
from acquire.engine.live import LiveView
from acquire.engine.monitor import HolderMonitor
from acquire.engine.recording import FrameRecorder
from acquire.instruments import AnyArray, Frame
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import PUBLISH_PERIOD_S, RunWriter, StoreSettings
from acquire.store.layout import ArrayLayout
from acquire.store.pool import WritePool
from acquire.store.shards import ShardedArray
from acquire.stream import FrameBlock


def write_appender(
    work: Work, source: list[AnyArray], folder: Path, threads: int, watch: Stopwatch
) -> None:
    """The shard appender alone, its indexes brought up to date as in a run."""
    channel = work.spec(STREAM).channels[CHANNEL]
    layout = ArrayLayout.of_frames(
        channel.dtype, ("time", *work.dims), work.shape, 1 / work.per_s, "lz4", {}
    )
    pool = WritePool(threads)
    array = ShardedArray(folder, layout, pool)
    done = threading.Event()

    def flush_on_time() -> None:
        while not done.wait(PUBLISH_PERIOD_S):
            array.flush()

    flusher = threading.Thread(target=flush_on_time, name="flush")
    flusher.start()
    with watch.running():
        for piece in work.turn(source):
            array.append(piece)
        array.offer_partial()
        pool.settle()
        rows = array.flush()
    done.set()
    flusher.join()
    pool.close()
    array.close()
    head, tail = layout.text()
    (folder / "zarr.json").write_text(f"{head}{rows}{tail}", encoding="utf-8")


def write_whole(
    work: Work, source: list[AnyArray], folder: Path, threads: int, watch: Stopwatch
) -> None:
    """The whole path, until all is visible to readers.

    Images come as the engine records them: numbered, with the holder's temperature and the dose,
    also shown to the live view. Spectra come in blocks to the run's writer.
    """
    settings = StoreSettings(threads=threads)
    if work.kind == IMAGES:
        with recording(work, folder, settings) as (run, recorder):
            data = [{CHANNEL: piece[0]} for piece in source]
            # exposures that ended before the holder was read: nobody waits for its next reading
            start_s = run.zero_s
            with watch.running():
                for number in range(work.pieces):
                    t_s = start_s + 1e-9 * number
                    frame = Frame("scan", number, data[number % work.distinct], t_s, t_s)
                    recorder.record(frame, 1.0)
                writer = run.sink
                assert isinstance(writer, RunWriter)
                writer.publish()
        return
    writer = RunWriter(folder, settings)
    writer.open(header())
    writer.declare_frames(work.kind, work.spec(STREAM))
    offsets = np.arange(work.rows) / work.per_s
    celsius = np.full(work.rows, 900.0)
    with watch.running():
        for number, piece in enumerate(work.turn(source)):
            first = number * work.rows
            times = first / work.per_s + offsets
            columns = {"temperature_before_celsius": celsius, "dose_e_per_nm2": celsius}
            block = FrameBlock(STREAM, first, {CHANNEL: piece}, times, times, columns, first)
            writer.append_block(block)
        writer.publish()
    writer.close(report())


@contextmanager
def recording(
    work: Work, folder: Path, settings: StoreSettings
) -> Iterator[tuple[RunContext, FrameRecorder]]:
    """The engine's recorder of one stream, into a run folder, with the simulated holder being read."""
    recipe = Recipe(name="bench")
    with Station.load("simulated").open(WallClock()) as station:
        sink = RunWriter(folder, settings)
        run = RunContext(station, recipe, sink, LiveView(), Dispatcher(EngineEvents()))
        sink.on_failure(run.fail)
        sink.open(run_header(run))
        monitor = HolderMonitor(run, recipe.holder_period_s)
        recorder = FrameRecorder(
            run, monitor, DiskWatch(run, folder), work.kind, STREAM, work.spec("")
        )
        until = time.monotonic() + 5.0
        while monitor.latest.t_s <= 0 and time.monotonic() < until:
            monitor.fresh()
        try:
            yield run, recorder
        finally:
            monitor.close()
            sink.close(report(run.now_s()))
