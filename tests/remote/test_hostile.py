"""Whatever is thrown at a server, it goes on serving, and nothing foreign is ever decoded."""

from __future__ import annotations

import marshal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from Pyro5 import protocol

from acquire.errors import ConfigError, FaultError, HotstageError, LinkError
from acquire.remote import HardDaemon, Link, WithBlobs
from acquire.remote.daemon import HANDSHAKE_S, MAX_CONNECTIONS, MAX_PENDING

MSGPACK, SERPENT, MARSHAL, JSON = 4, 1, 2, 3
# a dict whose key is a tuple that holds itself: hashing it overflows the stack of CPython 3.11
CRASH = b"{\xa9\x01r\x00\x00\x00\x00N0\x00\x00\x00"


class Target:
    """What is served in these tests."""

    kept = 1

    @property
    def getter(self) -> int:
        return self.kept

    def echo(self, value: object) -> object:
        return value

    def fail(self, text: str) -> None:
        raise FaultError(text)

    def large(self, size: int) -> WithBlobs:
        return WithBlobs({"size": size}, [bytes(size)])

    def sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def bomb(self) -> str:
        return "x" * (65 << 20)

    def strange(self) -> object:
        return object()


class Heir(Target):
    """Its inherited methods are served all the same."""


METHODS = ("echo", "fail", "large", "sleep", "bomb", "strange")


@pytest.fixture(scope="module")
def daemon() -> Iterator[HardDaemon]:
    daemon = HardDaemon()
    daemon.register("target", Heir(), METHODS)
    daemon.start()
    yield daemon
    daemon.close()


def where(daemon: HardDaemon) -> tuple[str, int]:
    host, port = daemon.address.split(":")
    return host, int(port)


def header(
    kind: int,
    payload: bytes,
    serializer: int = MSGPACK,
    flags: int = 0,
    size: int | None = None,
    annotations: bytes = b"",
) -> bytes:
    head = struct.pack(
        "!4sHBBHHII16sHH",
        b"PYRO",
        protocol.PROTOCOL_VERSION,
        kind,
        serializer,
        flags,
        1,
        len(payload) if size is None else size,
        len(annotations),
        b"\0" * 16,
        0,
        0x4DC5,
    )
    return head + annotations + payload


def greet(daemon: HardDaemon) -> socket.socket:
    sock = socket.create_connection(where(daemon), timeout=5)
    hello = msgpack.packb({"handshake": "hello", "object": "target"})
    sock.sendall(header(protocol.MSG_CONNECT, hello))
    assert sock.recv(1 << 16)[6] == protocol.MSG_CONNECTOK
    return sock


def is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1 << 16) == b""
    except ConnectionError:
        return True


def still_serves(daemon: HardDaemon) -> bool:
    with closing(Link(daemon.address, "target", timeout_s=2)) as link:
        return link.call("echo", 1.5) == 1.5


