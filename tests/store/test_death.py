"""A run is whole and readable while it is written, after ``kill -9`` and on a full disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from acquire.errors import StoreError
from acquire.store import LOSS_WINDOW_S, RunWriter, open_run

HERE = Path(__file__).parent

PREAMBLE = f"""
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("maker", {str(HERE / "conftest.py")!r})
module = importlib.util.module_from_spec(spec)
sys.modules["maker"] = module
spec.loader.exec_module(module)
maker = module.make_maker()
"""

WRITER = """
writer = maker.open(Path(sys.argv[1]))
index = 0
due = time.monotonic()
while True:
    writer.append_frame(maker.image(index), maker.context(index))
    writer.append_row(maker.row(index))
    writer.append_estimate(maker.estimate(index, 20))
    print(index, time.monotonic(), flush=True)
    index += 1
    due += 0.01
    time.sleep(max(0.0, due - time.monotonic()))
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            PREAMBLE + textwrap.dedent(script),
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # a file would meet the size limit that a test sets
        text=True,
    )


def check_frames(images: xr.Dataset, rows: list[int], maker: Any) -> None:
    frames = [maker.image(int(index)) for index in images.frame_index.values[rows]]
    for detector in ("haadf", "abf") if frames else ():
        expected = [frame.data[detector] for frame in frames]
        np.testing.assert_array_equal(images[detector][rows], np.stack(expected))
    for name in ("time", "t_end", "temperature_before", "dose_total", "drift_x"):
        assert np.isfinite(images[name].values).all()
    np.testing.assert_array_equal(images.frame_index, np.arange(images.sizes["time"]))
    np.testing.assert_array_equal(images.time, np.arange(images.sizes["time"]))


