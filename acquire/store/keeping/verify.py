"""Checks everything about a run that can be checked: metadata, bytes, coordinates, gaps, journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acquire.errors import StoreError
from acquire.store.keeping.accounts import check_records
from acquire.store.keeping.agreement import check_copies, check_root
from acquire.store.keeping.consistency import check_journal
from acquire.store.keeping.inspect import (
    Finding,
    Line,
    StoredArray,
    Tree,
    place_of,
    read_checksums,
    rows_of,
)
from acquire.store.keeping.integrity import Checks, bytes_of, check_array
from acquire.store.layout import (
    CHECKSUMS_NAME,
    FORMAT_KEY,
    FORMAT_VERSION,
    JOURNAL_NAME,
    RESERVE_NAME,
    STRUCTURE_NAME,
    SYNCED_NAME,
    ZARR_NAME,
)
from acquire.store.locking import is_held

RECOVERY = "recovery"
"""Attribute of the root: what `recover` did, and which losses it could only declare."""


@dataclass(frozen=True, slots=True)
class CheckedArray:
    """What was looked at of one array."""

    path: str
    rows: int
    chunks: int
    nbytes: int
    faults: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of a run came to."""

    path: Path
    state: str
    live: bool
    """Whether it was being written meanwhile."""
    rows: tuple[CheckedArray, ...]
    lengths: Mapping[str, int]
    """Rows of every group, by its path."""
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is damaged, and nothing lost that the run does not say itself."""
        return all(finding.severity != "damage" for finding in self.findings)


def verify_run(path: Path | str, progress: Callable[[float], None] | None = None) -> Verification:
    """Check a run: finished, killed or still being written; nothing is changed.

    Args:
        path: the run folder.
        progress: told how much of the data was read, 0 to 1.

    Raises:
        StoreError: there is no run, or it has another format.
    """
    run = place_of(path)
    live = is_held(run / JOURNAL_NAME)
    tree = Tree(run / ZARR_NAME)
    check_format(tree)
    checksums, problems = read_checksums(run)
    members = members_of(tree)
    lengths = {p: rows_of(columns) for p, columns in members.items()}
    checks = check_data(members, lengths, checksums, progress)
    findings = judge(run, tree, members, checks, live=live)
    findings += [Finding("damage", CHECKSUMS_NAME, text) for text in problems]
    return Verification(
        run,
        str(tree.attributes("").get("state", "unknown")),
        live,
        tuple(
            CheckedArray(
                f"{group}/{name}",
                min(array.length, lengths[group]) if array.grows else array.length,
                checks[group, name].chunks,
                checks[group, name].nbytes,
                len(checks[group, name].faults),
            )
            for group, columns in members.items()
            for name, array in columns.items()
        ),
        lengths,
        tuple(declare(findings, tree.attributes(""))),
    )


def check_format(tree: Tree) -> None:
    """Refuse what this hotstage does not know; raises StoreError."""
    version = tree.attributes("").get(FORMAT_KEY, FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{tree.root} has format {version}, this hotstage reads {FORMAT_VERSION}. "
            "Update hotstage."
        )


def members_of(tree: Tree) -> dict[str, dict[str, StoredArray]]:
    """The arrays of every group that has some; raises StoreError for those of others."""
    found = {group: tree.members(group) for group in tree.groups()}
    return {group: members for group, members in found.items() if members}


def check_data(
    members: Mapping[str, Mapping[str, StoredArray]],
    lengths: Mapping[str, int],
    checksums: Mapping[str, Line],
    progress: Callable[[float], None] | None = None,
) -> Checks:
    """Check the bytes of all arrays, up to the lengths of their groups."""
    wanted = {
        (group, name): (array, lengths[group] if array.grows else array.length)
        for group, columns in members.items()
        for name, array in columns.items()
    }
    total = sum(bytes_of(array, length) for array, length in wanted.values())
    seen = told = 0

    def tick(nbytes: int) -> None:
        nonlocal seen, told
        seen += nbytes
        if progress is not None and seen - told > total // 200:
            told = seen
            progress(min(1.0, seen / max(total, 1)))

    checks = {key: check_array(*of, checksums, tick) for key, of in wanted.items()}
    if progress is not None:
        progress(1.0)
    return checks


def judge(
    run: Path,
    tree: Tree,
    members: Mapping[str, Mapping[str, StoredArray]],
    checks: Checks,
    *,
    live: bool,
) -> list[Finding]:
    """All findings about a run whose data were checked, but for those of its checksum file."""
    attributes = tree.attributes("")
    closed = attributes.get("report") is not None
    findings = [
        Finding("note" if live else "damage", f"{ZARR_NAME}/{where}", text)
        for where, text in tree.problems
    ]
    findings += check_root(tree, attributes, closed=closed, live=live)
    findings += check_copies(tree, settled=closed and not live)
    findings += check_records(run, tree, members, checks, settled=closed and not live)
    findings += _check_vouched(checks, attributes, live=live)
    outcome = str(attributes.get("state", ""))
    findings += check_journal(run, closed=closed, live=live, outcome=outcome)
    if not live:
        findings += _leftovers(run)
    return findings


def _check_vouched(checks: Checks, attributes: Mapping[str, Any], *, live: bool) -> list[Finding]:
    files = [name for check in checks.values() for name in check.unvouched]
    if not files:
        return []
    if live or attributes.get("state") not in ("completed", "aborted"):
        text = f"{len(files)} chunk files of columns have no checksum yet"
        return [Finding("note", CHECKSUMS_NAME, text)]
    return [
        Finding("damage", f"{ZARR_NAME}/{name}", "no checksum vouches for it") for name in files
    ]


def declare(findings: Iterable[Finding], attributes: Mapping[str, Any]) -> list[Finding]:
    """Damage that recovery has declared before counts as loss."""
    known = {
        (str(item.get("where")), str(item.get("text")))
        for item in dict(attributes.get(RECOVERY) or {}).get("declared", ())
    }
    return [
        Finding("loss", f.where, f.text)
        if f.severity == "damage" and (f.where, f.text) in known
        else f
        for f in findings
    ]


def _leftovers(run: Path) -> list[Finding]:
    beside = [run / name for name in (RESERVE_NAME, SYNCED_NAME, STRUCTURE_NAME)]
    return [
        Finding("note", path.relative_to(run).as_posix(), "left over from a writer that died")
        for path in (*beside, *sorted(partials(run)))
        if path.exists()
    ]


def partials(run: Path) -> list[Path]:
    """Files that were being replaced when their writer died."""
    inside = list((run / ZARR_NAME).rglob("*.partial"))
    return [*run.glob("*.partial"), *inside]
