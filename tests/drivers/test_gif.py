"""The GIF driver against a stand-in of the plug-in."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import Spectrometer, SpectrometerSetting, SpectrumExposure
from acquire.station import DriverContext
from drivers.conformance import check_spectrometer
from drivers.spectrometers.gif import Gif, open_gif
from tests.drivers.emccd_double import CAMERA, EmccdDouble

Opener = Callable[..., Gif]
ROWS, CHANNELS = CAMERA
SETTING = SpectrometerSetting(400.0, 0.1, 100, dual=False)


@pytest.fixture
def double() -> Iterator[EmccdDouble]:
    with EmccdDouble() as made:
        yield made


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def opened(double: EmccdDouble, clock: WallClock) -> Iterator[Opener]:
    contexts: list[DriverContext] = []

    def make(**options: Any) -> Gif:
        context = DriverContext("spectrometer", clock, "station.toml")
        contexts.append(context)
        given = {
            "address": double.address,
            "dispersions": ["0.05 eV", "0.1 eV", "0.5 eV"],
            "zero_loss_channel": 20.0,
            "camera_size": [CHANNELS, ROWS],
            "processing": "gain_normalized",
        }
        return open_gif(context, **{**given, **options})

    yield make
    for context in contexts:
        context.shared.close()


@pytest.fixture
def gif(opened: Opener) -> Gif:
    return opened()


def exposures(double: EmccdDouble) -> list[tuple[int, ...]]:
    return [longs for function, longs, _ in double.requests if function == 6]


def test_it_is_a_spectrometer_and_conforms(gif: Gif, clock: WallClock) -> None:
    assert isinstance(gif, Spectrometer)
    check_spectrometer(gif, clock, SpectrometerSetting(400.0, 0.1, 100))


# ------------------------------------------------------------------------------ tuning


def test_the_zero_loss_channel_is_between_energy_loss_and_axis(
    double: EmccdDouble, gif: Gif
) -> None:
    assert gif.tune(SETTING) == SETTING
    assert double.dispersion == 1
    assert double.loss == pytest.approx(400.0 + 20 * 0.1)
    axis = gif.arm(SpectrumExposure(0.01), 1).channels["core_loss"].axes["energy_loss"]
    assert (axis.offset, axis.step) == (400.0, 0.1)


def test_the_offset_that_the_filter_took_is_told(double: EmccdDouble, gif: Gif) -> None:
    double.script_values["IFGetEnergyLoss"] = 402.25
    assert gif.tune(SETTING).energy_offset_ev == pytest.approx(400.25)


def test_a_filter_that_does_not_obey_is_an_error(double: EmccdDouble, gif: Gif) -> None:
    double.script_values["IFGetEnergyLoss"] = 0.0
    with pytest.raises(InstrumentError, match="instead of 402 eV"):
        gif.tune(SETTING)
    with pytest.raises(InstrumentError, match="not tuned"):
        gif.arm(SpectrumExposure(0.01), 1)


def test_another_dispersion_than_was_set_is_an_error(double: EmccdDouble, gif: Gif) -> None:
    double.script_values["IFCGetActiveDispersion"] = 0.0
    with pytest.raises(InstrumentError, match="dispersion 0"):
        gif.tune(SETTING)


def test_only_the_filters_own_dispersions_are_taken(double: EmccdDouble, gif: Gif) -> None:
    before = list(double.scripts)
    with pytest.raises(LimitError, match=r"0\.05 eV, 0\.1 eV, 0\.5 eV"):
        gif.tune(replace(SETTING, dispersion_ev=0.2))
    with pytest.raises(LimitError, match="channels"):
        gif.tune(replace(SETTING, channels=CHANNELS + 1))
    assert double.scripts == before


# ----------------------------------------------------------------------------- spectra


def test_rows_are_summed_without_loss_below_zero(
    double: EmccdDouble, gif: Gif, clock: WallClock
) -> None:
    gif.tune(SETTING)
    gif.arm(SpectrumExposure(0.05), 1)
    (frame,) = gif.frames(clock.signal())
    # the camera shows (channel - 10) · 50 in every row: negative ones, too
    expected = ROWS * (np.arange(100) - 10) * 50
    counts = frame.data["core_loss"]
    assert counts.dtype == np.int32
    assert np.all(np.abs(counts - expected) <= ROWS)
    assert counts[0] < 0
    (longs,) = exposures(double)
    assert longs == (ROWS * CHANNELS, CHANNELS, ROWS, 2, 1, 0, 0, ROWS, CHANNELS, -1, 0, 1, -1)
    assert double.exposures == [0.05]


@pytest.mark.parametrize("value", [-3, -2, -1, 0, 1, 2, 3, 1000, 1001])
def test_halved_pixels_are_counts_again(
    double: EmccdDouble, gif: Gif, clock: WallClock, value: int
) -> None:
    double.images = lambda channel, shape: np.full(shape, value / 10)
    gif.tune(SETTING)
    gif.arm(SpectrumExposure(0.01), 1)
    (frame,) = gif.frames(clock.signal())
    assert abs(frame.data["core_loss"][0] / ROWS - value) <= 1.0


def test_unprocessed_images_lose_their_dark_level_exactly(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    gif = opened(processing="unprocessed")
    gif.tune(SETTING)
    for _ in range(2):
        gif.arm(SpectrumExposure(0.05), 1)
        assert double.darks == 4, "not under the beam"
        (frame,) = gif.frames(clock.signal())
        gif.disarm()
        # rows are (channel - 10) · 50 + 100, dark ones 100 or 101 in turn; below 0 there is nothing
        level = np.maximum(ROWS * (np.arange(100) - 10) * 50, -ROWS * 100) - ROWS // 2
        assert np.array_equal(frame.data["core_loss"], level)
    assert double.darks == 4
    assert next(longs for function, longs, _ in double.requests if function == 7) == (
        *(ROWS * CHANNELS, CHANNELS, ROWS, 1),
        *(0, 0, ROWS, CHANNELS, -1, 0, -1),
    )


def test_full_pixels_are_counted(double: EmccdDouble, gif: Gif, clock: WallClock) -> None:
    def full_in_one_corner(channel: int, shape: tuple[int, int]) -> np.ndarray:
        data = np.zeros(shape)
        data[:2, :3] = 6553.5
        return data

    double.images = full_in_one_corner
    gif.tune(SETTING)
    gif.arm(SpectrumExposure(0.01), 1)
    (frame,) = gif.frames(clock.signal())
    assert frame.meta.scalars["saturated_pixels"] == 6


def test_a_long_exposure_is_the_sum_of_short_ones(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    gif = opened(longest_exposure="0.1 s")
    gif.tune(SETTING)
    gif.arm(SpectrumExposure(0.3), 1)
    (frame,) = gif.frames(clock.signal())
    assert double.exposures == [pytest.approx(0.1)] * 3
    assert np.all(
        np.abs(frame.data["core_loss"][20:] - ROWS * (np.arange(20, 100) - 10) * 300) <= 24
    )
    assert frame.t_end_s - frame.t_start_s >= 0.3


def test_a_dual_spectrum_is_two_at_their_own_offsets_one_after_the_other(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    gif = opened(low_loss_offset="5 eV")
    assert gif.describe().details["dual"] == "sequential"
    gif.tune(replace(SETTING, dual=True))
    double.scripts.clear()
    spec = gif.arm(SpectrumExposure(0.05, 0.01), 2)
    assert spec.channels["low_loss"].axes["energy_loss"].offset == pytest.approx(3.0)
    assert [script for script in double.scripts if "IFSetEnergyLoss(5" in script], (
        "not under the beam"
    )
    for frame in gif.frames(clock.signal()):
        low, core = frame.meta.spans["low_loss"], frame.meta.spans["core_loss"]
        assert frame.t_start_s == low[0] < low[1] <= core[0] < core[1] == frame.t_end_s
        late_s = max(low[1] - low[0] - 0.01, core[1] - core[0] - 0.05)
        assert frame.meta.scalars["time_bound"] == pytest.approx(late_s)
    assert double.exposures == [0.01, 0.05] * 2
    losses = [
        script.split("(")[1].split(")")[0]
        for script in double.scripts
        if script.startswith("IFSetEnergyLoss")
    ]
    assert [float(loss) for loss in losses] == [5.0, 402.0] * 2


def test_a_spectrum_is_cut_at_once_and_yields_nothing(
    double: EmccdDouble, gif: Gif, clock: WallClock
) -> None:
    gif.tune(SETTING)
    gif.arm(SpectrumExposure(30.0), None)
    stop, told = clock.signal(), []

    def end() -> None:
        told.append(time.monotonic())
        stop.set()

    threading.Timer(0.3, end).start()
    assert list(gif.frames(stop)) == []
    assert time.monotonic() - told[0] < 0.25
    gif.disarm()
    assert gif.tune(SETTING) == SETTING
    assert time.monotonic() - told[0] < 2.0


def test_a_camera_that_shortens_exposures_is_an_error(
    double: EmccdDouble, gif: Gif, clock: WallClock
) -> None:
    double.speedup = 10.0
    gif.tune(SETTING)
    gif.arm(SpectrumExposure(0.5), 1)
    with pytest.raises(InstrumentError, match="shortened it"):
        list(gif.frames(clock.signal()))


# -------------------------------------------------------------------------------- link


@pytest.mark.parametrize("moved", ["loss", "dispersion", "inserted"])
def test_after_a_lost_link_the_filter_is_looked_at_again(
    double: EmccdDouble, gif: Gif, clock: WallClock, moved: str
) -> None:
    gif.tune(SETTING)
    gif.arm(SpectrumExposure(0.02), None)
    frames = gif.frames(clock.signal())
    next(frames)
    double.drop()
    setattr(double, moved, 0)
    with contextlib.suppress(InstrumentError):  # the lost link, or what was moved
        next(frames)
    gif.disarm()
    gif.arm(SpectrumExposure(0.02), None)
    with pytest.raises(InstrumentError, match=r"filter|retracted"):
        next(gif.frames(clock.signal()))


def test_a_lost_link_with_nothing_changed_goes_on(
    double: EmccdDouble, gif: Gif, clock: WallClock
) -> None:
    gif.tune(SETTING)
    double.drop()
    gif.arm(SpectrumExposure(0.02), 1)
    assert len(list(gif.frames(clock.signal()))) == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"camera": 3}, InstrumentError),
        ({"dispersions": "0.1 eV"}, TypeError),
        ({"dispersions": ["0.1"]}, ValueError),
        ({"processing": "raw"}, ValueError),
        ({"camera_size": [32, 8]}, ValueError),
        ({"rows": [8, 8]}, ValueError),
        ({"longest_exposure": "1 h"}, ValueError),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    opened: Opener, change: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        opened(**change)


def test_a_computer_without_a_filter_is_refused(double: EmccdDouble, opened: Opener) -> None:
    double.unknown = {"IFSetEnergyLoss"}
    with pytest.raises(InstrumentError, match="no Gatan imaging filter"):
        opened()


def test_only_some_rows_are_read(double: EmccdDouble, opened: Opener, clock: WallClock) -> None:
    gif = opened(rows=[2, 5])
    gif.tune(SETTING)
    gif.arm(SpectrumExposure(0.01), 1)
    list(gif.frames(clock.signal()))
    (longs,) = exposures(double)
    assert longs[5:9] == (2, 0, 5, CHANNELS)
    assert longs[:3] == (3 * CHANNELS, CHANNELS, 3)
