"""Repairs what a dead writer left of a run, and never touches what it acquired."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acquire.errors import StoreError
from acquire.store.documents import plain
from acquire.store.files import make_folder, sync_files
from acquire.store.groups import GrowingGroup
from acquire.store.journal import Journal, read_journal
from acquire.store.keeping.accounts import frame_groups
from acquire.store.keeping.consistency import (
    Gap,
    end_of,
    estimator_groups,
    read_gaps,
    stream_of,
)
from acquire.store.keeping.ending import report_of, timed_ome
from acquire.store.keeping.extent import cut_faults, find_extents
from acquire.store.keeping.inspect import (
    Finding,
    Line,
    StoredArray,
    Tree,
    place_of,
    read_checksums,
    rows_of,
)
from acquire.store.keeping.integrity import Checks
from acquire.store.keeping.missing import all_gaps
from acquire.store.keeping.verify import (
    RECOVERY,
    check_data,
    check_format,
    judge,
    members_of,
    partials,
)
from acquire.store.keeping.vouching import complete_checksums
from acquire.store.layout import (
    FORMAT_KEY,
    FORMAT_VERSION,
    GAPS,
    IMAGES,
    JOURNAL_NAME,
    METADATA_NAME,
    RECIPE_NAME,
    RESERVE_NAME,
    STATION_NAME,
    STRUCTURE_NAME,
    SYNCED_NAME,
    ZARR_NAME,
)
from acquire.store.rewrite import rewrite_metadata
from acquire.store.synced import power_was_cut, read_synced
from acquire.store.writer import GAP_COLUMNS, RUNNING
from acquire.stream.records import Note

DIED = "the program died while the run was being written; recovered"
CUT = "the power failed while the run was being written; recovered"


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was done to a run."""

    path: Path
    changes: tuple[str, ...]
    """In words; empty if nothing had to be done."""
    losses: tuple[Finding, ...]
    """What is lost and could only be declared."""


def recover_run(path: Path | str) -> Recovery:
    """Repair a run whose writer is dead; a second call changes nothing.

    Rows that are whole on the disk become visible; rows that are said to be there and are not are
    taken back and recorded as gaps, as are damaged frames in the middle. The run is closed with what
    is known of its end. Files of acquired data are only read.

    Args:
        path: the run folder.

    Raises:
        StoreError: the run is still being written, is none, or cannot be written to.
    """
    run = place_of(path)
    cut = power_was_cut(run)
    begun = (run / JOURNAL_NAME).exists()
    journal = Journal.resume(run / JOURNAL_NAME)
    try:
        return _Repair(run, journal, cut).do()
    except StoreError:
        if not begun and not read_journal(journal.path):
            journal.close()
            _remove(journal.path)
        raise
    finally:
        journal.close()


