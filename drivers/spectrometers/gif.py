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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Cut
from acquire.clock import finite_rate
from acquire.instruments import (
    Description,
    Frame,
    FrameMeta,
    SpectrumExposure,
)
from acquire.station import DriverContext
from drivers.links import ExchangeCut
from drivers.serialemccd import Emccd
from drivers.spectrometers.gatan_filter import (
    BOUND,
    CORE,
    SATURATED,
    Part,
    Tuned,
    as_counts,
    expect_slit_out,
    expect_spectroscopy,
    expect_whole,
)
from drivers.spectrometers.gatan_spectrometer import GatanSpectrometer
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


class Gif(GatanSpectrometer):
    """Spectra of a GIF's camera; see :func:`open_gif`. Frames are int32 counts."""

    def __init__(self, context: DriverContext, emccd: Emccd, settings: Settings) -> None:
        super().__init__(context, settings)
        self._emccd = emccd
        self._device = GifDevice(emccd, settings.camera)
        self._device.examine()
        self._device.select()
        self._seen = emccd.connections
        """The connection on which the device was last found as it was set."""
        self._went_ahead = False
        """Whether the filter was brought to the first part of a spectrum when it was armed."""
        self._darks: dict[float, NDArray[np.float64]] = {}

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

    # --------------------------------------------------------------------------- spectra

    def _go_through(self, dispersion: int, losses_ev: dict[str, float]) -> dict[str, float]:
        self._went_ahead = False
        expect_spectroscopy(self._device.spectroscopy())
        self._device.set_dispersion(dispersion)
        self._ranges.expect_dispersion(dispersion, self._device.dispersion())
        expect_slit_out(self._device.take_slit_out())
        found_ev = {name: self._device.set_energy_loss(ev) for name, ev in losses_ev.items()}
        self._seen = self._emccd.connections
        return found_ev

    def _prepare(self, tuned: Tuned, exposure: SpectrumExposure, ended: Callable[[], bool]) -> None:
        self._take_darks(tuned, exposure, ended)
        if tuned.setting.dual:
            # now, and not under the beam
            self._go_to(tuned, tuned.parts(exposure)[0], ended)
            self._went_ahead = True

    def _spectrum(
        self, tuned: Tuned, exposure: SpectrumExposure, index: int, cut: Cut
    ) -> Frame | None:
        try:
            return self._taken(tuned, exposure, index, cut)
        except ExchangeCut:
            return None

    def _taken(
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
