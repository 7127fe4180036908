"""A place in a storage that fsspec knows: what is there, whether it is right, and how it gets there."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acquire.errors import StoreError

_PART_BYTES = 16 * 2**20
"""S3 takes files of twice this size and more in parts of it; so many bytes a thread holds."""

_S3 = frozenset({"s3", "s3a"})
_ETAG = re.compile(r"[0-9a-f]{32}(-\d+)?")


@dataclass(frozen=True, slots=True)
class Digest:
    """What the contents of a file are known by."""

    size: int
    sha256: str
    etag: str
    """As S3 makes it, of a file that was sent as :meth:`Target.send` does."""


def digest_of(file: Path) -> Digest:
    """The digest of a local file, read in parts; raises StoreError."""
    sha256, whole = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    parts: list[bytes] = []
    size = 0
    try:
        with file.open("rb") as stream:
            while part := stream.read(_PART_BYTES):
                size += len(part)
                sha256.update(part)
                whole.update(part)
                parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror or error}.") from error
    etag = whole.hexdigest()
    if size >= 2 * _PART_BYTES:
        of_parts = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
        etag = f"{of_parts}-{len(parts)}"
    return Digest(size, sha256.hexdigest(), etag)


class Target:
    """A folder of a storage; every method raises StoreError for what the storage refuses."""

    def __init__(self, url: str, file_system: Any, base: str) -> None:
        self.url = url
        self._fs = file_system
        self._base = base.rstrip("/")
        protocol = file_system.protocol
        kinds = {protocol} if isinstance(protocol, str) else set(protocol)
        self._s3 = bool(kinds & _S3)

    def listing(self) -> dict[str, Mapping[str, object]]:
        """What is there now: facts of every file by its path."""
        try:
            self._fs.invalidate_cache()
            found = self._fs.find(self._base, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # every storage has errors of its own
            raise self._refused("cannot be listed", error) from error
        cut = len(self._base) + 1
        return {path[cut:]: facts for path, facts in found.items()}

    def head(self, name: str, nbytes: int) -> bytes | None:
        """The first bytes of a file; None if it is not there."""
        try:
            return bytes(self._fs.cat_file(self._path(name), start=0, end=nbytes))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._refused(f"cannot be read ({name})", error) from error

    def holds(
        self, name: str, digest: Digest, facts: Mapping[str, object], *, read_back: bool = False
    ) -> bool:
        """Whether a file that is there has these contents.

        By the storage's own checksum where it gives one that says so, else by reading it.
        """
        if facts.get("size") != digest.size:
            return False
        etag = str(facts.get("ETag", "")).strip('"')
        if not read_back and _ETAG.fullmatch(etag) and etag == digest.etag:
            return True
        # an ETag may also be no MD5: then what counts is what comes back
        return self._sha256(name) == digest.sha256

    def send(self, file: Path, name: str) -> None:
        """Copy a local file there."""
        # in parts of a known size, so that the ETag can be told beforehand
        how = {"chunksize": _PART_BYTES, "max_concurrency": 2} if self._s3 else {}
        try:
            self._fs.put_file(str(file), self._path(name), **how)
        except Exception as error:
            raise self._refused(f"did not take {name}", error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        try:
            self._fs.pipe_file(self._path(name), data)
        except Exception as error:
            raise self._refused(f"did not take {name}", error) from error

    def _sha256(self, name: str) -> str:
        found = hashlib.sha256()
        try:
            with self._fs.open(self._path(name), "rb", block_size=_PART_BYTES) as stream:
                while part := stream.read(_PART_BYTES):
                    found.update(part)
        except Exception as error:
            raise self._refused(f"cannot be read ({name})", error) from error
        return found.hexdigest()

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _refused(self, what: str, error: Exception) -> StoreError:
        reason = str(error) or type(error).__name__
        return StoreError(
            f"{self.url} {what}: {reason}. Check the address, the credentials and the network, and "
            "upload again; what is right there is kept."
        )


def open_target(url: str, options: Mapping[str, object], *, inside: Path) -> Target:
    """The place that a URL names; nothing is written yet.

    Args:
        url: of a kind that fsspec knows.
        options: for the storage.
        inside: a local folder that must not hold it.

    Raises:
        StoreError: a library is missing, the URL or an option cannot be used.
    """
    given = dict(options)
    try:
        # heavy, optional and untyped
        core: Any = importlib.import_module("fsspec.core")
        utils: Any = importlib.import_module("fsspec.utils")
        local = utils.get_protocol(url) in ("file", "local")
        if local:
            given.setdefault("auto_mkdir", True)
        # one of our own: its connections close when the target is gone
        file_system, base = core.url_to_fs(url, skip_instance_cache=True, **given)
    except ImportError as error:
        raise StoreError(
            f'{url} needs a library that is not installed ({error}). pip install "hotstage[upload]"'
        ) from error
    except (ValueError, TypeError, OSError) as error:
        raise StoreError(
            f"{url} cannot be opened: {error}. Write it as s3://BUCKET/FOLDER or file:///FOLDER, and "
            "options as the storage knows them."
        ) from error
    if local and Path(base).resolve().is_relative_to(inside.resolve()):
        raise StoreError(f"{url} lies in the run itself, {inside}. Name another place.")
    return Target(url.rstrip("/"), file_system, base)
