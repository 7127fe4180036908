"""The soak is a whole run, and its verdict follows the memory that it measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from acquire.bench import soak
from acquire.errors import ConfigError
from acquire.store import open_run, verify_run
from acquire.stream import RunReport


@pytest.fixture(scope="module")
def soaked(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[soak.Sample], list[soak.Sample], RunReport]:
    """A run of ten minutes: its folder, the samples told while it went on, those returned, its report."""
    folder = tmp_path_factory.mktemp("soak") / "run"
    told: list[soak.Sample] = []
    samples, report = soak.soak(1 / 6, folder, told.append, every_s=200.0)
    return folder, told, samples, report


def test_a_short_soak_records_everything_and_samples_the_memory(soaked: Any) -> None:
    folder, told, samples, report = soaked
    assert samples == told
    assert [s.run_s for s in samples] == [200.0, 400.0, 600.0]
    assert all(s.rss_mb > 10 for s in samples)
    run = open_run(folder)
    assert run.images("overview").sizes["time"] == report.frames["overview"] > 20
    assert run.holder.sizes["time"] > 600
    assert run.estimates("particles").sizes["time"] > 15
    assert verify_run(run.path).good


@pytest.mark.parametrize(
    ("last_mb", "check", "status"), [(149, True, 0), (151, True, 1), (151, False, 0)]
)
def test_the_exit_status_follows_the_goal(
    soaked: Any, monkeypatch: pytest.MonkeyPatch, last_mb: float, check: bool, status: int
) -> None:
    recorded, _, _, report = soaked
    grown = [soak.Sample(3600.0 * n, 1.0, mb) for n, mb in ((1, 100.0), (2, 90.0), (3, last_mb))]

    def measured(hours: float, folder: Path, tell: object) -> tuple[list[soak.Sample], RunReport]:
        shutil.copytree(recorded, folder)
        return grown, report

    monkeypatch.setattr(soak, "soak", measured)
    assert soak.main(3.0, check=check) == status


def test_an_hour_is_too_short_to_tell() -> None:
    with pytest.raises(ConfigError, match="--hours 1: growth is told after the first hour"):
        soak.main(1.0)