CALL = msgpack.packb(["target", "echo", [1], {}])
FOREIGN = {
    "marshal crash": header(protocol.MSG_INVOKE, CRASH, MARSHAL),
    "marshal": header(protocol.MSG_INVOKE, marshal.dumps(("target", "echo", [1], {})), MARSHAL),
    "serpent": header(protocol.MSG_INVOKE, b"('target','echo',[1],{})", SERPENT),
    "json": header(protocol.MSG_INVOKE, b"{}", JSON),
    "unknown serializer": header(protocol.MSG_INVOKE, CALL, 99),
    "compressed": header(
        protocol.MSG_INVOKE, zlib.compress(bytes(1 << 20)), flags=protocol.FLAGS_COMPRESSED
    ),
    "blob": header(protocol.MSG_INVOKE, CALL, flags=protocol.FLAGS_KEEPSERIALIZED),
    "batch": header(protocol.MSG_INVOKE, CALL, flags=protocol.FLAGS_BATCH),
    "one-way": header(protocol.MSG_INVOKE, CALL, flags=protocol.FLAGS_ONEWAY),
    "oversize": header(protocol.MSG_INVOKE, b"", size=(64 << 20) + 1),
    "4 GiB": header(protocol.MSG_INVOKE, b"", size=0xFFFFFFFF),
    "annotations": header(protocol.MSG_INVOKE, CALL, annotations=b"ABCD\0\0\0\1x"),
    "annotations that do not add up": header(
        protocol.MSG_INVOKE, CALL, annotations=b"ABCD\xff\0\0\1x"
    ),
    "a second greeting": header(protocol.MSG_CONNECT, CALL),
    "a result": header(protocol.MSG_RESULT, CALL),
    "not Pyro": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + bytes(40),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("greeted", [True, False])
def test_a_foreign_message_ends_its_connection_and_nothing_else(
    daemon: HardDaemon, name: str, greeted: bool
) -> None:
    with greet(daemon) if greeted else socket.create_connection(where(daemon)) as sock:
        sock.settimeout(5)
        sock.sendall(FOREIGN[name])
        if name == "a second greeting" and not greeted:
            assert sock.recv(1 << 16)[6] == protocol.MSG_CONNECTFAIL
        assert is_closed(sock)
    assert still_serves(daemon)


@pytest.mark.process
def test_the_payload_that_kills_a_stock_daemon_leaves_a_server_process_alive() -> None:
    """In a process of its own: a decoder that crashed would take this one with it."""
    program = (
        "import sys; from acquire.remote import HardDaemon\n"
        "class T:\n    def echo(self, value: int) -> int: return value\n"
        "d = HardDaemon(); d.register('target', T(), ['echo']); d.start()\n"
        "print(d.address, flush=True); sys.stdin.read(); d.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().split(":")
        for kind in (protocol.MSG_CONNECT, protocol.MSG_INVOKE):
            for payload in (CRASH, CRASH + bytes(40)):
                with socket.create_connection((host, int(port)), timeout=5) as sock:
                    sock.sendall(header(kind, payload, MARSHAL))
                    assert is_closed(sock)
        with closing(Link(f"{host}:{port}", "target")) as link:
            assert link.call("echo", 4) == 4
        process.stdin.close()
        assert process.wait(10) == 0


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200), st.sampled_from(["raw", "payload", "call"]))
def test_garbage_is_survived(daemon: HardDaemon, garbage: bytes, place: str) -> None:
    with greet(daemon) as sock:
        if place == "raw":
            sock.sendall(garbage)
        elif place == "payload":
            sock.sendall(header(protocol.MSG_INVOKE, garbage))
            assert (
                sock.recv(1 << 16)[6] == protocol.MSG_RESULT
            )  # an error, and the connection lives
        else:
            sock.sendall(header(protocol.MSG_INVOKE, msgpack.packb([garbage, "echo", [], {}])))
            assert sock.recv(1 << 16)[6] == protocol.MSG_RESULT
        if place != "raw":
            sock.sendall(header(protocol.MSG_INVOKE, CALL))
            assert sock.recv(1 << 16).endswith(b"\x01")


def test_deep_nesting_and_extension_types_are_refused_and_the_connection_lives(
    daemon: HardDaemon,
) -> None:
    with greet(daemon) as sock:
        deep = b"\x91" * 100_000 + b"\x01"
        for payload in (deep, msgpack.packb(msgpack.ExtType(0x30, b"x")), b"\xdf\xff\xff\xff\xff"):
            sock.sendall(header(protocol.MSG_INVOKE, payload))
            assert b"not valid msgpack" in sock.recv(1 << 16)
    assert still_serves(daemon)


def test_a_hundred_silent_connections_hold_up_nobody(daemon: HardDaemon) -> None:
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(where(daemon), timeout=5))
            for _ in range(100)
        ]
        start = time.monotonic()
        assert still_serves(daemon)
        assert time.monotonic() - start < 0.5
        for sock in silent[: 100 - MAX_PENDING]:
            assert is_closed(sock)
        assert time.monotonic() - start < 0.8 * HANDSHAKE_S, "the oldest are not displaced"
        for sock in silent:
            assert is_closed(sock)
        assert time.monotonic() - start < 1.5 * HANDSHAKE_S


def test_more_clients_than_places_cost_the_one_that_was_idle_for_longest_its_own(
    daemon: HardDaemon,
) -> None:
    with closing(Link(daemon.address, "target")) as link, ExitStack() as stack:
        link.call("echo", 0)
        idle = []
        for number in range(MAX_CONNECTIONS + 10):
            idle.append(stack.enter_context(greet(daemon)))
            assert link.call("echo", number) == number  # it is never the idle one
        assert daemon.clients == MAX_CONNECTIONS
        assert is_closed(idle[0])
        link.drop()
        assert link.call("echo", 1) == 1


