"""Reading a run: at a moment, as tables, while its files are being replaced, and when some are damaged."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.errors import StoreError
from acquire.store import flags_of, open_run, patience, words_of
from acquire.store.shards import read_index
from acquire.stream import Note
from acquire.stream.sink import FrameBlock

FRAMES = Path("run.zarr/images/overview/full/haadf")


# --------------------------------------------------------------------------- at a moment


def test_at_gives_the_newest_of_everything_that_was_known_then(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    writer.note(Note("action", 0.2, "begin step 1: ramp to 700 °C: fast"))
    for index in (0, 1, 4):
        writer.append_frame(maker.image(index), maker.context(index))  # exposed from index to + 0.5
        writer.append_estimate(maker.estimate(index, particles=index))
    writer.append_frame(maker.spectrum(0), maker.context(0))
    for number in range(30):
        writer.append_row(maker.row(number))
    writer.note(Note("action", 1.0, "end step 1: done"))
    writer.note(Note("action", 1.1, "begin step 2: hold"))
    writer.note(Note("state", 2.0, "pausing: the operator wants it"))
    writer.note(Note("mark", math.nan, "time unknown"))
    writer.note(Note("state", 3.0, "resumed; nothing is replayed"))
    writer.close(maker.report())
    run = open_run(tmp_path / "run")

    nothing = run.at(-1.0)
    assert (dict(nothing.frames), dict(nothing.estimates), nothing.holder) == ({}, {}, None)
    assert (nothing.state, nothing.step) == ("", "")

    early = run.at(1.49)
    assert list(early.frames) == ["overview"], "the exposure of frame 1 is not over yet"
    assert int(early.frames["overview"].frame_index) == 0
    assert early.frames["overview"].haadf.dims == ("y", "x")
    np.testing.assert_array_equal(early.frames["overview"].haadf, maker.image(0).data["haadf"])
    assert early.holder is not None
    assert float(early.holder.measured) == 34.0
    assert words_of(early.holder.state).item() == "ramping"
    assert float(early.estimates["particles"].mean_diameter) == 3.0
    assert flags_of(early.estimates["particles"].flags) == [("few_particles",)]
    assert (early.state, early.step) == ("running", "hold")

    late = run.at(200.0)
    assert int(late.frames["overview"].frame_index) == 4
    assert int(late.frames["line"].core_loss[0]) == 1
    assert float(late.estimates["particles"].mean_diameter) == 7.0
    assert late.holder is not None
    assert float(late.holder.measured) == 49.0
    assert (late.state, late.step) == ("completed", "")

    states = [(run.at(t).state, run.at(t).step) for t in (0.1, 0.5, 1.05, 2.5, 3.0)]
    assert states == [
        ("preparing", ""),
        ("running", "ramp to 700 °C: fast"),
        ("running", ""),
        ("paused", "hold"),
        ("running", "hold"),
    ]


def test_at_follows_a_live_run_by_refresh_and_needs_no_journal(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.at(10.0).frames == {}
    writer.append_frame(maker.image(0), maker.context(0))
    writer.note(Note("action", 0.2, "begin step 1: wait"))
    writer.publish()
    run.refresh()
    assert int(run.at(10.0).frames["overview"].frame_index) == 0
    assert run.at(10.0).step == "wait"
    writer.close(maker.report())
    (tmp_path / "run/journal.jsonl").unlink()
    run.refresh()
    assert (run.at(10.0).state, list(run.at(10.0).frames)) == ("", ["overview"])


def test_particles_come_as_a_pandas_table_with_units(small_run: Path) -> None:
    run = open_run(small_run)
    table = run.particle_table("particles")
    assert len(table) == 13
    assert table.groupby("frame_index").size().to_dict() == {1: 1, 3: 3, 4: 4, 5: 5}
    assert table.loc[table.frame_index == 4, "x_nm"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert table.loc[table.frame_index == 4, "time"].unique().tolist() == [4.5]
    units = table.attrs["units"]
    assert (units["diameter_nm"], units["time"], units["frame_index"]) == ("nm", "s", "1")
    with pytest.raises(StoreError, match="there is: particles"):
        run.particle_table("domes")


def test_gaps_tell_stream_first_frame_count_span_and_reason(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    writer.append_frame(maker.image(0), maker.context(0))
    writer.gap("overview", 1, "the link was lost", 3, (1.0, 4.0))
    writer.append_frame(maker.image(4), maker.context(4))
    writer.append_frame(maker.spectrum(2), maker.context(2))
    writer.close(maker.report())
    gaps = open_run(tmp_path / "run").gaps
    assert words_of(gaps.stream).tolist() == ["overview", "line"]
    assert gaps.frame_index.values.tolist() == [1, 0]
    assert gaps.frames.values.tolist() == [3, 2]
    assert gaps.t_start.values.tolist()[0] == 1.0
    assert gaps.t_end.values.tolist()[0] == 4.0
    assert np.isnan(gaps.t_end.values[1])
    assert words_of(gaps.reason).tolist() == ["the link was lost", "it never came"]


# ------------------------------------------------------------------------------- lazily


def test_any_index_gives_what_numpy_gives(small_run: Path, maker: Any) -> None:
    frames = open_run(small_run).images("overview").haadf
    whole = np.stack([maker.image(i).data["haadf"] for i in (0, 1, 3, 4, 5)])
    for key in (
        (slice(None, None, -1),),
        (slice(4, 0, -2), 3),
        (-1, slice(None), 5),
        ([4, 0, 2], slice(2, 30, 7)),
        (slice(1, 3), [5, 1], slice(0, 0)),
    ):
        np.testing.assert_array_equal(frames[key].values, whole[key])


def test_a_live_run_of_100_000_records_opens_at_once(maker: Any, tmp_path: Path) -> None:
    count, at_once = 100_000, 500
    spec = dataclasses.replace(maker.spectra, frame_period_s=1 / 8000)
    writer = dataclasses.replace(maker, spectra=spec).open(tmp_path / "run")
    number = np.arange(count, dtype=np.uint32)
    for first in range(0, count, at_once):
        rows = number[first : first + at_once]
        data = {name: np.repeat(rows[:, None], 64, axis=1) for name in ("core_loss", "low_loss")}
        start_s = rows / 8000.0
        writer.append_block(FrameBlock("line", first, data, start_s, start_s + 1e-4))
    deadline = time.monotonic() + 30
    while open_run(tmp_path / "run").spectra("line").sizes["time"] < count:
        assert time.monotonic() < deadline
        writer.publish()
    took = []
    for _ in range(5):
        began = time.perf_counter()
        newest = open_run(tmp_path / "run").spectra("line").core_loss[-1].values
        took.append(time.perf_counter() - began)
        assert newest[0] == count - 1
    assert min(took) < 0.3
    writer.close(maker.report())


# -------------------------------------------------------- while the writer replaces files


def mend_meanwhile(monkeypatch: pytest.MonkeyPatch, mend: Callable[[], object]) -> list[float]:
    """Let the writer finish what it does while the reader waits; returns the waits."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        mend()

    monkeypatch.setattr(patience.time, "sleep", wait)
    return waits


