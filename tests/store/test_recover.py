"""A run whose writer died at any moment, or whose power failed, is made whole again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import xarray as xr

from acquire.cli.app import main
from acquire.errors import StoreError
from acquire.instruments import StreamSpec
from acquire.store import (
    LOSS_WINDOW_S,
    Run,
    RunWriter,
    StoreSettings,
    open_run,
    recover_run,
    synced,
    verify_run,
    words_of,
)
from acquire.store import groups as groups_module
from acquire.store import publisher as publisher_module
from acquire.stream import FrameBlock
from tests.store.conftest import make_maker
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


def check_whole(path: Path, maker: Any) -> Run:
    """After recovery: every row is right in every column, and whatever is missing is recorded."""
    result = verify_run(path)
    assert result.good, result.findings
    notes = [f for f in result.findings if f.severity == "note" and "has no end" not in f.text]
    assert [f for f in notes if "never published" not in f.text] == []
    run = open_run(path)
    images = run.images("overview").load()
    for row, index in enumerate(images.frame_index.values.tolist()):
        frame = maker.image(index)
        np.testing.assert_array_equal(images.haadf[row], frame.data["haadf"])
        np.testing.assert_array_equal(images.abf[row], frame.data["abf"])
    index = images.frame_index.values
    np.testing.assert_array_equal(images.time, index.astype(float))
    np.testing.assert_array_equal(images.t_end, index + 0.5)
    np.testing.assert_array_equal(images.source_index, index + 1000)
    np.testing.assert_array_equal(images.temperature_before, index + 700.0)
    np.testing.assert_array_equal(images.drift_x, 0.1 * index)
    missing = []
    if run.gaps.sizes:
        of_stream = words_of(run.gaps.stream) == "overview"
        gaps = run.gaps.isel(row=of_stream)
        for first, count in zip(gaps.frame_index.values, gaps.frames.values, strict=True):
            missing += range(first, first + count)
    end = max([*index.tolist(), *missing], default=-1) + 1
    assert sorted([*index.tolist(), *missing]) == list(range(end)), "each once: there or missing"
    spectra = run.spectra("line").load()
    expected = spectra.frame_index.values[:, np.newaxis] + np.ones(64)
    np.testing.assert_array_equal(spectra.core_loss, expected)
    np.testing.assert_array_equal(spectra.low_loss, expected + 1)
    holder = run.holder.load()
    np.testing.assert_array_equal(holder.measured, 20.0 + np.arange(holder.sizes["time"]))
    np.testing.assert_array_equal(holder.setpoint, 21.0)
    assert (run.particles("particles").diameter_nm == 3.0).all()
    xr.open_datatree(path / "run.zarr", engine="zarr").close()
    return run


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_recovery_after_kill_9_closes_the_run_and_touches_no_data(
    maker: Any, tmp_path: Path
) -> None:
    chance = random.Random(7)
    for number in range(3):
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


def fast_spectra() -> StreamSpec:
    return replace(make_maker().spectra, name="fast", frame_period_s=0.01)


def test_a_writer_may_die_at_any_write(
    maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a publication leaves behind is recovered, whichever of its writes was the last one."""
    live = tmp_path / "live"
    writer = RunWriter(live, StoreSettings(sync_every_s=1e6))
    monkeypatch.setattr("acquire.store.upkeep.PUBLISH_PERIOD_S", 1e6)
    writer.open(maker.header)
    writer.declare_frames("images", maker.images)
    writer.declare_frames("spectra", maker.spectra)
    writer.declare_frames("spectra", fast_spectra())
    writer.declare_rows("holder", {"measured": "°C", "setpoint": "°C", "state": "text"})
    writer.declare_estimates("particles", maker.quantities, maker.columns)
    writes: list[str] = []
    moments: list[Path] = []
    recording = threading.Event()

    def watched(function: Any) -> Any:
        def write(*arguments: Any, **options: Any) -> None:
            function(*arguments, **options)
            if recording.is_set():
                writes.append(str(arguments[0]))
                if len(writes) % 11 == 1 or writes[-1] == str(live / "run.zarr/spectra/zarr.json"):
                    moments.append(tmp_path / f"moment{len(writes)}")
                    shutil.copytree(live, moments[-1])

        return write

    monkeypatch.setattr(groups_module, "write_whole", watched(groups_module.write_whole))
    monkeypatch.setattr(publisher_module, "write_whole", watched(publisher_module.write_whole))
    monkeypatch.setattr(groups_module, "write_at", watched(groups_module.write_at))

    def append(first: int, last: int) -> None:
        for index in range(first, last):
            if index == 8:
                writer.gap("overview", 8, "the link was lost")
            else:
                writer.append_frame(maker.image(index), maker.context(index))
                writer.append_estimate(maker.estimate(index, 3))
            writer.append_frame(maker.spectrum(index), maker.context(index))
            writer.append_row(replace(maker.row(index), values=words_too(maker, index)))
        counts = np.arange(first * 5, last * 5, dtype=np.uint32) + 1
        rows = np.repeat(counts[:, np.newaxis], 64, axis=1)
        times = 100.0 + np.arange(first * 5, last * 5) / 100
        data = {"core_loss": rows, "low_loss": rows.copy()}
        writer.append_block(FrameBlock("fast", first * 5, data, times, times + 0.01))

    append(0, 5)
    writer.publish()
    append(5, 11)
    recording.set()
    writer.publish()
    recording.clear()
    writer.close(maker.report())

    assert len(writes) > 100
    lengths: set[tuple[int, ...]] = set()
    for moment in moments:
        assert verify_run(moment).good, verify_run(moment).findings
        before = data_files(moment)
        recover_run(moment)
        assert data_files(moment) == before
        assert recover_run(moment).changes == ()
        run = check_whole(moment, maker)
        fast = run.spectra("fast").load()
        expected = np.repeat(np.arange(1, fast.sizes["time"] + 1)[:, np.newaxis], 64, axis=1)
        np.testing.assert_array_equal(fast.core_loss, expected)
        states = run.holder.state.values
        assert (states == np.arange(1, len(states) + 1)).all(), "words that are known, and all"
        sizes = [d.sizes["time"] for d in (run.images("overview"), fast, run.holder)]
        assert min(sizes[0], sizes[1] // 5, sizes[2]) >= 5, "what was published before stays"
        lengths.add(tuple(sizes))
        shutil.rmtree(moment)
    assert (10, 55, 11) in lengths, "rows that were written and not yet published are found"
    assert len(lengths) > 2


def words_too(maker: Any, index: int) -> dict[str, Any]:
    return {"measured": 20.0 + index, "setpoint": 21.0, "state": f"state {index}"}


class Disk:
    """A disk that keeps only what was fsynced, as it was at that moment."""

    def __init__(self, live: Path) -> None:
        self.live = live
        self.kept: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self._fsync = os.fsync

    def fsync(self, handle: int) -> None:
        self._fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_file() and path.is_relative_to(self.live):
            name = path.relative_to(self.live).as_posix().removesuffix(".partial")
            with self.lock:
                self.kept[name] = path.read_bytes()

    def after_power_cut(self, place: Path, kept: dict[str, bytes]) -> None:
        for name, data in kept.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)


