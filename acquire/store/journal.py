"""The append-only journal of a run: JSON lines that are on the disk when written, and their reader."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from acquire.errors import StoreError
from acquire.store.documents import plain
from acquire.store.files import store_error
from acquire.store.locking import hold, try_hold
from acquire.stream.records import Note

TORN = "torn"
"""Kind of an entry that stands for a line which cannot be read."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of a journal."""

    seq: int
    t_s: float
    """Time on the run's clock; NaN where the writer did not know it."""
    wall: str
    """UTC on the wall, ISO 8601."""
    kind: str
    text: str
    details: Mapping[str, object] = field(default_factory=dict)


class Journal:
    """Appends notes to a file; may be used from any thread.

    The file is locked while it is open, by which others see that the run's writer lives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seq = 0
        self.torn = ""
        """What stood at the end of a resumed journal without an end of line; it was taken out."""
        try:
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise store_error(path, error) from error
        hold(self._file)

    @classmethod
    def resume(cls, path: Path) -> Journal:
        """Continue a journal whose writer is dead, or begin one where it is lost.

        Raises:
            StoreError: its writer lives, or the file cannot be written.
        """
        if not path.exists():
            return cls(path)
        journal = cls.__new__(cls)
        journal.path = path
        journal._lock = threading.Lock()
        try:
            journal._file = path.open("r+b", buffering=0)
            if not try_hold(journal._file):
                journal._file.close()
                raise StoreError(
                    f"{path.parent} is still being written: a living process holds its journal. "
                    "End that run first, or wait for it."
                )
            whole, _, torn = journal._file.read().rpartition(b"\n")
            journal.torn = torn.decode(errors="replace")
            if torn:
                journal._file.truncate(len(whole) + 1 if whole else 0)
            journal._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise store_error(path, error) from error
        journal._seq = 1 + max((e.seq for e in read_journal(path)), default=-1)
        return journal

    def write(self, note: Note) -> None:
        """Append a line; it is on the disk when this returns.

        Raises:
            StoreError: it is not; the journal ends with the line before.
        """
        with self._lock:
            line = self._line(note)
            whole = self._file.tell()
            try:
                view = memoryview(line)
                while view:
                    view = view[self._file.write(view) :]
                os.fsync(self._file.fileno())
            except (OSError, ValueError) as error:
                self._cut(whole)
                if isinstance(error, ValueError):
                    raise StoreError(
                        f"{self.path} is closed: {note.text!r} is not in it."
                    ) from error
                raise store_error(self.path, error) from error
            self._seq += 1

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._file.close()

    def _line(self, note: Note) -> bytes:
        entry = {
            "seq": self._seq,
            "t_s": note.t_s if math.isfinite(note.t_s) else None,
            "wall": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "kind": note.kind,
            "text": note.text,
            "details": plain(dict(note.details)),
        }
        return json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n"

    def _cut(self, length: int) -> None:
        """Take back a half-written line, so that the next one does not continue it."""
        # where that fails, too, the reader tolerates it: the first error is the one to tell
        with suppress(OSError, ValueError):
            self._file.truncate(length)
            self._file.seek(length)


def read_journal(path: Path) -> list[JournalEntry]:
    """Every entry of a journal, oldest first.

    A last line without its end, as a crash leaves it, is left out. A line in the middle that
    cannot be read becomes an entry of kind ``torn`` with what is left of it as text.

    Raises:
        StoreError: there is no journal, or it cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be read: {error.strerror}.") from error
    whole, _, _ = data.rpartition(b"\n")
    return [_entry(line) for line in whole.split(b"\n") if line.strip()]


def _entry(line: bytes) -> JournalEntry:
    try:
        raw = json.loads(line)
        return JournalEntry(
            seq=int(raw["seq"]),
            t_s=math.nan if raw["t_s"] is None else float(raw["t_s"]),
            wall=str(raw["wall"]),
            kind=str(raw["kind"]),
            text=str(raw["text"]),
            details=dict(raw["details"]),
        )
    except (ValueError, KeyError, TypeError):
        return JournalEntry(-1, math.nan, "", TORN, line.decode(errors="replace"))
