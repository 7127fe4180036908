"""A run whose power failed is made whole again, but for what was not on the disk."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from acquire.store import RunWriter, StoreSettings, open_run, recover_run, synced, words_of
from tests.store.recovering import check_whole


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
    due = iter((20, 45, 70))
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
    assert len(cuts) == 3
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
