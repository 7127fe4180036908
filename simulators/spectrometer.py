"""The simulated DualEELS spectrometer on the parked probe."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Signal
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    Limit,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.units import show
from simulators.acquisition import Acquisition, KeepGoing
from simulators.noise import generator
from simulators.scan import empty
from simulators.specimen.budget import NI_PER_NM3_OF_FILM
from simulators.specimen.kinetics import NI_PER_NM3
from simulators.spectra import (
    COUNTS_PER_ELECTRON,
    READOUT_ELECTRONS,
    ZERO_LOSS_FWHM_EV,
    Band,
    CoreLoss,
    EnergyShift,
    LowLoss,
    Point,
    detect,
)
from simulators.truth import SpectrumFacts
from simulators.world import SPECTROMETER, World

BULK_TI3 = 0.05
BOUNDARY_TI3 = 0.6
BOUNDARY_SIGMA_NM = 1.2
"""Width of the reduced zone of a boundary, broadening of the probe in the film included."""

_DRIVER = "driver"
_OFFSET = Limit("energy_offset", 10.0, 3000.0, "eV", _DRIVER)
_DISPERSION = Limit("dispersion", 0.01, 1.0, "eV", _DRIVER)
_CHANNELS = Limit("channels", 64, 4096, "", _DRIVER)
_DWELL = Limit("dwell_time", 1e-4, 100.0, "s", _DRIVER)
_LOW_LOSS_DWELL = Limit("low_loss_dwell_time", 1e-6, 1.0, "s", _DRIVER)
_OFFSET_STEP_EV = 0.05
_CORE_FROM_EV, _CORE_ONLY_EV = 40.0, 300.0
"""Below and above, a band of any energies follows the low-loss and the core-loss model for certain."""
_BANDS_KEPT = 4


class SimulatedSpectrometer:
    """An EELS camera; int32 counts, 5.3 per electron, offset 0, readout noise 1.4 electrons.

    In a dual exposure the low loss comes first. The energy axis is as badly known as a real one: the
    zero-loss peak is off by some tenths of an eV, wanders, and jitters from exposure to exposure,
    low loss and core loss alike.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._acquisition = Acquisition(world.clock, SPECTROMETER)
        self._shift = EnergyShift(world.seed)
        self._exposure = SpectrumExposure(0.5)
        self._setting = SpectrometerSetting(400.0, 0.1)
        self._models: tuple[CoreLoss, LowLoss] | None = None
        self._lock = threading.Lock()
        self._bands: dict[Band, tuple[CoreLoss, LowLoss]] = {}

    def describe(self) -> Description:
        """Identity, limits and camera."""
        return Description(
            role=SPECTROMETER,
            model="simulated DualEELS spectrometer",
            driver="simulated",
            simulated=True,
            limits=(_OFFSET, _DISPERSION, _CHANNELS, _DWELL, _LOW_LOSS_DWELL),
            details={
                "collection_semi_angle_mrad": 33.0,
                "gain_counts_per_electron": COUNTS_PER_ELECTRON,
                "offset_counts": 0.0,
                "readout_noise_electrons": READOUT_ELECTRONS,
                "energy_resolution_ev": ZERO_LOSS_FWHM_EV,
            },
        )

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if the setting cannot be taken."""
        _within(_OFFSET, setting.energy_offset_ev)
        _within(_DISPERSION, setting.dispersion_ev)
        _within(_CHANNELS, setting.channels)

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set the energy range; the offset moves in steps of 0.05 eV. Raises LimitError, InstrumentError."""
        self.check(setting)
        if self._acquisition.armed():
            raise InstrumentError("the spectrometer cannot be tuned while armed; disarm it first.")
        offset = round(round(setting.energy_offset_ev / _OFFSET_STEP_EV) * _OFFSET_STEP_EV, 9)
        taken = SpectrometerSetting(
            offset, setting.dispersion_ev, int(setting.channels), setting.dual
        )
        if taken != self._setting:
            self._models = None
        self._setting = taken
        return taken

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe; raises LimitError, InstrumentError if armed already."""
        _within(_DWELL, exposure.dwell_time_s)
        if self._setting.dual:
            _within(_LOW_LOSS_DWELL, exposure.low_loss_dwell_time_s)
        self._acquisition.arm(frames)
        self._exposure = exposure
        if self._models is None and not self._world.draft:
            self._models = (CoreLoss(_core_band(self._setting)), LowLoss(_low_band(self._setting)))
        return _spec(self._setting, exposure.dwell_time_s + self._low_loss_s())

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra."""
        exposure, low_s = self._exposure, self._low_loss_s()

        def expose(index: int, start_s: float, end_s: float, keep_going: KeepGoing) -> Frame | None:
            return self._spectrum(exposure, low_s, index, start_s, end_s)

        return self._acquisition.frames(stop, exposure.dwell_time_s + low_s, 0.0, expose)

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def make_safe(self, reason: str) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def _low_loss_s(self) -> float:
        """Dwell time of the low-loss spectrum that goes before every core-loss spectrum, if any."""
        return self._exposure.low_loss_dwell_time_s if self._setting.dual else 0.0

    def _spectrum(
        self, exposure: SpectrumExposure, low_s: float, index: int, start_s: float, end_s: float
    ) -> Frame:
        world, middle_s, setting = self._world, (start_s + end_s) / 2, self._setting
        met = _meet(world, middle_s)
        shift_ev = self._shift.at(middle_s, index)
        per_s = world.column.electrons_per_s()
        data: dict[str, NDArray[Any]] = {}
        for name, dwell_s in (("core_loss", exposure.dwell_time_s), ("low_loss", low_s)):
            if name == "low_loss" and not setting.dual:
                continue
            if self._models is None:
                data[name] = empty((setting.channels,), np.int32)
                continue
            model = self._models[0] if name == "core_loss" else self._models[1]
            mean = model.mean(met.point, per_s * dwell_s, shift_ev)
            data[name] = detect(mean, generator(world.seed, f"{SPECTROMETER} {name}", index))
        self._remember(index, middle_s, met, per_s * (exposure.dwell_time_s + low_s), shift_ev)
        change_s = start_s + low_s
        spans = {"core_loss": (change_s, end_s)}
        if setting.dual:
            spans["low_loss"] = (start_s, change_s)
        return Frame(SPECTROMETER, index, data, start_s, end_s, FrameMeta(spans=spans))

    def disperse(
        self, band: Band, start_s: float, end_s: float, index: int, correction_ev: float = 0.0
    ) -> NDArray[np.float64]:
        """Mean electrons per channel of an exposure of the parked probe in any band, zero loss included.

        For far ends whose camera shows a band of their own. It is remembered as exposure ``index``.

        Args:
            band: the channels.
            start_s: of the exposure.
            end_s: of the exposure.
            index: counts the exposures of that camera.
            correction_ev: what the axis was moved by, to bring the zero-loss peak home.
        """
        world, middle_s = self._world, (start_s + end_s) / 2
        met, per_s = _meet(world, middle_s), world.column.electrons_per_s()
        shift_ev = self._shift.at(middle_s, index) + correction_ev
        electrons = per_s * (end_s - start_s)
        self._remember(index, middle_s, met, electrons, shift_ev)
        if world.draft:
            return np.zeros(band.channels)
        core, low = (model.mean(met.point, electrons, shift_ev) for model in self._models_of(band))
        energy = band.offset_ev + band.dispersion_ev * np.arange(band.channels)
        # where the falling low loss meets the background of the core losses, one goes over into the other
        stays_low = np.flatnonzero(
            (energy < _CORE_FROM_EV) | ((low >= core) & (energy < _CORE_ONLY_EV))
        )
        first = int(stays_low[-1]) + 1 if stays_low.size else 0
        return np.concatenate([low[:first], core[first:]])

    def zero_loss_ev(self, t_s: float) -> float:
        """Where the zero-loss peak is at a time, without its jitter."""
        return self._shift.slow_at(t_s)

    def _models_of(self, band: Band) -> tuple[CoreLoss, LowLoss]:
        with self._lock:
            if band not in self._bands:
                while len(self._bands) >= _BANDS_KEPT:
                    del self._bands[next(iter(self._bands))]
                self._bands[band] = (CoreLoss(band), LowLoss(band))
            return self._bands[band]

    def _remember(
        self, index: int, middle_s: float, met: _Met, electrons: float, shift_ev: float
    ) -> None:
        world = self._world
        world.truth[SPECTROMETER].add(
            SpectrumFacts(
                index=index,
                t_s=middle_s,
                position_nm=met.parked,
                boundary_distance_nm=met.boundary_distance_nm,
                ti3_fraction=met.point.ti3_fraction,
                thickness_nm=met.point.thickness_nm,
                nickel_height_nm=met.nickel_height_nm,
                shift_ev=shift_ev,
                celsius=world.sample_celsius(middle_s),
                drift_nm=world.drift.at(middle_s),
                dose_electrons=electrons,
                dose_e_per_nm2=world.electrons_per_nm2(electrons),
                blanked=electrons == 0,
            )
        )


