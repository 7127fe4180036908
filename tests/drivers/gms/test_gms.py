"""The GMS driver: spectra with their axes and times, as it asks for them and as they came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import Spectrometer, SpectrumExposure, StreamSpec
from drivers.conformance import check_spectrometer
from drivers.spectrometers.gms import Gms
from tests.drivers.gms.conftest import CHANNELS, ROWS, SETTING, ServerDouble, spectra


def test_it_is_a_spectrometer_and_conforms(gms: Gms, clock: WallClock) -> None:
    assert isinstance(gms, Spectrometer)
    check_spectrometer(gms, clock, SETTING)


def test_a_dual_spectrum_is_one_job_and_each_half_has_its_time(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    assert gms.tune(SETTING) == SETTING
    before = clock.now_s()
    (frame,) = spectra(gms, clock)
    assert double.jobs == [
        ("tune", {"dispersion": 1, "energy_loss_ev": 0.0}),
        ("tune", {"dispersion": 1, "energy_loss_ev": 402.0}),
        (
            "spectra",
            {
                "exposures": [
                    {"name": "low_loss", "energy_loss_ev": 0.0, "exposure_s": 0.01},
                    {"name": "core_loss", "energy_loss_ev": 402.0, "exposure_s": 0.02},
                ],
                "dispersion": 1,
                "processing": 3,
                "area": [0, 0, ROWS, CHANNELS],
                "points": None,
                "full_counts": None,
            },
        ),
    ]
    np.testing.assert_array_equal(frame.data["low_loss"], 1000 + np.arange(100))
    np.testing.assert_array_equal(frame.data["core_loss"], 10 + np.arange(100))
    low, core = frame.meta.spans["low_loss"], frame.meta.spans["core_loss"]
    assert low[1] - low[0] == pytest.approx(0.01)
    assert core[1] - core[0] == pytest.approx(0.02)
    assert before <= low[0] <= low[1] <= core[0] <= core[1] <= clock.now_s()
    assert 0 < frame.meta.scalars["time_bound"] < 0.1
    low_axis = gms.arm(SpectrumExposure(0.01), 1).channels["low_loss"].axes["energy_loss"]
    assert low_axis.offset == pytest.approx(-2.0)


def test_a_single_spectrum_asks_for_one_exposure(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(replace(SETTING, dual=False))
    (frame,) = spectra(gms, clock)
    assert set(frame.data) == {"core_loss"}
    assert [item["name"] for item in double.jobs[-1][1]["exposures"]] == ["core_loss"]


def test_a_cut_aborts_the_job_at_once(double: ServerDouble, gms: Gms, clock: WallClock) -> None:
    gms.tune(SETTING)
    gms.arm(SpectrumExposure(30.0), 1)
    stop = clock.signal()
    threading.Timer(0.1, stop.set).start()
    begun = time.monotonic()
    assert list(gms.frames(stop)) == []
    assert time.monotonic() - begun < 0.1 + 0.25
    gms.disarm()
    assert double.aborted.is_set()
    assert len(spectra(gms, clock)) == 1


def test_the_offset_that_the_filter_took_is_told(double: ServerDouble, gms: Gms) -> None:
    double.disobeys_ev = 0.25
    assert gms.tune(replace(SETTING, dual=False)).energy_offset_ev == pytest.approx(400.25)
    double.disobeys_ev = 3.0
    with pytest.raises(InstrumentError, match="instead of 402 eV"):
        gms.tune(replace(SETTING, dual=False))
    with pytest.raises(InstrumentError, match="not tuned"):
        gms.arm(SpectrumExposure(0.01))


def test_both_axes_are_those_that_the_filter_took(
    double: ServerDouble, opened: Callable[..., Gms], clock: WallClock
) -> None:
    gms = opened(low_loss_offset="5.1 eV")
    double.step_ev = 0.25
    assert gms.tune(SETTING).energy_offset_ev == pytest.approx(400.0)
    spec = gms.arm(SpectrumExposure(0.02, 0.01), 1)
    offsets = {name: channel.axes["energy_loss"].offset for name, channel in spec.channels.items()}
    assert offsets == {"core_loss": pytest.approx(400.0), "low_loss": pytest.approx(3.0)}
    assert len(list(gms.frames(clock.signal()))) == 1


def test_a_spectrum_at_another_energy_than_its_axis_says_is_an_error(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(SETTING)
    double.drifts_ev = 0.3
    with pytest.raises(InstrumentError, match="nobody else"):
        spectra(gms, clock)


def test_a_dark_level_that_nobody_takes_away_is_refused(opened: Callable[..., Gms]) -> None:
    with pytest.raises(ValueError, match="dark_subtracted"):
        opened(processing="unprocessed")


def test_how_far_times_may_be_off_is_told_with_what_the_camera_took_longer(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(SETTING)
    double.shortens = 3.0
    (frame,) = spectra(gms, clock)
    assert frame.meta.scalars["time_bound"] >= 2 * 0.02


def test_full_pixels_are_told_where_it_is_known_what_that_is(
    opened: Callable[..., Gms], clock: WallClock
) -> None:
    for options, full in (({}, np.nan), ({"saturation_counts": 60000}, 6.0)):
        gms = opened(**options)
        gms.tune(SETTING)
        (frame,) = spectra(gms, clock)
        assert frame.meta.scalars["saturated_pixels"] == pytest.approx(full, nan_ok=True)
        gms.close()


def test_an_acquisition_that_is_armed_while_the_filter_is_tuned_has_the_axis_of_its_spectra(
    double: ServerDouble, gms: Gms, monkeypatch: pytest.MonkeyPatch
) -> None:
    gms.tune(SETTING)
    specs: list[StreamSpec] = []
    other = threading.Thread(target=lambda: specs.append(gms.arm(SpectrumExposure(0.01), 1)))
    armed = gms._acquisition.armed

    def somebody_arms_it_now() -> bool:
        found = armed()
        other.start()
        other.join(0.5)
        return found

    monkeypatch.setattr(gms._acquisition, "armed", somebody_arms_it_now)
    gms.tune(replace(SETTING, energy_offset_ev=500.0))
    other.join(10)
    assert double.energy_ev == pytest.approx(502.0)
    assert specs[0].channels["core_loss"].axes["energy_loss"].offset == 500.0


def test_an_exposure_is_as_long_as_it_was_also_when_the_answer_comes_slowly(
    double: ServerDouble, gms: Gms, clock: WallClock
) -> None:
    gms.tune(SETTING)
    double.slow_s = 0.02  # the middle of the call lies 0.01 s after GMS began to expose
    [frame] = spectra(gms, clock)
    low, high = frame.meta.spans["core_loss"]
    assert high - low == pytest.approx(0.02, abs=1e-6)
    assert frame.t_end_s <= clock.now_s()


def test_a_shortened_exposure_is_an_error(double: ServerDouble, gms: Gms, clock: WallClock) -> None:
    gms.tune(SETTING)
    double.shortens = 0.5
    with pytest.raises(InstrumentError, match="has shortened it"):
        spectra(gms, clock)


def test_limits(gms: Gms) -> None:
    for wrong, words in (
        (replace(SETTING, dispersion_ev=0.07), r"0\.05 eV, 0\.1 eV"),
        (replace(SETTING, dispersion_ev=0.2), "dispersion 0"),
        (replace(SETTING, channels=CHANNELS + 1), "channels"),
        (replace(SETTING, energy_offset_ev=float("nan")), "energy offset"),
    ):
        with pytest.raises(LimitError, match=words):
            gms.tune(wrong)
