"""Spectra of the SIMPLON driver are those that were asked for, or there are none, or they say what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError
from acquire.instruments import Frame, SpectrometerSetting, SpectrumExposure
from drivers.spectrometers.simplon import Simplon
from tests.drivers.emccd_double import EmccdDouble
from tests.drivers.simplon.conftest import SETTING, Opener, spectra
from tests.drivers.simplon_double import SELF_DESCRIBED, SHAPE, SimplonDouble

VERSIONS = ("cbor", "legacy")
SATURATION = {"cbor": "saturation_value", "legacy": "countrate_correction_count_cutoff"}


@pytest.mark.parametrize("version", VERSIONS)
def test_full_pixels_are_counted(
    double: SimplonDouble, opened: Opener, clock: WallClock, version: str
) -> None:
    def image(number: int) -> Any:
        pixels = np.full(SHAPE, 10, np.uint16)
        pixels[0, 5:8] = 4000, 4001, 0xFFFE
        pixels[1, 5] = 0xFFFF
        return pixels

    double.image = image
    driver = opened(version=version)
    (frame,) = spectra(driver, clock, 0.01, 1)
    assert frame.meta.scalars["saturated_pixels"] == 1.0
    double.told = {SATURATION[version]: 4000}
    (frame,) = spectra(driver, clock, 0.01, 1)
    assert frame.meta.scalars["saturated_pixels"] == 3.0
    assert frame.meta.scalars["no_data"] == 1.0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_series_that_was_armed_with_another_exposure_is_an_error(
    double: SimplonDouble, opened: Opener, clock: WallClock, version: str
) -> None:
    driver = opened(version=version)
    double.told = {"count_time": 0.01}
    assert len(spectra(driver, clock, 0.01, 1)) == 1
    double.told = {"count_time": 0.02}
    with pytest.raises(InstrumentError, match=r"armed to expose for 0\.02 s instead of 0\.01 s"):
        spectra(driver, clock, 0.01, 1)


def test_an_image_that_was_not_exposed_all_the_time_is_an_error(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    def shorten(number: int, parts: list[bytes]) -> list[list[bytes]]:
        message = cbor2.loads(parts[0].removeprefix(SELF_DESCRIBED))
        ticks, base = message["real_time"]
        return [[SELF_DESCRIBED + cbor2.dumps({**message, "real_time": [ticks // 2, base]})]]

    double.mangle = shorten
    with pytest.raises(InstrumentError, match=r"took 0\.005 s instead of 0\.01 s"):
        spectra(opened(), clock, 0.01, 1)


def test_a_mirrored_detector_is_turned_round(
    double: SimplonDouble, opened: Opener, clock: WallClock
) -> None:
    double.image = lambda number: np.tile(np.arange(SHAPE[1], dtype=np.uint16), (SHAPE[0], 1))
    (frame,) = spectra(opened(mirrored=True), clock, 0.01, 1)
    expected = SHAPE[0] * np.arange(SHAPE[1])[::-1][: SETTING.channels]
    np.testing.assert_array_equal(frame.data["core_loss"], expected)


def test_a_threshold_of_a_stream_that_has_none_is_refused(opened: Opener) -> None:
    with pytest.raises(ValueError, match="tells no channels apart"):
        opened(version="legacy", threshold="threshold_2")


# ------------------------------------------------------------------------------ filter


@pytest.fixture
def gatan() -> Iterator[EmccdDouble]:
    with EmccdDouble() as made:
        yield made


def behind(gatan: EmccdDouble, opened: Opener, **options: Any) -> Simplon:
    return opened(
        filter=gatan.address,
        dispersions=["0.05 eV", "0.1 eV", "0.5 eV"],
        zero_loss_channel=20.0,
        **options,
    )


def take(driver: Simplon, clock: WallClock, setting: SpectrometerSetting) -> list[Frame]:
    driver.tune(setting)
    driver.arm(SpectrumExposure(0.01, 0.01), 1)
    try:
        return list(driver.frames(clock.signal()))
    finally:
        driver.disarm()


def test_both_axes_of_a_dual_spectrum_begin_where_the_filter_went(
    opened: Opener, clock: WallClock, gatan: EmccdDouble
) -> None:
    gatan.loss_step = 0.6
    driver = behind(gatan, opened, low_loss_offset="0.2 eV")
    taken = driver.tune(SpectrometerSetting(400.2, 0.1, 100, dual=True))
    assert taken.energy_offset_ev == pytest.approx(400.0)  # 402.0 of 402.2 eV, 20 channels below
    spec = driver.arm(SpectrumExposure(0.01, 0.01), 1)
    assert spec.channels["core_loss"].axes["energy_loss"].offset == pytest.approx(400.0)
    assert spec.channels["low_loss"].axes["energy_loss"].offset == pytest.approx(-2.0)
    assert len(list(driver.frames(clock.signal()))) == 1


@pytest.mark.parametrize("moved", [{"loss": 350.0}, {"dispersion": 2}])
def test_a_filter_that_somebody_has_moved_is_an_error(
    opened: Opener, clock: WallClock, gatan: EmccdDouble, moved: dict[str, float]
) -> None:
    driver = behind(gatan, opened)
    driver.tune(SETTING)
    for name, value in moved.items():
        setattr(gatan, name, value)
    with pytest.raises(InstrumentError, match="tune it again"):
        driver.arm(SpectrumExposure(0.01), 1)
    assert len(take(driver, clock, SETTING)) == 1


def test_a_filter_that_does_not_come_back_is_an_error(
    opened: Opener, clock: WallClock, gatan: EmccdDouble
) -> None:
    driver = behind(gatan, opened)
    driver.tune(replace(SETTING, dual=True))
    driver.arm(SpectrumExposure(0.01, 0.01), 1)
    gatan.loss_step = 0.7  # 402 eV become 401.8 eV
    with pytest.raises(InstrumentError, match="instead of 400 eV, where it was"):
        list(driver.frames(clock.signal()))
