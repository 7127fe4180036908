"""A run at full rate for as long as is wanted, with estimates, while another process reads it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np

from acquire.bench.store_pace import Measured, append_paced, open_writer, singles
from acquire.bench.store_run import STREAM
from acquire.bench.store_work import CHANNEL, IMAGES, WORKS, Work
from acquire.errors import HotstageError, StoreError
from acquire.instruments import AnyArray
from acquire.store import Run, open_run
from acquire.stream import Estimate, Quantity, Value

ESTIMATES_PER_S = 20.0
PARTICLES = 100
"""In the table of each estimate."""
LOOK_EVERY_S = 0.1
"""How often the reader of a long run looks at its newest record."""
_START_S = 60.0


def newest(run: Run, work: Work) -> tuple[int, float, AnyArray]:
    """How many records show, when the last of them was taken, and itself."""
    data = run.images(STREAM) if work.kind == IMAGES else run.spectra(STREAM)
    count = data.sizes["time"]
    if not count:
        return 0, float("nan"), np.empty(0)
    return count, float(data["time"].values[-1]), data[CHANNEL][-1].values


def sustain(
    work: Work, source: list[AnyArray], source_path: Path, folder: Path, seconds: float
) -> Measured:
    """Record on time for so long, with estimates, while another process reads.

    Raises:
        HotstageError: what can be read afterwards is not what was appended.
    """
    records = singles(source)
    count = int(seconds * work.per_s)
    every = max(1, round(work.per_s / ESTIMATES_PER_S))
    table = {"x_nm": np.arange(float(PARTICLES)), "diameter_nm": np.full(PARTICLES, 9.0)}
    worst_ms = 0.0
    with _reader(work, source_path, folder) as reader:
        with open_writer(folder, work) as writer:
            quantity = Quantity("mean_diameter", "nm", "mean diameter")
            units = {"x_nm": "nm", "diameter_nm": "nm"}
            writer.declare_estimates("particles", (quantity,), units)

            def estimate(number: int) -> None:
                if number % every == 0:
                    values = {"mean_diameter": Value(9.0, 0.1)}
                    t_s = number / work.per_s
                    writer.append_estimate(
                        Estimate("particles", STREAM, number, t_s, values, (), table)
                    )

            began = time.perf_counter()
            took = append_paced(writer.append_frame, records, work.per_s, count, estimate)
            late_s = time.perf_counter() - began - count / work.per_s
            worst_ms = max(took) / 1e6
            fullness = writer.highest_fullness
        looks, wrong = reader()
    lost = count - _right(work, records, folder)
    return {
        "records": count,
        "lost": lost,
        "fullness": fullness,
        "late_s": max(0.0, late_s),
        "worst_call_ms": worst_ms,
        "looks": looks,
        "wrong_looks": wrong,
    }


def _right(work: Work, records: list[AnyArray], folder: Path) -> int:
    """Records that are there, in their order; of a hundred the contents are compared."""
    run = open_run(folder)
    data = run.images(STREAM) if work.kind == IMAGES else run.spectra(STREAM)
    index = data["frame_index"].values
    if not np.array_equal(index, np.arange(len(index))) or run.gaps.sizes:
        raise HotstageError(f"{folder}: frames are missing, or not in their order.")
    for number in np.unique(np.linspace(0, len(index) - 1, 100).astype(int)):
        if not np.array_equal(data[CHANNEL][number].values, records[number % len(records)]):
            raise HotstageError(f"{folder}: record {number} is not what was appended.")
    return len(index)


@contextmanager
def _reader(work: Work, source: Path, folder: Path) -> Iterator[_Looks]:
    command = [sys.executable, "-P", "-m", __name__, work.name, str(source), str(folder)]
    with child(command) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it looks from now on: what it had to import is imported
        yield _Looks(process)


class _Looks:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def __call__(self) -> tuple[int, int]:
        """End the reader; returns how often it looked, and how often it saw what was not recorded."""
        out, _ = self._process.communicate(timeout=_START_S)
        if self._process.returncode:
            raise HotstageError("the reader of a run failed; see above.")
        looks, wrong = out.split()
        return int(looks), int(wrong)


@contextmanager
def child(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends, at the latest, when this does; it is told to by closing its input."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until_stdin_closes() -> Event:
    """Is set when the parent closes this process's standard input, or dies."""
    closed = Event()

    def read() -> None:
        sys.stdin.read()
        closed.set()

    Thread(target=read, daemon=True).start()
    return closed


def look(work: Work, source: list[AnyArray], folder: Path) -> tuple[int, int]:
    """Look at the newest record of a run, again and again, until standard input closes."""
    closed = until_stdin_closes()
    records = singles(source)
    looks = wrong = 0
    run: Run | None = None
    while not closed.wait(LOOK_EVERY_S):
        try:
            if run is None:
                run = open_run(folder)
            run.refresh()
            if STREAM not in run.streams:
                continue
        except StoreError:
            if run is not None:
                raise
            continue  # it is not there yet
        count, _, record = newest(run, work)
        if count:
            looks += 1
            wrong += not np.array_equal(record, records[(count - 1) % len(records)])
    return looks, wrong


if __name__ == "__main__":
    _work, _source, _folder = WORKS[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _looks, _wrong = look(_work, _work.read_source(_source), _folder)
    sys.stdout.write(f"{_looks} {_wrong}\n")
