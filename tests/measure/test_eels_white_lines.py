"""The free fit of Ti-L2,3 finds splittings, ratio and their σ, and says where nothing is split."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.white_lines import fit_white_lines

Array = NDArray[np.float64]
STEP = 0.1
# positions, Gaussian sigma, areas; SrTiO3 and TiO2 as measured: splittings, and L3/L2 of 0.65
SRTIO3 = ((457.5, 0.44, 0.42), (459.68, 0.63, 0.85), (462.85, 0.67, 0.50), (465.15, 0.89, 0.68))
TIO2 = ((457.9, 0.46, 0.40), (460.41, 0.71, 0.57), (463.465, 0.71, 0.65), (465.795, 0.95, 0.84))
REDUCED = ((456.6, 1.18, 1.15), (462.0, 1.37, 0.95))


def _mean(lines: tuple[tuple[float, float, float], ...], electrons: float, offset: Array) -> Array:
    energy = offset[:, None] + STEP * np.arange(900)
    per_ev = np.zeros_like(energy)
    for at, sigma, area in lines:
        per_ev += area / (sigma * 2.5066) * np.exp(-0.5 * ((energy - at) / sigma) ** 2)
    middle = sum(at for at, *_ in lines[: len(lines) // 2]) / (len(lines) // 2)
    for at, level in ((middle, 0.036), (middle + 5.4, 0.018)):
        per_ev += level / (1 + np.exp(-(energy - at) / 0.6)) * (energy / at) ** -3.0
    return np.asarray(electrons * STEP * (per_ev + 0.25 * (energy / 440) ** -3.0))


def test_splittings_and_ratio_come_out_with_their_sigma() -> None:
    rng = np.random.default_rng(21)
    n = 150
    offset = 400.0 + rng.uniform(-1, 1, n)
    found = fit_white_lines(
        rng.poisson(_mean(SRTIO3, 6000.0, offset)).astype(float), offset, STEP, lorentzian=0.0
    )
    for k, true in enumerate((2.18, 2.30)):
        split, sigma = found.splitting_ev[:, k], found.splitting_sigma_ev[:, k]
        assert split.mean() == pytest.approx(true, abs=0.03)
        assert np.std((split - split.mean()) / sigma) == pytest.approx(1.0, abs=0.15)
    assert found.position_ev.mean(axis=0) == pytest.approx([at for at, *_ in SRTIO3], abs=0.05)
    assert found.spin_orbit_ev.mean() == pytest.approx(5.41, abs=0.03)
    assert found.ratio.mean() == pytest.approx(1.27 / 1.18, abs=0.05)
    pull = (found.ratio - found.ratio.mean()) / found.ratio_sigma
    assert np.std(pull) == pytest.approx(1.0, abs=0.15)
    assert found.fwhm_ev.mean(axis=0) == pytest.approx([2.3548 * s for _, s, _ in SRTIO3], rel=0.05)
    assert not any(found.flags[name].any() for name in ("no_fit", "poor_fit", "few_counts"))
    assert found.flags["unresolved_l3"].mean() < 0.01
    assert found.flags["unresolved_l2"].mean() < 0.02


@pytest.mark.parametrize("lorentzian", [0.0, 0.3])
def test_titania_comes_out_whatever_the_lines_wings(lorentzian: float) -> None:
    offset = np.array([400.03])
    found = fit_white_lines(_mean(TIO2, 1e5, offset), offset, STEP, lorentzian=lorentzian)
    assert found.splitting_ev[0] == pytest.approx([2.51, 2.33], abs=0.06)
    assert found.spin_orbit_ev[0] == pytest.approx(5.48, abs=0.04)
    assert found.ratio[0] == pytest.approx(0.65, abs=0.03)


def test_what_is_not_split_is_not_told_as_split() -> None:
    rng = np.random.default_rng(22)
    offset = np.full(60, 400.0)
    reduced = fit_white_lines(
        rng.poisson(_mean(REDUCED, 6000.0, offset)).astype(float), offset, STEP
    )
    apart = reduced.flags["unresolved_l3"] | reduced.flags["no_fit"]
    assert apart.mean() > 0.95
    few = fit_white_lines(rng.poisson(_mean(SRTIO3, 60.0, offset)).astype(float), offset, STEP)
    flagged = few.flags["unresolved_l2"] | few.flags["no_fit"] | few.flags["few_counts"]
    assert flagged.mean() > 0.9


def test_bad_rows_are_flagged_and_bad_questions_refused() -> None:
    offset = np.array([400.0, 430.0, 400.0])
    mean = _mean(SRTIO3, 6000.0, np.full(3, 400.0))
    mean[0, 3] = np.nan
    found = fit_white_lines(mean, offset, STEP)
    assert list(found.flags["nonfinite"]) == [True, False, False]
    assert list(found.flags["out_of_range"]) == [False, True, False]
    assert np.isnan(found.ratio[:2]).all()
    assert np.isfinite(found.ratio[2])
    with pytest.raises(MeasureError, match="share"):
        fit_white_lines(mean, offset, STEP, lorentzian=2.0)
    with pytest.raises(MeasureError, match="ascending"):
        fit_white_lines(mean, offset, STEP, start_ev=(457, 463, 460, 465))
