"""Recipes on the disk: read, written whole or not at all, and drafts that outlive a crash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from acquire.errors import RecipeError
from acquire.locking import take
from gui.recipes.reading import MAX_BYTES
from gui.words import tr

_RUN = "run"
RUN_KEPT_S = 24 * 3600.0
"""Wall seconds for which a text that was run unsaved is kept after its window."""


class ChangedOnDisk(RecipeError):
    """Somebody else has written the file meanwhile."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A recipe file as it was read or written."""

    path: Path
    text: str
    """With ``\\n`` at the ends of lines."""
    newline: str
    """How they end in the file."""
    mark: str
    """Tells its content from another."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Text that was never saved, of a window that did not end as it should."""

    file: Path
    """Where it is kept."""
    path: Path | None
    """The recipe file that it was to become."""
    text: str
    wall_s: float
    """When it was kept."""


def load(path: Path) -> Stored:
    """Read a file; raises RecipeError in words of what is wrong with it."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RecipeError(
                tr("{path} has {size} bytes; a recipe has at most {most}.").format(
                    path=path, size=size, most=MAX_BYTES
                )
            )
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            tr("{path} cannot be read: {error}").format(path=path, error=error)
        ) from error
    newline = "\r\n" if "\r\n" in text else "\n"
    return Stored(path, text.replace("\r\n", "\n"), newline, _mark(content))


def save(path: Path, text: str, known: str | None, newline: str = "\n") -> Stored:
    """Write a file at once or not at all.

    Args:
        path: of the file.
        text: all that it shall hold.
        known: the mark of what it held when it was last read or written; None overwrites whatever
            is there.
        newline: how its lines shall end.

    Raises:
        ChangedOnDisk: it holds something else by now; nothing was written.
        RecipeError: it cannot be written; what was there is whole.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    content = text.replace("\n", newline).encode()
    try:
        if known is not None and path.exists() and _mark(path.read_bytes()) != known:
            raise ChangedOnDisk(
                tr("{path} was changed by somebody else since it was read.").format(path=path)
            )
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o777)
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise RecipeError(
            tr("{path} cannot be written: {error}. Save it elsewhere.").format(
                path=path, error=error.strerror or error
            )
        ) from error
    return Stored(path, text, newline, _mark(content))


def _mark(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Drafts:
    """Keeps the unsaved text of one window in a folder; finds those that dead windows have left.

    A window locks its own draft as long as it lives, so that another leaves it alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        name = f"{time.time_ns():x}-{os.getpid()}"
        self._file = folder / f"{name}.json"
        self._lock_path = folder / f"{name}.lock"
        self._lock: FileIO | None = None

    def keep(self, text: str, path: Path | None) -> None:
        """Store the text as it is now; raises OSError."""
        self._hold()
        body = {"path": str(path) if path else "", "text": text, "wall_s": time.time()}
        beside = self._file.with_suffix(".tmp")
        beside.write_text(json.dumps(body), encoding="utf-8")
        beside.replace(self._file)

    def for_run(self, text: str, name: str) -> Path:
        """A file with text that shall be run without being saved; raises OSError."""
        folder = self._folder / _RUN / self._file.stem  # of this window: another may run, too
        self._hold()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(text.encode())
        return path

    def _hold(self) -> None:
        """Tell other windows that this one lives."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = FileIO(self._lock_path, "w")
            take(self._lock)

    def forget(self) -> None:
        """The text is saved, or was given up: keep nothing but what was run."""
        self._file.unlink(missing_ok=True)
        if self._lock is not None and not (self._folder / _RUN / self._file.stem).is_dir():
            self._lock.close()
            self._lock = None
            self._lock_path.unlink(missing_ok=True)

    def release(self) -> None:
        """The window goes: what it has run unsaved may be cleaned away some day."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def left_behind(self) -> list[Draft]:
        """Drafts whose windows are gone, newest first; what cannot be read is passed over."""
        found = []
        for file in self._folder.glob("*.json") if self._folder.is_dir() else ():
            if file == self._file or _is_held(file.with_suffix(".lock")):
                continue
            try:
                body = json.loads(file.read_text(encoding="utf-8"))
                path = Path(body["path"]) if body["path"] else None
                found.append(Draft(file, path, str(body["text"]), float(body["wall_s"])))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(found, key=lambda draft: -draft.wall_s)

    def clean(self, older_s: float = RUN_KEPT_S) -> None:
        """Delete what windows that are gone have run unsaved, a while after it: the run has its own copy.

        A window that is open shows the file and can read it again, so its own are left alone.
        """
        runs = self._folder / _RUN
        for folder in runs.iterdir() if runs.is_dir() else ():
            lock = self._folder / f"{folder.name}.lock"
            try:
                new = time.time() - folder.stat().st_mtime < older_s
                if folder.name == self._file.stem or new or _is_held(lock):
                    continue
                shutil.rmtree(folder)
                if not (self._folder / f"{folder.name}.json").exists():
                    lock.unlink(missing_ok=True)
            except OSError:  # somebody else cleans, or holds it open: it is tried again another day
                continue

    @staticmethod
    def discard(draft: Draft) -> None:
        """Delete a draft that was taken over or is not wanted."""
        draft.file.unlink(missing_ok=True)
        draft.file.with_suffix(".lock").unlink(missing_ok=True)


def _is_held(path: Path) -> bool:
    """Whether a living window has locked a file."""
    try:
        with FileIO(path, "r+") as file:
            take(file)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
