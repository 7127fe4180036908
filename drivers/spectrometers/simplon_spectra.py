"""The spectra of one acquisition with a DECTRIS detector: series by series, or dual, one after the other."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import zmq
from numpy.typing import NDArray

from acquire.acquisition import Cut
from acquire.errors import InstrumentError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Frame,
    FrameMeta,
    ScalarSpec,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from drivers.links import ExchangeCut
from drivers.spectrometers.simplon_device import Detector, SimplonDevice
from drivers.spectrometers.simplon_filter import EnergyAxis, EnergyFilter
from drivers.spectrometers.simplon_messages import Pixels
from drivers.spectrometers.simplon_series import Series, Shot

CORE, LOW = "core_loss", "low_loss"
SCALARS = {
    "late": ScalarSpec("s", "how much later than told the exposure may have been"),
    "device_start": ScalarSpec("s", "start of the exposure on the detector's own clock"),
    "no_data": ScalarSpec("1", "pixels that the detector has marked as without data; they count 0"),
    "saturated_pixels": ScalarSpec("1", "pixels that were full: they may have counted more"),
}
_LONG_NAMES = {CORE: "core-loss spectrum", LOW: "low-loss spectrum"}
_MOST_COUNTS = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Columns:
    """Which pixels of an image are the spectrum."""

    top: int
    bottom: int
    mirrored: bool
    """Whether the energy loss falls with the column."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the filter took."""

    setting: SpectrometerSetting
    axes: dict[str, EnergyAxis]
    """Of every channel, in the order of their exposures."""
    asked: dict[str, EnergyAxis]
    """What the filter is told for them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was armed."""

    role: str
    tuned: Tuned
    exposure: SpectrumExposure
    frames: int | None
    series_length: int
    columns: Columns

    @property
    def dual(self) -> bool:
        """Whether each spectrum is two, each of them a series of its own."""
        return self.tuned.setting.dual

    def images(self, taken: int = 0) -> int:
        """How many images the next series has, when some were taken already."""
        if self.frames is None:
            return self.series_length
        return min(self.series_length, self.frames - taken)

    def spec(self) -> StreamSpec:
        """What its frames look like."""
        setting = self.tuned.setting
        channels = {
            name: ChannelSpec(
                "int32",
                (setting.channels,),
                ("energy_loss",),
                {"energy_loss": Axis(axis.offset_ev, axis.dispersion_ev, "eV")},
                "counts",
                _LONG_NAMES[name],
            )
            for name, axis in sorted(self.tuned.axes.items())
        }
        period_s = self.exposure.dwell_time_s
        if self.dual:
            period_s += self.exposure.low_loss_dwell_time_s
        return StreamSpec(self.role, channels, SCALARS, period_s)


