"""The chip as a source-meter drives it: electricity, heat, defects, and a history that stays small."""

from __future__ import annotations

import math
import random
from typing import cast

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from acquire.errors import InstrumentError
from simulators.chip import ChipSettings, HeatingChip
from simulators.chip_electrical import STRAIGHT_CELSIUS, HeaterCircuit
from simulators.circuit import OFF, Source, operating_point
from simulators.film_resistance import FilmCircuit
from simulators.history import Relaxation, TemperatureHistory, ThermalTime
from simulators.specimen import Specimen, lived, named
from simulators.specimen.resistivity import resistivity_ohm_m

FUNCTIONALS = {"bulk": ThermalTime(2.5, 900.0), "slow": Relaxation(40.0)}


def _wired(
    history: TemperatureHistory | None = None,
) -> tuple[HeatingChip, TemperatureHistory, HeaterCircuit]:
    history = history or lived()
    chip = HeatingChip(history, ChipSettings(), 1)
    return chip, history, HeaterCircuit(chip, history, 0.0)


def _current(ampere: float, volt: float = 20.0, *, four_wire: bool = True) -> Source:
    return Source("current", ampere, volt, four_wire)


# ----------------------------------------------------------------------- electricity


def test_four_wires_see_the_resistance_and_two_see_the_leads_too() -> None:
    assert operating_point(_current(1e-3), 120.0, 6.0).volt == pytest.approx(0.120)
    assert operating_point(_current(1e-3, four_wire=False), 120.0, 6.0).volt == pytest.approx(0.126)


def test_compliance_limits_a_current_source_to_its_voltage() -> None:
    point = operating_point(_current(-10e-3, volt=0.6), 120.0, 6.0)
    assert point.limited
    assert (point.volt, point.ampere) == pytest.approx((-0.6, -5e-3))


def test_compliance_limits_a_voltage_source_to_its_current() -> None:
    point = operating_point(Source("voltage", 2.0, 1e-3, True), 120.0, 6.0)
    assert point.limited
    assert (point.volt, point.ampere) == pytest.approx((0.12, 1e-3))
    free = operating_point(Source("voltage", 2.0, 1.0, True), 120.0, 6.0)
    assert (free.volt, free.ampere, free.limited) == (2.0, pytest.approx(2 / 120), False)


def test_an_open_circuit_takes_all_of_the_compliance_and_no_current() -> None:
    point = operating_point(_current(5e-3, volt=21.0), math.inf, 6.0)
    assert (point.limited, point.volt) == (True, 21.0)
    assert abs(point.ampere) < 1e-9


# ------------------------------------------------------------------------------ heat


@pytest.mark.parametrize("ampere", [1e-3, 5.8e-3, 7e-3])
def test_a_current_settles_where_its_heat_is_lost(ampere: float) -> None:
    chip, history, circuit = _wired()
    circuit.connect(1.0, _current(ampere))
    celsius = history.celsius(2.0)
    heat_mw = ampere**2 * chip.resistance_ohm(celsius) * 1e3
    assert heat_mw == pytest.approx(chip.power_mw(celsius), rel=1e-3)
    point = circuit.mean(2.0, 2.02)
    assert point.volt / point.ampere == pytest.approx(chip.resistance_ohm(celsius))


@pytest.mark.parametrize(
    "source",
    [_current(6e-3), _current(6e-3, volt=1.2), Source("voltage", 1.5, 1.0, True)],
    ids=["current", "current in compliance", "voltage"],
)
def test_the_course_follows_the_equation_of_heat(source: Source) -> None:
    chip, history, circuit = _wired()
    circuit.connect(0.0, source)
    cold = chip.settings.time_constant_s
    capacity = cold * (chip.power_mw(25.5) - chip.power_mw(24.5))

    def rate(_: float, celsius: np.ndarray) -> list[float]:
        ohm = chip.resistance_ohm(float(celsius[0]))
        ampere = operating_point(source, ohm, circuit.settings.leads_ohm).ampere
        return [(ampere**2 * ohm * 1e3 - chip.power_mw(float(celsius[0]))) / capacity]

    times = np.linspace(0, 0.06, 61)
    exact = solve_ivp(rate, (0, 0.06), [25.0], t_eval=times, rtol=1e-9, atol=1e-9).y[0]
    simulated = [history.celsius(t) for t in times]
    # the steps' own error beside that of the straight lines, over a jump of hundreds of degrees
    assert np.abs(exact - simulated).max() < 0.5
    assert abs(exact[-1] - simulated[-1]) < 2 * STRAIGHT_CELSIUS


def test_switching_off_cools_to_the_surroundings() -> None:
    _, history, circuit = _wired()
    circuit.connect(0.0, _current(5.8e-3))
    circuit.connect(1.0, None)
    assert 300 < history.celsius(1.002) < 790
    assert history.celsius(1.2) == pytest.approx(25.0, abs=STRAIGHT_CELSIUS)
    assert circuit.mean(1.2, 1.3) == OFF


def test_the_same_source_again_changes_nothing() -> None:
    _, history, circuit = _wired()
    circuit.connect(0.0, _current(5.8e-3))
    before = history.knots
    for k in range(100):
        circuit.connect(1 + k * 0.02, _current(5.8e-3))
    assert history.knots == before


# --------------------------------------------------------------------------- defects


