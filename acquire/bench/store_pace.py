"""Records that come at their own pace: what the acquisition thread waits, and what memory is taken."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from acquire.bench.store_run import STREAM, header, report
from acquire.bench.store_work import CHANNEL, IMAGES, LARGE, Work
from acquire.instruments import AnyArray, Frame
from acquire.store import RunWriter, StoreSettings
from acquire.stream import FrameContext

Measured = dict[str, float]

_TICK_S = 0.001
"""Records that come faster come several at a time: a sleep costs more than an append."""
_SAMPLE_S = 0.002


def ticks(per_s: float, count: int) -> Iterator[range]:
    """Numbers of the records that are due, whenever some are."""
    began, done = time.perf_counter(), 0
    at_once = max(1, math.ceil(per_s * _TICK_S))
    while done < count:
        wait = began + done / per_s - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        due = range(done, min(done + at_once, count))
        yield due
        done = due.stop


def singles(source: list[AnyArray]) -> list[AnyArray]:
    """The source's records one by one, read-only as instruments give them."""
    return [record for piece in source for record in piece]


@contextmanager
def open_writer(
    folder: Path, work: Work, *, per_s: float | None = None, epoch_unix_s: float = 0.0
) -> Iterator[RunWriter]:
    """A run of one stream, closed well."""
    writer = RunWriter(folder, StoreSettings())
    writer.open(header(epoch_unix_s))
    writer.declare_frames(work.kind, work.spec(STREAM, per_s=per_s))
    try:
        yield writer
    finally:
        writer.close(report())


def append_paced(
    append: Callable[[Frame, FrameContext], None],
    records: list[AnyArray],
    per_s: float,
    count: int,
    on_record: Callable[[int], None] = lambda number: None,
) -> list[int]:
    """Append so many records on time; returns how many nanoseconds each call took."""
    gc.collect()  # what importing left must not be looked through in one of the calls
    took: list[int] = []
    for due in ticks(per_s, count):
        for number in due:
            t_s = number / per_s
            frame = Frame(STREAM, number, {CHANNEL: records[number % len(records)]}, t_s, t_s)
            context = FrameContext(900.0, 901.0, 1.0, number)
            began = time.perf_counter_ns()
            append(frame, context)
            took.append(time.perf_counter_ns() - began)
            on_record(number)
    return took


def pace(work: Work, source: list[AnyArray], folder: Path, seconds: float) -> Measured:
    """Latency of the append call in ms, and cores used beyond those of the loop that calls it.

    The largest images come in a buffer that the camera may use again, so that the call must copy
    them; ``beyond_copy_ms`` is its p99 less that of the same copies alone, at the same pace.
    """
    records = singles(source)
    idle: Callable[[Frame, FrameContext], None] = lambda frame, context: None  # noqa: E731
    if work.name == LARGE.name:
        records = [np.array(record)[:] for record in records]
        idle = _Copies(records[0])
    count = max(20, int(seconds * work.per_s))
    before = time.process_time()
    idle_ms = np.array(append_paced(idle, records, work.per_s, count)) / 1e6
    idle_s = time.process_time() - before
    copy_p99 = float(np.percentile(idle_ms, 99)) if isinstance(idle, _Copies) else 0.0
    with open_writer(folder, work) as writer:
        before, began = time.process_time(), time.perf_counter()
        took = np.array(append_paced(writer.append_frame, records, work.per_s, count)) / 1e6
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - before
    p50, p99 = np.percentile(took, [50, 99])
    return {
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "cores": (cpu_s - idle_s) / wall_s,
        "cores_with_loop": cpu_s / wall_s,
        "copy_p99_ms": copy_p99,
        "beyond_copy_ms": float(p99) - copy_p99,
    }


class _Copies:
    """Takes records by copying them to memory that it has."""

    def __init__(self, like: AnyArray) -> None:
        self._targets = [np.zeros_like(like) for _ in range(4)]
        self._number = 0

    def __call__(self, frame: Frame, context: FrameContext) -> None:
        self._number += 1
        np.copyto(self._targets[self._number % len(self._targets)], frame.data[CHANNEL])


def grow(work: Work, source: list[AnyArray], folder: Path, count: int) -> Measured:
    """Whether the call, by its median, and the process grow over very many appends."""
    records = singles(source)
    process = psutil.Process()
    rss: dict[int, int] = {}
    tenth = count // 10

    def look(number: int) -> None:
        if number in (tenth, count - 1):
            rss[number] = process.memory_info().rss

    with open_writer(folder, work) as writer:
        took = append_paced(writer.append_frame, records, work.per_s, count, look)
    first, last = np.median(took[:tenth]), np.median(took[-tenth:])
    return {
        "last_to_first": float(last / first),
        "grown_mb": (rss[count - 1] - rss[tenth]) / 1e6,
        "appends": count,
    }


def memory(work: Work, source: list[AnyArray], folder: Path) -> Measured:
    """The most memory that the writer takes when records, each in memory of its own, come flat out.

    Without what the process had before the writer was made, in MB; ``beyond_frames_mb`` is less two
    frames.
    """
    records = singles(source)
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def sample() -> None:
        nonlocal peak
        while not done.wait(_SAMPLE_S):
            peak = max(peak, process.memory_info().rss)

    sampler = threading.Thread(target=sample, name="memory")
    sampler.start()
    with open_writer(folder, work) as writer:
        for number in range(2 * work.count if work.kind == IMAGES else work.count):
            data = records[number % len(records)].tobytes()
            record = np.frombuffer(data, records[0].dtype).reshape(work.shape)
            frame = Frame(STREAM, number, {CHANNEL: record}, float(number), float(number))
            writer.append_frame(frame, FrameContext(900.0, 901.0, 1.0, number))
            del frame, record, data
        fullness = writer.highest_fullness
    done.set()
    sampler.join()
    taken = (peak - before) / 1e6
    frames = 2 * work.record_bytes / 1e6
    return {"peak_mb": taken, "beyond_frames_mb": taken - frames, "fullness": fullness}