@dataclass(frozen=True, slots=True)
class _Met:
    """What the parked probe meets at a time."""

    parked: tuple[float, float]
    boundary_distance_nm: float
    nickel_height_nm: float
    point: Point


def _meet(world: World, t_s: float) -> _Met:
    parked = world.column.parked()
    x, y = world.to_specimen(*parked, t_s)
    distance = world.specimen.film.boundary_distance_nm(x, y)
    height = world.specimen.dome_height_nm(x, y, t_s)
    return _Met(parked, distance, height, _point(world, x, y, distance, height, t_s))


def _point(
    world: World, x: float, y: float, distance_nm: float, height_nm: float, t_s: float
) -> Point:
    """What the probe meets: reduced titanium and drained nickel near a boundary, nickel in a particle."""
    near = math.exp(-0.5 * (distance_nm / BOUNDARY_SIGMA_NM) ** 2)
    thickness = world.specimen.preset.film.thickness_nm
    thickness *= world.specimen.film.relative_thickness(x, y)
    # particles hold this share of all nickel; the boundary, their path, is drained three times as far
    drained = 1 - world.specimen.ni_left_in_film(t_s)
    left = max(0.0, 1 - drained * (1 + 2 * near))
    return Point(
        thickness_nm=thickness,
        ti3_fraction=BULK_TI3 + (BOUNDARY_TI3 - BULK_TI3) * near,
        ni_per_nm2=NI_PER_NM3_OF_FILM * thickness * left + NI_PER_NM3 * height_nm,
    )


