"""A write that fails once, by half, or in a bad order costs nothing but itself."""

from __future__ import annotations

import os
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zarr

from acquire.errors import StoreError
from acquire.instruments import Axis, ChannelSpec, Frame, FrameMeta, StreamSpec
from acquire.store import (
    RunWriter,
    files,
    groups,
    open_run,
    publisher,
    recover_run,
    shards,
    synced,
    verify_run,
)
from acquire.store.files import sync_files
from acquire.store.layout import ArrayLayout
from acquire.store.pool import WritePool
from acquire.store.shards import ShardedArray, index_size, read_index
from acquire.stream import Estimate, FrameBlock, Value

FAST = StreamSpec(
    "fast",
    {"core": ChannelSpec("uint16", (64,), ("energy_loss",), {"energy_loss": Axis(0, 1, "eV")})},
    frame_period_s=0.001,
)


def block(first: int, count: int) -> FrameBlock:
    times = np.arange(first, first + count, dtype=np.float64) / 1000
    numbers = np.arange(first + 1, first + count + 1, dtype=np.uint16)
    data = np.repeat(numbers[:, np.newaxis], 64, axis=1)
    return FrameBlock("fast", first, {"core": data}, times, times + 1 / 1000)


@pytest.fixture
def writer(maker: Any, tmp_path: Path) -> Iterator[RunWriter]:
    writer = RunWriter(tmp_path / "run")
    writer.open(maker.header)
    yield writer
    writer.close(maker.report())


def test_a_column_that_failed_once_has_right_checksums_in_the_end(
    maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = maker.open(tmp_path / "run")
    writer.append_frame(maker.image(0), maker.context(0))
    writer.publish()
    real, writes = files.write_at, []

    def sometimes(path: Path, offset: int, data: bytes) -> None:
        writes.append(path)
        if len(writes) == 4:
            raise StoreError("the disk is full")
        real(path, offset, data)

    monkeypatch.setattr(groups, "write_at", sometimes)
    writer.append_frame(maker.image(1), maker.context(1))
    with pytest.raises(StoreError, match="the disk is full"):
        writer.publish()
    with pytest.raises(StoreError, match="the disk is full"):
        writer.close(maker.report())
    found = verify_run(tmp_path / "run")
    assert found.good, found.findings
    assert open_run(tmp_path / "run").images("overview").sizes["time"] == 2


def test_chunks_never_lie_where_the_rest_of_an_index_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorts = [1000]

    class Short(FileIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data)[: shorts.pop()] if shorts else data)

    real = Path.open

    def open_short(path: Path, mode: str = "r", **kwargs: Any) -> Any:
        return Short(path, mode) if "x" in mode else real(path, mode, **kwargs)

    monkeypatch.setattr(Path, "open", open_short)
    pool = WritePool(threads=1)
    layout = ArrayLayout.of_frames("uint16", ("time", "y", "x"), (16, 16), 0.0, "lz4", {})
    array = ShardedArray(tmp_path / "a", layout, pool)
    array.append(np.ones((3, 16, 16), np.uint16))
    pool.close()
    assert array.flush() == 3
    array.close()
    assert not shorts
    entries = read_index(tmp_path / "a" / layout.chunk_name(0), layout.shard_chunks)
    assert entries[:3, 0].min() >= index_size(layout.shard_chunks)


def test_blocks_do_not_stay_in_memory_while_the_publisher_stands_still(writer: RunWriter) -> None:
    writer.declare_frames("spectra", FAST)
    assert writer._pool is not None
    with writer._publisher._lock:
        alive = []
        for number in range(8):
            frames = block(100 * number, 100)
            alive.append(weakref.ref(frames.data["core"]))
            writer.append_block(frames)
            del frames
        assert writer._pool.settle(20)
        # the last may still be in the hands of a thread
        assert sum(array() is not None for array in alive) <= 2


def test_an_empty_block_is_none(writer: RunWriter) -> None:
    writer.declare_frames("spectra", FAST)
    writer.append_block(block(0, 0))
    writer.publish()
    writer.append_block(block(0, 3))
    writer.publish()
    assert open_run(writer.path).spectra("fast").sizes["time"] == 3


def test_a_gap_that_begins_late_hides_nothing_and_no_frame_that_came_can_be_missing(
    maker: Any, tmp_path: Path
) -> None:
    writer = maker.open(tmp_path / "run")
    writer.append_frame(maker.image(0), maker.context(0))
    writer.gap("overview", 3, "the link was lost", 2)
    writer.append_frame(maker.image(5), maker.context(5))
    with pytest.raises(StoreError, match="frame 5 of 'overview' cannot be missing"):
        writer.gap("overview", 5, "the link was lost")
    writer.close(maker.report())
    gaps = open_run(tmp_path / "run").gaps
    assert gaps is not None
    assert gaps.frame_index.values.tolist() == [1, 3]
    assert gaps.frames.values.tolist() == [2, 2]
    assert verify_run(tmp_path / "run").good


@pytest.mark.parametrize("name", ["beam current (nA)", "aux", "DOSE_2", "zarr.json"])
def test_no_name_that_an_instrument_gives_costs_a_frame(
    maker: Any, tmp_path: Path, name: str
) -> None:
    writer = maker.open(tmp_path / "run")
    for index in range(2):
        frame = maker.image(index)
        meta = FrameMeta({"dose_2": 1.0, name: 2.0 + index})
        writer.append_frame(
            Frame("overview", index, frame.data, frame.t_start_s, frame.t_end_s, meta),
            maker.context(index),
        )
    writer.close(maker.report())
    run = open_run(tmp_path / "run").images("overview")
    assert run.dose_2.values.tolist() == [1.0, 1.0]
    assert run.reported_1.values.tolist() == [2.0, 3.0]
    assert run.reported_1.attrs["long_name"] == name
    assert verify_run(tmp_path / "run").good


