"""The other process of the transport's bench: an instrument server, and plain sockets beside it to compare with."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acquire.bench.transport_source import open_bench
from acquire.errors import HotstageError
from acquire.remote.listening import listen_on
from acquire.remote.server import InstrumentServer
from acquire.remote.tls import ALLOWED, AllowList, Identity, ServerTls

PING = b"\x01"
"""The first byte of a request to a plain socket: send as many bytes back as came, for ever."""
PUSH = b"\x02"
"""Push frames: after it come size of one and their number, eight bytes each, big end first."""
PING_BYTES = 64


class Plain:
    """The least that two programs can do with a socket, with or without TLS."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._listener = listen_on("127.0.0.1", 0)
        self._listener.settimeout(None)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="plain", daemon=True).start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True)
        with sock:
            while wish := sock.recv(1):
                if wish == PING:
                    sock.sendall(read(sock, PING_BYTES))
                else:
                    self._push(sock)

    def _push(self, sock: socket.socket) -> None:
        size, count = (int.from_bytes(read(sock, 8), "big") for _ in range(2))
        frames = [np.full(size, n, np.uint8) for n in range(7)]
        for number in range(count):
            sock.sendall(frames[number % 7].data)


def read(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    found = b""
    while len(found) < size:
        piece = sock.recv(size - len(found))
        if not piece:
            raise ConnectionResetError("the other side is gone")
        found += piece
    return found


@dataclass(frozen=True, slots=True)
class Served:
    """The other process, and how to reach it."""

    pid: int
    address: str
    """Of its instrument server."""
    plain: int
    """Port of its plain socket."""
    context: ssl.SSLContext | None
    """For the plain socket, if that speaks TLS."""


@contextmanager
def served(keys: Path | None = None, identity: Identity | None = None) -> Iterator[Served]:
    """Run the other process; with TLS if there is a folder of keys, and an identity for it."""
    arguments = [] if keys is None else [str(keys)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise HotstageError("the server of the bench did not start.")
            said = json.loads(line)
            context = identity.client_context() if identity else None
            yield Served(process.pid, said["address"], said["plain"], context)
        finally:
            if process.stdin:
                process.stdin.close()
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()


def main(keys: Path | None) -> None:
    """Serve until standard input closes; the first line of output says where."""
    station = open_bench()
    tls = None
    listen = "127.0.0.1:0"
    if keys is not None:
        identity = Identity(keys / "issued" / "server")
        tls = ServerTls(identity, AllowList(keys / ALLOWED))
        listen = "tls://127.0.0.1:0"
    server = InstrumentServer(station, listen, tls=tls)
    plain = Plain(tls.identity.server_context() if tls else None)
    server.start()
    sys.stdout.write(json.dumps({"address": server.address, "plain": plain.port}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
