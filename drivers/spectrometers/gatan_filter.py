"""What a Gatan filter may be asked for and what a spectrum of it is: shared by the drivers of both its wires.

A spectrum is one exposure of the camera, or, dual, two one after the other: low loss and core loss, each at
its own energy loss and exposure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import InstrumentError, LimitError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Limit,
    ScalarSpec,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.units import show
from drivers.spectrometers.gif_settings import Settings, limits_of, within

CORE, LOW = "core_loss", "low_loss"
SATURATED, BOUND = "saturated_pixels", "time_bound"
SCALARS = {
    SATURATED: ScalarSpec("1", "pixels of the camera that were full; NaN: not known"),
    BOUND: ScalarSpec("s", "how far the times of the spectrum may be off"),
}
OFFSET_TOLERANCE_EV = 0.5
"""A filter that comes no nearer to an energy loss does not obey."""
SAME_EV = 1e-3
"""Energies are told with the digits of a 32-bit float."""
SAME_CHANNELS = 0.1
"""An axis is right for a spectrum whose filter is so near to where it was tuned to."""
_LONG_NAMES = {CORE: "core-loss spectrum", LOW: "low-loss spectrum"}
_MOST_COUNTS = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Part:
    """One exposure of a spectrum."""

    name: str
    loss_ev: float
    """Energy loss to set."""
    dwell_s: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """Where a filter was found when it was tuned."""

    setting: SpectrometerSetting
    index: int
    """Of the dispersion."""
    losses_ev: Mapping[str, float]
    """Energy loss of every channel, in the order of their exposures."""

    def parts(self, exposure: SpectrumExposure) -> list[Part]:
        """The exposures of a spectrum, in their order."""
        dwells_s = {CORE: exposure.dwell_time_s, LOW: exposure.low_loss_dwell_time_s}
        return [Part(name, loss_ev, dwells_s[name]) for name, loss_ev in self.losses_ev.items()]

    def expect_loss(self, name: str, found_ev: float) -> None:
        """Raise InstrumentError if the filter is elsewhere than it was for this channel."""
        tolerance_ev = max(2 * SAME_EV, SAME_CHANNELS * self.setting.dispersion_ev)
        _expect_loss(self.losses_ev[name], found_ev, tolerance_ev)


class Ranges:
    """What may be asked for, by the options of a driver."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.limits: tuple[Limit, Limit, Limit, Limit, Limit] = limits_of(settings)

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if the setting cannot be taken."""
        offset, dispersion, channels, *_ = self.limits
        within(offset, setting.energy_offset_ev)
        within(dispersion, setting.dispersion_ev)
        within(channels, setting.channels)
        self.index(setting.dispersion_ev)
        if setting.off_axis_mrad != 0:
            raise LimitError(
                f"an aperture off axis by {setting.off_axis_mrad:g} mrad refused: the filter has none that "
                "moves. Ask for 0."
            )

    def check_exposure(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> None:
        """Raise LimitError if spectra cannot be exposed so."""
        *_, dwell, low_dwell = self.limits
        within(dwell, exposure.dwell_time_s)
        if setting.dual:
            within(low_dwell, exposure.low_loss_dwell_time_s)
        if exposure.low_loss_reads != 1:
            raise LimitError(
                f"{exposure.low_loss_reads} low-loss reads refused: the low loss is read once, before the "
                "core loss. Ask for 1."
            )

    def index(self, dispersion_ev: float) -> int:
        """Number of a dispersion; raises LimitError for one that the filter does not have."""
        for index, known in enumerate(self._settings.dispersions_ev):
            if math.isclose(known, dispersion_ev, rel_tol=1e-6):
                return index
        raise LimitError(
            f"dispersion {show(dispersion_ev, 'eV')} refused: the filter has {self._shown()}. "
            "Choose one of them (option dispersions)."
        )

    def expect_dispersion(self, index: int, found: float | None) -> None:
        """Raise InstrumentError if the filter says that it has another dispersion; None: it cannot tell."""
        if found is not None and found != index:
            raise InstrumentError(
                f"the filter has dispersion {found} (of {self._shown()}), not {index} as it was set. "
                "Look that nobody else uses it, and tune it again."
            )

    def losses_ev(self, setting: SpectrometerSetting) -> dict[str, float]:
        """Energy losses to set, by channel, in the order of their exposures."""
        low = {LOW: self._settings.low_loss_ev} if setting.dual else {}
        return {**low, CORE: setting.energy_offset_ev + self._below_ev(setting)}

    def taken(self, setting: SpectrometerSetting, found_ev: Mapping[str, float]) -> Tuned:
        """A setting as the filter took it, by the energy losses that it tells.

        Raises:
            InstrumentError: it does not obey.
        """
        losses_ev: dict[str, float] = {}
        for name, wanted_ev in self.losses_ev(setting).items():
            _expect_loss(wanted_ev, found_ev[name], OFFSET_TOLERANCE_EV)
            # what was asked for, where the filter differs only in the digits of its answer
            same = abs(found_ev[name] - wanted_ev) < SAME_EV
            losses_ev[name] = wanted_ev if same else found_ev[name]
        index = self.index(setting.dispersion_ev)
        dispersion = self._settings.dispersions_ev[index]
        moved_ev = losses_ev[CORE] - self.losses_ev(setting)[CORE]
        found = SpectrometerSetting(
            setting.energy_offset_ev + moved_ev, dispersion, int(setting.channels), setting.dual
        )
        return Tuned(found, index, losses_ev)

    def spec(self, role: str, tuned: Tuned, exposure: SpectrumExposure) -> StreamSpec:
        """What spectra look like; each channel's axis begins where the filter was found."""
        setting = tuned.setting
        offsets = {LOW: tuned.losses_ev.get(LOW, 0.0) - self._below_ev(setting)}
        offsets[CORE] = setting.energy_offset_ev
        channels = {
            name: ChannelSpec(
                "int32",
                (setting.channels,),
                ("energy_loss",),
                {"energy_loss": Axis(offsets[name], setting.dispersion_ev, "eV")},
                "counts",
                _LONG_NAMES[name],
            )
            for name in sorted(tuned.losses_ev)
        }
        period_s = sum(part.dwell_s for part in tuned.parts(exposure))
        return StreamSpec(role, channels, SCALARS, period_s)

    def _below_ev(self, setting: SpectrometerSetting) -> float:
        index = self.index(setting.dispersion_ev)
        return self._settings.zero_channel * self._settings.dispersions_ev[index]

    def _shown(self) -> str:
        return ", ".join(show(known, "eV") for known in self._settings.dispersions_ev)


