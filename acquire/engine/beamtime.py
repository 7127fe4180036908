"""What all share that have the beam for themselves: the beam, recorders, lost links, and the dose limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from acquire.engine.context import RunContext
from acquire.engine.disk import DiskWatch
from acquire.engine.links import RETRY_S, LinkWatch
from acquire.engine.monitor import HolderMonitor
from acquire.engine.recording import FrameRecorder
from acquire.engine.runloop import BeamLoop
from acquire.engine.watched_spectra import WatchedSpectra
from acquire.errors import InstrumentError, LinkError, RecipeError
from acquire.instruments import StreamSpec
from acquire.measure.dose import Area
from acquire.recipe import Recipe

Show = Callable[[float], None]
"""Is told how far a step is, 0 to 1."""


class Others(Protocol):
    """Who records beside, and rests while somebody else has the beam."""

    @property
    def lit(self) -> bool:
        """Whether they have the beam on when nobody else has it."""

    def suspend(self, reason: str, *, cut: bool) -> None:
        """Rest from now on, and wait until that is so."""

    def resume(self) -> None:
        """Go on."""


class BeamTime:
    """The beam, for those in one run that need it alone."""

    def __init__(
        self,
        run: RunContext,
        monitor: HolderMonitor,
        disk: DiskWatch,
        others: Others,
        loop: BeamLoop,
        watched: WatchedSpectra,
        recorders: dict[str, FrameRecorder] | None = None,
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
        self._others = others
        self._watched = watched
        self._recorders = {} if recorders is None else recorders

    def beside(self, others: Others, loop: BeamLoop) -> BeamTime:
        """The beam of the same run for another thread, before which fewer may have to rest."""
        run, monitor, disk = self.run, self._monitor, self._disk
        return BeamTime(run, monitor, disk, others, loop, self._watched, self._recorders)

    @contextmanager
    def beam(self, reason: str, *, dark: bool = False) -> Iterator[None]:
        """Have the beam alone: what is recorded rests meanwhile.

        Args:
            reason: for the gap in what is recorded.
            dark: the beam is blanked to begin with, and the step un-blanks it.
        """
        self.taken = True
        self._others.suspend(reason, cut=False)
        self.loop.checkpoint()
        self.in_the_dark = dark
        if dark:
            self.loop.beam(on=False, briefly=True)
        elif not self.loop.beam_on:
            self.loop.beam(on=True)
        yield
        # not in a finally: when a step ends the run, recording must not begin again
        self.taken = self.in_the_dark = False
        if dark or not self._others.lit:
            self.loop.beam(on=self._others.lit)
        self._others.resume()

    @contextmanager
    def settled(self, *names: str) -> Iterator[None]:
        """Leave no gap of these streams unrecorded, however a step ends."""
        try:
            yield
        finally:
            self.settle(*names)

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

    def settle(self, *names: str) -> None:
        """Leave no gap of these streams unrecorded; lost links are waited for anew."""
        for name in names:
            if name in self._recorders:
                self._recorders[name].settle()
        self.scan_link.forget()
        self.spectrometer_link.forget()

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

    def note_lost(
        self, link: LinkWatch, name: str, error: LinkError, period_s: float = 0.0
    ) -> None:
        """Take note that a frame of a stream is lost with its link; raises as :meth:`lost`.

        ``period_s``: how often one is due meanwhile; 0 if it is only the one.
        """
        if name in self._recorders:
            self._recorders[name].lost(error, period_s)
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
