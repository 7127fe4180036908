"""The critical diameter comes out of looks at growing particles, or is refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest

from acquire.errors import MeasureError
from acquire.measure.crystallinity import Follower, critical_diameter

Looks = tuple[np.ndarray, np.ndarray, np.ndarray]


def _grown(
    seed: int,
    count: int = 8,
    looks: int = 90,
    until_nm: float = 5.0,
    scatter_nm: float = 0.02,
    missed: float = 0.0,
) -> Looks:
    """Droplets of 2.9 nm that grow by 0.015 nm a look; crystals flicker from 3 nm and stay above 3.83 ± 0.08."""
    rng = np.random.default_rng(seed)
    diameters, crystals, names = [], [], []
    for name in range(count):
        own = rng.normal(3.83, 0.08)
        true = np.minimum(2.9 + rng.uniform(0, 0.1) + 0.015 * np.arange(looks), until_nm)
        part = np.clip((true - 3.0) / (own - 3.0), 0, 1)
        chance = np.where(part > 0, 0.2 + 0.3 * part, 0.0)
        crystal = (true >= own) | (rng.random(looks) < chance)
        diameters.append(true + rng.normal(0, scatter_nm, looks))
        crystals.append(crystal & (rng.random(looks) >= missed))
        names.append(np.full(looks, name))
    return np.concatenate(diameters), np.concatenate(crystals), np.concatenate(names)


def test_the_published_value_is_recovered_with_an_honest_sigma() -> None:
    found = [critical_diameter(*_grown(seed)) for seed in range(8)]
    values = np.array([f.diameter_nm for f in found])
    sigmas = np.array([f.sigma_nm for f in found])
    assert abs(values.mean() - 3.83) < 0.03
    assert 0.02 < sigmas.mean() < 0.05
    assert np.std(values - 3.83) < 1.8 * sigmas.mean()
    assert all(f.flags == () and f.particles == 8 for f in found)
    assert 0.03 < np.mean([f.spread_nm for f in found]) < 0.13


def test_looks_that_missed_a_crystal_are_forgiven_when_the_power_says_so() -> None:
    looks = _grown(3, missed=0.1)
    told = critical_diameter(*looks, power=0.9)
    assert told.diameter_nm == pytest.approx(3.83, abs=0.1)
    untold = critical_diameter(*looks)
    assert abs(untold.diameter_nm - 3.83) > abs(told.diameter_nm - 3.83)


def test_a_look_at_the_wrong_diameter_moves_little() -> None:
    diameter, crystal, name = _grown(5)
    before = critical_diameter(diameter, crystal, name)
    diameter, crystal = np.append(diameter, 4.6), np.append(crystal, False)
    after = critical_diameter(diameter, crystal, np.append(name, 2))
    assert after.diameter_nm == pytest.approx(before.diameter_nm, abs=before.sigma_nm)


def test_droplets_alone_have_not_reached_it() -> None:
    diameter, crystal, name = _grown(1, until_nm=3.3)
    assert critical_diameter(diameter, crystal, name).flags == ("not_reached",)
    assert critical_diameter(diameter, np.zeros(len(name), bool), name).flags == ("not_reached",)


def test_crystals_alone_bound_it_on_one_side_only() -> None:
    diameter, _, name = _grown(1)
    found = critical_diameter(diameter, np.ones(len(name), bool), name)
    assert found.flags == ("no_fluctuation",)
    assert np.isnan(found.diameter_nm)
    assert np.isnan(found.sigma_nm)


def test_two_particles_are_too_few() -> None:
    found = critical_diameter(*_grown(1, count=2))
    assert found.flags == ("few_particles",)
    assert np.isnan(found.diameter_nm)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    diameter, crystal, name = _grown(1, count=3)
    with pytest.raises(MeasureError, match="one of each"):
        critical_diameter(diameter[:-1], crystal, name)
    with pytest.raises(MeasureError, match="finite"):
        critical_diameter(np.where(name == 1, np.nan, diameter), crystal, name)


def _watch(sequence: str, power: float = 1.0) -> Follower:
    follower = Follower(stable_for_s=4.0, stable_looks=4, false_positive_rate=0.001)
    for t_s, letter in enumerate(sequence):
        seen = np.array([letter == "c"])
        follower.look(float(t_s), np.array([7]), seen, np.array([power]))
    return follower


def test_a_crystal_is_stable_from_where_it_has_stayed() -> None:
    value, upper = _watch("..c..cc.cccccc").first_stable()
    assert value.value == pytest.approx(7.5)  # between the last look without and the first with
    assert value.sigma == pytest.approx(12**-0.5)
    assert not upper


def test_a_crystal_that_goes_again_was_not_stable() -> None:
    value, _ = _watch("..cccc.cccc.").first_stable()
    assert np.isnan(value.value)


def test_a_miss_is_forgiven_only_where_the_power_allows_it() -> None:
    value = _watch("..ccc.ccc", power=0.8).first_stable()[0]
    assert 1.5 < value.value < 1.5 + value.sigma < 5.5  # or it came with the last three
    assert np.isnan(_watch("..ccc.ccc", power=0.999).first_stable()[0].value)
    assert np.isnan(_watch("..cc...cc", power=0.8).first_stable()[0].value)


def test_a_crystal_from_the_first_look_gives_an_upper_limit_only() -> None:
    value, upper = _watch("cccccc").first_stable()
    assert (value.value, upper) == (0.0, True)
    assert np.isnan(value.sigma)


@pytest.mark.parametrize("power", [0.6, 0.9])
def test_the_time_of_a_crystal_that_is_often_missed_is_right_within_its_sigma(power: float) -> None:
    rng = np.random.default_rng(411)
    errors, sigmas = [], []
    for _ in range(100):
        follower = Follower(stable_for_s=15.0, stable_looks=8, false_positive_rate=0.001)
        for k in range(300):
            seen = np.array([k > 50 and rng.random() < power])
            follower.look(float(k), np.array([1]), seen, np.array([power]))
        value, upper = follower.first_stable()
        assert not upper
        errors.append(value.value - 50.5)
        sigmas.append(value.sigma)
    assert np.mean(np.abs(errors) > 3 * np.array(sigmas)) <= 0.05
    assert np.abs(np.mean(errors)) < 1.5 * np.median(sigmas) < 10.0
