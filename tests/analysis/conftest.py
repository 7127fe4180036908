"""Real runs: the engine on the simulated microscope, whose specimen holds domes of known sizes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import RunWriter
from acquire.store.shards import read_index

RECIPE = """
hotstage: 1
name: domes
record:
  overview: {scan: {detectors: [haadf, abf], size: 128, field_of_view: 80 nm, dwell_time: 10 µs}, every: 1 s}
estimate:
  particles: {from: overview.haadf, expected_diameter: 8 nm, largest_diameter: 20 nm}
steps:
  - hold: {for: %d s}
"""
FRAMES = 16


def record(folder: Path, seed: int, seconds: int = FRAMES) -> Path:
    """A run of about a frame a second."""
    station = Station.load("simulated")
    text = station.text.replace('"lsnt_nonstoichiometric"', '"reference_domes"')
    station = Station.parse(text.replace("seed = 7", f"seed = {seed}"))
    clock = VirtualClock()
    with station.open(clock) as opened, clock.enrolled("test"):
        report = Engine(opened).run(Recipe.parse(RECIPE % seconds), RunWriter(folder))
    assert report.outcome == "completed", report.cause
    return folder


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("recorded") / "domes", seed=7)


@pytest.fixture(scope="session")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("another") / "more", seed=8, seconds=6)


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A run of 16 frames of some particles, each test its own copy."""
    return shutil.copytree(recorded, tmp_path / "domes")


@pytest.fixture
def second(another: Path, tmp_path: Path) -> Path:
    """A shorter run of another specimen."""
    return shutil.copytree(another, tmp_path / "more")


Damage = Callable[[Path, int], None]


@pytest.fixture
def damage() -> Damage:
    """Flips a bit in the stored data of frame ``index`` of overview.haadf."""

    def flip(run: Path, index: int) -> None:
        shard = run / "run.zarr/images/overview/full/haadf/c.0.0.0"
        entries = read_index(shard, _chunks_of_shard(run))
        with shard.open("r+b") as file:
            file.seek(int(entries[index, 0]) + 40)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))

    return flip


def _chunks_of_shard(run: Path) -> int:
    array = zarr.open_group(run / "run.zarr", mode="r")["images/overview/full/haadf"]
    assert isinstance(array, zarr.Array)
    assert array.shards is not None
    return array.shards[0] // array.chunks[0]
