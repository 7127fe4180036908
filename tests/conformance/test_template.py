"""The template of a driver package works as a lab gets it: built, installed beside hotstage, found, tried."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(170)]
TEMPLATE = Path(__file__).parents[2] / "examples" / "driver-template"
TRIALS = "protocol or in_a_ramp or unplugged or closing"


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_template_is_installed_found_and_conforms(tmp_path: Path) -> None:
    package, home = tmp_path / "package", tmp_path / "fresh"
    shutil.copytree(TEMPLATE, package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    venv.create(home, with_pip=False)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(
        _run(
            python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
        ).strip()
    )
    # hotstage itself and what it needs come from where they are installed
    installed = sysconfig.get_path("purelib")
    (site / "hotstage.pth").write_text(f"import site; site.addsitedir({installed!r})\n")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    _run(*pip, "install", *offline, package, cwd=tmp_path)
    assert (site / "example_oven" / "driver.py").is_file()

    assert "example_oven" in _run(python, "-m", "hotstage", "drivers", cwd=tmp_path)
    assert "example_oven" in _run(python, "-m", "hotstage", "stations", cwd=tmp_path)
    shutil.rmtree(package / "example_oven")  # what is tried is what was installed
    said = _run(python, "-m", "pytest", "-q", "-k", TRIALS, "tests", cwd=package)
    assert "4 passed" in said, said
