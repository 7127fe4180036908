"""A link never takes a lost, late, split, doubled or malformed reply for the next one, and is bounded in time."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acquire.errors import InstrumentError, LinkError
from drivers.links import (
    ExchangeCut,
    Link,
    MalformedReply,
    SerialTransport,
    TcpTransport,
    Transport,
    Wire,
    check_line,
    open_line,
    parse_address,
)

Answer = Callable[[bytes], list[tuple[float, bytes]]]
"""Pieces of the reply to a line, each with the seconds to wait before it."""


class Echo:
    """Answers each line as it is told, over TCP and over a pseudo-terminal."""

    def __init__(self) -> None:
        self.answer: Answer = lambda line: [(0.0, line + b"\n")]
        self.spoils_greetings = False
        self.connections = 0
        self.refusing = False
        self.stack = ExitStack()
        self._ended = threading.Event()
        self._clients: list[socket.socket] = []

    def tcp(self) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.05)
        self.stack.callback(listener.close)
        self._thread(lambda: self._accept(listener))
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def pty(self) -> str:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self.stack.callback(os.close, ours)
        self.stack.callback(os.close, theirs)

        def receive() -> bytes:
            try:
                return os.read(ours, 4096)
            except BlockingIOError:
                time.sleep(0.001)
                return b""

        self._thread(lambda: self._serve(receive, lambda data: os.write(ours, data)))
        return os.ttyname(theirs)

    def drop(self) -> None:
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._ended.set()
        self.stack.close()

    def _thread(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="echo", daemon=True)
        thread.start()
        self.stack.callback(thread.join, 2.0)

    def _accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                client, _ = listener.accept()
                if self.refusing:
                    client.close()
                    continue
                self.connections += 1
                client.settimeout(0.02)
                self._clients.append(client)
                self.stack.callback(client.close)
                self._thread(lambda c=client: self._client(c))  # type: ignore[misc]

    def _client(self, client: socket.socket) -> None:
        def receive() -> bytes:
            try:
                data = client.recv(4096)
            except TimeoutError:
                return b""
            if not data:
                raise ConnectionError
            return data

        with suppress(OSError), client:
            self._serve(receive, client.sendall)

    def _serve(self, receive: Callable[[], bytes], send: Callable[[bytes], Any]) -> None:
        held = b""
        while not self._ended.is_set():
            held += receive()
            while b"\n" in held:
                line, _, held = held.partition(b"\n")
                greeting = line.startswith(b"token") and not self.spoils_greetings
                for wait_s, piece in [(0.0, line + b"\n")] if greeting else self.answer(line):
                    self._ended.wait(wait_s)
                    send(piece)


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture(params=["tcp", "pty", "socket url"])
def link(request: pytest.FixtureRequest, echo: Echo) -> Iterator[Link]:
    port = echo.pty() if request.param == "pty" else echo.tcp()
    made = _link(f"socket://{port}" if request.param == "socket url" else port)
    yield made
    made.close()


@pytest.fixture
def tcp_link(echo: Echo) -> Iterator[Link]:
    made = _link(echo.tcp())
    yield made
    made.close()


def _link(port: str, **options: Any) -> Link:
    def connect(deadline: float) -> Transport:
        return open_line(port, deadline, baudrate=9600)

    tokens = itertools.count()

    def greet(wire: Wire) -> None:
        """Drivers of serial lines do it so: an old reply outlives the reconnection there."""
        wire.quiet(0.01)
        token = b"token %d" % next(tokens)
        wire.send(token + b"\n")
        while wire.receive_line() != token:
            continue

    chosen = {"what": "the echo", "mend": "Switch it on.", "greet": greet, **options}
    return Link(connect, **chosen)


def ask(link: Link, word: bytes, within_s: float = 0.3, **options: Any) -> bytes:
    def exchange(wire: Wire) -> bytes:
        wire.send(word + b"\n")
        reply = wire.receive_line()
        if len(reply) != len(word):
            raise MalformedReply(f"{reply!r} is not as long as {word!r}.")
        return reply

    return link.talk(exchange, within_s=within_s, doing=word.decode(), **options)


# ---------------------------------------------------------------------------- replies


def test_a_reply_in_single_bytes_is_put_together(link: Link, echo: Echo) -> None:
    echo.answer = lambda line: [(0.001, bytes([byte])) for byte in line + b"\n"]
    assert ask(link, b"hello") == b"hello"
    assert link.connections == 1


@pytest.mark.parametrize(
    ("spoil", "raises"),
    [
        (lambda line: [(0.0, line + b"\n" + line + b"\n")], False),  # doubled at once
        (lambda line: [(0.0, line + b"\n"), (0.02, line + b"\n")], False),  # doubled a little later
        (lambda line: [(0.5, line + b"\n")], True),  # late
        (lambda line: [], True),
        (lambda line: [(0.0, line[:-1] + b"\n")], True),  # a byte lost
        (lambda line: [(0.0, line)], True),  # its end lost
        (lambda line: [(0.0, b"\x00\xff" * 9 + b"\n")], True),
    ],
)
def test_a_spoilt_reply_never_reaches_the_next_exchange(
    link: Link, echo: Echo, spoil: Answer, raises: bool
) -> None:
    echo.answer = lambda line: spoil(line) if line == b"first" else [(0.0, line + b"\n")]
    if raises:
        with pytest.raises(LinkError, match="not known"):
            ask(link, b"first", within_s=0.2)
    else:
        assert ask(link, b"first") == b"first"
        time.sleep(0.05)
    for k in range(5):
        word = b"word%d" % k
        assert ask(link, word, within_s=1.5) == word


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    faults=st.lists(
        st.one_of(
            st.just(None),
            st.binary(max_size=12).filter(lambda junk: junk != b""),
            st.sampled_from(["double", "cut", "split", "nothing"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_a_device_does_to_its_replies_each_answer_is_of_its_own_question(
    tcp_link: Link, echo: Echo, faults: list[bytes | str | None]
) -> None:
    waiting = list(faults)
    echo.spoils_greetings = True

    def answer(line: bytes) -> list[tuple[float, bytes]]:
        fault, whole = (waiting.pop(0) if waiting else None), line + b"\n"
        if isinstance(fault, bytes):
            return [(0.0, fault + whole)]
        return {
            None: [(0.0, whole)],
            "double": [(0.0, whole + whole)],
            "cut": [(0.0, whole[:-2])],
            "split": [(0.0, whole[:2]), (0.001, whole[2:])],
            "nothing": [],
        }[fault]

    echo.answer = answer
    for k in range(len(faults) + 2):
        word = b"question %d" % k
        with suppress(LinkError):
            reply = ask(tcp_link, word, within_s=0.05)
            # junk without an end of line is all that can pass for a reply, and only as itself
            assert reply == word or len(reply) == len(word)
            if reply != word:
                assert b"question" not in reply or reply.endswith(word[-3:])
    waiting.clear()
    time.sleep(0.002)
    assert ask(tcp_link, b"the last", within_s=1.0) == b"the last"


def test_bytes_that_nobody_asked_for_end_the_connection_before_the_next_exchange(
    link: Link, echo: Echo
) -> None:
    echo.answer = lambda line: (
        [(0.0, line + b"\n"), (0.03, b"news!\n")] if line == b"one" else [(0.0, line + b"\n")]
    )
    assert ask(link, b"one") == b"one"
    time.sleep(0.08)
    assert ask(link, b"two22", within_s=1.0) == b"two22"
    assert link.connections == 2


# --------------------------------------------------------------------------- deadlines


def test_looking_for_stray_bytes_does_not_wait(link: Link, echo: Echo) -> None:
    ask(link, b"warm")
    begun = time.monotonic()
    for _ in range(20):
        ask(link, b"quick")
    assert time.monotonic() - begun < 0.8


def test_a_silent_device_is_given_up_at_the_deadline(link: Link, echo: Echo) -> None:
    echo.answer = lambda line: []
    begun = time.monotonic()
    with pytest.raises(LinkError, match="in time"):
        ask(link, b"hello", within_s=0.2)
    assert time.monotonic() - begun < 1.0


def test_nothing_is_sent_again(tcp_link: Link, echo: Echo) -> None:
    heard: list[bytes] = []

    def answer(line: bytes) -> list[tuple[float, bytes]]:
        heard.append(line)
        return []

    echo.answer = answer
    with pytest.raises(LinkError):
        ask(tcp_link, b"heat", within_s=0.1)
    echo.answer = lambda line: [(0.0, line + b"\n")]
    ask(tcp_link, b"look", within_s=1.0)
    assert heard == [b"heat"]


def test_an_exchange_can_be_cut(link: Link, echo: Echo) -> None:
    echo.answer = lambda line: []
    cut = threading.Event()
    threading.Timer(0.1, cut.set).start()
    begun = time.monotonic()
    with pytest.raises(ExchangeCut):
        ask(link, b"long one", within_s=5.0, cut=cut.is_set)
    assert time.monotonic() - begun < 1.0


def test_closing_ends_an_exchange_that_another_thread_is_in(link: Link, echo: Echo) -> None:
    echo.answer = lambda line: []
    threading.Timer(0.1, link.close).start()
    begun = time.monotonic()
    with pytest.raises(LinkError):
        ask(link, b"hello", within_s=5.0)
    assert time.monotonic() - begun < 1.5
    with pytest.raises(LinkError, match="closed"):
        ask(link, b"hello")


def test_a_caller_waits_for_another_only_as_long_as_it_may(tcp_link: Link, echo: Echo) -> None:
    echo.answer = lambda line: [(0.4, line + b"\n")]
    other = threading.Thread(target=lambda: ask(tcp_link, b"slow", within_s=2.0))
    other.start()
    time.sleep(0.1)
    with pytest.raises(LinkError, match="busy"):
        ask(tcp_link, b"me", within_s=0.1)
    other.join()


def test_many_threads_each_get_their_own_answers(tcp_link: Link, echo: Echo) -> None:
    wrong: list[bytes] = []

    def talk(name: bytes) -> None:
        for k in range(20):
            word = b"%s-%d" % (name, k)
            if ask(tcp_link, word, within_s=10.0) != word:
                wrong.append(word)

    threads = [threading.Thread(target=talk, args=(b"t%d" % k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert tcp_link.connections == 1


# ------------------------------------------------------------------------ reconnection


def test_a_dropped_connection_is_made_anew(tcp_link: Link, echo: Echo) -> None:
    ask(tcp_link, b"one")
    echo.drop()
    assert ask(tcp_link, b"two", within_s=1.0) == b"two"
    assert tcp_link.connections == 2


def test_a_device_that_comes_back_within_the_deadline_is_found(tcp_link: Link, echo: Echo) -> None:
    ask(tcp_link, b"one")
    echo.refusing = True
    echo.drop()
    threading.Timer(0.2, lambda: setattr(echo, "refusing", False)).start()
    assert ask(tcp_link, b"two", within_s=3.0) == b"two"


def test_nobody_there_is_said_with_the_mend() -> None:
    with pytest.raises(LinkError, match="cannot be reached.*refused.*Switch it on"):  # noqa: RUF043
        ask(_link("127.0.0.1:9"), b"hello")


def test_a_refusal_by_the_device_keeps_the_connection(tcp_link: Link) -> None:
    def exchange(wire: Wire) -> None:
        wire.send(b"no\n")
        raise InstrumentError(wire.receive_line().decode())

    for _ in range(3):
        with pytest.raises(InstrumentError, match="no"):
            tcp_link.talk(exchange, within_s=0.5, doing="it")
    assert tcp_link.connections == 1


def test_a_line_without_an_end_is_bounded(tcp_link: Link, echo: Echo) -> None:
    echo.answer = lambda line: [(0.0, b"x" * 70_000)]
    with pytest.raises(LinkError, match="end of line"):
        ask(tcp_link, b"hello", within_s=2.0)


def test_a_closed_link_leaves_no_connection_that_was_being_made(echo: Echo) -> None:
    port, made = echo.tcp(), []

    def connect(deadline: float) -> Transport:
        made.append(TcpTransport(port, deadline))
        link.close()
        return made[-1]

    link = Link(connect, what="the echo", mend="")
    with pytest.raises(LinkError, match="closed"):
        link.open()
    with pytest.raises(OSError, match=r"."):
        made[0].send(b"x", time.monotonic() + 1)


# ---------------------------------------------------------------------------- addresses


@given(st.text(max_size=30))
def test_an_address_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        host, port = parse_address(text)
        assert host or text.startswith("[]")
        assert 0 < port < 65536
    with suppress(ValueError):
        assert check_line(text) == text


@pytest.mark.parametrize("url", ["127.0.0.1:5025", "socket://127.0.0.1:5025", "[::1]:5025", "COM3"])
def test_what_a_person_writes_as_a_port_is_accepted(url: str) -> None:
    assert check_line(url) == url


def test_a_serial_line_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="hotstage"):
        SerialTransport("/dev/no-such-line-for-hotstage")
