"""Boundaries are found in profiles with their amount, width and place, and with σ that are true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr

from acquire.errors import MeasureError
from acquire.measure.eels.interface import Shape, fit_interface, fit_interfaces

Array = NDArray[np.float64]
X = np.linspace(0.0, 20.0, 81)
PLACE, WIDTH, PROBE = 10.3, 0.8, 0.4


def _gaussian(change: float, probe: float = 0.0) -> Array:
    wide = np.hypot(WIDTH, probe)
    peak = change * WIDTH / wide * np.exp(-0.5 * ((X - PLACE) / wide) ** 2)
    return 1000 * (1 + peak) + 2 * (X - PLACE)


def _box(change: float, width: float) -> Array:
    blurred = ndtr((X - PLACE + width / 2) / PROBE) - ndtr((X - PLACE - width / 2) / PROBE)
    return 1000 * (1 + change * blurred)


def test_noiseless_dip_comes_out_with_the_probe_taken_out() -> None:
    fit = fit_interface(X, _gaussian(-0.26, PROBE), np.full(81, 10.0), probe_sigma_nm=PROBE)
    assert fit.change.value == pytest.approx(-0.26, abs=1e-5)
    assert fit.fwhm_nm.value == pytest.approx(2.35482 * WIDTH, rel=1e-4)
    assert fit.position_nm.value == pytest.approx(PLACE, abs=1e-5)
    assert fit.level.value == pytest.approx(1000.0)
    assert fit.slope_per_nm.value == pytest.approx(2.0)
    assert fit.integrated.value == pytest.approx(-260 * WIDTH * np.sqrt(2 * np.pi), rel=1e-4)
    seen = -0.26 * WIDTH / np.hypot(WIDTH, PROBE)
    assert fit.observed_change.value == pytest.approx(seen, rel=1e-4)
    np.testing.assert_allclose(fit.at(X, PROBE), _gaussian(-0.26, PROBE), rtol=1e-6)
    assert fit.flags == ()
    as_seen = fit_interface(X, _gaussian(-0.26, PROBE), np.full(81, 10.0))
    assert as_seen.integrated.value == pytest.approx(fit.integrated.value, rel=1e-4)
    assert as_seen.fwhm_nm.value == pytest.approx(2.35482 * np.hypot(WIDTH, PROBE), rel=1e-4)


@pytest.mark.parametrize("shape", ["gaussian", "box"])
def test_sigma_is_true_for_either_shape(shape: Shape) -> None:
    rng = np.random.default_rng(3)
    truth = _gaussian(-0.26, PROBE) if shape == "gaussian" else _box(-0.26, 2.0)
    width = 2.35482 * WIDTH if shape == "gaussian" else 2.0
    integral = -260 * (WIDTH * np.sqrt(2 * np.pi) if shape == "gaussian" else 2.0)
    pulls = []
    for _ in range(60):
        fit = fit_interface(X, truth + rng.normal(0, 25, 81), np.full(81, 25.0), shape, PROBE)
        told = (fit.change, -0.26), (fit.fwhm_nm, width), (fit.position_nm, PLACE)
        pulls.append([(v.value - t) / v.sigma for v, t in (*told, (fit.integrated, integral))])
    scatter = np.array(pulls)
    assert (np.abs(scatter.mean(axis=0)) < 0.45).all()
    assert ((scatter.std(axis=0) > 0.7) & (scatter.std(axis=0) < 1.3)).all()


def test_elements_of_one_boundary_share_its_place_and_width() -> None:
    rng = np.random.default_rng(4)
    deficits = {"sr": -0.26, "ta": -0.11, "zr": -0.07, "o": 0.0}
    profiles = {
        name: (_gaussian(change) + rng.normal(0, 25, 81), np.full(81, 25.0))
        for name, change in deficits.items()
    }
    fits = fit_interfaces(X, profiles)
    for name, change in deficits.items():
        assert fits[name].change.sigma < 0.03
        assert abs(fits[name].change.value - change) < 2 * fits[name].change.sigma
    assert len({(f.position_nm.value, f.fwhm_nm.value) for f in fits.values()}) == 1
    alone = fit_interface(X, *profiles["zr"])
    assert fits["zr"].fwhm_nm.sigma < 0.5 * alone.fwhm_nm.sigma
    # nothing is told of oxygen alone, and with a place and a width that others know it is none
    assert "unresolved" in fit_interface(X, *profiles["o"]).flags
    held = fit_interface(X, *profiles["o"], position_nm=PLACE, fwhm_nm=2.35482 * WIDTH)
    assert abs(held.change.value) < 3 * held.change.sigma
    assert (held.position_nm.sigma, held.fwhm_nm.sigma) == (0.0, 0.0)


def test_excess_of_a_quantity_that_the_matrix_hardly_holds() -> None:
    """Ti3+ across an anti-phase boundary: 0.05 in the matrix, 0.6 in the middle."""
    rng = np.random.default_rng(5)
    truth = 0.05 + 0.55 * np.exp(-0.5 * ((X - 9.0) / 1.2) ** 2)
    fit = fit_interface(X, truth + rng.normal(0, 0.02, 81), np.full(81, 0.02), slope=False)
    assert abs(fit.excess.value - 0.55) < 2 * fit.excess.sigma
    assert abs(fit.fwhm_nm.value - 2.35482 * 1.2) < 2 * fit.fwhm_nm.sigma
    assert fit.slope_per_nm.value == 0.0
    assert fit.covariance.shape == (5, 5)
    assert fit.flags == ()


def test_what_cannot_be_trusted_is_flagged() -> None:
    sigma = np.full(81, 10.0)
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 10.0, 81)
    spike = 1000 + noise - 400 * np.exp(-0.5 * ((X - 10.0) / 0.03) ** 2)
    assert "unresolved" in fit_interface(X, spike, sigma).flags
    narrow = fit_interface(X, _gaussian(-0.26) + noise, sigma, probe_sigma_nm=WIDTH * 1.02)
    assert "unresolved" in narrow.flags
    edge = 1000 + noise - 300 * np.exp(-0.5 * ((X - 0.3) / 0.8) ** 2)
    assert "edge_of_scan" in fit_interface(X, edge, sigma).flags
    step = 1000 + noise + 300 * (X > 10)
    assert "poor_fit" in fit_interface(X, step, sigma).flags
    inside = slice(34, 50)
    few = fit_interface(X[inside], (_gaussian(-0.26) + noise)[inside], sigma[inside])
    assert "few_points" in few.flags


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.ones(80)}, "one value for each point"),
        ({"values": np.full(81, np.nan)}, "0 points with a value"),
        ({"sigma": np.zeros(81)}, "positive σ"),
        ({"distance_nm": np.zeros(81)}, "at different places"),
        ({"shape": "step"}, "'gaussian' or 'box'"),
        ({"probe_sigma_nm": -1.0}, "not negative"),
        ({"fwhm_nm": 0.0}, "must be positive"),
    ],
)
def test_what_is_no_profile_is_refused(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"distance_nm": X, "values": _gaussian(-0.2), "sigma": np.ones(81)}
    with pytest.raises(MeasureError, match=message):
        fit_interface(**(given | change))  # type: ignore[arg-type]


def test_points_that_are_missing_or_out_of_order_do_not_matter() -> None:
    values = _gaussian(-0.26)
    values[[3, 40]] = np.nan
    order = np.random.default_rng(7).permutation(81)
    fit = fit_interface(X[order], values[order], np.full(81, 10.0))
    assert fit.change.value == pytest.approx(-0.26, abs=1e-5)


@given(
    place=st.floats(5.0, 15.0),
    width=st.floats(0.5, 2.0),
    change=st.floats(0.05, 3.0).flatmap(lambda v: st.sampled_from([v, -min(v, 0.9)])),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
)
@settings(max_examples=15, deadline=None)
def test_any_noiseless_boundary_is_found(
    place: float, width: float, change: float, scale: float
) -> None:
    values = scale * (1 + change * np.exp(-0.5 * ((X - place) / width) ** 2))
    fit = fit_interface(X, values, np.full(81, 0.01 * scale))
    assert fit.position_nm.value == pytest.approx(place, abs=1e-3)
    assert fit.fwhm_nm.value == pytest.approx(2.35482 * width, rel=1e-3)
    assert fit.change.value == pytest.approx(change, rel=1e-3)
