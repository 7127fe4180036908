"""A Gatan imaging filter (GIF) as an EELS spectrometer, through the SerialEMCCD plug-in of DigitalMicrograph.

Sources: those of :mod:`drivers.serialemccd` and :mod:`drivers.spectrometers.gif_device`, which say what is
unverified; nothing was tried on hardware. The plug-in knows no DualEELS: a dual spectrum is taken one
after the other, low loss at its own energy offset and exposure first, then the core loss.

A spectrum is the sum of the camera's rows. The plug-in serves nobody while it exposes, so a long
exposure is the sum of several; each adds the camera's readout noise, and 16-bit pixels overflow later.

Unprocessed pixels come as they are; the driver takes dark images of each exposure time once and
subtracts their mean, but nothing corrects the camera's gain. Processed pixels have signs inside
DigitalMicrograph. From unsigned ones the plug-in cuts off what noise brings below 0 (``ProcessImage``), and
hundreds of rows would raise dark channels by far more than their noise, so they are asked for as signed
halves (``divideBy2``). Halves are rounded, and how depends on the camera's type of numbers: the level of a
spectrum is then uncertain by up to one count per row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Clock, Signal, finite_rate
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    ScalarSpec,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.station import DriverContext
from acquire.units import show
from drivers.acquisition import Acquisition, Cut
from drivers.links import ExchangeCut
from drivers.serialemccd import Emccd
from drivers.spectrometers.gif_device import GAIN_NORMALIZED, GifDevice
from drivers.spectrometers.gif_settings import Settings, limits_of, read, within

CORE, LOW = "core_loss", "low_loss"
SATURATED = "saturated_pixels"
"""Scalar of a spectrum: how many pixels of the camera were full."""
DARK_IMAGES = 4
"""They follow the first spectrum of an exposure time, while the probe stays where it rests."""
MOST_DARKS = 64
"""Exposure times whose dark images are remembered."""
OFFSET_TOLERANCE_EV = 0.5
"""A filter that comes no nearer to an energy loss does not obey."""
DRIFTED_EV = 1e-3
_MOST_COUNTS = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class _Tuned:
    setting: SpectrometerSetting
    index: int
    core_ev: float
    """Energy loss to set for the core loss."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """A spectrum of all channels of the camera, when it was taken, and how many pixels were full."""

    data: NDArray[np.int64]
    start_s: float
    end_s: float
    full: int


def open_gif(
    context: DriverContext,
    *,
    address: str,
    dispersions: Sequence[str],
    zero_loss_channel: float,
    camera: int = 0,
    camera_size: Sequence[int] = (2048, 256),
    rows: Sequence[int] | None = None,
    processing: str = "unprocessed",
    settling: str = "0 s",
    low_loss_offset: str = "0 eV",
    energy_offset: Sequence[str] = ("-100 eV", "3000 eV"),
    shortest_exposure: str = "0.1 ms",
    longest_exposure: str = "1 s",
    collection_semi_angle: str | None = None,
    counts_per_electron: float | None = None,
    readout_noise_electrons: float | None = None,
) -> Gif:
    """Connect to a GIF: the entry point ``gif`` of ``hotstage.drivers``.

    Args:
        context: the station's.
        address: ``HOST:PORT`` of the plug-in; a scan with the same address shares the connection.
        dispersions: energy per channel of the filter's settings, in the order of their index in
            DigitalMicrograph: ``["0.05 eV", "0.1 eV", …]``.
        zero_loss_channel: where the zero-loss peak lies on the camera at an energy loss of 0; may be
            a fraction.
        camera: the spectrometer's number in DigitalMicrograph.
        camera_size: its channels and rows.
        rows: first row and the one after the last that are summed; default: all.
        processing: ``unprocessed``, ``dark_subtracted`` or ``gain_normalized``: see above.
        settling: pause of the camera before an exposure.
        low_loss_offset: energy loss to set for low-loss spectra.
        energy_offset: range of the energy loss at a spectrum's first channel.
        shortest_exposure: of the camera.
        longest_exposure: a longer one is summed from several, so that it can be cut and DigiScan's
            beam be blanked meanwhile.
        collection_semi_angle: for the metadata: ``33 mrad``.
        counts_per_electron: of the camera, for the metadata and for noise.
        readout_noise_electrons: of one spectrum.

    Raises:
        ValueError, TypeError: an option cannot be used.
        LinkError: it cannot be reached.
        InstrumentError: there is no filter, or no such camera.
    """
    settings = read(
        dispersions=dispersions,
        zero_loss_channel=zero_loss_channel,
        camera=camera,
        camera_size=camera_size,
        rows=rows,
        processing=processing,
        settling=settling,
        low_loss_offset=low_loss_offset,
        energy_offset=energy_offset,
        shortest_exposure=shortest_exposure,
        longest_exposure=longest_exposure,
        collection_semi_angle=collection_semi_angle,
        counts_per_electron=counts_per_electron,
        readout_noise_electrons=readout_noise_electrons,
    )
    emccd: Emccd = context.shared.get(
        f"serialemccd {address}", lambda: Emccd(address, context.clock)
    )
    emccd.open()
    return Gif(context, emccd, settings)


class Gif:
    """Spectra of a GIF's camera; see :func:`open_gif`. Frames are int32 counts."""

    def __init__(self, context: DriverContext, emccd: Emccd, settings: Settings) -> None:
        self._role = context.role
        self._clock: Clock = context.clock
        self._emccd = emccd
        self._settings = settings
        self._device = GifDevice(emccd, settings.camera)
        self._device.examine()
        self._device.select()
        self._limits = limits_of(settings)
        self._tuned: _Tuned | None = None
        self._seen = emccd.connections
        """The connection on which the device was last found as it was set."""
        self._exposure = SpectrumExposure(0.5)
        self._darks: dict[float, NDArray[np.float64]] = {}
        self._acquisition = Acquisition(context.clock, context.role)

    def describe(self) -> Description:
        """Identity, limits and camera; ``dual`` is ``sequential``."""
        camera = self._settings.camera
        return Description(
            role=self._role,
            model="Gatan imaging filter",
            driver="gif",
            limits=self._limits,
            details={
                "dm_version": float(self._emccd.dm_version),
                "camera": float(camera.number),
                "camera_rows": float(camera.bottom - camera.top),
                "zero_loss_channel": self._settings.zero_channel,
                "gain_is_normalized": "yes" if camera.processing == GAIN_NORMALIZED else "no",
                "dispersion_is_read_back": "yes" if self._device.tells_dispersion else "no",
                **self._settings.facts,
            },
        )

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if the setting cannot be taken."""
        offset, dispersion, channels, *_ = self._limits
        within(offset, setting.energy_offset_ev)
        within(dispersion, setting.dispersion_ev)
        within(channels, setting.channels)
        self._index(setting.dispersion_ev)

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set dispersion and energy loss; returns what the filter took.

        Raises:
            LimitError: beyond a limit, or a dispersion that the filter does not have.
            InstrumentError: armed, or the filter does not obey.
        """
        self.check(setting)
        if self._acquisition.armed():
            raise InstrumentError("the spectrometer cannot be tuned while armed; disarm it first.")
        index = self._index(setting.dispersion_ev)
        dispersion = self._settings.dispersions_ev[index]
        self._tuned = None
        self._device.set_dispersion(index)
        self._expect_dispersion(index)
        below_ev = self._settings.zero_channel * dispersion
        wanted = setting.energy_offset_ev + below_ev
        taken = self._device.set_energy_loss(wanted)
        _obeyed(wanted, taken, OFFSET_TOLERANCE_EV)
        # what was asked for, where the filter differs only in the digits of its answer
        offset = setting.energy_offset_ev if abs(taken - wanted) < 1e-6 else taken - below_ev
        found = SpectrometerSetting(offset, dispersion, int(setting.channels), setting.dual)
        self._tuned = _Tuned(found, index, taken)
        self._seen = self._emccd.connections
        return found

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe; raises LimitError, InstrumentError."""
        tuned = self._demand_tuned()
        *_, dwell, low_dwell = self._limits
        within(dwell, exposure.dwell_time_s)
        if tuned.setting.dual:
            within(low_dwell, exposure.low_loss_dwell_time_s)
        self._acquisition.arm(frames)
        self._exposure = exposure
        return self._spec(tuned.setting, exposure)

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra; the time spans hold the exposures for sure.

        Raises:
            LinkError: the link was lost in a spectrum, which is not taken again.
            InstrumentError: not armed; or the filter is not as it was tuned any more.
        """
        exposure = self._exposure

        def expose(index: int, cut: Cut) -> Frame | None:
            try:
                return self._spectrum(self._demand_tuned(), exposure, index, cut)
            except ExchangeCut:
                return None

        return self._acquisition.frames(stop, 0.0, expose)

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def make_safe(self, reason: str) -> None:
        """End the acquisition; a spectrometer does no harm. Idempotent."""
        self._acquisition.disarm()

    def close(self) -> None:
        """Let go of the device; idempotent."""
        self._acquisition.disarm()

    # --------------------------------------------------------------------------- spectra

    def _spectrum(
        self, tuned: _Tuned, exposure: SpectrumExposure, index: int, cut: Cut
    ) -> Frame | None:
        self._look_again(tuned)
        parts: dict[str, _Counts] = {}
        if tuned.setting.dual:
            self._go_to(self._settings.low_loss_ev, cut)
            low = self._expose(exposure.low_loss_dwell_time_s, cut)
            if low is None:
                return None
            parts[LOW] = low
            self._go_to(tuned.core_ev, cut)
        core = self._expose(exposure.dwell_time_s, cut)
        if core is None:
            return None
        parts[CORE] = core
        channels = tuned.setting.channels
        data = {name: _as_counts(part.data[:channels]) for name, part in parts.items()}
        meta = FrameMeta(
            {SATURATED: float(sum(part.full for part in parts.values()))},
            {name: (part.start_s, part.end_s) for name, part in parts.items()},
        )
        start_s = min(part.start_s for part in parts.values())
        return Frame(self._role, index, data, start_s, core.end_s, meta)

    def _expose(self, dwell_s: float, cut: Cut) -> _Counts | None:
        """One spectrum of all channels, summed over exposures and rows; None when it is cut."""
        number = math.ceil(dwell_s / self._settings.longest_s * (1 - 1e-9))
        each_s = dwell_s / number
        wall_s = 1.5 * each_s / finite_rate(self._clock)
        total = np.zeros(self._settings.camera.width, np.int64)
        start_s, end_s, full = math.nan, math.nan, 0
        for k in range(number):
            if cut():
                return None
            image = self._device.expose(each_s, wall_s, cut)
            if image.announced_s - image.asked_s < each_s * (1 - 1e-6):
                raise InstrumentError(
                    f"the camera took an exposure of {show(each_s, 's')} in "
                    f"{show(image.announced_s - image.asked_s, 's')}: it has shortened it. "
                    "Look what exposures it allows (option shortest_exposure)."
                )
            start_s = image.asked_s if k == 0 else start_s
            end_s = image.announced_s
            total += self._device.counts(image)
            full += self._device.full(image)
        if self._device.raw:
            total -= np.rint(number * self._dark(each_s, wall_s, cut)).astype(np.int64)
        return _Counts(total, start_s, end_s, full)

    def _dark(self, exposure_s: float, wall_s: float, cut: Cut) -> NDArray[np.float64]:
        """Mean counts of a dark exposure, summed over rows; taken once for each exposure time."""
        if exposure_s not in self._darks:
            images = [self._device.dark(exposure_s, wall_s, cut) for _ in range(DARK_IMAGES)]
            mean = np.mean([self._device.counts(image) for image in images], axis=0)
            if len(self._darks) >= MOST_DARKS:
                self._darks.clear()
            self._darks[exposure_s] = mean
        return self._darks[exposure_s]

    def _go_to(self, loss_ev: float, cut: Cut) -> None:
        _obeyed(loss_ev, self._device.set_energy_loss(loss_ev, cut), OFFSET_TOLERANCE_EV)

    def _look_again(self, tuned: _Tuned) -> None:
        """After the link was made anew, see that camera and filter are still as they were set."""
        connections = self._emccd.connections
        if connections == self._seen:
            return
        self._device.select()
        self._expect_dispersion(tuned.index)
        if not tuned.setting.dual:  # else it is set for every spectrum
            _obeyed(tuned.core_ev, self._device.energy_loss(), DRIFTED_EV)
        self._seen = connections

    def _expect_dispersion(self, index: int) -> None:
        found = self._device.dispersion()
        if found is not None and found != index:
            raise InstrumentError(
                f"the filter has dispersion {found} (of {self._shown()}), not {index} as it was set. "
                "Look whether somebody else uses it, and tune it again."
            )

    def _demand_tuned(self) -> _Tuned:
        tuned = self._tuned
        if tuned is None:
            raise InstrumentError("the spectrometer was not tuned; tune it first.")
        return tuned

    def _index(self, dispersion_ev: float) -> int:
        for index, known in enumerate(self._settings.dispersions_ev):
            if math.isclose(known, dispersion_ev, rel_tol=1e-6):
                return index
        raise LimitError(
            f"dispersion {show(dispersion_ev, 'eV')} refused: the filter has {self._shown()}. "
            "Choose one of them (option dispersions)."
        )

    def _shown(self) -> str:
        return ", ".join(show(known, "eV") for known in self._settings.dispersions_ev)

    def _spec(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> StreamSpec:
        offsets = {CORE: (setting.energy_offset_ev, "core-loss spectrum")}
        period_s = exposure.dwell_time_s
        if setting.dual:
            below_ev = self._settings.zero_channel * setting.dispersion_ev
            offsets[LOW] = (self._settings.low_loss_ev - below_ev, "low-loss spectrum")
            period_s += exposure.low_loss_dwell_time_s
        channels = {
            name: ChannelSpec(
                "int32",
                (setting.channels,),
                ("energy_loss",),
                {"energy_loss": Axis(offset, setting.dispersion_ev, "eV")},
                "counts",
                long_name,
            )
            for name, (offset, long_name) in offsets.items()
        }
        scalars = {SATURATED: ScalarSpec("1", "pixels of the camera that were full")}
        return StreamSpec(self._role, channels, scalars, period_s)


def _obeyed(wanted_ev: float, taken_ev: float, tolerance_ev: float) -> None:
    if not abs(taken_ev - wanted_ev) <= tolerance_ev:
        raise InstrumentError(
            f"the filter is at an energy loss of {show(taken_ev, 'eV', 7)} instead of "
            f"{show(wanted_ev, 'eV', 7)}. Look whether it is in range and nobody else uses it, and "
            "tune it again."
        )


def _as_counts(spectrum: NDArray[np.int64]) -> NDArray[np.int32]:
    if spectrum.size and spectrum.max() > _MOST_COUNTS:
        raise InstrumentError(
            f"a channel has {spectrum.max()} counts, more than 32 bits hold. Expose more shortly, or "
            "sum fewer rows (option rows)."
        )
    return spectrum.astype(np.int32)
