"""A writer may die at any of its writes."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.instruments import StreamSpec
from acquire.store import RunWriter, StoreSettings, recover_run, verify_run
from acquire.store import groups as groups_module
from acquire.store import publisher as publisher_module
from acquire.stream import FrameBlock
from tests.store.conftest import make_maker
from tests.store.recovering import check_whole
from tests.store.test_verify import data_files


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
