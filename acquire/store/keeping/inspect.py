"""What a run's folder really holds: every copy of its metadata, and the arrays that they describe."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from acquire.errors import StoreError
from acquire.instruments import AnyArray
from acquire.store.layout import CHECKSUMS_NAME, METADATA_NAME, STRUCTURE_NAME, ZARR_NAME

Document = Mapping[str, Any]

GROWING = frozenset({"time", "row"})
"""First dimensions of arrays that grow; all others are axes of a frame."""

OWN = "its own file"


Severity = Literal["damage", "loss", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a check of a run found."""

    severity: Severity
    """``damage``: the run is not what was written, or does not say so. ``loss``: something is
    missing, and the run says so itself. ``note``: nothing is wrong."""
    where: str
    """File or node, relative to the run folder."""
    text: str


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array as a document describes it; raises StoreError when made of one that is not ours."""

    root: Path
    path: str
    document: Document
    length: int = field(init=False)
    inner_shape: tuple[int, ...] = field(init=False)
    dims: tuple[str, ...] = field(init=False)
    dtype: np.dtype[Any] = field(init=False)
    fill: float = field(init=False)
    chunk_rows: int = field(init=False)
    shard_chunks: int = field(init=False)
    """0: every chunk is a file."""
    codecs: tuple[str, ...] = field(init=False)
    """Of a chunk."""

    def __post_init__(self) -> None:
        try:
            values = self._parsed()
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StoreError(
                f"{self.path} is described in a way that hotstage does not write ({error!r})."
            ) from error
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _parsed(self) -> dict[str, Any]:
        document = self.document
        shape = [int(n) for n in document["shape"]]
        chunk = document["chunk_grid"]["configuration"]["chunk_shape"]
        codecs, shard_chunks = document["codecs"], 0
        if codecs[0]["name"] == "sharding_indexed":
            sharding = codecs[0]["configuration"]
            shard_chunks = int(chunk[0]) // int(sharding["chunk_shape"][0])
            chunk, codecs = sharding["chunk_shape"], sharding["codecs"]
        if [int(n) for n in chunk[1:]] != shape[1:] or int(chunk[0]) < 1:
            raise ValueError(f"chunks of {chunk} in {shape}")
        fill = document["fill_value"]
        return {
            "length": shape[0],
            "inner_shape": tuple(shape[1:]),
            "dims": tuple(document["dimension_names"]),
            "dtype": np.dtype(document["data_type"]).newbyteorder("<"),
            "fill": math.nan if fill == "NaN" else float(fill),
            "chunk_rows": int(chunk[0]),
            "shard_chunks": shard_chunks,
            "codecs": tuple(codec["name"] for codec in codecs),
        }

    @property
    def grows(self) -> bool:
        """Whether its length is that of its group."""
        return self.dims[0] in GROWING

    @property
    def row_bytes(self) -> int:
        """Bytes of a row before compression."""
        return self.dtype.itemsize * math.prod(self.inner_shape)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk before compression."""
        return self.chunk_rows * self.row_bytes

    @property
    def file_rows(self) -> int:
        """Rows that a file takes."""
        return self.chunk_rows * max(1, self.shard_chunks)

    def files(self, length: int) -> int:
        """How many files so many rows need."""
        return -(-length // self.file_rows)

    def file_name(self, number: int) -> str:
        """Path of a shard or chunk, relative to the Zarr group."""
        name = ".".join(["c", str(number), *("0" for _ in self.inner_shape)])
        return f"{self.path}/{name}"

    def file(self, number: int) -> Path:
        """Path of a shard or chunk."""
        return self.root / self.file_name(number)

    @property
    def words(self) -> list[str] | None:
        """The words that a column of words holds, by number; None for other columns."""
        attributes = self.document.get("attributes", {})
        texts = attributes.get("flag_texts")
        return list(texts) if "flag_values" in attributes and texts is not None else None

    def column(self, first: int, last: int) -> AnyArray:
        """Rows ``first`` to ``last`` of a column of plain numbers; the fill where no file is."""
        values = np.full(last - first, self.fill, self.dtype)
        step = self.chunk_rows
        for number in range(first // step, -(-last // step)):
            start, stop = max(first, number * step), min(last, (number + 1) * step)
            try:
                with self.file(number).open("rb") as file:
                    file.seek((start - number * step) * self.dtype.itemsize)
                    data = file.read((stop - start) * self.dtype.itemsize)
            except OSError:
                continue  # a reader of Zarr, too, takes the fill for a file that is not there
            whole = np.frombuffer(
                data[: len(data) // self.dtype.itemsize * self.dtype.itemsize], self.dtype
            )
            values[start - first : start - first + len(whole)] = whole
        return values

    def parts(self, first: int, last: int) -> Iterator[tuple[int, AnyArray]]:
        """The same in parts of one chunk: first row, and values."""
        while first < last:
            stop = min(last, (first // self.chunk_rows + 1) * self.chunk_rows)
            yield first, self.column(first, stop)
            first = stop


def place_of(path: Path | str) -> Path:
    """The run folder of a path that names it or the Zarr group in it; raises StoreError."""
    place = Path(path)
    place = place.parent if place.name == ZARR_NAME else place
    if not (place / ZARR_NAME).is_dir():
        raise StoreError(f"{place} is not a run: it holds no folder {ZARR_NAME}.")
    return place


class Tree:
    """All metadata of a run, each node in as many copies as there are.

    ``documents`` maps every path (``""`` is the root) to its copies, by the path of the group that
    holds the copy, or :data:`OWN`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.documents: dict[str, dict[str, Document]] = {}
        self.problems: list[tuple[str, str]] = []
        """Metadata files that cannot be read, and why."""
        self.strays: list[str] = []
        """Folders with data that no metadata describes."""
        self.unpublished: list[str] = []
        """Those of them that have metadata of their own, which no group took in."""
        for folder, below, names in os.walk(root):
            below.sort()
            path = Path(folder).relative_to(root).as_posix()
            path = "" if path == "." else path
            if METADATA_NAME in names:
                self._read(path)
            elif any(name.startswith("c.") for name in names):
                self.strays.append(path)
        self._admit_spare()
        self._sort_out()
        self.documents = dict(sorted(self.documents.items()))
        self.strays = sorted(path for path in self.strays if path not in self.documents)

    def _admit_spare(self) -> None:
        """Take from the root's copy of itself what no metadata tell; its lengths are old.

        A power cut can empty all other metadata, see :mod:`acquire.store.layout`.
        """
        with suppress(OSError, ValueError, KeyError, TypeError):  # it is only there until the end
            document = json.loads((self.root.parent / STRUCTURE_NAME).read_bytes())
            below = document["consolidated_metadata"]["metadata"]
            for path, copy in {"": document, **below}.items():
                if path not in self.documents:
                    self._admit(path, "", copy, "")
                else:
                    self._learn_words(path, copy)

    def _learn_words(self, path: str, spare: Document) -> None:
        """Take the words of a column from a copy that knows more of them: none is ever taken back.

        A metadata file that is replaced while it is synced may come out of a power cut as it was
        before; the root's copy of itself was on the disk by then.
        """
        known = len(spare["attributes"].get("flag_texts") or ())
        for source, document in self.documents[path].items():
            if len(document["attributes"].get("flag_texts") or ()) < known:
                attributes = {**document["attributes"], **spare["attributes"]}
                self.documents[path][source] = {**document, "attributes": attributes}

    def _sort_out(self) -> None:
        """Deal with arrays whose group has no metadata."""
        for path in [path for path in self.documents if self.is_array(path)]:
            above = [str(parent) for parent in PurePosixPath(path).parents][:-1]
            if above[0] in self.documents:
                continue
            if OWN in self.documents.get("", {}):
                # the root is whole and does not know it: its first publication was not finished
                del self.documents[path]
                self.unpublished.append(path)
                self.strays.append(path)
            else:
                for parent in above:
                    self.documents.setdefault(parent, {})

    def _read(self, path: str) -> None:
        file = self.root / path / METADATA_NAME
        try:
            document = json.loads(file.read_bytes())
            if document["zarr_format"] != 3 or not isinstance(document["attributes"], dict):
                raise ValueError("it is no Zarr v3 metadata")
            inside = document.get("consolidated_metadata") or {"metadata": {}}
            below = dict(inside["metadata"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.problems.append((self._name(path), f"cannot be read: {error}"))
            return
        self._admit(path, OWN, document, path)
        for name, copy in below.items():
            self._admit(f"{path}/{name}" if path else name, path, copy, path)

    def _admit(self, path: str, source: str, document: Any, file: str) -> None:
        """Take a copy of a node's metadata, if it is one."""
        try:
            if document["node_type"] == "array":
                StoredArray(self.root, path, document)
            elif document["node_type"] != "group" or not isinstance(document["attributes"], dict):
                raise ValueError("neither group nor array")
        except (StoreError, KeyError, TypeError, ValueError) as error:
            self.problems.append((self._name(file), f"what it says of {path!r} is wrong: {error}"))
            return
        self.documents.setdefault(path, {})[source] = document

    @staticmethod
    def _name(path: str) -> str:
        return f"{path}/{METADATA_NAME}" if path else METADATA_NAME

    def is_array(self, path: str) -> bool:
        """Whether a node is an array."""
        return any(d.get("node_type") == "array" for d in self.documents[path].values())

    def groups(self) -> list[str]:
        """Paths of all groups but the root."""
        return [path for path in self.documents if path and not self.is_array(path)]

    def attributes(self, path: str) -> dict[str, Any]:
        """Attributes of a group, from the copy that is newest by the order of writing."""
        copies = self.documents.get(path, {})
        holds_arrays = bool(self.names(path))
        # groups that hold only groups follow once a second, and the root's copy five times
        order = [OWN, *reversed(copies)] if holds_arrays else [*copies, OWN]
        found = [dict(copies[source]["attributes"]) for source in order if source in copies]
        if not found:
            return {}
        return max(found, key=lambda a: len(str(a.get("coordinates", "")).split()))

    def names(self, group: str) -> list[str]:
        """Names of the arrays of a group."""
        prefix = f"{group}/" if group else ""
        return [
            path.removeprefix(prefix)
            for path in self.documents
            if path.startswith(prefix)
            and path != group
            and "/" not in path.removeprefix(prefix)
            and self.is_array(path)
        ]

    def members(self, group: str) -> dict[str, StoredArray]:
        """The arrays of a group by name, from the one copy of all that says most rows.

        Lengths of one copy agree; an array that it lacks comes from its own file.
        Raises StoreError for one that hotstage did not write.
        """
        names = self.names(group)
        best: dict[str, StoredArray] = {}
        most = -1
        for source in [group, *map(str, PurePosixPath(group).parents)]:
            source = "" if source == "." else source
            copy = {
                name: StoredArray(self.root, f"{group}/{name}", copies[source])
                for name in names
                if source in (copies := self.documents[f"{group}/{name}"])
            }
            rows = max((array.length for array in copy.values() if array.grows), default=-1)
            if rows > most or (rows == most and len(copy) > len(best)):
                best, most = copy, rows
        for name in names:
            own = self.documents[f"{group}/{name}"].get(OWN)
            if name not in best and own is not None:
                best[name] = StoredArray(self.root, f"{group}/{name}", own)
        return dict(sorted(best.items()))


def rows_of(members: Mapping[str, StoredArray]) -> int:
    """How many rows a group says it has."""
    return max((array.length for array in members.values() if array.grows), default=0)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of ``checksums.jsonl``."""

    nbytes: int
    crc32c: int


def read_checksums(run: Path) -> tuple[dict[str, Line], list[str]]:
    """The checksums of chunk files by path, and what is wrong with the file.

    A last line without its end, as a crash leaves it, is left out.
    """
    try:
        whole, _, _ = (run / CHECKSUMS_NAME).read_bytes().rpartition(b"\n")
    except OSError as error:
        return {}, [f"cannot be read: {error.strerror or error}"]
    found: dict[str, Line] = {}
    problems: list[str] = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            raw = json.loads(line)
            found[str(raw["path"])] = Line(int(raw["bytes"]), int(raw["crc32c"]))
        except (ValueError, KeyError, TypeError):
            problems.append(f"line {number} cannot be read")
    return found, problems
