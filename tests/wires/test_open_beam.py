"""The Open Beam Interface's far end, byte by byte, as a bare client sees it."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.open_beam import OpenBeamEnd, serve

RATE = 10.0
DARK = 20
ELECTRON = bytes([0x41])
CONTROL, LEAVE = bytes([0x31]), bytes([0x30])
BLANK, SHOW = bytes([0x51]), bytes([0x50])
ABORT, FLUSH = bytes([0x10]), bytes([0x20])
LIGHT = CONTROL + ELECTRON + SHOW


def sync(cookie: int, mode: int = 0) -> bytes:
    return bytes([0x01 | mode << 1]) + struct.pack(">H", cookie)


def region(start: int, count: int, step: int, rows: int | None = None) -> bytes:
    y_count = count if rows is None else rows
    return b"\xa0" + struct.pack(">6H", start, count, step, start, y_count, step)


def run(length: int, field: int) -> bytes:
    return b"\xc0" + struct.pack(">HH", length - 1, field)


class Client:
    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)

    def ask(self, data: bytes, count: int) -> bytes:
        self.socket.sendall(data)
        return self.receive(count)

    def receive(self, count: int) -> bytes:
        came = b""
        while len(came) < count:
            piece = self.socket.recv(count - len(came))
            assert piece, f"the far end closed after {len(came)} of {count} bytes"
            came += piece
        return came

    def silent(self, for_s: float) -> bool:
        self.socket.settimeout(for_s)
        try:
            return not self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10)

    def image(self, data: bytes, rows: int, columns: int) -> np.ndarray:
        came = self.ask(data + sync(0x5555), 2 * rows * columns + 4)
        assert came[-4:] == b"\xff\xff\x55\x55"
        words = np.frombuffer(came[:-4], ">u2")
        assert not (words & 3).any()
        return (words >> 2).reshape(rows, columns)


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, specimen="reference_domes", dome_diameters=["8 nm"])


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[OpenBeamEnd]:
    made = serve(FarEndContext("obi", simulation.world.clock, simulation))
    assert isinstance(made, OpenBeamEnd)
    yield made
    made.close()
    simulation.world.column.blank(False)


@pytest.fixture
def client(end: OpenBeamEnd) -> Iterator[Client]:
    made = Client(end.addresses["stream"])
    yield made
    made.socket.close()


def test_a_synchronization_is_answered_with_its_cookie(client: Client) -> None:
    assert client.ask(bytes.fromhex("010102"), 4) == bytes.fromhex("ffff0102")
    # in whatever mode, and at once
    for mode in (1, 2, 0):
        assert client.ask(sync(0xABCD, mode), 4) == b"\xff\xff\xab\xcd"


def test_it_begins_dark_and_without_control(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    dark = client.image(region(0, 16, 0x4000) + run(256, 7), 16, 16)
    assert (dark == DARK).all()
    assert not simulation.world.column.blanked()
    client.ask(CONTROL + sync(1), 4)
    assert simulation.world.column.blanked()  # no beam is chosen, and the blanker is on
    client.ask(ELECTRON + SHOW + sync(1), 4)
    assert not simulation.world.column.blanked()


def test_a_raster_is_an_image_of_the_simulation(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    light = client.image(LIGHT + region(4096, 64, 128 * 256) + run(64 * 64, 39), 64, 64)
    assert light.mean() > DARK + 50
    exposure = simulation.world.field_of_view
    assert exposure is not None
    assert exposure.shape == (64, 64)
    assert exposure.dwell_time_s == pytest.approx(5e-6)
    assert exposure.field_of_view_nm == pytest.approx(64 * 128 / 16384 * 400)
    # the code is the centre of its pixel
    left = exposure.center_nm[0] + (0.5 - 32) * exposure.pixel_size_nm
    assert left == pytest.approx(4096 / 16384 * 400 - 200)
    dark = client.image(BLANK + region(4096, 64, 128 * 256) + run(64 * 64, 39), 64, 64)
    assert (dark == DARK).all()


def test_the_adc_follows_the_current_and_not_the_dwell_time(client: Client) -> None:
    means = [
        client.image(LIGHT + region(0, 32, 512 * 64) + run(1024, field), 32, 32).mean()
        for field in (39, 159)
    ]
    assert means[1] == pytest.approx(means[0], rel=0.05)


def test_a_frame_takes_the_dwell_of_its_pixels(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    begun = simulation.world.clock.now_s()
    client.image(LIGHT + region(0, 64, 256 * 16) + run(4096, 799), 64, 64)
    took = simulation.world.clock.now_s() - begun
    assert 4096 * 800 * 125e-9 <= took < 4096 * 800 * 125e-9 + SLACK_S


SLACK_S = 5.0  # of the clock: half a second on the wall


def test_pixels_come_while_the_frame_is_still_running(client: Client) -> None:
    client.socket.sendall(LIGHT + region(0, 64, 256 * 16) + run(4096, 65535))
    begun = time.monotonic()
    client.receive(512)
    assert time.monotonic() - begun < 3.4  # of all of it: 4096 · 8.192 ms / 10
    client.socket.sendall(ABORT)


def test_output_modes(client: Client) -> None:
    wide = client.ask(LIGHT + sync(1) + region(0, 32, 512 * 64) + run(32, 0), 4)
    wide = client.ask(sync(2, 1), 64 + 4)
    assert wide[-4:] == b"\xff\xff\x00\x02"
    narrow = client.ask(region(0, 32, 512 * 64) + run(32, 0) + sync(3, 2), 32 + 4)
    assert narrow[-4:] == b"\xff\xff\x00\x03"
    none = client.ask(region(0, 32, 512 * 64) + run(32, 0) + sync(4, 0), 4)
    assert none == b"\xff\xff\x00\x04"


def test_part_of_a_packet_waits_for_a_flush(client: Client) -> None:
    client.socket.sendall(LIGHT + region(0, 32, 512 * 64) + run(300, 0))
    assert len(client.receive(512)) == 512
    assert client.silent(0.2)
    assert len(client.ask(FLUSH, 88)) == 88


def test_pixels_one_by_one_in_arrays_and_by_filling(client: Client) -> None:
    single = b"".join(b"\xb0" + struct.pack(">H", 8) for _ in range(16))
    array = bytes([0x8B]) + struct.pack(">H", 15) + struct.pack(">16H", *[8] * 16)
    fill = b"\x90" + struct.pack(">H", 8)
    for pixels in (single, array, fill):
        image = client.image(LIGHT + region(0, 4, 0x4000, 4) + pixels, 4, 4)
        assert (image > DARK).all()


def test_vector_pixels_are_points_of_the_field_and_park_the_probe(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    points = b"\xe0" + struct.pack(">HHH", 8192, 4096, 79) + b"\xf0" + struct.pack(">HH", 0, 16383)
    image = client.image(LIGHT + points, 1, 2)
    assert (image > DARK).all()
    assert simulation.world.column.parked() == pytest.approx((-200.0, 199.976), abs=0.01)


def test_a_blanked_beam_moves_as_well(client: Client, simulation: ExsolutionSimulation) -> None:
    point = b"\xe0" + struct.pack(">HHH", 4096, 8192, 0)
    assert (client.image(LIGHT + BLANK + point, 1, 1) == DARK).all()
    assert simulation.world.column.parked() == pytest.approx((-100.0, 0.0))


def test_an_inline_blank_takes_effect_with_the_next_pixel(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    client.ask(LIGHT + bytes([0x53]) + sync(1), 4)
    assert not simulation.world.column.blanked()
    assert (client.image(region(0, 16, 0x4000) + run(256, 7), 16, 16) == DARK).all()
    assert simulation.world.column.blanked()


def test_a_free_run_ends_with_the_next_command(client: Client) -> None:
    client.socket.sendall(LIGHT + region(0, 16, 0x4000) + b"\xd0" + struct.pack(">H", 799))
    client.receive(3 * 512)  # three frames: it begins anew by itself
    client.socket.sendall(sync(0x0707))
    came = b""
    while not came.endswith(b"\xff\xff\x07\x07"):
        came += client.receive(1)
    assert client.ask(sync(2), 4) == b"\xff\xff\x00\x02"


def test_an_abort_ends_the_region_and_waits_its_turn(client: Client) -> None:
    first = client.image(LIGHT + region(0, 32, 512 * 64) + run(100, 7) + ABORT, 1, 100)
    assert first.shape == (1, 100)
    # what follows needs a region of its own
    again = client.image(region(0, 16, 0x4000) + run(256, 7), 16, 16)
    assert (again > DARK).all()


def test_a_pixel_too_many_waits_for_a_region_that_cannot_come(
    end: OpenBeamEnd, client: Client
) -> None:
    client.socket.sendall(LIGHT + region(0, 16, 0x4000) + run(257, 0) + sync(1))
    assert len(client.receive(512)) == 512
    assert client.silent(0.3)
    fresh = Client(end.addresses["stream"])  # a new connection has the device
    try:
        assert fresh.ask(sync(7), 4) == b"\xff\xff\x00\x07"
    finally:
        fresh.socket.close()


def test_leaving_control_takes_its_time_and_un_blanks(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    clock = simulation.world.clock
    client.ask(LIGHT + BLANK + sync(1), 4)
    assert simulation.world.column.blanked()
    begun = clock.now_s()
    client.ask(LEAVE + sync(2), 4)
    assert clock.now_s() - begun >= 20e-3
    assert not simulation.world.column.blanked()


def test_delays_hold_up_what_follows(client: Client, simulation: ExsolutionSimulation) -> None:
    begun = simulation.world.clock.now_s()
    client.ask((b"\x60\xff\xff") * 30 + sync(1), 4)
    assert simulation.world.clock.now_s() - begun >= 30 * 65535 / 48e6


def test_senseless_bytes_end_nobody_else(end: OpenBeamEnd) -> None:
    rng = random.Random(5)
    for _ in range(40):
        peer = Client(end.addresses["stream"])
        peer.socket.sendall(rng.randbytes(rng.randrange(1, 300)))
        peer.socket.close()
    begun = time.monotonic()
    last = Client(end.addresses["stream"])
    try:
        assert last.ask(sync(9), 4) == b"\xff\xff\x00\x09"
    finally:
        last.socket.close()
    assert time.monotonic() - begun < 2.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"detector": "bf"},
        {"full_scale": "4 m"},
        {"dark_codes": -1},
        {"codes_per_count": 0},
        {"faults": {"slow": 2}},
    ],
)
def test_options_that_cannot_be_are_refused(
    simulation: ExsolutionSimulation, wrong: dict[str, object]
) -> None:
    with pytest.raises((TypeError, ValueError)):
        serve(FarEndContext("obi", simulation.world.clock, simulation), **wrong)  # type: ignore[arg-type]
