"""The far end of the source-meter, as anyone's SCPI client sees it: raw sockets, pyserial, PyMeasure."""

from __future__ import annotations

import os
import random
import select
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import serial
from pymeasure.adapters import SerialAdapter
from pymeasure.instruments.keithley import Keithley2400

from acquire.clock import VirtualClock, WallClock
from acquire.errors import ConfigError, InstrumentError
from acquire.farends import FarEnd, FarEndContext
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.source_meter import SourceMeterEnd, serve

RATE = 10.0
PATIENCE_S = 3.0
SILENT_S = 0.15
COMPLIANCE, RANGE_COMPLIANCE, FOUR_WIRE = 1 << 3, 1 << 16, 1 << 22


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=1, draft=True, specimen="blank_film")


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[SourceMeterEnd]:
    made = serve(FarEndContext("smu", simulation.world.clock, simulation))
    yield made
    simulation.chip.mend()
    made.close()


class Client:
    """A line of text there, a line of text back."""

    def __init__(self, end: FarEnd) -> None:
        host, _, port = end.addresses["scpi"].removeprefix("socket://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._held = b""

    def write(self, *lines: str) -> None:
        self.socket.sendall("".join(line + "\n" for line in lines).encode())

    def read(self) -> str:
        while b"\n" not in self._held:
            came = self.socket.recv(65536)
            if not came:
                raise ConnectionError("the far end closed")
            self._held += came
        line, _, self._held = self._held.partition(b"\n")
        return line.decode()

    def ask(self, line: str) -> str:
        self.write(line)
        return self.read()

    def reading(self, query: str = ":READ?") -> list[float]:
        return [float(part) for part in self.ask(query).split(",")]

    def says_nothing(self) -> bool:
        ready, _, _ = select.select([self.socket], [], [], SILENT_S)
        return not ready and not self._held

    def errors(self) -> list[int]:
        found = []
        while code := int(self.ask(":SYST:ERR?").split(",")[0]):
            found.append(code)
        return found


@pytest.fixture
def client(end: SourceMeterEnd) -> Iterator[Client]:
    made = Client(end)
    yield made
    made.socket.close()


@pytest.fixture
def heating(client: Client) -> Client:
    """A client that has set up a current source with four wires, the output off."""
    client.write("*RST", "*CLS", ":SYST:RSEN 1;:SYST:AZER OFF", ":SOUR:FUNC CURR")
    client.write(":SENS:FUNC:OFF:ALL", ":SENS:FUNC 'VOLT','CURR'", ":SENS:VOLT:PROT 10")
    client.write(":SENS:VOLT:NPLC 1")
    assert client.errors() == []
    return client


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


# --------------------------------------------------------------------- the language


def test_it_says_who_it_is(client: Client) -> None:
    maker, model, _, _ = client.ask("*IDN?").split(",", 3)
    assert (maker, model) == ("KEITHLEY INSTRUMENTS INC.", "MODEL 2400")


@pytest.mark.parametrize(
    "header",
    [
        ":SOURCE:CURRENT:LEVEL:IMMEDIATE:AMPLITUDE",
        ":sour:curr",
        "SOUR1:CURR:LEV",
        "Source:Curr:Ampl",
    ],
)
def test_headers_come_short_long_and_in_any_case(client: Client, header: str) -> None:
    client.write(f"{header} 1e-3")
    assert float(client.ask(f"{header}?")) == pytest.approx(1e-3)
    assert client.errors() == []


def test_several_commands_and_queries_go_in_one_line(client: Client) -> None:
    client.write(":SOUR:FUNC CURR;CURR 2E-3;:SYST:RSEN ON;")
    assert client.ask(":SOUR:FUNC?;CURR?;*OPC?;:SYST:RSEN?") == "CURR;2.000000E-03;1;1"


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
def test_messages_end_with_cr_or_lf_or_both(client: Client, ending: str) -> None:
    client.socket.sendall(f"*OPC?{ending}".encode())
    assert client.read() == "1"
    assert client.says_nothing()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":FOO:BAR 1", -113),
        (":SYST :ERR?", -113),
        (":SENS:VOLT:DC:RANG100", -113),
        ("*FOO", -113),
        (":SOUR:CURR", -109),
        (":SOUR:CURR 1,2", -108),
        ("*RST 1", -108),
        (":SOUR:CURR abc", -104),
        (":SOUR:CURR nan", -104),
        (":SOUR:CURR inf", -104),
        (":SOUR:CURR 1.06", -222),
        (":SOUR:CURR 1e999", -222),
        (":SENS:VOLT:PROT 211", -222),
        (":SENS:VOLT:NPLC 11", -222),
        (":OUTP:SMOD FLOAT", -224),
        (":SENS:FUNC 'VOLT", -151),
        ("\u00b5", -101),
        ("x" * 5000, -363),
    ],
)
def test_what_is_wrong_gets_its_number_and_nothing_changes(
    client: Client, message: str, code: int
) -> None:
    client.write("*RST", message)
    assert client.errors() == [code]
    assert client.ask(":SOUR:CURR?;:OUTP?") == "0.000000E+00;0"


