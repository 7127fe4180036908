"""After a run it has smaller images and statistics; whatever goes wrong meanwhile, it is as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from ome_zarr_models.v05.image import Image

from acquire.errors import StoreError
from acquire.instruments import Axis, ChannelSpec, Frame, FrameMeta, ScalarSpec, StreamSpec
from acquire.store import RunWriter, open_run
from acquire.store.after import (
    WORK_NAME,
    condensing,
    consolidate_run,
    consolidate_within,
    overviews,
)
from acquire.store.after.reduction import halved
from acquire.store.keeping import verify_run
from acquire.store.rewrite import rewrite_metadata
from acquire.stream import FrameBlock

FRAMES = 13
SPECTRA = 5000
HAADF = (520, 514)
ABF = (301, 270)


def large_spec(name: str) -> StreamSpec:
    haadf = ChannelSpec(
        "uint16", HAADF, ("y", "x"), {"y": Axis(-2.0, 0.25, "nm"), "x": Axis(4.0, 0.5, "nm")}
    )
    abf = ChannelSpec(
        "float32", ABF, ("y", "x"), {"y": Axis(0.0, 1.0, "nm"), "x": Axis(0.0, 1.0, "nm")}
    )
    reported = {"haadf_mean": ScalarSpec("counts", "what the instrument says")}
    return StreamSpec(name, {"haadf": haadf, "abf": abf}, reported, frame_period_s=0.5)


def large_image(index: int) -> Frame:
    random = np.random.default_rng(index)
    data = {
        "haadf": random.poisson(40, HAADF).astype(np.uint16),
        "abf": random.normal(0, 1, ABF).astype(np.float32),
    }
    meta = FrameMeta({"haadf_mean": 40.5})
    return Frame("large", index, data, 0.5 * index, 0.5 * index + 0.4, meta)


def small_image(index: int) -> Frame:
    data = {"haadf": np.full((8, 8), index, np.uint8)}
    return Frame("small", index, data, float(index), index + 0.5)


def make_run(maker: Any, path: Path) -> Path:
    writer: RunWriter = maker.open(path)
    writer.declare_frames("images", large_spec("empty"))
    small = ChannelSpec("uint8", (8, 8), ("y", "x"), {})
    writer.declare_frames("images", StreamSpec("small", {"haadf": small}))
    for index in range(3):
        writer.append_frame(small_image(index), maker.context(index))
    writer.declare_frames("images", large_spec("large"))
    for index in range(FRAMES):
        if index != 7:  # a gap
            writer.append_frame(large_image(index), maker.context(index))
    channel = ChannelSpec("uint32", (16,), ("energy_loss",), {"energy_loss": Axis(0, 1, "eV")})
    writer.declare_frames("spectra", StreamSpec("fast", {"core_loss": channel}, {}, 0.05))
    times = 0.05 * np.arange(SPECTRA)
    data = np.arange(SPECTRA * 16, dtype=np.uint32).reshape(SPECTRA, 16)
    writer.append_block(FrameBlock("fast", 0, {"core_loss": data}, times, times + 0.05))
    writer.close(maker.report())
    return path


@pytest.fixture(scope="module")
def made(maker: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed run; copied by whoever changes it."""
    return make_run(maker, tmp_path_factory.mktemp("overviews") / "run")


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # batches of four images, so that there are many
    monkeypatch.setattr(condensing, "BATCH_BYTES", 4 * 260 * 257 * 2)
    return Path(shutil.copytree(made, tmp_path / "run"))


def hashes(folder: Path, keep: Callable[[str], bool] = lambda name: True) -> dict[str, str]:
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and keep(name := file.relative_to(folder).as_posix())
    }


def is_metadata(name: str) -> bool:
    return name.endswith(("zarr.json", "checksums.jsonl"))


