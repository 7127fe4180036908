"""The rings of an instrument server: one for each connection that asked for it, gone when that ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from acquire.errors import LinkError
from acquire.instruments import Frame
from acquire.remote.frames import alike, bytes_of, pack_head
from acquire.remote.messages import Buffer
from acquire.remote.ring import RingWriter

MOST_BYTES = 1 << 30
"""Of all rings together."""


class Rings:
    """Rings by the number of the connection whose thread alone uses them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rings: dict[int, RingWriter] = {}

    def open(self, connection: int, slots: int, slot_bytes: int) -> str:
        """Make a ring in place of the one that there is, and return where it is; raises LinkError."""
        self.close(connection)
        with self._lock:
            taken = sum(ring.slots * ring.slot_bytes for ring in self._rings.values())
            if taken + slots * slot_bytes > MOST_BYTES:
                raise LinkError(f"{taken} bytes of shared memory are in use; no more is given.")
            ring = self._rings[connection] = RingWriter(slots, slot_bytes)
        return str(ring.path)

    def attach(self, connection: int, proof: bytes) -> bool:
        """Whether the client sees the memory; if not, it is let go of."""
        ring = self._rings.get(connection)
        if ring is not None and ring.attach(proof):
            return True
        self.close(connection)
        return False

    def of(self, connection: int, copied: int) -> RingWriter | None:
        """The ring of a connection, whose client has copied so much; None if it has none to use."""
        ring = self._rings.get(connection)
        if copied < 0 or ring is None or not ring.attached:
            return None
        ring.copied(copied)
        return ring

    def close(self, connection: int) -> None:
        """Let go of a connection's ring, if it has one."""
        with self._lock:
            ring = self._rings.pop(connection, None)
        if ring is not None:
            ring.close()


def put_frames(
    ring: RingWriter, frames: Sequence[Frame]
) -> tuple[list[Any], list[int], list[Buffer]]:
    """Heads, the number in the ring of each frame, and the data of those that found no place there.

    The data of a frame with number 0 are beside, after those of the ones before it.
    """
    heads: list[Any] = []
    numbers: list[int] = []
    beside: list[Buffer] = []
    for some in alike(frames):
        heads.append(pack_head(some))
        for frame in some:
            blobs = bytes_of(frame)
            number = ring.put(blobs)
            numbers.append(number)
            if not number:
                beside += blobs
    return heads, numbers, beside
