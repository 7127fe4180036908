"""Kills and freezes the programs of a run on the simulated station: engine, its host, instrument server."""

from __future__ import annotations

import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
import zarr

from acquire.bench.faults_check import WINDOW_S, Outcome, frames_in_gaps, keep
from acquire.engine.client import HostClient
from acquire.errors import HotstageError
from acquire.instruments import HolderState
from acquire.remote import attach
from acquire.remote.launch import LINGER_S
from acquire.station import OpenStation
from acquire.store import ZARR_NAME, open_run

RECIPE = """
hotstage: 1
name: to be killed
limits: {temperature: 900 °C}
safe_state: {heater: {cool: {to: 25 °C, rate: 100 °C/s}}}
record:
  overview: {scan: {detectors: [haadf, abf], size: 128, field_of_view: 80 nm, dwell_time: 2 µs}, every: 1 s}
  chip: {holder: {every: 200 ms}}
steps:
  - ramp: {to: 700 °C, rate: 5 °C/s}
  - hold: {for: 10 min}
"""
SHORT_RECIPE = RECIPE.replace("to: 700 °C", "to: 60 °C").replace("10 min", "20 s")
HOLDER_EVERY_S = 0.2
SAFE = (HolderState.MAKING_SAFE, HolderState.OFF, HolderState.TRIPPED)
SAFE_S = 2.5
"""The lease of a dead or frozen engine, and half a second."""
START_S = 90.0
END_S = 30.0
_BEAT_S = 0.3
"""Wall time between two records of the run, and their way to the engine, at most."""


class Program:
    """A running ``hotstage`` command whose words can be waited for."""

    def __init__(self, *arguments: object, before: Sequence[str] = ("-m", "acquire.cli")) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", *before, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        )
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="words", daemon=True)
        self._reader.start()

    def until(self, pattern: str, timeout_s: float = START_S) -> re.Match[str]:
        """The first line, from here on, that matches; raises HotstageError if none comes."""
        give_up = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, give_up - time.monotonic()))
            except queue.Empty:
                line = ""
            self.said.append(line)
            if found := re.search(pattern, line):
                return found
            if not line:
                raise HotstageError(f"{pattern!r} was not said: {''.join(self.said)[-500:]}")

    def server(self) -> psutil.Process:
        """The instrument server that it has started."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "acquire.remote" in child.cmdline():
                return child
        raise HotstageError("the program has no instrument server.")

    def signal(self, number: int) -> float:
        """Send a signal; returns the wall time just before."""
        at = time.time()
        self.process.send_signal(number)
        return at

    def kill(self) -> float:
        """As if its memory had been taken away; returns the wall time just before."""
        at = time.time()
        self.process.kill()
        self.process.wait(10.0)
        return at

    def wait(self, timeout_s: float) -> int | None:
        """Its exit status; None if it does not end in time."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10.0)
        self._reader.join(10.0)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")


@contextmanager
def run_of_its_own(folder: Path) -> Iterator[tuple[Program, OpenStation]]:
    """``hotstage run`` with a recipe that is being recorded, and somebody who watches the heater."""
    recipe = folder.with_name(folder.name + ".yaml")
    recipe.write_text(RECIPE, encoding="utf-8")
    program = Program("run", recipe, "-o", folder)
    try:
        address = program.until(r"Instrument server at (\S+);").group(1)
        program.until(r"running\s+1/2 ramp")
        with attach(address) as observer:
            yield program, observer
    finally:
        program.close()


@contextmanager
def hosted_run(folder: Path) -> Iterator[tuple[Program, OpenStation]]:
    """The same in an engine host, started by a client."""
    program = Program("host", "simulated")
    try:
        client = HostClient(program.until(r'"address": "([^"]+)"').group(1))
        try:
            client.start(RECIPE, str(folder))
            if not _until(lambda: client.status().frames.get("overview", 0) > 0, END_S):
                raise HotstageError(f"the host records nothing: {client.status().cause}")
            with attach(client.status().server_address) as observer:
                yield program, observer
        finally:
            client.close()
    finally:
        program.close()


def kill_engine(folder: Path, random: Random) -> Outcome:
    """``kill -9`` of the program that runs the recipe, alone or as a host."""
    start = random.choice([run_of_its_own, hosted_run])
    with start(folder) as (program, observer):
        server = program.server()
        time.sleep(random.uniform(0.0, 3.0))
        at = program.kill()
        safe_s = _until_safe(observer, at)
        found = look_at_run(folder, at)
        _until(lambda: observer.holder.read().state is HolderState.OFF, END_S)
    _judge_safety(found, safe_s)
    if not _until(lambda: _gone(server), LINGER_S + END_S):
        found.problems.append("the instrument server stays behind for ever")
        server.kill()
    keep_run(folder, found)
    return found


def freeze_engine(folder: Path, random: Random) -> Outcome:
    """SIGSTOP of the engine: its lease lapses; then it is killed, or goes on and ends its run."""
    killed = random.random() < 0.5
    with run_of_its_own(folder) as (program, observer):
        time.sleep(random.uniform(0.0, 2.0))
        at = program.signal(signal.SIGSTOP)
        safe_s = _until_safe(observer, at)
        if killed:
            program.kill()
        else:
            program.signal(signal.SIGCONT)
        status = program.wait(END_S)
    found = look_at_run(folder, at)
    _judge_safety(found, safe_s)
    if not killed:
        _judge_end(found, folder, status, program)
    keep_run(folder, found)
    return found


