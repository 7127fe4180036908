"""Notes that people add to a run after its end: beside the journal, never in it.

``notes.jsonl`` lies in the folder of the whole run. Every line stands alone, and none is ever changed:
what was acquired stays as it was, and so does what the run itself wrote.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from acquire.errors import StoreError
from acquire.store.files import store_error
from acquire.store.layout import JOURNAL_NAME, NOTES_NAME, ZARR_NAME
from acquire.store.locking import hold, is_held
from acquire.store.segments import run_folder, segment_folders

MOST_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class LaterNote:
    """A note that was added to a run."""

    t_s: float
    """Run time (of the first segment) that it is about; NaN if it is about all of the run."""
    wall: str
    """When it was written: UTC on the wall, ISO 8601."""
    by: str
    """Who wrote it."""
    text: str


def add_later_note(
    path: Path | str, text: str, *, t_s: float = math.nan, by: str = ""
) -> LaterNote:
    """Add a note to a run that has ended; it is on the disk when this returns.

    Args:
        path: the folder of the run, or of one of its segments.
        text: may have many lines.
        t_s: run time that it is about.
        by: who writes it.

    Raises:
        StoreError: there is no run, it is still being written, the note is empty or too long, or it
            cannot be written; then nothing was.
    """
    run, words = run_folder(path), text.strip()
    if not (run / ZARR_NAME).is_dir():
        raise StoreError(f"{path} is no run: name a folder with {ZARR_NAME} in it.")
    if any(is_held(folder / JOURNAL_NAME) for folder in segment_folders(run)):
        raise StoreError(
            f"{run} is still being written: keep the note there, or add it when the run has ended."
        )
    if not words or len(words) > MOST_CHARACTERS:
        raise StoreError(
            f"a note of {len(words)} characters refused: 1 to {MOST_CHARACTERS}. Keep it in parts."
        )
    note = LaterNote(t_s, datetime.now(UTC).isoformat(timespec="milliseconds"), by, words)
    place = run / NOTES_NAME
    try:
        with place.open("a+b", buffering=0) as file:
            hold(file)  # of several who add one at the same time, one after the other
            _append(file, note)
    except OSError as error:
        raise store_error(place, error) from error
    return note


def read_later_notes(path: Path | str) -> list[LaterNote]:
    """Every note that was added to a run, oldest first; lines that cannot be read are left out.

    Raises:
        StoreError: there is no run, or its notes cannot be opened.
    """
    place = run_folder(path) / NOTES_NAME
    try:
        data = place.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"the notes {place} cannot be read: {error.strerror or error}.") from error
    found = (_note(line) for line in data.split(b"\n") if line.strip())
    return [note for note in found if note is not None]


def _append(file: FileIO, note: LaterNote) -> None:
    """Write a line, all of it or nothing."""
    entry = {
        "wall": note.wall,
        "t_s": note.t_s if math.isfinite(note.t_s) else None,
        "by": note.by,
        "text": note.text,
    }
    line = json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n"
    whole = file.seek(0, os.SEEK_END)
    if whole:
        file.seek(whole - 1)
        if file.read(1) != b"\n":  # a line that a crash has torn must not take this one with it
            line = b"\n" + line
    try:
        view = memoryview(line)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(whole)
        raise


def _note(line: bytes) -> LaterNote | None:
    try:
        raw = json.loads(line)
        t_s = math.nan if raw["t_s"] is None else float(raw["t_s"])
        return LaterNote(t_s, str(raw["wall"]), str(raw["by"]), str(raw["text"]))
    except (ValueError, KeyError, TypeError):
        return None
