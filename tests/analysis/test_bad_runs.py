"""Damage, runs under way, and mistakes: a flag, an honest word, or a refusal before anything is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from acquire.analysis import Analysis, analyse
from acquire.analysis.frames import Unreadable, frames_of, read_block, spec_of
from acquire.analysis.measuring import Block, measure_block
from acquire.errors import ConfigError, HotstageError, StoreError
from acquire.instruments import Frame, StreamSpec
from acquire.store import RunWriter, flags_of, open_run
from acquire.stream import FrameContext, RunReport


def estimates_of(analysis: Analysis) -> xr.Dataset:
    return open_run(analysis.folder).estimates("particles").load()


def test_a_damaged_frame_is_flagged_and_the_rest_is_measured(
    run: Path, damage: Callable[[Path, int], None]
) -> None:
    damage(run, 7)
    [analysis] = analyse([run])
    found = estimates_of(analysis)
    assert flags_of(found.flags)[7] == ("unreadable",)
    assert np.isnan(found.mean_diameter.values[7])
    assert found.frame_index.values.tolist() == list(range(found.sizes["time"]))
    assert sum("unreadable" in flags for flags in flags_of(found.flags)) == 1
    [text] = analysis.unreadable
    assert text.startswith("frame 7 of overview: ")
    facts = json.loads((analysis.folder / "analysis.json").read_text(encoding="utf-8"))
    assert facts["unreadable"] == [text]
    block = read_block(frames_of(open_run(run), "overview"), "overview", ("haadf",), 6, 9)
    assert [isinstance(frame, Unreadable) for frame in block] == [False, True, False]


def test_a_block_under_way_ends_when_nobody_wants_it(run: Path) -> None:
    began: list[int] = []

    def measure(frame: Frame) -> int:
        began.append(frame.index)
        return frame.index

    block = Block(run, "overview", ("haadf",), 0, 10, 0)
    assert len(measure_block(block, measure, lambda: False)) == 10
    began.clear()
    with pytest.raises(HotstageError, match="interrupted"):
        measure_block(block, measure, lambda: len(began) >= 3)
    assert began == [0, 1, 2]


def test_a_run_under_way_is_analysed_up_to_now(recorded: Path, tmp_path: Path) -> None:
    source = open_run(recorded)
    data = frames_of(source, "overview")
    spec = spec_of(data, "overview")
    writer = RunWriter(tmp_path / "growing")
    writer.open(source.header)
    writer.declare_frames("images", StreamSpec("overview", {"haadf": spec.channels["haadf"]}))
    frames = read_block(data, "overview", ("haadf",), 0, 12)
    for frame in frames[:8]:
        assert isinstance(frame, Frame)
        bare = Frame("overview", frame.index, frame.data, frame.t_start_s, frame.t_end_s)
        writer.append_frame(bare, FrameContext(25.0, 25.0, 1.0, frame.index))
    writer.publish()
    [analysis] = analyse([tmp_path / "growing"])
    assert analysis.open
    assert estimates_of(analysis).sizes["time"] == 8
    writer.close(RunReport("completed", "", 8.0, {"overview": 8}))
    [again] = analyse([tmp_path / "growing"])
    assert not again.open
    xr.testing.assert_identical(estimates_of(again), estimates_of(analysis))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"particles": {"from": "other.haadf"}}, r"no stream 'other'; there is: overview"),
        ({"particles": {"from": "overview.bf"}}, r"no channel 'bf'; it has: abf, haadf"),
        ({"particle": {"from": "overview.haadf"}}, r"no 'particle'; known are: .*particles"),
        ({"particles": {"from": "overview"}}, r"estimate.particles.from = 'overview'"),
        ({"particles": {}}, r"'estimate.particles.from' is missing"),
        ({}, r"estimate"),
        (
            {"particles": {"from": "overview.haadf", "smallest": "3 nm"}},
            r"unknown key 'smallest'",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    run: Path, settings: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(HotstageError, match=words):
        analyse([run], settings)
    assert not (run / "analyses").exists()


def test_a_mistake_in_a_settings_file_is_told_with_its_line(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "estimate:\n  particles:\n    from: overview.haadf\n    smalest_diameter: 3 nm\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=r"settings\.yaml:4: .*did you mean 'smallest_diameter'"):
        analyse([run], file)
    file.write_text("particles:\n  form: overview.haadf\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"settings\.yaml:1: .*from' is missing"):
        analyse([run], file)
    file.write_text("particles: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"settings\.yaml:1: not valid YAML"):
        analyse([run], file)
    with pytest.raises(ConfigError, match="cannot be read"):
        analyse([run], tmp_path / "none.yaml")


def test_runs_that_are_none_or_named_twice_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        analyse([tmp_path / "nothing"])
    with pytest.raises(StoreError, match="named twice"):
        analyse([run, run / "run.zarr"])
    with pytest.raises(ConfigError, match="at least one"):
        analyse([])
    [done] = analyse([run], name="done")
    with pytest.raises(StoreError, match=r"itself an analysis.*name the run 'domes'"):
        analyse([done.folder])
    with pytest.raises(StoreError, match="cannot be the name of an analysis"):
        analyse([run], name="../elsewhere")
    metadata = run / "run.zarr" / "zarr.json"
    old = metadata.read_text(encoding="utf-8").replace('"hotstage_run": 2', '"hotstage_run": 1')
    metadata.write_text(old, encoding="utf-8")
    with pytest.raises(StoreError, match="has format 1"):
        analyse([run])


def test_schedulers_that_cannot_be_used_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="scheduler 'fast' is unknown"):
        analyse([run], scheduler="fast")
    with pytest.raises(ConfigError, match="0 workers"):
        analyse([run], workers=0)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r'pip install "hotstage\[cluster\]"'):
        analyse([run], scheduler="tcp://127.0.0.1:9")
    assert not (run / "analyses").exists()
