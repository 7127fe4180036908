"""How fast frames and small calls go from one process to another, beside the least that could do it."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from acquire.bench.transport_child import PING, PING_BYTES, PUSH, Served, read
from acquire.bench.transport_source import exposure, value_of
from acquire.clock import WallClock
from acquire.errors import HotstageError
from acquire.instruments import Frame, ScanExposure, StreamSpec
from acquire.remote.client import Link
from acquire.remote.keeper import LeaseKeeper
from acquire.remote.receiving import Receiver
from acquire.remote.server import OBJECT_ID
from acquire.remote.tls import Identity
from acquire.remote.wire import pack, unpack

SIDES = (256, 512, 1024, 2048)
_ROUND_BYTES = 150e6
"""What one measurement moves, about."""
_WARM = 64
_TLS_SHARE = 0.3
"""Encrypted less: it takes longer."""


@dataclass
class Speeds:
    """Seconds per frame or call of each way, one entry for every round."""

    rounds: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def add(self, way: str, side: int, seconds: float) -> None:
        """Note a measurement; ``side`` 0 is a small call."""
        self.rounds.setdefault((way, side), []).append(seconds)

    def ratios(self, peer: str, way: str, side: int) -> list[float]:
        """How fast ``way`` was beside ``peer`` in each round: 1 is as fast."""
        pairs = zip(self.rounds[peer, side], self.rounds[way, side], strict=True)
        return [of_peer / own for of_peer, own in pairs]

    def median(self, way: str, side: int) -> float:
        """Seconds."""
        return float(np.median(self.rounds[way, side]))

    def document(self) -> list[Mapping[str, object]]:
        """For JSON."""
        return [{"way": w, "side": s, "seconds": r} for (w, s), r in self.rounds.items()]


class Commander:
    """Control of a served bench, and its frames, without the rest of a station."""

    def __init__(self, address: str, identity: Identity | None = None) -> None:
        self._link = Link(address, OBJECT_ID, identity=identity)
        self._keeper = LeaseKeeper(address, OBJECT_ID, identity=identity)
        self._keeper.take("hotstage bench")

    def receive(
        self, wanted: ScanExposure, frames: int, look: Callable[[Frame], None], *, shares: bool
    ) -> tuple[float, bool]:
        """Seconds per frame, and whether they came through shared memory.

        Args:
            wanted: the exposure.
            frames: how many.
            look: told every frame.
            shares: whether to use shared memory if there is some.
        """
        token = self._keeper.token
        reply = self._link.call("invoke", "scan", "arm", [pack(wanted), frames], token)
        spec: StreamSpec = unpack(StreamSpec, reply["spec"])
        size = sum(
            int(np.prod(c.shape)) * np.dtype(c.dtype).itemsize for c in spec.channels.values()
        )
        receiver = Receiver(self._link, "scan", shares=shares)
        # the first ones meet memory that nobody has touched yet, which would count for a long run
        warm = max(1, min(frames // 5, _WARM))
        stop, seen, began = WallClock().signal(), 0, 0.0
        try:
            for batch in receiver.batches(reply["number"], lambda: token, size, stop):
                for frame in batch:
                    look(frame)
                    seen += 1
                if not began and seen >= warm:
                    began, first = time.perf_counter(), seen
            took_s = time.perf_counter() - began
            if seen != frames:
                raise HotstageError(f"{seen} of {frames} frames came.")
            return took_s / max(1, frames - first), receiver.shared
        finally:
            receiver.close()
            self._link.call("invoke", "scan", "disarm", [], token)

    def call(self) -> None:
        """The smallest call."""
        self._link.call("now_s")

    def close(self) -> None:
        """Give control back."""
        self._keeper.release()
        self._link.close()


def memcpy(size: int, count: int) -> float:
    """Seconds per copy of a frame in memory."""
    sources = [np.full(size, n, np.uint8) for n in range(7)]
    target = np.empty(size, np.uint8)
    target[:] = sources[0]
    began = time.perf_counter()
    for number in range(count):
        target[:] = sources[number % 7]
    return (time.perf_counter() - began) / count


def raw(served: Served, size: int, count: int) -> float:
    """Seconds per frame that a plain socket (of TLS, if the server's is) takes into ready memory."""
    with _plain(served) as sock:
        view = memoryview(bytearray(size))
        sock.sendall(PUSH + size.to_bytes(8, "big") + count.to_bytes(8, "big"))
        began = 0.0
        for number in range(count):
            left = view
            while len(left):
                left = left[_some(sock.recv_into(left)) :]
            if number == 0:
                began = time.perf_counter()
        return (time.perf_counter() - began) / (count - 1)


def ping(served: Served, count: int) -> float:
    """Median seconds that a few bytes take there and back on a plain socket."""
    said, took = PING + bytes(PING_BYTES), list[float]()
    with _plain(served) as sock:
        for _ in range(count):
            began = time.perf_counter()
            sock.sendall(said)
            read(sock, PING_BYTES)
            took.append(time.perf_counter() - began)
    return float(np.median(took))


def small_call(commander: Commander, count: int) -> float:
    """Median seconds of the smallest call."""
    took = list[float]()
    for _ in range(count):
        began = time.perf_counter()
        commander.call()
        took.append(time.perf_counter() - began)
    return float(np.median(took))


def measure(
    plain: Served, secured: Served, identity: Identity, rounds: int, *, quick: bool
) -> tuple[Speeds, bool]:
    """Everything in turn, so that a busy moment hits all alike; and whether memory was shared."""
    speeds, shared = Speeds(), True
    here, there = Commander(plain.address), Commander(secured.address, identity)
    try:
        for _ in range(rounds):
            calls = 200 if quick else 2000
            speeds.add("raw", 0, ping(plain, calls))
            speeds.add("plain", 0, small_call(here, calls))
            speeds.add("raw TLS", 0, ping(secured, calls))
            speeds.add("TLS", 0, small_call(there, calls))
            for side in (256, 1024) if quick else SIDES:
                size = 2 * side * side
                count = int(np.clip((0.1 if quick else 1) * _ROUND_BYTES / size, 12, 4000))
                fewer = max(12, int(count * _TLS_SHARE))
                speeds.add("memcpy", side, memcpy(size, count))
                for way, one, number, shares in (
                    ("shared", here, count, True),
                    ("plain", here, count, False),
                    ("TLS", there, fewer, False),
                ):
                    peer = {"plain": plain, "TLS": secured}.get(way)
                    if peer is not None:
                        speeds.add(
                            "raw TLS" if way == "TLS" else "raw", side, raw(peer, size, number)
                        )
                    took_s, through_memory = one.receive(
                        exposure(side), number, _check_ends, shares=shares
                    )
                    shared = shared and (through_memory or not shares)
                    speeds.add(way, side, took_s)
    finally:
        here.close()
        there.close()
    return speeds, shared


def count_torn(served: Served, frames: int, side: int = 256) -> int:
    """How many of so many frames through shared memory have a pixel that is not theirs."""
    torn = 0

    def look(frame: Frame) -> None:
        nonlocal torn
        image = frame.data["full"]
        torn += not (image.min() == image.max() == value_of(frame.index))

    commander = Commander(served.address)
    try:
        _, shared = commander.receive(exposure(side), frames, look, shares=True)
    finally:
        commander.close()
    if not shared:
        raise HotstageError("the frames did not come through shared memory.")
    return torn


def _check_ends(frame: Frame) -> None:
    pixels = frame.data["full"].reshape(-1)
    if not pixels[0] == pixels[-1] == value_of(frame.index):
        raise HotstageError(f"frame {frame.index} came with pixels of another.")


def _plain(served: Served) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", served.plain), timeout=30.0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(None)
    context: ssl.SSLContext | None = served.context
    return context.wrap_socket(sock, server_hostname="127.0.0.1") if context else sock


def _some(got: int) -> int:
    if not got:
        raise ConnectionResetError("the other side is gone")
    return got
