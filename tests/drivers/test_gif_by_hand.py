"""The GIF driver when the filter is not as it was asked for, or somebody else moves it meanwhile."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import Frame, SpectrometerSetting, SpectrumExposure, StreamSpec
from acquire.station import DriverContext
from drivers.spectrometers.gif import Gif, open_gif
from tests.drivers.emccd_double import CAMERA, EmccdDouble

Opener = Callable[..., Gif]
ROWS, CHANNELS = CAMERA
SINGLE = SpectrometerSetting(400.0, 0.1, 100, dual=False)
DUAL = replace(SINGLE, dual=True)
EXPOSURE = SpectrumExposure(0.02, 0.01)


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


def one(gif: Gif, clock: WallClock) -> Frame:
    gif.arm(EXPOSURE, 1)
    try:
        (frame,) = gif.frames(clock.signal())
    finally:
        gif.disarm()
    return frame


@pytest.mark.parametrize("setting", [SINGLE, DUAL])
@pytest.mark.parametrize(
    ("moved", "to"),
    [("loss", 350.0), ("loss", 402.3), ("dispersion", 2), ("slit", 1), ("eels", 0)],
)
def test_a_filter_that_is_moved_by_hand_in_a_spectrum_gives_none(
    double: EmccdDouble,
    opened: Opener,
    clock: WallClock,
    setting: SpectrometerSetting,
    moved: str,
    to: float,
) -> None:
    gif = opened()
    gif.tune(setting)
    one(gif, clock)
    right = double.images

    def somebody_moves_it(channel: int, shape: tuple[int, int]) -> np.ndarray:
        setattr(double, moved, to)
        return right(channel, shape)

    double.images = somebody_moves_it
    with pytest.raises(InstrumentError, match="nobody else"):
        one(gif, clock)
    double.images, double.eels = right, 1
    gif.tune(setting)
    assert one(gif, clock).data["core_loss"].shape == (100,)


def test_a_filter_that_was_moved_between_two_spectra_gives_none(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    gif = opened()
    gif.tune(SINGLE)
    one(gif, clock)
    double.loss = 300.0
    with pytest.raises(InstrumentError, match="instead of 402 eV"):
        one(gif, clock)


def test_both_axes_are_those_that_the_filter_took(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    gif = opened(low_loss_offset="5.1 eV")
    double.loss_step = 0.25
    taken = gif.tune(replace(DUAL, energy_offset_ev=400.1))
    assert taken.energy_offset_ev == pytest.approx(400.0)
    spec = gif.arm(EXPOSURE, 1)
    offsets = {name: channel.axes["energy_loss"].offset for name, channel in spec.channels.items()}
    assert offsets == {"core_loss": pytest.approx(400.0), "low_loss": pytest.approx(3.0)}
    assert len(list(gif.frames(clock.signal()))) == 1


def test_a_slit_is_taken_out_when_the_filter_is_tuned(double: EmccdDouble, opened: Opener) -> None:
    double.slit = 1
    gif = opened()
    gif.tune(SINGLE)
    assert double.slit == 0
    double.script_values["IFGetSlitIn"] = 1.0
    with pytest.raises(InstrumentError, match="slit"):
        gif.tune(SINGLE)


def test_a_filter_in_its_image_mode_is_refused(double: EmccdDouble, opened: Opener) -> None:
    gif = opened()
    double.eels = 0
    with pytest.raises(InstrumentError, match="spectroscopy mode"):
        gif.tune(SINGLE)
    assert double.loss == 0.0


def test_a_spectrometer_without_a_slit_is_asked_for_none(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    double.unknown = {"IFGetSlitIn", "IFSetSlitIn", "IFIsInEELSMode"}
    gif = opened()
    gif.tune(SINGLE)
    one(gif, clock)


def test_how_many_processed_pixels_are_full_is_known_by_the_cameras_own_limit(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    # a full pixel of 65535 without its dark level
    double.images = lambda channel, shape: (
        np.where(np.arange(shape[1]) < 3, 6543.5, 0.0) * np.ones(shape)
    )
    exposure = SpectrumExposure(0.01)
    for options, full in (({}, math.nan), ({"saturation_counts": 65000}, 3.0 * ROWS)):
        gif = opened(**options)
        gif.tune(SINGLE)
        gif.arm(exposure, 1)
        (frame,) = gif.frames(clock.signal())
        gif.disarm()
        assert frame.meta.scalars["saturated_pixels"] == pytest.approx(full, nan_ok=True)


def test_what_the_filter_cannot_do_is_refused(double: EmccdDouble, opened: Opener) -> None:
    gif = opened()
    with pytest.raises(LimitError, match="off axis"):
        gif.tune(replace(DUAL, off_axis_mrad=10.0))
    gif.tune(DUAL)
    with pytest.raises(LimitError, match="low-loss reads"):
        gif.arm(replace(EXPOSURE, low_loss_reads=4))


def test_pieces_of_an_exposure_are_never_below_the_shortest(opened: Opener) -> None:
    with pytest.raises(ValueError, match="shortest_exposure"):
        opened(shortest_exposure="0.6 s", longest_exposure="1 s")


def test_an_acquisition_that_is_armed_while_the_filter_is_tuned_has_the_axis_of_its_spectra(
    double: EmccdDouble, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    gif = opened()
    gif.tune(SINGLE)
    specs: list[StreamSpec] = []
    other = threading.Thread(target=lambda: specs.append(gif.arm(EXPOSURE, 1)))
    armed = gif._acquisition.armed

    def somebody_arms_it_now() -> bool:
        found = armed()
        other.start()
        other.join(0.5)
        return found

    monkeypatch.setattr(gif._acquisition, "armed", somebody_arms_it_now)
    gif.tune(replace(SINGLE, energy_offset_ev=500.0))
    other.join(10)
    assert double.loss == pytest.approx(502.0)
    assert specs[0].channels["core_loss"].axes["energy_loss"].offset == 500.0