class Spectra:
    """Exposes what is planned; for one thread.

    Args:
        device: set up for the first series, unless the spectra are dual.
        detector: what it is.
        energy_filter: tuned as planned.
        plan: what was armed.
        count_s: exposure time that the detector took; not for dual spectra.
    """

    def __init__(
        self,
        device: SimplonDevice,
        detector: Detector,
        energy_filter: EnergyFilter,
        plan: Plan,
        count_s: float,
    ) -> None:
        self._device = device
        self._detector = detector
        self._filter = energy_filter
        self._plan = plan
        self._count_s = count_s
        self._taken = 0
        self._series: Series | None = None
        self._images = plan.images()
        """That the detector is configured for."""
        self._receiver: zmq.Socket[bytes] | None = None
        self.gone = threading.Event()
        """Whether it touches nothing any more; so until it takes its first frame."""
        self.gone.set()

    def expose(self, index: int, cut: Cut) -> Frame | None:
        """One frame; None when it is cut. Raises LinkError, InstrumentError."""
        self.gone.clear()
        if cut():  # before that, somebody may have armed the next acquisition
            return None
        try:
            shots = self._dual(cut) if self._plan.dual else self._next(cut)
        except ExchangeCut:
            return None
        return None if shots is None else self._frame(index, shots)

    def close(self) -> None:
        """End a series that runs."""
        self._end()
        if self._receiver is not None:
            self._device.stream.release(self._receiver)
            self._receiver = None
        self.gone.set()

    def _next(self, cut: Cut) -> dict[str, Shot] | None:
        if self._series is None or not self._series.left:
            self._series = self._begin(cut)
        shot = self._series.next(cut)
        if shot is None:
            return None
        self._taken += 1
        return {CORE: shot}

    def _begin(self, cut: Cut) -> Series:
        self._end()
        images = self._plan.images(self._taken)
        if images != self._images:
            dwell_s = self._plan.exposure.dwell_time_s
            self._device.configure(dwell_s, images, anew=False, cut=cut)
            self._images = images
        receiver = self._connection(cut)
        return self._device.series(receiver, self._detector, self._count_s, images, cut)

    def _end(self) -> None:
        series, self._series = self._series, None
        if series is not None:
            series.close()

    def _dual(self, cut: Cut) -> dict[str, Shot] | None:
        """A low-loss and a core-loss spectrum, one after the other."""
        tuned, exposure = self._plan.tuned, self._plan.exposure
        dwells_s = {LOW: exposure.low_loss_dwell_time_s, CORE: exposure.dwell_time_s}
        shots: dict[str, Shot] = {}
        for name, axis in tuned.axes.items():
            self._filter.return_to(tuned.asked[name], axis, cut)
            shot = self._single(dwells_s[name], cut)
            if shot is None:
                return None
            shots[name] = shot
        return shots

    def _single(self, dwell_s: float, cut: Cut) -> Shot | None:
        """A series of one image."""
        taken_s = self._device.configure(dwell_s, 1, anew=False, cut=cut)
        receiver = self._connection(cut)
        series = self._device.series(receiver, self._detector, taken_s, 1, cut)
        try:
            return series.next(cut)
        finally:
            series.close()

    def _connection(self, cut: Cut) -> zmq.Socket[bytes]:
        """Its own connection to the stream."""
        if self._receiver is None:
            self._receiver = self._device.stream.connect(cut)
        return self._receiver

    def _frame(self, index: int, shots: dict[str, Shot]) -> Frame:
        channels = self._plan.tuned.setting.channels
        data: dict[str, NDArray[np.int32]] = {}
        without = full = 0
        for name, shot in shots.items():
            pixels = _cropped(shot.image.pixels, self._plan.columns, channels)
            data[name], marked, saturated = _spectrum(pixels, shot.full_counts)
            without += marked
            full += saturated
        first = min(shots.values(), key=lambda shot: shot.start_s)
        meta = FrameMeta(
            {
                "late": max(shot.late_s for shot in shots.values()),
                "device_start": first.image.start_s,
                "no_data": float(without),
                "saturated_pixels": float(full),
            },
            {name: (shot.start_s, shot.end_s) for name, shot in shots.items()},
        )
        end_s = max(shot.end_s for shot in shots.values())
        return Frame(self._plan.role, index, dict(data), first.start_s, end_s, meta)


def _cropped(pixels: Pixels, columns: Columns, channels: int) -> Pixels:
    rows = pixels[columns.top : columns.bottom]
    return (rows[:, ::-1] if columns.mirrored else rows)[:, :channels]


def _spectrum(pixels: Pixels, full_counts: int) -> tuple[NDArray[np.int32], int, int]:
    """Counts of the channels, how many pixels have no data (those count as 0), and how many were full."""
    dead = pixels == np.iinfo(pixels.dtype).max
    marked = int(np.count_nonzero(dead))
    if marked:
        pixels = np.where(dead, 0, pixels)
    full = int(np.count_nonzero(pixels >= full_counts))
    total = pixels.sum(axis=0, dtype=np.int64)
    if total.size and total.max() > _MOST_COUNTS:
        raise InstrumentError(
            f"a channel has {total.max()} counts, more than 32 bits hold. Expose more shortly, or sum "
            "fewer rows (option rows)."
        )
    return total.astype(np.int32), marked, full
