"""What a writer does beside taking records: publishes, syncs and writes back on time, and knows a failure."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from acquire.errors import StoreError
from acquire.store.files import append_lines, sync_files, write_back, write_whole
from acquire.store.layout import (
    LOSS_WINDOW_S,
    PUBLISH_PERIOD_S,
    STRUCTURE_NAME,
    encode_text,
)
from acquire.store.pool import WritePool
from acquire.store.publisher import Publisher
from acquire.store.synced import write_synced

logger = logging.getLogger(__name__)

_BUSY = 0.5
"""Fullness from which chunks that are not full yet must wait."""
_WRITE_BACK_S = 0.2
"""Wall time between looks for files that much was written to."""
_SETTLE_S = 0.1
"""How long a publication waits for what was just appended."""


class Upkeep:
    """Three threads of a writer, and the first error of all that write for it."""

    def __init__(self, path: Path, publisher: Publisher, sync_every_s: float) -> None:
        self._path = path
        self._publisher = publisher
        self._sync_every_s = sync_every_s
        self._pool: WritePool | None = None
        self._checksums: FileIO | None = None
        self._failing = threading.Lock()
        self._stop = threading.Event()
        self.failure: StoreError | None = None
        self.tell: Callable[[StoreError], None] | None = None
        """Called from the thread that meets the first error."""
        self._threads = [
            threading.Thread(target=target, name=f"{name} {path.name}", daemon=True)
            for target, name in (
                (self._publish_on_time, "publish"),
                (self._sync_on_time, "sync"),
                (self._write_back_on_time, "write back"),
            )
        ]

    def start(self, pool: WritePool, checksums: FileIO) -> None:
        """Begin, over what this pool writes; lines of checksums go to that file."""
        self._pool = pool
        self._checksums = checksums
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads and wait for them."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def fail(self, error: StoreError) -> None:
        """Keep and tell the first error; later ones are its consequences."""
        with self._failing:
            if self.failure is not None:
                return
            self.failure = error
        logger.error("%s", error)
        if self.tell is not None:
            self.tell(error)

    def publish(self, *, force: bool = False, settle: bool = True) -> None:
        """Show readers what was appended; raises StoreError."""
        try:
            pool = self._pool
            if settle and pool is not None and (force or pool.fullness < _BUSY):
                # what is not full yet is written as it is, if there is time for that
                self._publisher.offer_partial()
                pool.settle(None if force else _SETTLE_S)
                if pool.failure is not None:
                    raise pool.failure
            self._publisher.publish(force=force)
        except StoreError:
            raise
        except Exception as error:
            # whatever it is: a dead publisher must end the run, not hide
            logger.exception("publication of %s failed", self._path)
            raise StoreError(f"{self._path} cannot be published: {error!r}.") from error

    def write_checksums(self, *, final: bool = False) -> None:
        """Append the checksums that are due; raises StoreError."""
        lines = self._publisher.take_checksums(final=final)
        if lines and self._checksums is not None:
            append_lines(self._checksums, lines, sync=final)

    def _publish_on_time(self) -> None:
        """Publish on time until told to stop, or until it fails."""
        while not self._stop.wait(PUBLISH_PERIOD_S):
            began = time.monotonic()
            try:
                self.publish()
                self.write_checksums()
            except StoreError as error:
                self.fail(error)
                return
            took = time.monotonic() - began
            if took > LOSS_WINDOW_S - PUBLISH_PERIOD_S:
                logger.warning("the disk is slow: publishing %s took %.2f s", self._path, took)

    def _sync_on_time(self) -> None:
        """Bring to the disk what was published, until told to stop, or until it fails."""
        while not self._stop.wait(self._sync_every_s):
            began = time.monotonic()
            # asked first: every row of these is in files that are synced now, or were before
            rows = self._publisher.visible_rows()
            try:
                sync_files(self._publisher.take_unsynced())
                if structure := self._publisher.take_structure():
                    write_whole(self._path / STRUCTURE_NAME, encode_text(structure), sync=True)
                write_synced(self._path, rows)
            except StoreError as error:
                self.fail(error)
                return
            took = time.monotonic() - began
            if took > self._sync_every_s:
                logger.warning("the disk is slow: a power cut could cost %.1f s now", took)

    def _write_back_on_time(self) -> None:
        """Spread the work of the sync windows, until told to stop, or until it fails."""
        while not self._stop.wait(_WRITE_BACK_S):
            try:
                write_back(self._publisher.take_heavy())
            except StoreError as error:
                self.fail(error)
                return
