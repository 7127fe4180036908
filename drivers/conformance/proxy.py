"""A proxy between a driver and its far end that does to the bytes what cables and tired devices do.

It knows no protocol. What comes from the device after the driver has sent something is a reply (on a
wire where the device speaks by itself, what comes after a pause is); the disturbances happen to the beginning of
a reply, so that what a driver must notice can be noticed: no driver can tell a pixel that was
altered in the middle of an image.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

CHUNK = 1 << 16
PIECES = 5
PAUSE_S = 0.01
CONNECT_S = 2.0
BY_ITSELF_S = 1.0
"""A device that was asked nothing for so long speaks by itself …"""
APART_S = 0.05
"""… and begins anew after such a pause."""
_LOOK_S = 0.02
_NUMBERED = re.compile(r"^(?P<scheme>[a-z0-9+.]+://)?(?P<host>[^/]*):(?P<port>\d+)(?P<rest>/.*)?$")
_GARBAGE = bytes((7 * k + 129) % 256 for k in range(24))


class Disturbance(StrEnum):
    """What can happen to one reply."""

    SPLIT = "split"
    """It comes in five pieces, 10 ms apart."""
    LATE = "late"
    """It comes, and all after it, when ``late_s`` have passed."""
    DOUBLED = "doubled"
    """Its first piece comes twice."""
    GARBAGE = "garbage"
    """Bytes that mean nothing come before it."""
    DROPPED_BYTE = "dropped byte"
    """The last byte of its first piece is missing."""
    LOST = "lost"
    """Its first piece never comes."""
    CUT = "cut"
    """The connection ends in the middle of its first piece."""


@dataclass(eq=False)
class _Pair:
    """A connection of the driver and the one that was made for it."""

    near: socket.socket
    far: socket.socket
    asked: threading.Event = field(default_factory=threading.Event)
    """The driver has sent something since the device last spoke."""
    asked_at: float = field(default_factory=time.monotonic)

    def end(self) -> None:
        for each in (self.near, self.far):
            with contextlib.suppress(OSError):  # it was not connected any more
                each.shutdown(socket.SHUT_RDWR)


class FaultProxy:
    """Listens on loopback and passes bytes to and from one address of a far end.

    Args:
        target: as the far end tells its address: ``HOST:PORT``, with a scheme before it or a path
            behind it if need be.
        late_s: how long a late reply takes, wall s.

    Raises:
        ValueError: the address has no port.
    """

    def __init__(self, target: str, *, late_s: float = 3.0) -> None:
        found = _NUMBERED.match(target)
        if found is None:
            raise ValueError(f"{target!r} is not an address that a proxy can stand before.")
        self._target = (found["host"].strip("[]"), int(found["port"]))
        self._late_s = late_s
        self._listening = socket.create_server(("127.0.0.1", 0))
        number = self._listening.getsockname()[1]
        self.address = f"{found['scheme'] or ''}127.0.0.1:{number}{found['rest'] or ''}"
        """What the driver is given instead."""
        self.suffered = 0
        """Replies that were disturbed by :meth:`next`."""
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._threads: list[threading.Thread] = []
        self._next: deque[Disturbance] = deque()
        self._unplugged = self._closed = False
        self._open = threading.Event()
        self._open.set()
        self._acceptor = threading.Thread(target=self._accept, name="proxy-accept", daemon=True)
        self._acceptor.start()

    @property
    def connections(self) -> int:
        """How many the driver has open now."""
        with self._lock:
            return len(self._pairs)

    def next(self, disturbance: Disturbance, times: int = 1) -> None:
        """Disturb the next replies, on whatever connection."""
        with self._lock:
            self._next.extend([disturbance] * times)

    def cut(self) -> None:
        """End all connections; new ones are accepted."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.end()

    def unplug(self, unplugged: bool = True) -> None:
        """End all connections and every new one at once, or no more."""
        self._unplugged = unplugged
        if unplugged:
            self.cut()

    def silence(self, silent: bool = True) -> None:
        """Hold back all bytes in both directions, or let them go, late."""
        if silent:
            self._open.clear()
        else:
            self._open.set()

    def well(self) -> None:
        """No more disturbances of any kind."""
        with self._lock:
            self._next.clear()
        self._unplugged = False
        self._open.set()

    def close(self) -> None:
        """End everything; idempotent."""
        self._closed = True
        self._open.set()
        self._acceptor.join(2.0)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join(2.0)

    # -------------------------------------------------------------------------- threads

    def _accept(self) -> None:
        self._listening.settimeout(_LOOK_S)
        while not self._closed:
            try:
                near, _ = self._listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if self._unplugged:
                near.close()
                continue
            self._start(near)
            self._threads = [thread for thread in self._threads if thread.is_alive()]

    def _start(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, timeout=CONNECT_S)
        except OSError:
            near.close()
            return
        pair = _Pair(near, far)
        for each in (near, far):
            each.settimeout(None)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.add(pair)
        if self._unplugged:  # meanwhile, when there was no pair to end
            pair.end()
        thread = threading.Thread(target=self._serve, args=(pair,), name="proxy-pair", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, pair: _Pair) -> None:
        replies = threading.Thread(
            target=self._pass_replies, args=(pair,), name="proxy-replies", daemon=True
        )
        replies.start()
        with contextlib.suppress(OSError):  # ended by one of the two, or by us
            while (chunk := self._received(pair.near)) and not self._closed:
                pair.asked_at = time.monotonic()
                pair.asked.set()
                pair.far.sendall(chunk)
        pair.end()
        replies.join()
        with self._lock:
            self._pairs.discard(pair)
        pair.near.close()
        pair.far.close()

    def _pass_replies(self, pair: _Pair) -> None:
        spoke_at = time.monotonic()
        with contextlib.suppress(OSError):  # ended by one of the two, or by us
            while (chunk := self._received(pair.far)) and not self._closed:
                now = time.monotonic()
                by_itself = now - pair.asked_at > BY_ITSELF_S and now - spoke_at > APART_S
                disturbance = self._pick(pair.asked.is_set() or by_itself)
                spoke_at = now
                pair.asked.clear()
                if disturbance is None:
                    pair.near.sendall(chunk)
                elif not self._inflict(disturbance, pair, chunk):
                    break
        pair.end()

    def _received(self, side: socket.socket) -> bytes:
        """What has come, when bytes may pass; empty at the end of the connection."""
        chunk = side.recv(CHUNK)
        while not self._open.wait(_LOOK_S):
            # a driver that gives up ends its connection also while nothing passes
            if _ended(side):
                return b""
        return chunk

    def _pick(self, begins: bool) -> Disturbance | None:
        with self._lock:
            if not (self._next and begins):
                return None
            self.suffered += 1
            return self._next.popleft()

    def _inflict(self, disturbance: Disturbance, pair: _Pair, chunk: bytes) -> bool:
        """Send a chunk as it is disturbed; False when the connection shall end."""
        near = pair.near
        match disturbance:
            case Disturbance.SPLIT:
                size = max(1, -(-len(chunk) // PIECES))
                for begin in range(0, len(chunk), size):
                    near.sendall(chunk[begin : begin + size])
                    time.sleep(PAUSE_S)
            case Disturbance.LATE:
                by = time.monotonic() + self._late_s
                while time.monotonic() < by and not self._closed:
                    if _ended(near):
                        return False
                    time.sleep(_LOOK_S)
                near.sendall(chunk)
            case Disturbance.DOUBLED:
                near.sendall(chunk + chunk)
            case Disturbance.GARBAGE:
                near.sendall(_GARBAGE + chunk)
            case Disturbance.DROPPED_BYTE:
                near.sendall(chunk[:-1])
            case Disturbance.LOST:
                pass
            case Disturbance.CUT:
                near.sendall(chunk[: len(chunk) // 2])
                return False
        return True


def _ended(side: socket.socket) -> bool:
    """Whether the peer has ended a connection on which nothing waits to be read."""
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(side, selectors.EVENT_READ)
            if not selector.select(0):
                return False
            return not side.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True