def test_an_open_heater_cools_and_the_source_hits_its_compliance() -> None:
    chip, history, circuit = _wired()
    circuit.connect(0.0, _current(5.8e-3, volt=10.0))
    chip.fail(1.0, "open_heater")
    assert history.celsius(1.1) == pytest.approx(25.0, abs=0.1)
    point = circuit.mean(1.1, 1.12)
    assert (point.limited, point.volt) == (True, 10.0)


def test_a_lost_sense_wire_hides_the_voltage_while_the_current_heats_on() -> None:
    chip, history, circuit = _wired()
    circuit.connect(0.0, _current(5.8e-3))
    hot, seen = history.celsius(1.0), circuit.mean(1.0, 1.0).volt
    chip.fail(1.0, "lost_sense")
    assert history.celsius(2.0) == pytest.approx(hot, abs=0.1)
    assert circuit.mean(2.0, 2.0).volt < 0.1 * seen


def test_too_much_current_burns_the_heater_for_good() -> None:
    chip, history, circuit = _wired()
    circuit.connect(1.0, _current(20e-3))
    assert max(history.celsius(1 + k * 1e-4) for k in range(100)) == pytest.approx(1450, abs=60)
    circuit.connect(2.0, None)
    circuit.connect(3.0, _current(1e-3))
    assert chip.defect == "open_heater"
    assert circuit.mean(3.1, 3.1).limited
    assert history.celsius(3.1) == pytest.approx(25.0, abs=0.1)


def test_a_pulse_that_ends_in_time_burns_nothing() -> None:
    chip, _, circuit = _wired()
    circuit.connect(1.0, _current(20e-3))
    circuit.connect(1.0 + 1e-5, None)
    circuit.mean(2.0, 2.0)
    assert chip.defect is None


def test_a_wired_chip_obeys_its_source_meter_alone() -> None:
    chip, history, circuit = _wired()
    with pytest.raises(InstrumentError, match="wired"):
        chip.ramp(1.0, 300.0, 10.0)
    with pytest.raises(InstrumentError, match="already"):
        HeaterCircuit(chip, history, 1.0)
    circuit.connect(2.0, _current(5.8e-3))
    circuit.release(3.0)
    assert history.celsius(3.2) == pytest.approx(25.0, abs=0.1)
    chip.ramp(4.0, 300.0, 1000.0)
    assert history.celsius(5.0) == pytest.approx(300.0, abs=0.1)


# --------------------------------------------------------------------------- history


def _hold_with_a_nervous_loop(history: TemperatureHistory, seconds: float) -> None:
    _, _, circuit = _wired(history)
    noise = random.Random(1)
    for k in range(round(seconds / 0.02)):
        circuit.connect(k * 0.02, _current(5.8e-3 + 5e-7 * round(noise.gauss(0, 1))))


def test_a_history_that_grows_every_20_ms_stays_bounded_and_true() -> None:
    fine, thinned = (
        TemperatureHistory(0.0, 25.0, FUNCTIONALS, most_knots=most) for most in (1 << 19, 2000)
    )
    for history in (fine, thinned):
        _hold_with_a_nervous_loop(history, 60.0)
    assert fine.knots > 5000
    assert thinned.knots < 2100
    assert thinned.celsius(59.99) == fine.celsius(59.99)
    for name in FUNCTIONALS:
        assert thinned.value(name, 60.0) == pytest.approx(fine.value(name, 60.0), rel=2e-3)
    assert thinned.celsius(1.0) == pytest.approx(fine.celsius(1.0), abs=2.0)


def test_thinning_keeps_what_was_told_of_functionals_in_the_past() -> None:
    history = TemperatureHistory(0.0, 25.0, FUNCTIONALS, most_knots=400)
    _, _, circuit = _wired(history)
    noise, told = random.Random(2), {}
    for k in range(1500):
        t = k * 0.02
        circuit.connect(t, _current(5.8e-3 + 5e-7 * round(noise.gauss(0, 1))))
        if k % 100 == 50:
            told[t] = history.value("bulk", t)
    for t, value in told.items():
        assert history.value("bulk", t) == pytest.approx(value, rel=5e-3)


# ------------------------------------------------------------------------------ film


class _Reducing:
    """A specimen of which more nickel is reduced every second."""

    film = named("blank_film", seed=1).film

    def resistivity_ohm_m(self, t_s: float) -> float:
        return resistivity_ohm_m(0.66 * t_s, 25.0)


def test_the_films_resistance_falls_more_than_a_thousandfold_on_exsolution() -> None:
    film = FilmCircuit(cast(Specimen, _Reducing()))
    fresh, reduced = film.resistance_ohm(0.0), film.resistance_ohm(1.0)
    thickness_m = _Reducing.film.settings.thickness_nm * 1e-9
    assert fresh == pytest.approx(math.log(2) / math.pi * 0.3 / thickness_m)
    assert fresh / reduced > 1e4


def test_the_film_obeys_ohm_and_compliance_with_two_and_four_wires() -> None:
    film = FilmCircuit(cast(Specimen, _Reducing()))
    film.connect(0.0, _current(1e-6))
    assert film.mean(1.0, 1.0).volt == pytest.approx(1e-6 * film.resistance_ohm(1.0))
    film.connect(0.0, _current(1e-6, four_wire=False))
    assert film.mean(1.0, 1.0).volt == pytest.approx(1e-6 * (film.resistance_ohm(1.0) + 300))
    film.connect(0.0, _current(1e-3))
    assert film.mean(0.0, 0.0).limited
    film.connect(0.0, None)
    assert film.mean(0.0, 0.0) == OFF
