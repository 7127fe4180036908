"""Carries out the steps that have the beam for themselves: images, line scans, spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import repeat

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
from acquire.engine.resting import RestingProbe
from acquire.engine.runloop import RunLoop
from acquire.engine.scanning import ScanRecorder, disarm, disarm_lost, note_armed
from acquire.errors import InstrumentError, LinkError, RecipeError
from acquire.instruments import ScanExposure, Spectrometer, SpectrumExposure, StreamSpec
from acquire.measure.dose import Area
from acquire.recipe import Image, LineScan, Spectrum, SpectrumSettings, Step

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
    ) -> None:
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
        with self._beam(str(step)), self._settled(name):
            self._spectrometer_link.insist(
                lambda: self._tune(spectrometer, name, settings), self._wait_in_the_dark
            )
            if not self._loop.beam_on:
                self._loop.beam(on=True)
            for number, position_nm in enumerate(positions_nm):
                place = left + position_nm[0], top + position_nm[1]
                area = Area.spot(place, spacing_nm)
                self._demand_dose(dose, area)
                self._park(position_nm)
                self._demand_dose(dose, area)
                while not self._one_spectrum(spectrometer, name, settings, dose, position_nm):
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
                scan.blank(False)

        # until it moves, the probe rests where it was before
        with self._probe.resting(self._probe.at or position_nm, on=self._loop.beam_on) as rest:
            self._scan_link.insist(park, lambda t_s: rest.without(self._loop.wait(t_s)))
        self._probe.at = position_nm

    def _one_spectrum(
        self,
        spectrometer: Spectrometer,
        name: str,
        settings: SpectrumSettings,
        dose: float,
        position_nm: tuple[float, float],
    ) -> bool:
        """Take one spectrum; False if the exposure was cut, or lost with the link."""
        link, run, exposure = self._spectrometer_link, self._run, settings.exposure()
        taken, lost = False, None
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
                if link.lost:
                    # a scan that is lost now is not taken for the spectrometer
                    self._loop.beam(on=True)
                    rest.begin()
                try:
                    for frame in spectrometer.frames(run.stop):
                        link.works()
                        if frame.t_end_s <= run.blanked_s:
                            recorder.record(frame, dose, position_nm)
                            taken = True
                        break
                except LinkError as error:
                    lost = error
            except BaseException:
                disarm_lost(spectrometer)
                raise
            if taken:
                rest.forget()  # it counts as what it was to be
            if lost is not None:
                disarm_lost(spectrometer)
                self._note_lost(link, name, lost)
                return False
            disarm(spectrometer, link)
        return taken

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
            recorder = FrameRecorder(self._run, self._monitor, self._disk, kind, name, spec)
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
    def _beam(self, reason: str) -> Iterator[None]:
        """Have the beam alone: recorded scans rest meanwhile."""
        self.beam_taken = True
        for scan in self._scans:
            scan.suspend(reason, cut=False)
        self._loop.checkpoint()
        if not self._scans:
            self._loop.beam(on=True)
        yield
        # not in a finally: when a step ends the run, recording must not begin again
        self.beam_taken = False
        if not self._scans:
            self._loop.beam(on=False)
        for scan in self._scans:
            scan.resume()
