"""Whatever is wrong with a run is found and named, and recovery mends it or declares it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from acquire.cli.app import main
from acquire.store import open_run, recover_run, verify_run
from acquire.store.shards import index_bytes, index_size, read_index
from tests.store.conftest import make_maker, make_small_run

FULL = "run.zarr/images/overview/full"
SHARD = f"{FULL}/haadf/c.0.0.0"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def flip_chunk(run: Path) -> None:
    offset, size = read_index(run / SHARD, 250)[4]
    flip(run / SHARD, int(offset + size) - 20)


def flip_index(run: Path) -> None:
    flip(run / SHARD, 20)


def drop_index_entry(run: Path) -> None:
    """The shard of somebody who forgot a chunk: its index is right, and frame 1 reads as zeros."""
    entries = read_index(run / SHARD, 250).copy()
    entries[1] = 2**64 - 1
    with (run / SHARD).open("r+b") as file:
        file.write(index_bytes(entries))


def truncate_shard(run: Path) -> None:
    with (run / SHARD).open("r+b") as file:
        file.truncate(index_size(250) + 40)


def delete_line(run: Path) -> None:
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (run / "journal.jsonl").write_bytes(b"".join(lines[:1] + lines[2:]))


def garble_line(run: Path) -> None:
    flip(run / "journal.jsonl", 1)


def shorten_column(run: Path) -> None:
    with (run / FULL / "t_end/c.0").open("r+b") as file:
        file.truncate(1000)


def forget_gap(run: Path) -> None:
    """A run whose table of gaps is empty, though a frame is missing."""
    for path in (run / "run.zarr").rglob("zarr.json"):
        path.write_text(path.read_text().replace('"missing_frames": 1', '"missing_frames": 0'))
    rewrite_column(run, "gaps/frames", 0, 0)


def rewrite_column(run: Path, column: str, row: int, value: float) -> None:
    """Change a number together with its checksum: only its meaning is wrong."""
    file = run / "run.zarr" / column / "c.0"
    dtype = json.loads((file.parent / "zarr.json").read_text())["data_type"]
    values = np.frombuffer(file.read_bytes(), dtype).copy()
    values[row] = value
    file.write_bytes(values.tobytes())
    lines = [json.loads(line) for line in (run / "checksums.jsonl").read_text().splitlines()]
    for line in lines:
        if line["path"] == f"{column}/c.0":
            line["crc32c"] = google_crc32c.value(values.tobytes()[: line["bytes"]])
    (run / "checksums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def edit_metadata(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        text = (run / file).read_text()
        assert old in text
        (run / file).write_text(text.replace(old, new))

    return edit


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "byte of a chunk": (flip_chunk, SHARD, "row 4: the checksum does not match"),
    "byte of an index": (flip_index, SHARD, "rows 0 to 4: the index of the shard is damaged"),
    "chunk without entry": (drop_index_entry, SHARD, "row 1: the chunk is missing and would read"),
    "shard gone": (lambda run: (run / SHARD).unlink(), SHARD, "rows 0 to 4: the shard is missing"),
    "shard cut": (truncate_shard, SHARD, "the shard ends"),
    "byte of a column": (
        lambda run: flip(run / FULL / "dose/c.0", 9),
        f"{FULL}/dose/c.0",
        "the checksum does not match",
    ),
    "column gone": (
        lambda run: (run / "run.zarr/holder/measured/c.0").unlink(),
        "run.zarr/holder/measured/c.0",
        "rows 0 to 6: the chunk is missing",
    ),
    "column cut": (shorten_column, f"{FULL}/t_end/c.0", "the chunk has 1000 bytes, not 32768"),
    "journal line gone": (delete_line, "journal.jsonl", "after number 0 comes 2"),
    "journal line garbled": (garble_line, "journal.jsonl", "line 1 cannot be read"),
    "journal gone": (
        lambda run: (run / "journal.jsonl").unlink(),
        "journal.jsonl",
        "cannot be read",
    ),
    "array's metadata gone": (
        lambda run: (run / FULL / "haadf/zarr.json").unlink(),
        f"{FULL}/haadf",
        "its zarr.json is missing",
    ),
    "group's metadata garbled": (
        lambda run: (run / FULL / "zarr.json").write_text("{"),
        f"{FULL}/zarr.json",
        "cannot be read",
    ),
    "root's metadata gone": (
        lambda run: (run / "run.zarr/zarr.json").unlink(),
        "run.zarr/zarr.json",
        "is missing",
    ),
    "copies differ": (
        edit_metadata(f"{FULL}/haadf/zarr.json", '"units": "count"', '"units": "volt"'),
        f"{FULL}/haadf",
        "copies of its metadata differ",
    ),
    "lengths differ": (
        edit_metadata(f"{FULL}/dose/zarr.json", '"shape": [5]', '"shape": [4]'),
        FULL,
        "different lengths: [4, 5]",
    ),
    "checksums gone": (
        lambda run: (run / "checksums.jsonl").unlink(),
        "checksums.jsonl",
        "cannot be read",
    ),
    "time falls": (
        lambda run: rewrite_column(run, "images/overview/full/time", 3, 0.5),
        f"{FULL}/time",
        "row 3: earlier than the row before",
    ),
    "no time": (
        lambda run: rewrite_column(run, "images/overview/full/time", 3, np.nan),
        f"{FULL}/time",
        "row 3: no time",
    ),
    "ends before it starts": (
        lambda run: rewrite_column(run, "images/overview/full/t_end", 0, -1.0),
        f"{FULL}/t_end",
        "row 0: not after the frame's start",
    ),
    "a frame twice": (
        lambda run: rewrite_column(run, "images/overview/full/frame_index", 3, 3),
        f"{FULL}/frame_index",
        "row 3: frame 3 after frame 3",
    ),
    "a gap that nobody tells": (forget_gap, FULL, "frame 2 of overview missing; only the journal"),
    "an estimate of no frame": (
        lambda run: rewrite_column(run, "estimates/particles/frame_index", 4, 77),
        "run.zarr/estimates/particles",
        "refers to frame 77 of overview, which is not there",
    ),
    "an unknown word": (
        lambda run: rewrite_column(run, "holder/state", 2, 9),
        "run.zarr/holder/state/c.0",
        "words that nobody knows",
    ),
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_run(make_maker(), tmp_path_factory.mktemp("pristine") / "run")


def data_files(run: Path) -> dict[str, str]:
    """Hashes of all acquired data: shards and columns, but for the table of gaps."""
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (run / "run.zarr").rglob("c.*")
        if "gaps" not in path.parts and path.suffix != ".partial"
    }


def test_a_finished_run_is_good_and_its_gap_is_told(pristine: Path) -> None:
    told: list[float] = []
    result = verify_run(pristine, told.append)
    assert result.good
    assert [(f.severity, f.text) for f in result.findings] == [
        ("loss", "frame 2 of overview missing: the link was lost")
    ]
    assert (result.state, result.live) == ("completed", False)
    checked = {row.path: row for row in result.rows}
    assert (checked["images/overview/full/haadf"].rows, result.lengths["holder"]) == (5, 7)
    assert checked["images/overview/full/haadf"].chunks == 5
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert recover_run(pristine).changes == ()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named_and_after_recovery_it_is_mended_or_declared(
    damage: str, pristine: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(pristine, run)
    spoil, where, text = DAMAGES[damage]
    spoil(run)
    found = verify_run(run)
    assert not found.good
    worst = [f for f in found.findings if f.severity == "damage"]
    assert any(f.where == where and text in f.text for f in worst), worst

    before = data_files(run)
    recovery = recover_run(run)
    assert recovery.changes
    assert data_files(run) == before
    after = verify_run(run)
    assert after.good, after.findings
    # what cannot be brought back is still told, as a loss
    mended = {
        "journal gone",
        "array's metadata gone",
        "group's metadata garbled",
        "root's metadata gone",
        "copies differ",
        "lengths differ",
        "checksums gone",
        "a gap that nobody tells",
        "an estimate of no frame",
    }
    if damage not in mended:
        assert any(f.severity == "loss" and f.where == where for f in after.findings)
    assert recover_run(run).changes == ()
    opened = open_run(run)
    assert (opened.state, opened.header.name) == ("completed", "first look")
    assert opened.images("overview").sizes["time"] == 5


def test_a_damaged_frame_becomes_a_gap_and_all_others_stay(pristine: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(pristine, run)
    drop_index_entry(run)
    recover_run(run)
    opened = open_run(run)
    gaps = opened.gaps
    assert gaps.frame_index.values.tolist() == [2, 1]
    assert opened.images("overview").attrs["missing_frames"] == 2
    np.testing.assert_array_equal(
        opened.images("overview").haadf[0], make_maker().image(0).data["haadf"]
    )
    assert any("recovered" in entry.text for entry in opened.journal())
    # new damage beside what was declared is damage again
    flip_chunk(run)
    assert not verify_run(run).good


def test_a_run_that_is_being_written_is_good_and_said_to_be(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    for index in range(5):
        writer.append_frame(maker.image(index), maker.context(index))
        writer.publish()
        result = verify_run(tmp_path / "run")
        assert result.live
        assert result.good, result.findings
        assert any("still being written" in f.text for f in result.findings)
    writer.close(maker.report())
    assert not verify_run(tmp_path / "run").live


def test_the_command_tells_what_is_wrong_by_its_status(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(pristine, run)
    assert main(["verify", str(run)]) == 0
    assert "is whole" in capsys.readouterr().out
    flip_chunk(run)
    assert main(["verify", str(run)]) == 1
    output = capsys.readouterr().out
    assert "row 4: the checksum does not match" in output
    assert "hotstage recover" in output
    assert main(["recover", str(run)]) == 0
    assert "1 frame recorded as missing" in capsys.readouterr().out
    assert main(["verify", str(run)]) == 0
    assert main(["recover", str(run)]) == 0
    assert "needs no recovery" in capsys.readouterr().out
    assert main(["verify", str(tmp_path)]) == 1
    assert "run.zarr" in capsys.readouterr().err
