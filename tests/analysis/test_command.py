"""`hotstage analyse` says where its results are, and by its exit status whether all frames were read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from acquire.cli.app import main
from acquire.store import open_run


def test_runs_are_analysed_with_changed_settings_into_a_named_folder(
    run: Path, second: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = "particles.probe_sigma=0.5 nm"
    assert main(["analyse", str(run), str(second), "--set", change, "--name", "sharp"]) == 0
    for folder in (run, second):
        found = open_run(folder / "analyses" / "sharp").estimates("particles")
        assert found.sizes["time"] == open_run(folder).images("overview").sizes["time"]
    shown = capsys.readouterr().out
    assert f"frames of {run.name} are analysed in {run / 'analyses' / 'sharp'}" in shown
    assert main(["analyse", str(run), "--name", "sharp"]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err


def test_several_runs_go_to_one_folder_each(run: Path, second: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["analyse", str(run), str(second), "--output", str(out)]) == 0
    assert sorted(folder.name for folder in out.iterdir()) == [run.name, second.name]
    assert not (run / "analyses").exists()


def test_damaged_frames_show_in_the_exit_status(
    run: Path, damage: Callable[[Path, int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run, 3)
    assert main(["analyse", str(run)]) == 1
    shown = capsys.readouterr()
    assert "analysis-1" in shown.out
    assert "not measured, and flagged: frame 3 of overview" in shown.err


def test_an_option_that_is_wrong_is_told_as_such(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyse", str(run), "--set", "particles.smalest_diameter=3 nm"]) == 1
    assert "--set: estimate.particles: unknown key" in capsys.readouterr().err
    assert main(["analyse", str(run), "--set", "smallest_diameter"]) == 1
    assert "write ESTIMATOR.KEY=VALUE" in capsys.readouterr().err
    assert main(["analyse", str(run), "--only", "drift"]) == 1
    assert "only particles" in capsys.readouterr().err
    assert not (run / "analyses").exists()