def test_errors_queue_up_in_order_and_overflow(client: Client) -> None:
    client.write("*CLS", ":FOO", ":SOUR:CURR", *[":FOO"] * 12)
    errors = client.errors()
    assert errors[:3] == [-113, -109, -113]
    assert (len(errors), errors[-1]) == (10, -350)
    assert client.ask(":SYST:ERR?") == '0,"No error"'
    assert int(client.ask("*ESR?")) & 0x20
    assert client.ask("*ESR?") == "0"


def test_clearing_the_status_forgets_errors(client: Client) -> None:
    client.write(":FOO", "*CLS")
    assert client.ask(":SYST:ERR?") == '0,"No error"'


def test_reset_switches_off_and_goes_back_to_the_manuals_defaults(heating: Client) -> None:
    heating.write(":SOUR:CURR 1e-3", ":OUTP ON", "*RST")
    assert heating.ask(":OUTP?;:SOUR:FUNC?;:SYST:RSEN?;:SENS:VOLT:PROT?") == (
        "0;VOLT;0;2.100000E+01"
    )


def test_elements_are_told_in_their_own_order(heating: Client) -> None:
    heating.write(":FORM:ELEM TIME, RESISTANCE, CURRENT", ":SENS:FUNC 'RES'")
    heating.write(":SOUR:CURR 1e-3;:OUTP ON")
    assert heating.ask(":FORM:ELEM?") == "CURR,RES,TIME"
    ampere, ohm, _ = heating.reading()
    assert (ampere, ohm) == (pytest.approx(1e-3, rel=1e-4), pytest.approx(123, abs=2))


def test_what_is_not_measured_is_told_as_no_number(heating: Client) -> None:
    heating.write(":SOUR:CURR 1e-3;:OUTP ON")
    assert heating.reading()[2] == 9.91e37


# ------------------------------------------------------------------ source and limits


def test_a_current_heats_the_chip_and_the_reading_tells_its_temperature(
    heating: Client, simulation: ExsolutionSimulation
) -> None:
    heating.write(":SOUR:CURR 5.8e-3", ":OUTP ON")
    heating.reading()
    volt, ampere, _, _, status = heating.reading()
    celsius = simulation.chip.temperature_celsius(volt / ampere)
    world = simulation.world
    assert celsius == pytest.approx(world.history.celsius(world.clock.now_s()), abs=1)
    assert 780 < celsius < 830
    assert int(status) & FOUR_WIRE
    assert not int(status) & COMPLIANCE


def test_two_wires_measure_the_leads_as_if_they_were_hot(
    heating: Client, simulation: ExsolutionSimulation
) -> None:
    heating.write(":SOUR:CURR 1e-3", ":OUTP ON")
    four = heating.reading()
    heating.write(":SYST:RSEN 0")
    two = heating.reading()
    assert two[0] / two[1] - four[0] / four[1] == pytest.approx(6.0, abs=0.3)
    assert not int(two[4]) & FOUR_WIRE


