"""One Zarr group of a run, whose arrays all grow together, and the publication of all groups at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from acquire.instruments import AnyArray
from acquire.store.columns import Cell, ColumnSpec, Table
from acquire.store.files import make_folder, write_at, write_whole
from acquire.store.layout import (
    ARRAYS_PERIOD_S,
    METADATA_NAME,
    ArrayLayout,
    group_metadata,
    to_json,
)

Document = dict[str, Any]


class GrowingGroup:
    """A group whose columns are buffered and whose blocks (frames) are written at once.

    Rows count when they are appended; they are visible to readers when published. One thread at a
    time appends; another one publishes.
    """

    def __init__(
        self,
        root: Path,
        path: str,
        dim: str,
        columns: Sequence[ColumnSpec],
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.block_bytes = 0
        """Bytes of blocks written so far, as they lie on the disk."""
        self.path = path
        self.folder = root / path
        self.attributes: dict[str, Any] = dict(attributes or {})
        self._lock = threading.Lock()
        self._table = Table(dim, columns)
        self._axes: dict[str, tuple[ArrayLayout, AnyArray]] = {}
        self._blocks: dict[str, ArrayLayout] = {}
        self._folders: set[str] = set()
        self._newest_chunk: dict[str, int] = {}
        self._array_documents: dict[str, Document] = {}
        self._changed = True
        self.documents: dict[str, Document] = {}
        """Metadata by array name, as last flushed."""
        self.published_attributes: Mapping[str, Any] = {}
        """The group's own, as last flushed."""
        make_folder(self.folder)

    @property
    def rows(self) -> int:
        """Rows appended so far."""
        return self._table.rows

    def add_axis(self, name: str, values: AnyArray, attributes: Mapping[str, Any]) -> None:
        """Add a coordinate that does not grow: 1-D values."""
        layout = ArrayLayout(
            values.dtype, (name,), chunk_rows=len(values), attributes=dict(attributes)
        )
        self._write(name, layout, 0, values)
        self._axes[name] = (layout, values)

    def add_block(self, name: str, layout: ArrayLayout) -> None:
        """Add an array with one chunk per row."""
        self._folder(name)
        self._blocks[name] = layout

    def write_block(self, name: str, data: AnyArray) -> None:
        """Write the chunk of a block that belongs to the next row; raises StoreError.

        A reader does not see it before the row is appended and published, so that a frame whose
        second detector failed to be written never shows.
        """
        block = data[np.newaxis]
        self.block_bytes += self._write(name, self._blocks[name], self._table.rows, block)

    def append(self, cells: Mapping[str, Cell], **attributes: object) -> None:
        """Add a row of cells, and change attributes of the group."""
        with self._lock:
            self._table.append(cells)
            self.attributes.update(attributes)
            self._changed = True

    def extend(self, columns: Mapping[str, AnyArray], rows: int) -> None:
        """Add many rows."""
        with self._lock:
            self._table.extend(columns, rows)
            self._changed = True

    def add_column(self, spec: ColumnSpec) -> None:
        """Add a column that holds its fill value up to now."""
        with self._lock:
            self._table.add(spec)
            self._changed = True

    def set_attributes(self, **attributes: object) -> None:
        """Change attributes of the group."""
        with self._lock:
            self.attributes.update(attributes)
            self._changed = True

    def flush(self) -> bool:
        """Write what is buffered and note how long everything is now; False if nothing was new.

        Only the publisher calls this.
        """
        with self._lock:
            if not self._changed:
                return False
            snapshot = self._table.snapshot()
            attributes = dict(self.attributes)
            self._changed = False
        try:
            for name, (layout, rows) in snapshot.columns.items():
                self._write_rows(name, layout, snapshot.first, rows)
        except BaseException:
            self._changed = True
            raise
        with self._lock:
            self._table.written(snapshot)
        documents = {name: layout.metadata(len(v)) for name, (layout, v) in self._axes.items()}
        lengthening = self._blocks | {
            name: layout for name, (layout, _) in snapshot.columns.items()
        }
        documents |= {name: layout.metadata(snapshot.rows) for name, layout in lengthening.items()}
        self.documents = documents
        self.published_attributes = attributes
        return True

    @property
    def has_new_arrays(self) -> bool:
        """Whether an array has data but no metadata of its own yet."""
        return not self._array_documents.keys() >= self.documents.keys()

    def write_arrays(self, *, sync: bool = False) -> None:
        """Let the metadata of the single arrays follow what was flushed; raises StoreError."""
        for name, document in self.documents.items():
            if self._array_documents.get(name) != document or sync:
                write_whole(self._folder(name) / METADATA_NAME, to_json(document), sync=sync)
                self._array_documents[name] = document

    def _write_rows(self, name: str, layout: ArrayLayout, first: int, rows: AnyArray) -> None:
        """Write rows of a column where they belong in its chunks.

        A chunk is made whole, and then filled in place: its older rows never change, so that a
        reader may read them at any moment, and the disk cannot be too full for the newer ones.
        """
        step = layout.chunk_rows
        done = 0
        while done < len(rows):
            number, within = divmod(first + done, step)
            part = rows[done : done + step - within]
            if number > self._newest_chunk.get(name, -1):
                chunk = np.full(step, layout.fill, rows.dtype)
                chunk[within : within + len(part)] = part
                self._write(name, layout, number, chunk)
                self._newest_chunk[name] = number
            else:
                path = self._folder(name) / layout.chunk_name(number)
                write_at(path, within * rows.itemsize, layout.encode(part))
            done += len(part)

    def _write(self, name: str, layout: ArrayLayout, number: int, data: AnyArray) -> int:
        encoded = layout.encode(data)
        write_whole(self._folder(name) / layout.chunk_name(number), encoded)
        return len(encoded)

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        if name not in self._folders:
            make_folder(folder)
            self._folders.add(name)
        return folder


