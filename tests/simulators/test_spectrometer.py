"""The simulated spectrometer: limits, reads in turn, bursts, presets, truth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from acquire.clock import VirtualClock
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import Frame, SpectrometerSetting, SpectrumExposure
from simulators.instruments import ExsolutionSimulation, SimulatedSpectrometer, build
from simulators.spectra import Band

LINE = SpectrometerSetting(400.0, 0.1, 1024)


class Bench:
    """A simulation whose probe can be parked anywhere."""

    def __init__(self, clock: VirtualClock, **options: Any) -> None:
        self.clock = clock
        self.simulation: ExsolutionSimulation = build(
            clock, **{"seed": 3, "drift": False} | options
        )
        found = self.simulation.instruments["spectrometer"]
        assert isinstance(found, SimulatedSpectrometer)
        self.spectrometer = found

    def take(self, exposure: SpectrumExposure, frames: int = 1) -> list[Frame]:
        """Some spectra of the parked probe."""
        self.spectrometer.arm(exposure, frames)
        try:
            return list(self.spectrometer.frames(self.clock.signal()))
        finally:
            self.spectrometer.disarm()

    def park(self, x_nm: float, y_nm: float = 0.0) -> None:
        """Put the probe there."""
        self.simulation.world.column.park(x_nm, y_nm)

    def truth(self, frame: Frame) -> dict[str, Any]:
        """What was in a frame, as JSON."""
        return dict(json.loads(json.dumps(self.simulation.truth("spectrometer", frame.index))))


@contextmanager
def bench(**options: Any) -> Iterator[Bench]:
    clock = VirtualClock()
    with clock.enrolled("test"):
        yield Bench(clock, **options)


def test_description_tells_camera_resolution_and_full_scale() -> None:
    with bench(camera="counting", energy_resolution="9 meV") as b:
        told = b.spectrometer.describe()
    assert told.details["camera"] == "counting"
    assert told.details["gain_counts_per_electron"] == 1.0
    assert told.details["readout_noise_electrons"] == 0.0
    assert told.details["offset_counts"] == 0.0
    assert told.details["full_scale_counts"] == 2.0**24 - 1
    assert told.details["energy_resolution_ev"] == pytest.approx(0.009)
    limits = {limit.quantity: (limit.low, limit.high) for limit in told.limits}
    assert limits["dispersion"][0] == 5e-4
    assert limits["energy_offset"][0] == -200.0


@pytest.mark.parametrize(
    "setting",
    [
        SpectrometerSetting(-201.0, 0.1),
        SpectrometerSetting(400.0, 4e-4),
        SpectrometerSetting(400.0, 0.1, off_axis_mrad=-1.0),
        SpectrometerSetting(400.0, 0.1, off_axis_mrad=math.nan),
        SpectrometerSetting(400.0, 0.1, off_axis_mrad=151.0),
        SpectrometerSetting(math.inf, 0.1),
    ],
)
def test_settings_beyond_the_limits_are_refused(setting: SpectrometerSetting) -> None:
    with bench(draft=True) as b, pytest.raises(LimitError, match="refused"):
        b.spectrometer.tune(setting)


def test_reads_beyond_the_limits_are_refused_and_arm_nothing() -> None:
    with bench(draft=True) as b:
        for reads in (0, 1001, 2.5):
            with pytest.raises(LimitError, match="reads"):
                b.spectrometer.arm(SpectrumExposure(0.5, 1e-3, reads))  # type: ignore[arg-type]
        b.spectrometer.tune(SpectrometerSetting(400.0, 0.1, dual=False))
        with pytest.raises(LimitError, match="not dual"):
            b.spectrometer.arm(SpectrumExposure(0.5, 1e-3, 4))
        b.spectrometer.arm(SpectrumExposure(0.5))
        with pytest.raises(InstrumentError, match="armed already"):
            b.spectrometer.arm(SpectrumExposure(0.5))


@pytest.mark.parametrize(
    ("option", "value"),
    [("camera", "film"), ("energy_resolution", "0 eV"), ("beam_energy", "5 keV")],
)
def test_options_that_cannot_be_are_refused_by_name(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=option):
        build(VirtualClock(), seed=1, draft=True, **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("draft", [True, False])
def test_low_loss_reads_take_turns_with_the_core_loss_and_have_their_own_times(draft: bool) -> None:
    with bench(draft=draft) as b:
        b.spectrometer.tune(LINE)
        spec = b.spectrometer.arm(SpectrumExposure(0.5, 1e-3, 10), 2)
        frames = list(b.spectrometer.frames(b.clock.signal()))
        truths = [b.truth(frame) for frame in frames]
    assert spec.channels["low_loss"].shape == (10, 1024)
    assert spec.channels["low_loss"].dims == ("low_loss_read", "energy_loss")
    assert spec.channels["low_loss_time"].dims == ("low_loss_read", "span")
    assert spec.frame_period_s == pytest.approx(0.51)
    for frame, truth in zip(frames, truths, strict=True):
        for name, channel in spec.channels.items():
            assert frame.data[name].shape == channel.shape
            assert frame.data[name].dtype == channel.dtype
            assert channel.axes.keys() == set(channel.dims)
        times = frame.data["low_loss_time"]
        assert np.allclose(times[:, 1] - times[:, 0], 1e-3)
        assert np.allclose(times[:, 0], np.arange(10) * 0.051)
        assert frame.t_end_s - frame.t_start_s == pytest.approx(0.51)
        low_span = frame.meta.spans["low_loss"]
        assert low_span == pytest.approx((frame.t_start_s, frame.t_start_s + 9 * 0.051 + 1e-3))
        assert len(truth["low_loss_shifts_ev"]) == 10
        assert np.std(truth["low_loss_shifts_ev"]) > 0.02
        assert np.mean(truth["low_loss_shifts_ev"]) == pytest.approx(
            truth["zlp_shift_ev"], abs=0.08
        )
        if draft:
            assert not frame.data["low_loss"].any()
        else:
            assert len(np.unique(frame.data["low_loss"], axis=0)) == 10


def test_a_burst_is_the_same_as_its_spectra_one_by_one() -> None:
    exposure = SpectrumExposure(1e-3, 1e-4)
    with bench() as b:
        b.spectrometer.tune(LINE)
        single = b.take(exposure, 5)
        truths = [b.truth(f) for f in single]
        b.spectrometer.arm(exposure, None)
        starts = [f.t_start_s for f in single]
        data, spans = b.spectrometer.burst(single[0].index, starts)
        burst = [b.simulation.truth("spectrometer", f.index) for f in single]
    for name in ("core_loss", "low_loss"):
        assert np.array_equal(data[name], np.stack([f.data[name] for f in single]))
    assert spans["core_loss"] == pytest.approx((1e-4, 1.1e-3))
    assert spans["low_loss"] == pytest.approx((0.0, 1e-4))
    for one, other in zip(truths, burst, strict=True):
        assert other["zlp_shift_ev"] == pytest.approx(one["zlp_shift_ev"], abs=1e-12)
        assert other["low_loss_shifts_ev"] == pytest.approx(one["low_loss_shifts_ev"], abs=1e-12)


def test_a_line_across_the_grain_boundary_has_the_published_deficits_in_its_truth() -> None:
    with bench(specimen="lstz_grain_boundary", draft=True) as b:
        grain = b.simulation.world.specimen.grain_boundary
        assert grain is not None
        found = {}
        for name, x in {
            "in": grain.x_nm,
            "beside": grain.x_nm + grain.width_nm,
            "far": grain.x_nm + 9,
        }.items():
            b.park(x)
            found[name] = b.truth(b.take(SpectrumExposure(0.1))[0])
    published = {"Sr": 0.74, "Ta": 0.89, "Zr": 0.93, "O": 1.0, "Li": 1.0}
    assert found["in"]["relative"] == pytest.approx(published)
    assert found["far"]["relative"] == pytest.approx(dict.fromkeys(published, 1.0))
    # the stated width is the standard deviation of the profile
    assert found["beside"]["relative"]["Sr"] == pytest.approx(1 - 0.26 * math.exp(-0.5))
    assert found["in"]["distance_to_boundary_nm"] == pytest.approx(0.0, abs=1e-9)
    per_nm = {name: t["per_nm2"]["Sr"] / t["thickness_nm"] for name, t in found.items()}
    assert per_nm["in"] / per_nm["far"] == pytest.approx(0.74)
    phonons = [found[n]["phonons_10_50_mev"] / found[n]["thickness_nm"] for n in ("in", "far")]
    assert phonons[0] / phonons[1] == pytest.approx(0.851, abs=0.002)
    phonons = [found[n]["phonons_50_100_mev"] / found[n]["thickness_nm"] for n in ("in", "far")]
    assert phonons[0] == pytest.approx(phonons[1])


@pytest.mark.parametrize(
    ("specimen", "material", "element"),
    [("srtio3", "srtio3", "Sr"), ("tio2", "tio2", "Ti"), ("calibration_grating", "carbon", "C")],
)
def test_a_preset_has_the_spectra_of_its_material(
    specimen: str, material: str, element: str
) -> None:
    with bench(specimen=specimen, draft=True) as b:
        truth = b.truth(b.take(SpectrumExposure(0.1))[0])
    assert truth["material"] == material
    assert truth["per_nm2"][element] > 100
    assert truth["ti3_fraction"] == 0.0
    assert truth["t_over_lambda"] > 0.2


def test_in_vacuum_there_is_the_beam_alone() -> None:
    with bench(specimen="vacuum") as b:
        b.spectrometer.tune(LINE)
        frame = b.take(SpectrumExposure(0.5))[0]
        truth = b.truth(frame)
    assert truth["t_over_lambda"] == 0.0
    assert truth["per_nm2"] == {}
    assert frame.data["core_loss"].std() == pytest.approx(1.4 * 5.3, rel=0.1)
    low = frame.data["low_loss"].astype(float)
    axis = -10.24 + 0.1 * np.arange(1024)
    assert low[np.abs(axis) < 3].sum() == pytest.approx(0.99 * low.sum(), rel=0.01)
    electrons = truth["dose_electrons"] * 1e-3 / 0.501
    assert low.sum() / 5.3 == pytest.approx(electrons, rel=0.01)


def test_vibrations_off_the_axis_tell_the_temperature() -> None:
    setting = SpectrometerSetting(-0.2, 0.001, 512, dual=False, off_axis_mrad=80.0)
    options = {
        "energy_resolution": "6 meV",
        "beam_energy": "60 keV",
        "camera": "counting",
        "specimen": "srtio3",
        "probe_current": "200 pA",
    }
    with bench(**options) as b:
        assert b.spectrometer.tune(setting) == setting
        frame = b.take(SpectrumExposure(20.0))[0]
        shift = b.truth(frame)["zlp_shift_ev"]
    axis = -0.2 + 0.001 * np.arange(512) - shift
    counts = frame.data["core_loss"].astype(float)
    loss, gain = (counts[np.abs(axis - sign * 0.059) < 0.004].sum() for sign in (1, -1))
    kelvin = 0.059 / (8.617e-5 * math.log(loss / gain))
    assert kelvin == pytest.approx(298, rel=0.15)


def test_a_zero_loss_peak_that_is_too_bright_saturates() -> None:
    with bench(probe_current="1 nA") as b:
        b.spectrometer.tune(LINE)
        frame = b.take(SpectrumExposure(0.1, 0.01))[0]
        full = b.spectrometer.describe().details["full_scale_counts"]
    assert frame.data["low_loss"].max() == full
    assert frame.data["core_loss"].max() < full


def test_far_ends_see_the_whole_spectrum_and_the_mean_shift_of_their_exposure() -> None:
    with bench() as b:
        b.spectrometer.tune(LINE)
        band = Band(-20.0, 0.25, 2048)
        start = b.clock.now_s()
        mean = b.spectrometer.disperse(band, start, start + 0.2, 0)
        truth = b.simulation.truth("spectrometer", 0)
    axis = band.energy_ev()
    near = np.abs(axis - axis[np.argmax(mean)]) < 1
    assert float(axis[near] @ mean[near] / mean[near].sum()) == pytest.approx(
        truth["zlp_shift_ev"], abs=0.02
    )
    assert mean.sum() == pytest.approx(truth["dose_electrons"], rel=0.01)
