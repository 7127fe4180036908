"""Arrays that were read lately, within a bound in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from acquire.instruments import AnyArray

MOST_BYTES = 256 * 2**20


class ArrayCache:
    """Keeps what was used last; any thread may use it.

    An array that alone exceeds ``most_bytes`` is passed on and not kept.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, AnyArray] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What is kept now."""
        return self._bytes

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._kept

    def get(self, key: Hashable, read: Callable[[], AnyArray]) -> AnyArray:
        """The array of a key, read where it is not kept; what ``read`` raises is passed on."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        array = read()  # not under the lock: another thread may read something else meanwhile
        with self._lock:
            if key not in self._kept and array.nbytes <= self.most_bytes:
                self._kept[key] = array
                self._bytes += array.nbytes
                while self._bytes > self.most_bytes:
                    _, dropped = self._kept.popitem(last=False)
                    self._bytes -= dropped.nbytes
        return array

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