class Publisher:
    """Makes what was appended visible to readers, all arrays of a run at once.

    The order is: data, the arrays' own metadata if it is due, the groups', and last the root's,
    whose consolidated metadata is what xarray and zarr-python read first. Each of these files is
    replaced whole. What is read by group never lags behind the data longer than a publication;
    arrays opened alone, and the groups of groups, lag by up to a second more.
    """

    def __init__(self, root: Path, attributes: Callable[[], Mapping[str, Any]]) -> None:
        self._root = root
        self._attributes = attributes
        self._lock = threading.Lock()
        self._groups: dict[str, GrowingGroup] = {}
        self._flushed: set[str] = set()
        """Groups whose own metadata is behind."""
        self._behind: set[str] = set()
        """Groups whose arrays' metadata is behind."""
        self._arrays_at = -ARRAYS_PERIOD_S

    def add(self, group: GrowingGroup) -> None:
        """Publish this group, too, from now on."""
        with self._lock:
            self._groups[group.path] = group

    def publish(self, *, force: bool = False, sync: bool = False) -> bool:
        """Write everything that is new; False if nothing was.

        Args:
            force: let everything catch up, the root's attributes and the single arrays, too.
            sync: wait until the disk has the metadata that are written now.

        Raises:
            StoreError: something could not be written; readers see a run as it was before.
        """
        with self._lock:
            for group in self._groups.values():
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
                for path in self._behind:
                    self._groups[path].write_arrays(sync=sync)
            for path in self._flushed:
                group = self._groups[path]
                self._write(path, group.published_attributes, group.documents, sync)
            if arrays_too:
                above = {str(p) for path in self._behind for p in PurePosixPath(path).parents}
                for path in sorted(above - {"."}, key=len, reverse=True):
                    self._write(path, {}, self._below(path), sync)
                self._behind.clear()
                self._arrays_at = now
            self._write("", self._attributes(), self._below(""), sync)
            self._flushed.clear()
            return True

    def _below(self, path: str) -> dict[str, Document]:
        """Metadata of everything below a group, by relative path."""
        prefix = f"{path}/" if path else ""
        found: dict[str, Document] = {}
        for group in self._groups.values():
            # a group that failed to be flushed, or is about to be, has nothing to show yet
            if not group.path.startswith(prefix) or not group.documents:
                continue
            relative = group.path.removeprefix(prefix)
            for parent in reversed(PurePosixPath(relative).parents):
                if str(parent) != ".":
                    found.setdefault(str(parent), group_metadata({}))
            found[relative] = group_metadata(group.published_attributes)
            for name, document in group.documents.items():
                found[f"{relative}/{name}"] = document
        # zarr-python 3.1 cannot read them unless what has one parent stands together
        return dict(sorted(found.items()))

    def _write(
        self, path: str, attributes: Mapping[str, Any], below: Mapping[str, Document], sync: bool
    ) -> None:
        document = group_metadata(attributes, below)
        write_whole(self._root / path / METADATA_NAME, to_json(document), sync=sync)
