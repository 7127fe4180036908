"""A stored run is measured again: in parallel, as it was, beside it, and never over it."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from acquire import plugins
from acquire.analysis import Analysis, AnalysisSettings, Lanes, SplitEstimator, analyse
from acquire.analysis.frames import frames_of, read_block, spec_of
from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.engine.shifts import ShiftLog
from acquire.errors import MeasureError, StoreError
from acquire.instruments import Frame, StreamSpec
from acquire.measure.particles import ParticleEstimator
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import Run, RunWriter, flags_of, open_run, verify_run
from acquire.stream import Estimate, Quantity, Value
from acquire.stream.shifting import AppliedShift

PARTICLES = {"particles": {"from": "overview.haadf", "expected_diameter": "8 nm"}}
BLOCK = 4 * 128 * 128 * 2
"""Bytes of four frames."""


def _opened(analysis: Analysis | Path) -> Run:
    return open_run(analysis if isinstance(analysis, Path) else analysis.folder)


def _all(analysis: Analysis | Path, name: str = "particles") -> xr.Dataset:
    return _opened(analysis).estimates(name).load()


def _table(analysis: Analysis | Path, name: str = "particles") -> xr.Dataset:
    return _opened(analysis).particles(name).load()


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "analyses" not in file.relative_to(folder).parts
    }


# ------------------------------------------------------------------------- the same numbers


def test_frames_come_back_as_they_were_recorded(run: Path) -> None:
    data = frames_of(open_run(run), "overview")
    spec = spec_of(data, "overview")
    channel = spec.channels["haadf"]
    assert (channel.dtype, channel.shape, channel.dims) == ("uint16", (128, 128), ("y", "x"))
    assert channel.axes["x"].step == pytest.approx(80 / 128)
    assert (channel.axes["x"].unit, channel.unit) == ("nm", "counts")
    frames = [f for f in read_block(data, "overview", ("haadf",), 2, 5) if isinstance(f, Frame)]
    assert [frame.index for frame in frames] == [2, 3, 4]
    for frame in frames:
        stored = open_run(run).images("overview").isel(time=frame.index)
        assert (frame.data["haadf"] == stored.haadf.values).all()
        assert (frame.t_start_s, frame.t_end_s) == (float(stored.time), float(stored.t_end))
        assert frame.meta.scalars["temperature_before"] == float(stored.temperature_before)


def test_an_analysis_as_live_gives_what_the_live_estimator_gave(run: Path) -> None:
    [analysis] = analyse([run], as_live=True)
    xr.testing.assert_identical(_all(analysis), _all(run))
    xr.testing.assert_identical(_table(analysis), _table(run))


def test_frames_measured_by_themselves_agree_with_the_live_ones_within_their_sigma(
    run: Path,
) -> None:
    [analysis] = analyse([run])
    live, found = _all(run), _all(analysis)
    assert (found.frame_index.values == live.frame_index.values).all()
    assert np.isfinite(found.mean_diameter.values).mean() > 0.9
    same = found["count"].values == live["count"].values
    assert same.mean() > 0.9
    off = (found.mean_diameter - live.mean_diameter).values[same]
    assert (np.abs(off) <= live.mean_diameter_sigma.values[same]).all()
    ids = _table(analysis).id.values
    assert len(np.unique(ids)) < len(ids) / 4, "particles keep their ids over the blocks"


def test_other_settings_give_other_numbers_and_the_particle_table_is_readable(run: Path) -> None:
    wider = AnalysisSettings.of(PARTICLES).with_options(["particles.probe_sigma=1.5 nm"])
    [plain] = analyse([run], PARTICLES, name="plain")
    [other] = analyse([run], wider, name="wider")
    assert not np.array_equal(_all(plain).mean_diameter, _all(other).mean_diameter)
    table = open_run(other.folder).particle_table("particles")
    assert table.attrs["units"]["diameter_nm"] == "nm"
    assert len(table) >= 16
    facts = json.loads((other.folder / "analysis.json").read_text(encoding="utf-8"))
    assert facts["settings"]["particles"]["probe_sigma"] == "1.5 nm"
    assert AnalysisSettings.load(other.folder / "settings.yaml").plain() == facts["settings"]


@pytest.mark.parametrize("scheduler", ["processes", "cluster"])
def test_every_scheduler_gives_the_same_bits(
    run: Path, second: Path, scheduler: str, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue("cluster") if scheduler == "cluster" else scheduler
    here = analyse([run, second], name="here", workers=1)
    there = analyse([run, second], name="there", scheduler=address, workers=2, block_bytes=BLOCK)
    for one, other in zip(here, there, strict=True):
        xr.testing.assert_identical(_all(one), _all(other))
        xr.testing.assert_identical(_table(one), _table(other))
        checks = [
            json.loads((a.folder / "analysis.json").read_text(encoding="utf-8"))["measured"]
            for a in (one, other)
        ]
        assert checks[0] == checks[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A real Dask cluster on this machine, its worker in a process of its own."""
    import distributed

    make: Any = distributed.LocalCluster
    with make(
        n_workers=1,
        threads_per_worker=2,
        processes=True,
        dashboard_address=None,
        host="127.0.0.1",
    ) as made:
        yield made.scheduler_address


