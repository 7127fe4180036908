"""Takes the images of a step that has the beam for itself."""

from __future__ import annotations

from acquire.engine.beamtime import BeamTime, Show
from acquire.engine.dose import Beat, as_taken, field_of, image_dose
from acquire.engine.scanning import disarm, disarm_lost, note_armed
from acquire.errors import LinkError
from acquire.instruments import Frame, ScanExposure


class Images:
    """Takes images for the steps of one run.

    An exposure that a pause cuts, or that is lost with the link to the scan, is taken again; what a
    lost link has cost is recorded as a gap of one frame.
    """

    def __init__(self, time: BeamTime) -> None:
        self._time = time
        self._run = time.run

    def take(self, exposure: ScanExposure, frames: int, name: str, show: Show) -> Frame | None:
        """Record images while the step has the beam; returns the last; raises what ends the run."""
        run, time = self._run, self._time
        dose = image_dose(run.probe_current_pa, exposure)
        before = run.frames.get(name, 0)
        last: Frame | None = None
        while (done := run.frames.get(name, 0) - before) < frames:
            time.demand_dose(dose, field_of(exposure))
            try:
                last = self._take(exposure, dose, name, done, frames, show) or last
            except LinkError as error:
                time.lost(time.scan_link, name, error)
            if run.frames.get(name, 0) - before == done and not time.scan_link.lost:
                time.demand_reason("scan", name)
            time.loop.checkpoint()
        return last

    def _take(
        self, exposure: ScanExposure, dose: float, name: str, done: int, frames: int, show: Show
    ) -> Frame | None:
        """Take what is still to be taken, until an end or a pause."""
        run, scan, time, link = self._run, self._run.station.scan, self._time, self._time.scan_link
        if link.lost:
            # it may not know what it was told before: neither that it is armed, nor the beam
            scan.disarm()
            scan.blank(False)
        spec = scan.arm(exposure, frames - done)
        taken = as_taken(exposure, spec)
        dose = image_dose(run.probe_current_pa, taken)
        beat, area = Beat(run.clock.now_s(), exposure.frame_period_s), field_of(taken)
        last: Frame | None = None
        try:
            recorder = time.recorder("images", name, spec)
            note_armed(run, "scan", name, exposure, spec)
            for frame in scan.frames(run.stop):
                beat.took(frame)
                run.dose.add_image(dose, area)
                link.works()
                if frame.t_end_s > run.blanked_s:
                    break
                last = recorder.record(frame, dose)
                done += 1
                show(done / frames)
                if time.loop.interrupted:
                    break
                if done < frames:
                    time.demand_dose(dose, area)
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
        return last