def test_a_link_that_lost_its_connection_while_idle_connects_anew() -> None:
    first = HardDaemon()
    first.register("target", Target(), METHODS)
    first.start()
    with closing(Link(first.address, "target")) as link:
        assert link.call("echo", 1) == 1
        first.close()
        second = HardDaemon(first.address)
        second.register("target", Target(), METHODS)
        second.start()
        assert link.call("echo", 2) == 2  # nothing was sent on the dead connection
        second.close()


def test_attributes_and_private_methods_cannot_be_registered(daemon: HardDaemon) -> None:
    for name in ("getter", "kept", "_hidden", "__init__", "missing"):
        with pytest.raises(ConfigError, match="only public methods"):
            daemon.register("other", Target(), [name])


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.org", "", "::"])
def test_hosts_beyond_this_machine_are_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="refused"):
        HardDaemon(f"{host}:0")
    with pytest.raises(ConfigError, match="refused"):
        Link(f"{host}:7746", "target")


def test_a_port_in_use_is_told(daemon: HardDaemon) -> None:
    with pytest.raises(LinkError, match="Is another server running there"):
        HardDaemon(daemon.address)


def test_data_beyond_one_message_arrive_and_values_beyond_it_are_refused(
    daemon: HardDaemon,
) -> None:
    with closing(Link(daemon.address, "target", timeout_s=20)) as link:
        for size in (0, 1, 5 << 20, 70 << 20):
            reply, blobs = link.call_with_blobs("large", size)
            assert (reply["size"], blobs.nbytes) == (size, size)
        with pytest.raises(LinkError, match="the limit is"):
            link.call("bomb")
        with pytest.raises(LinkError, match="cannot cross the wire"):
            link.call("strange")
        with pytest.raises(LinkError, match=r"what it did is not known"):
            link.call("echo", bytes(5 << 20))
        assert link.call("echo", None) is None


def test_a_call_that_takes_too_long_is_given_up_and_its_late_answer_is_not_mistaken(
    daemon: HardDaemon,
) -> None:
    with closing(Link(daemon.address, "target")) as link:
        start = time.monotonic()
        with pytest.raises(LinkError, match=r"did not answer 'sleep' within 0.2 s"):
            link.call("sleep", 0.5, timeout_s=0.2)
        assert time.monotonic() - start < 0.4
        assert link.call("echo", "new") == "new"


def test_threads_share_a_link_and_none_waits_for_another(daemon: HardDaemon) -> None:
    with closing(Link(daemon.address, "target")) as link:
        sleeper = threading.Thread(target=link.call, args=("sleep", 0.6))
        sleeper.start()
        answers: list[object] = []

        def ask(number: int) -> None:
            answers.extend(link.call("echo", number) == number for _ in range(50))

        start = time.monotonic()
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [True] * 400
        assert time.monotonic() - start < 0.5 or not sleeper.is_alive()
        sleeper.join()


def test_a_stock_pyro5_proxy_understands_the_daemon(daemon: HardDaemon) -> None:
    import Pyro5.api

    with Pyro5.api.Proxy(f"PYRO:target@{daemon.address}") as proxy:
        proxy._pyroSerializer = "msgpack"
        assert proxy.echo({"a": [1, 2.5, None]}) == {"a": [1, 2.5, None]}
        assert sorted(proxy._pyroMethods) == sorted(METHODS)
        with pytest.raises(AttributeError):
            _ = proxy.getter


def test_a_server_that_answers_nonsense_cannot_hurt_its_client() -> None:
    answers = [CRASH * 10, header(protocol.MSG_CONNECTOK, CRASH, MARSHAL), b"", header(2, b"\xc1")]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for text in answers:
                sock, _ = listener.accept()
                with sock:
                    sock.recv(1 << 12)
                    sock.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        for _ in answers:
            link = Link(f"127.0.0.1:{port}", "target", timeout_s=1)
            with pytest.raises((LinkError, HotstageError)):
                link.call("echo", 1)
        thread.join(2)


def test_a_link_waits_for_a_server_that_comes_back() -> None:
    first = HardDaemon()
    first.register("target", Target(), METHODS)
    first.start()
    address = first.address
    with closing(Link(address, "target")) as link:
        assert link.call("echo", 1) == 1
        first.close()
        with pytest.raises(LinkError, match="no server answers"):
            link.call("echo", 2)
        second = HardDaemon(address)
        second.register("target", Target(), METHODS)
        timer = threading.Timer(0.3, second.start)
        timer.start()
        link.wait_until_there(3.0)
        assert link.call("echo", 3) == 3
        timer.join()
        second.close()
