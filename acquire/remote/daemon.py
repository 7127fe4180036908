"""A hardened Pyro5 daemon: fixed objects, listed methods, msgpack only, and no peer can hold up another.

It speaks Pyro5's protocol (a stock proxy can call it) with its own receive and dispatch, because
Pyro5's own decode any serializer, expose properties, and wait for silent peers.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from Pyro5 import protocol

from acquire.errors import ConfigError, HotstageError, LeaseError, LinkError
from acquire.remote.inbox import Inbox, receive
from acquire.remote.listening import ACCEPT_S, listen_on
from acquire.remote.messages import (
    MAX_REQUEST_BYTES,
    Buffer,
    MalformedMessage,
    Where,
    decode,
    encode,
    groups,
    parse_address,
    send,
)
from acquire.remote.tls import Door, Peer, Role, ServerTls
from acquire.remote.wire import pack, pack_error, unpack_arguments

logger = logging.getLogger(__name__)

HANDSHAKE_S = 2.0
SWEEP_S = 1.0
"""Wall seconds after which a revocation ends a connection that is silent."""
MAX_PENDING = 32
MAX_CONNECTIONS = 64
_CONNECT = frozenset({protocol.MSG_CONNECT})
_INVOKE = frozenset({protocol.MSG_INVOKE})
_here = threading.local()


@dataclass(frozen=True, slots=True)
class WithBlobs:
    """What a served method returns when raw bytes go beside its plain value."""

    value: Any
    blobs: list[Buffer]
    plain: bool = False
    """Whether the value holds nothing but what msgpack knows: it is then sent as it is."""


LOCAL = Peer("this machine", Role.OPERATOR)
"""Who connects over loopback without TLS: another program of whoever is logged in here."""


@dataclass(eq=False)
class _Peer:
    number: int
    sock: socket.socket
    active: float = field(default_factory=time.monotonic)
    """When it last began or ended something."""
    established: bool = False
    busy: bool = False
    calls: int = 0
    who: Peer = LOCAL
    certificate: dict[str, Any] = field(default_factory=dict)

    def cut(self) -> None:
        """End the connection; its thread notices and cleans up."""
        try:
            # that of an SSLSocket would take the session from under the thread that reads from it
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except OSError:
            logger.debug("peer %d was gone already", self.number)


def current_connection() -> int:
    """Number of the connection whose call this thread serves; 0 outside a call."""
    return int(getattr(_here, "connection", 0))


def current_peer() -> Peer:
    """Who makes the call that this thread serves, and what it may do."""
    found: Peer = getattr(_here, "who", LOCAL)
    return found


class HardDaemon:
    """Serves listed methods of registered objects on a loopback port, from threads of its own.

    Every connection has a thread. A flood of silent connections costs the oldest silent ones their
    place; when all places are taken by clients, the one that was idle for longest loses its own
    (one that never called anything first), and if none is idle, the one whose call lasts longest.

    Args:
        listen: ``HOST:PORT`` on this machine, or ``tls://HOST:PORT``; port 0 takes a free one.
        on_disconnect: told the number of every connection that has ended.
        tls: who this server is and whom it lets in; needed for an address of TLS, where a client
            without a certificate that is allowed gets no further than the handshake.

    Raises:
        ConfigError: beyond loopback without TLS, or TLS without an identity.
        LinkError: the port cannot be had.
    """

    def __init__(
        self,
        listen: str = "127.0.0.1:0",
        *,
        name: str = "hotstage",
        on_disconnect: Callable[[int], None] | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        where = parse_address(listen)
        if where.tls and tls is None:
            raise ConfigError(
                f"address {listen!r} refused: TLS needs an identity and a list of those allowed "
                "(server.identity and server.allowed in the station file; see `hotstage keys --help`)."
            )
        self._door = Door(tls) if where.tls and tls is not None else None
        self._name = name
        self._on_disconnect = on_disconnect
        self._objects: dict[str, dict[str, _Served]] = {}
        self._peers: dict[_Peer, threading.Thread] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._closing = threading.Event()
        self._swept = 0.0
        self._listener = listen_on(where.host, where.port)
        host, port = self._listener.getsockname()[:2]
        self.address = str(Where(where.host if where.tls else host, port, where.tls))
        self._thread = threading.Thread(target=self._accept, name=f"{name}-accept", daemon=True)

    def register(
        self,
        object_id: str,
        target: object,
        methods: Iterable[str],
        observers: Iterable[str] = (),
    ) -> None:
        """Serve exactly these methods of ``target`` under ``object_id``; ``observers`` may call only theirs.

        Arguments are checked against the methods' annotations. A method returns a plain value or
        dataclass, or :class:`WithBlobs`.

        Raises:
            ConfigError: one of them is not a public method.
        """
        served: dict[str, _Served] = {}
        free = frozenset(observers)
        for method in methods:
            function = inspect.getattr_static(type(target), method, None)
            if method.startswith("_") or not inspect.isfunction(function):
                raise ConfigError(
                    f"{type(target).__name__}.{method} cannot be served: only public methods can."
                )
            served[method] = _Served(target, function, method in free)
        self._objects[object_id] = served

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    @property
    def clients(self) -> int:
        """Connections that are past their handshake."""
        with self._lock:
            return sum(peer.established for peer in self._peers)

    def close(self) -> None:
        """End all connections and stop; make hardware safe before. Idempotent."""
        self._closing.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:  # some systems do not wake an accept in this way; it wakes by itself soon
            logger.debug("the listener will notice in %g s", ACCEPT_S)
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._listener.close()
        with self._lock:
            peers = dict(self._peers)
        for peer in peers:
            peer.cut()
        give_up = time.monotonic() + 2.0  # a method that hangs must not hold up our end
        for thread in peers.values():
            if thread is not threading.current_thread():
                thread.join(max(0.0, give_up - time.monotonic()))

    # ------------------------------------------------------------------------ admission

    def _accept(self) -> None:
        while not self._closing.is_set():
            self._end_revoked()
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._closing.is_set():
                    logger.warning("cannot accept a connection: %s", error)
                    self._make_room(0)
                    self._closing.wait(0.05)
                continue
            try:
                self._admit(sock)
            except (OSError, RuntimeError) as error:  # it is gone already, or there are no threads
                logger.warning("cannot serve a connection: %s", error)
                sock.close()

    def _end_revoked(self) -> None:
        """End connections of who was revoked, also those on which nothing is asked."""
        if self._door is None or time.monotonic() - self._swept < SWEEP_S:
            return
        self._swept = time.monotonic()
        with self._lock:
            established = [peer for peer in self._peers if peer.established]
        for peer in established:
            try:
                self._door.look_again(peer.certificate)
            except ConnectionRefusedError:
                peer.cut()

    def _admit(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._make_room(MAX_PENDING - 1)
        peer = _Peer(next(self._numbers), sock)
        thread = threading.Thread(
            target=self._serve, args=(peer,), name=f"{self._name}-{peer.number}", daemon=True
        )
        with self._lock:
            self._peers[peer] = thread
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                del self._peers[peer]
            raise

    def _make_room(self, pending_at_most: int) -> None:
        with self._lock:
            pending = [peer for peer in self._peers if not peer.established]
        pending.sort(key=lambda peer: peer.active)
        for peer in pending[: max(0, len(pending) - pending_at_most)]:
            peer.cut()

    def _establish(self, peer: _Peer) -> None:
        """Give a peer a client's place, if need be that of the client that was idle (or busy) for longest.

        Raises LinkError if only clients that may do more than it does have places.
        """
        with self._lock:
            established = [other for other in self._peers if other.established]
            if len(established) >= MAX_CONNECTIONS:
                may_command = peer.who.role is Role.OPERATOR
                equals = [
                    other
                    for other in established
                    if may_command or other.who.role is not Role.OPERATOR
                ]
                if not equals:
                    raise LinkError("all places are taken by operators. Try again later.")
                # who may only look goes first, then who never called anything, so that a flood only
                # displaces itself; who waits for a method that hangs goes last, but goes: a heater
                # off must always get in
                victim = min(
                    equals,
                    key=lambda other: (
                        other.who.role is Role.OPERATOR,
                        other.busy,
                        other.calls > 0,
                        other.active,
                    ),
                )
                victim.established = False
                victim.cut()
            peer.established = True

    # ---------------------------------------------------------------------- conversation

    def _serve(self, peer: _Peer) -> None:
        _here.connection, _here.who = peer.number, LOCAL
        greeted = False
        try:
            if self._door is not None:
                # in its own thread, and not for long: silent peers hold up nobody else
                secured = peer.sock = self._door.wrap(peer.sock)
                peer.who, peer.certificate = self._door.secure(secured, HANDSHAKE_S)
                _here.who = peer.who
            inbox = Inbox(peer.sock)
            if self._handshake(peer, inbox):
                greeted = True
                while not self._closing.is_set():
                    self._handle(peer, inbox)
        except MalformedMessage as error:
            logger.warning("connection %d ended: %s", peer.number, error)
        except OSError as error:
            logger.debug("connection %d ended: %s", peer.number, error)
        finally:
            with self._lock:
                self._peers.pop(peer, None)
            peer.sock.close()
            if greeted:
                self._tell_disconnect(peer.number)

    def _tell_disconnect(self, number: int) -> None:
        if self._on_disconnect is None:
            return
        try:
            self._on_disconnect(number)
        except Exception:
            logger.exception("the end of connection %d could not be handled", number)

    def _handshake(self, peer: _Peer, inbox: Inbox) -> bool:
        message = receive(inbox, _CONNECT, 1 << 16, time.monotonic() + HANDSHAKE_S)
        try:
            object_id = _field(decode(message.payload), "object")
            if object_id not in self._objects:
                raise LinkError(f"there is no object {object_id!r} here.")
            self._establish(peer)
        except LinkError as error:
            send(peer.sock, protocol.MSG_CONNECTFAIL, message.seq, encode(str(error)))
            return False
        methods = sorted(self._objects[object_id])
        meta = {"methods": methods, "oneway": [], "attrs": []}
        reply = encode({"handshake": "hello", "meta": meta})
        send(peer.sock, protocol.MSG_CONNECTOK, message.seq, reply)
        return True

    def _handle(self, peer: _Peer, inbox: Inbox) -> None:
        message = receive(inbox, _INVOKE, MAX_REQUEST_BYTES, None)
        if message.blobs is not None:
            raise MalformedMessage("a request with annotations")
        if self._door is not None:
            peer.who = _here.who = self._door.look_again(peer.certificate)
        peer.busy, peer.active = True, time.monotonic()
        peer.calls += 1
        try:
            result: Any = None
            flags = 0
            try:
                result = self._call(message.payload)
                if isinstance(result, WithBlobs):
                    value = result.value if result.plain else pack(result.value)
                    parts = groups(result.blobs)
                    payload = encode({"value": value, "more": len(parts) - 1})
                else:
                    parts = [[]]
                    payload = encode(pack(result))
            except BaseException as error:
                if not isinstance(error, HotstageError | KeyError):
                    logger.exception("a served method failed")
                flags, parts = protocol.FLAGS_EXCEPTION, [[]]
                payload = encode(pack_error(error))
            self._reply(peer, message.seq, flags, payload, parts)
        finally:
            peer.busy, peer.active = False, time.monotonic()

    def _reply(
        self,
        peer: _Peer,
        seq: int,
        flags: int,
        payload: bytes,
        parts: list[list[Buffer]],
    ) -> None:
        try:
            send(peer.sock, protocol.MSG_RESULT, seq, payload, flags=flags, blobs=parts[0])
        except LinkError as error:  # too large: nothing was sent yet
            payload, flags = encode(pack_error(error)), protocol.FLAGS_EXCEPTION
            send(peer.sock, protocol.MSG_RESULT, seq, payload, flags=flags)
            return
        for blobs in parts[1:]:
            send(peer.sock, protocol.MSG_RESULT, seq, b"", blobs=blobs)

    def _call(self, payload: Buffer) -> Any:
        request = decode(payload)
        if not isinstance(request, list) or len(request) != 4:
            raise LinkError("a request must be object, method, arguments and no keywords.")
        object_id, method, arguments, keywords = request
        if not isinstance(object_id, str) or not isinstance(method, str):
            raise LinkError("a request must name its object and method.")
        served = self._objects.get(object_id, {})
        if method not in served:
            raise LinkError(f"{object_id!r} here serves no method {method!r}.")
        if keywords or not isinstance(arguments, list):
            raise LinkError(f"{method} takes positional arguments only.")
        found, who = served[method], current_peer()
        if who.role is not Role.OPERATOR and not found.for_observers:
            logger.warning("%s (%s) asked for %s and was refused", *who.words, method)
            raise LeaseError(
                f"{method} refused: {who.name} may look, not command. An operator's certificate is "
                "needed (`hotstage keys issue NAME --role operator`)."
            )
        return found.function(found.target, *unpack_arguments(found.function, arguments))


@dataclass(frozen=True, slots=True)
class _Served:
    target: object
    function: Callable[..., Any]
    for_observers: bool


def _field(plain: Any, key: str) -> str:
    value = plain.get(key) if isinstance(plain, dict) else None
    if not isinstance(value, str):
        raise LinkError(f"a handshake must say its {key!r}.")
    return value
