"""The SIMPLON driver and its far end, which were written apart, with each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import HotstageError, LinkError
from acquire.farends import FarEndContext, Shared
from acquire.instruments import Frame, SpectrometerSetting, SpectrumExposure
from acquire.station import DriverContext
from drivers.conformance import check_spectrometer
from drivers.spectrometers import simplon_series
from drivers.spectrometers.simplon import Simplon, open_simplon
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires import serialemccd, simplon

RATE = 5.0
SETTING = SpectrometerSetting(400.0, 0.5, 1000, dual=False)
STREAMS = {"cbor": "stream2", "legacy": "stream"}


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=5, drift=False, specimen="blank_film")


@pytest.fixture
def end(simulation: ExsolutionSimulation) -> Iterator[simplon.Simplon]:
    simulation.world.energy_filter = None
    made = simplon.serve(
        FarEndContext("ela", simulation.world.clock, simulation), energy_loss="450 eV", rows=64
    )
    assert isinstance(made, simplon.Simplon)
    yield made
    made.close()


def _open(
    end: simplon.Simplon,
    simulation: ExsolutionSimulation,
    shared: Shared,
    version: str,
    **options: Any,
) -> Simplon:
    context = DriverContext("spectrometer", simulation.world.clock, "station.toml", shared)
    axis = {"energy_offset": "400 eV", "dispersion": "0.5 eV"}
    return open_simplon(
        context,
        rest=end.addresses["api"],
        stream=end.addresses[STREAMS[version]],
        version=version,
        gap="500 µs",
        **(options or axis),
    )


@pytest.fixture(params=STREAMS)
def driver(
    end: simplon.Simplon, simulation: ExsolutionSimulation, request: pytest.FixtureRequest
) -> Iterator[Simplon]:
    shared = Shared()
    made = _open(end, simulation, shared, request.param)
    yield made
    end.faults.clear()
    made.close()
    shared.close()


def _spectra(
    driver: Simplon, simulation: ExsolutionSimulation, number: int = 3, dwell_s: float = 0.2
) -> list[Frame]:
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(dwell_s), number)
    try:
        return list(driver.frames(simulation.world.clock.signal()))
    finally:
        driver.disarm()


def test_it_conforms(driver: Simplon, simulation: ExsolutionSimulation) -> None:
    check_spectrometer(driver, simulation.world.clock, SETTING)


def test_counts_are_electrons_and_times_follow_the_exposures(
    driver: Simplon, simulation: ExsolutionSimulation
) -> None:
    frames = _spectra(driver, simulation, 4)
    starts = [frame.t_start_s for frame in frames]
    assert np.diff(starts) == pytest.approx(0.2005, abs=1e-4)
    for frame in frames:
        counts = frame.data["core_loss"]
        assert counts.min() >= 0
        assert counts.sum() > 0
        # the film's Ti L edge begins at about 456 eV
        assert counts[130:150].mean() > counts[100:110].mean() * 0.5
    simulation.world.column.blank(True)
    try:
        (dark,) = _spectra(driver, simulation, 1)
    finally:
        simulation.world.column.blank(False)
    assert dark.data["core_loss"].sum() < 0.05 * frames[0].data["core_loss"].sum()


def test_dual_spectra_through_the_filter_of_another_wire(
    end: simplon.Simplon, simulation: ExsolutionSimulation
) -> None:
    gatan = serialemccd.serve(FarEndContext("gatan", simulation.world.clock, simulation))
    shared = Shared()
    driver = _open(
        end,
        simulation,
        shared,
        "cbor",
        filter=gatan.addresses["socket"],
        dispersions=["0.05 eV", "0.1 eV", "0.25 eV", "0.5 eV", "1 eV"],
        zero_loss_channel=100.0,
    )
    try:
        setting = SpectrometerSetting(400.0, 0.5, 1000, dual=True)
        check_spectrometer(driver, simulation.world.clock, setting)
        driver.tune(setting)
        spec = driver.arm(SpectrumExposure(0.2, 2e-3), 1)
        (frame,) = driver.frames(simulation.world.clock.signal())
        driver.disarm()
        low = spec.channels["low_loss"].axes["energy_loss"]
        peak_ev = low.offset + low.step * int(frame.data["low_loss"][:150].argmax())
        assert abs(peak_ev) < 2.0
        assert frame.meta.spans["low_loss"][1] <= frame.meta.spans["core_loss"][0]
    finally:
        driver.close()
        shared.close()
        gatan.close()
        simulation.world.energy_filter = None


def test_a_cut_leaves_it_ready_for_the_next_series(
    driver: Simplon, simulation: ExsolutionSimulation
) -> None:
    driver.tune(SETTING)
    driver.arm(SpectrumExposure(100.0), None)
    stop = simulation.world.clock.signal()
    threading.Timer(0.3, stop.set).start()
    begun = time.monotonic()
    assert list(driver.frames(stop)) == []
    assert time.monotonic() - begun < 0.3 + 0.25
    driver.disarm()
    assert len(_spectra(driver, simulation)) == 3


@pytest.mark.parametrize(
    "fault", ["slow", "split", "drop", "duplicate", "garbage", "lose", "disconnect"]
)
def test_what_goes_wrong_is_an_error_at_most_and_the_next_series_is_right(
    driver: Simplon,
    end: simplon.Simplon,
    simulation: ExsolutionSimulation,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simplon_series, "GRACE_S", 1.0)
    for after in (2, 17):
        end.faults.next(fault, after=after)
        try:
            frames = _spectra(driver, simulation, 2, 0.05)
        except HotstageError:
            pass
        else:
            assert [frame.data["core_loss"].shape for frame in frames] == [(1000,)] * 2
        end.faults.clear()
        again = _spectra(driver, simulation, 2, 0.05)
        assert len(again) == 2
        assert again[1].t_start_s >= again[0].t_end_s


def test_a_detector_that_is_gone_is_a_clear_error(
    driver: Simplon, end: simplon.Simplon, simulation: ExsolutionSimulation
) -> None:
    driver.tune(SETTING)
    end.close()
    with pytest.raises(LinkError, match="control unit"):
        driver.arm(SpectrumExposure(0.1), 1)
