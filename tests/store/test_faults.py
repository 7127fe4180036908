"""Of kills, full and lost disks and odd clocks a run is whole: a short cut of `hotstage bench faults`."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import zarr

from acquire.bench import faults
from acquire.bench.faults_check import Outcome, look
from acquire.bench.faults_kill import writing
from acquire.bench.faults_records import ESTIMATES, HOLDER, IMAGES, SPECTRA, Records
from acquire.bench.faults_streams import many_streams
from acquire.bench.faults_writer import Job
from acquire.errors import ConfigError
from acquire.store import RunWriter
from acquire.stream import RunReport

BY_NAME = {fault.what: fault for fault in faults.all_faults(200)}


@pytest.mark.process
def test_kills_of_the_writer_cost_no_record_older_than_the_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "faults.json"
    assert faults.main(3, table, "writer") == 0
    assert "kill -9: writer" in capsys.readouterr().out
    told = json.loads(table.read_text(encoding="utf-8"))
    (row,) = told["rows"]
    assert told["good"]
    assert row["times"] == 3
    assert row["readable"] > 0
    assert (row["wrong"], row["lost_beyond_window"], row["problems"]) == (0, 0, [])


@pytest.mark.process
@pytest.mark.parametrize(
    "what",
    [
        "SIGSTOP, SIGCONT: writer",
        "disk full at any write",
        "file size limit",
        "read-only disk, later",
        "permission lost",
        "folder deleted",
        "folder moved away",
        "wall clock an hour back: writer",
    ],
)
def test_a_fault_ends_a_run_clearly_and_leaves_nothing_wrong(what: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:  # another user must get here
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)
    if what not in BY_NAME or BY_NAME[what].times == 0:
        pytest.skip("cannot be tried on this system")
    line = faults.try_fault(replace(BY_NAME[what], times=1), tmp_path)
    if line.skipped:
        pytest.skip(line.skipped)
    assert line.times == 1
    assert line.good, line.outcome.problems


@pytest.mark.process
def test_streams_that_come_and_go_leave_no_file_open(tmp_path: Path) -> None:
    found = many_streams(tmp_path / "runs", runs=2, streams=25)
    assert found.good, found.problems
    assert found.readable == 2 * 25 * 3


# ------------------------------------------------------------- the harness can tell good from bad


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Records, dict[str, list[tuple[int, float]]]]:
    """A closed run of 30 images and their fellows, and what was acknowledged of it."""
    records = Records(side=32)
    path = tmp_path / "run"
    writer = RunWriter(path)
    records.open(writer, 0.0)
    acks: dict[str, list[tuple[int, float]]] = {k: [] for k in (IMAGES, SPECTRA, HOLDER, ESTIMATES)}
    for index in range(30):
        if records.missing(index):
            writer.gap("overview", index, "the link was lost")
            continue
        writer.append_frame(records.image(index, float(index)), records.context(index))
        acks[IMAGES].append((index, 100.0 + index))
    for number in range(3):
        writer.append_block(records.block(number, float(number)))
        acks[SPECTRA].append((64 * number + 63, 100.0))
        writer.append_row(records.row(number, float(number)))
        acks[HOLDER].append((number, 100.0))
        writer.append_estimate(records.estimate(5 * number, float(number)))
        acks[ESTIMATES].append((5 * number, 100.0))
    writer.close(RunReport("completed", "", 30.0, {}))
    return path, records, acks


def found_in(written: tuple[Path, Records, dict[str, list[tuple[int, float]]]]) -> Outcome:
    path, records, acks = written
    return look(path, records, acks, 130.0)


def test_a_whole_run_is_found_whole(
    written: tuple[Path, Records, dict[str, list[tuple[int, float]]]],
) -> None:
    found = found_in(written)
    assert found.good, found.problems
    assert (found.readable, found.lost) == (29 + 3 * 64 + 3 + 3, 0)


def test_records_that_are_not_there_are_found_lost_with_their_age(
    written: tuple[Path, Records, dict[str, list[tuple[int, float]]]],
) -> None:
    written[2][IMAGES] += [(30, 129.0), (31, 129.8)]
    written[2][SPECTRA].append((3 * 64 + 63, 129.9))
    found = found_in(written)
    assert (found.lost, found.late) == (2 + 64, 1)
    assert found.worst_s == pytest.approx(1.0)
    assert not found.good


def test_a_wrong_pixel_a_black_frame_and_an_unsaid_gap_are_found(
    written: tuple[Path, Records, dict[str, list[tuple[int, float]]]],
) -> None:
    group = zarr.open_group(written[0] / "run.zarr", mode="r+")
    images = group["images/overview/full/haadf"]
    assert isinstance(images, zarr.Array)
    frames = np.asarray(images[:])
    frames[3, 5, 5] += 1
    frames[4] = 0
    images[:] = frames
    gaps = group["gaps/frame_index"]
    assert isinstance(gaps, zarr.Array)
    gaps[:] = 29  # which came
    found = found_in(written)
    assert found.wrong == 2 + 1 + 1
    assert any("rows [3, 4]" in problem for problem in found.problems)
    assert any("[17] are missing without" in problem for problem in found.problems)
    assert any("[29] are recorded for images that came" in problem for problem in found.problems)


@pytest.mark.process
def test_a_writer_that_stands_still_is_found_late(tmp_path: Path) -> None:
    job = Job(str(tmp_path / "run"))
    with writing(job) as writer:
        writer.freeze()
        writer.wait(0.1)
        # what it took just before it stood still is not published, and grows old
        found = look(Path(job.path), job.records, writer.acks, time.time() + 60.0)
    assert found.late == found.lost > 0


def test_nothing_to_try_is_said() -> None:
    with pytest.raises(ConfigError, match="disk, clock, streams"):
        faults.main(10, None, "teeth")
    with pytest.raises(ConfigError, match="0 kills"):
        faults.main(0)


def test_a_case_that_breaks_is_a_wrong_line(tmp_path: Path) -> None:
    def breaks(folder: Path, random: Random) -> Outcome:
        raise OSError("no such luck")

    line = faults.try_fault(faults.Fault("disk", "breaks", 2, breaks), tmp_path)
    assert (line.times, line.good, line.verdict()) == (2, False, "WRONG")
    assert "no such luck" in line.outcome.problems[0]
