"""What the window remembers from one day to the next: an INI file that a person can read and delete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import platformdirs
from PySide6 import QtCore

RECENT = 10
"""Recipes and runs that are remembered."""


def settings_path() -> Path:
    """The operator's own file, in the folder that the operating system has for such."""
    return Path(platformdirs.user_config_dir("hotstage", appauthor=False)) / "window.ini"


class Settings:
    """Typed access; what cannot be used (a hand-written word, another version's) is as if it were not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = QtCore.QSettings(str(path), QtCore.QSettings.Format.IniFormat)

    def choice(self, key: str, among: Sequence[str]) -> str:
        """One of several words; the first if none of them is stored."""
        found = self._file.value(key, "")
        return found if isinstance(found, str) and found in among else among[0]

    def text(self, key: str, default: str = "") -> str:
        """Any text."""
        found = self._file.value(key, default)
        return found if isinstance(found, str) else default

    def flag(self, key: str, default: bool) -> bool:
        """Yes or no."""
        return self.choice(key, ("yes", "no") if default else ("no", "yes")) == "yes"

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number within bounds."""
        try:
            found = float(str(self._file.value(key, default)))
        except ValueError:
            return default
        return found if low <= found <= high else default

    def bytes(self, key: str) -> QtCore.QByteArray:
        """What Qt stores of a layout; empty if there is none."""
        found = self._file.value(key)
        return found if isinstance(found, QtCore.QByteArray) else QtCore.QByteArray()

    def paths(self, key: str) -> list[Path]:
        """Paths, newest first."""
        found = self._file.value(key, [])
        words = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        return [Path(str(word)) for word in words if word]

    def put(self, key: str, value: str | bool | float | QtCore.QByteArray) -> None:
        """Store a value; Qt writes the file by itself, and at the end."""
        if isinstance(value, bool):
            value = "yes" if value else "no"
        self._file.setValue(key, value)

    def put_recent(self, key: str, path: Path) -> None:
        """Put a path first among those that are remembered under a key."""
        kept = [path, *(other for other in self.paths(key) if other != path)][:RECENT]
        self._file.setValue(key, [str(one) for one in kept])

    def save(self) -> None:
        """Write the file now."""
        self._file.sync()
