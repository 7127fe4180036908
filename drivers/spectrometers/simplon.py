"""A DECTRIS counting detector (ELA, EIGER2, QUADRO, …) as an EELS spectrometer, behind an energy filter.

Sources: those of :mod:`drivers.spectrometers.simplon_rest` and
:mod:`drivers.spectrometers.simplon_messages`, which say what is unverified; nothing was tried on hardware.
Unverified here: that ``trigger`` in mode ``ints`` may block until its images are taken (either way works),
that a detector which was not initialized is in the state ``na``, and that ``disarm`` ends a complete series.

A spectrum is the sum of the detector's rows, in electrons. Its energy axis belongs to the filter: one that
obeys through the SerialEMCCD plug-in, or one that is set by hand and whose calibration the station file
gives. With a filter that obeys, a dual spectrum is taken one after the other, each as a series of its own.
Tuning goes to both, and tells where the filter went; it must come back there for every spectrum.

Times are the station's: the first image of a series begins when the trigger is sent or later, by at most
``late_s``; the others follow at the detector's own pace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

from acquire.acquisition import Acquisition, Cut
from acquire.bursts import SpectrumBlock, gathered
from acquire.clock import Clock, Signal
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import (
    Description,
    Frame,
    Limit,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.station import DriverContext
from acquire.units import show
from drivers.links import ExchangeCut
from drivers.serialemccd import Emccd
from drivers.spectrometers import simplon_settings
from drivers.spectrometers.refusals import demand_on_axis, demand_one_read
from drivers.spectrometers.simplon_device import Detector, SimplonDevice
from drivers.spectrometers.simplon_filter import EnergyAxis, EnergyFilter, FixedAxis, GatanFilter
from drivers.spectrometers.simplon_messages import CBOR
from drivers.spectrometers.simplon_rest import Rest
from drivers.spectrometers.simplon_settings import Settings
from drivers.spectrometers.simplon_spectra import CORE, LOW, Columns, Plan, Spectra, Tuned

FEWEST_CHANNELS = 64
WAY_OUT_S = 3.0
"""Wall seconds that the reader of an acquisition that was ended may take to leave the stream."""
_LOOK_S = 0.02


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
    mirrored: bool = False,
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
        threshold: channel that is read where there are several; default the first. ``legacy`` has one.
        rows: first row and the one after the last that are summed; default: all.
        mirrored: whether the energy loss falls with the column, instead of rising.
        gap: from the end of an exposure to the next.
        series_length: most spectra of one series; an endless acquisition has a pause after each.
        filter: ``HOST:PORT`` of a SerialEMCCD plug-in whose filter is in front of the detector.
        dispersions: with ``filter``: energy per channel of this detector, in the order of the
            filter's index.
        zero_loss_channel: with ``filter``: where the zero-loss peak lies at an energy loss of 0,
            counted as the energy loss rises.
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
        threshold=threshold,
        rows=rows,
        mirrored=mirrored,
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
        self._columns = Columns(*settings.rows_of(detector.height), settings.mirrored)
        self._settings = settings
        self._limits = (
            *energy_filter.limits,
            Limit("channels", FEWEST_CHANNELS, detector.width, "", "driver"),
            Limit("dwell_time", detector.shortest_s, detector.longest_s, "s", "driver"),
            Limit("low_loss_dwell_time", detector.shortest_s, detector.longest_s, "s", "driver"),
        )
        self._tuned: Tuned | None = None
        self._plan: Plan | None = None
        self._count_s = 0.0
        self._spectra: Spectra | None = None
        self._lock = threading.Lock()
        """Held while it is tuned or armed, so that spectra are what was said when they were armed."""
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
                "rows": float(self._columns.bottom - self._columns.top),
                "dual": "sequential" if self._filter.moves else "no",
                **self._filter.describe(),
                **self._settings.facts,
            },
        )

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if the setting cannot be taken."""
        _within(self._limits[2], setting.channels)
        demand_on_axis(setting)
        self._filter.check(EnergyAxis(setting.energy_offset_ev, setting.dispersion_ev))
        if setting.dual and not self._filter.moves:
            raise LimitError(
                "a dual spectrum refused: the filter is set by hand, so that the detector sees one "
                "range of energies only. Ask for one that is not dual, or name a filter that obeys "
                "(option filter)."
            )

    def check_exposure(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> None:
        """Raise LimitError if spectra of such a setting cannot be exposed so."""
        _within(self._limits[3], exposure.dwell_time_s)
        demand_one_read(exposure)
        if setting.dual:
            _within(self._limits[4], exposure.low_loss_dwell_time_s)

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set dispersion and energy loss; returns what the filter took.

        Raises:
            LimitError: beyond a limit.
            InstrumentError: armed, or the filter does not obey.
        """
        self.check(setting)
        with self._lock:
            if self._acquisition.armed():
                raise InstrumentError(
                    "the spectrometer cannot be tuned while armed; disarm it first."
                )
            self._tuned = None
            self._tuned = self._tune(setting)
            return self._tuned.setting

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe; raises LimitError, InstrumentError, LinkError."""
        self.check_exposure(self._demand_tuned().setting, exposure)
        ended = self._acquisition.arm(frames)
        try:
            return self._set_up(exposure, frames, ended)
        except BaseException:
            if not ended():
                self._acquisition.disarm()
            raise

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra; the detector is told to end however this ends.

        Raises:
            LinkError: the link was lost, or an image did not come; nothing is taken again.
            InstrumentError: not armed; an image is missing or cannot be read; or the filter is not
                where it was tuned to any more.
        """
        plan = self._plan
        if plan is None:
            raise InstrumentError(f"the {self._role} is not armed; arm it first.")
        spectra = Spectra(self._device, self._detector, self._filter, plan, self._count_s)
        inner = self._acquisition.frames(stop, 0.0, spectra.expose)
        self._spectra = spectra
        return _ending(inner, spectra)

    def blocks(self, stop: Signal) -> Iterator[SpectrumBlock]:
        """The same in blocks: the images of one series follow each other at the detector's pace."""
        return gathered(self.frames(stop))

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def make_safe(self, reason: str) -> None:
        """End the acquisition; a detector does no harm. Idempotent."""
        self.disarm()

    def close(self) -> None:
        """Let go of the detector; idempotent."""
        self._acquisition.disarm()
        self._device.close()

    def _tune(self, setting: SpectrometerSetting) -> Tuned:
        """Go to every channel's energies, and see where the filter went."""
        below_ev = self._settings.zero_channel * setting.dispersion_ev
        offsets_ev = {LOW: self._settings.low_loss_ev - below_ev} if setting.dual else {}
        offsets_ev[CORE] = setting.energy_offset_ev
        asked = {
            name: EnergyAxis(offset_ev, setting.dispersion_ev)
            for name, offset_ev in offsets_ev.items()
        }
        axes = {name: self._filter.tune(axis) for name, axis in asked.items()}
        core = axes[CORE]
        found = SpectrometerSetting(
            core.offset_ev, core.dispersion_ev, int(setting.channels), setting.dual
        )
        return Tuned(found, axes, asked)

    def _set_up(self, exposure: SpectrumExposure, frames: int | None, ended: Cut) -> StreamSpec:
        """Set the detector up for the spectra, unless it is ended meanwhile."""
        while not self._lock.acquire(timeout=_LOOK_S):
            _go_on(ended)  # another thread tunes, or its own arming is just being ended
        try:
            _go_on(ended)
            self._plan = None
            tuned = self._demand_tuned()
            self.check_exposure(tuned.setting, exposure)
            self._wait_for_reader(ended)
            plan = Plan(
                self._role, tuned, exposure, frames, self._settings.series_length, self._columns
            )
            if plan.dual:
                self._device.forget()
            else:
                self._filter.expect(tuned.axes[CORE], ended)
                self._count_s = self._device.configure(
                    exposure.dwell_time_s, plan.images(), anew=True, cut=ended
                )
            self._plan = plan
            return plan.spec()
        finally:
            self._lock.release()

    def _wait_for_reader(self, ended: Cut) -> None:
        """Images go to one reader only, and the thread of the last may still be on its way out."""
        spectra = self._spectra
        give_up = time.monotonic() + WAY_OUT_S
        while spectra is not None and not spectra.gone.wait(_LOOK_S):
            _go_on(ended)
            if time.monotonic() >= give_up:
                raise InstrumentError(
                    "the spectra of the last acquisition are still being read; end that iterator first."
                )
        self._spectra = None

    def _demand_tuned(self) -> Tuned:
        if self._tuned is None:
            raise InstrumentError("the spectrometer was not tuned; tune it first.")
        return self._tuned


def _go_on(ended: Cut) -> None:
    if ended():
        raise ExchangeCut("the spectrometer was disarmed while it was being armed.")


def _ending(inner: Iterator[Frame], spectra: Spectra) -> Iterator[Frame]:
    try:
        yield from inner
    finally:
        spectra.close()


def _within(limit: Limit, value: float) -> None:
    if not limit.low <= value <= limit.high:
        raise LimitError(
            f"{limit.quantity.replace('_', ' ')} {show(value, limit.unit)} refused: the spectrometer "
            f"allows {show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
            f"({limit.source}). Choose a value in between."
        )
