"""An energy axis is calibrated by the zero-loss peak and by two known features, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels import (
    Feature,
    ZeroLossShape,
    dispersion_from_features,
    offset_from_zero_loss,
)
from acquire.measure.eels.corrections import measure_correction

Array = NDArray[np.float64]

TRUE = Axis(398.3, 0.0985, "eV")
GIVEN = Axis(400.0, 0.1, "eV")
TI, OXYGEN = Feature(458.0, "peak", 3.0), Feature(532.0, "edge", 5.0)


def _mean() -> Array:
    energy = TRUE.offset + TRUE.step * np.arange(2048)
    edge = 0.5 + np.arctan((energy - 532) / 0.4) / np.pi
    peak = np.exp(-0.5 * ((energy - 458) / 0.8) ** 2)
    return np.asarray(30 * ((energy / 450) ** -3 + 2 * peak + 0.8 * edge))


def test_dispersion_and_offset_come_from_a_peak_and_an_edge_with_their_sigma() -> None:
    rng = np.random.default_rng(1)
    pulls = []
    for _ in range(25):
        found = dispersion_from_features(rng.poisson(_mean(), (10, 2048)), GIVEN, TI, OXYGEN)
        pulls.append(
            (
                (found.axis.offset - TRUE.offset) / found.offset_sigma_ev,
                (found.axis.step - TRUE.step) / found.step_sigma_ev,
            )
        )
    assert np.sqrt(np.mean(np.square(pulls), axis=0)) == pytest.approx([1.0, 1.0], abs=0.45)
    assert found.step_sigma_ev < 1e-4
    # between the features the axis is better known than at its begin
    assert found.sigma_ev(500.0) < 0.05
    assert found.sigma_ev(TRUE.offset) == pytest.approx(found.offset_sigma_ev, rel=0.05)


def test_offset_comes_from_the_zero_loss_wherever_the_axis_put_it() -> None:
    rng = np.random.default_rng(2)
    position = 4.2 + rng.normal(0, 0.06, 50)
    for offset in (-10.0, 5.0):  # the second axis does not hold 0 eV
        energy = -10.0 + 0.1 * np.arange(400) - position[:, None]
        counts = rng.poisson(1e3 * ZeroLossShape(0.6, 0.1).in_channels(energy, 0.1)[0])
        found = offset_from_zero_loss(counts, Axis(offset, 0.1, "eV"))
        assert found.offset_sigma_ev == pytest.approx(0.061 / np.sqrt(50), rel=0.3)
        assert found.axis.offset == pytest.approx(-14.2, abs=4 * found.offset_sigma_ev)
        assert found.axis.step == 0.1


@pytest.mark.parametrize(
    ("axis", "first", "second", "words"),
    [
        (GIVEN, TI, Feature(458.5), "within 10 channels"),
        (GIVEN, TI, Feature(500.0), "does not stand out"),
        (GIVEN, TI, Feature(900.0), "does not lie on the axis"),
        (GIVEN, Feature(480.0, "peak", 20.0), Feature(532.0, "edge", 8.0), "more than 20 %"),
        (Axis(400.0, 0.13, "eV"), TI, OXYGEN, "."),
        (Axis(400.0, 0.1, "px"), TI, OXYGEN, "not an energy"),
    ],
)
def test_features_that_are_not_there_are_refused(
    axis: Axis, first: Feature, second: Feature, words: str
) -> None:
    counts = np.random.default_rng(3).poisson(_mean(), (10, 2048))
    with pytest.raises(MeasureError, match=words):
        dispersion_from_features(counts, axis, first, second)


def test_spectra_without_zero_loss_give_no_offset() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(MeasureError, match="no zero-loss peak"):
        offset_from_zero_loss(rng.poisson(0.1, (5, 400)), Axis(0.0, 0.1, "eV"))
    with pytest.raises(MeasureError, match="not finite"):
        dispersion_from_features(np.full((2, 2048), np.nan), GIVEN, TI, OXYGEN)


def test_offset_and_dispersion_of_a_pair_are_measured_together() -> None:
    rng, channels, step, scale = np.random.default_rng(2), 1000, 0.2, 1.03
    true = 401.3 + scale * step * np.arange(channels)
    peaks = 4e3 * sum(np.exp(-0.5 * np.square((true - at) / 0.8)) for at in (456.0, 532.0))
    core = rng.poisson(np.tile(peaks + 300.0 * (true / 400) ** -3, (4, 1)))
    low_true = -19.1 + scale * step * np.arange(channels)
    low = rng.poisson(
        np.tile(1 + 1e4 * np.exp(-4 * np.log(2) * np.square(low_true / 0.6)), (4, 2, 1))
    )
    nominal, low_nominal = Axis(400.0, step, "eV"), Axis(-20.0, step, "eV")
    features = (Feature(456.0), Feature(532.0))
    found = measure_correction(core, nominal, low, low_nominal, features=features, within_ev=0.02)
    assert found.scale == pytest.approx(scale, abs=4 * found.scale_sigma)
    assert found.core_ev == pytest.approx(1.3, abs=4 * found.core_sigma_ev)
    made = found.of(low_nominal, found.low_ev)
    assert made.offset == pytest.approx(-19.1, abs=0.02)
    alone = measure_correction(core, nominal, low, low_nominal)
    assert alone.core_ev == alone.low_ev
    with pytest.raises(MeasureError, match="no offset can be told"):
        measure_correction(core, nominal)
