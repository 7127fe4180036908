"""The far end of the SerialEMCCD socket, as a client sees it that writes every byte itself."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquire.clock import WallClock
from acquire.errors import ConfigError
from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation, build
from simulators.spectra import COUNTS_PER_ELECTRON
from simulators.wires.emccd_packets import LONGEST_CHUNK, chunk_lengths
from simulators.wires.emccd_scripts import execute
from simulators.wires.emccd_values import Callee, ScriptError
from simulators.wires.serialemccd import SerialEmccd, serve

RATE = 20.0
HANDSHAKE = bytes.fromhex("08000000 18000000")


class Client:
    """Sends and receives what the plugin's source says, without any of the far end's code."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)

    def close(self) -> None:
        self.socket.close()

    def receive(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            more = self.socket.recv(min(1 << 20, count - len(got)))
            if not more:
                raise ConnectionError("closed by the far end")
            got += more
        return got

    def reply(self) -> bytes:
        """A packet without its leading count."""
        (length,) = struct.unpack("<i", self.receive(4))
        return self.receive(length - 4)

    def raw(self, packet: bytes) -> bytes:
        self.socket.sendall(packet)
        return self.reply()

    def call(
        self,
        code: int,
        longs: tuple[int, ...] = (),
        bools: tuple[int, ...] = (),
        doubles: tuple[float, ...] = (),
        array: bytes = b"",
        results: str = "",
    ) -> tuple[float, ...]:
        body = struct.pack(
            f"<i{len(longs)}i{len(bools)}i{len(doubles)}d", code, *longs, *bools, *doubles
        )
        reply = self.raw(struct.pack("<i", 4 + len(body) + len(array)) + body + array)
        if len(reply) == 4:  # a refusal, or nothing but a value
            return struct.unpack("<i", reply)
        return struct.unpack(f"<i{results}", reply)

    def script(self, text: str) -> tuple[int, float]:
        data = text.encode("latin-1") + b"\0"
        data += b"\0" * (-len(data) % 4)
        value, result = self.call(1, (len(data) // 4,), (0,), array=data, results="d")
        return int(value), result

    def value(self, expression: str) -> float:
        code, result = self.script(f"number v = {expression}\nExit(v)\n")
        assert code == 0
        return result

    def image(self, numbers: tuple[float, ...]) -> NDArray[np.uint16]:
        value, size, width, height, chunks = (int(n) for n in numbers)
        assert value == 0
        assert chunks == max(1, -(-2 * size // LONGEST_CHUNK))
        data = self.receive(2 * size)
        return np.frombuffer(data, "<u2").reshape(-1, width)[:height]

    def acquire(
        self,
        shape: tuple[int, int] = (32, 64),
        *,
        room: int | None = None,
        rotation: float = 0.0,
        dwell_us: float = 2.0,
        flags: int = 0,
        continuous: int = 0,
        channels: tuple[int, ...] = (0, 1),
        divide: int = 0,
    ) -> tuple[float, ...]:
        rows, columns = shape
        room = rows * columns if room is None else room
        longs = (room, columns, rows, flags, continuous, divide, len(channels))
        array = struct.pack(f"<{len(channels)}i", *channels)
        return self.call(19, longs, (), (rotation, dwell_us), array, "4i")

    def channel(self, number: int, shape: tuple[int, int] = (32, 64)) -> tuple[float, ...]:
        rows, columns = shape
        return self.call(20, (rows * columns, columns, rows, number, 0), results="4i")

    def camera(
        self,
        exposure_s: float = 0.1,
        *,
        processing: int = 2,
        binning: int = 1,
        region: tuple[int, int, int, int] = (0, 0, 256, 2048),
        divide: int = 0,
    ) -> tuple[float, ...]:
        top, left, bottom, right = region
        width, height = (right - left) // binning, (bottom - top) // binning
        longs = (width * height, width, height, processing, binning, *region, 0, 0, divide, 0)
        return self.call(6, longs, (), (exposure_s, 0.0), results="4i")


@pytest.fixture(scope="module")
def world_of_all() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=3, drift=False)


@pytest.fixture
def simulation(world_of_all: ExsolutionSimulation) -> ExsolutionSimulation:
    world = world_of_all.world
    world.column.blank(False)
    world.column.park(0.0, 0.0)
    world.column.shift_by(*(-shift for shift in world.column.shift()))
    world.field_of_view = None
    return world_of_all


def frames_taken(simulation: ExsolutionSimulation, stream: str) -> int:
    count = 0
    with contextlib.suppress(KeyError):
        while True:
            simulation.truth(stream, count)
            count += 1
    return count


def listening(simulation: ExsolutionSimulation, **options: object) -> SerialEmccd:
    clock = simulation.world.clock
    made = serve(FarEndContext("emccd", clock, simulation, source="s.toml"), **options)  # type: ignore[arg-type]
    assert isinstance(made, SerialEmccd)
    return made


@pytest.fixture
def far_end(simulation: ExsolutionSimulation) -> Iterator[SerialEmccd]:
    made = listening(simulation)
    yield made
    made.close()


@pytest.fixture
def client(far_end: SerialEmccd) -> Iterator[Client]:
    made = Client(far_end.addresses["socket"])
    yield made
    made.close()


# ------------------------------------------------------------------------- packets


def test_the_bytes_of_a_script_and_its_reply_are_those_of_the_plugin(client: Client) -> None:
    # total, function 1, two int32s of text, no camera selection, "Exit(3)\0"
    packet = bytes.fromhex("18000000 01000000 02000000 00000000") + b"Exit(3)\0"
    # value 0 and the double 3
    assert client.raw(packet) == bytes.fromhex("00000000 00000000 00000840")


def test_the_bytes_of_a_stop_that_stops_nothing_are_those_of_the_plugin(client: Client) -> None:
    assert client.raw(bytes.fromhex("08000000 15000000")) == bytes.fromhex("16000000")


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        ("08000000 e7030000", -1),  # no such function
        ("08000000 18000000", -1),  # a handshake that nothing waits for
        ("08000000 ffffffff", -1),
        ("04000000", -4),  # shorter than a function code
        ("08000000 01000000", -4),  # a script without its arguments
        ("0c000000 15000000 00000000", -6),  # one number too many
        ("14000000 01000000 05000000 00000000 45786974", -6),  # an array shorter than announced
        ("10000000 01000000 ffffffff 00000000", -6),  # … or longer than anything
        ("20000000 14000000 ffffffff 40000000 40000000 00000000 00000000 00000000", -6),
        ("1c000000 14000000 ffffffff 40000000 40000000 00000000 00000000", -2),  # no such memory
    ],
)
def test_a_packet_that_is_wrong_is_refused_with_its_code_alone(
    client: Client, packet: str, code: int
) -> None:
    assert struct.unpack("<i", client.raw(bytes.fromhex(packet))) == (code,)
    assert client.value("1 + 1") == 2.0  # and shifts nothing


def test_a_packet_that_is_too_long_is_thrown_away_and_refused(client: Client) -> None:
    length = (1 << 20) + 8
    client.socket.sendall(struct.pack("<ii", length, 1) + bytes(length - 8))
    assert client.reply() == struct.pack("<i", -5)
    assert client.value("2 + 2") == 4.0


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in bytes.fromhex("08000000 1f000000"):
        client.socket.sendall(bytes([byte]))
    assert struct.unpack("<ii", client.reply()) == (0, 120)


def test_a_new_connection_drops_the_old_one(far_end: SerialEmccd, client: Client) -> None:
    assert client.value("1") == 1.0
    second = Client(far_end.addresses["socket"])
    try:
        assert second.value("2") == 2.0
        with pytest.raises(OSError, match=r"closed|reset"):
            client.receive(1)
    finally:
        second.close()


def test_what_is_not_simulated_fails_and_does_not_shift(client: Client) -> None:
    assert client.call(37, (9, 3, 3), results="4i")[0] == 29  # no deferred sum
    assert client.call(34, (0,), results="id") == (0, 0, 0.0)  # no GPU
    assert client.call(28, (9,), results="4i")[0] == 26
    assert client.call(32, results="i") == (0, 26)


def test_versions_and_cameras_are_told(client: Client) -> None:
    assert client.call(14, results="i") == (0, 50403)
    assert client.call(42, results="ii") == (0, 50403, 3213)
    assert client.call(11, results="i") == (0, 1)
    assert client.call(12, (0,), results="i") == (0, 1)
    assert client.call(12, (4,), results="i")[0] == 1
    assert client.call(9, (0,)) == (0,)
    assert client.call(9, (1,)) == (26,)
    assert client.call(15, results="iii") == (0, 1, 1, 1)


# ------------------------------------------------------------------------- scripts


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Exit(1 + 2 * 3 - 4 / 8)", 6.5),
        ("number a = 2, b\nb = a ^ 3; exit( B )", 8.0),
        ('if (DoesFunctionExist("IFSetSlitIn")) { Exit(1.0) } else { Exit(-1.0) }', 1.0),
        ('if (DoesFunctionExist("NoSuchThing")) { Exit(1.0) } else { Exit(-1.0) }', -1.0),
        ("number x = 3\nif (x >= 3 && !(x == 4))\n  Exit(1)\nelse\n  Exit(2)", 1.0),
        (
            "number x, y\nEMSetCalibratedBeamShift(3, -4)\nEMGetCalibratedBeamShift(x, y)\nExit(x*y)",
            -12,
        ),
        ("// nothing\n/* at\nall */", 0.0),
        ('Result("a" + 1 + "\\n")', 0.0),
        ("number a, b, c\nGetApplicationVersion(a, b, c)\nExit(a * 10000 + b)", 30043.0),
        (
            "number f\nEMSetMagnification(1e6)\n"
            "EMGetCalibratedFieldOfView(DSGetDeviceLocation(), EMGetCalibrationStateTags(), f, 0)\nExit(f)",
            100.0,
        ),
    ],
)
def test_a_script_is_carried_out(client: Client, text: str, result: float) -> None:
    code, exited = client.script(text)
    assert code == 0
    assert exited == pytest.approx(result)


