"""The far end of the SerialEMCCD socket: DigiScan and the chunks of images."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from acquire.clock import WallClock
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.emccd_packets import LONGEST_CHUNK, chunk_lengths
from simulators.wires.serialemccd import SerialEmccd
from tests.wires.emccd_client import HANDSHAKE, RATE, Client, frames_taken, listening


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
    assert time.monotonic() - began < 1.0  # of the 10 s that a frame takes here
    assert not client.image(client.channel(0, (64, 64))).any()


def test_a_continuous_scan_that_shall_finish_ends_with_one_frame(
    client: Client, simulation: ExsolutionSimulation
) -> None:
    began = simulation.world.clock.now_s()
    client.image(client.acquire((64, 64), dwell_us=500.0, continuous=1))
    client.script("DSFinishAcquisition()")
    while client.value("DSIsAcquisitionActive()"):
        assert simulation.world.clock.now_s() < began + 30
    assert client.script('image im\nExit(GetNamedImage(im, "SEMchan1"))') == (0, 1.0)
    assert client.call(21) == (0,)
    images = [client.image(client.channel(n, (64, 64))) for n in (0, 1)]
    assert all(image.any() for image in images)
    assert frames_taken(simulation, "scan", since_s=began) == 1


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
