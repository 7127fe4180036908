"""A process that writes a run and says what the store has taken, to be killed, stopped or starved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil

from acquire.bench.faults_clock import set_clock_back
from acquire.bench.faults_records import BLOCK, ESTIMATES, HOLDER, IMAGES, SPECTRA, Records
from acquire.bench.faults_records import ESTIMATE_EVERY as EVERY
from acquire.errors import HotstageError, StoreError
from acquire.store import RunWriter, StoreSettings
from acquire.stream import Note, RunReport

START_S = 60.0
"""How long a process may take to begin to write, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a writer shall do."""

    path: str
    side: int = 64
    frames_per_s: float = 100.0
    seconds: float = 0.0
    """End well after so long; 0: never."""
    codec: Literal["lz4", "zstd", "none"] = "lz4"
    threads: int = 2
    sync_every_s: float = 1.0
    file_limit: tuple[float, int] | None = None
    """After so many seconds, no file may grow beyond so many bytes."""
    clock_back: tuple[float, float] | None = None
    """After so many seconds, the wall clock is set back by so many."""
    user: int | None = None
    """Write as this user, who may not do everything."""

    @property
    def records(self) -> Records:
        """What is written."""
        return Records(self.side, self.frames_per_s)


class Writer:
    """The harness's side of a writing process."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.acks: dict[str, list[tuple[int, float]]] = {
            kind: [] for kind in (IMAGES, SPECTRA, HOLDER, ESTIMATES)
        }
        """Number, and wall time, of every record that the store took."""
        self.said: dict[str, tuple[str, float]] = {}
        """Other things that it said, and when: ``told``, ``failed``, ``closed``, ``broken``."""
        self.errors = ""
        """What it wrote to its standard error."""
        self._begun = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, json.dumps(asdict(job))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if os.name != "nt":
            # the store is tested, not what else this machine does; most users may not ask for that
            with suppress(psutil.AccessDenied, psutil.NoSuchProcess):
                psutil.Process(self._process.pid).nice(-10)
        self._reader = threading.Thread(target=self._read, name="acknowledged", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def until_begun(self) -> None:
        """Wait until it records; raises HotstageError if it does not."""
        if not self._begun.wait(START_S) or not self.acks[IMAGES]:
            self.kill()
            raise HotstageError(f"the writer did not begin: {self.errors or self.said or 'silent'}")

    def kill(self) -> float:
        """As if its memory had been taken away; returns the wall time just before."""
        at = time.time()
        self._process.kill()
        self.wait(10.0)
        return at

    def freeze(self) -> float:
        """Let it stand still; returns the wall time just before."""
        at = time.time()
        self._process.send_signal(signal.SIGSTOP)
        return at

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float) -> int | None:
        """Its exit status, once it has ended; None if it does not end in time."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(10.0)
        return status

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self.kill()

    def _read(self) -> None:
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None
        with out, err:
            for line in out:
                if not line.endswith(b"\n"):
                    break  # the last words of one who was killed
                kind, what, wall_s = json.loads(line)
                if kind in self.acks:
                    self.acks[kind].append((what, wall_s))
                    self._begun.set()
                else:
                    self.said[kind] = (what, wall_s)
            self._begun.set()
            self.errors = err.read().decode(errors="replace")


# --------------------------------------------------------------------- in the process itself


class _Work:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._records = job.records
        self._wall = time.time  # the true one, whatever becomes of it
        self._zero = time.monotonic()
        self._zero_unix_s = time.time()
        self._rows = self._blocks = 0

    def run(self) -> None:
        job = self._job
        settings = StoreSettings(job.codec, job.sync_every_s, "wait", job.threads)
        writer = RunWriter(job.path, settings)
        writer.on_failure(lambda error: self._say("told", str(error)))
        try:
            self._records.open(writer, self._zero_unix_s)
        except StoreError as error:
            self._say("failed", str(error))
            self._say("closed", str(error))
            return
        outcome = "completed"
        cause = ""
        try:
            self._append(writer)
        except StoreError as error:
            outcome, cause = "failed", str(error)
            self._say("failed", cause)
        try:
            if cause:
                writer.note(Note("fault", self._now_s(), cause))
        except StoreError as error:
            self._say("unsaid", str(error))
        try:
            writer.close(RunReport(outcome, cause, self._now_s(), {}))
            self._say("closed", "")
        except StoreError as error:
            self._say("closed", str(error))

    def _append(self, writer: RunWriter) -> None:
        job, records = self._job, self._records
        waiting = self._surprises()
        index = 0
        while not (job.seconds and self._now_s() > job.seconds):
            while waiting and self._now_s() > waiting[0][0]:
                waiting.pop(0)[1]()
            if not records.missing(index):
                writer.append_frame(records.image(index, self._now_s()), records.context(index))
                self._say(IMAGES, index)
                if index % EVERY == 0:
                    writer.append_estimate(records.estimate(index, self._now_s()))
                    self._say(ESTIMATES, index)
            elif records.announced_missing(index):
                writer.gap("overview", index, "the link was lost")
            if index % 2 == 0:
                writer.append_row(records.row(self._rows, self._now_s()))
                self._say(HOLDER, self._rows)
                self._rows += 1
            if index % 10 == 0:
                writer.append_block(records.block(self._blocks, self._now_s()))
                self._blocks += 1
                self._say(SPECTRA, self._blocks * BLOCK - 1)
            index += 1
            time.sleep(max(0.0, index / job.frames_per_s - self._now_s()))

    def _surprises(self) -> list[tuple[float, Callable[[], None]]]:
        """What befalls the process, and when."""
        job = self._job
        found: list[tuple[float, Callable[[], None]]] = []
        if job.file_limit is not None:
            after_s, most = job.file_limit
            found.append((after_s, lambda: _limit_files(most)))
        if job.clock_back is not None:
            after_s, by_s = job.clock_back
            found.append((after_s, lambda: set_clock_back(by_s)))
        return found

    def _now_s(self) -> float:
        return time.monotonic() - self._zero

    def _say(self, kind: str, what: int | str) -> None:
        os.write(1, json.dumps([kind, what, self._wall()]).encode() + b"\n")


def _limit_files(most_bytes: int) -> None:
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


def _main() -> None:
    raw: dict[str, Any] = json.loads(sys.argv[1])
    pairs = {key: tuple(raw[key]) for key in ("file_limit", "clock_back") if raw[key]}
    job = Job(**(raw | pairs))
    if job.user is not None:
        os.setgroups([])
        os.setgid(job.user)
        os.setuid(job.user)
    _Work(job).run()


if __name__ == "__main__":
    _main()
