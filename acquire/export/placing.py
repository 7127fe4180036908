"""Lets files and folders appear under their name only when they are finished, and never over others."""

from __future__ import annotations

import importlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acquire.errors import StoreError
from acquire.store.files import sync_files
from acquire.units import show_bytes

RESERVE_BYTES = 16 * 2**20
"""Room that HDF5 may need beside the data, to close a file well."""


@contextmanager
def new_place(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to make a file or folder at, which gets its name at a good end.

    Whatever goes wrong meanwhile, what was made is removed.

    Raises:
        StoreError: the target exists, or the disk refuses.
    """
    _refuse_existing(target)
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.unfinished")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        folder = unfinished.is_dir()
        sync_files({p for p in unfinished.rglob("*") if p.is_file()} if folder else {unfinished})
        _name(unfinished, target)
    except OSError as error:
        _remove(unfinished)
        raise StoreError(
            f"{target} cannot be written: {error.strerror or error}. Nothing was left there; free "
            "space or name another place with --output."
        ) from error
    except BaseException:
        _remove(unfinished)
        raise


def check_room(path: Path, nbytes: int) -> None:
    """Refuse to begin what may take ``nbytes`` where the disk of ``path`` has hardly more left.

    For HDF5, which does not survive a disk that is full: it can neither write nor close its files
    then, and may take the process with it.

    Raises:
        StoreError: there is no room.
    """
    free = shutil.disk_usage(path.parent).free
    if free < nbytes + RESERVE_BYTES:
        raise StoreError(
            f"the disk is full: {path.parent} has {show_bytes(free)} free, and HDF5 needs "
            f"{show_bytes(nbytes + RESERVE_BYTES)} to go on safely. Free space or name another "
            "place with --output; nothing was left there."
        )


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise StoreError(
            f"{target} exists already and is not touched: name another place with --output, or "
            "move it away."
        )


def _name(unfinished: Path, target: Path) -> None:
    if unfinished.is_dir():
        _refuse_existing(target)
        unfinished.rename(target)
        return
    try:
        # unlike a rename, refuses a file that somebody made meanwhile
        os.link(unfinished, target)
    except FileExistsError:
        _refuse_existing(target)
        raise
    except OSError:  # a file system without links
        _refuse_existing(target)
        unfinished.rename(target)
    else:
        unfinished.unlink()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def library(module: str, package: str) -> Any:
    """A module of the extra ``export``; raises StoreError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StoreError(
            f"this export needs {package}, which is not here ({error}): "
            'pip install "hotstage[export]".'
        ) from error
