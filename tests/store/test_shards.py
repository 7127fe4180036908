"""Shards: the same file contents whether or not the system can write at a place; rooms and wakings."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import zarr

from acquire.errors import StoreError
from acquire.store import shards
from acquire.store.layout import ArrayLayout
from acquire.store.pool import WritePool
from acquire.store.shards import ShardedArray

FRAMES = np.random.default_rng(3).poisson(300.0, (70, 32, 32)).astype("<u2")


def _written(folder: Path, threads: int = 3) -> np.ndarray:
    """All frames, appended and flushed now and then, as plain zarr-python reads them."""
    layout = ArrayLayout.of_frames("uint16", ("time", "y", "x"), (32, 32), 0.0, "lz4", {})
    pool = WritePool(threads)
    array = ShardedArray(folder, layout, pool)
    for number in range(len(FRAMES)):
        array.append(FRAMES[number : number + 1])
        if number % 7 == 0:
            array.flush()
    pool.settle()
    rows = array.flush()
    pool.close()
    array.close()
    head, tail = layout.text()
    (folder / "zarr.json").write_text(f"{head}{rows}{tail}", encoding="utf-8")
    return np.asarray(zarr.open_array(folder, mode="r")[:])


@pytest.mark.parametrize("positioned", [True, False], ids=["positioned", "seek"])
def test_frames_are_written_with_and_without_writes_at_a_place(
    positioned: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if positioned and not hasattr(os, "pwritev"):
        pytest.skip("this system has no pwritev")
    calls = []
    monkeypatch.setattr(shards, "POSITIONED", positioned)
    if hasattr(os, "pwritev"):
        pwritev = os.pwritev

        def counted(handle: int, parts: Iterable[bytes], offset: int) -> int:
            calls.append(offset)
            return pwritev(handle, tuple(parts), offset)

        monkeypatch.setattr(os, "pwritev", counted)
    np.testing.assert_array_equal(_written(tmp_path / "array"), FRAMES)
    assert bool(calls) == positioned


@pytest.mark.skipif(not hasattr(os, "pwritev"), reason="this system has no pwritev")
def test_what_the_system_wrote_by_half_is_finished(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def half(handle: int, parts: Iterable[bytes], offset: int) -> int:
        data = b"".join(parts)
        return os.pwrite(handle, data[: len(data) // 2], offset)

    monkeypatch.setattr(os, "pwritev", half)
    np.testing.assert_array_equal(_written(tmp_path / "array"), FRAMES)


@pytest.mark.parametrize("nbytes", [10, 400, 1000, 5000])
def test_whoever_waits_for_room_is_woken_when_there_is_some(nbytes: int) -> None:
    """A pool of 1000 bytes whose threads go on one record at a time."""
    steps = threading.Semaphore(0)
    pool = WritePool(2, 1000)
    taken = []

    def work() -> None:
        steps.acquire()

    def produce() -> None:
        for number in range(200):
            pool.submit(work, nbytes)
            taken.append(number)

    producer = threading.Thread(target=produce)
    producer.start()
    steps.release(200)
    producer.join(20)
    assert not producer.is_alive()
    assert pool.settle(20)
    assert pool.highest_bytes <= max(1000, nbytes)
    assert pool.fullness == 0
    pool.close()


def test_a_failure_wakes_whoever_waits_for_room() -> None:
    go = threading.Event()

    def work() -> None:
        go.wait(20)
        raise StoreError("the disk is full")

    pool = WritePool(1, 100)
    pool.submit(work, 100)
    raised: list[StoreError] = []

    def produce() -> None:
        try:
            pool.submit(work, 100)
        except StoreError as error:
            raised.append(error)

    producer = threading.Thread(target=produce)
    producer.start()
    while not pool.waits:  # it waits for room now
        pass
    go.set()
    producer.join(20)
    assert [str(error) for error in raised] == ["the disk is full"]
    pool.close()


def test_a_late_version_of_a_chunk_never_replaces_a_fuller_one(tmp_path: Path) -> None:
    """A chunk grows, and the threads finish its versions in the wrong order, or after its shard is full."""
    layout = ArrayLayout.of_frames("uint16", ("time", "y", "x"), (32, 32), 0.001, "lz4", {})
    assert layout.chunk_rows > 70
    pool = WritePool(1)
    array = ShardedArray(tmp_path / "array", layout, pool)
    hold = threading.Event()
    pool.submit(lambda: hold.wait(20) and None, 1)
    for number in (0, 10, 40):
        array.append(FRAMES[number : number + 10])
        array.offer_partial()
    array._waiting.reverse()  # as if threads had overtaken each other
    hold.set()
    assert pool.settle(20)
    assert array.flush() == 30
    pool.close()
    array.close()
    head, tail = layout.text()
    (tmp_path / "array" / "zarr.json").write_text(f"{head}30{tail}", encoding="utf-8")
    expected = np.concatenate([FRAMES[0:10], FRAMES[10:20], FRAMES[40:50]])
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "array", mode="r")[:], expected)