@pytest.mark.parametrize("name", ["nul", "COM1.txt", "Zarr.json", "Holder"])
def test_names_that_are_no_folder_of_their_own_everywhere_are_refused(
    maker: Any, writer: RunWriter, name: str
) -> None:
    writer.declare_rows("holder", {"measured": "°C"})
    with pytest.raises(StoreError, match=f"'{name}' cannot be the name of a table"):
        writer.declare_rows(name, {"measured": "°C"})
    with pytest.raises(StoreError, match="'t' cannot be the name of a column"):
        writer.declare_rows("log", {"T": "°C", "t": "s"})


def test_a_table_of_words_is_refused_by_name(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    table = {"x_nm": np.array(["left"]), "diameter_nm": np.array([3.0])}
    values = {"mean_diameter": Value(3.0, 0.1)}
    with pytest.raises(StoreError, match="'x_nm' holds numbers"):
        writer.append_estimate(Estimate("particles", "overview", 0, 1.0, values, (), table))
    writer.append_estimate(maker.estimate(0, 2))
    writer.close(maker.report())
    assert open_run(tmp_path / "run").particles("particles").sizes["row"] == 2


def test_a_file_that_cannot_be_synced_does_not_keep_others_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"x")
    inodes = []
    monkeypatch.setattr(os, "fsync", lambda handle: inodes.append(os.fstat(handle).st_ino))
    with pytest.raises(StoreError, match="gone"):
        sync_files([tmp_path / "deeper" / "gone", there])
    assert there.stat().st_ino in inodes


@pytest.fixture
def restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine look as if it had been started since."""
    monkeypatch.setattr(synced, "boot_name", lambda: "another boot")
    monkeypatch.setattr(psutil, "boot_time", lambda: time.time() + 3600)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads names of open files")
def test_rows_that_were_synced_long_ago_survive_a_power_cut_that_spares_only_the_index(
    maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr("acquire.store.shards.LOSS_WINDOW_S", 0.0)
    writer = RunWriter(tmp_path / "run")
    writer.open(maker.header)
    writer.declare_frames("spectra", FAST)
    writer.append_block(block(0, 50))
    writer.publish()
    sync_files(writer._publisher.take_unsynced())
    synced.write_synced(writer.path, writer._publisher.visible_rows())
    cut = tmp_path / "cut"
    shutil.copytree(writer.path, cut)
    name = "run.zarr/spectra/fast/core/c.0.0"
    shard, real = writer.path / name, os.fsync
    on_disk = [shard.read_bytes()]

    def fsync(handle: int) -> None:
        real(handle)
        if Path(f"/proc/self/fd/{handle}").readlink() == shard:
            on_disk.append(shard.read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        writer.append_block(block(50, 1))
        writer.publish()
        # the system brings the page of the index to the disk by itself, and no other
        index = index_size(read_chunks(writer.path))
        torn = shard.read_bytes()[:index] + on_disk[-1][index:]
    writer.close(maker.report())
    (cut / name).write_bytes(torn)
    request.getfixturevalue("restarted")
    recover_run(cut)
    data = open_run(cut).spectra("fast").core.load()
    np.testing.assert_array_equal(data[:, 0], np.arange(1, 51))


def read_chunks(run: Path) -> int:
    array = zarr.open_array(run / "run.zarr/spectra/fast/core", mode="r")
    assert array.shards is not None
    return int(array.shards[0] // array.chunks[0])


def test_frames_that_wait_do_not_take_the_room_that_is_kept_for_the_end(
    maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = maker.open(tmp_path / "run")
    reserve, seen = writer.path / "reserve.bin", []
    go_on, real, real_whole = threading.Event(), shards._Shard.write, files.write_whole

    def write(*arguments: Any) -> None:
        assert go_on.wait(20)
        seen.append(reserve.exists())
        real(*arguments)

    def write_whole(path: Path, data: bytes, **options: Any) -> None:
        if writer._upkeep.failure is None:
            raise StoreError("the disk is full")
        real_whole(path, data, **options)

    monkeypatch.setattr(shards._Shard, "write", write)
    writer.on_failure(lambda error: go_on.set())
    writer.append_frame(maker.image(0), maker.context(0))
    monkeypatch.setattr(groups, "write_whole", write_whole)
    monkeypatch.setattr(publisher, "write_whole", write_whole)
    with pytest.raises(StoreError, match="the disk is full"):
        writer._show()
    with pytest.raises(StoreError, match="the disk is full"):
        writer.close(maker.report())
    assert len(seen) > 0
    assert all(seen)
    assert not reserve.exists()
    report = open_run(writer.path).report
    assert report is not None
    assert report.outcome == "failed"


def test_what_can_be_saved_at_the_end_is_saved_though_publishing_fails(
    maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = maker.open(tmp_path / "run")
    writer.append_frame(maker.image(0), maker.context(0))
    writer.publish()

    def publish(self: object, *, force: bool = False) -> bool:
        raise StoreError("the folder of the estimates is gone")

    with monkeypatch.context() as patch:
        patch.setattr(publisher.Publisher, "publish", publish)
        with pytest.raises(StoreError, match="is gone"):
            writer.close(maker.report())
    assert not writer._publisher.take_unsynced()
    lines = (writer.path / "checksums.jsonl").read_text()
    assert "images/overview/full/time/c.0" in lines
    found = verify_run(writer.path)
    assert found.good, found.findings
