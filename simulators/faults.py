"""Faults on a wire: slow, split, lost, short, doubled and senseless replies, hangs and lost connections.

Every far end has one :class:`Faults` and lets each of its replies pass through it. A test asks for
exact faults (:meth:`Faults.next`), ``hotstage simulate`` for shares of all replies
(:meth:`Faults.sometimes`); which replies those are follows from a seed and their order.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

PIECES = 4
"""A split reply comes in at most so many pieces."""
LONGEST_GARBAGE = 32


class Fault(StrEnum):
    """What can happen to one reply."""

    SLOW = "slow"
    """It comes late, by ``slow_s``."""
    SPLIT = "split"
    """It comes in pieces, ``pause_s`` apart."""
    DROP = "drop"
    """One of its bytes is missing."""
    DUPLICATE = "duplicate"
    """It comes twice."""
    GARBAGE = "garbage"
    """Random bytes come in its place."""
    LOSE = "lose"
    """It never comes; the next one does."""
    HANG = "hang"
    """Nothing comes any more on this connection, which stays open."""
    DISCONNECT = "disconnect"
    """The connection ends in the middle of it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes, and how long to wait (wall seconds) before they are sent."""

    after_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one reply reaches the wire."""

    pieces: tuple[Piece, ...]
    hang: bool = False
    """Nothing more shall be sent on this connection."""
    disconnect: bool = False
    """The connection shall end after the pieces."""


class Faults:
    """The faults of one far end; safe for use by threads.

    Args:
        seed: of everything random.
        slow_s: wall seconds that a slow reply waits.
        pause_s: wall seconds between the pieces of a split reply.
    """

    def __init__(self, seed: int = 0, *, slow_s: float = 0.3, pause_s: float = 0.02) -> None:
        self.slow_s = slow_s
        self.pause_s = pause_s
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._shares: dict[Fault, float] = {}
        self._next: deque[Fault | None] = deque()
        self._unplugged = False
        self._hung = False
        self._counts: Counter[Fault] = Counter()

    def next(self, fault: Fault | str, *, times: int = 1, after: int = 0) -> None:
        """Let the next ``times`` replies suffer a fault, when ``after`` good ones have passed."""
        with self._lock:
            self._next.extend([None] * after + [Fault(fault)] * times)

    def sometimes(self, fault: Fault | str, share: float) -> None:
        """Let a share (0 to 1) of all replies suffer a fault; raises ValueError for another share."""
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise ValueError(
                f"share {share!r} of faults {fault!r} refused: it must be 0 to 1. 0.05 is one reply in 20."
            )
        with self._lock:
            self._shares[Fault(fault)] = share

    def hang(self, hung: bool = True) -> None:
        """Answer nothing on any connection, or answer again; what was asked meanwhile stays unanswered."""
        self._hung = hung

    def unplug(self, unplugged: bool = True) -> None:
        """Pull the cable, or put it back: connections end, and new ones end as soon as they are made."""
        self._unplugged = unplugged

    def clear(self) -> None:
        """No more faults, hang and missing cable included; connections that hang stay so."""
        with self._lock:
            self._shares.clear()
            self._next.clear()
        self._unplugged = self._hung = False

    @property
    def unplugged(self) -> bool:
        """Whether the cable is out."""
        return self._unplugged

    @property
    def hung(self) -> bool:
        """Whether nothing is answered on any connection."""
        return self._hung

    @property
    def counts(self) -> Mapping[Fault, int]:
        """How many replies have suffered what."""
        with self._lock:
            return dict(self._counts)

    def pick(self) -> Fault | None:
        """The fault of the next reply, for a far end that inflicts it itself (HTTP, ZMQ)."""
        with self._lock:
            fault = self._pick()
            if fault is not None:
                self._counts[fault] += 1
            return fault

    def deliver(self, reply: bytes) -> Delivery:
        """How a reply reaches the wire."""
        if self._hung:
            return Delivery(())
        fault = self.pick()
        if fault is None or not reply:
            return Delivery((Piece(0.0, reply),))
        with self._lock:
            return self._inflict(fault, reply)

    # ------------------------------------------------------------------ under the lock

    def _pick(self) -> Fault | None:
        if self._next:
            return self._next.popleft()
        for fault, share in self._shares.items():
            if self._random.random() < share:
                return fault
        return None

    def _inflict(self, fault: Fault, reply: bytes) -> Delivery:
        whole = (Piece(0.0, reply),)
        at = self._random.randrange(len(reply))
        match fault:
            case Fault.SLOW:
                return Delivery((Piece(self.slow_s, reply),))
            case Fault.SPLIT:
                return Delivery(self._split(reply))
            case Fault.DROP:
                return Delivery((Piece(0.0, reply[:at] + reply[at + 1 :]),))
            case Fault.DUPLICATE:
                return Delivery(whole + whole)
            case Fault.GARBAGE:
                noise = self._random.randbytes(self._random.randint(1, LONGEST_GARBAGE))
                return Delivery((Piece(0.0, noise),))
            case Fault.LOSE:
                return Delivery(())
            case Fault.HANG:
                return Delivery((), hang=True)
            case Fault.DISCONNECT:
                return Delivery((Piece(0.0, reply[:at]),), disconnect=True)

    def _split(self, reply: bytes) -> tuple[Piece, ...]:
        inner = range(1, len(reply))
        cuts = sorted(self._random.sample(inner, min(PIECES - 1, len(inner))))
        edges = [0, *cuts, len(reply)]
        return tuple(
            Piece(self.pause_s if begin else 0.0, reply[begin:end])
            for begin, end in itertools.pairwise(edges)
        )


def from_options(faults: Mapping[str, Any] | None, seed: int) -> Faults:
    """Faults as a station file writes them: shares of replies by name, ``{slow = 0.05, split = 0.1}``.

    Raises:
        ValueError: an unknown fault, or a share that is none.
    """
    made = Faults(seed)
    for name, share in (faults or {}).items():
        if name not in set(Fault):
            raise ValueError(f"faults.{name}: there are {', '.join(Fault)}. Choose among them.")
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise ValueError(f"faults.{name} = {share!r} refused: it must be a share from 0 to 1.")
        made.sometimes(name, float(share))
    return made
