"""A Gatan imaging filter (GIF) as an EELS spectrometer, through the SerialEMCCD plug-in of DigitalMicrograph.

Sources: those of :mod:`drivers.serialemccd` and :mod:`drivers.spectrometers.gif_device`, which say what is
unverified; nothing was tried on hardware. The plug-in knows no DualEELS: a dual spectrum is taken one
after the other, low loss at its own energy offset and exposure first, then the core loss. Tuning goes to both
of them, takes the energy slit out, and tells where the filter went. After every exposure the filter must
still be there: a spectrum during which somebody moved it is none. The filter stays where it was last.

A spectrum is the sum of the camera's rows. The plug-in serves nobody while it exposes, so a long
exposure is the sum of several; each adds the camera's readout noise, and 16-bit pixels overflow later.

Unprocessed pixels come as they are; the driver takes dark images of each exposure time once, when it is
armed, and subtracts their mean, but nothing corrects the camera's gain. Processed pixels have signs inside
DigitalMicrograph. From unsigned ones the plug-in cuts off what noise brings below 0 (``ProcessImage``), and
hundreds of rows would raise dark channels by far more than their noise, so they are asked for as signed
halves (``divideBy2``). Halves are rounded, and how depends on the camera's type of numbers: the level of a
spectrum is then uncertain by up to one count per row.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Acquisition, Cut
from acquire.clock import Clock, Signal, finite_rate
from acquire.errors import InstrumentError
from acquire.instruments import (
    Description,
    Frame,
    FrameMeta,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.station import DriverContext
from drivers.links import ExchangeCut
from drivers.serialemccd import Emccd
from drivers.spectrometers.gatan_filter import (
    BOUND,
    CORE,
    SATURATED,
    Part,
    Ranges,
    Tuned,
    as_counts,
    expect_slit_out,
    expect_spectroscopy,
    expect_whole,
)
from drivers.spectrometers.gif_device import GifDevice
from drivers.spectrometers.gif_settings import Settings, read

DARK_IMAGES = 4
"""They are taken when an exposure time is armed for the first time, while the beam may still be blanked."""
MOST_DARKS = 64
"""Exposure times whose dark images are remembered."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """A spectrum of all channels of the camera, when it was taken, and how many pixels were full."""

    data: NDArray[np.int64]
    start_s: float
    end_s: float
    full: float


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
    saturation_counts: float | None = None,
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
        saturation_counts: of a pixel, as it is processed, from which on it is full. Default: 65535 for
            unprocessed ones, else not known.

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
        saturation_counts=saturation_counts,
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
        self._ranges = Ranges(settings)
        self._lock = threading.Lock()
        """Held while it is tuned or armed, so that spectra are what was said when they were armed."""
        self._tuned: Tuned | None = None
        self._seen = emccd.connections
        """The connection on which the device was last found as it was set."""
        self._exposure = SpectrumExposure(0.5)
        self._went_ahead = False
        """Whether the filter was brought to the first part of a spectrum when it was armed."""
        self._darks: dict[float, NDArray[np.float64]] = {}
        self._acquisition = Acquisition(context.clock, context.role)

    def describe(self) -> Description:
        """Identity, limits and camera; ``dual`` is ``sequential``."""
        camera = self._settings.camera
        return Description(
            role=self._role,
            model="Gatan imaging filter",
            driver="gif",
            limits=self._ranges.limits,
            details={
                "dm_version": float(self._emccd.dm_version),
                "camera": float(camera.number),
                "camera_rows": float(camera.bottom - camera.top),
                "zero_loss_channel": self._settings.zero_channel,
                "dispersion_is_read_back": "yes" if self._device.tells_dispersion else "no",
                **self._settings.facts,
            },
        )

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if the setting cannot be taken."""
        self._ranges.check(setting)

    def check_exposure(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> None:
        """Raise LimitError if spectra of such a setting cannot be exposed so."""
        self._ranges.check_exposure(setting, exposure)

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set dispersion and energy losses, take the slit out; returns what the filter took.

        Raises:
            LimitError: beyond a limit, or a dispersion that the filter does not have.
            InstrumentError: armed, or the filter does not obey.
        """
        self.check(setting)
        with self._lock:
            if self._acquisition.armed():
                raise InstrumentError(
                    "the spectrometer cannot be tuned while armed; disarm it first."
                )
            self._tuned, self._went_ahead = None, False
            expect_spectroscopy(self._device.spectroscopy())
            index = self._ranges.index(setting.dispersion_ev)
            self._device.set_dispersion(index)
            self._ranges.expect_dispersion(index, self._device.dispersion())
            expect_slit_out(self._device.take_slit_out())
            wanted_ev = self._ranges.losses_ev(setting)
            found_ev = {name: self._device.set_energy_loss(ev) for name, ev in wanted_ev.items()}
            tuned = self._tuned = self._ranges.taken(setting, found_ev)
            self._seen = self._emccd.connections
            return tuned.setting

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe, so that little is left to be done while the beam is on.

        The filter goes to the low loss, and the first time of an exposure time dark images are taken.

        Raises:
            LimitError: beyond a limit.
            InstrumentError: not tuned, armed already, or disarmed meanwhile.
            LinkError: the link was lost meanwhile.
        """
        with self._lock:
            tuned = self._demand_tuned()
            self._ranges.check_exposure(tuned.setting, exposure)
            ended = self._acquisition.arm(frames)
            self._exposure = exposure
            try:
                self._take_darks(tuned, exposure, ended)
                if tuned.setting.dual:
                    # now, and not under the beam
                    self._go_to(tuned, tuned.parts(exposure)[0], ended)
                    self._went_ahead = True
            except BaseException:
                if not ended():
                    self._acquisition.disarm()
                raise
            return self._ranges.spec(self._role, tuned, exposure)

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra; the time spans hold the exposures for sure.

        Raises:
            LinkError: the link was lost in a spectrum, which is not taken again.
            InstrumentError: not armed; or the filter is not as it was tuned any more.
        """

        def expose(index: int, cut: Cut) -> Frame | None:
            try:
                return self._spectrum(tuned, exposure, index, cut)
            except ExchangeCut:
                return None

        with self._lock:
            frames = self._acquisition.frames(stop, 0.0, expose)
            # what was armed; another thread may tune it anew after this acquisition
            tuned, exposure = self._demand_tuned(), self._exposure
            return frames

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
        self, tuned: Tuned, exposure: SpectrumExposure, index: int, cut: Cut
    ) -> Frame | None:
        self._look_again(tuned, cut)
        taken: dict[str, _Counts] = {}
        late_s = 0.0
        for part in tuned.parts(exposure):
            ahead, self._went_ahead = self._went_ahead, False
            if tuned.setting.dual and not ahead:
                self._go_to(tuned, part, cut)
            counts = self._expose(part, cut)
            if counts is None:
                return None
            tuned.expect_loss(part.name, self._device.energy_loss(cut))
            taken[part.name] = counts
            late_s = max(late_s, counts.end_s - counts.start_s - part.dwell_s)
        self._ranges.expect_dispersion(tuned.index, self._device.dispersion(cut))
        expect_spectroscopy(self._device.spectroscopy(cut))
        expect_slit_out(self._device.slit_in(cut))
        channels = tuned.setting.channels
        data = {name: as_counts(counts.data[:channels]) for name, counts in taken.items()}
        spans = {name: (counts.start_s, counts.end_s) for name, counts in taken.items()}
        full = sum(counts.full for counts in taken.values())
        meta = FrameMeta({SATURATED: full, BOUND: late_s}, spans)
        start_s = min(start for start, _ in spans.values())
        end_s = max(end for _, end in spans.values())
        return Frame(self._role, index, dict(data), start_s, end_s, meta)

    def _go_to(self, tuned: Tuned, part: Part, cut: Cut) -> None:
        """Set the energy loss of a part; raises InstrumentError if the filter does not come there."""
        tuned.expect_loss(part.name, self._device.set_energy_loss(part.loss_ev, cut))

    def _expose(self, part: Part, cut: Cut) -> _Counts | None:
        """One exposure of all channels, summed over pieces and rows; None when it is cut."""
        number, each_s, wall_s = self._pieces(part)
        total = np.zeros(self._settings.camera.width, np.int64)
        start_s, end_s, full = math.nan, math.nan, 0.0
        for k in range(number):
            if cut():
                return None
            image = self._device.expose(each_s, wall_s, cut)
            expect_whole(image.announced_s - image.asked_s, each_s)
            start_s = image.asked_s if k == 0 else start_s
            end_s = image.announced_s
            total += self._device.counts(image)
            full += self._device.full(image)
        if self._device.raw:
            total -= np.rint(number * self._dark(each_s, wall_s, cut)).astype(np.int64)
        return _Counts(total, start_s, end_s, full)

    def _pieces(self, part: Part) -> tuple[int, float, float]:
        """Number of equal exposures of a part, how long each is, and wall seconds to wait for one."""
        number = math.ceil(part.dwell_s / self._settings.longest_s * (1 - 1e-9))
        each_s = part.dwell_s / number
        return number, each_s, 1.5 * each_s / finite_rate(self._clock)

    def _take_darks(self, tuned: Tuned, exposure: SpectrumExposure, cut: Cut) -> None:
        """Have dark images of all exposures of a spectrum, so that none is taken under the beam."""
        if not self._device.raw:
            return
        for part in tuned.parts(exposure):
            _, each_s, wall_s = self._pieces(part)
            if each_s not in self._darks:
                self._look_again(tuned, cut)
                self._dark(each_s, wall_s, cut)

    def _dark(self, exposure_s: float, wall_s: float, cut: Cut) -> NDArray[np.float64]:
        """Mean counts of a dark exposure, summed over rows; taken once for each exposure time."""
        if exposure_s not in self._darks:
            images = [self._device.dark(exposure_s, wall_s, cut) for _ in range(DARK_IMAGES)]
            mean = np.mean([self._device.counts(image) for image in images], axis=0)
            if len(self._darks) >= MOST_DARKS:
                self._darks.clear()
            self._darks[exposure_s] = mean
        return self._darks[exposure_s]

    def _look_again(self, tuned: Tuned, cut: Cut) -> None:
        """After the link was made anew, see that camera and filter are still as they were set."""
        connections = self._emccd.connections
        if connections == self._seen:
            return
        self._device.select()
        self._ranges.expect_dispersion(tuned.index, self._device.dispersion(cut))
        if not tuned.setting.dual:  # else it is set for every spectrum
            tuned.expect_loss(CORE, self._device.energy_loss(cut))
        self._seen = connections

    def _demand_tuned(self) -> Tuned:
        tuned = self._tuned
        if tuned is None:
            raise InstrumentError("the spectrometer was not tuned; tune it first.")
        return tuned
