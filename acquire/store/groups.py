"""One Zarr group of a run, whose arrays all grow together, and the publication of all groups at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from acquire.instruments import AnyArray
from acquire.store.columns import Cell, ColumnSpec, Table
from acquire.store.files import make_folder, write_whole
from acquire.store.layout import METADATA_NAME, ArrayLayout, group_metadata, to_json

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
        self.path = path
        self.folder = root / path
        self.attributes: dict[str, Any] = dict(attributes or {})
        self._lock = threading.Lock()
        self._table = Table(dim, columns)
        self._axes: dict[str, tuple[ArrayLayout, AnyArray]] = {}
        self._blocks: dict[str, ArrayLayout] = {}
        self._folders: set[str] = set()
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
        self._write(name, self._blocks[name], self._table.rows, data[np.newaxis])

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

    def flush(self, *, sync: bool = False) -> bool:
        """Write what is buffered, then the arrays' metadata; False if there was nothing new.

        Only the publisher calls this. Data comes before shapes, so that at every moment every
        array has at least what its metadata promises.
        """
        with self._lock:
            if not self._changed:
                return False
            snapshot = self._table.snapshot()
            attributes = dict(self.attributes)
            self._changed = False
        try:
            documents = self._flush(snapshot.rows, snapshot.first, snapshot.columns, sync=sync)
        except BaseException:
            self._changed = True
            raise
        with self._lock:
            self._table.written(snapshot)
        self.documents = documents
        self.published_attributes = attributes
        return True

    def _flush(
        self,
        rows: int,
        first: int,
        columns: Mapping[str, tuple[ArrayLayout, AnyArray]],
        *,
        sync: bool,
    ) -> dict[str, Document]:
        for name, (layout, held) in columns.items():
            step = layout.chunk_rows
            for start in range(0, len(held), step):
                self._write(name, layout, (first + start) // step, held[start : start + step])
        documents = {name: layout.metadata(len(v)) for name, (layout, v) in self._axes.items()}
        documents |= {name: layout.metadata(rows) for name, layout in self._blocks.items()}
        documents |= {name: layout.metadata(rows) for name, (layout, _) in columns.items()}
        for name, document in documents.items():
            if self.documents.get(name) != document or sync:
                write_whole(self._folder(name) / METADATA_NAME, to_json(document), sync=sync)
        return documents

    def _write(self, name: str, layout: ArrayLayout, number: int, data: AnyArray) -> None:
        write_whole(self._folder(name) / layout.chunk_name(number), layout.encode(data))

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        if name not in self._folders:
            make_folder(folder)
            self._folders.add(name)
        return folder


class Publisher:
    """Makes what was appended visible to readers, all arrays of a run at once.

    The order is: chunks, arrays, their group, the groups above it, and last the root, whose
    consolidated metadata is what xarray and zarr-python read first. Each file is replaced whole.
    """

    def __init__(self, root: Path, attributes: Callable[[], Mapping[str, Any]]) -> None:
        self._root = root
        self._attributes = attributes
        self._lock = threading.Lock()
        self._groups: dict[str, GrowingGroup] = {}
        self._flushed: set[str] = set()
        """Groups whose arrays are ahead of what the groups say."""

    def add(self, group: GrowingGroup) -> None:
        """Publish this group, too, from now on."""
        with self._lock:
            self._groups[group.path] = group

    def publish(self, *, force: bool = False, sync: bool = False) -> bool:
        """Write everything that is new; False if nothing was.

        Raises:
            StoreError: something could not be written; readers see a run as it was before.
        """
        with self._lock:
            for group in self._groups.values():
                if group.flush(sync=sync):
                    self._flushed.add(group.path)
            if not (self._flushed or force):
                return False
            above: set[str] = set()
            for path in self._flushed:
                group = self._groups[path]
                self._write(path, group.published_attributes, group.documents, sync)
                above.update(str(p) for p in PurePosixPath(path).parents if str(p) != ".")
            for path in sorted(above, key=len, reverse=True):
                self._write(path, {}, self._below(path), sync)
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
