"""The far end of the source-meter sources, limits and measures as the instrument does, also with broken wires."""

from __future__ import annotations

import pytest

from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation
from simulators.wires.source_meter import SourceMeterEnd, serve
from tests.wires.source_meter.conftest import (
    COMPLIANCE,
    FOUR_WIRE,
    RANGE_COMPLIANCE,
    RATE,
    Client,
    until,
)


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
    until(lambda: world.history.celsius(world.clock.now_s()) < 26)
    getattr(end.instrument, defect)(False)
    heating.write(":OUTP ON")
    assert heating.ask(":OUTP?") == "1"


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
