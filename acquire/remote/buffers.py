"""Memory for what is received, used again as soon as nobody looks at what came before."""

from __future__ import annotations

import sys

import numpy as np

from acquire.remote.messages import Bytes

MOST_BYTES = 128 << 20
MOST_BUFFERS = 64
_UNUSED = 3
"""References to a buffer that only the pool knows: its list, the loop's variable, and the question itself."""


class Buffers:
    """A pool for one receiver; a fresh array costs more in page faults than a frame costs to receive.

    Whoever keeps a frame keeps its memory: a buffer is given out again only when no view of it is
    left anywhere, which is told from its count of references.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: list[Bytes] = []

    def take(self, size: int) -> Bytes:
        """Uninitialised bytes, writable, shape (size,)."""
        for buffer in self._kept:
            # much larger ones are left for what needs them
            if size <= buffer.nbytes <= 2 * size and sys.getrefcount(buffer) <= _UNUSED:
                return buffer[:size]
        buffer = np.empty(size, np.uint8)
        if size <= self._most_bytes:
            self._keep(buffer)
        return buffer[:]

    def _keep(self, buffer: Bytes) -> None:
        self._kept.append(buffer)
        while (
            len(self._kept) > MOST_BUFFERS or sum(b.nbytes for b in self._kept) > self._most_bytes
        ):
            del self._kept[0]