def test_levels_and_statistics_are_those_of_the_frames_and_the_frames_stay(run: Path) -> None:
    recorded = hashes(run, lambda name: not is_metadata(name))
    done = consolidate_run(run)
    assert done.complete
    assert done.unreadable == ()
    rows = FRAMES - 1
    with xr.open_datatree(run / "run.zarr", engine="zarr") as tree:
        full = tree["images/large/full"].to_dataset()
        assert set(full.data_vars) == {"haadf", "abf"}, "statistics are coordinates, not images"
        assert set(tree["images/large"].children) == {"full", "2x", "4x"}
        assert set(tree["images/large/4x"].data_vars) == {"haadf"}
        assert tree["images/large/4x/haadf"].shape == (rows, 130, 128)
        fine = full.haadf
        for level in ("2x", "4x"):
            coarse = tree[f"images/large/{level}"].to_dataset()
            expected = fine.astype(float).coarsen(y=2, x=2, boundary="trim").mean()
            assert coarse.haadf.dtype == np.uint16
            np.testing.assert_array_equal(coarse.haadf, np.rint(expected))
            for dim in ("time", "y", "x"):
                np.testing.assert_allclose(coarse[dim], expected[dim])
            fine = coarse.haadf
        abf = tree["images/large/2x"].to_dataset().abf
        assert abf.shape == (rows, 150, 135)
        trimmed = full.abf.coarsen({full.abf.dims[1]: 2, full.abf.dims[2]: 2}, boundary="trim")
        np.testing.assert_allclose(abf, trimmed.mean(), atol=1e-6)
        over = ("y", "x")
        np.testing.assert_array_equal(full.haadf_min, full.haadf.min(over))
        np.testing.assert_array_equal(full.haadf_max, full.haadf.max(over))
        # the instrument's own number keeps its name
        np.testing.assert_array_equal(full.haadf_mean, np.full(rows, 40.5))
        mean = full.haadf.astype(float).mean(over)
        np.testing.assert_allclose(full.haadf_mean_of_frame, mean)
        assert full.haadf_mean_of_frame.attrs["cell_methods"] == "y: x: mean"
        spectra = tree["spectra/fast"].to_dataset()
        assert spectra.sizes["time"] == SPECTRA
        np.testing.assert_array_equal(spectra.core_loss_total, spectra.core_loss.sum("energy_loss"))
        assert set(tree["images/small"].children) == {"full"}, "small images need no smaller ones"
        assert tree["images/small/full"].haadf_mean.values.tolist() == [0.0, 1.0, 2.0]
        assert tree["images/empty/2x/haadf"].shape == (0, 260, 257)
    after = hashes(run)
    assert {name: after[name] for name in recorded} == recorded
    verified = verify_run(run)
    assert verified.good, verified.findings
    lines = (run / "checksums.jsonl").read_text().splitlines()
    covered = {json.loads(line)["path"] for line in lines}
    assert "images/large/full/abf_mean/c.0" in covered
    assert "images/large/4x/x/c.0" in covered
    again = consolidate_run(run)
    assert (again.complete, again.made, again.frames) == (True, (), 0)
    assert hashes(run) == after, "twice is once"


def test_all_levels_are_one_ome_zarr_image_whose_scales_are_the_coordinates(run: Path) -> None:
    consolidate_run(run)
    group = zarr.open_group(run / "run.zarr/images/large", mode="r")
    image = Image.from_zarr(group)
    paths = [[d.path for d in m.datasets] for m in image.ome_attributes.multiscales]
    assert paths == [["full/haadf", "2x/haadf", "4x/haadf"], ["full/abf", "2x/abf"]]
    for multiscale in image.ome_attributes.multiscales:
        for dataset in multiscale.datasets:
            scale, translation = dataset.coordinateTransformations
            array = group[dataset.path]
            assert isinstance(array, zarr.Array)
            above = dataset.path.rpartition("/")[0]
            for axis, dim in enumerate(array.metadata.dimension_names or ()):
                if axis:
                    centres = group[f"{above}/{dim}"][:]
                    found = translation.translation[axis] + scale.scale[axis] * np.arange(
                        array.shape[axis]
                    )
                    np.testing.assert_allclose(found, centres)


