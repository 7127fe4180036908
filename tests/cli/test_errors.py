"""What a newcomer does wrong gives one clear error, a non-zero exit, and leaves everything as it was."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from acquire.cli import main

RECIPE = """
hotstage: 1
name: quick
limits: {temperature: 900 °C, ramp_rate: 100 °C/s}
record:
  overview: {scan: {detectors: [haadf], size: 128, field_of_view: 160 nm, dwell_time: 1 µs}, every: 1 s}
steps:
  - ramp: {to: 100 °C, rate: 50 °C/s}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def _changed(recipe: Path, text: str, to: str) -> Path:
    assert text in RECIPE
    recipe.write_text(RECIPE.replace(text, to, 1), encoding="utf-8")
    return recipe


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 1
    said = capsys.readouterr()
    assert said.err.count("error: ") == 1, said.err
    assert "Traceback" not in said.err
    return said.err


@pytest.mark.parametrize(
    ("text", "to", "words"),
    [
        ("rate: 50", "rte: 50", ["quick.yaml:8", "rte"]),
        ("to: 100 °C", "to: 1450 °C", ["1450 °C", "900 °C", "limits.temperature"]),
        ("rate: 50 °C/s", "rate: 150 °C/s", ["150 °C/s", "100 °C/s", "limits.ramp_rate"]),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_recipe_that_cannot_run(
    capsys: pytest.CaptureFixture[str],
    recipe: Path,
    tmp_path: Path,
    command: str,
    text: str,
    to: str,
    words: list[str],
) -> None:
    said = _fails(capsys, command, _changed(recipe, text, to), "-o", tmp_path / "out")
    for word in words:
        assert word in said
    assert not (tmp_path / "out").exists()


def test_a_target_that_the_chip_does_not_allow(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    recipe.write_text(
        RECIPE.replace("temperature: 900 °C, ", "").replace("to: 100 °C", "to: 1450 °C"),
        encoding="utf-8",
    )
    said = _fails(capsys, "run", recipe, "-o", tmp_path / "out")
    assert "1450 °C refused: the station allows 1300 °C" in said
    assert "holder.limits.temperature" in said
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_there(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    assert "did you mean 'simulated'" in _fails(capsys, "run", recipe, "-s", "simulatd")
    assert "cannot be read" in _fails(capsys, "run", recipe, "-s", tmp_path / "no.toml")
    assert "cannot be read" in _fails(capsys, "run", tmp_path / "no.yaml")
    assert "does not exist" in _fails(capsys, "show", tmp_path / "no")


def test_an_output_folder_that_exists_is_left_as_it_is(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "precious.txt").write_text("data", encoding="utf-8")
    assert "exists already" in _fails(capsys, "run", recipe, "-o", folder)
    assert [item.name for item in folder.iterdir()] == ["precious.txt"]


def test_a_server_that_is_not_there(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    station = tmp_path / "far.toml"
    station.write_text(
        f"""
hotstage = 1
name = "far"
[server]
listen = "127.0.0.1:{port}"
launch = false
[simulation]
[holder]
driver = "simulated"
limits = {{ temperature = "1300 °C", ramp_rate = "200 °C/s" }}
[scan]
driver = "simulated"
""",
        encoding="utf-8",
    )
    said = _fails(capsys, "run", recipe, "-s", station, "-o", tmp_path / "out")
    assert f"127.0.0.1:{port}" in said
    assert "hotstage serve" in said
    assert not (tmp_path / "out").exists()


FULL_DISK = """
import resource, sys
# the file system refuses what is larger: the first image, not the small files before it
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
from acquire.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes, which Windows lacks")
def test_a_disk_that_takes_no_more_ends_the_run_safely(recipe: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "run", recipe, "--virtual", "-o", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "the run failed" in ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr


def test_a_recipe_for_an_operator_is_refused_where_nobody_can_answer(
    capsys: pytest.CaptureFixture[str],
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _changed(recipe, "steps:\n", "steps:\n  - wait_for_operator: ready?\n")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert "--yes" in _fails(capsys, "run", recipe, "-o", tmp_path / "out")
    assert main(["run", str(recipe), "--virtual", "--yes", "-o", str(tmp_path / "out")]) == 0


def test_options_for_simulations_only(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    station = tmp_path / "real.toml"
    station.write_text(
        'hotstage = 1\nname = "real"\n[holder]\ndriver = "d"\n'
        'limits = { temperature = "1 °C", ramp_rate = "1 °C/s" }\n[scan]\ndriver = "d"\n',
        encoding="utf-8",
    )
    assert "--seed 4" in _fails(capsys, "run", recipe, "-s", station, "--seed", 4)
    assert "--virtual" in _fails(capsys, "run", recipe, "-s", station, "--virtual")


def test_a_foreign_package_named_acquire_is_called_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "acquire").mkdir()
    (tmp_path / "acquire" / "__init__.py").write_text("", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "hotstage", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == 1
    assert "foreign package named 'acquire'" in ended.stderr
    assert str(tmp_path) in ended.stderr


def test_a_wrong_option_is_called_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--nope"]) == 2
    assert "--nope" in capsys.readouterr().err
    assert main(["run"]) == 2
    assert "'recipe'" in capsys.readouterr().err


def test_a_display_that_fails_does_not_end_the_run(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(status: object) -> str:
        raise BrokenPipeError

    monkeypatch.setattr("acquire.cli.running.status_line", broken)
    monkeypatch.setattr("acquire.cli.running.REFRESH_S", 0.01)
    assert main(["run", str(recipe), "--virtual", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "summary.md").exists()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_console_without_our_signs_shows_others(recipe: Path, encoding: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "hotstage", "check", recipe],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_log_level_that_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSTAGE_LOG", "chatty")
    assert main(["stations"]) == 2
    assert "HOTSTAGE_LOG" in capsys.readouterr().err


def test_a_station_file_that_is_not_text(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in _fails(capsys, "check", recipe, "-s", tmp_path / "bad.toml")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a screen")
def test_a_window_without_a_screen(
    capsys: pytest.CaptureFixture[str], recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    assert "there is no screen" in _fails(capsys, "gui", recipe)


def test_an_output_folder_that_cannot_be_made(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "is a file" in _fails(capsys, "run", recipe, "-o", tmp_path / "file" / "out")
