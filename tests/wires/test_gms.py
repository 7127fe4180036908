"""Our server inside GMS, playing on the simulation, as anyone's Pyro5 client and intruders see it."""

from __future__ import annotations

import marshal
import random
import socket
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from Pyro5.api import Proxy

from acquire.clock import WallClock
from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.gms import GmsEnd, serve

RATE = 20.0
CAMERA = (2048, 256)
CONNECT, CONNECT_OK, INVOKE = 1, 2, 4


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, specimen="reference_domes", dome_diameters=["8 nm"])


@pytest.fixture(scope="module")
def end(simulation: ExsolutionSimulation) -> Iterator[GmsEnd]:
    made = serve(FarEndContext("gms", simulation.world.clock, simulation))
    assert isinstance(made, GmsEnd)
    yield made
    made.close()
    assert made._process.poll() is not None


@pytest.fixture
def proxy(end: GmsEnd) -> Iterator[Proxy]:
    with Proxy(f"PYRO:hotstage.gms@{end.addresses['pyro']}") as made:
        made._pyroSerializer = "msgpack"
        made._pyroTimeout = 5.0
        yield made


def run(proxy: Proxy, token: str, kind: str, settings: dict[str, Any]) -> tuple[str, Any]:
    job = proxy.begin(token, kind, settings)["job"]
    give_up = time.monotonic() + 20
    while True:
        state = proxy.wait(token, job, 0.5)
        if state["state"] != "running":
            return job, state
        assert time.monotonic() < give_up


def fetch(proxy: Proxy, token: str, job: str, name: str, about: dict[str, Any]) -> Any:
    data = b""
    size = int(np.prod(about["shape"])) * np.dtype(about["dtype"]).itemsize
    while len(data) < size:
        data += proxy.fetch(token, job, name, len(data))
    return np.frombuffer(data, about["dtype"]).reshape(about["shape"])


def test_any_pyro_client_takes_a_dual_spectrum(proxy: Proxy) -> None:
    assert proxy.hello()["server"] == "hotstage.gms"
    token = proxy.take("a client of its own", uuid.uuid4().hex)
    try:
        settings = {
            "exposures": [
                {"name": "low_loss", "energy_loss_ev": 0.0, "exposure_s": 1e-4},
                {"name": "core_loss", "energy_loss_ev": 400.0, "exposure_s": 0.2},
            ],
            "dispersion": 0,
            "processing": 3,
            "area": [0, 0, CAMERA[1], CAMERA[0]],
            "points": None,
            "full_counts": None,
        }
        job, state = run(proxy, token, "spectra", settings)
        low, core = (
            fetch(proxy, token, job, name, state["arrays"][name])[0]
            for name in ("low_loss", "core_loss")
        )
        # the zero-loss peak lies at its channel, give or take what the axis wanders
        assert abs(int(low[:300].argmax()) - 100) < 40
        assert low[:300].max() > 10 * abs(np.median(low[:50]))
        assert core.shape == (CAMERA[0],)
        assert state["parts"][1]["energy_loss_ev"] == 400.0
    finally:
        proxy.release(token)


def test_it_scans_and_takes_spectrum_images(proxy: Proxy, simulation: ExsolutionSimulation) -> None:
    token = proxy.take("somebody", uuid.uuid4().hex)
    try:
        scan = {"signals": [0, 1], "shape": [32, 32], "pixel_time_us": 2.0, "rotation_deg": 0.0}
        job, state = run(proxy, token, "scan", scan)
        dark_field = fetch(proxy, token, job, "0", state["arrays"]["0"])
        bright_field = fetch(proxy, token, job, "1", state["arrays"]["1"])
        assert dark_field.shape == bright_field.shape == (32, 32)
        assert 0 < dark_field.mean() != bright_field.mean()
        spectra = {
            "exposures": [{"name": "core_loss", "energy_loss_ev": 400.0, "exposure_s": 0.02}],
            "dispersion": 0,
            "processing": 3,
            "area": [100, 0, 156, CAMERA[0]],
            "points": [[0.0, 0.0], [5632.0, 0.0]],
            "full_counts": None,
        }
        job, state = run(proxy, token, "spectra", spectra)
        assert fetch(proxy, token, job, "core_loss", state["arrays"]["core_loss"]).shape == (
            2,
            2048,
        )
        assert simulation.world.column.parked() != (0.0, 0.0)
    finally:
        proxy.release(token)


def test_the_beam_blanked_gives_dark_spectra(
    proxy: Proxy, simulation: ExsolutionSimulation
) -> None:
    token = proxy.take("somebody", uuid.uuid4().hex)
    means = []
    try:
        for blanked in (False, True):
            simulation.world.column.blank(blanked)
            settings = {
                "exposures": [{"name": "core_loss", "energy_loss_ev": 400.0, "exposure_s": 0.1}],
                "dispersion": 0,
                "processing": 3,
                "area": [0, 0, CAMERA[1], CAMERA[0]],
                "points": None,
                "full_counts": None,
            }
            job, state = run(proxy, token, "spectra", settings)
            means.append(fetch(proxy, token, job, "core_loss", state["arrays"]["core_loss"]).mean())
    finally:
        simulation.world.column.blank(False)
        proxy.release(token)
    assert means[0] > 10 * abs(means[1])


