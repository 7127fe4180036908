"""Copies a run that has ended to a storage by URL, so that what is there is whole or does not look it.

Every file is hashed, sent if it is not there already, and looked at once all are there. The root's
``zarr.json`` goes last: before it, no reader takes the copy for a run. ``SHA256SUMS`` beside the run
lets anyone check the copy with ``sha256sum -c``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from acquire.errors import StoreError
from acquire.store.after.overviews import WORK_NAME
from acquire.store.after.target import Digest, Target, digest_of, open_target
from acquire.store.keeping import verify_run
from acquire.store.layout import JOURNAL_NAME, METADATA_NAME, RESERVE_NAME, ZARR_NAME
from acquire.store.locking import is_held
from acquire.store.run import open_run

SUMS_NAME = "SHA256SUMS"

_THREADS = 4
_ROOT = f"{ZARR_NAME}/{METADATA_NAME}"


@dataclass(frozen=True, slots=True)
class Upload:
    """What :func:`upload_run` did."""

    url: str
    files: int
    """Files that are there now, all checked."""
    nbytes: int
    sent: tuple[str, ...]
    """Those that were sent; the others were there."""
    mended: tuple[str, ...]
    """Those of them that had been there, but were not what they should be."""


def upload_run(
    path: Path | str,
    url: str,
    *,
    options: Mapping[str, object] | None = None,
    verify: bool = True,
    read_back: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Upload:
    """Copy a run, with the segments that continue it, to a place that fsspec knows.

    What is there already is kept where the storage's own checksum (the ETag of S3), or else the
    contents read back, are right; so the same call continues one that was interrupted and mends
    what was damaged. Transfers are tried again by the library of the storage.

    Args:
        path: the folder of a run.
        url: where to, such as ``s3://bucket/runs/2026-01-31``; a place that holds nothing else.
        options: for the storage, as fsspec takes them (``endpoint_url``, ``key``, …). What is not
            given comes from the environment, as the library of the storage does it.
        verify: check the run first.
        read_back: read every object back and compare it, whatever the storage says of it.
        progress: told bytes that are there, and bytes in all.

    Raises:
        StoreError: the run is being written, cut off or damaged; the place holds another run; or
            something could not be sent. What was sent is kept for the next call.
    """
    run = open_run(path).path
    for segment in _segments(run):
        _check_ended(segment)
        if verify:
            _check_whole(segment)
    names = _names(run)
    target = open_target(url, options or {}, inside=run)
    _check_same_run(run, target)
    return _Transfer(run, names, target, read_back=read_back).carry_out(progress)


def _segments(run: Path) -> list[Path]:
    """The run, and what continues it: every folder with a Zarr group of a run."""
    return sorted(root.parent.parent for root in run.rglob(_ROOT))


def _check_ended(run: Path) -> None:
    if is_held(run / JOURNAL_NAME):
        raise StoreError(
            f"{run} is in use: it is still being written, recovered or consolidated. Upload it when "
            "that has ended."
        )
    if open_run(run).report is None:
        raise StoreError(
            f"{run} was cut off and never closed. Run `hotstage recover {run}` first, then upload it."
        )


def _check_whole(run: Path) -> None:
    verification = verify_run(run)
    if not verification.good:
        found = [f"{f.where}: {f.text}" for f in verification.findings if f.severity != "note"]
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise StoreError(
            f"{run} is not whole: {'; '.join(found[:3])}{more}. Run `hotstage recover {run}`, or "
            "upload it as it is with --no-verify."
        )


def _names(run: Path) -> list[str]:
    """Paths of all files of a run, in the order in which they go."""
    found = []
    for folder, below, files in os.walk(run):
        below[:] = [name for name in below if name != WORK_NAME]
        place = Path(folder).relative_to(run)
        found += [
            (place / name).as_posix()
            for name in files
            if name not in (RESERVE_NAME, SUMS_NAME) and not name.endswith(".partial")
        ]
    return sorted(
        found, key=lambda name: (name != JOURNAL_NAME, name.endswith(METADATA_NAME), name)
    )


def _check_same_run(run: Path, target: Target) -> None:
    """Refuse to write over something else: the journal's first line is no other run's."""
    try:
        with (run / JOURNAL_NAME).open("rb") as file:
            first = file.readline()
    except OSError as error:
        raise StoreError(
            f"{run / JOURNAL_NAME} cannot be read: {error.strerror or error}. A copy is known by it: "
            f"run `hotstage recover {run}`."
        ) from error
    there = target.head(JOURNAL_NAME, len(first))
    if there is None:
        if target.head(_ROOT, 1) is None:
            return
    elif there and first.startswith(there):  # all of it, unless it was interrupted just there
        return
    raise StoreError(
        f"{target.url} holds something else than {run}: its {JOURNAL_NAME} begins differently. "
        "Nothing was written. Name another place, or remove what is there."
    )


class _Transfer:
    def __init__(self, run: Path, names: Sequence[str], target: Target, *, read_back: bool) -> None:
        self._run = run
        self._target = target
        self._read_back = read_back
        roots = [name for name in names if name == _ROOT or name.endswith(f"/{_ROOT}")]
        self._names = [name for name in names if name not in roots]
        # the segments' first: whoever finds the run finds all of it
        self._roots = sorted(roots, key=lambda name: (-name.count("/"), name))
        self._digests: dict[str, Digest] = {}
        self._sent: list[str] = []
        self._mended: list[str] = []
        self._there_bytes = 0
        self._total_bytes = sum((run / name).stat().st_size for name in names)

    def carry_out(self, progress: Callable[[int, int], None] | None) -> Upload:
        tell = progress or (lambda done, total: None)
        self._move(self._names[:1], tell)  # the journal marks the place as this run's
        self._move(self._names[1:], tell)
        for name in self._roots:
            self._digests[name] = digest_of(self._run / name)
        sums = "".join(f"{self._digests[name].sha256}  {name}\n" for name in sorted(self._digests))
        self._target.write(SUMS_NAME, sums.encode())
        self._check(self._names)
        for name in self._roots:
            self._move([name], tell)
        self._check(self._roots)
        names = [*self._names, *self._roots]
        return Upload(
            self._target.url,
            len(names),
            sum(self._digests[name].size for name in names),
            tuple(self._sent),
            tuple(self._mended),
        )

    def _move(self, names: Sequence[str], tell: Callable[[int, int], None]) -> None:
        """Bring files there; the first that cannot be sent ends it."""
        there = self._target.listing()
        with ThreadPoolExecutor(_THREADS, "upload") as threads:
            moves = {threads.submit(self._move_one, name, there): name for name in names}
            try:
                for move in as_completed(moves):
                    name = moves[move]
                    if move.result():
                        self._sent.append(name)
                        if name in there:
                            self._mended.append(name)
                    self._there_bytes += self._digests[name].size
                    tell(self._there_bytes, self._total_bytes)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _move_one(self, name: str, there: Mapping[str, Mapping[str, object]]) -> bool:
        """Send a file unless it is there; whether it was sent."""
        file = self._run / name
        digest = self._digests[name] = digest_of(file)
        if name in there and self._target.holds(
            name, digest, there[name], read_back=self._read_back
        ):
            return False
        self._target.send(file, name)
        return True

    def _check(self, names: Sequence[str]) -> None:
        """Look at what arrived."""
        there = self._target.listing()
        sent = set(self._sent)
        with ThreadPoolExecutor(_THREADS, "check") as threads:
            good = threads.map(
                lambda name: (
                    name in there
                    and self._target.holds(
                        name,
                        self._digests[name],
                        there[name],
                        # what was not sent was read back just before
                        read_back=self._read_back and name in sent,
                    )
                ),
                names,
            )
            bad = [name for name, right in zip(names, good, strict=True) if not right]
        if bad:
            raise StoreError(
                f"{len(bad)} files did not arrive as they are here ({', '.join(bad[:3])}): the "
                f"storage lost or changed them, or they changed here meanwhile. Run `hotstage "
                f"upload {self._run} {self._target.url}` again; what is right there is kept."
            )