def test_compliance_limits_for_real_and_is_told_everywhere(heating: Client) -> None:
    heating.write(":SENS:VOLT:PROT 0.5", ":SOUR:CURR 6e-3", ":OUTP ON")
    volt, ampere, _, _, status = heating.reading()
    assert volt == pytest.approx(0.5, abs=1e-4)
    assert ampere < 5e-3
    assert int(status) & COMPLIANCE
    assert heating.ask(":SENS:VOLT:PROT:TRIP?") == "1"
    assert int(heating.ask(":STAT:MEAS:COND?")) & 1 << 14
    assert int(heating.ask(":STAT:MEAS?")) & 1 << 14
    assert not int(heating.ask(":STAT:MEAS?")) & 1 << 14


def test_a_fixed_range_limits_too_and_says_that_it_was_the_range(heating: Client) -> None:
    heating.write(":SENS:VOLT:RANG 0.2", ":SOUR:CURR 6e-3", ":OUTP ON")
    volt, _, _, _, status = heating.reading()
    assert volt == pytest.approx(0.21, abs=1e-4)
    assert int(status) & RANGE_COMPLIANCE
    assert not int(status) & COMPLIANCE


def test_a_level_is_as_fine_as_its_range(heating: Client) -> None:
    heating.write(":SOUR:CURR:RANG 10e-3", ":SOUR:CURR 5.8001e-3")
    assert float(heating.ask(":SOUR:CURR?")) == pytest.approx(5.8e-3, abs=1e-9)
    heating.write(":SOUR:CURR 11e-3")
    assert heating.errors() == [-222]
    assert float(heating.ask(":SOUR:CURR?")) == pytest.approx(5.8e-3, abs=1e-9)


def test_more_than_its_power_is_refused(heating: Client) -> None:
    heating.write(":SENS:VOLT:PROT 100", ":SOUR:CURR 0.2")
    assert heating.errors() == [826]
    heating.write(":SENS:VOLT:PROT 20", ":SOUR:CURR 0.2", ":SENS:VOLT:PROT 100")
    assert heating.errors() == [826]
    assert heating.ask(":SENS:VOLT:PROT?") == "2.000000E+01"


def test_ranges_and_compliance_must_fit_each_other(heating: Client) -> None:
    heating.write(":SENS:VOLT:PROT 1", ":SENS:VOLT:RANG 20")
    assert heating.errors() == [824]
    heating.write(":SENS:CURR:RANG 1e-3")  # what is sourced
    assert heating.errors() == [-221]


def test_without_output_there_is_an_error_and_no_reading(heating: Client) -> None:
    heating.write(":READ?")
    assert heating.says_nothing()
    assert heating.ask(":SYST:ERR?") == '+803,"Not permitted with OUTPUT off"'


def test_automatic_off_switches_on_for_the_reading_alone(heating: Client) -> None:
    heating.write(":SOUR:CURR 1e-3", ":SOUR:CLE:AUTO ON")
    assert heating.reading()[1] == pytest.approx(1e-3, rel=1e-4)
    assert heating.ask(":OUTP?") == "0"


def test_readings_take_their_line_cycles(heating: Client, simulation: ExsolutionSimulation) -> None:
    heating.write(":SOUR:CURR 1e-3;:OUTP ON")
    for cycles, zero, expected in ((10, "OFF", 0.2), (2, "OFF", 0.04), (10, "ON", 0.6)):
        heating.write(f":SENS:VOLT:NPLC {cycles};:SYST:AZER {zero}")
        first, second = heating.reading()[3], heating.reading()[3]
        assert second - first >= expected
        assert second - first < expected + 0.1 * RATE


# --------------------------------------------------------------------------- defects


def test_an_open_heater_shows_as_compliance_without_current(
    heating: Client, simulation: ExsolutionSimulation
) -> None:
    heating.write(":SENS:FUNC 'RES'", ":SOUR:CURR 5e-3", ":OUTP ON")
    simulation.chip.fail(simulation.world.clock.now_s(), "open_heater")
    heating.reading()
    volt, ampere, ohm, _, status = heating.reading()
    assert volt == pytest.approx(10.0, abs=1e-3)
    assert abs(ampere) < 1e-8
    assert ohm == 9.9e37
    assert int(status) & COMPLIANCE
    assert int(status) & 1


