"""Kinetics, nickel budget and sites of the simulated specimen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.spatial import cKDTree

from simulators.history import (
    BOLTZMANN_EV_PER_K,
    KELVIN_AT_0_CELSIUS,
    Relaxation,
    TemperatureHistory,
    ThermalTime,
)
from simulators.specimen import ACTIVATION_EV, REFERENCE_CELSIUS, View, named, summarise
from simulators.specimen.film import REGION_NM
from simulators.specimen.kinetics import NI_PER_NM3, Population

LSNT = "lsnt_nonstoichiometric"


def _thermal(*knots: tuple[float, float]) -> TemperatureHistory:
    history = TemperatureHistory(0.0, 25.0, {"t": ThermalTime(ACTIVATION_EV, REFERENCE_CELSIUS)})
    history.plan(0.0, knots)
    return history


def _visible(diameters: NDArray[np.float64]) -> NDArray[np.float64]:
    return diameters[diameters >= 2.0]


def test_mean_diameter_passes_the_critical_size_in_good_time_at_700_celsius() -> None:
    history = _thermal((135.0, 700.0))  # 5 °C/s
    for seed in (1, 2):
        specimen = named(LSNT, seed)

        def mean(after_s: float, specimen=specimen) -> float:  # type: ignore[no-untyped-def]
            found = _visible(specimen.diameters_nm(history.value("t", 135 + after_s)))
            return float(found.mean())

        assert mean(150) < 3.83 < mean(250)
        assert 60 * (mean(205) - mean(195)) / 10 < 1.0  # nm/min
        at_decision = _visible(specimen.diameters_nm(history.value("t", 135 + 200)))
        assert (at_decision < 2.5).mean() < 0.02


def test_nothing_is_visible_after_twenty_minutes_at_500_celsius() -> None:
    thermal_s = _thermal((95.0, 500.0)).value("t", 95 + 1200)
    assert len(_visible(named(LSNT, 1).diameters_nm(thermal_s))) == 0


@pytest.mark.parametrize(
    ("preset", "density", "diameter", "reduced"),
    [(LSNT, 795, 8.8, 0.66), ("lsnt_stoichiometric", 51, 10.7, 0.10)],
)
def test_ten_hours_at_900_celsius_give_the_published_population(
    preset: str, density: float, diameter: float, reduced: float
) -> None:
    specimen = named(preset, 1)
    thermal_s = _thermal((175.0, 900.0)).value("t", 36_000)
    found = _visible(specimen.diameters_nm(thermal_s))
    assert len(found) / (REGION_NM / 1000) ** 2 == pytest.approx(density, rel=0.02)
    assert found.mean() == pytest.approx(diameter, rel=0.02)
    assert specimen.ni_reduced_fraction(thermal_s) == pytest.approx(reduced, rel=0.01)


@given(st.floats(0, 1e7))
@settings(max_examples=50, deadline=None)
def test_nickel_in_particles_is_what_the_budget_says(thermal_s: float) -> None:
    specimen = _SHARED
    volume = math.pi / 6 * np.sum(specimen.diameters_nm(thermal_s) ** 3)
    assert specimen.ni_in_particles(thermal_s) == pytest.approx(
        volume * NI_PER_NM3, rel=1e-9, abs=1
    )
    assert specimen.ni_reduced_fraction(thermal_s) <= 0.66 * (1 + 1e-9)


_SHARED = named(LSNT, 1)


def test_supply_limited_growth_solves_its_differential_equation() -> None:
    population = _SHARED._population
    assert isinstance(population, Population)
    reachable = population.ni_in_particles(1e9)
    for thermal_s in (20.0, 60.0, 300.0, 3000.0):
        step = 1e-3 * thermal_s
        slope = (population.age_s(thermal_s + step) - population.age_s(thermal_s - step)) / (
            2 * step
        )
        assert slope == pytest.approx(
            1 - population.ni_in_particles(thermal_s) / reachable, rel=2e-4
        )


def test_particles_only_grow() -> None:
    sizes = np.array([_SHARED.diameters_nm(t) for t in np.geomspace(1, 1e6, 60)])
    assert np.all(np.diff(sizes, axis=0) >= 0)


@given(
    st.floats(20, 1200),
    st.floats(20, 1200),
    st.floats(0.01, 1e4),
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_thermal_time_does_not_depend_on_the_pattern_of_steps(
    begin: float, end: float, duration: float, cuts: list[float]
) -> None:
    thermal = ThermalTime(ACTIVATION_EV, REFERENCE_CELSIUS)
    whole = thermal.advance(0.0, duration, begin, end)
    value, last = 0.0, 0.0
    for cut in [*sorted(cuts), 1.0]:
        at = [begin + (end - begin) * part for part in (last, cut)]
        value = thermal.advance(value, (cut - last) * duration, *at)
        last = cut
    assert value == pytest.approx(whole, rel=1e-8, abs=1e-12)


def test_thermal_time_is_the_arrhenius_integral() -> None:
    a = ACTIVATION_EV / BOLTZMANN_EV_PER_K
    reference = REFERENCE_CELSIUS + KELVIN_AT_0_CELSIUS

    def rate(t: float) -> float:
        return math.exp(-a * (1 / (KELVIN_AT_0_CELSIUS + 25 + 5 * t) - 1 / reference))

    expected, _ = quad(rate, 0, 135, epsabs=0, epsrel=1e-10)
    thermal = ThermalTime(ACTIVATION_EV, REFERENCE_CELSIUS)
    assert thermal.advance(0.0, 135.0, 25.0, 700.0) == pytest.approx(expected, rel=1e-8)


def test_relaxation_follows_its_differential_equation() -> None:
    relaxation, y, n = Relaxation(40.0), 25.0, 20000
    for k in range(n):  # midpoint rule
        middle = y + 0.005 / 2 * ((25 + 5 * k * 0.005) - y) / 40
        y += 0.005 * ((25 + 5 * (k + 0.5) * 0.005) - middle) / 40
    assert relaxation.advance(25.0, 100.0, 25.0, 525.0) == pytest.approx(y, rel=1e-6)


def test_replacing_the_future_leaves_the_past_alone() -> None:
    history = _thermal((135.0, 700.0))
    past = (10.0, 100.0, 120.0)
    before = [history.value("t", t) for t in past]
    history.plan(120.0, [(130.0, 400.0)])
    assert [history.value("t", t) for t in past] == pytest.approx(before)
    assert [history.celsius(t) for t in past] == pytest.approx([75.0, 525.0, 625.0])
    assert history.celsius(125.0) == pytest.approx(512.5)
    assert history.celsius(1000.0) == 400.0


def test_most_sites_are_on_boundaries_and_none_overlap() -> None:
    specimen, x, y = _SHARED, _SHARED.sites.x_nm, _SHARED.sites.y_nm
    distance = np.array(
        [specimen.film.boundary_distance_nm(*p) for p in zip(x[::20], y[::20], strict=True)]
    )
    assert 0.8 < (distance < 0.1).mean() < 0.95
    box = np.array([REGION_NM, REGION_NM])
    pairs = cKDTree(np.column_stack([x, y]), boxsize=box).query_pairs(14.999)
    assert len(pairs) == 0


def test_a_view_that_leaves_the_region_sees_it_again() -> None:
    here, there = (View((x, 30.0), (64, 64), 2.0) for x in (-40.0, -40.0 + REGION_NM))
    one, other = (_SHARED.domes(view, 500.0) for view in (here, there))
    assert len(one) > 5
    assert np.array_equal(one.id, other.id)
    assert np.allclose(one.x_nm, other.x_nm)
    assert summarise(one, here).count == summarise(other, there).count


def test_seeds_give_different_specimens_and_the_same_seed_the_same() -> None:
    assert np.array_equal(named(LSNT, 1).sites.x_nm, _SHARED.sites.x_nm)
    assert not np.array_equal(named(LSNT, 2).sites.x_nm, _SHARED.sites.x_nm)


def test_an_unknown_specimen_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="reference_domes"):
        named("gold", 1)
    with pytest.raises(ValueError, match="grows its own"):
        named(LSNT, 1, [5.0])