@pytest.mark.process
def test_a_reader_never_meets_anything_odd_and_kill_9_costs_at_most_the_window(
    maker: Any, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    root = path / "run.zarr"
    writer = start(WRITER, path)
    assert writer.stdout is not None
    try:
        writer.stdout.readline()
        seen: list[int] = []
        began = time.monotonic()
        while len(set(seen)) < 8 or time.monotonic() < began + 2 * LOSS_WINDOW_S:
            assert time.monotonic() < began + 30.0, f"only {len(set(seen))} lengths were seen"
            with xr.open_datatree(root, engine="zarr") as tree:
                images = tree["images/overview/full"].to_dataset()
                count = images.sizes["time"]
                if count:
                    check_frames(images, [0, count // 2, count - 1], maker)
                    holder = tree["holder"].to_dataset()
                    np.testing.assert_array_equal(
                        holder.measured, 20.0 + np.arange(holder.sizes["time"])
                    )
                    found = tree["particles/particles"].to_dataset()
                    assert (found.diameter_nm == 3.0).all()
            for group in (
                xr.open_zarr(root, group="images/overview/full"),
                xr.open_zarr(root / "images" / "overview" / "full"),
            ):
                check_frames(group, [group.sizes["time"] - 1] if group.sizes["time"] else [], maker)
            plain = zarr.open_group(root, path="images/overview/full", mode="r")
            shapes = {
                a.shape[0] for _, a in plain.arrays() if a.metadata.dimension_names[0] == "time"
            }
            assert len(shapes) == 1
            seen.append(count)
        assert seen == sorted(seen)
    finally:
        killed_at = time.monotonic()
        writer.kill()
    lines = [line.split() for line in writer.stdout.read().splitlines()]
    assert writer.stderr is not None
    assert "Traceback" not in writer.stderr.read()
    writer.communicate()
    due = max(int(i) for i, t in lines if float(t) < killed_at - LOSS_WINDOW_S)
    run = open_run(path)
    assert (run.state, run.report) == ("running", None)
    images = run.images("overview")
    assert images.sizes["time"] > due
    check_frames(images.load(), list(range(images.sizes["time"])), maker)
    assert run.holder.sizes["time"] > due
    assert run.estimates("particles").sizes["time"] > due
    assert run.journal()[0].kind == "run"
    with xr.open_datatree(root, engine="zarr") as tree:
        check_frames(tree["images/overview/full"].to_dataset(), [0, due], maker)


FILLER = """
import errno, json
from acquire.errors import StoreError
from acquire.stream import Note, RunReport
path, limit = Path(sys.argv[1]), int(sys.argv[2])
writer = maker.open(path)
writer.append_frame(maker.image(0), maker.context(0))
writer.publish()
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
told = {"index": 0, "published": 0}
try:
    for index in range(1, 100000):
        writer.append_frame(maker.image(index), maker.context(index))
        told["index"] = index
        if index in (20, 400):
            writer.publish()
            told["published"] = index
        if limit and index == 30:
            # a frame larger than the limit, as the disk's end
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, -1))
except StoreError as error:
    told["append"] = str(error)
    told["errno"] = errno.errorcode.get(getattr(error.__cause__, "errno", None) or 0, "")
try:
    writer.append_frame(maker.image(index + 1), maker.context(0))
except StoreError as error:
    told["again"] = str(error)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
try:
    writer.note(Note("fault", 1.0, "the disk is full"))
    writer.close(RunReport("failed", told["append"], 1.0, {}))
except StoreError as error:
    told["close"] = str(error)
print(json.dumps(told))
"""


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount 3 MB of tmpfs; False where that is not allowed."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    try:
        done = subprocess.run(["mount", *options], capture_output=True, check=False)
        mounted = done.returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def check_full_disk(told: dict[str, Any], path: Path, maker: Any) -> None:
    assert "disk is full" in told["append"]
    assert str(path) in told["append"]
    assert " free" in told["append"]
    assert "Free space" in told["append"]
    assert "disk is full" in told["again"]
    assert "disk is full" in told["close"], "close tells what happened before"
    run = open_run(path)
    images = run.images("overview").load()
    count = images.sizes["time"]
    assert told["published"] >= 20
    assert told["published"] < count <= told["index"] + 1
    check_frames(images, list(range(count)), maker)
    # the reserve leaves room for the reason
    assert run.state == "failed"
    assert [e.kind for e in run.journal()] == ["run", "fault", "run"]
    with xr.open_datatree(path / "run.zarr", engine="zarr") as tree:
        assert tree["images/overview/full"].sizes["time"] == count


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="needs a small file system or a file size limit")
def test_a_full_disk_ends_the_run_with_advice_and_everything_before_it(
    maker: Any, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as mounted:
        path = tmp_path / "disk" / "run"
        writer = start(FILLER, path, 0 if mounted else 1 << 20)
        output, _ = writer.communicate(timeout=60)
        assert writer.returncode == 0
        told = json.loads(output)
        assert told["errno"] in ("", "ENOSPC") if mounted else told["errno"] in ("", "EFBIG")
        check_full_disk(told, path, maker)


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_a_file_that_may_not_grow_ends_the_run_the_same_way(maker: Any, tmp_path: Path) -> None:
    writer = start(FILLER, tmp_path / "run", 1 << 20)
    output, _ = writer.communicate(timeout=60)
    assert writer.returncode == 0
    check_full_disk(json.loads(output), tmp_path / "run", maker)


def test_a_failed_publication_is_raised_by_the_next_append_and_by_close(
    maker: Any, tmp_path: Path
) -> None:
    writer = maker.open(tmp_path / "run")
    writer.append_frame(maker.image(0), maker.context(0))
    writer.publish()
    # the folder of a column becomes a file: only the publisher writes there
    column = tmp_path / "run/run.zarr/holder/measured"
    column.rename(tmp_path / "gone")
    column.write_text("in the way")
    writer.append_row(maker.row(0))
    with pytest.raises(StoreError, match="measured"):
        append_until_refused(writer, maker)
    with pytest.raises(StoreError, match="measured"):
        writer.close(maker.report())
    with xr.open_datatree(tmp_path / "run/run.zarr", engine="zarr") as tree:
        assert tree["images/overview/full"].sizes["time"] >= 1
        assert tree["holder"].sizes["time"] == 0


def append_until_refused(writer: RunWriter, maker: Any) -> None:
    deadline = time.monotonic() + 10
    index = 1
    while time.monotonic() < deadline:
        writer.append_frame(maker.image(index), maker.context(index))
        index += 1
        time.sleep(0.01)
