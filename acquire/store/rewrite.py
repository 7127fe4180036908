"""Brings all metadata of a closed run in step: arrays, groups, and the root's copy of everything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acquire.errors import StoreError
from acquire.store.files import sync_files, write_whole
from acquire.store.layout import METADATA_NAME, encode_text, group_text, to_text

_CHUNKS = "c."
"""What names of chunk and shard files begin with."""


@dataclass(slots=True)
class _Group:
    path: str
    attributes: Mapping[str, Any]
    arrays: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Documents by full path."""
    groups: list[_Group] = field(default_factory=list)

    def nodes(self) -> Iterator[tuple[str, str]]:
        """Everything below, parents first: full path and metadata."""
        for path, document in self.arrays.items():
            yield path, to_text(document)
        for group in self.groups:
            yield group.path, group_text(group.attributes)
            yield from group.nodes()

    def text(self) -> str:
        """The group's ``zarr.json``."""
        cut = len(self.path) + 1 if self.path else 0
        below = ", ".join(f"{json.dumps(path[cut:])}: {text}" for path, text in self.nodes())
        return group_text(self.attributes, below)


def rewrite_metadata(
    root: Path,
    *,
    arrays: Mapping[str, Mapping[str, Any]] | None = None,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[str, ...]:
    """Let every ``zarr.json`` of a run that nobody writes agree with the arrays' own.

    What counts is the document of each array (``arrays``, else its own file) and the attributes of
    each group (``attributes``, else its own file); consolidated metadata are made anew from them.
    A folder with arrays below becomes a group. Files are replaced whole, those of arrays first, of
    groups inside out, the root's last; each is on the disk before the next kind follows. A crash in
    between leaves readers of the root with what was there before, and the same call mends it.

    Args:
        root: the ``run.zarr``.
        arrays: new documents by path (``"images/overview/full/haadf"``); their folders must exist.
        attributes: new attributes of groups by path, ``""`` for the root; they replace the old.

    Returns:
        Paths of the files that changed, relative to ``root``; empty if all agreed.

    Raises:
        StoreError: a document that is needed cannot be read, or a file cannot be written.
    """
    arrays, attributes = arrays or {}, attributes or {}
    tree = _group(root, "", arrays, attributes)
    assert tree is not None  # the root is a group, however empty
    found: list[_Group] = []
    pending = [tree]
    while pending:
        group = pending.pop()
        found.append(group)
        pending += group.groups
    there = {group.path for group in found}.union(*(group.arrays for group in found))
    missing = sorted({*arrays, *attributes} - there)
    if missing:
        raise StoreError(f"{root} has no folder for {', '.join(missing)}: write their data first.")
    inside_out = sorted(found, key=lambda group: group.path.count("/") + bool(group.path))[::-1]
    changed: list[str] = []
    for texts in (
        {path: to_text(document) for group in found for path, document in group.arrays.items()},
        {group.path: group.text() for group in inside_out if group.path},
        {"": tree.text()},
    ):
        files = [
            root / path / METADATA_NAME
            for path, text in texts.items()
            if _replace(root / path / METADATA_NAME, text)
        ]
        sync_files(files)
        changed += [file.relative_to(root).as_posix() for file in files]
    return tuple(changed)


def _group(
    root: Path,
    path: str,
    arrays: Mapping[str, Mapping[str, Any]],
    attributes: Mapping[str, Mapping[str, Any]],
) -> _Group | None:
    """The group at a path with everything below; None for a folder that holds no array."""
    file = root / path / METADATA_NAME
    own = _read(file) if path not in attributes and (not path or file.exists()) else {}
    group = _Group(path, attributes.get(path, own.get("attributes", {})))
    for folder in _folders(root / path):
        below = f"{path}/{folder}" if path else folder
        document = arrays.get(below)
        if document is None and below not in attributes and (root / below / METADATA_NAME).exists():
            document = _read(root / below / METADATA_NAME)
        if document is not None and document.get("node_type") == "array":
            group.arrays[below] = document
        elif (inner := _group(root, below, arrays, attributes)) is not None:
            group.groups.append(inner)
    holds = bool(group.arrays or group.groups or own)
    return group if holds or path in attributes or not path else None


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(
            entry.name
            for entry in folder.iterdir()
            if not entry.name.startswith(_CHUNKS) and entry.is_dir()
        )
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _read(file: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(file.read_bytes())
        if document["zarr_format"] != 3 or not isinstance(document["attributes"], dict):
            raise ValueError("it is no Zarr v3 metadata")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{file} cannot be read ({error}). Run `hotstage recover` on the run, which looks for "
            "another copy of it."
        ) from error
    return dict(document)


def _replace(file: Path, text: str) -> bool:
    """Write a document unless the same stands there; whether it was written."""
    data = encode_text(text)
    # one that is not there, or cannot be read, needs a new one in any case
    with suppress(OSError, ValueError):
        if json.loads(file.read_bytes()) == json.loads(data):
            return False
    write_whole(file, data)
    return True
