"""The commands that only look and tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from acquire.cli import main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in (
        "run",
        "check",
        "serve",
        "host",
        "gui",
        "show",
        "plot",
        "drivers",
        "stations",
        "doctor",
    ):
        assert f"  {command} " in said


def test_check_prints_steps_totals_and_a_verdict(
    capsys: pytest.CaptureFixture[str], examples: Path
) -> None:
    assert main(["check", str(examples / "recipes" / "first_light.yaml")]) == 0
    said = capsys.readouterr().out
    for words in ("ramp to 700 °C", "condition met", "duration", "dose", "free on the disk"):
        assert words in said
    assert "Nothing would stop this run" in said


def test_drivers_and_stations_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drivers"]) == 0
    assert "exsolution" in capsys.readouterr().out
    assert main(["stations"]) == 0
    assert "simulated" in capsys.readouterr().out


def test_doctor_finds_this_environment_well(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor"])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "acquire is ours" in said


def test_a_virtual_run_can_be_shown_and_plotted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "hotstage: 1\nname: quick look\nrecord:\n  overview: {scan: {detectors: [haadf], size: 64, "
        "field_of_view: 160 nm, dwell_time: 1 µs}, every: 1 s}\n"
        "steps: [{ramp: {to: 100 °C, rate: 50 °C/s}}]\n",
        encoding="utf-8",
    )
    folder = tmp_path / "run"
    assert main(["run", str(recipe), "--virtual", "--truth", "-o", str(folder)]) == 0
    assert (folder / "summary.md").read_text(encoding="utf-8").startswith("# quick look")
    assert (folder / "summary.png").stat().st_size > 10_000
    assert (folder / "truth.jsonl").read_text(encoding="utf-8").count("\n") >= 2
    capsys.readouterr()
    assert main(["show", str(folder)]) == 0
    assert "completed" in capsys.readouterr().out
    assert main(["plot", str(folder), "-o", str(tmp_path / "page.png")]) == 0
    assert (tmp_path / "page.png").stat().st_size > 10_000