@pytest.mark.parametrize(
    "text",
    [
        "Exit(",
        "Exit()",
        'Exit("text")',
        "while (1) { }",
        "Object o = CM_GetCameraManager()",
        "NoSuchFunction(3)",
        "IFSetEnergyLoss()",
        "IFSetEnergyLoss(1e9)",
        "IFSetEnergyLoss(0/0)",
        "number a\nExit(a)",
        "a = 3",
        "EMSetMagnification(1)",
        "DSGetBeamDSPosition(1, 2)",
        "IFCSetActiveDispersions(99)",
        "IFCSetActiveDispersions(0.5)",
        "image im := DSGetLastAcquiredImage(0)",
        "Exit(-999)",
        "(" * 5000,
        "Exit(" + "1+" * 20_000 + "1)",
        '"',
        "\x01",
    ],
)
def test_a_script_that_fails_has_value_1_and_the_double_of_failure(
    client: Client, text: str
) -> None:
    assert client.script(text) == (1, -999.0)


def test_nothing_of_a_script_is_done_that_is_not_understood_to_its_end(client: Client) -> None:
    assert client.script("EMSetBeamBlanked(1)\nNoSuchFunction()")[0] == 1
    assert client.value("EMGetBeamBlanked()") == 0.0


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet='abExit(){}=:;,\n"1.+-*/^!<>&| ifelsnumr', max_size=60))
def test_no_text_is_more_than_a_failed_script(text: str) -> None:
    with contextlib.suppress(ScriptError):
        execute(text, {"a": [Callee(("number",), lambda x: x)]})


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    code=st.integers(-2, 50).filter(lambda code: code != 5),
    body=st.binary(max_size=80).map(lambda b: b[: len(b) // 4 * 4]),
)
def test_no_packet_is_more_than_a_refused_one(client: Client, code: int, body: bytes) -> None:
    assert len(client.raw(struct.pack("<ii", 8 + len(body), code) + body)) >= 4
    assert client.call(31, results="i") == (0, 120)


# ------------------------------------------------------------------------ DigiScan


def test_a_frame_is_exposed_and_every_channel_fetched_once(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    client.script("EMSetMagnification(2e6)")
    began = simulation.world.clock.now_s()
    haadf = client.image(client.acquire((64, 64), dwell_us=50.0))
    took = simulation.world.clock.now_s() - began
    assert took >= 64 * 64 * 50e-6 + 64 * 20e-6
    abf = client.image(client.channel(1, (64, 64)))
    exposure = simulation.world.field_of_view
    assert exposure is not None
    assert exposure.field_of_view_nm == pytest.approx(50.0)
    assert exposure.dwell_time_s == pytest.approx(50e-6)
    assert haadf.shape == abf.shape == (64, 64)
    assert 0 < haadf.mean() < 60_000
    assert abf.mean() != haadf.mean()
    assert client.channel(1, (64, 64))[0] == 28
    assert client.channel(0, (64, 64))[0] == 28
    assert client.channel(7, (64, 64))[0] == 28


def test_the_larger_side_has_the_field_and_pixels_are_square(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    client.script("EMSetMagnification(1e6)")
    client.image(client.acquire((64, 32), channels=(0,)))
    exposure = simulation.world.field_of_view
    assert exposure is not None
    assert exposure.field_of_view_nm == pytest.approx(50.0)
    assert exposure.pixel_size_nm * 64 == pytest.approx(100.0)


def test_a_blanked_beam_and_halving_show_in_the_counts(client: Client) -> None:
    whole = client.image(client.acquire((64, 64), dwell_us=20.0, channels=(0,))).mean()
    half = client.image(client.acquire((64, 64), dwell_us=20.0, channels=(0,), divide=1)).mean()
    client.script("EMSetBeamBlanked(1)")
    dark = client.image(client.acquire((64, 64), dwell_us=20.0, channels=(0,))).mean()
    assert half == pytest.approx(whole / 2, rel=0.1)
    assert dark < 0.1 < whole


def test_quarter_turns_turn_the_image_clockwise(simulation: ExsolutionSimulation) -> None:
    far_end = listening(simulation)
    client = Client(far_end.addresses["socket"])
    try:
        client.script("EMSetMagnification(1e6)")
        straight = client.image(client.acquire((64, 64), dwell_us=1000.0, channels=(0,)))
        turned = client.image(
            client.acquire((64, 64), dwell_us=1000.0, channels=(0,), rotation=90.0)
        )
        same = np.corrcoef(np.rot90(straight, -1).ravel(), turned.ravel())[0, 1]
        assert same > 0.5
        assert client.acquire((64, 64), rotation=30.0) == (26, 0, 64, 64, 0)
        assert client.acquire((32, 64), rotation=90.0)[0] == 26
    finally:
        client.close()
        far_end.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": (2,)},
        {"channels": (0, 0)},
        {"channels": (-1,)},
        {"channels": ()},
        {"shape": (8, 8)},
        {"dwell_us": float("nan")},
    ],
)
def test_a_scan_that_cannot_be_fails_as_a_script_without_an_image(
    client: Client, wrong: dict[str, object]
) -> None:
    reply = client.acquire(**wrong)  # type: ignore[arg-type]
    assert reply[0] == 26
    assert reply[1] == 0
    assert client.value("1") == 1.0


def test_an_image_is_cut_to_the_room_that_the_client_has(client: Client) -> None:
    reply = client.acquire((32, 64), room=10 * 64 + 5, channels=(0,))
    assert list(reply) == [0, 640, 64, 10, 1]
    assert client.image(reply).shape == (10, 64)


def test_lines_wait_for_the_mains_if_they_shall(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    began = simulation.world.clock.now_s()
    client.image(client.acquire((32, 32), dwell_us=2.0, flags=1, channels=(0,)))
    assert simulation.world.clock.now_s() - began >= 32 * 0.02


@pytest.mark.parametrize(("flags", "side"), [(2, -1), (4, -1), (8, 1)])
def test_the_beam_leaves_the_field_after_a_frame_if_it_shall(
    client: Client, simulation: ExsolutionSimulation, flags: int, side: int
) -> None:
    client.script("EMSetMagnification(1e6)")
    client.image(client.acquire((64, 64), flags=flags, channels=(0,)))
    x, y = simulation.world.column.parked()
    assert x * side > 50.0
    assert y * side > 50.0
    assert client.value("DSHasScanControl()") == 1.0


def test_the_beam_rests_where_a_pixel_was(client: Client, simulation: ExsolutionSimulation) -> None:
    client.script("EMSetMagnification(1e6)")
    client.image(client.acquire((64, 64), channels=(0,)))
    code, _ = client.script(
        "number x, y\nimage im := DSGetLastAcquiredImage(0)\n"
        "DSCalcDSCoordFromImage(im, 48, 16, x, y)\nDSSetBeamDSPosition(x, y)\n"
    )
    assert code == 0
    assert simulation.world.column.parked() == (0.0, 0.0)  # the microscope still holds it
    client.script("DSSetScanControl(1)")
    assert simulation.world.column.parked() == pytest.approx((25.0, -25.0))
    client.script("EMChangeCalibratedBeamShift(5, 7)")
    assert simulation.world.column.shift() == pytest.approx((5.0, 7.0))


# ---------------------------------------------------------------- continuous scans


def test_a_continuous_scan_goes_on_over_connections_until_it_is_stopped(
    far_end: SerialEmccd, client: Client
) -> None:
    empty = client.image(client.acquire((64, 64), dwell_us=20.0, continuous=1))
    assert not empty.any()
    client.close()
    second = Client(far_end.addresses["socket"])
    try:
        assert second.value("DSIsAcquisitionActive()") == 1.0
        first = second.image(second.acquire((64, 64), dwell_us=20.0, continuous=-1))
        assert first.any()
        again = second.image(second.acquire((64, 64), dwell_us=20.0, continuous=-1))
        assert (again != first).any()
        # the plugin gives the first channel, whichever it is asked for
        other = second.image(second.channel(1, (64, 64)))
        assert other.mean() == pytest.approx(first.mean(), rel=0.2)
        assert second.call(21) == (0,)
        assert second.value("DSIsAcquisitionActive()") == 0.0
        assert second.call(21) == (22,)
        assert second.acquire((64, 64), continuous=-1)[0] == 22
        stopped = [second.image(second.channel(n, (64, 64))).mean() for n in (0, 1)]
        assert stopped[0] != pytest.approx(stopped[1], rel=0.2)
    finally:
        second.close()


def test_a_continuous_scan_is_stopped_in_the_middle_of_a_frame(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    client.image(client.acquire((64, 64), dwell_us=50_000.0, continuous=1, channels=(0,)))
    began = time.monotonic()
    assert client.call(21) == (0,)
    assert time.monotonic() - began < 0.25
    assert not client.image(client.channel(0, (64, 64))).any()


def test_a_continuous_scan_that_shall_finish_ends_with_one_frame(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    before = frames_taken(simulation, "scan")
    client.image(client.acquire((64, 64), dwell_us=500.0, continuous=1))
    client.script("DSFinishAcquisition()")
    taken = simulation.world.clock.now_s()
    while client.value("DSIsAcquisitionActive()"):
        assert simulation.world.clock.now_s() < taken + 10
    assert client.script('image im\nExit(GetNamedImage(im, "SEMchan1"))') == (0, 1.0)
    assert client.call(21) == (0,)
    images = [client.image(client.channel(n, (64, 64))) for n in (0, 1)]
    assert all(image.any() for image in images)
    assert frames_taken(simulation, "scan") == before + 1


def test_an_exposure_keeps_a_new_connection_waiting_as_the_single_thread_does(
    far_end: SerialEmccd, client: Client, simulation: ExsolutionSimulation
) -> None:
    thread = threading.Thread(target=lambda: _ignore(client, dwell_us=1500.0))  # 0.3 s of the wall
    thread.start()
    while not simulation.world.field_of_view:
        time.sleep(0.005)
    second = Client(far_end.addresses["socket"])
    try:
        began = time.monotonic()
        assert second.value("1") == 1.0
        assert time.monotonic() - began > 0.1
    finally:
        second.close()
        thread.join()


def _ignore(client: Client, dwell_us: float) -> None:
    try:
        client.acquire((64, 64), dwell_us=dwell_us)
    except (OSError, struct.error):
        return


def test_closing_ends_an_exposure(simulation: ExsolutionSimulation) -> None:
    far_end = listening(simulation)
    client = Client(far_end.addresses["socket"])
    thread = threading.Thread(target=lambda: _ignore(client, dwell_us=90_000.0))
    thread.start()
    while not simulation.world.field_of_view:
        time.sleep(0.005)
    began = time.monotonic()
    far_end.close()
    far_end.close()
    assert time.monotonic() - began < 2.0
    thread.join()
    client.close()


# ---------------------------------------------------------------------- big images


def test_a_big_image_comes_in_chunks_that_are_acknowledged(client: Client) -> None:
    room = LONGEST_CHUNK // 2 + 2  # pixels: one more than fits into a chunk, and one
    reply = client.acquire((16, 16), room=room, continuous=1, channels=(0,))
    assert list(reply) == [0, room, 16, 16, 2]
    assert client.receive(room) == bytes(room)
    client.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.socket.recv(1)  # nothing more before the handshake
    client.socket.settimeout(10)
    client.socket.sendall(HANDSHAKE)
    assert client.receive(room) == bytes(room)
    assert client.call(21) == (0,)


def test_a_wrong_handshake_ends_the_connection_and_not_the_far_end(
    far_end: SerialEmccd, client: Client
) -> None:
    room = LONGEST_CHUNK // 2 + 2
    client.acquire((16, 16), room=room, continuous=1, channels=(0,))
    client.receive(room)
    client.socket.sendall(bytes(8))
    with pytest.raises(OSError, match=r"closed|reset"):
        client.receive(1)
    second = Client(far_end.addresses["socket"])
    assert second.call(21) == (0,)
    second.close()


def test_chunks_are_as_few_as_fit_and_alike() -> None:
    assert chunk_lengths(0) == []
    assert chunk_lengths(5) == [5]
    assert chunk_lengths(LONGEST_CHUNK) == [LONGEST_CHUNK]
    assert chunk_lengths(2 * LONGEST_CHUNK + 1) == [22369622, 22369622, 22369621]


# -------------------------------------------------------------------------- camera


def test_the_columns_of_the_camera_add_up_to_the_spectrum(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    client.script("IFCSetActiveDispersions(1)\nIFSetEnergyLoss(440)\nIFWaitForFilter()")
    began = simulation.world.clock.now_s()
    raw = client.image(client.camera(2.0, processing=0))
    assert simulation.world.clock.now_s() - began >= 2.0
    assert raw.shape == (256, 2048)
    electrons = (raw.astype(float) - 100).sum(axis=0) / COUNTS_PER_ELECTRON
    truth = simulation.truth("spectrometer", frames_taken(simulation, "spectrometer") - 1)
    energy = 440 + (np.arange(2048) - 100) * 0.1
    edge = energy[np.argmax(np.diff(np.convolve(electrons, np.ones(20), "valid"))) + 10]
    assert edge == pytest.approx(457.5 + truth["zlp_shift_ev"], abs=4.0)
    expected = simulation.world.column.beam.electrons_per_s * 2.0
    assert 0 < electrons.sum() < expected


def test_the_zero_loss_peak_lies_on_its_channel_and_can_be_centred(client: Client) -> None:
    client.script("IFCSetActiveDispersions(0)")

    def peak() -> int:
        image = client.image(client.camera(1e-4, processing=0))
        return int((image.astype(float) - 100).sum(axis=0).argmax())

    client.script("GT_CenterZLP()")
    assert peak() == pytest.approx(100, abs=8)  # its jitter is 0.06 eV
    client.script("IFSetEnergyLoss(-10)\nIFWaitForFilter()")
    assert peak() == pytest.approx(300, abs=8)


def test_the_filter_takes_a_while_to_go_elsewhere(client: Client) -> None:
    client.script("IFSetEnergyLoss(700)")
    assert client.value("IFGetEnergyLoss(0)") == 700.0
    too_early = client.image(client.camera(1e-4, processing=0)).sum()
    client.script("IFWaitForFilter()")
    then = client.image(client.camera(1e-4, processing=0)).sum()
    assert too_early > then  # the first one still shows the zero-loss peak


def test_the_energy_that_was_taken_is_told(client: Client) -> None:
    client.script("IFSetEnergyLoss(400.13)")
    assert client.value("IFGetEnergyLoss()") == pytest.approx(400.15)
    client.script("IFCSetActiveDispersions(2)")
    assert client.value("IFCGetActiveDispersion()") == 2.0
    assert client.value("IFGetActiveDispersion()") == 0.25


def test_the_slit_cuts_the_spectrum(client: Client) -> None:
    client.script("IFCSetActiveDispersions(1)\nIFSetSlitWidth(10)\nIFSetSlitIn(1)")
    image = client.image(client.camera(1e-3, processing=2)).astype(float)
    lit = image.sum(axis=0) > 1000
    assert lit.any()
    assert not lit[:45].any()
    assert not lit[155:].any()


def test_processed_images_lose_their_sign_unless_halved(client: Client) -> None:
    client.script("EMSetBeamBlanked(1)")
    truncated = client.image(client.camera(0.01, processing=1)).astype(float)
    halved = client.image(client.camera(0.01, processing=1, divide=1)).view(np.int16)
    raw = client.image(client.camera(0.01, processing=0)).astype(float)
    assert truncated.min() == 0.0
    assert truncated.mean() > 0.05
    assert halved.min() >= -1
    assert raw.mean() == pytest.approx(100.0, abs=0.01)
    dark = client.call(
        7, (2048 * 256, 2048, 256, 1, 0, 0, 256, 2048, 0, 0, 0), (), (0.01, 0.0), results="4i"
    )
    assert client.image(dark).astype(float).mean() == pytest.approx(100.0, abs=0.01)


def test_a_part_of_the_camera_is_read_and_binned(client: Client) -> None:
    image = client.image(client.camera(0.01, binning=4, region=(96, 0, 160, 1024)))
    assert image.shape == (16, 256)


@pytest.mark.parametrize(
    "wrong",
    [
        {"exposure_s": 0.0},
        {"exposure_s": float("inf")},
        {"region": (0, 0, 300, 2048)},
        {"region": (10, 0, 10, 2048)},
        {"processing": 64},
    ],
)
def test_an_image_that_cannot_be_taken_fails_as_a_script(
    client: Client, wrong: dict[str, object]
) -> None:
    if wrong.get("region") == (10, 0, 10, 2048):
        reply = client.call(
            6, (2048, 2048, 1, 2, 1, 10, 0, 10, 2048, 0, 0, 0, 0), (), (0.1, 0.0), results="4i"
        )
    else:
        reply = client.camera(**wrong)  # type: ignore[arg-type]
    assert reply[0] == 26
    assert client.value("1") == 1.0


def test_a_camera_that_is_out_takes_no_image(client: Client) -> None:
    assert client.call(13, (0,), (0,))[0] == 0
    assert client.call(12, (0,), results="i") == (0, 0)
    assert client.camera()[0] == 26
    assert client.call(13, (0,), (1,)) == (0,)
    assert client.camera(0.01)[0] == 0


def test_a_queued_script_runs_before_the_next_image(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    text = b"EMSetBeamBlanked(1)\0"
    assert client.call(5, (len(text) // 4,), array=text) == (0,)
    blanked = [simulation.world.column.blanked()]
    client.image(client.camera(0.01))
    blanked.append(simulation.world.column.blanked())
    assert blanked == [False, True]


# ------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"channels": ["eds"]}, ValueError, "no detector 'eds'"),
        ({"channels": "haadf"}, TypeError, "list"),
        ({"dispersions": []}, TypeError, "dispersions"),
        ({"dispersions": ["5 nm"]}, ValueError, "dispersions"),
        ({"rows": 4}, ValueError, "rows"),
        ({"field_times_magnification": "1 nm"}, ValueError, "field_times_magnification"),
        ({"faults": {"meteor": 0.1}}, ValueError, "meteor"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(
    simulation: ExsolutionSimulation,
    options: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        listening(simulation, **options)


def test_a_port_that_the_wire_does_not_have_is_refused(simulation: ExsolutionSimulation) -> None:
    context = FarEndContext(
        "emccd", simulation.world.clock, simulation, {"control": "127.0.0.1:0"}, "s.toml"
    )
    with pytest.raises(ConfigError, match="no such port; it has socket"):
        serve(context)


def test_replies_can_go_wrong(far_end: SerialEmccd, client: Client) -> None:
    far_end.faults.next("disconnect")
    with pytest.raises(OSError, match=r"closed|reset"):
        client.value("1")
