"""Builds the wheel and checks that it holds the packages as they are, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("acquire", "drivers", "gui", "simulators")
MODULES = ("hotstage.py",)


def main() -> int:
    """Return 0 if the wheel is complete and holds no more, else 1 with what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, "."]
        subprocess.run([sys.executable, "-m", *build], cwd=ROOT, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        held = set(zipfile.ZipFile(wheel).namelist())
    faults = [f"missing: {name}" for name in sorted(expected_files() - held)]
    faults += [f"unexpected: {name}" for name in sorted(unexpected_files(held))]
    for fault in faults:
        print(f"{wheel.name}: {fault}", file=sys.stderr)
    if not faults:
        print(f"{wheel.name}: {len(held)} files, complete")
    return 1 if faults else 0


def expected_files() -> set[str]:
    """Return what the wheel must hold: all of the packages, and what their promises rest on."""
    files = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    stations = {name for name in files if name.startswith("simulators/stations/")}
    if not any(name.endswith(".toml") for name in stations):
        files.add("simulators/stations/*.toml")
    recipes = (ROOT / "examples" / "recipes").glob("*.yaml")
    files |= {f"acquire/examples/recipes/{path.name}" for path in recipes}
    return files | set(MODULES) | {f"{package}/py.typed" for package in PACKAGES}


def unexpected_files(held: set[str]) -> set[str]:
    """Return what the wheel holds beside the files of the packages and its own metadata."""
    expected = expected_files()
    return {name for name in held - expected if ".dist-info/" not in name}


if __name__ == "__main__":
    sys.exit(main())
