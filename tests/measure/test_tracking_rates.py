"""Rates from tracks: paired growth, motion and the ripening exponent, with errors that hold."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.tracking import (
    GrowthWindow,
    PairedGrowth,
    Tracker,
    mean_square_displacement,
    ripening_exponent,
    track_series,
)
from tests.measure.made_tracks import MadeSeries, sizing_error

RATE = 0.2
"""nm/min, of a particle of the mean size."""


def _linear(t_s: float) -> float:
    return 1 + RATE / 60 / 8.8 * t_s


def _window(series: MadeSeries, frames: int = 121) -> tuple[PairedGrowth, float]:
    """The growth over two minutes, and the true one of the particles that it rests on."""
    tracker, window = Tracker(field_nm=(256.0, 256.0)), GrowthWindow(120.0)
    seen_whole: dict[int, int] = {}
    for t_s, seen, true in series.frames(frames):
        now, rows = tracker.update(t_s, seen), seen.sized
        window.add(
            t_s, now.track[rows], now.segment[rows], seen.diameter_nm[rows], seen.sigma_nm[rows]
        )
        for particle in true[rows].tolist():
            seen_whole[particle] = seen_whole.get(particle, 0) + 1
    counted = [i for i, n in seen_whole.items() if i >= 0 and n > 0.4 * frames]
    return window.rate(), RATE * float(series.start_nm[counted].mean()) / 8.8


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"misses": 0.03, "false": 0.03},
        {"common_error": 0.003},
        {"drift_nm_per_s": (0.4, 0.2), "margin_nm": 50.0, "count": 100},
    ],
    ids=["plain", "misses", "common error of a frame", "drift"],
)
def test_paired_growth_is_right_within_its_sigma(how: dict[str, float]) -> None:
    off = []
    for seed in range(4):
        growth, truth = _window(MadeSeries(np.random.default_rng(seed), growth=_linear, **how))  # type: ignore[arg-type]
        off.append((growth.rate_nm_per_min - truth) / growth.sigma_nm_per_min)
        assert growth.rate_nm_per_min == pytest.approx(truth, rel=0.15)
    assert np.sqrt(np.mean(np.square(off))) < 2.0
    assert abs(np.mean(off)) < 1.4


def test_growth_needs_five_particles_and_four_frames() -> None:
    few, _ = _window(MadeSeries(np.random.default_rng(0), count=4))
    assert np.isnan(few.rate_nm_per_min)
    assert few.tracked <= 4
    short, _ = _window(MadeSeries(np.random.default_rng(0)), frames=3)
    assert np.isnan(short.rate_nm_per_min)


def test_a_step_between_segments_is_no_growth() -> None:
    window = GrowthWindow(120.0)
    rng, tracks = np.random.default_rng(0), np.arange(20)
    for k in range(100):
        step = 1.0 if k >= 50 else 0.0  # as after a change of dose
        size = 8.0 + step + 0.3 / 60 * k + rng.normal(0, 0.05, 20)
        window.add(float(k), tracks, tracks + 20 * (k >= 50), size, np.full(20, 0.05))
    growth = window.rate()
    assert growth.rate_nm_per_min == pytest.approx(0.3, abs=3 * growth.sigma_nm_per_min)
    assert growth.sigma_nm_per_min < 0.03


def test_one_wild_particle_and_single_wild_fits_hardly_move_the_rate() -> None:
    window = GrowthWindow(120.0)
    rng, tracks = np.random.default_rng(1), np.arange(30)
    for k in range(100):
        size = 8.0 + 0.3 / 60 * k + rng.normal(0, 0.05, 30)
        size[0] += 0.05 * k  # 3 nm/min
        size[rng.integers(30)] += 1.5
        window.add(float(k), tracks, tracks, size, np.full(30, 0.05))
    assert window.rate().rate_nm_per_min == pytest.approx(0.3, abs=0.03)


def test_a_fast_camera_gives_the_same_rate_as_a_slow_one() -> None:
    rates = []
    for fps in (1, 10):
        window, rng, tracks = GrowthWindow(60.0), np.random.default_rng(2), np.arange(20)
        for k in range(60 * fps):
            size = 6.0 + 0.5 / 60 * k / fps + rng.normal(0, 0.05, 20)
            window.add(k / fps, tracks, tracks, size, np.full(20, 0.05))
        rates.append(window.rate())
    assert rates[1].sigma_nm_per_min < 0.6 * rates[0].sigma_nm_per_min
    for growth in rates:
        assert growth.rate_nm_per_min == pytest.approx(0.5, abs=4 * growth.sigma_nm_per_min)


def test_motion_is_free_of_drift_and_of_localisation_noise() -> None:
    series = MadeSeries(
        np.random.default_rng(3),
        count=80,
        side_nm=400.0,
        motion_nm2_per_s=0.05,
        place_sigma_nm=0.3,
        drift_nm_per_s=(0.3, 0.1),
        dose=200.0,
    )
    trajectories, _ = track_series([(t, seen) for t, seen, _ in series.frames(80)])
    found = mean_square_displacement(trajectories)
    assert found.localisation_nm == pytest.approx(0.3, rel=0.1)
    assert found.diffusion_nm2_per_s == pytest.approx(0.05, abs=4 * found.diffusion_sigma_nm2_per_s)
    assert found.diffusion_sigma_nm2_per_s < 0.005
    off = (found.msd_nm2 - 4 * 0.05 * found.lag_s) / found.sigma_nm2
    assert np.abs(off).max() < 4


def test_particles_at_rest_do_not_diffuse() -> None:
    series = MadeSeries(np.random.default_rng(5), place_sigma_nm=0.2, drift_nm_per_s=(0.2, 0.0))
    trajectories, _ = track_series([(t, seen) for t, seen, _ in series.frames(60)])
    found = mean_square_displacement(trajectories)
    assert abs(found.diffusion_nm2_per_s) < 4 * found.diffusion_sigma_nm2_per_s
    assert np.abs(found.msd_nm2 / found.sigma_nm2).max() < 4


def _cubic(times: NDArray[np.float64], growth: float) -> NDArray[np.float64]:
    return np.asarray((1 + (growth**3 - 1) * times / times[-1]) ** (1 / 3))


def _means(
    seed: int, growth: float, sampled: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means of 52 particles in 200 frames: of the same ones, or of a new field in every frame."""
    rng, times = np.random.default_rng(seed), np.linspace(0.0, 600.0, 200)
    factor = _cubic(times, growth)

    def field() -> NDArray[np.float64]:
        return np.asarray(8.8 * np.exp(rng.normal(-0.045, 0.3, 52)))

    same = field()
    means, sigmas = [], []
    for f in factor:
        sizes = f * (field() if sampled else same)
        error = sizing_error(sizes, 200.0)
        means.append(float((sizes + error * rng.normal(size=52)).mean()))
        noise = float(np.sqrt((error**2).sum()) / 52)
        sigmas.append(float(np.hypot(noise, sizes.std() / np.sqrt(52))) if sampled else noise)
    return times, np.array(means), np.array(sigmas)


