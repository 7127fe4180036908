"""Sets this checkout up: missing system libraries, then `.venv` with the locked packages.

Run by the Makefile with any Python of Debian or of elsewhere, so it uses the standard library only
and stays readable to a Python that is too old, which it then names.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST_PYTHON = (3, 11)

# what is installed for whom; the development lock holds everything that the running lock holds
LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock"}

# an installation in place copies these; everything else is read from the checkout
COPIED = ("acquire/_version.py", "hotstage.py")

# Debian package -> the shared library by which a program finds it
OFFSCREEN_LIBRARIES = {
    "libgl1": "libGL.so.1",
    "libegl1": "libEGL.so.1",
    # Debian 13 and Ubuntu 24.04 name it libglib2.0-0t64, which provides this name too
    "libglib2.0-0": "libglib-2.0.so.0",
    "libxkbcommon0": "libxkbcommon.so.0",
    "libfontconfig1": "libfontconfig.so.1",
    "libdbus-1-3": "libdbus-1.so.3",
}
WINDOW_LIBRARIES = {
    "libxcb-cursor0": "libxcb-cursor.so.0",
    "libxcb-icccm4": "libxcb-icccm.so.4",
    "libxcb-keysyms1": "libxcb-keysyms.so.1",
    "libxcb-shape0": "libxcb-shape.so.0",
    "libxcb-xkb1": "libxcb-xkb.so.1",
    "libxkbcommon-x11-0": "libxkbcommon-x11.so.0",
    "libwayland-cursor0": "libwayland-cursor.so.0",
    "libwayland-egl1": "libwayland-egl.so.1",
}
# Debian package -> the program by which a screen is had where there is none
SCREEN_PROGRAMS = {"xvfb": "Xvfb", "openbox": "openbox", "xdotool": "xdotool"}
FONT_PACKAGE = "fonts-dejavu-core"
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")


class SetupError(Exception):
    """The set-up cannot go on; the message says what a person has to do."""


def main() -> int:
    """Set up the purpose given on the command line; return the process's exit status."""
    parser = argparse.ArgumentParser(description="Set this checkout up in .venv.")
    parser.add_argument("purpose", choices=sorted(LOCKS))
    purpose = parser.parse_args().purpose
    try:
        require_python()
        provide_system_packages(purpose)
        provide_environment(purpose)
    except SetupError as error:
        print(f"\n{error}\n", file=sys.stderr)
        return 1
    return 0


def require_python() -> None:
    """Raise SetupError if the Python that runs this is too old for hotstage."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise SetupError(
            "hotstage needs Python {}.{} or newer; {} is {}.\n"
            "Name a newer one: make PYTHON=python3.12 ...".format(
                *OLDEST_PYTHON, sys.executable, platform.python_version()
            )
        )


def provide_system_packages(purpose: str) -> None:
    """Install through apt-get what Qt and venv need and the system lacks, or say what to install.

    Raises SetupError when something is missing and this process may not install it.
    """
    missing = missing_packages(purpose)
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise SetupError(
            "The system lacks what these Debian packages hold: {}.\n"
            "Install their counterparts of your distribution, then run this again.".format(
                " ".join(missing)
            )
        )
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    become_root = how_to_become_root()
    if become_root is not None:
        print("Installing system packages: " + " ".join(missing), flush=True)
        quiet = [*become_root, "env", "DEBIAN_FRONTEND=noninteractive"]
        # an outdated index of one source need not stop the others: the check below decides
        subprocess.run([*quiet, "apt-get", "update", "-qq"], check=False)
        # a fresh machine is often still updating itself and holds dpkg's lock
        subprocess.run(
            [*quiet, *install, "-qq", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"],
            check=False,
        )
        missing = missing_packages(purpose)
        if not missing:
            return
        raise SetupError(
            "apt-get could not install: {}.\nIts messages above say why; then run this "
            "again.".format(" ".join(missing))
        )
    commands = "apt-get update && " + " ".join(install)
    if shutil.which("sudo"):
        line = "sudo sh -c " + shlex.quote(commands)
    else:
        line = "su -c " + shlex.quote(commands)
    raise SetupError(
        "The system lacks packages that only an administrator can install. Run this line once, "
        "then the same make command again:\n\n  " + line
    )


def missing_packages(purpose: str) -> list[str]:
    """Return the Debian packages whose content this system lacks, for the purpose given."""
    if platform.system() != "Linux":
        return []
    missing = []
    if not have_venv():
        missing.append("python{}.{}-venv".format(*sys.version_info[:2]))
    libraries = {**OFFSCREEN_LIBRARIES, **WINDOW_LIBRARIES}
    missing += [package for package, library in libraries.items() if not have_library(library)]
    if purpose == "dev":
        missing += [
            package for package, name in SCREEN_PROGRAMS.items() if shutil.which(name) is None
        ]
    if not have_font():
        missing.append(FONT_PACKAGE)
    return missing


def have_venv() -> bool:
    """Tell whether `.venv` works already or could be made: Debian splits ensurepip off."""
    importlib.invalidate_caches()
    return environment_works() or importlib.util.find_spec("ensurepip") is not None


def have_library(name: str) -> bool:
    """Tell whether the dynamic loader finds a shared library, wherever the system keeps it."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def have_font() -> bool:
    """Tell whether there is a font with proportional letters for the window."""
    folders = (Path(folder).expanduser() for folder in FONT_FOLDERS)
    return any(
        font.suffix.lower() in {".ttf", ".otf", ".ttc"} and "mono" not in font.name.lower()
        for folder in folders
        for font in folder.rglob("*")
    )


