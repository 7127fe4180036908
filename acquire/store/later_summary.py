"""The row of a run's summary that has the notes which were added after its end."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from acquire.errors import StoreError
from acquire.store.files import write_whole
from acquire.store.later import LaterNote, read_later_notes
from acquire.store.layout import SUMMARY_NAME
from acquire.store.segments import run_folder, segment_folders
from acquire.units import show_duration

logger = logging.getLogger(__name__)

LATER, FOLDER = "notes added later", "folder"
"""Labels of rows; the notes stand above the folder."""


def renew_summaries(path: Path | str) -> None:
    """Put the notes of a run into the summaries that it has; where that fails they stay as they are."""
    run = run_folder(path)
    for folder in segment_folders(run):
        place = folder / SUMMARY_NAME
        try:
            text = place.read_text(encoding="utf-8")
            write_whole(place, _with_notes(text, read_later_notes(run)).encode())
        except FileNotFoundError:
            continue
        except (OSError, ValueError, StoreError) as error:
            logger.warning("a note is not in %s: %s", place, error)


def later_words(notes: Sequence[LaterNote]) -> str:
    """Notes in a row, each with its times."""
    return "; ".join(_words(note) for note in notes)


def cell(text: str) -> str:
    """Text that fits into one cell of a table in Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")


def _with_notes(markdown: str, notes: Sequence[LaterNote]) -> str:
    row, folder = f"| {LATER} |", f"| {FOLDER} |"
    lines = [line for line in markdown.splitlines() if not line.startswith(row)]
    at = next((i for i, line in enumerate(lines) if line.startswith(folder)), len(lines))
    added = [f"{row} {cell(later_words(notes))} |"] if notes else []
    return "\n".join([*lines[:at], *added, *lines[at:]]) + "\n"


def _words(note: LaterNote) -> str:
    when = f"{show_duration(note.t_s)}: " if math.isfinite(note.t_s) else ""
    by = f", {note.by}" if note.by else ""
    added = note.wall[:16].replace("T", " ")
    return f"{when}{' / '.join(note.text.splitlines())} (added {added} UTC{by})"