def test_a_torn_index_is_read_again(
    small_run: Path, maker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = small_run / FRAMES / "c.0.0.0"
    whole = shard.read_bytes()
    torn = whole[:100] + bytes(8) + whole[108:]
    shard.write_bytes(torn)
    waits = mend_meanwhile(monkeypatch, lambda: shard.write_bytes(whole))
    images = open_run(small_run).images("overview")
    np.testing.assert_array_equal(images.haadf[1], maker.image(1).data["haadf"])
    assert len(waits) == 1


def test_a_root_that_is_caught_half_replaced_is_read_again(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = small_run / "run.zarr/zarr.json"
    whole = root.read_bytes()
    root.write_bytes(whole[: len(whole) // 2])
    waits = mend_meanwhile(monkeypatch, lambda: root.write_bytes(whole))
    assert open_run(small_run).images("overview").sizes["time"] == 5
    assert len(waits) == 1


# ----------------------------------------------------------------- what is really damaged


def test_what_stays_torn_is_an_error_that_names_it_and_leaves_the_rest_readable(
    small_run: Path, maker: Any
) -> None:
    shard = small_run / FRAMES / "c.0.0.0"
    data = bytearray(shard.read_bytes())
    # chunks lie in the order in which the writer's threads were done with them
    data[int(read_index(shard, 250)[4, 0]) + 40] ^= 1
    shard.write_bytes(data)
    images = open_run(small_run).images("overview")
    with pytest.raises(StoreError, match=r"haadf cannot be read at row 4.*hotstage verify"):
        _ = images.haadf[4].values
    for row, index in enumerate((0, 1, 3, 4)):
        np.testing.assert_array_equal(images.haadf[row], maker.image(index).data["haadf"])
    np.testing.assert_array_equal(images.abf[4], maker.image(5).data["abf"])
    data[3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=r"index of the shard .*haadf.* is damaged"):
        _ = images.haadf[0].values


def test_lost_frames_are_never_black_ones(small_run: Path, maker: Any) -> None:
    root = small_run / "run.zarr/zarr.json"
    document = json.loads(root.read_text())
    for path, array in document["consolidated_metadata"]["metadata"].items():
        if path.startswith("images/overview/full/"):
            array["shape"][0] += array["dimension_names"][0] == "time"
    root.write_text(json.dumps(document))
    images = open_run(small_run).images("overview")
    with pytest.raises(StoreError, match=r"row 5 of .* is lost"):
        _ = images.haadf[5].values
    np.testing.assert_array_equal(images.haadf[4], maker.image(5).data["haadf"])
    (small_run / FRAMES / "c.0.0.0").unlink()
    with pytest.raises(StoreError, match=r"c\.0\.0\.0 cannot be read"):
        _ = open_run(small_run).images("overview").haadf[0].values


def test_a_lost_column_is_an_error_but_one_that_came_late_is_not(
    maker: Any, tmp_path: Path
) -> None:
    writer = maker.open(tmp_path / "run")
    for number in range(5000):  # the second chunk of 4096 rows
        writer.append_row(maker.row(number))
    writer.publish()
    late = maker.row(5000)
    writer.append_row(dataclasses.replace(late, values={**late.values, "late": 7.0}))
    writer.close(maker.report())
    holder = tmp_path / "run/run.zarr/holder"
    assert not (holder / "late/c.0").exists()
    late_column = open_run(tmp_path / "run").holder["late"].values
    assert np.isnan(late_column[:5000]).all()
    assert late_column[5000] == 7.0
    (holder / "measured/c.1").unlink()
    run = open_run(tmp_path / "run")
    with pytest.raises(StoreError, match=r"row 4096 of .*measured is lost"):
        _ = run.holder.measured.values
    assert float(run.holder.measured[4095]) == 20.0 + 4095


def test_metadata_that_contradict_each_other_are_an_error_of_the_store(small_run: Path) -> None:
    root = small_run / "run.zarr/zarr.json"
    document = json.loads(root.read_text())
    document["consolidated_metadata"]["metadata"]["images/overview/full/dose"]["shape"] = [4]
    root.write_text(json.dumps(document))
    run = open_run(small_run)
    with pytest.raises(StoreError, match=r"images/overview/full .*conflicting sizes.*recover"):
        run.images("overview")
    assert run.spectra("line").sizes["time"] == 3
