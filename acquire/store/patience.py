"""Reads arrays of a run that may be growing: again after a torn read, and never zeros for what is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.core import indexing

from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store.shards import MISSING, read_index

WAITS_S = (0.002, 0.01, 0.03, 0.1)
"""Pauses before a read is tried again; the writer needs microseconds for what it replaces."""

_Read = TypeVar("_Read")
_Key = tuple[int | slice | NDArray[np.int64], ...]


def patiently(
    read: Callable[[], _Read], errors: tuple[type[Exception], ...] = (StoreError,)
) -> _Read:
    """The result of ``read``, which is called again when it fails with one of ``errors``.

    Raises:
        Exception: what the last of ``len(WAITS_S) + 1`` attempts raised.
    """
    for wait_s in WAITS_S:
        try:
            return read()
        except errors:
            time.sleep(wait_s)
    return read()


class PatientStore(xr.backends.ZarrStore):
    """xarray's own view of a Zarr group, its arrays read through :class:`PatientArray`."""

    def __init__(self, group: zarr.Group, folder: Path) -> None:
        super().__init__(group, mode="r")
        self._folder = folder

    def open_store_variable(self, name: str) -> xr.Variable:
        """A lazy variable; called by xarray."""
        variable = super().open_store_variable(name)  # type: ignore[no-untyped-call]
        array = self.members[name]
        assert isinstance(array, zarr.Array)
        lazy = indexing.LazilyIndexedArray(PatientArray(array, self._folder / name))
        return xr.Variable(variable.dims, lazy, variable.attrs, variable.encoding)


class PatientArray(xr.backends.BackendArray):
    """One array on the disk, as xarray indexes it."""

    def __init__(self, array: zarr.Array[Any], folder: Path) -> None:
        self.shape = array.shape
        self.dtype = array.dtype
        self._array = array
        self._folder = folder
        self._chunk_rows = array.chunks[0]
        self._shard_chunks = array.shards[0] // array.chunks[0] if array.shards else 0
        """0: every chunk is a file."""

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: _Key) -> AnyArray:
        return patiently(lambda: self._read_once(key))

    def _read_once(self, key: _Key) -> AnyArray:
        self._insist(key[0])
        try:
            return np.asarray(self._array.oindex[key])
        except (ValueError, RuntimeError, OSError) as error:
            # zarr's words for a wrong checksum, for bytes that cannot be unpacked, for the disk
            raise StoreError(
                f"{self._folder} cannot be read at {_show(key)}: {error} Let `hotstage verify` say "
                "what is damaged; the rest can be read."
            ) from error

    def _insist(self, rows: int | slice | NDArray[np.int64]) -> None:
        """Refuse rows whose chunks are not there: Zarr would give its fill value for them."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.shape[0]))
        chunks = np.unique(np.asarray(rows) // self._chunk_rows)
        lost = self._lost_in_shards(chunks) if self._shard_chunks else self._lost_files(chunks)
        if lost is not None:
            raise StoreError(
                f"row {lost * self._chunk_rows} of {self._folder} is lost: the chunk that held it is "
                "not there. Let `hotstage verify` say what is damaged; the rest can be read."
            )

    def _lost_in_shards(self, chunks: NDArray[np.int64]) -> int | None:
        shards = chunks // self._shard_chunks
        for number in np.unique(shards).tolist():
            entries = read_index(self._file(number), self._shard_chunks)
            wanted = chunks[shards == number]
            lost = wanted[entries[wanted % self._shard_chunks, 0] == MISSING]
            if lost.size:
                return int(lost[0])
        return None

    def _lost_files(self, chunks: NDArray[np.int64]) -> int | None:
        for number in chunks.tolist():
            if self._file(number).is_file():
                continue
            # a column that came late has no files for the rows before it, but has later ones
            last = (self.shape[0] - 1) // self._chunk_rows
            earlier = any(self._file(n).is_file() for n in range(number))
            if earlier or not any(self._file(n).is_file() for n in range(number + 1, last + 1)):
                return int(number)
        return None

    def _file(self, number: int) -> Path:
        return self._folder / ".".join(["c", str(number), *("0" for _ in self.shape[1:])])


def _show(key: _Key) -> str:
    first = key[0]
    if isinstance(first, slice):
        return f"rows {first.start} to {first.stop}"
    return f"row {first}"
