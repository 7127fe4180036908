"""The controller finds the temperature that growth needs, also when it knows the material badly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquire.engine.regulating import (
    BOLTZMANN_EV_PER_K,
    KELVIN_AT_0_CELSIUS,
    THAW_AFTER,
    Freezer,
    GrowthController,
    Tuning,
    effective_celsius,
    relative_sigma,
    wanted_growth,
)
from acquire.errors import MeasureError
from acquire.stream import Value

TARGET = 0.1


class Plant:
    """Growth by Arrhenius' law that is used up, averaged over a window as an estimator does."""

    def __init__(self, barrier_ev: float, start_celsius: float, fading_per_s: float = 1e-3) -> None:
        self._ev = barrier_ev
        self._fading_per_s = fading_per_s
        self._constant = math.log(TARGET) + self._over_kt(740.0)
        self.celsius = [start_celsius]
        self.growth: list[float] = []

    def _over_kt(self, celsius: float) -> float:
        return self._ev / (BOLTZMANN_EV_PER_K * (celsius + KELVIN_AT_0_CELSIUS))

    def step(self, wanted_celsius: float, rate: float) -> None:
        """One second."""
        move = min(rate, max(-rate, wanted_celsius - self.celsius[-1]))
        self.celsius.append(self.celsius[-1] + move)
        faded = self._fading_per_s * len(self.growth)
        self.growth.append(math.exp(self._constant - self._over_kt(self.celsius[-1]) - faded))


def _steered(
    plant: Plant, tuning: Tuning, duration_s: int, sigma: float = 0.0, seed: int = 0
) -> np.ndarray:
    """True growth over the target, second by second."""
    rng = np.random.default_rng(seed)
    window = int(tuning.window_s)
    controller = GrowthController(tuning, plant.celsius[0])
    setpoint = plant.celsius[0]
    for t in range(duration_s):
        plant.step(setpoint, tuning.rate_celsius_per_s)
        if t >= window and t % 2 == 0:
            measured = float(np.mean(plant.growth[-window:])) + sigma * rng.normal()
            before = effective_celsius(plant.celsius[-window:], tuning.barrier_ev)
            setpoint = controller.setpoint(
                float(t), t + 1.0, before, Value(measured, sigma), TARGET, TARGET
            )
    return np.array(plant.growth) / TARGET


@pytest.mark.parametrize("barrier_ev", [0.5, 0.68, 1.5, 1.75, 4.5])
@pytest.mark.parametrize("window_s", [60.0, 120.0])
def test_growth_is_held_though_the_barrier_is_known_within_a_factor_of_three(
    barrier_ev: float, window_s: float
) -> None:
    tuning = Tuning(500, 1000, 0.5, window_s=window_s, response_s=window_s)
    fading = 1e-3 * barrier_ev / 1.5  # as much heat to make up for
    ratio = _steered(Plant(barrier_ev, 700.0, fading), tuning, 2400)
    assert np.abs(ratio[-600:] - 1).max() < 0.05


def test_fading_growth_is_followed_without_a_lasting_error() -> None:
    ratio = _steered(Plant(1.75, 740.0, 2e-3), Tuning(500, 1000, 0.5), 1800)
    assert np.abs(ratio[900:].mean() - 1) < 0.005


def test_noise_is_averaged_and_not_amplified() -> None:
    plant = Plant(1.5, 740.0, 0.0)
    ratio = _steered(plant, Tuning(500, 1000, 0.5), 3000, sigma=0.03)
    assert ratio[600:].std() < 0.12
    assert abs(ratio[600:].mean() - 1) < 0.06


def test_the_first_measurement_changes_nothing() -> None:
    controller = GrowthController(Tuning(650, 850, 0.5), 712.3)
    assert controller.setpoint(5.0, 5.0, 712.3, Value(9.0, 0.1), TARGET, TARGET) == 712.3


def test_at_a_bound_nothing_winds_up() -> None:
    controller = GrowthController(Tuning(650, 850, 0.5), 840.0)
    for t in range(0, 3600, 2):
        at = controller.setpoint(float(t), float(t), 850.0, Value(0.01, 1e-3), TARGET, TARGET)
    assert at == 850.0
    moved = [
        controller.setpoint(float(t), float(t), 850.0, Value(0.2, 1e-3), TARGET, TARGET)
        for t in range(3600, 3660, 2)
    ]
    assert moved[2] < 850.0, "it leaves the bound at once, an hour of longing forgotten"
    assert moved[-1] < 835.0


def test_time_in_a_pause_does_not_count() -> None:
    paused, straight = (GrowthController(Tuning(650, 850, 0.5), 700.0) for _ in range(2))
    low = Value(0.05, 1e-3)
    for controller in (paused, straight):
        controller.setpoint(0.0, 0.0, 700.0, low, TARGET, TARGET)
    paused.skip(500.0)
    later = paused.setpoint(502.0, 502.0, 700.0, low, TARGET, TARGET)
    assert later == pytest.approx(straight.setpoint(2.0, 2.0, 700.0, low, TARGET, TARGET))


