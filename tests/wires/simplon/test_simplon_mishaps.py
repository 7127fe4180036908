"""The far end of the SIMPLON API survives its clients, and fails on demand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation
from simulators.wires.simplon import Simplon, serve
from tests.wires.simplon.conftest import SELF_DESCRIBED, Client, Connect, Maker


@pytest.mark.parametrize("fault", ["lose", "duplicate", "garbage", "drop", "slow"])
def test_faults_happen_to_messages(make: Maker, connect: Connect, fault: str) -> None:
    far_end = make()
    client = connect(far_end)
    client.stream(format="cbor", mode="enabled")
    client.config(count_time=1e-3, compression="none")
    client.command("arm")
    good = client.message()
    far_end.faults.next(fault, after=1)  # the reply to the command is good
    client.command("disarm")
    if fault == "lose":
        assert not client.socket.poll(100)
        return
    came = client.parts()[0]
    end = {"type": "end", **{k: good[k] for k in ("series_id", "series_unique_id")}}
    whole = SELF_DESCRIBED + cbor2.dumps(end)
    assert (came == whole) == (fault in ("duplicate", "slow"))
    assert bool(client.socket.poll(100)) == (fault == "duplicate")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    some.sampled_from(
        [
            b"",
            b"PUT /detector/api/1.8.0/config/count_time HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
            b"GET /detector/api/1.8.0/",
            b"PUT /stream/api/1.8.0/config HTTP/1.1\r\nContent-Length: ",
            b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ]
    ),
    some.binary(max_size=80),
)
def test_whatever_bytes_come_it_goes_on(
    fuzzed: tuple[Simplon, Client], head: bytes, tail: bytes
) -> None:
    far_end, client = fuzzed
    host, _, port = far_end.addresses["api"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=2.0) as stream:
        stream.sendall(head + tail)
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(1 << 16):
            pass
    assert client.state == "idle"


@pytest.fixture(scope="module")
def fuzzed(simulation: ExsolutionSimulation) -> Iterator[tuple[Simplon, Client]]:
    context = FarEndContext("ela", simulation.world.clock, simulation, source="here")
    far_end = serve(context, rows=16, columns=64, zero_loss_channel=10)
    assert isinstance(far_end, Simplon)
    client = Client(far_end, "stream2")
    yield far_end, client
    client.close()
    far_end.close()


def test_a_body_that_is_too_large_or_without_length_is_refused(make: Maker) -> None:
    far_end = make()
    host, _, port = far_end.addresses["api"].rpartition(":")
    for headers, status in (
        (b"Content-Length: 99999999999\r\n", b"413"),
        (b"A: b\r\n" * 200, b"431"),
    ):
        with socket.create_connection((host, int(port)), timeout=2.0) as stream:
            stream.sendall(
                b"PUT /detector/api/1.8.0/config/count_time HTTP/1.1\r\n" + headers + b"\r\n"
            )
            assert stream.recv(1 << 16).split(b" ")[1] == status


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open(
    make: Maker, simulation: ExsolutionSimulation
) -> None:
    taken = make().addresses["stream"]
    before = threading.active_count()
    listen = {"stream2": taken}
    context = FarEndContext("ela", simulation.world.clock, simulation, listen, "here")
    with pytest.raises(OSError, match="in use"):
        serve(context)
    assert threading.active_count() == before