def _core_band(setting: SpectrometerSetting) -> Band:
    return Band(setting.energy_offset_ev, setting.dispersion_ev, setting.channels)


def _low_band(setting: SpectrometerSetting) -> Band:
    """The low loss begins a tenth of its range, at most 20 eV, below zero."""
    below = min(20.0, setting.channels * setting.dispersion_ev / 10)
    return Band(-below, setting.dispersion_ev, setting.channels)


def _spec(setting: SpectrometerSetting, frame_s: float) -> StreamSpec:
    names = {"core_loss": (_core_band(setting), "core-loss spectrum")}
    if setting.dual:
        names["low_loss"] = (_low_band(setting), "low-loss spectrum")
    return StreamSpec(
        SPECTROMETER,
        {
            name: ChannelSpec(
                "int32",
                (band.channels,),
                ("energy_loss",),
                {"energy_loss": Axis(band.offset_ev, band.dispersion_ev, "eV")},
                "counts",
                long_name,
            )
            for name, (band, long_name) in names.items()
        },
        frame_period_s=frame_s,
    )


def _within(limit: Limit, value: float) -> None:
    if not limit.low <= value <= limit.high:
        raise LimitError(
            f"{limit.quantity.replace('_', ' ')} {show(value, limit.unit)} refused: the spectrometer "
            f"allows {show(limit.low, limit.unit)} to {show(limit.high, limit.unit)}. "
            "Choose a value in between."
        )
