"""The simulated DualEELS spectrometer on the parked probe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.acquisition import Acquisition
from acquire.bursts import SpectrumBlock
from acquire.clock import Signal
from acquire.errors import InstrumentError
from acquire.instruments import (
    Description,
    Frame,
    FrameMeta,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from simulators.exposing import KeepGoing, lasting, lasting_blocks
from simulators.meeting import meet
from simulators.spectra import (
    CAMERAS,
    ZERO_LOSS_FWHM_EV,
    AnyLoss,
    Band,
    CoreLoss,
    Detector,
    EnergyShift,
    LowLoss,
    Optics,
    Pattern,
    SpectrumCamera,
    pattern,
)
from simulators.spectra.camera import make_ready
from simulators.spectra.model import CORE_ONLY_EV, Model, Spectrum
from simulators.spectra.ranges import (
    CORE,
    LIMITS,
    LOW,
    LOW_TIME,
    check_exposure,
    check_setting,
    core_band,
    low_band,
    stream_spec,
    taken,
)
from simulators.truth import Met, SpectrumFacts
from simulators.world import SPECTROMETER, World

Array = NDArray[np.float64]

_COLLECTION_MRAD = 33.0
_LEAST_BLUR = 0.03
"""Jitter within a dwell that blurs less, as a share of the resolution, is left out."""
_BANDS_KEPT = 6
_LONGEST_WAIT_S = 20.0
"""For compiling, which a fresh machine does once."""
_KINDS: dict[str, Callable[[Band, Optics], Model]] = {
    "core": CoreLoss,
    "low": LowLoss,
    "any": AnyLoss,
}


@dataclass(frozen=True, slots=True)
class SpectrometerSettings:
    """What a simulated spectrometer is."""

    fwhm_ev: float = ZERO_LOSS_FWHM_EV
    """Resolution: the width of the zero-loss peak; 8 to 10 meV with a monochromator."""
    camera: SpectrumCamera = CAMERAS["ccd"]


@dataclass(frozen=True, slots=True)
class _Exposed:
    """What single spectra of an acquisition have in common."""

    setting: SpectrometerSetting
    pattern: Pattern
    models: dict[str, Model]


class SimulatedSpectrometer:
    """An EELS camera; int32 counts, offset 0.

    In a dual exposure low-loss reads take turns with parts of the core loss
    (:mod:`simulators.spectra.pattern`). The energy axis is as badly known as a real one: the zero-loss
    peak is off by some tenths of an eV, wanders, and jitters within milliseconds
    (:mod:`simulators.spectra.shift`).
    """

    def __init__(self, world: World, settings: SpectrometerSettings | None = None) -> None:
        self._world = world
        self._settings = settings or SpectrometerSettings()
        self._acquisition = Acquisition(world.clock, SPECTROMETER)
        self._shift = EnergyShift(world.seed, self._settings.fwhm_ev)
        self._detector = Detector(self._settings.camera, world.seed)
        self._exposure = SpectrumExposure(0.5)
        self._setting = SpectrometerSetting(400.0, 0.1)
        self._lock = threading.Lock()
        self._models: dict[tuple[str, Band, float], Model] = {}
        self._ready = None if world.draft else make_ready()

    def describe(self) -> Description:
        """Identity, limits and camera."""
        camera = self._settings.camera
        return Description(
            role=SPECTROMETER,
            model="simulated DualEELS spectrometer",
            driver="simulated",
            simulated=True,
            limits=LIMITS,
            details={
                "collection_semi_angle_mrad": _COLLECTION_MRAD,
                "camera": camera.kind,
                "gain_counts_per_electron": camera.counts_per_electron,
                "offset_counts": 0.0,
                "readout_noise_electrons": camera.readout_electrons,
                "full_scale_counts": camera.full_scale_counts,
                "gain_reference_noise": camera.gain_noise,
                "point_spread_share": camera.spread,
                "energy_resolution_ev": self._settings.fwhm_ev,
            },
        )

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if the setting cannot be taken."""
        check_setting(setting)

    def check_exposure(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> None:
        """Raise LimitError if spectra of such a setting cannot be exposed so."""
        check_exposure(exposure, dual=setting.dual)

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set the energy range and the angle; raises LimitError, InstrumentError.

        The offset moves in steps of 0.05 eV; of 0.5 meV for dispersions below 10 meV.
        """
        self.check(setting)
        if self._acquisition.armed():
            raise InstrumentError("the spectrometer cannot be tuned while armed; disarm it first.")
        self._setting = taken(setting)
        return self._setting

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare spectra of the parked probe; raises LimitError, InstrumentError if armed already."""
        check_exposure(exposure, dual=self._setting.dual)
        self._acquisition.arm(frames)
        self._exposure = exposure
        exposed = self._exposed()
        if self._ready is not None:
            # better here than in the first exposure
            self._ready.join(_LONGEST_WAIT_S)
        return stream_spec(SPECTROMETER, self._setting, exposure, exposed.pattern)

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """Expose and yield the armed spectra."""
        exposed = self._exposed()

        def expose(index: int, start_s: float, end_s: float, keep_going: KeepGoing) -> Frame | None:
            starts = np.array([start_s])
            data, spans = self._take(exposed, index, starts, self._met_in(exposed, starts))
            alone = {name: array[0] for name, array in data.items()}
            meta = FrameMeta(spans={n: (start_s + a, start_s + b) for n, (a, b) in spans.items()})
            return Frame(SPECTROMETER, index, alone, start_s, end_s, meta)

        lasts = lasting(self._world.clock, exposed.pattern.frame_s, expose)
        return self._acquisition.frames(stop, 0.0, lasts)

    def blocks(self, stop: Signal) -> Iterator[SpectrumBlock]:
        """Expose and yield the armed spectra in blocks, one right after the other.

        Where this machine is slower than the spectra come, or nobody takes them for half a second of
        wall time, there is a pause before the next block, as their times tell.
        """
        exposed = self._exposed()
        frame_s = exposed.pattern.frame_s

        def make(first: int, starts_s: Array, met: Met) -> SpectrumBlock:
            data, spans = self._take(exposed, first, starts_s, met)
            own = {name: starts_s[:, None] + np.array(span) for name, span in spans.items()}
            ends_s = starts_s + frame_s
            return SpectrumBlock(SPECTROMETER, first, data, starts_s, ends_s, spans=own)

        world = self._world
        lasts = lasting_blocks(world.clock, frame_s, lambda t_s: meet(world, t_s), make)
        return self._acquisition.blocks(stop, lasts)

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def make_safe(self, reason: str) -> None:
        """End the acquisition; idempotent."""
        self._acquisition.disarm()

    def burst(
        self, first: int, starts_s: Sequence[float] | Array
    ) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[float, float]]]:
        """Many spectra of the armed exposure at once: the same as one by one, where the probe rests.

        What the probe meets is taken in the middle of all of them, so a call should span well below a
        second. They are remembered for the truth.

        Args:
            first: number of the first spectrum.
            starts_s: when each begins; (n,).

        Returns:
            Data by channel, with a leading axis of n; and begin and end of every channel, in s since
            the beginning of its spectrum.
        """
        exposed, starts = self._exposed(), np.asarray(starts_s, np.float64)
        return self._take(exposed, first, starts, self._met_in(exposed, starts))

    def disperse(
        self, band: Band, start_s: float, end_s: float, index: int, correction_ev: float = 0.0
    ) -> Array:
        """Mean electrons per channel of an exposure of the parked probe in any band, zero loss included.

        For far ends whose camera shows a band of their own. It is remembered as exposure ``index``.

        Args:
            band: the channels.
            start_s: of the exposure.
            end_s: of the exposure.
            index: counts the exposures of that camera.
            correction_ev: what the axis was moved by, to bring the zero-loss peak home.
        """
        met = meet(self._world, (start_s + end_s) / 2)
        shift_ev = self._shift.mean(start_s, end_s) + correction_ev
        electrons = met.electrons_per_s * (end_s - start_s)
        self._remember(index, met, electrons, [(start_s + end_s) / 2], shift_ev[None], None)
        if self._world.draft:
            return np.zeros(band.channels)
        spectrum = self._model("any", band, 0.0).spectrum(met.point)
        rows = spectrum.rows(electrons, shift_ev[None], self._blur_ev(end_s - start_s))
        return np.asarray(rows[0])

    def zero_loss_ev(self, t_s: float) -> float:
        """Where the zero-loss peak is at a time, without its jitter."""
        return self._shift.slow_at(t_s)

    def _exposed(self) -> _Exposed:
        setting, exposure = self._setting, self._exposure
        models: dict[str, Model] = {}
        if not self._world.draft:
            band = core_band(setting)
            kind = "core" if setting.energy_offset_ev >= CORE_ONLY_EV else "any"
            models[CORE] = self._model(kind, band, setting.off_axis_mrad)
            if setting.dual:
                models[LOW] = self._model("low", low_band(setting), setting.off_axis_mrad)
        return _Exposed(setting, pattern(exposure, dual=setting.dual), models)

    def _met_in(self, exposed: _Exposed, starts_s: Array) -> Met:
        return meet(self._world, float(starts_s.mean()) + exposed.pattern.frame_s / 2)

    def _take(
        self, exposed: _Exposed, first: int, starts_s: Array, met: Met
    ) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[float, float]]]:
        when, setting = exposed.pattern, exposed.setting
        core_shift = self._shift_in(starts_s, when.core_s).mean(axis=1)
        data: dict[str, NDArray[Any]] = {
            CORE: self._counts(exposed, CORE, met, first, core_shift[:, None], when.core_s)[:, 0]
        }
        spans = {CORE: (float(when.core_s[0, 0]), when.frame_s)}
        low_shift = None
        if setting.dual:
            low_shift = self._shift_in(starts_s, when.low_s)
            low = self._counts(exposed, LOW, met, first, low_shift, when.low_s[:1])
            spans[LOW] = (float(when.low_s[0, 0]), float(when.low_s[-1, 1]))
            if len(when.low_s) > 1:
                data[LOW] = low
                data[LOW_TIME] = np.repeat(when.low_s[None], len(starts_s), axis=0)
            else:
                data[LOW] = low[:, 0]
        middles_s = (starts_s + when.frame_s / 2).tolist()
        electrons = met.electrons_per_s * when.frame_s
        self._remember(first, met, electrons, middles_s, core_shift, low_shift)
        return data, spans

    def _shift_in(self, starts_s: Array, spans_s: Array) -> Array:
        """Mean shifts over spans of every frame; (frames, spans)."""
        return self._shift.mean(
            starts_s[:, None] + spans_s[None, :, 0], starts_s[:, None] + spans_s[None, :, 1]
        )

    def _counts(
        self,
        exposed: _Exposed,
        name: str,
        met: Met,
        first: int,
        shift_ev: Array,
        spans_s: Array,
    ) -> NDArray[np.int32]:
        """Counts of reads that each last as long as ``spans_s`` together; (frames, reads, channels)."""
        frames, reads = shift_ev.shape
        shape = frames, reads, exposed.setting.channels
        if not exposed.models:
            return np.zeros(shape, np.int32)
        dwell_s = float((spans_s[:, 1] - spans_s[:, 0]).sum())
        spectrum: Spectrum = exposed.models[name].spectrum(met.point)
        rows = spectrum.rows(
            met.electrons_per_s * dwell_s, shift_ev.ravel(), self._blur_ev(dwell_s)
        )
        return self._detector.counts(rows, name, first * reads).reshape(shape)

    def _blur_ev(self, dwell_s: float) -> float:
        blur_ev = self._shift.blur_ev(dwell_s)
        return blur_ev if blur_ev > _LEAST_BLUR * self._settings.fwhm_ev else 0.0

    def _model(self, kind: str, band: Band, off_axis_mrad: float) -> Model:
        key = kind, band, off_axis_mrad
        beam = self._world.column.beam
        with self._lock:
            if key not in self._models:
                while len(self._models) >= _BANDS_KEPT:
                    del self._models[next(iter(self._models))]
                optics = Optics(
                    self._settings.fwhm_ev,
                    beam.energy_kev,
                    _COLLECTION_MRAD,
                    beam.convergence_semi_angle_mrad,
                    off_axis_mrad,
                )
                self._models[key] = _KINDS[kind](band, optics)
            return self._models[key]

    def _remember(
        self,
        first: int,
        met: Met,
        electrons: float,
        middles_s: Sequence[float],
        core_shift_ev: Array,
        low_shift_ev: Array | None,
    ) -> None:
        log, per_nm2 = self._world.truth[SPECTROMETER], self._world.electrons_per_nm2(electrons)
        core = core_shift_ev.tolist()
        low = [()] * len(core) if low_shift_ev is None else list(map(tuple, low_shift_ev.tolist()))
        for k, t_s in enumerate(middles_s):
            log.add(SpectrumFacts(first + k, t_s, met, core[k], low[k], electrons, per_nm2))
