"""A run whose writer died is made whole again; what cannot be is left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acquire.cli.app import main
from acquire.errors import StoreError
from acquire.store import LOSS_WINDOW_S, recover_run, verify_run
from tests.store.recovering import check_whole, killed_run
from tests.store.test_verify import data_files

HERE = Path(__file__).parent
WRITER = f"""
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("maker", {str(HERE / "conftest.py")!r})
module = importlib.util.module_from_spec(spec)
sys.modules["maker"] = module
spec.loader.exec_module(module)
maker = module.make_maker()
from acquire.stream import Note
writer = maker.open(Path(sys.argv[1]))
index = 0
while True:
    if index % 20 == 7:
        writer.gap("overview", index, "the link was lost")
    else:
        writer.append_frame(maker.image(index), maker.context(index))
        writer.append_estimate(maker.estimate(index, 20))
    writer.append_frame(maker.spectrum(index), maker.context(index))
    writer.append_row(maker.row(index))
    if index % 10 == 0:
        writer.note(Note("action", float(index), f"begin step {{index // 10 + 1}}: hold"))
    if index % 10 == 9:
        writer.note(Note("action", float(index), f"end step {{index // 10 + 1}}: done"))
    print(index, time.monotonic(), flush=True)
    index += 1
    time.sleep(0.003)
"""


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_recovery_after_kill_9_closes_the_run_and_touches_no_data(
    maker: Any, tmp_path: Path
) -> None:
    chance = random.Random(7)
    for number in range(2):
        path = tmp_path / f"run{number}"
        writer = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        enough = chance.randrange(5, 150)
        while len(lines) < enough:
            lines.append(writer.stdout.readline())
        if number == 0:
            with pytest.raises(StoreError, match="still being written"):
                recover_run(path)
            # a stopped writer is not a dead one
            writer.send_signal(signal.SIGSTOP)
            with pytest.raises(StoreError, match="still being written"):
                recover_run(path)
            assert main(["recover", str(path)]) == 1
        killed_at = time.monotonic()
        writer.kill()
        lines += writer.stdout.readlines()
        writer.communicate()
        told = [line.split() for line in lines]
        assert verify_run(path).good, "a kill leaves nothing wrong, only something to close"

        before = data_files(path)
        recovery = recover_run(path)
        assert any("closed as failed" in change for change in recovery.changes)
        assert recovery.losses == ()
        assert data_files(path) == before
        assert recover_run(path).changes == ()
        run = check_whole(path, maker)
        assert run.report is not None
        assert (run.state, run.report.outcome) == ("failed", "failed")
        assert "died" in run.report.cause
        count = run.holder.sizes["time"]
        due = [int(i) for i, t in told if float(t) < killed_at - LOSS_WINDOW_S]
        if number:  # the first one was stopped for a while before
            assert count > max(due, default=-1)
        assert run.report.frames["overview"] == run.images("overview").sizes["time"]
        assert run.report.t_end_s >= run.images("overview").t_end.values.max(initial=0.0)
        steps = run.report.steps
        assert [step["index"] for step in steps] == list(range(len(steps)))
        assert {str(step["outcome"]) for step in steps[:-1]} <= {"done"}
        last = run.journal()[-1]
        assert (last.kind, last.details["outcome"]) == ("run", "failed")
        assert sorted(p.name for p in path.iterdir()) == [
            "checksums.jsonl",
            "journal.jsonl",
            "recipe.yaml",
            "run.zarr",
            "station.toml",
        ]


def test_a_tail_that_is_not_on_the_disk_is_taken_back_and_recorded(
    maker: Any, tmp_path: Path
) -> None:
    path = killed_run(maker, tmp_path, frames=6)
    shard = path / "run.zarr/images/overview/full/abf/c.0.0.0"
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size - 8)
    assert not verify_run(path).good
    recovery = recover_run(path)
    assert "images/overview/full: 1 row taken back that are not on the disk" in recovery.changes
    run = check_whole(path, maker)
    assert run.images("overview").sizes["time"] == 5
    assert run.gaps.frame_index.values.tolist() == [5]
    assert run.journal()[-2].kind == "recovery"


def test_a_torn_line_and_lost_root_metadata_are_mended_from_what_is_left(
    maker: Any, tmp_path: Path
) -> None:
    path = killed_run(maker, tmp_path, frames=3)
    with (path / "journal.jsonl").open("ab") as file:
        file.write(b'{"seq": 1, "t_s": 3.0, "wall')
    (path / "run.zarr/zarr.json").write_bytes(b"")
    (path / "run.zarr/holder/zarr.json.partial").write_bytes(b"{")
    recovery = recover_run(path)
    assert "the root's attributes were lost; the journal knew them" in recovery.changes
    assert "zarr.json.partial removed" in recovery.changes
    run = check_whole(path, maker)
    assert run.header == replace(maker.header)
    entries = run.journal()
    assert [entry.seq for entry in entries] == [0, 1, 2]
    assert entries[1].details["torn"] == '{"seq": 1, "t_s": 3.0, "wall'


def test_a_recovery_that_dies_is_done_again(
    maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = killed_run(maker, tmp_path, frames=6)
    shard = path / "run.zarr/images/overview/full/abf/c.0.0.0"
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size - 8)
    written = 0

    class Died(BaseException):
        pass

    from acquire.store import files

    replace_file = files._replace

    def dies(source: Path, target: Path) -> None:
        nonlocal written
        written += 1
        if written == limit:
            raise Died
        replace_file(source, target)

    monkeypatch.setattr(files, "_replace", dies)
    for limit in range(1, 40, 5):
        attempt = tmp_path / f"attempt{limit}"
        shutil.copytree(path, attempt)
        written = 0
        try:
            recover_run(attempt)
        except Died:
            limit = 0
            recover_run(attempt)
        run = check_whole(attempt, maker)
        assert run.images("overview").sizes["time"] == 5
        assert run.gaps.frame_index.values.tolist() == [5]
        assert recover_run(attempt).changes == ()


def test_a_stream_whose_first_publication_was_not_finished_is_left_out(
    maker: Any, tmp_path: Path
) -> None:
    path = killed_run(maker, tmp_path, frames=2)
    table = path / "run.zarr/late"
    shutil.copytree(path / "run.zarr/holder", table)
    (table / "zarr.json").unlink()
    (table / "time/zarr.json").unlink()
    assert verify_run(path).good
    recovery = recover_run(path)
    assert "4 arrays left out that no group took in yet" in recovery.changes
    run = check_whole(path, maker)
    assert run.tables == ("holder",)
    assert (table / "measured/c.0").exists()
    assert recover_run(path).changes == ()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no folder run\.zarr"):
        recover_run(tmp_path)
    (tmp_path / "run.zarr").mkdir()
    with pytest.raises(StoreError, match="neither the metadata"):
        recover_run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"], "nothing is left behind"
