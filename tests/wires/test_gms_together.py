"""The GMS driver, our server in the process that plays GMS, and the simulation behind it, with each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import HotstageError, InstrumentError, LeaseError, LinkError
from acquire.farends import FarEndContext
from acquire.instruments import Frame, SpectrometerSetting, SpectrumExposure
from acquire.station import DriverContext
from drivers.conformance import check_spectrometer
from drivers.spectrometers import gms_client
from drivers.spectrometers.gms import Gms, open_gms
from simulators.instruments import ExsolutionSimulation, build
from simulators.wires.emccd_optics import EnergyFilter
from simulators.wires.gms import GmsEnd, serve

RATE = 5.0
DISPERSIONS = ["0.05 eV", "0.1 eV", "0.25 eV", "0.5 eV", "1 eV"]
SETTING = SpectrometerSetting(400.0, 0.1, 2000)


@pytest.fixture(scope="module")
def simulation() -> ExsolutionSimulation:
    return build(WallClock(RATE), seed=5, drift=False, specimen="blank_film")


@pytest.fixture(scope="module")
def end(simulation: ExsolutionSimulation) -> Iterator[GmsEnd]:
    made = serve(FarEndContext("gms", simulation.world.clock, simulation))
    assert isinstance(made, GmsEnd)
    yield made
    made.close()


@pytest.fixture
def gms(
    end: GmsEnd, simulation: ExsolutionSimulation, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gms]:
    monkeypatch.setattr(gms_client, "CALL_S", 0.7)
    made = _open(end, simulation, "spectrometer")
    yield made
    end.faults.clear()
    made.close()


def _open(end: GmsEnd, simulation: ExsolutionSimulation, role: str, **options: Any) -> Gms:
    return open_gms(
        DriverContext(role, simulation.world.clock, "station.toml"),
        address=end.addresses["pyro"],
        dispersions=DISPERSIONS,
        zero_loss_channel=100,
        **options,
    )


def _spectra(gms: Gms, simulation: ExsolutionSimulation, number: int = 1) -> list[Frame]:
    gms.arm(SpectrumExposure(0.5, 1e-4), number)
    try:
        return list(gms.frames(simulation.world.clock.signal()))
    finally:
        gms.disarm()


def test_it_conforms(gms: Gms, simulation: ExsolutionSimulation) -> None:
    check_spectrometer(gms, simulation.world.clock, SETTING)


def test_the_axis_is_that_of_the_simulation(gms: Gms, simulation: ExsolutionSimulation) -> None:
    gms.tune(SpectrometerSetting(440.0, 0.1, 600))
    spec = gms.arm(SpectrumExposure(2.0, 1e-4), 1)
    (frame,) = gms.frames(simulation.world.clock.signal())
    gms.disarm()
    assert set(spec.channels) == {"core_loss", "low_loss"}
    # the film's Ti L edge begins at about 456 eV
    core = frame.data["core_loss"].astype(float)
    before, after = core[80:140].mean(), core[200:260].mean()
    assert after > before
    low = spec.channels["low_loss"].axes["energy_loss"]
    peak_ev = low.offset + low.step * int(frame.data["low_loss"][:400].argmax())
    assert abs(peak_ev) < 2.0


def test_a_filter_that_somebody_moves_gives_no_spectrum_until_it_is_tuned_again(
    end: GmsEnd, simulation: ExsolutionSimulation
) -> None:
    energy_filter = simulation.world.energy_filter
    assert isinstance(energy_filter, EnergyFilter)
    with closing(_open(end, simulation, "spectrometer")) as gms:
        energy_filter.slit_in = True
        single = replace(SETTING, dual=False)
        gms.tune(single)
        assert not energy_filter.slit_in
        assert len(_spectra(gms, simulation)) == 1

        def put_the_slit_in() -> None:
            energy_filter.slit_in = True

        for moves in (put_the_slit_in, lambda: energy_filter.set_dispersion(2)):
            moves()
            with pytest.raises(InstrumentError, match=r"slit|dispersion"):
                _spectra(gms, simulation)
            gms.tune(single)
            assert len(_spectra(gms, simulation)) == 1
        # every spectrum says at which energy loss it is to be
        energy_filter.set_energy_loss(300.0)
        assert len(_spectra(gms, simulation)) == 1
        assert energy_filter.energy_loss_ev == pytest.approx(400.0 + 100 * 0.1)


def test_the_low_loss_axis_is_where_the_filter_steps_to(
    end: GmsEnd, simulation: ExsolutionSimulation
) -> None:
    gms = _open(end, simulation, "spectrometer", low_loss_offset="5.02 eV")
    try:
        gms.tune(SETTING)
        spec = gms.arm(SpectrumExposure(0.5, 1e-4), 1)
        gms.disarm()
    finally:
        gms.close()
    axis = spec.channels["low_loss"].axes["energy_loss"]
    assert axis.offset == pytest.approx(5.0 - 100 * 0.1, abs=1e-4)


def test_two_drivers_do_not_command_it_at_once(
    gms: Gms, end: GmsEnd, simulation: ExsolutionSimulation
) -> None:
    gms.tune(SETTING)
    other = _open(end, simulation, "another")
    try:
        with pytest.raises(LeaseError, match="hotstage spectrometer"):
            other.tune(SETTING)
        gms.close()
        assert other.tune(SETTING) == SETTING
    finally:
        other.close()


def test_a_cut_frees_the_server_for_the_next_spectrum(
    gms: Gms, simulation: ExsolutionSimulation
) -> None:
    gms.tune(SETTING)
    gms.arm(SpectrumExposure(100.0, 1e-4), None)
    stop = simulation.world.clock.signal()
    threading.Timer(0.3, stop.set).start()
    begun = time.monotonic()
    assert list(gms.frames(stop)) == []
    assert time.monotonic() - begun < 0.3 + 0.25
    gms.disarm()
    assert len(_spectra(gms, simulation)) == 1


@pytest.mark.parametrize(
    "fault", ["slow", "split", "drop", "duplicate", "garbage", "lose", "disconnect"]
)
def test_a_bad_reply_is_an_error_at_most_and_never_the_next_ones(
    gms: Gms, end: GmsEnd, simulation: ExsolutionSimulation, fault: str
) -> None:
    gms.tune(SETTING)
    for after in (0, 2):
        end.faults.next(fault, after=after)
        try:
            frames = _spectra(gms, simulation)
        except HotstageError:
            pass
        else:
            assert len(frames) == 1
        end.faults.clear()
        # whatever a lost reply leaves behind: the lease is ours again, or lapses
        (frame,) = _patiently(gms, simulation)
        assert np.median(frame.data["low_loss"][90:110]) > 0
        assert frame.data["core_loss"].shape == (2000,)


def _patiently(gms: Gms, simulation: ExsolutionSimulation) -> list[Frame]:
    give_up = time.monotonic() + 15
    while True:
        try:
            return _spectra(gms, simulation)
        except HotstageError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)


def test_an_unplugged_cable_is_an_error_until_it_is_back(
    gms: Gms, end: GmsEnd, simulation: ExsolutionSimulation
) -> None:
    gms.tune(SETTING)
    end.faults.unplug()
    with pytest.raises(LinkError):
        _spectra(gms, simulation)
    end.faults.unplug(False)
    assert len(_patiently(gms, simulation)) == 1