def expect_spectroscopy(on: bool) -> None:
    """Raise InstrumentError if the filter makes images."""
    if not on:
        raise InstrumentError(
            "the filter is not in its spectroscopy mode. Look that nobody else uses it, switch it to EELS "
            "in DigitalMicrograph, and tune it again."
        )


def expect_slit_out(slit_in: bool) -> None:
    """Raise InstrumentError if the energy slit is in."""
    if slit_in:
        raise InstrumentError(
            "the filter's energy slit is in, and cuts the spectrum off. Look that nobody else uses the "
            "filter, and tune it again, which takes the slit out."
        )


def expect_whole(took_s: float, dwell_s: float) -> None:
    """Raise InstrumentError for an exposure that took less than its time."""
    if not took_s >= dwell_s * (1 - 1e-6):
        raise InstrumentError(
            f"the camera took an exposure of {show(dwell_s, 's')} in {show(took_s, 's')}: it has "
            "shortened it. Look what exposures it allows (option shortest_exposure)."
        )


def as_counts(spectrum: NDArray[Any]) -> NDArray[np.int32]:
    """A spectrum in 32 bits; raises InstrumentError where they do not hold it."""
    highest = np.abs(spectrum).max(initial=0)
    if not highest <= _MOST_COUNTS:
        raise InstrumentError(
            f"a channel has {highest:g} counts, more than 32 bits hold. Expose more shortly, or "
            "sum fewer rows (option rows)."
        )
    return np.asarray(np.rint(spectrum), np.int32)


def _expect_loss(wanted_ev: float, found_ev: float, tolerance_ev: float) -> None:
    if not abs(found_ev - wanted_ev) <= tolerance_ev:
        raise InstrumentError(
            f"the filter is at an energy loss of {show(found_ev, 'eV', 7)} instead of "
            f"{show(wanted_ev, 'eV', 7)}. Look whether it is in range and nobody else uses it, and "
            "tune it again."
        )
