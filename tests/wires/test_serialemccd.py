"""The far end of the SerialEMCCD socket: packets, scripts and options."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acquire.clock import WallClock
from acquire.errors import ConfigError
from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.emccd_scripts import execute
from simulators.wires.emccd_values import Callee, ScriptError
from simulators.wires.serialemccd import SerialEmccd, serve
from tests.wires.emccd_client import RATE, Client, listening


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
