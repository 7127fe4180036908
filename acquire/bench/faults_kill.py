"""Kills a writing process, or lets it stand still, at random moments."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from acquire.bench.faults_check import Outcome, keep, look
from acquire.bench.faults_records import IMAGES
from acquire.bench.faults_writer import Job, Writer


def any_job(path: Path, random: Random) -> Job:
    """A writer with one of the many layouts that the store knows."""
    return Job(
        str(path),
        # 32 and 64: several frames share a chunk; 256: none do
        side=random.choice([32, 64, 256]),
        codec=random.choice(["lz4", "lz4", "zstd", "none"]),
        threads=random.choice([1, 2, 3]),
        sync_every_s=random.choice([0.1, 1.0]),
    )


@contextmanager
def writing(job: Job) -> Iterator[Writer]:
    """A process that records, ended in any case."""
    writer = Writer(job)
    try:
        writer.until_begun()
        yield writer
    finally:
        writer.close()


def judged(writer: Writer, ended_unix_s: float, folder: Path | None = None) -> Outcome:
    """What a reader finds in the run of a writer that is gone, before and after recovery."""
    place = folder if folder is not None else Path(writer.job.path)
    records = writer.job.records
    found = look(place, records, writer.acks, ended_unix_s)
    keep(place, records, found, writer.acks, ended_unix_s)
    if "Traceback" in writer.errors:
        found.problems.append(f"the writer broke: {writer.errors[-300:]}")
    return found


def kill_writer(folder: Path, random: Random) -> Outcome:
    """``kill -9`` at a random moment of the first seconds."""
    with writing(any_job(folder, random)) as writer:
        time.sleep(random.uniform(0.0, 2.5))
        at = writer.kill()
    return judged(writer, at)


def freeze_writer(folder: Path, random: Random) -> Outcome:
    """SIGSTOP for a while; the run is read meanwhile, goes on, and is killed later."""
    job = any_job(folder, random)
    with writing(job) as writer:
        time.sleep(random.uniform(0.8, 2.0))
        at = writer.freeze()
        time.sleep(random.uniform(0.2, 1.5))
        acks = {kind: list(taken) for kind, taken in writer.acks.items()}
        frozen = look(folder, job.records, acks, at)
        writer.thaw()
        time.sleep(random.uniform(1.0, 2.0))
        at = writer.kill()
    found = judged(writer, at)
    found.problems += [f"while it stood still: {problem}" for problem in frozen.problems]
    found.wrong += frozen.wrong
    found.old += frozen.old
    if len(writer.acks[IMAGES]) <= len(acks[IMAGES]):
        found.problems.append("it did not go on after SIGCONT")
    return found


def freeze_and_kill_writer(folder: Path, random: Random) -> Outcome:
    """SIGSTOP, and SIGKILL while it stands still."""
    with writing(any_job(folder, random)) as writer:
        time.sleep(random.uniform(0.0, 2.0))
        at = writer.freeze()
        time.sleep(random.uniform(0.0, 1.0))
        writer.kill()
    return judged(writer, at)
