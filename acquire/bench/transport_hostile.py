"""What a server does with nonsense, and with those who may not come in."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
from Pyro5 import protocol

from acquire.bench.transport_child import Served
from acquire.bench.transport_mutations import malformed as spoilt
from acquire.bench.transport_shower import LOOK_EVERY, Endured, memory_of
from acquire.bench.transport_source import open_bench
from acquire.errors import LinkError
from acquire.remote import keys
from acquire.remote.client import Link
from acquire.remote.server import OBJECT_ID, InstrumentServer
from acquire.remote.tls import ALLOWED, AUTHORITY, AllowList, Identity, Role, ServerTls

_HEADER = struct.Struct("!4sHBBHHII16sHH")
_CALLS: tuple[tuple[str, list[Any]], ...] = (
    ("invoke", ["holder", "ramp", [1.0, 2.0], ""]),
    ("invoke", ["scan", "arm", [{"detectors": ["full"], "shape": [64, 64]}, 1], ""]),
    ("lease_beat", ["0" * 32]),
    ("frames_latest", ["scan", 0, 0.1]),
    ("about", []),
)
"""Valid calls, or nearly, to be spoilt."""


def malformed(served: Served, messages: int, identity: Identity | None, seed: int) -> Endured:
    """Send nonsense on fresh connections, before and after a good greeting, while another client calls."""
    chance = random.Random(seed)
    link = Link(served.address, OBJECT_ID, identity=identity)
    link.call("now_s")
    found, stop = Endured(), threading.Event()

    def call() -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                link.call("now_s")
            except LinkError as error:
                found.worst_delay_s, found.problem = float("inf"), str(error)
                return
            found.questions += 1
            found.worst_delay_s = max(found.worst_delay_s, time.monotonic() - began)
            stop.wait(0.005)

    port = int(served.address.rpartition(":")[2])
    contexts = [None] if identity is None else [None, identity.client_context()]
    for context in contexts:  # what the first ones cost once does not count
        _shower(port, chance, messages // 20, context)
    before = memory_of(served.pid)
    other = threading.Thread(target=call, name="another client")
    other.start()
    try:
        for context in contexts:
            for _ in range(0, messages, LOOK_EVERY):
                _shower(port, chance, LOOK_EVERY, context)
                found.messages += LOOK_EVERY
                found.grown_bytes = max(found.grown_bytes, memory_of(served.pid) - before)
    finally:
        stop.set()
        other.join(10.0)
        link.close()
    again = Link(served.address, OBJECT_ID, identity=identity)
    try:
        found.alive = again.call("now_s") > 0
    except LinkError as error:
        found.alive, found.problem = False, str(error)
    finally:
        again.close()
    return found


def _shower(
    port: int, chance: random.Random, messages: int, context: ssl.SSLContext | None
) -> None:
    for _ in range(messages):
        with contextlib.suppress(OSError), _connected(port, context) as sock:
            if chance.random() < 0.5:
                hello = msgpack.packb({"handshake": "hello", "object": OBJECT_ID})
                sock.sendall(_message(chance, protocol.MSG_CONNECT, hello))
                sock.recv(1 << 16)
            sock.sendall(_nonsense(chance))
            if chance.random() < 0.5:
                sock.shutdown(socket.SHUT_WR)
                sock.recv(1 << 12)


@contextmanager
def _connected(port: int, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=0.25) as sock:
        if context is None:
            yield sock
        else:
            with context.wrap_socket(sock, server_hostname="127.0.0.1") as secured:
                yield secured


def _nonsense(chance: random.Random) -> bytes:
    """One malformed message: noise, a good header with a bad inside, or a good message spoilt."""
    kind = chance.randrange(5)
    noise = chance.randbytes(int(2 ** chance.uniform(0, 14)))
    if kind == 0:
        return noise
    if kind == 1:
        return _message(chance, protocol.MSG_INVOKE, noise)
    if kind == 2:  # says more than it has, or more than is allowed
        return _message(chance, protocol.MSG_INVOKE, noise, size=chance.randrange(1 << 32))
    if kind == 3:  # another serializer, compression, other flags, annotations
        return _message(
            chance,
            protocol.MSG_INVOKE,
            noise,
            serializer=chance.randrange(256),
            flags=chance.randrange(1 << 16),
        )
    calls = [msgpack.packb([OBJECT_ID, name, arguments, {}]) for name, arguments in _CALLS]
    call = chance.choice(calls)
    if chance.random() < 0.5:  # what is inside is wrong
        return _message(chance, protocol.MSG_INVOKE, spoilt(chance, call, calls))
    return spoilt(chance, _message(chance, protocol.MSG_INVOKE, call), calls)


def _message(
    chance: random.Random,
    kind: int,
    payload: bytes,
    size: int | None = None,
    serializer: int = 4,
    flags: int = 0,
) -> bytes:
    length = len(payload) if size is None else size
    annotated = 0 if chance.random() < 0.8 else chance.randrange(1 << 24)
    head = (b"PYRO", protocol.PROTOCOL_VERSION, kind, serializer, flags, 1, length)
    return _HEADER.pack(*head, annotated, b"\0" * 16, 0, 0x4DC5) + payload


# ------------------------------------------------------------------------------- intruders


def make_keys(folder: Path) -> Identity:
    """An authority with a certificate for the bench's server, and an operator's identity."""
    keys.new_authority(folder)
    keys.issue(folder, "server", Role.SERVER, hosts=["127.0.0.1"])
    return Identity(keys.issue(folder, "operator", Role.OPERATOR))


def intruders(folder: Path) -> dict[str, tuple[bool, bool]]:
    """Of everyone who must not come in: whether they were refused, and whether that was logged."""
    operator = make_keys(folder / "keys")
    tls = ServerTls(
        Identity(folder / "keys" / "issued" / "server"), AllowList(folder / "keys" / ALLOWED)
    )
    server = InstrumentServer(open_bench(), "tls://127.0.0.1:0", tls=tls)
    server.start()
    logged = _Logged()
    logger = logging.getLogger("acquire.remote")
    level = logger.level
    logger.addHandler(logged)
    logger.setLevel(logging.WARNING)
    found: dict[str, tuple[bool, bool]] = {}
    try:
        port = int(server.address.rpartition(":")[2])
        for name, attempt in _attempts(folder, operator, server.address, port).items():
            before = logged.refusals
            refused = _refused(attempt)
            found[name] = refused, _soon(lambda count=before: logged.refusals > count)  # type: ignore[misc]
        # the door is open to those who may come in, or all this would say nothing
        found["(an operator is let in)"] = (
            not _refused(lambda: _ask(server.address, operator)),
            True,
        )
    finally:
        logger.removeHandler(logged)
        logger.setLevel(level)
        server.close()
    return found


def _attempts(
    folder: Path, operator: Identity, address: str, port: int
) -> dict[str, Callable[[], None]]:
    home = folder / "keys"
    old = keys.issue(home, "expired", Role.OPERATOR, now=datetime(2020, 1, 1, tzinfo=UTC))
    gone = keys.issue(home, "revoked", Role.OPERATOR).rename(folder / "revoked")
    keys.revoke(home, "revoked")
    wrong = keys.issue(home, "camera", Role.SERVER, hosts=["127.0.0.1"])
    keys.new_authority(folder / "elsewhere")
    foreign = keys.issue(folder / "elsewhere", "stranger", Role.OPERATOR)
    (foreign / AUTHORITY).write_bytes((home / AUTHORITY).read_bytes())
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.load_verify_locations(home / AUTHORITY)
    outdated = operator.client_context()
    outdated.minimum_version = outdated.maximum_version = ssl.TLSVersion.TLSv1_2
    return {
        "no certificate": lambda: _talk(port, anonymous),
        "foreign authority": lambda: _ask(address, Identity(foreign)),
        "expired": lambda: _ask(address, Identity(old)),
        "revoked": lambda: _ask(address, Identity(gone)),
        "wrong role": lambda: _ask(address, Identity(wrong)),
        "plain TCP": lambda: _ask(f"127.0.0.1:{port}", None),
        "TLS 1.2": lambda: _talk(port, outdated),
    }


def _ask(address: str, identity: Identity | None) -> None:
    link = Link(address, OBJECT_ID, identity=identity)
    try:
        link.call("now_s")
    finally:
        link.close()


def _talk(port: int, context: ssl.SSLContext) -> None:
    with _connected(port, context) as secured:
        secured.settimeout(5.0)
        hello = msgpack.packb({"handshake": "hello", "object": OBJECT_ID})
        secured.sendall(_message(random.Random(0), protocol.MSG_CONNECT, hello))
        if not secured.recv(1):
            raise ConnectionResetError("the connection was ended")


def _refused(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except (OSError, LinkError):
        return True
    return False


def _soon(condition: Callable[[], bool], within_s: float = 3.0) -> bool:
    give_up = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.005)
    return True


class _Logged(logging.Handler):
    """Counts what the server says of those whom it did not let in."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.refusals += "was refused" in record.getMessage()