def test_the_exponent_of_paired_growth_is_3_within_2_hundredths() -> None:
    found = [ripening_exponent(*_means(seed, 1.5, False), paired=True) for seed in range(6)]
    assert all(not fit.refused for fit in found)
    exponents = np.array([fit.exponent for fit in found])
    assert np.abs(exponents - 3.0).max() < 0.06
    assert abs(exponents.mean() - 3.0) < 0.02
    assert sum(fit.low <= 3.0 <= fit.high for fit in found) >= 5
    assert all(fit.growth == pytest.approx(1.5, rel=0.05) for fit in found)


def test_independent_fields_give_a_wide_interval_or_none() -> None:
    for seed in range(4):
        fit = ripening_exponent(*_means(seed, 1.5, True))
        assert fit.refused or (fit.high - fit.low > 0.3 and fit.low < 3.6 and fit.high > 2.4)
    small = ripening_exponent(*_means(1, 1.2, True))
    assert small.refused
    assert np.isnan(small.exponent)


def test_below_a_growth_of_1_3_only_paired_means_tell_the_exponent() -> None:
    times, means, sigmas = _means(0, 1.2, False)
    alone = ripening_exponent(times, means, sigmas)
    assert "×1.3 is needed" in alone.refused
    together = ripening_exponent(times, means, sigmas, paired=True)
    assert not together.refused
    assert together.low <= 3.0 <= together.high


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t, d, s: (t, d[::-1], s), "does not grow"),
        (lambda t, d, s: (t[:5], d[:5], s[:5]), "points"),
        (lambda t, d, s: (t, np.linspace(8.8, 9.0, 200), 0 * s + 0.3), "interval|between"),
    ],
)
def test_an_exponent_that_means_nothing_is_refused_with_the_reason(
    change: Callable[..., tuple[NDArray[np.float64], ...]], why: str
) -> None:
    times, means, sigmas = change(*_means(0, 1.5, False))
    fit = ripening_exponent(times, means, sigmas, paired=True)
    assert np.isnan(fit.exponent)
    assert re.search(why, fit.refused)
    assert str(fit).startswith("no exponent")


def test_input_that_is_no_series_is_an_error() -> None:
    times, means, sigmas = _means(0, 1.5, False)
    with pytest.raises(MeasureError, match="rise"):
        ripening_exponent(times[::-1], means, sigmas)
    with pytest.raises(MeasureError, match="belong"):
        ripening_exponent(times, means[1:], sigmas)
    with pytest.raises(MeasureError, match="finite"):
        ripening_exponent(times, means * np.nan, sigmas)
    with pytest.raises(MeasureError, match="above 0"):
        ripening_exponent(times, means, 0 * sigmas)
