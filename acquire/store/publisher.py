"""Publishes all groups of a run at once, so that what readers find always fits together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from acquire.store.files import write_whole
from acquire.store.groups import GrowingGroup
from acquire.store.layout import ARRAYS_PERIOD_S, GAPS, METADATA_NAME, encode_text, group_text


class Publisher:
    """Makes what was appended visible to readers, all arrays of a run at once.

    The order is: data, the arrays' own metadata if it is due, the groups', and last the root's,
    whose consolidated metadata is what xarray and zarr-python read first. Each of these files is
    replaced whole. What is read by group never lags behind the data longer than a publication;
    arrays opened alone, and groups that only list others, lag by up to a second more.
    """

    def __init__(self, root: Path, attributes: Callable[[], Mapping[str, Any]]) -> None:
        self._root = root
        self._attributes = attributes
        self._lock = threading.Lock()
        self._groups: dict[str, GrowingGroup] = {}
        self._by_parent: dict[str, GrowingGroup] = {}
        """The first group below each group that only holds others: it knows their attributes."""
        self._fragments: dict[str, dict[str, str]] = {}
        """Consolidated metadata of a group and its arrays, by the group's path and then by what is
        cut off the beginning of all paths in it."""
        self._parents: dict[str, str] = {}
        """Metadata of groups that only hold others."""
        self._listed: set[str] = set()
        """Groups that only hold others and have metadata."""
        self._flushed: set[str] = set()
        """Groups whose own metadata is behind."""
        self._behind: set[str] = set()
        """Groups whose arrays' metadata is behind."""
        self._arrays_at = -ARRAYS_PERIOD_S
        self._root_text = ""
        self._structure: Mapping[str, tuple[int, Mapping[str, Any]]] = {}
        """As it was when somebody asked for it last."""
        self._unsynced: set[Path] = set()

    def add(self, group: GrowingGroup) -> None:
        """Publish this group, too, from now on."""
        with self._lock:
            self._groups = dict(sorted({**self._groups, group.path: group}.items()))
            self._by_parent.setdefault(group.path.rpartition("/")[0], group)

    def offer_partial(self) -> None:
        """Let blocks that are not full yet be written, too."""
        for group in list(self._groups.values()):
            group.offer_partial()

    def publish(self, *, force: bool = False) -> bool:
        """Write everything that is new; False if nothing was.

        Args:
            force: let everything catch up, the root's attributes and the single arrays, too.

        Raises:
            StoreError: something could not be written; readers see a run as it was before.
        """
        with self._lock:
            # gaps last: no frame may show before the gap that it follows
            for group in sorted(self._groups.values(), key=lambda group: group.path == GAPS):
                if group.flush():
                    self._flushed.add(group.path)
                    self._behind.add(group.path)
            now = time.monotonic()
            due = force or now - self._arrays_at >= ARRAYS_PERIOD_S
            new = any(self._groups[path].has_new_arrays for path in self._behind)
            arrays_too = bool(self._behind) and (due or new)
            if not (self._flushed or arrays_too or force):
                return False
            if arrays_too:
                for path in sorted(self._behind):
                    self._groups[path].write_arrays()
            for path in sorted(self._flushed):
                group = self._groups[path]
                self._write(path, group.published_attributes, _joined(group.documents))
                self._fragments[path] = {}
                self._parents.pop(path.rpartition("/")[0], None)
            # what OME readers open never lags; the groups that only list others may, once they exist
            above = {
                parent
                for path in (self._behind if due else self._flushed)
                for parent in map(str, PurePosixPath(path).parents)
                if due or parent not in self._listed or self._parent_attributes(parent)
            }
            for path in sorted(above - {"."}, key=len, reverse=True):
                self._write(path, self._parent_attributes(path), self._below(path))
                self._listed.add(path)
            if due:
                self._behind.clear()
                self._arrays_at = now
            self._write("", self._attributes(), self._below(""))
            self._flushed.clear()
            return True

    def publish_root(self) -> None:
        """Write the root's attributes anew, and what was published before; raises StoreError."""
        with self._lock:
            self._write("", self._attributes(), self._below(""))

    def take_structure(self) -> str:
        """The root's metadata as last written, if more than lengths is new in them; else empty."""
        with self._lock:
            structure = {path: group.structure for path, group in self._groups.items()}
            if self._flushed or structure == self._structure:
                return ""  # what is flushed and not written, a later call tells
            self._structure = structure
            return self._root_text

    def visible_rows(self) -> dict[str, int]:
        """Rows that are published, by the path of their group."""
        return {path: max(0, group.visible_rows) for path, group in list(self._groups.items())}

    def take_unsynced(self) -> set[Path]:
        """Files that were written to since this was asked last."""
        with self._lock:
            paths, self._unsynced = self._unsynced, set()
            return paths.union(*(group.take_unsynced() for group in self._groups.values()))

    def take_heavy(self) -> set[Path]:
        """Files that much was written to since they were asked for here."""
        return set().union(*(group.take_heavy() for group in list(self._groups.values())))

    def take_checksums(self, *, final: bool = False) -> list[dict[str, Any]]:
        """Checksums that nobody took yet."""
        with self._lock:
            return [
                line
                for group in self._groups.values()
                for line in group.take_checksums(final=final)
            ]

    def seal(self) -> None:
        """Let all groups refuse rows from now on."""
        with self._lock:
            for group in self._groups.values():
                group.seal()

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for group in self._groups.values():
                group.close()

    def _parent(self, path: str) -> str:
        """Metadata of a group that only holds others."""
        if path not in self._parents:
            self._parents[path] = group_text(self._parent_attributes(path))
        return self._parents[path]

    def _parent_attributes(self, path: str) -> Mapping[str, Any]:
        """Attributes of a group that only holds others."""
        group = self._by_parent.get(path)
        return group.published_parent if group is not None else {}

    def _below(self, path: str) -> str:
        """Metadata of everything below a group, by relative path, as the inside of a JSON object."""
        prefix = f"{path}/" if path else ""
        parts: list[str] = []
        seen: set[str] = set()
        for name in self._groups:
            # a group that failed to be flushed, or is about to be, has nothing to show yet
            if not name.startswith(prefix) or name not in self._fragments:
                continue
            for parent in map(str, reversed(PurePosixPath(name).parents)):
                if parent.startswith(prefix) and parent not in seen and parent not in (".", path):
                    seen.add(parent)
                    parts.append(_joined({parent.removeprefix(prefix): self._parent(parent)}))
            fragments = self._fragments[name]
            if prefix not in fragments:
                fragments[prefix] = _relative(self._groups[name], prefix)
            parts.append(fragments[prefix])
        return ", ".join(parts)

    def _write(self, path: str, attributes: Mapping[str, Any], below: str) -> None:
        file = self._root / path / METADATA_NAME
        text = group_text(attributes, below)
        write_whole(file, encode_text(text))
        self._unsynced.add(file)
        if not path:
            self._root_text = text


def _relative(group: GrowingGroup, prefix: str) -> str:
    path = group.path.removeprefix(prefix)
    return _joined(
        {
            path: group_text(group.published_attributes),
            **{f"{path}/{name}": text for name, text in group.documents.items()},
        }
    )


def _joined(documents: Mapping[str, str]) -> str:
    """The inside of a JSON object of documents that are JSON already; keys need no escapes."""
    return ", ".join(f'"{name}": {text}' for name, text in documents.items())
