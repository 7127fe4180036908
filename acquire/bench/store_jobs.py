"""One measurement, in a process and a folder of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from acquire.bench.store_live import sustain
from acquire.bench.store_pace import Measured, grow, memory, pace
from acquire.bench.store_peers import (
    PEERS,
    Stopwatch,
    Writer,
    check,
    h5py_rows,
    read_raw,
    write_raw,
    zarr_rows,
)
from acquire.bench.store_run import array_path
from acquire.bench.store_show import visible
from acquire.bench.store_work import CHANNEL, WORKS, Work
from acquire.errors import HotstageError
from acquire.instruments import AnyArray

RAW, APPENDER, WHOLE = "raw", "appender", "whole"
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured."""

    measure: str
    """``write``, ``pace``, ``grow``, ``memory``, ``sustain`` or ``visible``."""
    work: str
    source: str
    """File of the work's pieces."""
    writer: str = ""
    """Who writes, for ``write``."""
    threads: int = 2
    check_every: int = 1
    """Of so many pieces one is read back and compared."""
    seconds: float = 10.0
    scale: float = 1.0
    """This part of the work's records."""
    count: int = 0
    """How many records, where that is not told by the work."""
    per_s: float = 0.0


def measure(job: Job, place: Path) -> Measured:
    """Have a new process do a job in a new folder below ``place``, which is removed afterwards.

    Raises:
        HotstageError: it failed, or wrote what is not right.
    """
    folder = Path(tempfile.mkdtemp(prefix="job-", dir=place))
    try:
        found = subprocess.run(
            [sys.executable, "-P", "-m", __name__, json.dumps(asdict(job)), str(folder / "out")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S + 2 * job.seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HotstageError(f"{job} took longer than {error.timeout:.0f} s.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = found.stdout.decode(errors="replace").splitlines()
    if found.returncode or not lines:
        said = found.stderr.decode(errors="replace").strip().splitlines()
        raise HotstageError(f"{job} failed: {said[-1] if said else found.returncode}")
    measured: Measured = json.loads(lines[-1])
    return measured


def do(job: Job, folder: Path) -> Measured:
    """Do a job in this process; raises HotstageError if what was written is not right."""
    work = WORKS[job.work].part(job.scale)
    source_path = Path(job.source)
    source = work.read_source(source_path)
    if job.measure == "write":
        return _write(job, work, source, folder)
    if job.measure == "pace":
        return pace(work, source, folder, job.seconds)
    if job.measure == "grow":
        return grow(work, source, folder, job.count)
    if job.measure == "memory":
        return memory(work, source, folder)
    if job.measure == "sustain":
        return sustain(work, source, source_path, folder, job.seconds)
    return visible(work, source_path, folder, job.per_s, job.count, job.seconds)


def _write(job: Job, work: Work, source: list[AnyArray], folder: Path) -> Measured:
    writer = _writer(job.writer)
    watch = Stopwatch()
    writer(work, source, folder, job.threads, watch)
    if job.writer == RAW:
        check_length = read_raw(work, folder)
        if check_length != work.count:
            raise HotstageError(f"{check_length} of {work.count} records are in the plain file.")
    elif job.writer == "h5py":
        with h5py_rows(folder, work) as (length, rows):
            check(work, source, length, rows, job.check_every)
    else:
        places = {WHOLE: array_path(folder, work), "acquire-zarr": folder / CHANNEL}
        with zarr_rows(places.get(job.writer, folder), work) as (length, rows):
            check(work, source, length, rows, job.check_every)
    return {
        "wall_s": watch.wall_s,
        "cpu_s": watch.cpu_s,
        "gb_per_s": work.nbytes / watch.wall_s / 1e9,
    }


def _writer(name: str) -> Writer:
    if name in PEERS:
        return PEERS[name][1]
    if name == RAW:
        return write_raw
    # here, because the engine takes a while to import
    from acquire.bench.store_own import write_appender, write_whole

    return {APPENDER: write_appender, WHOLE: write_whole}[name]


def _main(text: str, folder: str) -> None:
    sys.stdout.write(json.dumps(do(Job(**json.loads(text)), Path(folder))) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
