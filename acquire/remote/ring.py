"""Memory that a server and a client on the same computer share, through which frames go without a socket.

It is a file that both map, in memory where the system has a place for such files. Only its owner's
user can open it, and its name is gone as soon as the client has proved that it sees it: from then on
nothing can be left behind, however either side ends. What a kill in between leaves is removed when
the next ring is made. (:mod:`multiprocessing.shared_memory` is not used: on Python 3.11 the exit of
a process that only attached removes the segment under everybody else.)
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acquire.errors import LinkError
from acquire.remote.buffers import Buffers
from acquire.remote.messages import Buffer, Bytes

logger = logging.getLogger(__name__)

LEAST_SLOTS, MOST_SLOTS = 4, 64
MOST_BYTES = 512 << 20
_PAGE = 4096
_MAGIC = b"hotstage ring 1\n"
_PROOF_BYTES = 32
_HEAD_BYTES = 64
"""Of a slot, before its data: the number of what is in it, before and after it was written."""
_MEMORY = Path("/dev/shm")  # noqa: S108  checked below: the folder in it must be ours alone
_PREFIX = "ring-"


class RingWriter:
    """The server's side: puts what it sends into one slot after the other.

    The number of what is put counts from 1; number ``n`` stands in slot ``(n - 1) % slots``, and the
    slot is not used again before the reader has said that it has copied ``n``.

    Raises:
        LinkError: too small, too large, or no such memory here.
    """

    def __init__(self, slots: int, slot_bytes: int) -> None:
        if not (LEAST_SLOTS <= slots <= MOST_SLOTS and 0 < slots * slot_bytes <= MOST_BYTES):
            raise LinkError(
                f"a ring of {slots} slots of {slot_bytes} bytes refused: {LEAST_SLOTS} to {MOST_SLOTS} "
                f"slots, and no more than {MOST_BYTES} bytes."
            )
        self.slots, self.slot_bytes = slots, slot_bytes
        self._next = 1
        self._copied = 0
        self._proof = secrets.token_bytes(_PROOF_BYTES)
        self._attached = self._closed = False
        stride = _stride(slot_bytes)
        with _explained("made"):
            folder = _folder()
            _sweep(folder)
            self.path, self._fd = _create(folder)
            try:
                _reserve(self._fd, _PAGE + slots * stride)
                self._map = mmap.mmap(self._fd, _PAGE + slots * stride)
            except BaseException:
                self._remove()
                raise
        self._map[: len(_MAGIC)] = _MAGIC
        self._map[len(_MAGIC) : len(_MAGIC) + _PROOF_BYTES] = self._proof
        self._slots = _slots(self._map, slots, stride)

    @property
    def attached(self) -> bool:
        """Whether the reader has proved that it sees the same memory."""
        return self._attached

    @property
    def free(self) -> int:
        """Slots that may be written now."""
        return self.slots - (self._next - 1 - self._copied) if self._attached else 0

    def attach(self, proof: bytes) -> bool:
        """Whether a reader sees this memory, which only who can read it can prove; then its name goes."""
        if secrets.compare_digest(proof, self._proof):
            self._attached = True
            if os.name != "nt":  # elsewhere the name goes when the last one has let go
                _unlink(self.path)
        return self._attached

    def copied(self, number: int) -> None:
        """The reader has copied everything up to ``number``; raises LinkError if it cannot have."""
        if not self._copied <= number < self._next:
            raise LinkError(
                f"number {number} of the ring cannot have been copied: "
                f"{self._copied} was before, and {self._next - 1} was written last."
            )
        self._copied = number

    def put(self, blobs: Sequence[Buffer]) -> int:
        """Write blobs one after the other and return their number; 0 if they do not fit, or no slot is free."""
        if self.free <= 0 or sum(map(len, blobs)) > self.slot_bytes:
            return 0
        number = self._next
        head, data = self._slots[(number - 1) % self.slots]
        head[0] = number  # whoever reads now sees that the two differ
        at = 0
        for blob in blobs:
            data[at : at + len(blob)] = np.frombuffer(blob, np.uint8)
            at += len(blob)
        head[1] = number
        self._next += 1
        return number

    def close(self) -> None:
        """Let go of the memory; idempotent. No other thread may be writing."""
        if self._closed:
            return
        self._closed, self._attached = True, False
        self._slots = []
        with contextlib.suppress(BufferError):  # somebody still looks: it goes with them
            self._map.close()
        self._remove()

    def _remove(self) -> None:
        os.close(self._fd)
        _unlink(self.path)


class RingReader:
    """The client's side: copies out what the server has put.

    Args:
        path: as the server says.
        slots, slot_bytes: as it was asked for.

    Raises:
        LinkError: this is not the memory of a server on this computer.
    """

    def __init__(self, path: str, slots: int, slot_bytes: int) -> None:
        stride = _stride(slot_bytes)
        with _explained("opened"):
            fd = os.open(
                path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            )
            try:
                if not _ours(os.fstat(fd)) or os.fstat(fd).st_size != _PAGE + slots * stride:
                    raise LinkError("the shared memory is not what the server says.")
                self._map = mmap.mmap(fd, _PAGE + slots * stride, access=mmap.ACCESS_READ)
            finally:
                os.close(fd)
        if self._map[: len(_MAGIC)] != _MAGIC:
            self._map.close()
            raise LinkError("the shared memory is no ring.")
        self.proof = self._map[len(_MAGIC) : len(_MAGIC) + _PROOF_BYTES]
        self.slots, self.slot_bytes = slots, slot_bytes
        self._slots = _slots(self._map, slots, stride)
        self._buffers = Buffers()
        self.copied = 0
        """Everything up to this number was copied out."""

    def take(self, number: int, size: int) -> Bytes:
        """A copy of the first ``size`` bytes of what has this number.

        Raises:
            LinkError: it is not there, or was written over while it was copied.
        """
        if not (self.copied < number and 0 <= size <= self.slot_bytes):
            raise LinkError(f"number {number} of the ring, {size} bytes, cannot be had.")
        head, data = self._slots[(number - 1) % self.slots]
        found = self._buffers.take(size)
        before = int(head[1])
        found[:] = data[:size]
        if not before == int(head[0]) == number:
            raise LinkError(
                f"number {number} of the ring was torn: it was written while it was read."
            )
        self.copied = number
        return found

    def close(self) -> None:
        """Let go of the memory; idempotent."""
        self._slots = []
        with contextlib.suppress(BufferError):
            self._map.close()


def _stride(slot_bytes: int) -> int:
    return -(-(_HEAD_BYTES + slot_bytes) // _PAGE) * _PAGE


def _slots(memory: mmap.mmap, slots: int, stride: int) -> list[tuple[NDArray[np.uint64], Bytes]]:
    whole = np.frombuffer(memory, np.uint8)
    rows = [whole[_PAGE + n * stride : _PAGE + (n + 1) * stride] for n in range(slots)]
    return [(row[:16].view(np.uint64), row[_HEAD_BYTES:]) for row in rows]


# ---------------------------------------------------------------------------------- files


def _folder() -> Path:
    """A folder that only this user can enter."""
    base = (
        _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    )
    folder = base / (f"hotstage-{os.getuid()}" if hasattr(os, "getuid") else "hotstage")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or not _ours(found):
        raise LinkError(f"{str(folder)!r} is not a folder of this user alone. Remove it.")
    return folder


def _ours(found: os.stat_result) -> bool:
    """Whether this user owns it, and nobody else may touch it (where the system tells)."""
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & 0o077


def _create(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        fd = os.open(path, flags, 0o600)
        # who sweeps might have taken it for left behind before it was locked
        if _lock(fd) and path.exists():
            return path, fd
        os.close(fd)


def _reserve(fd: int, size: int) -> None:
    """Make a file so large, and be sure that its memory is there: else writing to it would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        os.write(fd, zeros[: size - start])


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed have left."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it went by itself, or another is at it
            fd = os.open(path, os.O_RDWR)
            try:
                left_behind = _lock(fd)
            finally:
                os.close(fd)
            if left_behind:
                path.unlink()
                logger.info("removed %s, which a process that was killed had left", path)


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


if os.name == "nt":

    def _lock(fd: int) -> bool:
        """True: an open file cannot be removed there, so that no lock is needed."""
        return True

else:
    import fcntl

    def _lock(fd: int) -> bool:
        """Whether nobody who lives holds it; the system ends the hold with the process, however it ends."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise LinkError(f"shared memory cannot be {what}: {error}.") from error
