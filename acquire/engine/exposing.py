"""Carries out the steps that have the beam for themselves: images, spectra, line scans, maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

from acquire.engine.beamtime import BeamTime, Others, Show
from acquire.engine.bursting import Burst
from acquire.engine.calibrating import NOTE, measured, told
from acquire.engine.context import RunContext
from acquire.engine.disk import DiskWatch
from acquire.engine.energy_offsets import OFFSET_SCALAR
from acquire.engine.foretaking import foretake, grouped
from acquire.engine.imaging import Images
from acquire.engine.live_maps import MapGrid
from acquire.engine.mapping import Maps
from acquire.engine.monitor import HolderMonitor
from acquire.engine.runloop import BeamLoop, RunLoop
from acquire.engine.spectra import FLASH_S, Spectra
from acquire.engine.watched_spectra import WatchedSpectra
from acquire.errors import MeasureError, RunAborted
from acquire.instruments import Frame, StreamSpec
from acquire.recipe import CalibrateEnergy, Image, LineScan, Spectrum, SpectrumImage


class Exposures:
    """The steps' way to scan and spectrometer, for one run; every step raises what ends the run."""

    def __init__(
        self,
        run: RunContext,
        monitor: HolderMonitor,
        disk: DiskWatch,
        others: Others,
        loop: RunLoop,
        watched: WatchedSpectra,
    ) -> None:
        self._loop = loop
        self._time = BeamTime(run, monitor, disk, others, loop, watched)
        self._images = Images(self._time)
        self._maps = Maps(self._time, self._images)

    def beside(self, others: Others, loop: BeamLoop) -> BeamTime:
        """The beam for who records beside the steps, in a thread of its own."""
        return self._time.beside(others, loop)

    @property
    def beam_taken(self) -> bool:
        """Whether a step has the beam for itself."""
        return self._time.taken

    @property
    def in_the_dark(self) -> bool:
        """Whether the beam is blanked but for single exposures of that step."""
        return self._time.in_the_dark

    def image(self, step: Image, show: Show) -> None:
        """Take the images of a step."""
        with self._time.beam(str(step)), self._time.settled(step.name):
            self._images.take(step.scan.exposure(step.every), step.frames, step.name, show)

    def line_scan(self, step: LineScan, show: Show) -> None:
        """Take the spectra of a line."""
        grid = MapGrid(step.name, (1, 1, step.points), step.from_, (step.spacing_nm, 0.0))
        self._time.run.live.begin_map(grid)
        self._spectra(step, step.positions_nm(), step.points, show)

    def spectrum(self, step: Spectrum, show: Show) -> None:
        """Take spectra at one point; short ones as one burst."""
        if step.energy_offsets:
            self._energy_series(step, show)
            return
        settings = step.spectra
        if step.frames > 1 and settings.dwell_time < FLASH_S:
            with Spectra.having_the_beam(
                self._time, step, step.name, settings, step.spacing_nm
            ) as spectra:
                Burst(spectra, step.at, step.frames, show).take()
            return
        self._spectra(step, repeat(step.at, step.frames), step.frames, show)

    def calibrate_energy(self, step: CalibrateEnergy, show: Show) -> None:
        """Take spectra, and hold what they tell of the energy axis."""
        time = self._time
        with Spectra.having_the_beam(
            time, step, step.name, step.spectra, step.spacing_nm
        ) as spectra:
            spectra.kept = []
            for number in range(step.frames):
                spectra.at(step.at)
                show((number + 1) / step.frames)
                time.loop.checkpoint()
            details = spectra.spectrometer.describe().details
        self._calibrate(step, spectra.kept, details)

    def spectrum_image(self, step: SpectrumImage, show: Show) -> None:
        """Take a map."""
        self._maps.take(step, show)

    def _energy_series(self, step: Spectrum, show: Show) -> None:
        """Take spectra at one point, whose ranges begin at different energies."""
        time, settings = self._time, list(step.series())
        with Spectra.having_the_beam(
            time, step, step.name, settings[0], step.spacing_nm, OFFSET_SCALAR
        ) as spectra:
            spectra.nominal_ev = step.spectra.range[0]
            for number, each in enumerate(settings):
                if each != spectra.settings:
                    spectra.tune(each)
                    spectra.light()
                spectra.at(step.at)
                show((number + 1) / len(settings))
                time.loop.checkpoint()

    def _spectra(
        self,
        step: LineScan | Spectrum,
        positions_nm: Iterable[tuple[float, float]],
        count: int,
        show: Show,
    ) -> None:
        time, settings = self._time, step.spectra
        taken = 0
        with Spectra.having_the_beam(time, step, step.name, settings, step.spacing_nm) as spectra:
            for group in grouped(positions_nm, count, apart=time.run.enforce):
                if len(group) == 1:
                    spectra.at(group[0])
                else:
                    foretake(spectra, group)
                taken += len(group)
                show(taken / count)
                time.loop.checkpoint()

    def _calibrate(
        self,
        step: CalibrateEnergy,
        kept: Sequence[tuple[Frame, StreamSpec]],
        details: Mapping[str, object],
    ) -> None:
        """Raises RunAborted where the recipe says so of a calibration that is refused."""
        run, loop, spec = self._time.run, self._loop, kept[-1][1]
        try:
            correction = measured(step, [frame for frame, _ in kept], spec, details)
        except MeasureError as error:
            text = f"the energy axis was not calibrated: {error}"
            run.note(NOTE, text, {"stream": step.name})
            if step.else_ == "abort":
                raise RunAborted(f"{text} (the recipe says to abort then)") from error
            run.warn(text)
            if step.else_ == "pause":
                loop.request_pause(text)
                loop.wait(0.0)
            return
        dispersion_ev = spec.channels["core_loss"].axes["energy_loss"].step
        run.calibrations.hold(dispersion_ev, correction)
        if left := [name for name in self._time.uncalibrated() if name != step.name]:
            run.warn(
                f"the spectra {', '.join(map(repr, left))} were begun before the first calibration, and "
                "do not carry it. Give those that follow another 'name'."
            )
        text, numbers = told(correction, dispersion_ev)
        run.note(NOTE, text, {"stream": step.name, **numbers})
