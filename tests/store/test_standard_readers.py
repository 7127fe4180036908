"""Live, killed and finished runs open with what others have installed, and with nothing of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ome_zarr_models
import pytest
import zarr
from ome_zarr_models.v05.image import Image

HERE = Path(__file__).parent

WRITER = f"""
import dataclasses, importlib.util, sys, time
from pathlib import Path
import numpy as np
from acquire.stream.sink import FrameBlock
spec = importlib.util.spec_from_file_location("maker", {str(HERE / "conftest.py")!r})
module = importlib.util.module_from_spec(spec)
sys.modules["maker"] = module
spec.loader.exec_module(module)
maker = module.make_maker()
# many spectra share a chunk, which a reader meets before it is full
maker.spectra = dataclasses.replace(maker.spectra, frame_period_s=0.005)
writer = maker.open(Path(sys.argv[1]))
ends = int(sys.argv[2])
index = 0
due = time.monotonic()
while index != ends:
    if index == 5:
        writer.gap("overview", 5, "the link was lost")
    else:
        writer.append_frame(maker.image(index), maker.context(index))
    writer.append_row(maker.row(index))
    writer.append_estimate(maker.estimate(index, 3))
    first = 3 * index
    rows = np.arange(first + 1, first + 4, dtype=np.uint32)
    data = {{n: np.repeat(rows[:, None], 64, axis=1) for n in ("core_loss", "low_loss")}}
    starts = 0.005 * (rows - 1.0)
    writer.append_block(FrameBlock("line", first, data, starts, starts + 0.004))
    index += 1
    if index in (20, ends):
        writer.publish()
        print("ready", flush=True)
    due += 0.01
    time.sleep(max(0.0, due - time.monotonic()))
writer.close(maker.report())
"""

# what a stranger would write; the frames' contents follow from their number
READER = """
import json, sys
import numpy as np
import tensorstore as ts
import xarray as xr
import zarr

root = sys.argv[1] + "/run.zarr"
expected = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)


def check_images(haadf, index, rows):
    assert haadf.shape[0] == len(index) == rows
    for row in sorted({0, 4, 5, rows // 2, rows - 1}):
        assert index[row] == row + (row >= 5), (row, index[row])
        assert (np.asarray(haadf[row]) == expected + index[row] + 1).all(), row


def check_spectra(core_loss, rows):
    core_loss = np.asarray(core_loss)
    assert core_loss.shape == (rows, 64)
    assert (core_loss == np.arange(1, rows + 1)[:, None]).all()


counts = []

# zarr-python: consolidated metadata, which it finds by itself; shapes of one moment
group = zarr.open_group(root, mode="r")
full = group["images/overview/full"]
counts.append(full["time"].shape[0])
check_images(full["haadf"], full["frame_index"][:], counts[-1])
line = group["spectra/line"]
check_spectra(line["core_loss"], line["time"].shape[0])
assert (group["holder/measured"][:] == 20.0 + np.arange(group["holder/measured"].shape[0])).all()
assert group["gaps/frame_index"][:].tolist() == [5]
assert group["gaps/reason"].attrs["flag_texts"][group["gaps/reason"][0]] == "the link was lost"

# xarray: the whole as a tree, and one group
with xr.open_datatree(root, engine="zarr") as tree:
    images = tree["images/overview/full"].to_dataset()
    counts.append(images.sizes["time"])
    check_images(images.haadf.values, images.frame_index.values, counts[-1])
    assert images.haadf.dims == ("time", "y", "x")
    assert images.time.attrs["units"] == "s" and images.x.attrs["units"] == "nm"
    assert {"temperature_before", "dose", "t_end"} <= set(images.coords)
    spectra = tree["spectra/line"].to_dataset()
    check_spectra(spectra.core_loss.values, spectra.sizes["time"])
    assert (tree["particles/particles"].diameter_nm == 3.0).all()
images = xr.open_zarr(root, group="images/overview/full")
counts.append(images.sizes["time"])
check_images(images.haadf.values, images.frame_index.values, counts[-1])

# tensorstore: single arrays, by the metadata of each
def opened(path):
    return ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{root}/{path}"}}).result()


index = opened("images/overview/full/frame_index").read().result()
haadf = opened("images/overview/full/haadf")
(sharding,) = haadf.spec().to_json()["metadata"]["codecs"]
assert sharding["name"] == "sharding_indexed"
assert sharding["configuration"]["index_location"] == "start"
assert sharding["configuration"]["codecs"][-1] == {"name": "crc32c"}
# a live run's arrays follow one after the other: what both have is what counts
common = min(len(index), haadf.shape[0])
counts.append(common)
check_images(haadf[:common].read().result(), index[:common], common)
core_loss = opened("spectra/line/core_loss").read().result()
check_spectra(core_loss, len(core_loss))

ours = [name for name in sys.modules if name.split(".")[0] in ("acquire", "hotstage", "gui")]
assert not ours, ours
print(json.dumps({"counts": counts, "state": group.attrs["state"]}))
"""


def read_with_nothing_of_ours(path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", textwrap.dedent(READER), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_ome(path: Path) -> int:
    """Validate the images as OME-NGFF 0.5; returns the number of frames that it tells of."""
    group = zarr.open_group(path / "run.zarr/images/overview", mode="r")
    model = ome_zarr_models.open_ome_zarr(group, version="0.5")
    assert isinstance(model, Image)
    ome = model.attributes.ome
    assert [m.name for m in ome.multiscales] == ["haadf", "abf"]
    for multiscale in ome.multiscales:
        assert [(a.name, a.type, a.unit) for a in multiscale.axes] == [
            ("time", "time", "second"),
            ("y", "space", "nanometer"),
            ("x", "space", "nanometer"),
        ]
    haadf = group["full/haadf"]
    assert isinstance(haadf, zarr.Array)
    return int(haadf.shape[0])


@pytest.fixture
def start_writer(tmp_path: Path) -> Iterator[Any]:
    writers: list[subprocess.Popen[str]] = []

    def start(ends: int) -> subprocess.Popen[str]:
        writer = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path / "run"), str(ends)],
            stdout=subprocess.PIPE,
            text=True,
        )
        writers.append(writer)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        return writer

    yield start
    for writer in writers:
        writer.kill()
        writer.communicate()


@pytest.mark.process
def test_a_run_opens_in_every_standard_reader_while_it_is_written_and_after_a_kill(
    tmp_path: Path, start_writer: Any
) -> None:
    path = tmp_path / "run"
    writer = start_writer(-1)

    live = read_with_nothing_of_ours(path)
    assert live["state"] == "running"
    # single arrays may lag behind the groups by a second
    assert live["counts"][:3] == sorted(live["counts"][:3]), "later looks show no less"
    assert live["counts"][3] > 0
    assert live["counts"][0] >= 19
    seen = check_ome(path)
    assert writer.poll() is None, "the writer was at it all the time"
    assert check_ome(path) >= seen

    writer.kill()
    writer.wait()
    killed = read_with_nothing_of_ours(path)
    assert killed["state"] == "running"
    assert killed["counts"][0] > live["counts"][0]
    assert len(set(killed["counts"][:3])) == 1
    # so does the group above the frames
    assert 0 <= killed["counts"][0] - check_ome(path) < 200


@pytest.mark.process
def test_a_finished_run_opens_in_every_standard_reader(tmp_path: Path, start_writer: Any) -> None:
    path = tmp_path / "run"
    assert start_writer(60).wait(30) == 0
    assert read_with_nothing_of_ours(path) == {"counts": [59] * 4, "state": "completed"}
    assert check_ome(path) == 59
