"""A run and the segments that continue it, as one: where they lie, and their times on one axis."""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path

from acquire.errors import StoreError
from acquire.store.keeping import recover_run
from acquire.store.layout import JOURNAL_NAME, METADATA_NAME, ZARR_NAME
from acquire.store.locking import is_held
from acquire.store.run import Run, open_run

_SEGMENT = re.compile(r"continued-([1-9][0-9]*)")


def run_folder(path: Path | str) -> Path:
    """The folder of the whole run, from that, its ``run.zarr``, or one of its segments.

    Raises:
        StoreError: there is nothing.
    """
    place = Path(path).absolute()
    if not place.exists():
        raise StoreError(f"{path} does not exist; name the folder of a run.")
    place = place.parent if place.name == ZARR_NAME else place
    within = _SEGMENT.fullmatch(place.name) and (place.parent / ZARR_NAME).is_dir()
    return place.parent if within else place


def segment_folders(run: Path) -> tuple[Path, ...]:
    """The folder of the run itself and those that continue it, oldest first."""
    numbered = [(int(m[1]), p) for p in run.iterdir() if (m := _SEGMENT.fullmatch(p.name))]
    return (run, *(folder for _, folder in sorted(numbered)))


def next_segment(run: Path) -> Path:
    """The folder of the segment that would follow."""
    last = segment_folders(run)[-1]
    found = _SEGMENT.fullmatch(last.name) if last != run else None
    return run / f"continued-{1 + int(found[1]) if found else 1}"


def segments(path: Path | str) -> tuple[Run, ...]:
    """Open a run with everything that continues it, oldest first.

    A segment in which nothing was begun is left out.

    Args:
        path: folder of the run, or of one of its segments.

    Raises:
        StoreError: there is no run, or one of its segments cannot be read.
    """
    first, *others = segment_folders(run_folder(path))
    begun = (folder for folder in others if (folder / ZARR_NAME / METADATA_NAME).exists())
    return (open_run(first), *map(open_run, begun))


def time_offsets_s(runs: tuple[Run, ...]) -> tuple[float, ...]:
    """What to add to the times of each segment to get run times of the first.

    Each one's header tells how well that is known (``continues.t_uncertainty_s``).
    """
    steps = (run.header.continues for run in runs[1:])
    return tuple(accumulate((c.t_offset_s if c else 0.0 for c in steps), initial=0.0))


def make_whole(run: Path) -> tuple[str, ...]:
    """Recover every segment that a dead program left open; returns what was done, in words.

    Raises:
        StoreError: one of them is still being written, or cannot be recovered.
    """
    # all of them first: a run that lives must not be touched at all
    for folder in segment_folders(run):
        if is_held(folder / JOURNAL_NAME):
            raise StoreError(
                f"{folder} is still being written. End that run first, or wait for its end."
            )
    return tuple(
        f"{folder.name}: {change}" for folder in segment_folders(run) for change in _recover(folder)
    )


def _recover(folder: Path) -> tuple[str, ...]:
    journal = folder / JOURNAL_NAME
    if _SEGMENT.fullmatch(folder.name) and not (journal.exists() and journal.stat().st_size):
        return ()  # it ended before it began
    if (folder / ZARR_NAME / METADATA_NAME).exists() and open_run(folder).report is not None:
        return ()
    return recover_run(folder).changes