def test_the_less_is_known_the_less_is_done() -> None:
    moves = []
    for sigma in (0.0, 0.02, 0.05, 0.1):
        controller = GrowthController(Tuning(650, 850, 0.5), 700.0)
        for t in (0.0, 2.0):
            at = controller.setpoint(t, t, 700.0, Value(0.05, sigma), TARGET, TARGET)
        moves.append(at - 700.0)
    assert moves == sorted(moves, reverse=True)
    assert 0 < moves[-1] < 0.2 * moves[0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-10, 10), st.floats(0, 10), st.floats(-1, 1), st.floats(600, 900)),
        min_size=1,
        max_size=50,
    )
)
def test_whatever_is_measured_the_setpoint_stays_within_its_bounds(
    measured: list[tuple[float, float, float, float]],
) -> None:
    controller = GrowthController(Tuning(650, 850, 0.5), 700.0)
    for t, (value, sigma, wanted, celsius) in enumerate(measured):
        at = controller.setpoint(2.0 * t, 2.0 * t + 1, celsius, Value(value, sigma), wanted, TARGET)
        assert 650 <= at <= 850


@given(st.lists(st.floats(20, 1200), min_size=1, max_size=20), st.floats(0.5, 4.5))
def test_the_effective_temperature_grows_as_much_as_the_real_ones(
    celsius: list[float], barrier_ev: float
) -> None:
    effective = effective_celsius(celsius, barrier_ev)
    assert min(celsius) - 1e-6 <= effective <= max(celsius) + 1e-6

    def grown(at: float) -> float:
        return math.exp(-barrier_ev / (BOLTZMANN_EV_PER_K * (at + KELVIN_AT_0_CELSIUS)))

    assert grown(effective) == pytest.approx(sum(map(grown, celsius)) / len(celsius), rel=1e-6)


def test_doubt_is_judged_by_what_is_wanted_where_growth_is_almost_nothing() -> None:
    assert relative_sigma(Value(0.2, 0.05), TARGET) == pytest.approx(0.25)
    assert relative_sigma(Value(0.0, 0.01), TARGET) == pytest.approx(0.2)
    assert math.isnan(relative_sigma(Value(0.2, math.nan), TARGET))


def test_a_size_asks_for_the_growth_that_closes_its_gap() -> None:
    assert wanted_growth(3.0, 4.0, 0.0, 60.0) == pytest.approx(1 / 3)
    assert wanted_growth(4.0, 4.0, 0.1, 60.0) == pytest.approx(0.1)
    assert wanted_growth(4.5, 4.0, 0.0, 60.0) < 0


def test_a_rest_is_told_once_and_ends_after_some_good_estimates() -> None:
    freezer = Freezer()
    assert freezer.reason == "there is no estimate yet"
    assert [freezer.bad("silent"), freezer.bad("blank")] == [True, False], (
        "the first reason is told"
    )
    assert [freezer.good() for _ in range(THAW_AFTER + 2)] == [False, False, True, False, False]
    assert freezer.reason == ""
    assert [freezer.bad("blank"), freezer.bad("stale")] == [True, False]
    assert freezer.reason == "stale"
    told = [freezer.good(), freezer.bad("blank"), freezer.good(), freezer.good(), freezer.good()]
    assert told == [False, False, False, False, True]


SLOW = Tuning(650.0, 850.0, 0.02)


def _learned(growth: float, until_s: float) -> tuple[GrowthController, float]:
    """A controller that has seen a growth for some time, and where the slow temperature is by then."""
    controller, held = GrowthController(SLOW, 700.0), 700.0
    for t_s in np.arange(0.0, until_s, 2.0):
        asked = controller.setpoint(t_s, t_s + 0.5, held, Value(growth, 0.005), TARGET, TARGET)
        held += max(-0.04, min(0.04, asked - held))
    return controller, held


@pytest.mark.parametrize("what", ["celsius", "growth", "wanted"])
def test_what_is_not_finite_is_refused_and_heats_nothing(what: str) -> None:
    controller, _ = _learned(0.1, 20.0)
    given = {"celsius": 700.0, "growth": 0.1, "wanted": TARGET} | {what: math.nan}
    with pytest.raises(MeasureError, match="must be finite"):
        controller.setpoint(
            20.0, 20.5, given["celsius"], Value(given["growth"], 0.005), given["wanted"], TARGET
        )
    after = controller.setpoint(22.0, 22.5, 700.0, Value(0.1, 0.005), TARGET, TARGET)
    assert after == pytest.approx(700.0)


def test_the_first_measurement_after_a_rest_leaves_the_temperature_where_it_is() -> None:
    controller, held = _learned(0.05, 200.0)
    assert held < 705, "it was on its way to much more"
    controller.rest(held)
    first = controller.setpoint(900.0, 900.5, held, Value(0.05, 0.005), TARGET, TARGET)
    assert first == pytest.approx(held)
    second = controller.setpoint(902.0, 902.5, held, Value(0.05, 0.005), TARGET, TARGET)
    assert held < second < held + 5, "and it goes on from there"


def test_a_frame_from_before_a_pause_that_comes_late_does_not_bring_its_time_back() -> None:
    late, _ = _learned(0.09, 60.0)
    prompt, _ = _learned(0.09, 60.0)
    for controller in (late, prompt):
        controller.skip(600.0)
    late.setpoint(60.0, 662.0, 700.0, Value(0.09, 0.005), TARGET, TARGET)
    found = [
        controller.setpoint(662.0, 662.5, 700.0, Value(0.09, 0.005), TARGET, TARGET)
        for controller in (late, prompt)
    ]
    assert found[0] == pytest.approx(found[1])
