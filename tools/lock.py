"""Writes the lock files from `pyproject.toml`, or checks offline that they are in step with it.

Each lock is universal: every Python from 3.11 on, Linux, macOS and Windows, with hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.8"
OLDEST_PYTHON = "3.11"

# lock -> the extras it holds; each is a constraint on the next one, so that all agree
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements.lock": ("gui",),
    "requirements-dev.lock": ("gui", "test", "dev"),
    "requirements-hyperspy.lock": ("hyperspy",),
}
# hatchling imports it to install a checkout in place, without declaring it
EDITABLE_BACKEND = "editables"


def main() -> int:
    """Write or check the locks as the command line says; return the process's exit status."""
    parser = argparse.ArgumentParser(description="Write or check the lock files.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="only tell whether they are in step")
    mode.add_argument("--upgrade", action="store_true", help="take the newest allowed versions")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    write(upgrade=arguments.upgrade)
    return 0


def check() -> int:
    """Return 0 if every lock was made from the present `pyproject.toml`, else 1 with the mend."""
    stale = [
        name
        for name in LOCKS
        if not (ROOT / name).is_file() or header(name) not in (ROOT / name).read_text("utf-8")
    ]
    if stale:
        print(
            f"Not in step with pyproject.toml: {', '.join(stale)}. Run 'make lock' and commit.",
            file=sys.stderr,
        )
    return 1 if stale else 0


def write(*, upgrade: bool) -> None:
    """Resolve and write every lock, keeping versions that still fit unless `upgrade` is set."""
    # the machine's own mirrors and settings must not reach a file that others install from
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))
    }
    with tempfile.TemporaryDirectory() as folder:
        tool = Path(folder) / "uv"
        venv.create(tool, with_pip=True)
        scripts = tool / ("Scripts" if os.name == "nt" else "bin")
        subprocess.run([scripts / "python", "-m", "pip", "install", "--quiet", UV], check=True)
        build = Path(folder) / "build.in"
        build.write_text("\n".join([*project()["build-system"]["requires"], EDITABLE_BACKEND]))
        constraints: list[str] = []
        for name, extras in LOCKS.items():
            command = [
                *(str(scripts / "uv"), "pip", "compile", "--no-config", "--quiet"),
                *("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"),
                # one version for every Python: the same results and the same types everywhere
                *("--fork-strategy", "fewest"),
                *("--no-header", "--no-annotate", "--output-file", name),
                *(part for extra in extras for part in ("--extra", extra)),
                *(("--upgrade",) if upgrade else ()),
                *constraints,
                *("pyproject.toml", str(build)),
            ]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
            lock = ROOT / name
            lock.write_text(header(name) + lock.read_text("utf-8"), "utf-8", newline="\n")
            constraints = ["--constraint", name]


def header(name: str) -> str:
    """Return the first lines of a lock: what it holds and the digest of what it was made from."""
    metadata = project()["project"]
    source = [
        UV,
        project()["build-system"]["requires"],
        metadata["requires-python"],
        metadata["dependencies"],
        metadata["optional-dependencies"],
        LOCKS[name],
    ]
    digest = hashlib.sha256(json.dumps(source).encode()).hexdigest()
    return (
        f"# hotstage[{','.join(LOCKS[name])}] and its build backend. Written by 'make lock'; do not edit.\n"
        f"# made from pyproject.toml, dependencies sha256:{digest}\n"
    )


def project() -> dict[str, Any]:
    """Return the parsed `pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