def kill_server(folder: Path, random: Random) -> Outcome:
    """``kill -9`` of the instrument server: the run must end as failed, and be whole.

    A simulated heater dies with its server. Nothing restarts the server, so that a real heater
    would keep what its controller does without one.
    """
    with run_of_its_own(folder) as (program, _):
        server = program.server()
        time.sleep(random.uniform(0.0, 3.0))
        at = time.time()
        server.kill()
        status = program.wait(END_S)
    found = look_at_run(folder, at)
    _judge_end(found, folder, status, program)
    keep_run(folder, found)
    return found


def set_clock_back(folder: Path, random: Random) -> Outcome:
    """A wall clock that is set back by an hour during a run, which must not notice."""
    recipe = folder.with_name(folder.name + ".yaml")
    recipe.write_text(SHORT_RECIPE, encoding="utf-8")
    after_s = random.uniform(2.0, 5.0)  # while it starts, or while it records
    program = Program(
        *("run", recipe, "-o", folder),
        before=("-m", "acquire.bench.faults_clock", f"{after_s}", "3600"),
    )
    try:
        status = program.wait(START_S)
    finally:
        program.close()
    run = open_run(folder)
    end_s = run.report.t_end_s if run.report is not None else math.nan
    found = look_at_run(folder, run.header.epoch_unix_s + end_s / run.header.clock_rate)
    if status != 0 or run.state != "completed":
        found.problems.append(f"status {status}, {run.state}: {''.join(program.said)[-300:]}")
    if (pace_s := end_s / max(run.holder.sizes["time"], 1)) > 2 * HOLDER_EVERY_S:
        found.problems.append(f"the holder was read every {pace_s:.2f} s, not {HOLDER_EVERY_S} s")
    keep_run(folder, found)
    return found


# -------------------------------------------------------------------------------- judgement


def look_at_run(folder: Path, ended_unix_s: float) -> Outcome:
    """What a plain reader finds in a run of the simulated station that ended at a wall time."""
    found = Outcome(ended_unix_s=ended_unix_s)
    try:
        root = zarr.open_group(folder / ZARR_NAME, mode="r")
        attributes: dict[str, Any] = root.attrs.asdict()
        images, holder = _columns(root, "images/overview/full"), _columns(root, "holder")
        gaps = frames_in_gaps(root)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        found.problems.append(f"unreadable: {type(error).__name__}: {error}")
        return found
    for place, columns in (("images", images), ("holder", holder)):
        if len({len(values) for values in columns.values()}) > 1:
            found.problems.append(f"the arrays of {place} have different lengths")
        if not np.all(np.diff(columns["time"]) > 0):
            found.problems.append(f"the times of {place} do not rise")
        found.readable += len(columns["time"])
    dark = np.zeros(len(images["time"]), bool)
    for name in ("haadf", "abf"):
        dark |= ~images[name].any(axis=(1, 2))
    dark |= ~np.isfinite(images["temperature_before"])
    found.wrong += int(dark.sum()) + int((~np.isfinite(holder["measured"])).sum())
    present = images["frame_index"].tolist()
    if unsaid := set(range(max(present, default=-1) + 1)) - set(present) - gaps:
        found.wrong += len(unsaid)
        found.problems.append(f"images {sorted(unsaid)[:5]} are missing without a recorded gap")
    # the newest record on the wall, whatever the speed of the simulation
    newest_s = max(
        float(columns["time"][-1]) for columns in (images, holder) if len(columns["time"])
    )
    newest_unix_s = attributes["epoch_unix_s"] + newest_s / attributes["clock_rate"]
    found.worst_s = max(0.0, ended_unix_s - newest_unix_s - _BEAT_S)
    found.old = [(found.worst_s, 1)] if found.worst_s > WINDOW_S else []
    return found


def _columns(root: zarr.Group, place: str) -> dict[str, Any]:
    group: Any = root[place]
    return {
        name: np.asarray(array[:])
        for name, array in group.arrays()
        if array.metadata.dimension_names[0] == "time"
    }


def keep_run(folder: Path, found: Outcome) -> None:
    """Recover and verify; what is wrong then is added to ``found``."""
    keep(folder, None, found, {}, 0.0)


def _judge_safety(found: Outcome, safe_s: float) -> None:
    found.safe_s = safe_s
    if safe_s > SAFE_S:
        found.problems.append(f"the heater was not safe for {safe_s:.1f} s; {SAFE_S} s are allowed")


def _judge_end(found: Outcome, folder: Path, status: int | None, program: Program) -> None:
    """The program must have ended its run by itself, as failed, with a report."""
    report = open_run(folder).report
    if status != 1 or report is None or report.outcome != "failed" or not report.cause:
        found.problems.append(
            f"no clear end: status {status}, report {report}: {''.join(program.said)[-300:]}"
        )


def _until_safe(observer: OpenStation, since_unix_s: float) -> float:
    """Seconds since then until the heater was safe and the beam blanked; infinity if it never was."""
    reached = _until(
        lambda: observer.holder.read().state in SAFE and observer.scan.blanked(), 2 * SAFE_S
    )
    return time.time() - since_unix_s if reached else math.inf


def _gone(process: psutil.Process) -> bool:
    try:
        # one whose parent was killed may wait to be buried
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _until(reached: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until something is so; False if it does not become so in time."""
    give_up, pause = time.monotonic() + timeout_s, threading.Event()
    while not reached():
        if time.monotonic() > give_up:
            return False
        pause.wait(0.02)
    return True
