"""Replaces files whole, never half, and turns what the operating system refuses into advice."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path

from acquire.errors import StoreError
from acquire.units import show_bytes

RETRY_FOR_S = 2.0
"""On Windows a file that a reader has open cannot be replaced: how long to try again."""

_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def write_whole(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Put ``data`` at ``path`` so that a reader sees the old file or the new one, never a part.

    Args:
        path: its folder must exist.
        data: the whole contents.
        sync: whether to wait until the disk has it; else it has left this process only.

    Raises:
        StoreError: names the path, the free space and the mend; the old file is untouched.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if sync:
                os.fsync(file.fileno())
        _replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise store_error(path, error) from error


def open_new(path: Path) -> FileIO:
    """A file to append to, which must not exist; raises StoreError."""
    try:
        return path.open("xb", buffering=0)
    except OSError as error:
        raise store_error(path, error) from error


def append_lines(
    file: FileIO, documents: Iterable[Mapping[str, object]], *, sync: bool = False
) -> None:
    """Append one line of JSON for each document; raises StoreError."""
    data = "".join(f"{json.dumps(document)}\n" for document in documents).encode()
    try:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        if sync:
            os.fsync(file.fileno())
    except OSError as error:
        raise store_error(Path(str(file.name)), error) from error


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Overwrite part of a file that is long enough; raises StoreError."""
    try:
        with path.open("r+b", buffering=0) as file:
            file.seek(offset)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
    except OSError as error:
        raise store_error(path, error) from error


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until the disk has these files and their names: data first, then what describes them.

    Raises:
        StoreError: it has not; it was tried for all of them, and this is the first that failed.
    """
    ordered = sorted(paths, key=lambda path: (path.suffix == ".json", -len(path.parts)))
    wanted = [(path, os.O_RDWR | getattr(os, "O_BINARY", 0)) for path in ordered]
    if os.name != "nt":  # there, a folder cannot be opened
        wanted += [(folder, os.O_RDONLY) for folder in dict.fromkeys(p.parent for p in ordered)]
    failure: StoreError | None = None
    for path, flags in wanted:
        try:
            _sync(path, flags)
        except StoreError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def write_back(paths: Iterable[Path]) -> None:
    """Bring the contents of files to the disk ahead of time; raises StoreError."""
    for path in paths:
        _sync(path, os.O_RDWR | getattr(os, "O_BINARY", 0))


def _sync(path: Path, flags: int) -> None:
    try:
        handle = os.open(path, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise store_error(path, error) from error


def _replace(source: Path, target: Path) -> None:
    """Rename over ``target``, again and again while a reader of it forbids that (Windows only)."""
    patience_ends = time.monotonic() + RETRY_FOR_S
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() > patience_ends:
                raise
            time.sleep(0.005)


def make_folder(path: Path, *, must_be_new: bool = False, inside: Path | None = None) -> None:
    """Make a folder with its parents, but none of those of ``inside``; raises StoreError."""
    try:
        if inside is None:
            path.mkdir(parents=True, exist_ok=not must_be_new)
            return
        # one by one: what somebody deleted must not come back by half
        for part in path.relative_to(inside).parts:
            inside = inside / part
            inside.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise StoreError(
            f"{path} exists already and is not touched: a run needs a new folder. "
            "Name another one, or move this one away."
        ) from error
    except OSError as error:
        raise store_error(path, error) from error


def store_error(path: Path, error: OSError) -> StoreError:
    """What a person is told when the operating system refuses to write ``path``."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StoreError(
            f"the disk is full: {path} could not be written ({reason}; {_free(path)}). Free space "
            "or choose a folder on another disk; what was recorded so far is whole and readable."
        )
    if error.errno in _DENIED:
        return StoreError(
            f"{path} may not be written ({reason}; {_free(path)}). Check the permissions of the "
            "folder and whether the disk is mounted read-only."
        )
    return StoreError(
        f"{path} could not be written ({reason}; {_free(path)}). Check that the folder still "
        "exists and that the disk answers."
    )


def _free(path: Path) -> str:
    for folder in (path, *path.parents):
        try:
            return f"{show_bytes(shutil.disk_usage(folder).free)} free"
        except OSError:
            continue
    return "free space unknown"


class Reserve:
    """Space kept back, so that a full disk still takes the reason why the run ended."""

    def __init__(self, path: Path, size_bytes: int = 512 * 1024) -> None:
        self._path = path
        # random, because a compressing file system would store zeros in no space at all
        write_whole(path, os.urandom(size_bytes))

    def release(self) -> None:
        """Give the space back; idempotent."""
        # it is only ballast: an open handle or a lost disk must not hide the real error
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
