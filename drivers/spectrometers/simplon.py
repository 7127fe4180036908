"""A DECTRIS counting detector (ELA, EIGER2, QUADRO, …) as an EELS spectrometer, behind an energy filter.

Sources: those of :mod:`drivers.spectrometers.simplon_rest` and
:mod:`drivers.spectrometers.simplon_messages`, which say what is unverified; nothing was tried on hardware.
Unverified here: that ``trigger`` in mode ``ints`` may block until its images are taken (either way works),
that a detector which was not initialized is in the state ``na``, and that ``disarm`` ends a complete series.

A spectrum is the sum of the detector's rows, in electrons. Its energy axis belongs to the filter: one that
obeys through the SerialEMCCD plug-in, or one that is set by hand and whose calibration the station file
gives. With a filter that obeys, a dual spectrum is taken one after the other, each as a series of its own.

Times are the station's: the first image of a series begins when the trigger is sent or later, by at most
``late_s``; the others follow at the detector's own pace.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import zmq
from numpy.typing import NDArray

from acquire.clock import Clock, Signal
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    Limit,
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
from drivers.spectrometers import simplon_settings
from drivers.spectrometers.simplon_device import Detector, SimplonDevice
from drivers.spectrometers.simplon_filter import EnergyAxis, EnergyFilter, FixedAxis, GatanFilter
from drivers.spectrometers.simplon_messages import CBOR, Pixels
from drivers.spectrometers.simplon_rest import Rest
from drivers.spectrometers.simplon_series import Series, Shot
from drivers.spectrometers.simplon_settings import Settings

CORE, LOW = "core_loss", "low_loss"
FEWEST_CHANNELS = 64
SCALARS = {
    "late": ScalarSpec("s", "how much later than told the exposure may have been"),
    "device_start": ScalarSpec("s", "start of the exposure on the detector's own clock"),
    "no_data": ScalarSpec("1", "pixels that the detector has marked as without data"),
}
WAY_OUT_S = 3.0
"""Wall seconds that the reader of an acquisition that was ended may take to leave the stream."""
_MOST_COUNTS = np.iinfo(np.int32).max


def open_simplon(
    context: DriverContext,
    *,
    rest: str,
    stream: str,
    version: str = CBOR,
    model: str = "dectris",
    api: str = "1.8.0",
    threshold: str = "",
    rows: Sequence[int] | None = None,
    gap: str = "10 µs",
    series_length: int = 1000,
    filter: str | None = None,
    dispersions: Sequence[str] | None = None,
    zero_loss_channel: float = 0.0,
    energy_offsets: Sequence[str] = ("-100 eV", "3000 eV"),
    low_loss_offset: str = "0 eV",
    energy_offset: str | None = None,
    dispersion: str | None = None,
    collection_semi_angle: str | None = None,
) -> Simplon:
    """Connect to a DECTRIS detector: the entry point ``simplon`` of ``hotstage.drivers``.

    Args:
        context: the station's.
        rest: ``HOST:PORT`` of the control unit; its port is 80.
        stream: ``HOST:PORT`` of its stream; 31001 for ``cbor``, 9999 for ``legacy``.
        version: of the stream: ``cbor`` (version 2) or ``legacy`` (version 1).
        model: words that the detector's description must contain.
        api: version of the REST interface.
        threshold: channel that is read where there are several; default the first.
        rows: first row and the one after the last that are summed; default: all.
        gap: from the end of an exposure to the next.
        series_length: most spectra of one series; an endless acquisition has a pause after each.
        filter: ``HOST:PORT`` of a SerialEMCCD plug-in whose filter is in front of the detector.
        dispersions: with ``filter``: energy per channel of this detector, in the order of the
            filter's index.
        zero_loss_channel: with ``filter``: where the zero-loss peak lies at an energy loss of 0.
        energy_offsets: with ``filter``: range of the energy loss at a spectrum's first channel.
        low_loss_offset: with ``filter``: energy loss at the first channel of low-loss spectra is
            this, less the energy of ``zero_loss_channel``.
        energy_offset: without ``filter``: energy loss at the first channel.
        dispersion: without ``filter``: energy per channel.
        collection_semi_angle: for the metadata: ``33 mrad``.

    Raises:
        ValueError, TypeError: an option cannot be used.
        LinkError: it cannot be reached.
        InstrumentError: it is another detector, or not initialized; or there is no filter.
    """
    settings = simplon_settings.read(
        version=version,
        rows=rows,
        gap=gap,
        series_length=series_length,
        filter_address=filter,
        dispersions=dispersions,
        zero_loss_channel=zero_loss_channel,
        energy_offsets=energy_offsets,
        low_loss_offset=low_loss_offset,
        energy_offset=energy_offset,
        dispersion=dispersion,
        collection_semi_angle=collection_semi_angle,
    )
    device = SimplonDevice(
        Rest(rest, api), stream, version, threshold, settings.gap_s, context.clock
    )
    try:
        detector = device.identify(model)
        return Simplon(context, device, detector, settings, _filter(context, settings))
    except BaseException:
        device.close()
        raise


def _filter(context: DriverContext, settings: Settings) -> EnergyFilter:
    if settings.fixed is not None:
        return FixedAxis(settings.fixed)
    address = settings.filter_address
    emccd: Emccd = context.shared.get(
        f"serialemccd {address}", lambda: Emccd(address, context.clock)
    )
    return GatanFilter(emccd, settings.dispersions_ev, settings.zero_channel, settings.offsets_ev)


class Simplon:
    """Spectra of a counting detector; see :func:`open_simplon`. Frames are int32 electrons."""

    def __init__(
        self,
        context: DriverContext,
        device: SimplonDevice,
        detector: Detector,
        settings: Settings,
        energy_filter: EnergyFilter,
    ) -> None:
        self._role = context.role
        self._clock: Clock = context.clock
        self._device = device
        self._detector = detector
        self._filter = energy_filter
        self._rows = settings.rows_of(detector.height)
        self._series_length = settings.series_length
        self._low_loss_ev = settings.low_loss_ev
        self._zero_channel = settings.zero_channel
        self._facts = settings.facts
        self._limits = (
            *energy_filter.limits,
            Limit("channels", FEWEST_CHANNELS, detector.width, "", "driver"),
            Limit("dwell_time", detector.shortest_s, detector.longest_s, "s", "driver"),
            Limit("low_loss_dwell_time", detector.shortest_s, detector.longest_s, "s", "driver"),
        )
        self._tuned: SpectrometerSetting | None = None
        self._exposure = SpectrumExposure(0.5)
        self._frames: int | None = None
        self._count_s = 0.0
        self._source: _Source | None = None
        self._acquisition = Acquisition(context.clock, context.role)

    def describe(self) -> Description:
        """Identity, limits and detector."""
        return Description(
            role=self._role,
            model=self._detector.description,
            driver="simplon",
            serial=self._detector.serial,
            limits=self._limits,
            details={
                "rows": float(self._rows[1] - self._rows[0]),
                "dual": "sequential" if self._filter.moves else "no",
                **self._filter.describe(),
                **self._facts,
            },
        )

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if the setting cannot be taken."""
        _within(self._limits[2], setting.channels)
        self._filter.check(EnergyAxis(setting.energy_offset_ev, setting.dispersion_ev))
        if setting.dual and not self._filter.moves:
            raise LimitError(
                "a dual spectrum refused: the filter is set by hand, so that the detector sees one "
                "range of energies only. Ask for one that is not dual, or name a filter that obeys "
                "(option filter)."
            )

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set dispersion and energy loss; returns what the filter took.

        Raises:
            LimitError: beyond a limit.
            InstrumentError: armed, or the filter does not obey.
        """
        self.check(setting)
        if self._acquisition.armed():
            raise InstrumentError("the spectrometer cannot be tuned while armed; disarm it first.")
        self._tuned = None
        axis = self._filter.tune(EnergyAxis(setting.energy_offset_ev, setting.dispersion_ev))
        self._tuned = SpectrometerSetting(
            axis.offset_ev, axis.dispersion_ev, int(setting.channels), setting.dual
        )
        return self._tuned

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe; raises LimitError, InstrumentError, LinkError."""
        setting = self._demand_tuned()
        _within(self._limits[3], exposure.dwell_time_s)
        if setting.dual:
            _within(self._limits[4], exposure.low_loss_dwell_time_s)
        self._acquisition.arm(frames)
        if self._source is not None:
            # its thread may still be on its way out, and images go to one reader only
            if not self._source.gone.wait(WAY_OUT_S):
                self._acquisition.disarm()
                raise InstrumentError(
                    "the spectra of the last acquisition are still being read; end that iterator first."
                )
            self._source = None
        self._exposure, self._frames = exposure, frames
        try:
            if setting.dual:
                self._device.forget()
            else:
                self._count_s = self._device.configure(
                    exposure.dwell_time_s, self._series_images(), anew=True
                )
        except BaseException:
            self._acquisition.disarm()
            raise
        return self._spec(setting, exposure)

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra; the detector is told to end however this ends.

        Raises:
            LinkError: the link was lost, or an image did not come; nothing is taken again.
            InstrumentError: not armed; or an image is missing or cannot be read.
        """
        source = _Source(self)
        inner = self._acquisition.frames(stop, 0.0, source.expose)
        self._source = source
        return _ending(inner, source)

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def make_safe(self, reason: str) -> None:
        """End the acquisition; a detector does no harm. Idempotent."""
        self._acquisition.disarm()

    def close(self) -> None:
        """Let go of the detector; idempotent."""
        self._acquisition.disarm()
        self._device.close()

    # --------------------------------------------------------------------------- spectra

    def _series_images(self, taken: int = 0) -> int:
        """How many images the next series has, when some were taken already."""
        if self._frames is None:
            return self._series_length
        return min(self._series_length, self._frames - taken)

    def _demand_tuned(self) -> SpectrometerSetting:
        if self._tuned is None:
            raise InstrumentError("the spectrometer was not tuned; tune it first.")
        return self._tuned

    def _single(self, source: _Source, dwell_s: float, cut: Cut) -> Shot | None:
        """A series of one image."""
        taken_s = self._device.configure(dwell_s, 1, anew=False)
        series = self._device.series(source.receiver(), self._detector, taken_s, 1)
        try:
            return series.next(cut)
        finally:
            series.close()

    def _dual(self, source: _Source, index: int, cut: Cut) -> Frame | None:
        """A low-loss and a core-loss spectrum, one after the other."""
        setting, exposure = self._demand_tuned(), self._exposure
        shots: dict[str, Shot] = {}
        below_ev = self._zero_channel * setting.dispersion_ev
        for name, offset_ev, dwell_s in (
            (LOW, self._low_loss_ev - below_ev, exposure.low_loss_dwell_time_s),
            (CORE, setting.energy_offset_ev, exposure.dwell_time_s),
        ):
            if cut():
                return None
            try:
                self._filter.tune(EnergyAxis(offset_ev, setting.dispersion_ev), cut)
            except ExchangeCut:
                return None
            shot = self._single(source, dwell_s, cut)
            if shot is None:
                return None
            shots[name] = shot
        return self._frame(index, shots)

    def _frame(self, index: int, shots: dict[str, Shot]) -> Frame:
        top, bottom = self._rows
        channels = self._demand_tuned().channels
        data: dict[str, NDArray[np.int32]] = {}
        without = 0
        for name, shot in shots.items():
            data[name], marked = _spectrum(shot.image.pixels[top:bottom, :channels])
            without += marked
        first = min(shots.values(), key=lambda shot: shot.start_s)
        meta = FrameMeta(
            {
                "late": max(shot.late_s for shot in shots.values()),
                "device_start": first.image.start_s,
                "no_data": float(without),
            },
            {name: (shot.start_s, shot.end_s) for name, shot in shots.items()},
        )
        end_s = max(shot.end_s for shot in shots.values())
        return Frame(self._role, index, dict(data), first.start_s, end_s, meta)

    def _spec(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> StreamSpec:
        offsets = {CORE: (setting.energy_offset_ev, "core-loss spectrum")}
        period_s = exposure.dwell_time_s
        if setting.dual:
            below_ev = self._zero_channel * setting.dispersion_ev
            offsets[LOW] = (self._low_loss_ev - below_ev, "low-loss spectrum")
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
        return StreamSpec(self._role, channels, SCALARS, period_s)


class _Source:
    """The spectra of one acquisition, series by series."""

    def __init__(self, driver: Simplon) -> None:
        self._driver = driver
        self._taken = 0
        self._series: Series | None = None
        self._images = driver._series_images()
        """That the detector is configured for."""
        self._receiver: zmq.Socket[bytes] | None = None
        self.gone = threading.Event()
        """Whether it touches nothing any more; so until it takes its first frame."""
        self.gone.set()

    def receiver(self) -> zmq.Socket[bytes]:
        """Its own connection to the stream; raises LinkError."""
        if self._receiver is None:
            self._receiver = self._driver._device.connect()
        return self._receiver

    def expose(self, index: int, cut: Cut) -> Frame | None:
        """One frame; None when it is cut."""
        driver = self._driver
        self.gone.clear()
        if driver._demand_tuned().dual:
            return driver._dual(self, index, cut)
        if self._series is None or not self._series.left:
            self._begin()
        if self._series is None or (shot := self._series.next(cut)) is None:
            return None
        self._taken += 1
        return driver._frame(index, {CORE: shot})

    def close(self) -> None:
        """End a series that runs."""
        self._end()
        if self._receiver is not None:
            self._driver._device.release(self._receiver)
            self._receiver = None
        self.gone.set()

    def _end(self) -> None:
        if self._series is not None:
            self._series.close()
        self._series = None

    def _begin(self) -> None:
        self._end()
        driver = self._driver
        images = driver._series_images(self._taken)
        if images != self._images:
            driver._device.configure(driver._exposure.dwell_time_s, images, anew=False)
            self._images = images
        self._series = driver._device.series(
            self.receiver(), driver._detector, driver._count_s, images
        )


def _ending(inner: Iterator[Frame], source: _Source) -> Iterator[Frame]:
    try:
        yield from inner
    finally:
        source.close()


def _spectrum(pixels: Pixels) -> tuple[NDArray[np.int32], int]:
    """Counts of the channels, and how many pixels have no data: those count as 0."""
    dead = pixels == np.iinfo(pixels.dtype).max
    marked = int(np.count_nonzero(dead))
    if marked:
        pixels = np.where(dead, 0, pixels)
    total = pixels.sum(axis=0, dtype=np.int64)
    if total.size and total.max() > _MOST_COUNTS:
        raise InstrumentError(
            f"a channel has {total.max()} counts, more than 32 bits hold. Expose more shortly, or sum "
            "fewer rows (option rows)."
        )
    return total.astype(np.int32), marked


def _within(limit: Limit, value: float) -> None:
    if not limit.low <= value <= limit.high:
        raise LimitError(
            f"{limit.quantity.replace('_', ' ')} {show(value, limit.unit)} refused: the spectrometer "
            f"allows {show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
            f"({limit.source}). Choose a value in between."
        )