def test_scripts_that_dm_does_not_understand_are_refused(proxy: Proxy) -> None:
    token = proxy.take("somebody", uuid.uuid4().hex)
    try:
        with pytest.raises(Exception, match="dispersion 77"):
            run(proxy, token, "tune", {"dispersion": 77, "energy_loss_ev": 0.0})
    finally:
        proxy.release(token)


# ------------------------------------------------------------------------------- intruders


def message(kind: int, payload: bytes, serializer: int = 4, flags: int = 0) -> bytes:
    return (
        struct.pack(
            "!4sHBBHHII16sHH", b"PYRO", 502, kind, serializer, flags, 1, len(payload), 0,
            bytes(16), 0, 0x4DC5,
        )
        + payload
    )  # fmt: skip


HELLO = message(CONNECT, msgpack.packb({"handshake": "hello", "object": "hotstage.gms"}))


def raw(end: GmsEnd, *pieces: bytes) -> bytes:
    """Everything that comes back until the connection ends or nothing comes for a while."""
    host, port = end.addresses["pyro"].split(":")
    with socket.create_connection((host, int(port)), timeout=1.0) as peer:
        came = b""
        for piece in pieces:
            peer.sendall(piece)
            try:
                came = peer.recv(65536)
            except (TimeoutError, ConnectionResetError):
                return b""
        return came


def call(method: str, *arguments: Any) -> bytes:
    return msgpack.packb(("hotstage.gms", method, arguments, {}))


def test_a_hand_written_client_is_served(end: GmsEnd) -> None:
    assert raw(end, HELLO)[6] == CONNECT_OK
    reply = raw(end, HELLO, message(INVOKE, call("hello")))
    assert b"hotstage.gms" in reply


@pytest.mark.parametrize(
    "bad",
    [
        message(INVOKE, marshal.dumps(("hotstage.gms", "hello", (), {})), serializer=3),
        message(INVOKE, b'{"object":"hotstage.gms","method":"hello","params":[],"kwargs":{}}', 2),
        message(INVOKE, b"# serpent", serializer=1),
        message(INVOKE, zlib.compress(call("hello")), flags=2),
        message(INVOKE, call("hello"), flags=4),
        message(INVOKE, call("hello"), flags=8),
        message(INVOKE, b"\xc1" * 100),
        message(INVOKE, b"\x91" * 60_000),
        message(INVOKE, msgpack.packb(["a"] * 40_000)),
        message(INVOKE, msgpack.packb(("hotstage.gms", "take", [{"__class__": "os.system"}], {}))),
        message(INVOKE, msgpack.packb(("hotstage.gms", "take", [msgpack.ExtType(48, b"x")], {}))),
        message(INVOKE, call("_hear", "x")),
        message(INVOKE, call("__getattr__", "work")),
        message(INVOKE, call("__setattr__", "work", 1)),
        message(INVOKE, call("__init__")),
        message(INVOKE, call("ended", 1)),
        b"PYRO" + bytes(36),
        b"GET / HTTP/1.1\r\n\r\n" + bytes(40),
    ],
)
def test_what_is_not_our_protocol_gets_no_result(end: GmsEnd, bad: bytes) -> None:
    reply = raw(end, HELLO, bad)
    # nothing, or an exception
    assert not reply or (reply[6] == 5 and reply[9] & 1)
    assert b"hotstage.gms" in raw(end, HELLO, message(INVOKE, call("hello")))


def test_foreign_serializers_are_not_even_greeted(end: GmsEnd) -> None:
    greeting = marshal.dumps({"handshake": "hello", "object": "hotstage.gms"})
    reply = raw(end, message(CONNECT, greeting, serializer=3))
    assert not reply or reply[6] != CONNECT_OK


def test_noise_and_silence_hold_up_nobody(end: GmsEnd) -> None:
    host, port = end.addresses["pyro"].split(":")
    silent = [socket.create_connection((host, int(port)), timeout=2) for _ in range(20)]
    rng = random.Random(7)
    for _ in range(40):
        with socket.create_connection((host, int(port)), timeout=2) as peer:
            peer.sendall(rng.randbytes(rng.randrange(1, 200)))
    begun = time.monotonic()
    assert b"hotstage.gms" in raw(end, HELLO, message(INVOKE, call("hello")))
    assert time.monotonic() - begun < 1.0
    for peer in silent:
        peer.close()


@pytest.mark.parametrize(
    "wrong", [{"channels": []}, {"channels": ["bf"]}, {"dispersions": "0.1 eV"}, {"rows": 1}]
)
def test_options_that_cannot_be_are_refused(
    simulation: ExsolutionSimulation, wrong: dict[str, Any]
) -> None:
    with pytest.raises((TypeError, ValueError)):
        serve(FarEndContext("gms", simulation.world.clock, simulation), **wrong)