def how_to_become_root() -> list[str] | None:
    """Return the words to put before a command that needs root, None if that needs a person."""
    if os.geteuid() == 0:
        return []
    asks_nothing = ["sudo", "-n"]
    if shutil.which("sudo"):
        trial = subprocess.run([*asks_nothing, "true"], check=False, capture_output=True)
        if trial.returncode == 0:
            return asks_nothing
    return None


def provide_environment(purpose: str) -> None:
    """Bring `.venv` to the state that lock and pyproject describe; do nothing if it is there.

    Raises SetupError when a package cannot be installed.
    """
    if not environment_works():
        print(f"Creating {VENV.name} with Python {platform.python_version()}", flush=True)
        run_or_explain([sys.executable, "-m", "venv", "--clear", str(VENV)])
    state = wanted_state()
    # the development set contains the running set
    if any(
        stamp_of(each).is_file() and stamp_of(each).read_text() == state
        for each in {purpose, "dev"}
    ):
        return
    for stamp in map(stamp_of, LOCKS):
        stamp.unlink(missing_ok=True)
    print(
        f"Installing {LOCKS[purpose]} into {VENV.name} (a few minutes the first time)", flush=True
    )
    pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run_or_explain([*pip, "--require-hashes", "--only-binary=:all:", "-r", LOCKS[purpose]])
    # the lock holds the build backend, so nothing unlocked is fetched
    run_or_explain([*pip, "--no-deps", "--no-build-isolation", "--editable", "."])
    stamp_of(purpose).write_text(state)


def environment_works() -> bool:
    """Tell whether `.venv` is of this Python and this folder, and its interpreter starts with pip.

    A virtual environment does not survive a move of its folder or an upgrade of its Python.
    """
    try:
        # scripts in it hold its path; the line "command = ..." tells where it was made
        made_here = (VENV / "pyvenv.cfg").read_text().rstrip().endswith(str(VENV))
        question = "import pip, sys; print(*sys.version_info[:2], sep='.')"
        answer = subprocess.run(
            [str(VENV_PYTHON), "-I", "-c", question], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return made_here and answer.stdout.strip() == "{}.{}".format(*sys.version_info[:2])


def wanted_state() -> str:
    """Return a digest of everything that decides what `.venv` should hold."""
    digest = hashlib.sha256(f"{sys.version_info[:3]}\n{VENV}\n".encode())
    for name in (*LOCKS.values(), "pyproject.toml", *COPIED):
        digest.update(hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()


def stamp_of(purpose: str) -> Path:
    """Return the file that records the state up to which a purpose was installed."""
    return VENV / f".installed-{purpose}"


def run_or_explain(command: list[str]) -> None:
    """Run a command in the checkout; raise SetupError if it fails, below its own messages."""
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise SetupError("This failed, for the reason above: " + shlex.join(command))


if __name__ == "__main__":
    sys.exit(main())
