"""An export never overwrites, never looks finished when it is not, and never invents a frame."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rsciio.hspy

from acquire.cli.app import main
from acquire.errors import StoreError
from acquire.export import Format, export_run
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.store import open_run
from acquire.stream import FrameContext, RunReport

HERE = Path(__file__).parent

MAKER = f"""
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("making", {str(HERE / "conftest.py")!r})
making = importlib.util.module_from_spec(spec)
sys.modules["making"] = making
spec.loader.exec_module(making)
"""


@pytest.mark.parametrize("to", Format)
def test_what_exists_is_not_touched(to: Format, made: Any, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_text("precious")
    with pytest.raises(StoreError, match=r"mine exists already and is not touched"):
        export_run(open_run(made.path), to, output=target)
    assert target.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("to", Format)
def test_a_damaged_frame_ends_the_export_and_leaves_nothing(
    to: Format, made: Any, tmp_path: Path
) -> None:
    shutil.copytree(made.path, tmp_path / "run")
    name = "overview/full/frame_index/c.0" if to is Format.CSV else "overview/full/haadf/c.0.0.0"
    damaged = tmp_path / "run/run.zarr/images" / name
    data = bytearray(damaged.read_bytes())
    data[-10] ^= 1
    damaged.write_bytes(data)
    if to is Format.CSV:
        damaged.unlink()  # columns carry no checksum that a reader could check
    with pytest.raises(StoreError, match=r"(cannot be read at|is lost).*hotstage verify"):
        export_run(open_run(tmp_path / "run"), to, output=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("to", [Format.HSPY, Format.OME_TIFF, Format.NEXUS])
def test_lost_frames_end_the_export_and_are_not_black(
    to: Format, made: Any, tmp_path: Path
) -> None:
    shutil.copytree(made.path, tmp_path / "run")
    (tmp_path / "run/run.zarr/images/overview/full/haadf/c.0.0.0").unlink()
    with pytest.raises(StoreError, match=r"haadf/c\.0\.0\.0 cannot be read"):
        export_run(open_run(tmp_path / "run"), to, output=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing(made: Any, tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from acquire.cli.app import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
for to in sys.argv[3:]:
    status = main(["export", sys.argv[1], "--to", to, "-o", f"{sys.argv[2]}/{to}"])
    assert status == 1, (to, status)
"""
    formats = [Format.OME_TIFF, Format.TIFF, Format.CSV]
    done = subprocess.run(
        [sys.executable, "-c", script, str(made.path), str(tmp_path), *formats],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert len(told) == len(formats)
    for line, to in zip(told, formats, strict=True):
        assert f"{to} cannot be written" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a small file system")
def test_hdf5_never_meets_a_full_disk(made: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        for to in (Format.NEXUS, Format.HSPY):
            export_run(open_run(made.path), to, output=disk / "fits")
            shutil.rmtree(disk / "fits") if to is Format.HSPY else (disk / "fits").unlink()
        (disk / "others").write_bytes(bytes(6 * 2**20))
        for to in (Format.NEXUS, Format.HSPY):
            with pytest.raises(StoreError, match=r"disk is full.*--output"):
                export_run(open_run(made.path), to, output=disk / "out")
        assert [p.name for p in disk.iterdir()] == ["others"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.process
def test_a_live_and_then_killed_run_is_exported_as_far_as_it_came(tmp_path: Path) -> None:
    script = """
writer = making.open_writer(Path(sys.argv[1]))
for index in (0, 1, 2):
    making.record_image(writer, index)
writer.publish()
print("ready", flush=True)
sys.stdin.readline()
making.record_image(writer, 3)
writer.publish()
print("ready", flush=True)
sys.stdin.readline()
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", MAKER + script, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == "ready\n"
        live = open_run(tmp_path / "run")
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "ready\n"
        export_run(live, Format.HSPY, output=tmp_path / "live")
    finally:
        writer.kill()
        writer.communicate()
    killed = open_run(tmp_path / "run")
    export_run(killed, Format.HSPY, output=tmp_path / "killed")
    for folder, frames in (("live", [0, 1, 2]), ("killed", [0, 1, 2, 3])):
        (signal,) = rsciio.hspy.file_reader(str(tmp_path / folder / "overview_haadf.hspy"))
        ours = signal["original_metadata"]["hotstage"]
        assert ours["frames"]["frame_index"].tolist() == frames
        assert ours["outcome"] == "running"
        assert "was not closed" in ours["cause"]
        assert (signal["axes"][0]["_type"], signal["axes"][0]["scale"]) == ("UniformDataAxis", 2.0)
        assert signal["data"].all(axis=(1, 2)).all(), "no frame is black"


@pytest.mark.process
@pytest.mark.skipif(os.name == "nt", reason="asks for the peak of memory by POSIX")
def test_a_run_larger_than_the_memory_that_is_used_is_exported(tmp_path: Path) -> None:
    script = """
import json, resource
import numpy as np
from acquire.export import Format, export_run
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.store import RunWriter, open_run
from acquire.stream import FrameContext, RunReport
import dask.array, h5py, rsciio.hspy, rsciio.zspy, tifffile  # what they take is not counted

place, frames, side = Path(sys.argv[1]), 96, 1024
writer = RunWriter(place / "run")
writer.open(making.header())
axis = Axis(0.0, 0.1, "nm")
channel = ChannelSpec("uint16", (side, side), ("y", "x"), {"y": axis, "x": axis})
writer.declare_frames("images", StreamSpec("overview", {"haadf": channel}))
data = np.zeros((side, side), np.uint16)
for index in range(frames):
    data = np.full((side, side), index + 1, np.uint16)
    frame = Frame("overview", index, {"haadf": data}, float(index), index + 0.9)
    writer.append_frame(frame, FrameContext(700.0, 700.0, 1.0, index))
writer.close(RunReport("completed", "", 60.0, {}))
# as much again of what the writer used has been given back, and counts as free
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peaks = {}
for to in Format:
    export_run(open_run(place / "run"), to, output=place / to.value)
    peaks[to] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
print(json.dumps({"raw_mb": frames * side * side * 2 / 2**20, "grown_kb": peaks}))
"""
    done = subprocess.run(
        [sys.executable, "-c", MAKER + script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["raw_mb"] == 192
    assert set(found["grown_kb"]) == set(Format)
    assert max(found["grown_kb"].values()) < 96 * 1024, found
    with h5py.File(tmp_path / "nexus") as file:
        data = file["entry/overview_haadf/data"]
        np.testing.assert_array_equal(data[:, 5, 7], np.arange(1, 97))


# ---------------------------------------------------------------------------- by command


def test_the_command_exports_to_every_format_beside_the_run(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made.path, tmp_path / "run")
    for to in Format:
        assert main(["export", str(tmp_path / "run"), "--to", to.value]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "line is left out: tiff takes images" in said.out
    assert "overview_haadf.hspy: 6 frames" in said.out
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "run",
        "run.nxs",
        "run_csv",
        "run_hspy",
        "run_ome-tiff",
        "run_tiff",
        "run_zspy",
    ]


def test_the_command_refuses_with_advice(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: str) -> str:
        before = sorted(tmp_path.iterdir())
        assert main(["export", *arguments]) == 1
        assert sorted(tmp_path.iterdir()) == before
        return capsys.readouterr().err

    run, out = str(made.path), ["-o", str(tmp_path / "out")]
    assert "there is: overview, line" in refuse(run, "--to", "csv", "--stream", "lin", *out)
    assert "to hspy, zspy or nexus" in refuse(run, "--to", "tiff", "--stream", "line", *out)
    assert "without '.hspy'" in refuse(run, "--to", "hspy", "-o", str(tmp_path / "a.hspy"))
    assert "does not exist" in refuse(str(tmp_path / "nowhere"), "--to", "csv", *out)


def test_a_run_without_frames_is_refused(tmp_path: Path) -> None:
    making = _making()
    making.open_writer(tmp_path / "run").close(RunReport("aborted", "no beam", 1.0, {}))
    for to in Format:
        with pytest.raises(StoreError, match=r"holds no"):
            export_run(open_run(tmp_path / "run"), to, output=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def _making() -> Any:
    space: dict[str, Any] = {}
    exec(MAKER, space)
    return space["making"]


@pytest.mark.parametrize(
    ("to", "module", "package"),
    [
        (Format.HSPY, "rsciio.hspy", "rosettasciio"),
        (Format.ZSPY, "rsciio.zspy._api", "rosettasciio"),
        (Format.TIFF, "tifffile", "tifffile"),
        (Format.NEXUS, "h5py", "h5py"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    to: Format,
    module: str,
    package: str,
    made: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StoreError, match=rf"needs {package}.*hotstage\[export\]"):
        export_run(open_run(made.path), to, output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_imagej_refuses_what_it_would_show_wrongly(tmp_path: Path) -> None:
    making = _making()
    writer = making.open_writer(tmp_path / "run")
    axis = Axis(0.0, 1.0, "nm")
    channel = ChannelSpec("uint32", (4, 4), ("y", "x"), {"y": axis, "x": axis})
    writer.declare_frames("images", StreamSpec("wide", {"camera": channel}))
    frame = Frame("wide", 0, {"camera": np.full((4, 4), 2**20, np.uint32)}, 0.0, 1.0)
    writer.append_frame(frame, FrameContext(1.0, 1.0, 1.0, 0))
    writer.close(RunReport("completed", "", 1.0, {}))
    run = open_run(tmp_path / "run")
    with pytest.raises(StoreError, match=r"wide_camera holds uint32.*ome-tiff"):
        export_run(run, Format.TIFF, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_run(run, Format.OME_TIFF, output=tmp_path / "out")
