"""Clients of the source-meter's far end: others' programs, several at once, serial lines, nonsense."""

from __future__ import annotations

import os
import random
import select
import sys
import threading
import time
import tracemalloc

import pytest
import serial
from pymeasure.adapters import SerialAdapter
from pymeasure.instruments.keithley import Keithley2400

from acquire.clock import VirtualClock
from acquire.errors import ConfigError, InstrumentError
from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation
from simulators.wires.source_meter import SourceMeterEnd, serve
from tests.wires.source_meter.conftest import FOUR_WIRE, PATIENCE_S, Client, until


def test_the_output_stays_on_when_its_client_leaves_and_goes_off_with_the_far_end(
    heating: Client, end: SourceMeterEnd, simulation: ExsolutionSimulation
) -> None:
    heating.write(":SOUR:CURR 5e-3", ":OUTP ON")
    heating.reading()
    heating.socket.close()
    other = Client(end)
    assert other.ask(":OUTP?") == "1"
    other.socket.close()
    with pytest.raises(InstrumentError, match="source-meter"):
        simulation.chip.ramp(simulation.world.clock.now_s(), 100.0, 10.0)
    end.close()
    world = simulation.world
    until(lambda: world.history.celsius(world.clock.now_s()) < 26)
    simulation.chip.hold(world.clock.now_s())


def test_a_long_reading_of_one_client_does_not_hold_up_another(
    heating: Client, end: SourceMeterEnd
) -> None:
    heating.write(":SOUR:CURR 1e-3;:OUTP ON;:SENS:VOLT:NPLC 10;:TRIG:COUN 1000")
    heating.write(":READ?")
    other = Client(end)
    begin = time.monotonic()
    assert other.ask("*OPC?") == "1"
    assert time.monotonic() - begin < 0.5
    other.socket.close()


def test_nonsense_crashes_nothing_fills_no_memory_and_delays_nobody(end: SourceMeterEnd) -> None:
    noise, good, bad = random.Random(5), Client(end), Client(end)
    words = [b":SOUR", b":CURR", b"?", b";", b"'", b'"', b",", b"*RST", b" ", b"1e9", b":", b"\x03"]
    slowest = 0.0
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for k in range(2500):
        kind = k % 3
        if kind == 0:
            line = noise.randbytes(noise.randint(1, 80))
        elif kind == 1:
            line = b"".join(noise.choices(words, k=noise.randint(1, 20)))
        else:
            line = b"A" * noise.randint(1, 9000)
        bad.socket.sendall(line + b"\n")
        if k % 100 == 0:
            begin = time.monotonic()
            assert good.ask("*OPC?") == "1"
            slowest = max(slowest, time.monotonic() - begin)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert slowest < 0.5
    assert grown < 10e6
    assert good.ask("*IDN?").startswith("KEITHLEY")
    good.socket.close()
    bad.socket.close()


def test_its_replies_suffer_faults_on_demand(end: SourceMeterEnd, client: Client) -> None:
    end.faults.next("duplicate")
    assert client.ask("*OPC?") == "1"
    assert client.read() == "1"
    end.faults.next("lose")
    client.write("*IDN?")
    assert client.says_nothing()
    assert client.ask("*OPC?") == "1"


@pytest.mark.parametrize(
    "options",
    [
        {"measures": "chip"},
        {"terminator": "EOF"},
        {"model": "24,00"},
        {"faults": {"slow": 2.0}},
    ],
)
def test_options_that_cannot_be_used_are_refused(
    simulation: ExsolutionSimulation, options: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"refused|must be|needed"):
        serve(FarEndContext("smu", simulation.world.clock, simulation), **options)  # type: ignore[arg-type]


def test_a_virtual_clock_and_an_unknown_port_are_refused(simulation: ExsolutionSimulation) -> None:
    with pytest.raises(ValueError, match="virtual"):
        serve(FarEndContext("smu", VirtualClock(), simulation))
    with pytest.raises(ConfigError, match="gpib"):
        serve(
            FarEndContext(
                "smu", simulation.world.clock, simulation, {"gpib": "127.0.0.1:0"}, "s.toml"
            )
        )


def test_two_far_ends_cannot_share_one_heater(
    end: SourceMeterEnd, simulation: ExsolutionSimulation
) -> None:
    with pytest.raises(InstrumentError, match="already"):
        serve(FarEndContext("second", simulation.world.clock, simulation))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_pymeasure_talks_to_it(end: SourceMeterEnd, simulation: ExsolutionSimulation) -> None:
    port = serial.serial_for_url(end.addresses["scpi"], timeout=PATIENCE_S)
    adapter = SerialAdapter(port, write_termination="\n", read_termination="\n")
    smu = Keithley2400(adapter)
    try:
        assert smu.id.startswith("KEITHLEY INSTRUMENTS INC.,MODEL 2400")
        smu.reset()
        smu.apply_current(compliance_voltage=5)
        smu.wires = 4
        smu.measure_voltage(nplc=1)
        smu.auto_zero_enabled = False
        smu.source_current = 1e-3
        smu.enable_source()
        assert smu.voltage == pytest.approx(0.123, abs=0.002)
        everything = smu.measure_all()
        assert everything["resistance"] == pytest.approx(123, abs=2)
        assert everything["status"] & FOUR_WIRE
        smu.config_buffer(5)
        smu.start_buffer()
        smu.wait_for_buffer(timeout=PATIENCE_S)
        assert len(smu.buffer_data) == 25
        smu.source_current = 5.8e-3
        assert smu.voltage > 1
        smu.shutdown()
        assert smu.check_errors() == []
        assert not end.instrument.output
    finally:
        port.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_it_answers_on_a_serial_line(end: SourceMeterEnd) -> None:
    client = Client(end)
    master, slave = os.openpty()
    stop = threading.Event()

    def relay() -> None:
        while not stop.is_set():
            ready, _, _ = select.select([master, client.socket], [], [], 0.02)
            if master in ready:
                client.socket.sendall(os.read(master, 1024))
            if client.socket in ready:
                os.write(master, client.socket.recv(1024))

    thread = threading.Thread(target=relay)
    with serial.Serial(os.ttyname(slave), baudrate=9600, timeout=PATIENCE_S) as line:
        thread.start()
        try:
            line.write(b"*IDN?\r")
            assert line.readline().startswith(b"KEITHLEY INSTRUMENTS INC.,MODEL 2400")
            line.write(b":SENS:VOLT:PROT?\r\n")
            assert line.readline() == b"2.100000E+01\n"
        finally:
            stop.set()
            thread.join()
    client.socket.close()
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("nothing", ["\n", " \n", ";\n", "\r\n"])
def test_messages_without_anything_in_them_cost_nothing(
    end: SourceMeterEnd, client: Client, nothing: str
) -> None:
    # each looked at by itself would take the processor from all other clients for seconds
    began_s = time.process_time()
    client.socket.sendall(nothing.encode() * (200_000 // len(nothing)))
    assert client.ask("*IDN?").startswith("KEITHLEY")
    assert time.process_time() - began_s < 0.25
    assert client.errors() == []
