"""One Zarr group of a run, whose arrays all grow together."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import google_crc32c
import numpy as np

from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store.columns import Cell, ColumnSpec, Table
from acquire.store.files import make_folder, write_at, write_whole
from acquire.store.layout import (
    COLUMN_CHUNK_ROWS,
    METADATA_NAME,
    ArrayLayout,
    encode_text,
)
from acquire.store.pool import WritePool
from acquire.store.shards import ShardedArray


class RowSource(Protocol):
    """Where a group's rows come from when they are not appended one by one."""

    def take(self) -> tuple[Mapping[str, AnyArray], int]:
        """The rows that came since: equally long columns, and how many rows."""

    def attributes(self) -> Mapping[str, Any]:
        """The group's attributes now."""

    def parent_attributes(self) -> Mapping[str, Any]:
        """Those of the group above it."""


class GrowingGroup:
    """A group whose columns are buffered and whose blocks (frames) are written in the background.

    Rows are visible to readers when they are published with all their blocks. One thread at a time
    appends; another one publishes.
    """

    def __init__(
        self,
        root: Path,
        path: str,
        dim: str,
        columns: Sequence[ColumnSpec],
        attributes: Mapping[str, Any] | None = None,
        *,
        source: RowSource | None = None,
        chunk_rows: int = COLUMN_CHUNK_ROWS,
    ) -> None:
        self.path = path
        self.folder = root / path
        self.attributes: dict[str, Any] = dict(attributes or {})
        self._source = source
        self._lock = threading.Lock()
        self._table = Table(dim, columns, chunk_rows)
        self._axes: dict[str, tuple[ArrayLayout, int]] = {}
        self._blocks: dict[str, ShardedArray] = {}
        self._folders: set[str] = set()
        self._newest_chunk: dict[str, tuple[int, int, int]] = {}
        """Number, bytes and CRC-32C so far of the chunk that a column is being written to."""
        self._texts: dict[str, tuple[ArrayLayout, str, str]] = {}
        self._written_texts: dict[str, str] = {}
        self._layouts = 0
        """How often an array came, or looks different."""
        self._checksums: list[dict[str, Any]] = []
        self._unsynced: set[Path] = set()
        self._changed = True
        self._sealed = False
        self.visible_rows = -1
        """Rows that are published."""
        self.documents: dict[str, str] = {}
        """Metadata by array name, as last flushed."""
        self.published_attributes: Mapping[str, Any] = {}
        """The group's own, as last flushed."""
        self.published_parent: Mapping[str, Any] = {}
        """Those of the group above it, as last flushed."""
        make_folder(self.folder, inside=root)

    @property
    def rows(self) -> int:
        """Rows appended so far."""
        return self._table.rows

    @property
    def block_bytes(self) -> int:
        """Bytes of blocks written so far, as they lie on the disk."""
        return sum(block.bytes_written for block in self._blocks.values())

    def add_axis(self, name: str, values: AnyArray, attributes: Mapping[str, Any]) -> None:
        """Add a coordinate that does not grow: 1-D values."""
        layout = ArrayLayout(
            values.dtype, (name,), chunk_rows=len(values), attributes=dict(attributes)
        )
        data = layout.compress(values)
        path = self._folder(name) / layout.chunk_name(0)
        write_whole(path, data)
        self._unsynced.add(path)
        self._note_checksum(path, len(data), google_crc32c.value(data))
        self._axes[name] = (layout, len(values))

    def add_block(self, name: str, layout: ArrayLayout, pool: WritePool) -> ShardedArray:
        """Add an array of which every row comes as a whole."""
        self._blocks[name] = block = ShardedArray(self._folder(name), layout, pool)
        return block

    def seal(self) -> None:
        """Refuse rows from now on; those that were taken will be written."""
        with self._lock:
            self._sealed = True

    def _check_open(self) -> None:
        if self._sealed:
            raise StoreError(f"{self.folder} is closed: the row came too late.")

    def append(self, cells: Mapping[str, Cell], **attributes: object) -> None:
        """Add a row of cells, and change attributes of the group; raises StoreError."""
        with self._lock:
            self._check_open()
            self._table.append(cells)
            self.attributes.update(attributes)
            self._changed = True

    def extend(self, columns: Mapping[str, AnyArray], rows: int) -> None:
        """Add many rows; raises StoreError."""
        with self._lock:
            self._check_open()
            self._table.extend(columns, rows)
            self._changed = True

    def know_column(self, spec: ColumnSpec) -> None:
        """Expect a column that holds its fill value up to now; for a source, while it is asked."""
        self._table.add(spec)

    def set_attributes(self, **attributes: object) -> None:
        """Change attributes of the group."""
        with self._lock:
            self.attributes.update(attributes)
            self._changed = True

    def offer_partial(self) -> None:
        """Let blocks that are not full yet be written, too."""
        for block in self._blocks.values():
            block.offer_partial()

    def flush(self) -> bool:
        """Write what is buffered and note how long everything is now; False if nothing was new.

        Only the publisher calls this.
        """
        with self._lock:
            if self._source is not None:
                columns, rows = self._source.take()
                if rows:
                    self._table.extend(columns, rows)
                    self._changed = True
                attributes = {**self.attributes, **self._source.attributes()}
                self._changed |= attributes != self.attributes
                self.attributes = attributes
            if not self._changed and self.visible_rows == self._table.rows:
                for block in self._blocks.values():
                    block.flush()  # lets it close files that rest
                return False
            snapshot = self._table.snapshot()
            attributes = dict(self.attributes)
            self._changed = False
        chunks, known = dict(self._newest_chunk), len(self._checksums)
        try:
            # time last: recovery takes a row whose time is there for a row that is there
            for name in sorted(snapshot.columns, key=lambda name: name == "time"):
                layout, values = snapshot.columns[name]
                self._write_rows(name, layout, snapshot.first, values)
        except BaseException:
            # all columns are written again from the same row on, and count only then
            self._newest_chunk = chunks
            del self._checksums[known:]
            self._changed = True
            raise
        with self._lock:
            self._table.written(snapshot)
        # a row shows when all of its blocks are written; the blocks of a row come before the row
        rows = min([snapshot.rows, *(block.flush() for block in self._blocks.values())])
        self.visible_rows = rows
        lengths = {name: (layout, length) for name, (layout, length) in self._axes.items()}
        lengths |= {name: (block.layout, rows) for name, block in self._blocks.items()}
        lengths |= {name: (layout, rows) for name, (layout, _) in snapshot.columns.items()}
        self.documents = {name: self._text(name, *of) for name, of in sorted(lengths.items())}
        self.published_attributes = attributes
        self.published_parent = self._source.parent_attributes() if self._source else {}
        return True

    def _text(self, name: str, layout: ArrayLayout, length: int) -> str:
        known = self._texts.get(name)
        if known is None or known[0] is not layout:
            known = self._texts[name] = (layout, *layout.text())
            self._layouts += 1
        return f"{known[1]}{length}{known[2]}"

    @property
    def structure(self) -> tuple[int, Mapping[str, Any]]:
        """Differs when something else than lengths was flushed."""
        return self._layouts, self.published_attributes

    @property
    def has_new_arrays(self) -> bool:
        """Whether an array has data but no metadata of its own yet."""
        return not self._written_texts.keys() >= self.documents.keys()

    def write_arrays(self) -> None:
        """Let the metadata of the single arrays follow what was flushed; raises StoreError."""
        for name, text in self.documents.items():
            if self._written_texts.get(name) != text:
                path = self._folder(name) / METADATA_NAME
                write_whole(path, encode_text(text))
                self._unsynced.add(path)
                self._written_texts[name] = text

    def take_checksums(self, *, final: bool = False) -> list[dict[str, Any]]:
        """Checksums of chunk files that are full, or at the end of all; each is given once."""
        if final:
            for name, (number, size, crc) in self._newest_chunk.items():
                path = self.folder / name / ArrayLayout.column_chunk_name(number)
                self._note_checksum(path, size, crc)
            self._newest_chunk.clear()
        found, self._checksums = self._checksums, []
        return found

    def take_unsynced(self) -> set[Path]:
        """Files that were written to since this was asked last."""
        paths, self._unsynced = self._unsynced, set()
        return paths.union(*(block.take_unsynced() for block in self._blocks.values()))

    def take_heavy(self) -> set[Path]:
        """Files that much was written to since they were asked for here."""
        return set().union(*(block.take_heavy() for block in list(self._blocks.values())))

    def close(self) -> None:
        """Close the files."""
        for block in self._blocks.values():
            block.close()

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
            data = layout.compress(part)
            path = self._folder(name) / layout.chunk_name(number)
            newest, size, crc = self._newest_chunk.get(name, (-1, 0, 0))
            if number > newest:
                # a column that came late begins with rows that hold nothing
                before = layout.compress(np.full(within, layout.fill, rows.dtype))
                after = np.full(step - within - len(part), layout.fill, rows.dtype)
                write_whole(path, before + data + layout.compress(after))
                size, crc = len(before), google_crc32c.value(before)
            else:
                write_at(path, within * rows.itemsize, data)
            size, crc = size + len(data), google_crc32c.extend(crc, data)
            self._newest_chunk[name] = (number, size, crc)
            self._unsynced.add(path)
            if size == step * rows.itemsize:
                self._note_checksum(path, size, crc)
            done += len(part)

    def _note_checksum(self, path: Path, size: int, crc: int) -> None:
        inside = path.relative_to(self.folder).as_posix()
        self._checksums.append({"path": f"{self.path}/{inside}", "bytes": size, "crc32c": crc})

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        if name not in self._folders:
            make_folder(folder, inside=self.folder)
            self._folders.add(name)
        return folder