def test_whoever_stops_it_goes_on_later_and_comes_to_the_same(
    run: Path, made: Path, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(made, tmp_path / "whole"))
    consolidate_run(whole)
    before = hashes(run / "run.zarr")
    calls = frames = 0
    while True:
        done = consolidate_run(run, stop=lambda: True)
        calls, frames = calls + 1, frames + done.frames
        if done.complete:
            break
        assert hashes(run / "run.zarr") == before, "unfinished work shows nowhere"
    assert calls >= 8
    assert frames == 2 * (FRAMES - 1) + 3 + SPECTRA, "no frame was read twice"
    assert hashes(run) == hashes(whole)


def test_at_the_end_of_a_run_it_takes_no_longer_than_it_may(run: Path) -> None:
    assert f"run `hotstage consolidate {run}`" in consolidate_within(run, 0)
    assert (run / WORK_NAME).exists()
    assert consolidate_within(run, 600, stop=lambda: True), "something else wants the machine"
    assert consolidate_within(run, 600) == ""
    assert not (run / WORK_NAME).exists()
    assert "2x/haadf" in zarr.open_group(run / "run.zarr/images/large", mode="r")


@pytest.mark.parametrize("step", ["_move", "_write_checksums", "rewrite_metadata"])
def test_a_death_while_it_is_put_in_place_leaves_a_run_that_the_next_call_completes(
    run: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Death(BaseException):
        pass

    owner = overviews if step == "rewrite_metadata" else overviews._Work
    real = getattr(owner, step)
    calls = 0

    def die_at_the_third(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3 or step in ("_write_checksums", "rewrite_metadata"):
            raise Death
        return real(*arguments, **named)

    root = (run / "run.zarr/zarr.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, die_at_the_third)
        with pytest.raises(Death):
            consolidate_run(run)
    assert (run / "run.zarr/zarr.json").read_bytes() == root
    assert open_run(run).images("large").sizes["time"] == FRAMES - 1
    done = consolidate_run(run)
    assert done.frames == 0, "what was made is kept"
    assert {"images/large/4x/haadf", "images/large/2x/y", "images/small/full/haadf_max"} < {
        *done.made
    }
    shown = zarr.open_group(run / "run.zarr", mode="r")
    assert all(path in shown for path in done.made)
    assert verify_run(run).good
    assert not (run / WORK_NAME).exists()


def test_what_does_not_fit_the_run_any_more_is_made_anew(run: Path) -> None:
    consolidate_run(run)
    root = run / "run.zarr"
    before = hashes(root)
    path = "images/large/2x/haadf"
    document = json.loads((root / path / "zarr.json").read_text())
    document["shape"][0] -= 1
    rewrite_metadata(root, arrays={path: document})
    (root / path / "c.0.0.0").write_bytes(b"")
    done = consolidate_run(run)
    assert (done.made, done.frames) == ((path,), FRAMES - 1)
    assert hashes(root) == before
    assert verify_run(run).good


_CHILD = """
import sys
from acquire.store.after import condensing, consolidate_run
condensing.BATCH_BYTES = 4 * 260 * 257 * 2
consolidate_run(sys.argv[1], progress=lambda part: print(part, flush=True))
"""


@pytest.mark.process
def test_killed_in_the_middle_it_goes_on_where_it_was(run: Path) -> None:
    before = hashes(run / "run.zarr")
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(run)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(6):
            assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert hashes(run / "run.zarr") == before
    assert verify_run(run).good
    done = consolidate_run(run)
    assert 0 < done.frames < 2 * (FRAMES - 1) + 3 + SPECTRA - 5
    assert verify_run(run).good


def test_a_frame_that_rotted_costs_itself_and_is_named(run: Path) -> None:
    shard = run / "run.zarr/images/large/full/haadf/c.0.0.0"
    data = bytearray(shard.read_bytes())
    chunks = zarr.open_array(shard.parent, mode="r").shards[0]
    index = np.frombuffer(bytes(data[: 16 * chunks]), "<u8").reshape(-1, 2)
    row = 5
    data[int(index[row, 0]) + 100] ^= 1
    shard.write_bytes(data)
    done = consolidate_run(run)
    assert done.unreadable == (f"images/large/full/haadf: row {row}",)
    images = open_run(run).images("large")
    assert np.flatnonzero(np.isnan(images.haadf_max)).tolist() == [row]
    assert not np.isnan(images.abf_max).any()
    half = zarr.open_array(run / "run.zarr/images/large/2x/haadf", mode="r")
    assert not np.asarray(half[row]).any(), "it is missing, as its gap will say"
    assert np.asarray(half[row - 1]).all()
    assert np.asarray(half[row + 1]).all()


def test_a_run_that_is_not_over_or_a_disk_without_room_is_refused(
    run: Path, maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = maker.open(tmp_path / "live")
    with pytest.raises(StoreError, match="in use: it is still being written"):
        consolidate_run(tmp_path / "live")
    writer.close(maker.report())
    consolidate_run(tmp_path / "live")
    root = run / "run.zarr/zarr.json"
    document = json.loads(root.read_text())
    document["attributes"]["report"] = None
    root.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"cut off.*hotstage recover"):
        consolidate_run(run)
    document["attributes"]["report"] = json.loads(
        (tmp_path / "live/run.zarr/zarr.json").read_text()
    )["attributes"]["report"]
    root.write_text(json.dumps(document))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(overviews.shutil, "disk_usage", lambda path: usage(1, 1, 2**28))
    before = hashes(run / "run.zarr")
    with pytest.raises(StoreError, match=r"need about .* 268 MB free"):
        consolidate_run(run)
    assert hashes(run / "run.zarr") == before


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
def test_halving_rounds_to_the_nearest_and_never_overflows(dtype: str) -> None:
    random = np.random.default_rng(0)
    shape = (3, 7, 9)
    if dtype.startswith("f"):
        frames = random.normal(0, 1000, shape).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        frames = random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        frames[0] = limits.max
    exact = frames[:, :6, :8].astype(np.float64).reshape(3, 3, 2, 4, 2).mean(axis=(2, 4))
    found = halved(frames)
    assert found.dtype == frames.dtype
    if dtype.startswith("f"):
        eps = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(found, exact, rtol=0, atol=eps * np.abs(frames).max())
    else:
        np.testing.assert_array_equal(found, np.rint(exact).astype(dtype))


def test_metadata_of_a_closed_run_are_rewritten_from_what_lies_on_the_disk(run: Path) -> None:
    root = run / "run.zarr"
    assert rewrite_metadata(root) == (), "the writer left them in step"
    wanted = {name: (root / name).read_bytes() for name in hashes(root, is_metadata)}
    for name in ("images/zarr.json", "images/small/full/zarr.json"):
        (root / name).unlink()
    changed = rewrite_metadata(
        root, attributes={"images/small/full": {"missing_frames": 0, "note": "new"}}
    )
    assert changed[-1] == "zarr.json", "the root's comes last"
    assert set(changed) == {
        "images/small/full/zarr.json",
        "images/small/zarr.json",
        "images/zarr.json",
        "zarr.json",
    }
    with xr.open_datatree(root, engine="zarr") as tree:
        assert tree["images/small/full"].attrs["note"] == "new"
    document = json.loads((root / "images/small/full/time/zarr.json").read_text())
    document["shape"] = [2]
    rewrite_metadata(root, arrays={"images/small/full/time": document})
    shown = json.loads((root / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    assert shown["images/small/full/time"]["shape"] == [2]
    with pytest.raises(StoreError, match="no folder for images/nowhere"):
        rewrite_metadata(root, arrays={"images/nowhere": document})
    (root / "holder/zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"holder/zarr\.json cannot be read"):
        rewrite_metadata(root)
    assert len(wanted) > 20
