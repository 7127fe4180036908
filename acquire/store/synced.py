"""What of a run was on the disk for sure, beside it: recovery after a power cut trusts no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from acquire.store.files import sync_files, write_whole
from acquire.store.layout import METADATA_NAME, SYNCED_NAME, ZARR_NAME

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK_STEP_S = 2.0
"""Where a system names no start of its own, its time is known to about a second."""


@dataclass(frozen=True, slots=True)
class Synced:
    """Rows that were on the disk for sure."""

    rows: Mapping[str, int]
    """By the path of their group; what is not named had none."""
    boot: str


def write_synced(run: Path, rows: Mapping[str, int]) -> None:
    """Say how many rows of each group are on the disk; raises StoreError."""
    document = {"boot": boot_name(), "rows": dict(rows)}
    path = run / SYNCED_NAME
    # on the disk before it gets its name: an empty one would say that nothing was there
    write_whole(path, json.dumps(document).encode(), sync=True)
    sync_files([path])


def read_synced(run: Path) -> Synced | None:
    """What was said last; None if nothing that can be read."""
    try:
        document = json.loads((run / SYNCED_NAME).read_bytes())
        rows = {str(path): int(count) for path, count in document["rows"].items()}
        return Synced(rows, str(document["boot"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def boot_name() -> str:
    """Another one after every start of the machine."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


def power_was_cut(run: Path) -> bool:
    """Whether the machine has been started since a run that did not end was written.

    A run that was copied here from elsewhere counts as killed, unless the machine was started since.
    """
    synced = read_synced(run)
    if synced is not None and synced.boot == boot_name():
        return False
    written = [
        path.stat().st_mtime
        for path in (run / ZARR_NAME / METADATA_NAME, run / SYNCED_NAME)
        if path.exists()
    ]
    return bool(psutil.boot_time() > max(written, default=0.0) + _CLOCK_STEP_S)