@pytest.fixture
def restarted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let the machine look as if it had been started since."""

    def restart() -> None:
        monkeypatch.setattr(synced, "boot_name", lambda: "another boot")
        monkeypatch.setattr(psutil, "boot_time", lambda: time.time() + 3600)

    return restart


@pytest.mark.parametrize("lost", ["frame_index", "frames", "stream"])
def test_a_gap_of_which_a_power_cut_kept_some_columns_only_is_told_by_the_journal(
    maker: Any, tmp_path: Path, restarted: Any, lost: str
) -> None:
    live = tmp_path / "live"
    writer = RunWriter(live, StoreSettings(sync_every_s=1000.0))
    writer.open(maker.header)
    writer.declare_frames("images", maker.images)
    for index in range(5):
        if index == 3:
            writer.gap("overview", index, "the link was lost")
        else:
            writer.append_frame(maker.image(index), maker.context(index))
    writer.publish()
    shutil.copytree(live, tmp_path / "cut")
    writer.close(maker.report())
    restarted()
    cut = tmp_path / "cut"
    (cut / "run.zarr" / "gaps" / lost / "c.0").unlink()
    mark = {"rows": {"images/overview/full": 4}, "boot": "an earlier boot"}
    (cut / "synced.json").write_text(json.dumps(mark), encoding="utf-8")
    recover_run(cut)
    run = open_run(cut)
    assert run.images("overview").frame_index.values.tolist() == [0, 1, 2, 4]
    assert run.gaps.frame_index.values.tolist() == [3]
    assert recover_run(cut).changes == ()


def test_words_that_only_the_roots_spare_copy_knows_survive_a_power_cut(
    maker: Any, tmp_path: Path, restarted: Any
) -> None:
    live = tmp_path / "live"
    writer = RunWriter(live, StoreSettings(sync_every_s=1000.0))
    writer.open(maker.header)
    writer.declare_rows(
        "holder", {"measured": "°C", "setpoint": "°C", "state": "text", "fault": "text"}
    )
    for number in range(6):
        writer.append_row(maker.row(number))
    writer.publish()
    old = {path: path.read_bytes() for path in live.rglob("zarr.json")}
    for number in range(6, 30):
        writer.append_row(maker.row(number))
    writer.publish()
    shutil.copytree(live, tmp_path / "cut")
    writer.close(maker.report())
    restarted()
    cut = tmp_path / "cut"
    (cut / "structure.json").write_bytes((cut / "run.zarr/zarr.json").read_bytes())
    for path, data in old.items():
        (cut / path.relative_to(live)).write_bytes(data)
    mark = {"rows": {"holder": 30}, "boot": "an earlier boot"}
    (cut / "synced.json").write_text(json.dumps(mark), encoding="utf-8")
    recover_run(cut)
    holder = open_run(cut).holder
    assert holder.sizes["time"] == 30
    faults = [maker.row(number).values["fault"] for number in range(30)]
    assert words_of(holder.fault).tolist() == faults
    assert recover_run(cut).changes == ()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads names of open files")
def test_a_power_cut_costs_the_sync_window_and_nothing_wrong_is_left(
    maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: Any
) -> None:
    live = tmp_path / "live"
    disk = Disk(live)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    monkeypatch.setattr("acquire.store.upkeep.PUBLISH_PERIOD_S", 0.02)
    writer = RunWriter(live, StoreSettings(sync_every_s=0.1))
    writer.open(maker.header)
    writer.declare_frames("images", maker.images)
    writer.declare_frames("spectra", maker.spectra)
    writer.declare_rows(
        "holder", {"measured": "°C", "setpoint": "°C", "state": "text", "fault": "text"}
    )
    writer.declare_estimates("particles", maker.quantities, maker.columns)
    cuts: list[tuple[dict[str, bytes], dict[str, bytes], dict[str, bytes], int]] = []
    due = iter((20, 45, 60, 95))
    next_cut = next(due)
    index = marked = 0
    while next_cut and index < 20000:
        if index % 20 == 7:
            writer.gap("overview", index, "the link was lost")
        else:
            writer.append_frame(maker.image(index), maker.context(index))
            writer.append_estimate(maker.estimate(index, 3))
        writer.append_frame(maker.spectrum(index), maker.context(index))
        writer.append_row(maker.row(index))
        index += 1
        time.sleep(0.002)  # the pace of the instrument
        with disk.lock:
            kept = dict(disk.kept)
        marked = json.loads(kept.get("synced.json", b'{"rows": {}}'))["rows"].get("holder", 0)
        if marked < next_cut:
            continue
        assert marked < index
        # what a file system may do: names of newer metadata are kept, data are not
        newer = {
            name: (live / name).read_bytes() if name.endswith("zarr.json") else data
            for name, data in kept.items()
        }
        # or: names are kept, and nothing behind them
        empty = {name: b"" if name.endswith("zarr.json") else d for name, d in kept.items()}
        cuts.append((kept, newer, empty, marked))
        next_cut = next(due, 0)
    writer.close(maker.report())
    assert len(cuts) == 4
    monkeypatch.undo()
    restarted()

    shrunk = 0
    for number, (kept, newer, empty, marked) in enumerate(cuts):
        for name, files in (("kept", kept), ("newer", newer), ("empty", empty)):
            path = tmp_path / f"{name}{number}"
            disk.after_power_cut(path, files)
            published = 0 if name == "empty" else _published(path)
            recovery = recover_run(path)
            run = check_whole(path, maker)
            assert recover_run(path).changes == ()
            assert run.holder.sizes["time"] == marked, "no more is sure, and no less"
            assert "power" in str(run.report and run.report.cause)
            shrunk += published > run.images("overview").sizes["time"]
            if published > run.images("overview").sizes["time"]:
                assert any("taken back" in change for change in recovery.changes)
    assert shrunk, "shapes that are newer than the data were met"


def _published(path: Path) -> int:
    root = json.loads((path / "run.zarr/zarr.json").read_text())
    shape = root["consolidated_metadata"]["metadata"]["images/overview/full/time"]["shape"]
    return int(shape[0])


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


def killed_run(maker: Any, tmp_path: Path, frames: int) -> Path:
    """What a kill leaves of a run whose frames were written one after the other."""
    writer = maker.open(tmp_path / "live")
    for index in range(frames):
        writer.append_frame(maker.image(index), maker.context(index))
        writer.append_row(maker.row(index))
        writer.publish()
    path = tmp_path / "run"
    shutil.copytree(tmp_path / "live", path)
    writer.close(maker.report())
    return path


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
