"""How a run is written: what a recipe may choose about its store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from acquire.errors import StoreError

CODECS = ("lz4", "zstd", "none")
LEAST_SYNC_S = 0.05


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Choices that change speed and size, never what is stored.

    Raises:
        StoreError: a value cannot be used.
    """

    codec: Literal["lz4", "zstd", "none"] = "lz4"
    """``lz4`` for speed, ``zstd`` for the archive (some 5 % smaller, a sixth of the speed), ``none``."""
    sync_every_s: float = 1.0
    """Wall time between fsyncs: what a power cut can cost."""
    when_behind: Literal["wait", "fail"] = "wait"
    """When the disk cannot keep up and all memory for waiting records is used: slow the run down,
    or end it."""
    threads: int = 2
    """Threads that compress and write."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise StoreError(f"codec {self.codec!r} is unknown; use {', '.join(CODECS)}.")
        if not self.sync_every_s >= LEAST_SYNC_S:
            raise StoreError(
                f"sync_every = {self.sync_every_s:g} s is too often; use {LEAST_SYNC_S:g} s or more."
            )
        if self.when_behind not in ("wait", "fail"):
            raise StoreError(f"when_behind = {self.when_behind!r}: write 'wait' or 'fail'.")
        if self.threads < 1:
            raise StoreError(f"threads = {self.threads}: at least one must write.")
