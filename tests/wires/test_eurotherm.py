"""The far end of the Eurotherm, as any Modbus client sees it: golden frames, pymodbus, a serial line."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient, ModbusTcpClient

from acquire.clock import WallClock
from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires import modbus
from simulators.wires.eurotherm import EurothermEnd, serve
from simulators.wires.modbus import ModbusError, answer, crc

RATE = 10.0
PATIENCE_S = 3.0
PV, TARGET, OUTPUT, WORKING, REMOTE, RATE_LIMIT, STATUS, MODE = 1, 2, 4, 5, 26, 35, 75, 199
ACKNOWLEDGE, SELECT, UNITS, RATE_UNIT = 274, 276, 516, 531
SENSOR_BREAK, HEATER_FAIL, RAMP_RUNNING, REMOTE_FAIL, NEW_ALARM = 0x20, 0x80, 0x2000, 0x4000, 0x1000


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, draft=True, specimen="blank_film")


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[EurothermEnd]:
    made = serve(FarEndContext("oven", simulation.world.clock, simulation))
    yield made
    simulation.chip.mend()
    made.close()


def _place(end: EurothermEnd, port: str) -> tuple[str, int]:
    host, _, number = end.addresses[port].rpartition("//")[2].rpartition(":")
    return host, int(number)


def _connect(end: EurothermEnd, port: str) -> socket.socket:
    return socket.create_connection(_place(end, port), timeout=PATIENCE_S)


Client = ModbusTcpClient | ModbusSerialClient


@pytest.fixture(params=["tcp", "rtu over tcp", "serial url"])
def client(request: pytest.FixtureRequest, end: EurothermEnd) -> Iterator[Client]:
    made: Client
    if request.param == "tcp":
        host, number = _place(end, "tcp")
        made = ModbusTcpClient(host, port=number, timeout=PATIENCE_S)
    elif request.param == "rtu over tcp":
        host, number = _place(end, "rtu")
        made = ModbusTcpClient(host, port=number, timeout=PATIENCE_S, framer=FramerType.RTU)
    else:
        made = ModbusSerialClient(end.addresses["rtu"], timeout=PATIENCE_S, baudrate=9600)
    assert made.connect()
    yield made
    made.close()


@pytest.fixture
def tcp(end: EurothermEnd) -> Iterator[ModbusTcpClient]:
    host, number = _place(end, "tcp")
    made = ModbusTcpClient(host, port=number, timeout=PATIENCE_S)
    assert made.connect()
    yield made
    made.close()


def _float(client: Client, address: int) -> float:
    reply = client.read_holding_registers(0x8000 + 2 * address, count=2, device_id=1)
    assert not reply.isError(), reply
    high, low = reply.registers
    (value,) = struct.unpack(">f", struct.pack(">HH", high, low))
    return float(value)


def _int(client: Client, address: int) -> int:
    reply = client.read_holding_registers(address, count=1, device_id=1)
    assert not reply.isError(), reply
    return int(reply.registers[0])


def _put(client: Client, address: int, value: float) -> int:
    """Write a float; the exception code or 0."""
    words = list(struct.unpack(">HH", struct.pack(">f", value)))
    reply = client.write_registers(0x8000 + 2 * address, words, device_id=1)
    return int(reply.exception_code) if reply.isError() else 0


def _put_int(client: Client, address: int, value: int) -> int:
    reply = client.write_register(address, value, device_id=1)
    return int(reply.exception_code) if reply.isError() else 0


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


# ------------------------------------------------------------------------- the wire


def test_a_golden_rtu_exchange(end: EurothermEnd) -> None:
    # Modbus over serial line V1.02; read holding register 5 (working setpoint, one decimal: 25.0)
    with _connect(end, "rtu") as line:
        line.sendall(bytes.fromhex("01 03 0005 0001 940b"))
        assert line.recv(100) == bytes.fromhex("01 03 02 00fa") + crc(bytes.fromhex("01030200fa"))


def test_the_checksum_is_the_standards() -> None:
    assert crc(b"123456789") == bytes.fromhex("374b")


def test_a_golden_tcp_exchange_echoes_its_transaction(end: EurothermEnd) -> None:
    with _connect(end, "tcp") as line:
        line.sendall(bytes.fromhex("beef 0000 0006 01 03 0005 0001"))
        assert line.recv(100) == bytes.fromhex("beef 0000 0005 01 03 02 00fa")


def test_every_framing_reads_the_same_registers(client: Client) -> None:
    assert _float(client, WORKING) == 25.0
    assert _int(client, WORKING) == 250
    assert _float(client, PV) == pytest.approx(25.0, abs=1.0)
    # as a client reads a block: PV, target, manual output, output, working setpoint
    block = client.read_holding_registers(0x8002, count=10, device_id=1)
    assert struct.unpack(">5f", struct.pack(">10H", *block.registers))[1:] == (25, 0, 0, 25)


def test_what_does_not_exist_or_fit_is_answered_by_exceptions(tcp: ModbusTcpClient) -> None:
    assert tcp.read_holding_registers(999, count=1, device_id=1).exception_code == 2
    assert tcp.read_holding_registers(0x8003 + 2 * 998, count=2, device_id=1).exception_code == 2
    assert tcp.read_coils(1, count=1, device_id=1).exception_code == 1
    assert _put(tcp, PV, 100.0) == 3
    assert _put(tcp, REMOTE, 1300.5) == 3
    assert _put(tcp, REMOTE, float("nan")) == 3
    assert _put_int(tcp, SELECT, 7) == 3
    assert _float(tcp, REMOTE) == 25.0


def test_other_devices_on_the_line_are_not_answered_for(end: EurothermEnd) -> None:
    with _connect(end, "rtu") as line:
        foreign = bytes.fromhex("02 03 0005 0001")
        line.sendall(foreign + crc(foreign))
        ready, _, _ = select.select([line], [], [], 0.2)
        assert not ready
        line.sendall(bytes.fromhex("01 03 0005 0001 940b"))
        assert line.recv(100)[:3] == b"\x01\x03\x02"


def test_a_frame_in_pieces_is_answered_once(end: EurothermEnd) -> None:
    with _connect(end, "rtu") as line:
        for byte in bytes.fromhex("01 03 0005 0001 940b"):
            line.sendall(bytes([byte]))
        assert len(line.recv(100)) == 7
        ready, _, _ = select.select([line], [], [], 0.1)
        assert not ready


def test_a_wrong_checksum_is_passed_over_in_silence_and_the_next_frame_read(
    end: EurothermEnd,
) -> None:
    with _connect(end, "rtu") as line:
        line.sendall(bytes.fromhex("01 03 0005 0001 940c"))
        ready, _, _ = select.select([line], [], [], 0.2)
        assert not ready
        line.sendall(bytes.fromhex("01 03 0005 0001 940b"))
        assert len(line.recv(100)) == 7


# ---------------------------------------------------------------------- the controller


def test_a_remote_setpoint_is_followed_at_the_rate_limit(client: Client) -> None:
    assert _put_int(client, RATE_UNIT, 2) == 0  # per second
    assert _put(client, RATE_LIMIT, 100.0) == 0
    assert _put(client, REMOTE, 325.0) == 0
    assert _put_int(client, SELECT, 1) == 0
    _until(lambda: _float(client, WORKING) > 40)
    assert _int(client, STATUS) & RAMP_RUNNING
    assert _float(client, WORKING) < 325
    _until(lambda: _float(client, WORKING) == 325)
    assert _float(client, PV) == pytest.approx(325, abs=2)
    assert 1 < _float(client, OUTPUT) < 100
    assert _float(client, TARGET) == 25.0


def test_a_remote_setpoint_that_is_not_refreshed_falls_back_to_the_local_one(
    end: EurothermEnd, tcp: ModbusTcpClient, simulation: ExsolutionSimulation
) -> None:
    _put_int(tcp, SELECT, 1)
    for _ in range(10):  # longer than the time-out, but refreshed
        _put(tcp, REMOTE, 300.0)
        assert not _int(tcp, STATUS) & REMOTE_FAIL
        simulation.world.clock.sleep(1.0)
    assert _float(tcp, WORKING) == 300
    world = simulation.world
    # nobody asks: it falls back by itself
    _until(lambda: world.history.celsius(world.clock.now_s()) < 26)
    assert _int(tcp, STATUS) & REMOTE_FAIL
    assert _float(tcp, WORKING) == 25
    _put(tcp, REMOTE, 200.0)
    assert not _int(tcp, STATUS) & REMOTE_FAIL
    _until(lambda: _float(tcp, PV) > 190)


def test_a_broken_sensor_is_told_and_switches_the_output_off(
    tcp: ModbusTcpClient, simulation: ExsolutionSimulation
) -> None:
    _put(tcp, TARGET, 400.0)
    _until(lambda: _float(tcp, PV) > 395)
    world = simulation.world
    simulation.chip.fail(world.clock.now_s(), "lost_sense")
    assert _int(tcp, STATUS) & SENSOR_BREAK
    assert _int(tcp, 258) == 1
    assert _float(tcp, OUTPUT) == 0
    _until(lambda: world.history.celsius(world.clock.now_s()) < 26)
    assert _int(tcp, STATUS) & NEW_ALARM
    simulation.chip.mend()
    _put_int(tcp, ACKNOWLEDGE, 1)
    assert not _int(tcp, STATUS) & (SENSOR_BREAK | NEW_ALARM)
    _until(lambda: _float(tcp, PV) > 395)


def test_a_failed_heater_is_told(tcp: ModbusTcpClient, simulation: ExsolutionSimulation) -> None:
    _put(tcp, TARGET, 400.0)
    simulation.chip.fail(simulation.world.clock.now_s(), "open_heater")
    assert _int(tcp, STATUS) & HEATER_FAIL
    _until(lambda: _float(tcp, PV) < 27)
    assert _float(tcp, OUTPUT) == 0


def test_standby_switches_the_output_off_until_it_operates_again(
    tcp: ModbusTcpClient, simulation: ExsolutionSimulation
) -> None:
    _put(tcp, TARGET, 300.0)
    _until(lambda: _float(tcp, PV) > 295)
    assert _put_int(tcp, MODE, 1) == 0
    assert _float(tcp, OUTPUT) == 0
    _until(lambda: _float(tcp, PV) < 27)
    _put_int(tcp, MODE, 0)
    _until(lambda: _float(tcp, PV) > 295)


def test_setpoint_limits_are_the_devices_own(tcp: ModbusTcpClient) -> None:
    assert _put(tcp, 111, 500.0) == 0
    assert _put(tcp, TARGET, 501.0) == 3
    assert _put(tcp, TARGET, 500.0) == 0
    assert _put(tcp, 112, 600.0) == 3


def test_both_words_of_a_float_are_of_the_same_reading(
    tcp: ModbusTcpClient, simulation: ExsolutionSimulation
) -> None:
    world = simulation.world

    def at_a_carry() -> bool:
        # noise of 0.1 °C goes both ways from 256 °C, where the high word of a float changes by 2 °C
        assert _put(tcp, REMOTE, 256.0) == 0
        return abs(world.history.celsius(world.clock.now_s()) - 256) < 0.2

    assert _put_int(tcp, SELECT, 1) == 0
    _until(at_a_carry)
    read = []
    for _ in range(100):
        assert _put(tcp, REMOTE, 256.0) == 0
        read.append(_float(tcp, PV))
    assert min(read) < 256 < max(read)
    assert read == pytest.approx([256.0] * 100, abs=1.0)


@pytest.mark.parametrize(
    ("units", "code", "room", "boiling"),
    [("°C", 0, 25, 100), ("°F", 1, 77, 212), ("K", 2, 298.15, 373.15)],
)
def test_every_temperature_is_in_the_units_of_the_display(
    simulation: ExsolutionSimulation, units: str, code: int, room: float, boiling: float
) -> None:
    end = serve(FarEndContext("oven", simulation.world.clock, simulation), units=units)
    host, number = _place(end, "tcp")
    client = ModbusTcpClient(host, port=number, timeout=PATIENCE_S)
    world = simulation.world

    def at_boiling_point() -> bool:
        assert _put(client, REMOTE, boiling) == 0  # refreshed, else it lapses
        return abs(world.history.celsius(world.clock.now_s()) - 100) < 1

    try:
        assert client.connect()
        assert _int(client, UNITS) == code
        assert _put_int(client, UNITS, 0) == 3
        assert _float(client, TARGET) == pytest.approx(room, abs=0.2)
        assert _put_int(client, SELECT, 1) == 0
        _until(at_boiling_point)
        assert _put(client, REMOTE, boiling) == 0
        assert _float(client, WORKING) == pytest.approx(boiling, abs=0.01)
        assert _int(client, WORKING) == pytest.approx(10 * boiling, abs=1)
        assert _float(client, PV) == pytest.approx(boiling, abs=5)
    finally:
        client.close()
        end.close()


def test_registers_that_wear_out_are_counted(end: EurothermEnd, tcp: ModbusTcpClient) -> None:
    _put(tcp, REMOTE, 30.0)
    assert end.instrument.memory_writes == 0
    _put(tcp, TARGET, 30.0)
    _put(tcp, 24, 31.0)
    assert end.instrument.memory_writes == 2


def test_closing_leaves_the_heater_off(
    end: EurothermEnd, tcp: ModbusTcpClient, simulation: ExsolutionSimulation
) -> None:
    _put(tcp, TARGET, 300.0)
    _until(lambda: _float(tcp, PV) > 295)
    end.close()
    world = simulation.world
    _until(lambda: world.history.celsius(world.clock.now_s()) < 26)


# --------------------------------------------------------------------- bad behaviour


class _Any:
    def read(self, address: int, count: int) -> list[int]:
        if address == 7:
            raise ModbusError(2)
        return [address & 0xFFFF] * count

    def write(self, address: int, values: list[int]) -> None:
        if address == 7:
            raise ModbusError(3)


@given(st.binary(max_size=260))
@settings(max_examples=800, deadline=None)
def test_any_request_has_one_reply_of_its_function(pdu: bytes) -> None:
    reply = answer(pdu, _Any())
    assert 2 <= len(reply) <= 253
    assert reply[0] & 0x7F == (pdu[0] & 0x7F if pdu else 0)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_in_frames_or_in_nothing(chunks: list[bytes]) -> None:
    held, waiting = bytearray(), list(chunks)

    def peek(_: float) -> bytes:
        if waiting:
            held.extend(waiting.pop(0))
        return bytes(held)

    def drop(count: int) -> None:
        del held[:count]

    for _ in range(len(chunks) * 40 + 2):
        if not waiting and not held:
            break
        frame = modbus.receive_frame(peek, drop)
        assert frame is None or crc(frame[:-2]) == frame[-2:]
    assert not waiting
    assert not held


def test_nonsense_on_one_connection_delays_no_other(
    end: EurothermEnd, tcp: ModbusTcpClient
) -> None:
    noise = random.Random(1)
    slowest = 0.0
    for port in ("rtu", "tcp"):
        for k in range(1000):
            if k % 50 == 0:
                begin = time.monotonic()
                assert _float(tcp, WORKING) == 25.0
                slowest = max(slowest, time.monotonic() - begin)
                bad = _connect(end, port)
            with contextlib.suppress(OSError):  # it was thrown out, as it should be
                bad.sendall(noise.randbytes(noise.randint(1, 300)))
            if k % 50 == 49:
                bad.close()
    assert slowest < 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"unit": 0},
        {"decimals": 3},
        {"highest": "5000 °C"},
        {"faults": {"melt": 0.1}},
        {"units": "F"},
    ],
)
def test_options_that_cannot_be_used_are_refused(
    simulation: ExsolutionSimulation, options: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"refused|there are"):
        serve(FarEndContext("oven", simulation.world.clock, simulation), **options)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_it_answers_on_a_serial_line(end: EurothermEnd) -> None:
    master, slave = os.openpty()
    stop = threading.Event()

    def relay(far: socket.socket) -> None:
        while not stop.is_set():
            ready, _, _ = select.select([master, far], [], [], 0.02)
            if master in ready:
                far.sendall(os.read(master, 1024))
            if far in ready:
                os.write(master, far.recv(1024))

    with _connect(end, "rtu") as far:
        thread = threading.Thread(target=relay, args=(far,))
        thread.start()
        client = ModbusSerialClient(os.ttyname(slave), baudrate=9600, timeout=PATIENCE_S)
        try:
            with serial.Serial(os.ttyname(slave), baudrate=9600):
                pass  # the terminal is raw from now on
            assert client.connect()
            assert _float(client, WORKING) == 25.0
        finally:
            client.close()
            stop.set()
            thread.join()
    os.close(master)
    os.close(slave)
