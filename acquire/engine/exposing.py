"""Carries out the steps that have the beam for themselves: images, line scans, spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import repeat

from acquire.clock import finite_rate
from acquire.engine.context import RunContext
from acquire.engine.disk import DiskWatch
from acquire.engine.dose import (
    Beat,
    as_taken,
    field_of,
    image_dose,
    spot_dose,
)
from acquire.engine.links import RETRY_S, LinkWatch
from acquire.engine.monitor import HolderMonitor
from acquire.engine.recording import FrameRecorder
from acquire.engine.resting import Rest, RestingProbe
from acquire.engine.runloop import RunLoop
from acquire.engine.scanning import ScanRecorder, disarm, disarm_lost, note_armed
from acquire.engine.watched_spectra import WatchedSpectra
from acquire.errors import InstrumentError, LinkError, RecipeError
from acquire.instruments import Frame, ScanExposure, Spectrometer, SpectrumExposure, StreamSpec
from acquire.measure.dose import Area
from acquire.recipe import Image, LineScan, Spectrum, SpectrumSettings, Step

FLASH_S = 0.05
"""Between spectra of so long a dwell and more the beam is blanked: arming, readout and the way to the next
point expose nothing. Between shorter ones it stays on, and all of the time on a point counts."""
Show = Callable[[float], None]
"""Is told how far a step is, 0 to 1."""


class Exposures:
    """The steps' way to scan and spectrometer, for one run.

    An exposure that a pause cuts, or that is lost with the link to its instrument, is taken again;
    what a lost link has cost is recorded as a gap of one frame.
    """

    def __init__(
        self,
        run: RunContext,
        monitor: HolderMonitor,
        disk: DiskWatch,
        scans: list[ScanRecorder],
        loop: RunLoop,
        watched: WatchedSpectra,
    ) -> None:
        self._watched = watched
        self._run = run
        self._monitor = monitor
        self._disk = disk
        self._scans = scans
        self._loop = loop
        self._scan_link = LinkWatch(run, "scan")
        self._spectrometer_link = LinkWatch(run, "spectrometer")
        self._probe = RestingProbe(run, 1.0)
        self._recorders: dict[str, FrameRecorder] = {}
        self._armed: tuple[SpectrumExposure, StreamSpec] | None = None
        """How the spectrometer was armed when that was last written to the journal."""
        self.beam_taken = False
        """Whether a step has the beam for itself."""
        self.in_the_dark = False
        """Whether the beam is blanked but for single exposures of that step."""

    # ----------------------------------------------------------------------------- images

    def image(self, step: Image, show: Show) -> None:
        """Take the images of a step; raises what ends the run."""
        run = self._run
        exposure = step.scan.exposure(step.every)
        dose = image_dose(run.probe_current_pa, exposure)
        before = run.frames.get(step.name, 0)
        with self._beam(str(step)), self._settled(step.name):
            while (done := run.frames.get(step.name, 0) - before) < step.frames:
                self._demand_dose(dose, field_of(exposure))
                try:
                    self._images(step, exposure, dose, done, show)
                except LinkError as error:
                    self._lost(self._scan_link, step.name, error)
                if run.frames.get(step.name, 0) - before == done and not self._scan_link.lost:
                    self._demand_reason("scan", step.name)
                self._loop.checkpoint()

    def _images(
        self, step: Image, exposure: ScanExposure, dose: float, done: int, show: Show
    ) -> None:
        """Take what is still to be taken, until an end or a pause."""
        run, scan, link = self._run, self._run.station.scan, self._scan_link
        if link.lost:
            # it may not know what it was told before: neither that it is armed, nor the beam
            scan.disarm()
            scan.blank(False)
        spec = scan.arm(exposure, step.frames - done)
        taken = as_taken(exposure, spec)
        dose = image_dose(run.probe_current_pa, taken)
        beat, area = Beat(run.clock.now_s(), step.every), field_of(taken)
        try:
            recorder = self._recorder("images", step.name, spec)
            note_armed(run, "scan", step.name, exposure, spec)
            for frame in scan.frames(run.stop):
                beat.took(frame)
                run.dose.add_image(dose, area)
                link.works()
                if frame.t_end_s > run.blanked_s:
                    break
                recorder.record(frame, dose)
                done += 1
                show(done / step.frames)
                if self._loop.interrupted:
                    break
                if done < step.frames:
                    self._demand_dose(dose, area)
        except LinkError:
            if beat.exposing(run.clock.now_s()):
                run.dose.add_image(dose, area)
            disarm_lost(scan)
            raise
        except BaseException:
            disarm_lost(scan)
            raise
        disarm(scan, link)
        if run.stop.is_set() and beat.exposing(run.clock.now_s()):
            run.dose.add_image(dose, area)

    # ---------------------------------------------------------------------------- spectra

    def line_scan(self, step: LineScan, show: Show) -> None:
        """Take the spectra of a line; raises what ends the run."""
        points = step.positions_nm()
        self._spectra(step, step.name, step.spectra, points, step.points, step.spacing_nm, show)

    def spectrum(self, step: Spectrum, show: Show) -> None:
        """Take spectra at one point; raises what ends the run."""
        points = repeat(step.at, step.frames)
        self._spectra(step, step.name, step.spectra, points, step.frames, step.spacing_nm, show)

    def _spectra(
        self,
        step: Step,
        name: str,
        settings: SpectrumSettings,
        positions_nm: Iterable[tuple[float, float]],
        count: int,
        spacing_nm: float,
        show: Show,
    ) -> None:
        run = self._run
        spectrometer = run.station.spectrometer
        if spectrometer is None:
            raise RecipeError(
                f"'{step}' needs a spectrometer, and station {run.station.station.name!r} has none."
            )
        dose = spot_dose(run.probe_current_pa, settings.exposed_s, spacing_nm)
        left, top = self._corner_nm()
        self._probe = RestingProbe(run, spacing_nm, (left, top))
        self._armed = None
        flash = settings.dwell_time >= FLASH_S
        with self._beam(str(step), flash=flash), self._settled(name):
            self._spectrometer_link.insist(
                lambda: self._tune(spectrometer, name, settings), self._wait_in_the_dark
            )
            if not flash and not self._loop.beam_on:
                self._loop.beam(on=True)
            for number, position_nm in enumerate(positions_nm):
                place = left + position_nm[0], top + position_nm[1]
                area = Area.spot(place, spacing_nm)
                self._demand_dose(dose, area)
                self._park(position_nm)
                self._demand_dose(dose, area)
                while not self._one_spectrum(spectrometer, name, settings, position_nm):
                    if self._spectrometer_link.lost:
                        with self._probe.resting(position_nm, on=self._loop.beam_on):
                            self._loop.beam(on=False)
                        self._wait_in_the_dark(RETRY_S)
                    else:
                        self._demand_reason("spectrometer", name)
                    self._loop.checkpoint()
                    self._demand_dose(dose, area)
                run.dose.add_spot(place, dose, spacing_nm)
                show((number + 1) / count)
                self._loop.checkpoint()

    def _tune(self, spectrometer: Spectrometer, name: str, settings: SpectrumSettings) -> None:
        asked = settings.setting()
        taken = spectrometer.tune(asked)
        self._run.note(
            "tuned",
            f"spectrometer tuned for {name}",
            {"instrument": "spectrometer", "asked": asdict(asked), "taken": asdict(taken)},
        )

    def _wait_in_the_dark(self, timeout_s: float) -> None:
        # else the specimen would be exposed for as long as nobody looks
        if self._loop.beam_on:
            self._loop.beam(on=False)
        self._loop.wait(timeout_s)

    def _park(self, position_nm: tuple[float, float]) -> None:
        corner_x, corner_y = self._corner_nm()
        scan = self._run.station.scan

        def park() -> None:
            scan.park(corner_x + position_nm[0], corner_y + position_nm[1])
            if self._scan_link.lost:
                scan.blank(not self._loop.beam_on)

        # until it moves, the probe rests where it was before
        with self._probe.resting(self._probe.at or position_nm, on=self._loop.beam_on) as rest:
            self._scan_link.insist(park, lambda t_s: rest.without(self._loop.wait(t_s)))
        self._probe.at = position_nm

    def _one_spectrum(
        self,
        spectrometer: Spectrometer,
        name: str,
        settings: SpectrumSettings,
        position_nm: tuple[float, float],
    ) -> bool:
        """Take one spectrum; False if the exposure was cut, or lost with the link.

        For how long the beam was on beyond the exposure of one that was taken, and all of one that was
        not, counts as dose here.
        """
        link, run, exposure = self._spectrometer_link, self._run, settings.exposure()
        taken = False
        with self._probe.resting(position_nm, on=self._loop.beam_on) as rest:
            try:
                if link.lost:
                    spectrometer.disarm()
                    self._tune(spectrometer, name, settings)
                    self._armed = None
                spec = spectrometer.arm(exposure, 1)
            except LinkError as error:
                self._note_lost(link, name, error)
                return False
            try:
                recorder = self._recorder("spectra", name, spec)
                if self._armed != (exposure, spec):
                    note_armed(run, "spectrometer", name, exposure, spec)
                    self._armed = exposure, spec
                if not self._loop.beam_on and not run.stop.is_set():
                    # a scan that is lost now is not taken for the spectrometer
                    self._loop.beam(on=True)
                    rest.begin(self._loop.beam_since_s)
                frame, lost = self._next(spectrometer.frames(run.stop))
                over_s = max(0.0, rest.duration_s - settings.exposed_s)
                if frame is not None or lost is None:
                    self._darken(rest)
                if frame is not None and frame.t_end_s <= run.blanked_s:
                    # what machine and wires take beyond an exposure is wall time, which the faster
                    # clock of a simulation stretches: it counts as it would on a real station
                    rest.without(over_s * (1 - 1 / finite_rate(run.clock)))
                    on_s = max(settings.exposed_s, rest.duration_s)
                    dose = spot_dose(run.probe_current_pa, on_s, self._probe.spacing_nm)
                    recorder.record(frame, dose, position_nm)
                    rest.without(settings.exposed_s)  # that counts as the step's
                    taken = True
            except BaseException:
                disarm_lost(spectrometer)
                raise
            if lost is not None:
                disarm_lost(spectrometer)
                self._note_lost(link, name, lost)
                return False
            disarm(spectrometer, link)
        return taken

    def _next(self, frames: Iterator[Frame]) -> tuple[Frame | None, LinkError | None]:
        """The next spectrum, if it is not cut; or how it was lost."""
        try:
            for frame in frames:
                self._spectrometer_link.works()
                return frame, None
        except LinkError as error:
            return None, error
        return None, None

    def _darken(self, rest: Rest) -> None:
        """Blank until the next exposure, where this is done for each of them."""
        if self.in_the_dark:
            if self._loop.beam_on:
                self._loop.beam(on=False, briefly=True)
            rest.end()

    def _corner_nm(self) -> tuple[float, float]:
        """Top left corner of the recorded scan, from the scan's origin."""
        stream = self._run.recipe.scan_stream
        scan = self._run.recipe.record[stream].scan if stream is not None else None
        if scan is None:
            return 0.0, 0.0
        exposure = scan.exposure()
        height = exposure.pixel_size_nm * exposure.shape[0]
        x, y = exposure.center_nm
        return x - exposure.field_of_view_nm / 2, y - height / 2

    # ---------------------------------------------------------------------------- helpers

    def _recorder(self, kind: str, name: str, spec: StreamSpec) -> FrameRecorder:
        if name not in self._recorders:
            offer = self._watched.offer(name, spec)
            recorder = FrameRecorder(self._run, self._monitor, self._disk, kind, name, spec, offer)
            self._recorders[name] = recorder
        recorder = self._recorders[name]
        if recorder.spec.channels != spec.channels:
            raise RecipeError(
                f"the stream {name!r} was begun with other settings; give this step another 'name'."
            )
        recorder.new_acquisition()
        return recorder

    def _lost(self, link: LinkWatch, name: str, error: LinkError) -> None:
        """Wait before an instrument is tried again; raises LinkError if it has been away too long."""
        self._note_lost(link, name, error)
        self._loop.wait(RETRY_S)

    def _note_lost(self, link: LinkWatch, name: str, error: LinkError) -> None:
        if name in self._recorders:
            self._recorders[name].lost(error)
        link.failed(error)

    @contextmanager
    def _settled(self, name: str) -> Iterator[None]:
        """Leave no gap unrecorded, however a step ends."""
        try:
            yield
        finally:
            if name in self._recorders:
                self._recorders[name].settle()
            self._scan_link.forget()
            self._spectrometer_link.forget()

    def _demand_reason(self, instrument: str, name: str) -> None:
        """Without a frame there must be a pause or an end, else the step would try for ever."""
        if not (self._run.stop.is_set() or self._loop.interrupted):
            raise InstrumentError(
                f"the {instrument} ended the exposure for {name!r} by itself, without a frame."
            )

    def _demand_dose(self, dose_e_per_nm2: float, area: Area) -> None:
        if not self._run.allow_dose(dose_e_per_nm2, area):
            self._loop.checkpoint()

    @contextmanager
    def _beam(self, reason: str, *, flash: bool = False) -> Iterator[None]:
        """Have the beam alone: recorded scans rest meanwhile.

        Args:
            reason: for the gap in what is recorded.
            flash: the beam is blanked but for the exposures, for which the step un-blanks it.
        """
        self.beam_taken = True
        for scan in self._scans:
            scan.suspend(reason, cut=False)
        self._loop.checkpoint()
        self.in_the_dark = flash
        if flash:
            self._loop.beam(on=False, briefly=True)
        elif not self._scans:
            self._loop.beam(on=True)
        yield
        # not in a finally: when a step ends the run, recording must not begin again
        self.beam_taken = self.in_the_dark = False
        if flash or not self._scans:
            self._loop.beam(on=bool(self._scans))
        for scan in self._scans:
            scan.resume()
