"""What heat does to the simulated specimen: the published populations, and laws that any run obeys."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simulators.specimen import PRESETS, Specimen, View, evolution, lived, named
from simulators.specimen.critical import critical_diameters_nm
from simulators.specimen.film import REGION_NM
from simulators.specimen.kinetics import MERGED, NI_PER_NM3, PRESENT, State
from simulators.specimen.motion import coalesce
from simulators.specimen.rates import ALONG_EV, BARRIERS_EV, BESIDE_EV, BULK_EV, Rates, exposure
from simulators.specimen.report import END_S, population, treated
from simulators.specimen.sites import BOUNDARY

LSNT = "lsnt_nonstoichiometric"
FULL = named(LSNT, 1)
# a tenth of the particles, for laws that do not ask how many there are
FEW = Specimen(replace(PRESETS[LSNT], sites_per_um2=180.0), 3)


@lru_cache(maxsize=4)
def heated(rise_s: float, celsius: float) -> Specimen:
    """All particles, heated in so many seconds and kept; whoever looks again pays for nothing twice."""
    return FULL.under(lived([(rise_s, celsius)]))


def _visible(specimen: Specimen, t_s: float) -> NDArray[np.float64]:
    diameter = specimen.particles(t_s).diameter_nm
    return diameter[diameter >= 2.0]


def _all_nickel(state: State) -> float:
    return state.particle_ni + state.boundary_ni + state.beside_ni + state.bulk_ni


# ------------------------------------------------------------------ published figures


@pytest.mark.parametrize(
    ("preset", "seed", "density", "within", "diameter", "near", "reduced"),
    [
        (LSNT, 1, 795, 0.08, 8.8, 0.3, 0.66),
        ("lsnt_stoichiometric", 1, 51, 0.15, 10.7, 0.5, 0.10),
        ("lsnt_stoichiometric", 2, 51, 0.15, 10.7, 0.5, 0.10),
    ],
)
def test_ten_hours_at_900_celsius_give_the_published_population(
    preset: str,
    seed: int,
    density: float,
    within: float,
    diameter: float,
    near: float,
    reduced: float,
) -> None:
    specimen = treated(named(preset, seed))
    found = population(specimen, END_S)
    assert found.density_per_um2 == pytest.approx(density, rel=within)
    assert found.mean_diameter_nm == pytest.approx(diameter, abs=near)
    assert found.reduced_percent / 100 == pytest.approx(reduced, abs=0.05)
    assert found.on_dislocations_percent >= 10
    assert found.on_boundaries_percent > 50
    assert abs(found.nickel_error) < 1e-9
    assert specimen.steps < 1500, "ten hours must stay cheap"
    # about half of the volume has sunk below the surface
    assert specimen.particles(END_S).below.mean() == pytest.approx(0.5, abs=0.01)
    if preset == LSNT:
        assert found.resistivity_ratio > 1e3


def test_particles_reach_the_critical_size_within_minutes_at_700_celsius() -> None:
    specimen = heated(135.0, 700.0)

    def mean(after_s: float) -> float:
        return float(_visible(specimen, 135 + after_s).mean())

    assert mean(120) < 3.83 < mean(260)
    assert 0.02 < 60 * (mean(205) - mean(195)) / 10 < 1.0  # nm/min
    assert (_visible(specimen, 135 + 200) < 2.5).mean() < 0.02


def test_nothing_is_visible_after_twenty_minutes_at_500_celsius() -> None:
    assert len(_visible(heated(95.0, 500.0), 95 + 1200)) == 0


def test_crystals_come_and_go_until_they_are_larger_than_critical() -> None:
    found = critical_diameters_nm(FEW, watch_s=200.0)
    assert len(found) > 200
    assert found.mean() == pytest.approx(3.83, abs=0.04)
    assert 0.05 < found.std() < 0.11
    hot = FEW.under(lived([(155.0, 800.0)]))
    seen = [hot.particles(155 + t) for t in np.arange(0, 160, 0.5)]
    crystal = np.zeros((len(seen), len(FEW.sites)), dtype=bool)
    diameter = np.zeros(crystal.shape)
    for k, particles in enumerate(seen):
        crystal[k, particles.id] = particles.crystalline
        diameter[k, particles.id] = particles.diameter_nm
    assert not crystal[(diameter > 0) & (diameter < 2.6)].any(), "small ones are droplets"
    assert crystal[diameter > 4.2].all(), "large ones are crystals"
    grown = (diameter[0] < 2.7) & (diameter[-1] > 4.5)
    appearances = (~crystal[:-1, grown] & crystal[1:, grown]).sum(axis=0)
    assert np.median(appearances) >= 3
    # once it is stable, a particle grows faster
    faster = []
    for k in np.flatnonzero(grown):
        at = int(np.argmax(diameter[:, k] > FEW.sites.critical_nm[k]))
        before, now, after = diameter[[at - 12, at, min(at + 12, len(seen) - 1)], k]
        faster.append((after**3 - now**3) / (now**3 - before**3))
    assert np.median(faster) > 1.5


def test_barriers_are_ordered_as_published_and_fill_particles_in_that_order() -> None:
    assert ALONG_EV < BESIDE_EV < BULK_EV
    assert ALONG_EV == BARRIERS_EV["along"] < BARRIERS_EV["beside"] < BARRIERS_EV["bulk"]
    specimen = heated(135.0, 700.0)
    fresh, later = specimen.state(0.0), specimen.state(135.0 + 600)
    from_boundary = 1 - later.boundary_ni / fresh.boundary_ni
    from_beside = 1 - later.beside_ni / fresh.beside_ni
    from_bulk = 1 - later.bulk_ni / fresh.bulk_ni
    assert from_boundary > 0.5
    assert 0.005 < from_beside < 0.1 * from_boundary
    assert from_bulk < 0.1 * from_beside


# ------------------------------------------------------------------ laws

_PROFILES = st.lists(st.tuples(st.floats(1, 3000), st.floats(25, 1000)), min_size=1, max_size=5)


def _history(profile: list[tuple[float, float]]) -> list[tuple[float, float]]:
    times = np.cumsum([duration for duration, _ in profile]).tolist()
    return list(zip(times, [celsius for _, celsius in profile], strict=True))


@given(_PROFILES, st.lists(st.floats(0, 1), min_size=1, max_size=4))
@settings(max_examples=12, deadline=None)
def test_nickel_is_conserved_whatever_the_temperature_does(
    profile: list[tuple[float, float]], parts: list[float]
) -> None:
    knots = _history(profile)
    specimen = FEW.under(lived(knots))
    for part in parts:
        state = specimen.state(part * 1.2 * knots[-1][0])
        assert _all_nickel(state) == pytest.approx(specimen.ni_total, rel=1e-12)
        reservoirs = (state.boundary_ni, state.beside_ni, state.bulk_ni)
        assert min(reservoirs) >= 0
        assert state.volume_nm3.min() >= 0
        assert np.all((state.volume_nm3 > 0) == (state.stage == PRESENT))
        assert state.volume_nm3.sum() * NI_PER_NM3 == pytest.approx(
            specimen.ni_in_particles(part * 1.2 * knots[-1][0])
        )


@given(_PROFILES, st.lists(st.floats(0, 1), min_size=1, max_size=4))
@settings(max_examples=8, deadline=None)
def test_a_state_does_not_depend_on_when_it_is_asked_for_or_what_was_asked_before(
    profile: list[tuple[float, float]], parts: list[float]
) -> None:
    knots = _history(profile)
    times = [part * 1.2 * knots[-1][0] for part in parts]
    often = FEW.under(lived(knots))
    for t_s in times:
        often.particles(t_s)
    for t_s in times:
        once = FEW.under(lived(knots)).particles(t_s)
        again = often.particles(t_s)
        for name in ("id", "x_nm", "y_nm", "diameter_nm", "below", "crystalline"):
            assert np.array_equal(getattr(once, name), getattr(again, name)), name


def test_states_that_were_forgotten_come_back_the_same() -> None:
    specimen = FEW.under(lived([(135.0, 700.0), (400.0, 800.0), (2000.0, 900.0)]))
    times = np.linspace(100, 30_000, 60).tolist()
    first = [specimen.particles(t_s) for t_s in times]
    assert specimen.steps > 3 * evolution._KEEP_EVERY
    for k in np.random.default_rng(1).permutation(len(times)):
        again = specimen.particles(times[k])
        assert np.array_equal(again.diameter_nm, first[k].diameter_nm)
        assert np.array_equal(again.x_nm, first[k].x_nm)


def test_replacing_the_future_leaves_the_past_alone() -> None:
    history = lived([(135.0, 700.0), (4000.0, 700.0)])
    specimen = FEW.under(history)
    before = specimen.particles(300.0)
    history.plan(310.0, [(330.0, 25.0)])
    after = specimen.particles(300.0)
    assert np.allclose(before.diameter_nm, after.diameter_nm, rtol=1e-9)
    direct = FEW.under(lived([(135.0, 700.0), (310.0, 700.0), (330.0, 25.0)]))
    assert np.allclose(
        direct.particles(900.0).diameter_nm, specimen.particles(900.0).diameter_nm, rtol=1e-9
    )


def test_seeds_give_different_specimens_and_the_same_seed_the_same() -> None:
    knots = [(135.0, 700.0)]
    preset = FEW.preset
    one, same, other = (Specimen(preset, seed, lived(knots)).particles(400.0) for seed in (3, 3, 4))
    assert np.array_equal(one.x_nm, same.x_nm)
    assert np.array_equal(one.diameter_nm, same.diameter_nm)
    assert len(one) != len(other) or not np.array_equal(one.x_nm, other.x_nm)


def test_growth_follows_the_temperature_and_stops_with_it() -> None:
    def mean(celsius: float, t_s: float = 300.0) -> float:
        return float(_visible(FEW.under(lived([(135.0, celsius)])), t_s).mean())

    assert mean(650) < mean(700) - 0.3 < mean(800) - 0.6
    quenched = FEW.under(lived([(135.0, 700.0), (300.0, 700.0), (310.0, 25.0)]))
    cold, later = quenched.particles(311.0), quenched.particles(311.0 + 36_000)
    assert np.array_equal(cold.id, later.id)
    # along boundaries 0.68 eV let a trace through even in the cold
    assert np.allclose(cold.diameter_nm, later.diameter_nm, rtol=1e-4)
    assert np.allclose(cold.x_nm, later.x_nm, atol=0.01)


def test_the_order_of_temperatures_matters_not_only_their_sum() -> None:
    first_hot = [(10.0, 900.0), (310.0, 900.0), (320.0, 650.0), (1520.0, 650.0), (1530.0, 25.0)]
    first_mild = [(10.0, 650.0), (1210.0, 650.0), (1220.0, 900.0), (1520.0, 900.0), (1530.0, 25.0)]
    states = [FULL.under(lived(knots)).state(1531.0) for knots in (first_hot, first_mild)]
    lived_through = [exposure(lived(knots), 1531.0) for knots in (first_hot, first_mild)]
    assert lived_through[0].along == pytest.approx(lived_through[1].along, rel=0.02)
    counts = [int((state.stage == PRESENT).sum()) for state in states]
    assert counts[0] > 1.05 * counts[1]


def test_density_falls_with_time_and_with_temperature_once_the_nickel_is_out() -> None:
    def count(celsius: float, *times_s: float) -> list[int]:
        specimen = heated((celsius - 25.0) / 5.0, celsius)
        return [len(_visible(specimen, t_s)) for t_s in times_s]

    mild, warm = (count(celsius, 600, 3600) for celsius in (700.0, 800.0))
    *hot, ripe = count(900.0, 600, 3600, 100_000)
    for early, late in (mild, warm, hot):
        assert early > 1.05 * late
    assert mild[1] > 1.05 * warm[1]
    assert warm[0] > 1.05 * hot[0]
    assert ripe < 0.8 * hot[1], "ripening goes on when all nickel is out"


def test_steps_are_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> tuple[float, float, float]:
        specimen = FEW.under(lived([(160.0, 825.0)]))
        early, late = (_visible(specimen, t_s) for t_s in (200.0, 4000.0))
        return float(early.mean()), float(late.mean()), len(late)

    usual = told()
    monkeypatch.setattr(evolution, "_GROWTH", evolution._GROWTH / 5)
    fine = told()
    assert usual[0] == pytest.approx(fine[0], rel=0.005)
    assert usual[1] == pytest.approx(fine[1], rel=0.005)
    assert usual[2] == pytest.approx(fine[2], rel=0.02)


# ------------------------------------------------------------------ motion and coalescence


def test_young_particles_walk_along_their_boundary_and_old_ones_stay() -> None:
    specimen = heated(60.0, 750.0)
    early, mid = (specimen.state(t_s) for t_s in (80.0, 140.0))
    there = (early.stage == PRESENT) & (mid.stage == PRESENT) & (specimen.sites.kind == BOUNDARY)
    there &= ~np.isin(np.arange(len(there)), mid.into)  # a merger jumps to the common centre
    moved = [
        np.mod(a - b + REGION_NM / 2, REGION_NM) - REGION_NM / 2
        for a, b in ((mid.x_nm, early.x_nm), (mid.y_nm, early.y_nm))
    ]
    distance = np.hypot(*moved)[there]
    assert 0.3 < np.sqrt((distance**2).mean()) < 5.0
    across = moved[0] * specimen.sites.along[:, 1] - moved[1] * specimen.sites.along[:, 0]
    assert np.abs(across[there]).max() < 1e-9
    settled = treated(FEW)
    one, other = (settled.state(t_s) for t_s in (40_000.0, 43_600.0))
    stay = (
        (one.stage == PRESENT)
        & (other.stage == PRESENT)
        & ~np.isin(np.arange(len(one.stage)), other.into)
    )
    assert np.hypot(other.x_nm - one.x_nm, other.y_nm - one.y_nm)[stay].max() < 0.5


def test_touching_particles_become_one_of_the_same_volume() -> None:
    places = np.array([[10.0, 50.0], [14.0, 50.0], [40.0, 50.0], [REGION_NM - 1, 9.0], [1.0, 9.0]])
    sizes = np.array([4.0, 5.0, 4.0, 6.0, 3.0])
    n = len(sizes)
    state = State(
        stage=np.full(n, PRESENT, dtype=np.int8),
        volume_nm3=np.pi / 6 * sizes**3,
        x_nm=places[:, 0],
        y_nm=places[:, 1],
        below=np.zeros(n),
        into=np.full(n, -1, dtype=np.intp),
        incubation=0.0,
        boundary_ni=0.0,
        beside_ni=0.0,
        bulk_ni=0.0,
    )
    merged = coalesce(state, np.ones(n, dtype=bool))
    assert merged.stage.tolist() == [MERGED, PRESENT, PRESENT, PRESENT, MERGED]
    assert merged.into.tolist() == [1, -1, -1, -1, 3]
    assert merged.diameter_nm[[1, 3]] ** 3 == pytest.approx([64 + 125, 216 + 27])
    assert merged.x_nm[1] == pytest.approx((64 * 10 + 125 * 14) / 189)
    # the pair on the seam of the region meets across it
    assert merged.x_nm[3] == pytest.approx(REGION_NM - 1 + 2 * 27 / 243)
    apart = coalesce(state, np.zeros(n, dtype=bool))
    assert (apart.stage == PRESENT).all()


def test_particles_that_met_are_named_and_none_overlap() -> None:
    specimen = heated(155.0, 800.0)
    merged = specimen.merged(800.0)
    assert len(merged) > 100
    here = set(specimen.particles(800.0).id.tolist())
    assert not here & merged.keys()
    for gone in list(merged)[:50]:
        end = merged[gone]
        while end in merged:
            end = merged[end]
        assert end in here or specimen.state(800.0).stage[end] != PRESENT
    sizes = [specimen.ni_in_particles(t_s) for t_s in (200.0, 400.0, 600.0, 800.0)]
    assert all(a < b for a, b in pairwise(sizes)), "merging loses nothing"


def test_a_view_within_a_step_shows_what_grows_in_it() -> None:
    specimen = FEW.under(lived([(135.0, 700.0)]))
    view = View((0.0, 0.0), (512, 512), 0.5)
    sizes = []
    for t_s in np.arange(300.0, 302.0, 0.1).tolist():
        domes = specimen.domes(view, t_s)
        sizes.append(dict(zip(domes.id.tolist(), domes.diameter_nm.tolist(), strict=True)))
    for k in sizes[0].keys() & sizes[-1].keys():
        track = np.array([s[k] for s in sizes if k in s])
        assert np.abs(np.diff(track)).max() < 0.05
    assert np.mean(list(sizes[-1].values())) > np.mean(list(sizes[0].values()))


def test_rates_may_be_changed_for_a_specimen_of_ones_own() -> None:
    quick = Specimen(FEW.preset, 3, rates=replace(Rates(), along_nm2_per_s=1.0))
    knots = [(135.0, 700.0)]
    assert (
        _visible(quick.under(lived(knots)), 250.0).mean()
        > _visible(FEW.under(lived(knots)), 250.0).mean() + 0.3
    )


def test_heat_reduces_the_film_as_its_barrier_says_and_nothing_takes_it_back() -> None:
    begin_s = 0.01
    hot = FEW.under(lived([(begin_s, 900.0)]))
    assert FEW.reduction(1e5) == pytest.approx(0.0, abs=1e-9), "not at 25 °C"
    assert hot.reduction(60.0) == pytest.approx(1 - math.exp(-1), rel=0.01)
    cooler = FEW.under(lived([(begin_s, 800.0)])).reduction(60.0)
    slower = math.exp(2.2 / 8.617333e-5 * (1 / 1173.15 - 1 / 1073.15))
    assert -math.log1p(-cooler) == pytest.approx(slower, rel=0.01)
    quenched = FEW.under(lived([(begin_s, 900.0), (60.0, 900.0), (60.01, 25.0)]))
    assert quenched.reduction(1e4) == pytest.approx(quenched.reduction(61.0))
    assert quenched.reduction(61.0) == pytest.approx(hot.reduction(60.0), rel=0.01)