class _Repair:
    """One repair; the journal is held throughout, so that nobody else works on the run."""

    def __init__(self, run: Path, journal: Journal, cut: bool) -> None:
        self._run = run
        self._root = run / ZARR_NAME
        self._journal = journal
        self._entries = read_journal(journal.path)
        self._changes: list[str] = []
        self._tree = Tree(self._root)
        check_format(self._tree)
        self._attributes = self._root_attributes()
        self._members = members_of(self._tree)
        recovered = RECOVERY in self._attributes or end_of(self._entries) is not None
        self._closed = self._attributes.get("report") is not None and recovered
        self._cut = cut and not self._closed

    def do(self) -> Recovery:
        """All of it, in an order that a second attempt can follow at any moment."""
        checks, extents = self._look()
        gaps = all_gaps(self._tree, self._members, extents, checks, self._entries)
        lines = self._store_gaps(gaps)
        arrays = self._lengths(extents)
        attributes = self._group_attributes(extents, gaps)
        for path in arrays:
            make_folder(self._root / path)
        vouched = complete_checksums(self._run, arrays, lines)
        if vouched is not None:
            self._changes.append(f"checksums of {_count(vouched, 'chunk file')} added")
        self._close(attributes[""], extents)
        self._forget_unpublished()
        written = rewrite_metadata(self._root, arrays=arrays, attributes=attributes)
        if written:
            self._changes.append(f"{_count(len(written), 'file')} of metadata brought in step")
        self._close_journal(attributes[""])
        losses = self._declare(attributes, checks)
        self._remove_leftovers()
        return Recovery(self._run, tuple(self._changes), losses)

    # ---------------------------------------------------------------------------- looking

    def _look(self) -> tuple[Checks, dict[str, int]]:
        """What the data are worth, and how many rows each group has."""
        synced = read_synced(self._run)
        if self._closed:
            extents = {group: rows_of(columns) for group, columns in self._members.items()}
        else:
            # without a mark, what the bytes say must do: hiding all of a run would be worse
            known = synced.rows if self._cut and synced is not None else None
            extents = find_extents(self._members, known)
            for path in estimator_groups(self._tree):
                if path in extents and not stream_of(self._tree, path):
                    # killed in its very first publication: nobody knows whose frames these mean
                    extents[path] = min(extents[path], rows_of(self._members[path]))
        checksums, _ = read_checksums(self._run)
        checks = check_data(self._members, extents, checksums)
        if not self._closed:
            cut_faults(self._members, extents, checks)
        for group, columns in self._members.items():
            rows, before = extents[group], rows_of(columns)
            if group == GAPS:
                continue  # it follows from what else is lost
            if rows > before:
                self._changes.append(f"{group}: {_count(rows - before, 'row')} were not published")
            elif rows < before:
                text = f"{_count(before - rows, 'row')} taken back that are not on the disk"
                self._changes.append(f"{group}: {text}")
        return checks, extents

    def _root_attributes(self) -> dict[str, Any]:
        """The root's, or what the journal's first line says of them."""
        attributes = self._tree.attributes("")
        if attributes.get(FORMAT_KEY) == FORMAT_VERSION:
            return attributes
        begin = next((e for e in self._entries if e.kind == "run" and "name" in e.details), None)
        if begin is None:
            raise StoreError(
                f"{self._run} cannot be recovered: neither the metadata in {ZARR_NAME} nor the "
                "journal tell what it is. If it holds no data, it never began: remove it."
            )
        self._changes.append("the root's attributes were lost; the journal knew them")
        texts = {
            "recipe_yaml": _text(self._run / RECIPE_NAME),
            "station_toml": _text(self._run / STATION_NAME),
        }
        return {FORMAT_KEY: FORMAT_VERSION, "state": RUNNING, **begin.details, **texts}

    # ------------------------------------------------------------------------------- gaps

    def _store_gaps(self, gaps: list[Gap]) -> dict[str, Line]:
        """Write the table of gaps anew if it lacks some; returns the checksums of its files."""
        known = read_gaps(self._tree)
        same = [repr(gap) for gap in gaps] == [repr(gap) for gap in known]  # no NaN equals another
        if same and len(gaps) == rows_of(self._members.get(GAPS, {})):
            return {}  # none was added, and none of the table was unreadable
        frames = sum(gap.frames for gap in gaps) - sum(gap.frames for gap in known)
        self._changes.append(
            f"{_count(frames, 'frame')} recorded as missing"
            if frames > 0
            else "the table of missing frames written anew"
        )
        group = GrowingGroup(self._root, GAPS, "row", GAP_COLUMNS)
        for gap in gaps:
            group.append(gap.cells())
        group.flush()
        group.write_arrays()
        lines = group.take_checksums(final=True)
        sync_files(group.take_unsynced())
        group.close()
        self._members[GAPS] = {
            name: StoredArray(self._root, f"{GAPS}/{name}", json.loads(text))
            for name, text in group.documents.items()
        }
        return {line["path"]: Line(line["bytes"], line["crc32c"]) for line in lines}

    # --------------------------------------------------------------------------- metadata

    def _lengths(self, extents: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """The documents of all arrays, with the lengths that they really have."""
        found: dict[str, dict[str, Any]] = {}
        for group, columns in self._members.items():
            for array in columns.values():
                document = dict(array.document)
                if array.grows and group in extents and group != GAPS:
                    document["shape"] = [extents[group], *array.inner_shape]
                found[array.path] = document
        return found

    def _group_attributes(
        self, extents: Mapping[str, int], gaps: list[Gap]
    ) -> dict[str, dict[str, Any]]:
        found = {path: self._tree.attributes(path) for path in self._tree.groups()}
        if gaps:
            found.setdefault(GAPS, {})
        for stream, group in frame_groups(self._members).items():
            found[group]["missing_frames"] = sum(g.frames for g in gaps if g.stream == stream)
            columns, rows = self._members[group], extents[group]
            if rows != rows_of(columns) and group.startswith(f"{IMAGES}/"):
                above = f"{IMAGES}/{stream}"
                found[above] = timed_ome(found.get(above, {}), columns["time"], rows)
        found[""] = dict(self._attributes)
        return found

    def _forget_unpublished(self) -> None:
        """Groups whose first publication was not finished are none; what they wrote stays."""
        for path in self._tree.unpublished:
            _remove(self._root / path / METADATA_NAME)
        if self._tree.unpublished:
            count = _count(len(self._tree.unpublished), "array")
            self._changes.append(f"{count} left out that no group took in yet")

    def _remove_leftovers(self) -> None:
        beside = [self._run / name for name in (RESERVE_NAME, SYNCED_NAME, STRUCTURE_NAME)]
        for file in (*beside, *partials(self._run)):
            if not file.exists():
                continue
            _remove(file)
            self._changes.append(f"{file.name} removed")

    # ---------------------------------------------------------------------------- the end

    def _close(self, root: dict[str, Any], extents: Mapping[str, int]) -> None:
        """Put a report into the root's attributes, if there is none, and say what was done."""
        ended = end_of(self._entries)
        if root.get("report") is None:
            report: dict[str, Any] = (
                dict(ended.details)
                if ended is not None
                else plain(
                    report_of(
                        self._members,
                        extents,
                        self._entries,
                        CUT if self._cut else DIED,
                        float((root.get("continues") or {}).get("dose_e_per_nm2", 0.0)),
                    )
                )
            )
            root["state"], root["report"] = report["outcome"], report
            self._changes.append(f"closed as {report['outcome']}: {report['cause']}")
        if self._journal.torn:
            self._changes.append("the journal's last line had no end and was taken out")
        if self._changes or ended is None:
            before = root.get(RECOVERY) or {}
            root[RECOVERY] = _recovery([*before.get("changes", []), *self._changes], before)

    def _close_journal(self, root: Mapping[str, Any]) -> None:
        t_s = float(root["report"]["t_end_s"])
        if self._changes:
            details: dict[str, object] = {"changes": self._changes}
            if self._journal.torn:
                details["torn"] = self._journal.torn
            self._journal.write(Note("recovery", t_s, "the run was recovered", details))
        if end_of(self._entries) is None:
            report = root["report"]
            text = f"run {root.get('name', '')!r} {report['outcome']}"
            text += f": {report['cause']}" if report["cause"] else ""
            self._journal.write(Note("run", t_s, text, report))
            self._changes.append("the journal was closed")

    # ----------------------------------------------------------------------------- losses

    def _declare(
        self, attributes: dict[str, dict[str, Any]], checks: Checks
    ) -> tuple[Finding, ...]:
        """Name in the root's attributes what is lost for good; returns it."""
        tree = Tree(self._root)
        members = members_of(tree)
        lengths = {group: rows_of(columns) for group, columns in members.items()}
        # frames were read once, and what was taken back of them had its reasons; columns are small
        columns = {
            group: {name: array for name, array in arrays.items() if not array.shard_chunks}
            for group, arrays in members.items()
        }
        checksums, _ = read_checksums(self._run)
        known = {
            key: replace(check, faults=tuple(f for f in check.faults if f.first < lengths[key[0]]))
            for key, check in checks.items()
        }
        known |= check_data(columns, lengths, checksums)
        findings = judge(self._run, tree, members, known, live=False)
        lost = [finding for finding in findings if finding.severity == "damage"]
        told = [{"where": finding.where, "text": finding.text} for finding in lost]
        root = attributes[""]
        before = root.get(RECOVERY) or {}
        if told != before.get("declared", []):
            self._changes.append(f"declared: {_count(len(lost), 'damage')} that cannot be mended")
            changes = [*before.get("changes", []), self._changes[-1]]
            root[RECOVERY] = _recovery(changes, {"declared": told})
            rewrite_metadata(self._root, attributes={"": root})
        return tuple(Finding("loss", finding.where, finding.text) for finding in lost)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{file} cannot be removed: {error.strerror or error}.") from error


def _recovery(changes: list[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """What the root's attributes say of a recovery: when, what was done, what is lost for good."""
    wall = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"wall": wall, "changes": changes, "declared": known.get("declared", [])}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
