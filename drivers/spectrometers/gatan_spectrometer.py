"""What Gatan's filters have in common as spectrometers, however DigitalMicrograph is reached."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from acquire.acquisition import Acquisition, Cut
from acquire.clock import Clock, Signal
from acquire.errors import InstrumentError
from acquire.instruments import (
    Frame,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.station import DriverContext
from drivers.spectrometers.gatan_filter import Ranges, Tuned
from drivers.spectrometers.gif_settings import Settings


class GatanSpectrometer(ABC):
    """A filter and its camera: tuned, armed, and exposed spectrum by spectrum."""

    def __init__(self, context: DriverContext, settings: Settings) -> None:
        self._role = context.role
        self._clock: Clock = context.clock
        self._settings = settings
        self._ranges = Ranges(settings)
        self._lock = threading.Lock()
        """Held while it is tuned or armed, so that spectra are what was said when they were armed."""
        self._tuned: Tuned | None = None
        self._exposure = SpectrumExposure(0.5)
        self._acquisition = Acquisition(context.clock, context.role)

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
            self._tuned = None
            found_ev = self._go_through(
                self._ranges.index(setting.dispersion_ev), self._ranges.losses_ev(setting)
            )
            tuned = self._tuned = self._ranges.taken(setting, found_ev)
            return tuned.setting

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe, so that little is left to be done while the beam is on.

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
                self._prepare(tuned, exposure, ended)
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
            LeaseError: it is in somebody else's hands, where it is served to one only.
        """

        def expose(index: int, cut: Cut) -> Frame | None:
            return self._spectrum(tuned, exposure, index, cut)

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

    @abstractmethod
    def _go_through(self, dispersion: int, losses_ev: dict[str, float]) -> dict[str, float]:
        """Go to every energy loss of a spectrum in turn; where the filter went, by part, in eV."""

    def _prepare(  # noqa: B027  not all have something to do ahead
        self, tuned: Tuned, exposure: SpectrumExposure, ended: Callable[[], bool]
    ) -> None:
        """Do ahead, in ``arm``, what would take time under the beam; ``ended``: it was disarmed."""

    @abstractmethod
    def _spectrum(
        self, tuned: Tuned, exposure: SpectrumExposure, index: int, cut: Cut
    ) -> Frame | None:
        """Expose one spectrum; None when it was cut."""

    def _demand_tuned(self) -> Tuned:
        tuned = self._tuned
        if tuned is None:
            raise InstrumentError("the spectrometer was not tuned; tune it first.")
        return tuned
