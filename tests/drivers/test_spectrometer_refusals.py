"""Spectrometers refuse an aperture off the axis and several low-loss reads where they have none of it."""

from __future__ import annotations

import pytest

from acquire.errors import LimitError
from acquire.instruments import SpectrometerSetting, SpectrumExposure
from drivers.spectrometers.refusals import demand_on_axis, demand_one_read


@pytest.mark.parametrize("mrad", [60.0, -1.0, float("nan")])
def test_an_aperture_off_the_axis_is_refused_with_advice(mrad: float) -> None:
    with pytest.raises(LimitError, match=r"off axis .* refused.*Leave it out"):
        demand_on_axis(SpectrometerSetting(400.0, 0.1, off_axis_mrad=mrad))
    demand_on_axis(SpectrometerSetting(400.0, 0.1))


@pytest.mark.parametrize("reads", [0, 2, 10])
def test_several_low_loss_reads_are_refused_with_advice(reads: int) -> None:
    with pytest.raises(LimitError, match=f"{reads} low-loss reads refused"):
        demand_one_read(SpectrumExposure(0.5, 1e-3, reads))
    demand_one_read(SpectrumExposure(0.5))
