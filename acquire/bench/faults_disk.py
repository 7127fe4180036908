"""Takes the disk away from a writing process: full, read-only, forbidden, deleted; and its wall clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

from acquire.bench.faults_check import Outcome
from acquire.bench.faults_kill import any_job, judged, writing
from acquire.bench.faults_writer import START_S, Writer
from acquire.store import open_run

END_S = 20.0
"""How long a writer may take to end after it met a fault."""
NOBODY = 65534
"""A user who owns nothing, on any POSIX system."""


class NotHere(Exception):
    """A fault cannot be made on this machine, and why."""


@contextmanager
def small_disk(place: Path, size_kb: int) -> Iterator[Callable[[str], None]]:
    """A file system of its own at ``place``; gives a function that mounts it anew with options.

    Raises:
        NotHere: mounting is not allowed.
    """
    place.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(place))
    try:
        yield lambda options: _mount("-o", f"remount,{options}", str(place))
    finally:
        _run("umount", str(place))


def _mount(*arguments: str) -> None:
    try:
        _run("mount", *arguments)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        raise NotHere(f"mounting is not allowed here ({said.decode().strip()})") from error


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


# -------------------------------------------------------------------------------- full disks


def fill_disk(folder: Path, random: Random) -> Outcome:
    """A disk that is full after some megabytes, at any write of the store."""
    # the smallest take no run at all, the largest some hundred images
    size_kb = int(600 * 2 ** (6.5 * random.random() ** 0.5))
    with small_disk(folder, size_kb) as remount:
        run = folder / "run"
        job = replace(any_job(run, random), side=256)
        writer = Writer(job)
        try:
            at = _ended_by(writer, ("disk is full",), time.time() + START_S)
            recorded = (run / "run.zarr" / "zarr.json").exists()
            remount("size=256m")  # somebody makes room
            if not recorded:
                return Outcome(problems=_unclear(writer, ("disk is full",)))
            state = open_run(run).state
            found = judged(writer, at)
        finally:
            writer.close()
    found.problems += _unclear(writer, ("disk is full",))
    if state != "failed":
        found.problems.append(f"the full disk left no room for the reason: the run is {state!r}")
    return found


def limit_files(folder: Path, random: Random) -> Outcome:
    """Files that may not grow beyond a size, from a random moment on."""
    if not hasattr(os, "geteuid"):
        raise NotHere("file size limits are POSIX")
    most = random.choice([64, 4096, 40_000, 200_000])
    job = replace(any_job(folder, random), file_limit=(random.uniform(0.2, 1.5), most))
    with writing(job) as writer:
        at = _ended_by(writer, ("disk is full",), time.time() + START_S)
    found = judged(writer, at)
    found.problems += _unclear(writer, ("disk is full",))
    return found


# ------------------------------------------------------------------- disks that refuse or go


def refuse_from_the_start(folder: Path, random: Random) -> Outcome:
    """A disk that is read-only when the run begins."""
    with small_disk(folder, 4000) as remount:
        remount("ro")
        writer = Writer(any_job(folder / "run", random))
        try:
            _ended_by(writer, _DENIED, time.time() + START_S)
        finally:
            writer.close()
        problems = _unclear(writer, _DENIED)
        if (folder / "run").exists():
            problems.append("something was written to a read-only disk")
        return Outcome(problems=problems)


def make_read_only(folder: Path, random: Random) -> Outcome:
    """A disk that becomes read-only under a run."""
    with small_disk(folder, 256_000), writing(any_job(folder / "run", random)) as writer:
        time.sleep(random.uniform(0.0, 1.5))
        run = folder / "run"
        # a mount of its own: the kernel refuses to remount one that has files open for writing
        _mount("--bind", str(run), str(run))
        try:
            at = time.time()
            _mount("-o", "remount,bind,ro", str(run))
            _ended_by(writer, _DENIED, at + END_S)
        finally:
            writer.close()
            _run("umount", str(run))
        found = judged(writer, at)
    found.problems += _unclear(writer, _DENIED)
    return found


def take_permission(folder: Path, random: Random) -> Outcome:
    """Folders and files that may not be written any more."""
    if not hasattr(os, "geteuid"):
        raise NotHere("permissions of this kind are POSIX")
    folder.mkdir()
    job = any_job(folder / "run", random)
    if os.geteuid() == 0:  # who may do everything, and notices nothing
        os.chown(folder, NOBODY, NOBODY)
        job = replace(job, user=NOBODY)
    with writing(job) as writer:
        time.sleep(random.uniform(0.0, 1.5))
        at = time.time()
        places = [folder, *folder.rglob("*")]
        modes = [(place, place.stat().st_mode) for place in places if place.suffix != ".partial"]
        for place, mode in modes:
            _set_mode(place, mode & ~0o222)
        _ended_by(writer, _DENIED, at + END_S)
        for place, mode in modes:
            _set_mode(place, mode)
    found = judged(writer, at)
    found.problems += _unclear(writer, _DENIED)
    return found


def _set_mode(place: Path, mode: int) -> None:
    # what was there a moment ago may have been replaced
    with suppress(FileNotFoundError):
        place.chmod(mode)


def delete_folder(folder: Path, random: Random) -> Outcome:
    """A run whose folder is deleted under it."""
    with writing(any_job(folder, random)) as writer:
        time.sleep(random.uniform(0.0, 1.5))
        at = time.time()
        give_up = time.monotonic() + END_S
        while folder.exists() and time.monotonic() < give_up:
            shutil.rmtree(folder, ignore_errors=True)  # again where something came meanwhile
        _ended_by(writer, _GONE, at + END_S)
    problems = _unclear(writer, _GONE)
    if left := [str(p.relative_to(folder)) for p in folder.rglob("*")] if folder.exists() else []:
        problems.append(f"the deleted folder came back with {left[:3]}")
    return Outcome(problems=problems)


def move_folder(folder: Path, random: Random) -> Outcome:
    """A run whose folder is moved away under it: what was there stays whole."""
    with writing(any_job(folder, random)) as writer:
        time.sleep(random.uniform(0.0, 1.5))
        elsewhere = folder.with_name(folder.name + "-moved")
        at = time.time()
        folder.rename(elsewhere)
        _ended_by(writer, _GONE, at + END_S)
    found = judged(writer, at, elsewhere)
    found.problems += _unclear(writer, _GONE)
    if folder.exists():
        found.problems.append("the moved folder came back")
    return found


# ---------------------------------------------------------------------------------- the clock


def set_clock_back(folder: Path, random: Random) -> Outcome:
    """A wall clock that is set back by an hour; some runs end well after it, some are killed."""
    job = replace(any_job(folder, random), clock_back=(random.uniform(0.2, 1.0), 3600.0))
    killed = random.random() < 0.5
    with writing(job if killed else replace(job, seconds=2.5)) as writer:
        if killed:
            time.sleep(random.uniform(1.5, 3.0))
            return judged(writer, writer.kill())
        problems = [] if writer.wait(END_S) == 0 else ["it did not end"]
    # nothing may be lacking from a run that was closed, however new
    found = judged(writer, time.time() + 60.0)
    found.problems += problems
    if (state := open_run(folder).state) != "completed":
        found.problems.append(f"the run is {state!r} after its end")
    return found


# ------------------------------------------------------------------------------------- ends

_DENIED = ("may not be written",)
_GONE = ("could not be written", "Check that the folder still exists")


def _ended_by(writer: Writer, words: tuple[str, ...], give_up_unix_s: float) -> float:
    """Wait until it has ended by itself; returns when it met the fault."""
    writer.wait(max(0.1, give_up_unix_s - time.time()))
    return min((wall_s for _, wall_s in writer.said.values()), default=time.time())


def _unclear(writer: Writer, words: tuple[str, ...]) -> list[str]:
    """What is wrong with the end of a writer that met a fault."""
    problems: list[str] = []
    if (status := writer.wait(0.1)) != 0:
        problems.append(
            f"the writer did not end by itself (status {status}): {writer.errors[-300:]}"
        )
        return problems
    failed = writer.said.get("failed", ("", 0.0))[0]
    if not all(word in failed for word in words):
        problems.append(f"the error does not say {words}: {failed!r}")
    # two threads may meet the fault at once, each in a place of its own
    closed = writer.said.get("closed", ("", 0.0))[0]
    if not all(word in closed for word in words):
        problems.append(f"close does not say {words}: {closed!r}")
    if "told" in writer.said and (late := writer.said["failed"][1] - writer.said["told"][1]) > 0.5:
        problems.append(f"{late:.1f} s passed between the error and the end")
    if "Traceback" in writer.errors:
        problems.append(f"the writer broke: {writer.errors[-300:]}")
    return problems
