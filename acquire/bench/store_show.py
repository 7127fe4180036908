"""How long a live run takes to open, and how old its records are when they show."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from acquire.bench.store_live import child, newest, until_stdin_closes
from acquire.bench.store_pace import Measured, open_writer, singles, ticks
from acquire.bench.store_run import STREAM, header, report
from acquire.bench.store_work import CHANNEL, IMAGES, WORKS, Work
from acquire.errors import HotstageError
from acquire.instruments import AnyArray, Frame
from acquire.store import RunWriter, StoreSettings, open_run
from acquire.stream import FrameBlock, FrameContext


def visible(
    work: Work, source_path: Path, folder: Path, per_s: float, records: int, seconds: float
) -> Measured:
    """How long a live run of so many records takes to open, and how old records are when they show.

    The process has opened a run before, so that its libraries are imported: ``cold_open_s`` is what
    that took.
    """
    cold_open_s = _open_small(work, source_path, folder.with_name("small"))
    arguments = [work.name, str(source_path), str(folder), str(per_s), str(records)]
    with child([sys.executable, "-P", "-m", __name__, *arguments]) as feeder:
        assert feeder.stdout is not None
        if feeder.stdout.readline().strip() != b"ready":
            raise HotstageError("the writer of a live run failed; see above.")
        began = time.perf_counter()
        run = open_run(folder)
        seen, _, _ = newest(run, work)
        open_s = time.perf_counter() - began
        ages: list[float] = []
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            run.refresh()
            count, _, _ = newest(run, work)
            now_s = time.time()
            if count > seen:
                # the first that had not shown before is the oldest of them
                data = run.images(STREAM) if work.kind == IMAGES else run.spectra(STREAM)
                ages.append(now_s - run.header.epoch_unix_s - float(data["time"].values[seen]))
                seen = count
            time.sleep(0.005)
    if len(ages) < 2:
        raise HotstageError("a live run did not grow while it was read.")
    return {
        "open_s": open_s,
        "cold_open_s": cold_open_s,
        "records": records,
        "worst_age_s": max(ages[1:]),  # the first ones came while it was opened
        "median_age_s": float(np.median(ages[1:])),
    }


def feed(work: Work, source: list[AnyArray], folder: Path, per_s: float, records: int) -> None:
    """Write so many records at once, then go on by the clock until standard input closes."""
    closed = until_stdin_closes()
    zero_s = time.time()
    writer = RunWriter(folder, StoreSettings())
    writer.open(header(zero_s))
    writer.declare_frames(work.kind, work.spec(STREAM, per_s=per_s))
    done = 0
    while done < records:
        piece = source[done // work.rows % len(source)]
        times = np.full(len(piece), time.time() - zero_s) + np.arange(len(piece)) * 1e-9
        writer.append_block(FrameBlock(STREAM, done, {CHANNEL: piece}, times, times, {}, done))
        done += len(piece)
    writer.publish()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    singly = singles(source)
    for due in ticks(per_s, 2**40):
        for number in due:
            now_s = time.time() - zero_s
            record = singly[number % len(singly)]
            frame = Frame(STREAM, done + number, {CHANNEL: record}, now_s, now_s)
            writer.append_frame(frame, FrameContext(900.0, 901.0, 1.0, number))
        if closed.is_set():
            break
    writer.close(report())


def _open_small(work: Work, source_path: Path, folder: Path) -> float:
    piece = work.read_source(source_path)[0]
    times = np.arange(float(len(piece)))
    with open_writer(folder, work) as writer:
        writer.append_block(FrameBlock(STREAM, 0, {CHANNEL: piece}, times, times))
    began = time.perf_counter()
    newest(open_run(folder), work)
    return time.perf_counter() - began


if __name__ == "__main__":
    _work, _source = WORKS[sys.argv[1]], Path(sys.argv[2])
    feed(_work, _work.read_source(_source), Path(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