def test_a_lost_sense_wire_reads_far_below_any_heater(
    heating: Client, simulation: ExsolutionSimulation
) -> None:
    heating.write(":SOUR:CURR 5e-3", ":OUTP ON")
    simulation.chip.fail(simulation.world.clock.now_s(), "lost_sense")
    heating.reading()
    volt, ampere, *_ = heating.reading()
    assert volt / ampere < 20


def test_the_output_enable_line_is_heeded_only_when_it_is_enabled_and_a_reset_ends_that(
    heating: Client, end: SourceMeterEnd
) -> None:
    assert heating.ask(":OUTP:ENAB?") == "0"
    assert heating.ask(":OUTP:ENAB:TRIP?") == "1"
    end.instrument.interlock()
    assert heating.ask(":OUTP:ENAB:TRIP?") == "0"
    heating.write(":SOUR:CURR 1e-4", ":OUTP ON")
    assert heating.ask(":OUTP?") == "1"
    heating.write(":OUTP:ENAB ON")
    assert heating.ask(":OUTP?") == "0"
    heating.write("*RST")
    assert heating.ask(":OUTP:ENAB?") == "0"


@pytest.mark.parametrize(("defect", "code", "bit"), [("overheat", 810, 12), ("interlock", 802, 11)])
def test_an_overheated_or_opened_instrument_switches_off_and_stays_off(
    heating: Client,
    end: SourceMeterEnd,
    simulation: ExsolutionSimulation,
    defect: str,
    code: int,
    bit: int,
) -> None:
    heating.write(":OUTP:ENAB ON", ":SOUR:CURR 5e-3", ":OUTP ON")
    heating.reading()
    getattr(end.instrument, defect)()
    assert heating.ask(":OUTP?") == "0"
    heating.write(":OUTP ON")
    assert heating.errors() == [code]
    condition = int(heating.ask(":STAT:MEAS:COND?"))
    assert bool(condition & 1 << bit) is (defect == "overheat")
    world = simulation.world
    _until(lambda: world.history.celsius(world.clock.now_s()) < 26)
    getattr(end.instrument, defect)(False)
    heating.write(":OUTP ON")
    assert heating.ask(":OUTP?") == "1"


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
    _until(lambda: world.history.celsius(world.clock.now_s()) < 26)
    simulation.chip.hold(world.clock.now_s())


# --------------------------------------------------------------------- bad behaviour


@pytest.mark.parametrize("clear", [b"\x03", b"\x18"])
def test_a_device_clear_ends_a_long_reading_and_its_reply(heating: Client, clear: bytes) -> None:
    heating.write(":SOUR:CURR 1e-3;:OUTP ON;:SENS:VOLT:NPLC 10;:TRIG:COUN 2000")
    heating.write(":READ?")
    assert heating.says_nothing()
    heating.socket.sendall(clear)
    begin = time.monotonic()
    assert heating.ask("*OPC?") == "1"
    assert time.monotonic() - begin < 0.5
    heating.write(":TRIG:COUN 1")


def test_a_device_clear_forgets_a_message_that_was_not_complete(client: Client) -> None:
    client.socket.sendall(b":SOUR:CURR 1e\x03")
    assert client.ask(":SOUR:CURR?") == "0.000000E+00"
    assert client.errors() == []


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


# ---------------------------------------------------------------- clients of others


def test_the_films_resistance_is_measured_beside_the_heater(
    end: SourceMeterEnd, simulation: ExsolutionSimulation
) -> None:
    clock = simulation.world.clock
    film = serve(FarEndContext("film", clock, simulation), measures="film")
    client = Client(film)
    client.write(":SYST:RSEN 1;:SOUR:FUNC CURR;:SOUR:CURR 1e-6;:SENS:VOLT:PROT 20")
    client.write(":SENS:FUNC 'VOLT','CURR','RES'", ":OUTP ON")
    client.reading()
    ohm = client.reading()[2]
    specimen = simulation.world.specimen
    thickness_m = specimen.film.settings.thickness_nm * 1e-9
    sheet = specimen.resistivity_ohm_m(clock.now_s()) / thickness_m
    assert ohm == pytest.approx(0.22064 * sheet, rel=1e-3)
    client.socket.close()
    film.close()


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
