"""`hotstage doctor`: what is installed, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

import acquire
from acquire import plugins
from acquire._version import __version__
from acquire.cli.console import out
from acquire.errors import HotstageError
from acquire.station import Station, installed
from acquire.units import show_bytes

_NEEDED = ("numpy", "scipy", "zarr", "xarray", "pydantic", "pint", "Pyro5", "msgpack", "psygnal")
_WINDOW = ("PySide6-Essentials", "pyqtgraph")
_QT_TEST = "from PySide6.QtWidgets import QApplication; QApplication([])"
_DEBIAN_LIBRARIES = "libgl1 libegl1 libglib2.0-0 libxkbcommon0 libfontconfig1 libdbus-1-3"
_QT_PATIENCE_S = 60.0
_LOW_SPACE_BYTES = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: str
    """``ok``, ``note`` or ``problem``."""
    what: str
    mend: str = ""


def examine() -> int:
    """Print every finding; returns 1 if there is a problem."""
    marks = {"ok": ("✔", "green"), "note": ("•", "yellow"), "problem": ("✖", "bold red")}
    worst = 0
    for finding in _findings():
        mark, style = marks[finding.level]
        out.print(Text.assemble((f"{mark} ", style), finding.what))
        if finding.mend:
            out.print(Text(f"    {finding.mend}"))
        worst = max(worst, finding.level == "problem")
    return int(worst)


def _findings() -> Iterator[Finding]:
    yield Finding(
        "ok", f"hotstage {__version__}, Python {platform.python_version()}, {platform.platform()}"
    )
    yield from shadows()
    for name in _NEEDED:
        yield _version(name, "problem", "pip install hotstage")
    for name in _WINDOW:
        yield _version(name, "note", 'for the window: pip install "hotstage[gui]"')
    yield from _qt()
    for group in (plugins.DRIVERS, plugins.SIMULATORS, plugins.ESTIMATORS, plugins.WINDOWS):
        for plugin in plugins.discover(group):
            if not plugin.works and group != plugins.WINDOWS:
                yield Finding(
                    "problem",
                    f"{plugin.name} of {group} cannot be loaded: {plugin.error}",
                    f"Mend or uninstall {plugin.distribution}.",
                )
    for name in sorted(installed()):
        yield _station(name)
    yield _space()


def shadows() -> Iterator[Finding]:
    """Whether a foreign package claims one of our import names."""
    ours = Path(acquire.__file__).resolve().parent
    yield Finding("ok", f"acquire is ours: {ours}")
    claims = importlib.metadata.packages_distributions()
    for name in ("acquire", "drivers", "simulators", "gui"):
        foreign = sorted({d for d in claims.get(name, []) if d.lower() != "hotstage"})
        if foreign:
            yield Finding(
                "problem",
                f"{', '.join(foreign)} also installs a package named {name!r}",
                f"pip uninstall {' '.join(foreign)}, then install hotstage again; or give hotstage "
                "an environment of its own.",
            )
    for entry in sys.path:
        other = Path(entry or ".").resolve() / "acquire"
        if other != ours and (other / "__init__.py").is_file():
            yield Finding(
                "problem",
                f"another package named 'acquire' is on the path: {other}",
                "Remove it, or give hotstage an environment of its own.",
            )


def _version(name: str, level: str, mend: str) -> Finding:
    try:
        return Finding("ok", f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(level, f"{name} is not installed", mend)


def _qt() -> Iterator[Finding]:
    try:
        importlib.metadata.version("PySide6-Essentials")
    except importlib.metadata.PackageNotFoundError:
        return
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _QT_TEST],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_QT_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield Finding("problem", f"Qt did not open a window within {_QT_PATIENCE_S:g} s")
        return
    if tried.returncode == 0:
        yield Finding("ok", "Qt can open a window")
        return
    last = (tried.stderr.strip().splitlines() or ["it said nothing"])[-1]
    yield Finding(
        "problem",
        f"Qt cannot open a window: {last}",
        f"On Debian or Ubuntu: sudo apt-get install {_DEBIAN_LIBRARIES}",
    )


def _station(name: str) -> Finding:
    try:
        Station.load(name)
    except HotstageError as error:
        return Finding("problem", f"station {name}: {error}")
    return Finding("ok", f"station {name}")


def _space() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{show_bytes(free)} free in {Path.cwd()}"
    if free < _LOW_SPACE_BYTES:
        return Finding("note", text, "A day of images takes more; choose another folder with -o.")
    return Finding("ok", text)