# ------------------------------------------------------------------- bounded, beside, whole


@pytest.mark.parametrize("workers", [1, 2])
def test_the_blocks_in_memory_are_bounded_whatever_the_number_of_runs(
    run: Path, second: Path, workers: int
) -> None:
    done = analyse([run, second], workers=workers, block_bytes=BLOCK)
    assert [analysis.frames for analysis in done] == [
        open_run(path).images("overview").sizes["time"] for path in (run, second)
    ]
    assert 1 <= max(analysis.peak_in_flight for analysis in done) <= 2 * workers


def test_results_that_nobody_takes_stop_further_work() -> None:
    began: list[int] = []

    def piece(number: int) -> int:
        began.append(number)
        return number

    with Lanes(workers=2) as lanes:
        results = lanes.in_order(partial(piece, number) for number in range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert len(began) <= 3 + lanes.most_in_flight
        results.close()
        assert list(lanes.in_order(partial(int, n) for n in range(50))) == list(range(50))
    assert lanes.peak_in_flight <= 4


def test_nothing_that_was_recorded_is_touched(run: Path) -> None:
    before = _contents(run)
    [analysis] = analyse([run])
    assert _contents(run) == before
    assert analysis.folder == run / "analyses" / "analysis-1"
    assert [a.folder.name for a in analyse([run])] == ["analysis-2"]
    assert verify_run(run).good
    assert verify_run(analysis.folder).good


def test_an_analysis_is_never_written_over(run: Path, tmp_path: Path) -> None:
    analyse([run], name="first")
    before = _contents(run / "analyses" / "first")
    with pytest.raises(StoreError, match=r"first exists, and nothing is overwritten.*--name"):
        analyse([run], name="first")
    assert _contents(run / "analyses" / "first") == before
    (tmp_path / "full").mkdir()
    with pytest.raises(StoreError, match="full exists"):
        analyse([run], output=tmp_path / "full")


def test_a_folder_that_appears_meanwhile_is_not_replaced(run: Path) -> None:
    rival = run / "analyses" / "mine"

    def interfere(path: Path, done: int, total: int) -> None:
        rival.mkdir(exist_ok=True)
        (rival / "theirs").touch()

    with pytest.raises(StoreError, match="somebody else"):
        analyse([run], name="mine", progress=interfere)
    assert [file.name for file in rival.iterdir()] == ["theirs"]
    assert [folder.name for folder in rival.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize("as_live", [False, True])
def test_what_fails_in_the_middle_leaves_nothing(
    run: Path, second: Path, monkeypatch: pytest.MonkeyPatch, as_live: bool
) -> None:
    follow = ParticleEstimator.follow

    def fail(self: ParticleEstimator, head: Frame, measured: Any) -> Estimate | None:
        if head.index == 12:
            raise RuntimeError("a mistake")
        return follow(self, head, measured)

    monkeypatch.setattr(ParticleEstimator, "follow", fail)
    words = (
        r"1 of 2 runs.*\n.*'particles' failed on frame 12 of 'overview'.*RuntimeError: a mistake"
    )
    with pytest.raises(MeasureError, match=words):
        analyse([run, second], as_live=as_live)
    assert list((run / "analyses").iterdir()) == []
    assert _all(second / "analyses" / "analysis-1").sizes["time"] > 4, "the other is finished"


def test_an_interruption_leaves_nothing(run: Path) -> None:
    def interrupt(path: Path, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse([run], progress=interrupt, block_bytes=BLOCK)
    assert list((run / "analyses").iterdir()) == []


def test_progress_counts_every_frame_of_every_run(run: Path, second: Path) -> None:
    told: dict[Path, list[tuple[int, int]]] = {run: [], second: []}
    analyse([run, second], progress=lambda path, *step: told[path].append(step))
    for path, steps in told.items():
        total = open_run(path).images("overview").sizes["time"]
        assert steps == [(done, total) for done in range(1, total + 1)]


# ----------------------------------------------------------------------------- any estimator


class Counting:
    """An estimator that cannot be split: what it says depends on what it saw before."""

    quantities = (Quantity("brightness", "counts", "mean of all pixels so far"),)
    columns: Mapping[str, str] = {}

    def __init__(
        self, name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
    ) -> None:
        self.name, self.channel = name, channel
        self.seen = 0
        self.total = 0.0
        self.thread = threading.get_ident()

    def update(self, frame: Frame) -> Estimate | None:
        self.seen += 1
        self.total += float(frame.data[self.channel].mean())
        if self.seen % 2:
            return None
        value = Value(self.total / self.seen, 0.0)
        return Estimate(self.name, frame.stream, frame.index, frame.t_end_s, {"brightness": value})


def test_an_estimator_without_halves_is_fed_in_order(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = plugins.find
    monkeypatch.setattr(
        plugins, "find", lambda group, name: Counting if name == "mean" else find(group, name)
    )
    settings = {**PARTICLES, "mean": {"from": "overview.abf"}}
    [analysis] = analyse([run], settings, block_bytes=BLOCK)
    images = open_run(run).images("overview").abf.values
    running = np.cumsum(images.mean(axis=(1, 2))) / np.arange(1, len(images) + 1)
    assert _all(analysis, "mean").brightness.values == pytest.approx(running[1::2])
    assert open_run(analysis.folder).estimators == ("mean", "particles")
    assert analysis.frames == 2 * len(images)


def test_the_particle_estimator_comes_in_halves_that_can_be_sent_away(run: Path) -> None:
    data = frames_of(open_run(run), "overview")
    spec = spec_of(data, "overview")
    estimator = AnalysisSettings.of(PARTICLES).make("particles", spec)
    assert isinstance(estimator, SplitEstimator)
    [frame] = read_block(data, "overview", ("haadf",), 0, 1)
    assert isinstance(frame, Frame)
    measured = pickle.loads(pickle.dumps(estimator.measurer()))(frame)
    once = estimator.follow(frame, pickle.loads(pickle.dumps(measured)))
    again = AnalysisSettings.of(PARTICLES).make("particles", spec).update(frame)
    assert once is not None
    assert again is not None
    assert once.values == again.values


def test_quantities_carry_the_prefix_as_in_a_run(run: Path) -> None:
    entry = {**PARTICLES["particles"], "use": "particles", "prefix": "wide_"}
    [analysis] = analyse([run], {**PARTICLES, "wide": entry})
    plain, wide = _all(analysis), _all(analysis, "wide")
    assert "mean_diameter" not in wide
    assert (wide.wide_mean_diameter.values == plain.mean_diameter.values).all()
    assert (wide.wide_count_sigma.values == plain.count_sigma.values).all()
    assert AnalysisSettings.load(analysis.folder / "settings.yaml").estimate["wide"].prefix


STEERED = """
hotstage: 1
name: kept in view
record:
  overview: {scan: {detectors: [haadf], size: 128, field_of_view: 80 nm, dwell_time: 10 µs}, every: 1 s}
estimate:
  drift: {from: overview.haadf, correct: scan_shift}
steps:
  - hold: {for: 12 s}
"""


def test_a_frame_that_was_shifted_in_its_middle_stays_so_in_the_stored_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during = ShiftLog.during

    def torn(self: ShiftLog, start_s: float, end_s: float) -> AppliedShift:
        told = during(self, start_s, end_s)
        return replace(told, steady=not 5.5 < start_s < 6.5)

    monkeypatch.setattr(ShiftLog, "during", torn)
    station = Station.load("simulated")
    with station.open(VirtualClock()) as opened, opened.clock.enrolled("test"):
        Engine(opened).run(Recipe.parse(STEERED), RunWriter(tmp_path / "run"))
    [analysis] = analyse([tmp_path / "run"])
    live, again = _all(tmp_path / "run", "drift"), _all(analysis, "drift")
    shifted = ["shifted" in flags for flags in flags_of(again.flags)]
    assert sum(shifted) == 1
    assert open_run(tmp_path / "run").images("overview").scan_shifted.values.tolist() == shifted
    xr.testing.assert_identical(again, live)
