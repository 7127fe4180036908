"""What all steps share that have the beam for themselves: the beam, recorders, lost links, and the dose limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from acquire.engine.context import RunContext
from acquire.engine.disk import DiskWatch
from acquire.engine.links import RETRY_S, LinkWatch
from acquire.engine.monitor import HolderMonitor
from acquire.engine.recording import FrameRecorder
from acquire.engine.runloop import RunLoop
from acquire.engine.scanning import ScanRecorder
from acquire.engine.watched_spectra import WatchedSpectra
from acquire.errors import InstrumentError, LinkError, RecipeError
from acquire.instruments import StreamSpec
from acquire.measure.dose import Area
from acquire.recipe import Recipe

Show = Callable[[float], None]
"""Is told how far a step is, 0 to 1."""


class BeamTime:
    """The beam, for the steps of one run that need it alone."""

    def __init__(
        self,
        run: RunContext,
        monitor: HolderMonitor,
        disk: DiskWatch,
        scans: list[ScanRecorder],
        loop: RunLoop,
        watched: WatchedSpectra,
    ) -> None:
        self.run = run
        self.loop = loop
        self.scan_link = LinkWatch(run, "scan")
        self.spectrometer_link = LinkWatch(run, "spectrometer")
        self.taken = False
        """Whether a step has the beam for itself."""
        self.in_the_dark = False
        """Whether the beam is blanked but for single exposures of that step."""
        self._monitor = monitor
        self._disk = disk
        self._scans = scans
        self._watched = watched
        self._recorders: dict[str, FrameRecorder] = {}

    @contextmanager
    def beam(self, reason: str, *, dark: bool = False) -> Iterator[None]:
        """Have the beam alone: recorded scans rest meanwhile.

        Args:
            reason: for the gap in what is recorded.
            dark: the beam is blanked to begin with, and the step un-blanks it.
        """
        self.taken = True
        for scan in self._scans:
            scan.suspend(reason, cut=False)
        self.loop.checkpoint()
        self.in_the_dark = dark
        if dark:
            self.loop.beam(on=False, briefly=True)
        elif not self._scans:
            self.loop.beam(on=True)
        yield
        # not in a finally: when a step ends the run, recording must not begin again
        self.taken = self.in_the_dark = False
        if dark or not self._scans:
            self.loop.beam(on=bool(self._scans))
        for scan in self._scans:
            scan.resume()

    @contextmanager
    def settled(self, *names: str) -> Iterator[None]:
        """Leave no gap of these streams unrecorded, however a step ends."""
        try:
            yield
        finally:
            for name in names:
                if name in self._recorders:
                    self._recorders[name].settle()
            self.scan_link.forget()
            self.spectrometer_link.forget()

    def recorder(self, kind: str, name: str, spec: StreamSpec) -> FrameRecorder:
        """Who records a stream, made when it is needed first; it expects a new acquisition.

        Raises:
            RecipeError: the stream was begun with frames of another kind.
        """
        if name not in self._recorders:
            offer = self._watched.offer(name, spec)
            self._recorders[name] = FrameRecorder(
                self.run, self._monitor, self._disk, kind, name, spec, offer, on_block=offer
            )
        recorder = self._recorders[name]
        if recorder.spec.channels != spec.channels or not spec.scalars.keys() <= set(
            recorder.spec.scalars
        ):
            raise RecipeError(
                f"the stream {name!r} was begun with other settings; give this step another 'name'."
            )
        recorder.new_acquisition()
        return recorder

    def uncalibrated(self) -> list[str]:
        """Streams of spectra that have no room for a calibration, as those that a script began before one."""
        return [name for name, recorder in self._recorders.items() if recorder.uncalibrated]

    def image_spec(self, name: str) -> StreamSpec:
        """What the images of a stream that was recorded are like."""
        return self._recorders[name].spec

    def lost(self, link: LinkWatch, name: str, error: LinkError) -> None:
        """Wait before an instrument is tried again; raises LinkError if it has been away too long."""
        self.note_lost(link, name, error)
        self.loop.wait(RETRY_S)

    def note_lost(self, link: LinkWatch, name: str, error: LinkError) -> None:
        """Take note that a frame of a stream is lost with its link; raises as :meth:`lost`."""
        if name in self._recorders:
            self._recorders[name].lost(error)
        link.failed(error)

    def demand_reason(self, instrument: str, name: str) -> None:
        """Without a frame there must be a pause or an end, else the step would try for ever."""
        if not (self.run.stop.is_set() or self.loop.interrupted):
            raise InstrumentError(
                f"the {instrument} ended the exposure for {name!r} by itself, without a frame."
            )

    def demand_dose(self, dose_e_per_nm2: float, area: Area) -> None:
        """End the run here if its dose limit does not bear so much more on an area."""
        if not self.run.allow_dose(dose_e_per_nm2, area):
            self.loop.checkpoint()


def field_corner_nm(recipe: Recipe) -> tuple[float, float]:
    """Top left corner of the recorded scan, from the scan's origin: where positions count from."""
    stream = recipe.scan_stream
    scan = recipe.record[stream].scan if stream is not None else None
    if scan is None:
        return 0.0, 0.0
    exposure = scan.exposure()
    height = exposure.pixel_size_nm * exposure.shape[0]
    x, y = exposure.center_nm
    return x - exposure.field_of_view_nm / 2, y - height / 2
