"""The suite catches drivers that take late replies for others, leak, hang, or claim what they do not know."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from acquire.clock import Clock
from acquire.errors import LinkError
from acquire.instruments import Description
from acquire.station import DriverContext
from drivers.conformance.channel import check_channel, check_channel_disturbed, check_channel_loss
from drivers.conformance.links import check_opening, check_release
from drivers.conformance.proxy import Disturbance, FaultProxy
from drivers.conformance.rig import Rig, Subject, rig
from drivers.links import Link, MalformedReply, TcpTransport, Wire

VALUES = {b"A?": 1.0, b"B?": 1000.0}


class Gauge:
    """A far end that knows two numbers: ``A?`` and ``B?``, each answered with a line."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self._listening.settimeout(0.02)
        self._threads = [threading.Thread(target=self._accept, name="gauge", daemon=True)]
        self._threads[0].start()

    @property
    def addresses(self) -> Mapping[str, str]:
        host, port = self._listening.getsockname()
        return {"line": f"{host}:{port}"}

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(5.0)
        self._listening.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connected, _ = self._listening.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._serve, args=(connected,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connected: socket.socket) -> None:
        connected.settimeout(0.02)
        held = b""
        with connected:
            while not self._ended.is_set():
                try:
                    came = connected.recv(4096)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not came:
                    return
                *lines, held = (held + came).split(b"\n")
                for line in lines:
                    try:
                        connected.sendall(b"%.3f\n" % VALUES[line])
                    except OSError:
                        return


def _asking(name: str) -> Callable[[Wire], float]:
    def exchange(wire: Wire) -> float:
        wire.send(f"{name}?\n".encode())
        text = wire.receive_line()
        try:
            return float(text)
        except ValueError as error:
            raise MalformedReply(f"{text!r} is no number.") from error

    return exchange


class Sound:
    """A channel that does it right."""

    def __init__(self, context: DriverContext, addresses: Mapping[str, str]) -> None:
        address = addresses["line"]
        self._link = Link(
            lambda by: TcpTransport(address, by),
            what=f"the gauge at {address}",
            mend="Is it on, and is the address right?",
        )
        self._link.open()
        self.read()

    def describe(self) -> Description:
        return Description("gauge", "two numbers", "sound", details={"A_unit": "Pa", "B_unit": "K"})

    def read(self) -> Mapping[str, float]:
        # an exchange for each, so that what is sent too much is noticed before the next is asked
        return {
            name: self._link.talk(_asking(name), within_s=0.5, doing=name) for name in ("A", "B")
        }

    def make_safe(self, reason: str) -> None:
        pass

    def close(self) -> None:
        self._link.close()


class Shifted(Sound):
    """Goes on with the same connection after a reply that did not come: the classic mistake."""

    def __init__(self, context: DriverContext, addresses: Mapping[str, str]) -> None:
        host, _, port = addresses["line"].rpartition(":")
        self._where = (host, int(port))
        self._socket = socket.create_connection(self._where, timeout=0.5)
        self._held = b""

    def read(self) -> Mapping[str, float]:
        try:
            return {name: self._ask(name) for name in ("A", "B")}
        except (OSError, ValueError) as error:
            raise LinkError(f"the gauge did not answer as it should: {error!r}.") from error

    def _ask(self, name: str) -> float:
        self._socket.sendall(f"{name}?\n".encode())
        while b"\n" not in self._held:
            came = self._socket.recv(4096)
            if not came:
                self._socket.close()
                self._socket = socket.create_connection(self._where, timeout=0.5)
                raise OSError("the connection ended")
            self._held += came
        line, _, self._held = self._held.partition(b"\n")
        return float(line)

    def close(self) -> None:
        self._socket.close()


class Inventing(Sound):
    """Tells the last reading when it cannot read."""

    _last: Mapping[str, float] = {}

    def read(self) -> Mapping[str, float]:
        try:
            self._last = super().read()
        except LinkError:
            if not self._last:
                raise
        return self._last


class Leaking(Sound):
    """Leaves a thread behind."""

    def __init__(self, context: DriverContext, addresses: Mapping[str, str]) -> None:
        super().__init__(context, addresses)
        self.ended = threading.Event()
        threading.Thread(target=self.ended.wait, name="forgotten", daemon=True).start()
        leaked.append(self)


class Holding(Sound):
    """Keeps its connection."""

    def close(self) -> None:
        held.append(self._link)


class Raw(Sound):
    """Lets what sockets raise pass."""

    def __init__(self, context: DriverContext, addresses: Mapping[str, str]) -> None:
        host, _, port = addresses["line"].rpartition(":")
        socket.create_connection((host, int(port)), timeout=0.5).close()
        super().__init__(context, addresses)

    def read(self) -> Mapping[str, float]:
        try:
            return super().read()
        except LinkError as error:
            raise ConnectionResetError("reset") from error


class Nameless(Sound):
    """Gives numbers whose units nobody knows."""

    def describe(self) -> Description:
        return Description("gauge", "two numbers", "nameless")


leaked: list[Leaking] = []
held: list[Link] = []


@contextmanager
def on(driver: type[Sound]) -> Iterator[Rig]:
    def start(clock: Clock) -> Gauge:
        return Gauge()

    with rig(Subject("gauge", start, driver, lambda end: True, role="gauge", late_s=0.8)) as made:
        yield made


def test_a_sound_driver_passes() -> None:
    with on(Sound) as made:
        with made.opened() as channel:
            check_channel(channel)
        check_opening(made)
        check_release(made)
        check_channel_loss(made)
        for disturbance in Disturbance:
            check_channel_disturbed(made, disturbance)
        assert made.times.recovered_s < 5.0


@pytest.mark.parametrize(
    ("driver", "check", "complaint"),
    [
        (
            Shifted,
            lambda r: check_channel_disturbed(r, Disturbance.LATE),
            r"after a reply that was late B is 1; it was 1000",
        ),
        (
            Shifted,
            lambda r: check_channel_disturbed(r, Disturbance.DOUBLED),
            r"B is 1; it was 1000",
        ),
        (Inventing, check_channel_loss, "a channel that is unplugged reads"),
        (Holding, check_release, "closed its connections"),
        (Leaking, check_release, "forgotten"),
        (Raw, check_channel_loss, "raise errors of hotstage"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_driver_is_caught(
    driver: type[Sound],
    check: Callable[[Rig], None],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("drivers.conformance.links.RELEASE_S", 0.5)
    try:
        with on(driver) as made, pytest.raises(AssertionError, match=complaint):
            check(made)
    finally:
        while leaked:
            leaked.pop().ended.set()
        while held:
            held.pop().close()


def test_a_channel_without_units_is_caught() -> None:
    with on(Nameless) as made, made.opened() as channel:
        with pytest.raises(AssertionError, match="lacks units"):
            check_channel(channel)


def test_an_address_without_a_port_cannot_be_disturbed() -> None:
    with pytest.raises(ValueError, match="is not an address"):
        FaultProxy("/dev/ttyUSB0")
