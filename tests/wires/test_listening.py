"""What all far ends on TCP share: a listener that no client can harm, and faults on demand."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from simulators.faults import Fault, Faults, from_options
from simulators.wires.listening import LONGEST_LINE, Connection, Listener

PATIENCE_S = 3.0


def _echo(connection: Connection) -> None:
    while True:
        try:
            line = connection.receive_line(b"\r\n")
        except ValueError:
            connection.send(b"too long\n")
            continue
        if line == b"crash":
            raise RuntimeError("a defect of the far end")
        connection.send(b"<" + line + b">\n")


@pytest.fixture
def echo() -> Iterator[Listener]:
    listener = Listener(("127.0.0.1", 0), _echo, name="echo", faults=Faults(3), at_most=3)
    yield listener
    listener.close()


class Client:
    def __init__(self, listener: Listener) -> None:
        host, _, port = listener.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def ask(self, line: bytes) -> bytes:
        self.socket.sendall(line + b"\n")
        return self._file.readline()

    def ended(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def test_every_client_is_answered(echo: Listener) -> None:
    with Client(echo) as one, Client(echo) as two:
        assert one.ask(b"a") == b"<a>\n"
        assert two.ask(b"b") == b"<b>\n"
        assert one.ask(b"c") == b"<c>\n"


def test_one_client_too_many_ends_the_one_that_was_silent_longest(echo: Listener) -> None:
    with Client(echo) as old, Client(echo) as middle, Client(echo) as young:
        assert [c.ask(b"x") for c in (old, middle, young)] == [b"<x>\n"] * 3
        assert old.ask(b"still here") == b"<still here>\n"
        with Client(echo) as new:
            assert new.ask(b"y") == b"<y>\n"
            assert middle.ended()
            assert old.ask(b"z") == b"<z>\n"


def test_an_endless_line_is_refused_and_the_next_one_read(echo: Listener) -> None:
    with Client(echo) as client:
        client.socket.sendall(b"x" * (LONGEST_LINE + 1))
        assert client._file.readline() == b"too long\n"
        assert client.ask(b"\r\nshort") == b"<>\n"


def test_a_defect_in_serving_ends_that_connection_alone(
    echo: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(echo) as good, Client(echo) as bad:
        assert good.ask(b"x") == b"<x>\n"
        bad.socket.sendall(b"crash\n")
        assert bad.ended()
        assert good.ask(b"y") == b"<y>\n"
    assert "serving" in caplog.text


def test_a_client_that_reads_nothing_holds_up_nobody(echo: Listener) -> None:
    with Client(echo) as deaf, Client(echo) as other:
        deaf.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            deaf.socket.sendall((b"x" * 1000 + b"\n") * 20_000)
        begin = time.monotonic()
        assert other.ask(b"y") == b"<y>\n"
        assert time.monotonic() - begin < 0.5


def test_a_silent_connection_ends_after_its_time() -> None:
    listener = Listener(("127.0.0.1", 0), _echo, name="echo", idle_s=0.2)
    try:
        with Client(listener) as client:
            assert client.ended()
    finally:
        listener.close()


def test_closing_ends_connections_within_half_a_second(echo: Listener) -> None:
    with Client(echo) as client:
        assert client.ask(b"x") == b"<x>\n"
        begin = time.monotonic()
        echo.close()
        echo.close()
        assert time.monotonic() - begin < 0.5
        assert client.ended()
    assert echo.connections == 0


def test_a_port_that_is_taken_is_an_error(echo: Listener) -> None:
    host, _, port = echo.address.rpartition(":")
    with pytest.raises(OSError, match=r".+"):
        Listener((host, int(port)), _echo, name="second")


# ---------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("split", b"<hello>\n"), ("slow", b"<hello>\n"), ("duplicate", b"<hello>\n<hello>\n")],
)
def test_a_reply_can_be_split_late_or_doubled(echo: Listener, fault: str, expected: bytes) -> None:
    with Client(echo) as client:
        echo.faults.next(fault)
        begin = time.monotonic()
        client.socket.sendall(b"hello\n")
        assert client._file.read(len(expected)) == expected
        if fault == "slow":
            assert time.monotonic() - begin >= echo.faults.slow_s
        assert client.ask(b"next") == b"<next>\n"


def test_a_reply_can_lose_a_byte_itself_or_its_sense(echo: Listener) -> None:
    with Client(echo) as client:
        echo.faults.next("drop")
        echo.faults.next("lose")
        client.socket.sendall(b"hello\nlost\nagain\n")
        came = client._file.read(len(b"<hello>\n") - 1 + len(b"<again>\n"))
        assert came.endswith(b"<again>\n")
        assert b"lost" not in came
        echo.faults.next("garbage")
        client.socket.sendall(b"hello\n")
        assert b"hello" not in client.socket.recv(100)


def test_a_connection_can_be_cut_in_the_middle_of_a_reply(echo: Listener) -> None:
    with Client(echo) as client:
        echo.faults.next("disconnect")
        reply = client.ask(b"hello")
        assert len(reply) < len(b"<hello>\n")
        assert client.ended()


def test_a_hanging_connection_stays_open_and_says_nothing(echo: Listener) -> None:
    with Client(echo) as hanging, Client(echo) as other:
        echo.faults.next("hang")
        hanging.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            hanging.ask(b"x")
        assert other.ask(b"y") == b"<y>\n"


def test_an_unplugged_wire_ends_connections_until_it_is_plugged_in(echo: Listener) -> None:
    with Client(echo) as client:
        assert client.ask(b"x") == b"<x>\n"
        echo.faults.unplug()
        assert client.ended()
        with Client(echo) as early:
            assert early.ended()
        echo.faults.unplug(False)
        with Client(echo) as later:
            assert later.ask(b"y") == b"<y>\n"


def test_a_device_that_hangs_answers_again_when_it_wakes(echo: Listener) -> None:
    with Client(echo) as client:
        echo.faults.hang()
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.ask(b"x")
    echo.faults.clear()
    with Client(echo) as client:
        assert client.ask(b"y") == b"<y>\n"


def test_which_replies_suffer_follows_from_the_seed() -> None:
    def suffered(seed: int) -> list[Fault | None]:
        faults = from_options({"slow": 0.3, "drop": 0.2}, seed)
        return [faults.pick() for _ in range(200)]

    assert suffered(1) == suffered(1)
    assert suffered(1) != suffered(2)
    faults = from_options({"slow": 0.3}, 1)
    count = sum(faults.pick() is Fault.SLOW for _ in range(2000))
    assert 500 < count < 700
    assert faults.counts == {Fault.SLOW: count}


@pytest.mark.parametrize(
    "options",
    [{"slow": 1.5}, {"slow": float("nan")}, {"melt": 0.1}, {"slow": "0.1"}, {"slow": True}],
)
def test_faults_that_are_none_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"slow|melt"):
        from_options(options, 0)
