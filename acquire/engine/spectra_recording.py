"""Records spectra of fixed points throughout a run, between the frames of the recorded scan."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from acquire.clock import finite_rate
from acquire.engine.beam import Beam
from acquire.engine.beamtime import BeamTime, Others
from acquire.engine.context import RunContext
from acquire.engine.links import RETRY_S
from acquire.engine.runloop import BeamLoop
from acquire.engine.spectra import Spectra
from acquire.errors import RecipeError
from acquire.instruments import SpectrometerSetting
from acquire.recipe import Record

_LOOK_WALL_S = 0.1
_TURN_S = 0.02
"""Run time between looks whether the scan has had its turn."""
_LEAST_S = 1e-6
SPOT_NM = 1.0
"""Side of the square over which the electrons of a point count as spread, as of a ``spectrum`` step."""


class Frames(Others, Protocol):
    """The recorded scan, if there is one."""

    @property
    def fed(self) -> bool:
        """Whether it has had its turn since it rested last."""


TimeMaker = Callable[[Others, BeamLoop], BeamTime]


class _Wanted(Enum):
    REST = auto()
    RECORD = auto()
    END = auto()


class _GaveWay(Exception):
    """A step, a pause or the end of the run wants the beam."""


@dataclass(slots=True)
class _Series:
    """One recorded stream."""

    name: str
    at_nm: tuple[float, float]
    every_s: float
    spectra: Spectra
    due_s: float = 0.0
    """Run time."""

    def took(self, start_s: float) -> None:
        """One was begun; those that were missed meanwhile are not made up."""
        late_s = start_s - self.due_s
        self.due_s = (self.due_s if late_s < self.every_s / 2 else start_s) + self.every_s


class SpectraRecorder:
    """Takes the recorded spectra of one run whenever they are due, one after the other.

    For each the scan rests between two of its frames, and is given one of its own before the next.
    Steps that need the beam and pauses call :meth:`suspend`: a spectrum under way is finished first,
    unless the run's ``stop`` cuts it; then it is taken again. While the spectrometer does not answer the
    scan goes on.
    """

    def __init__(
        self,
        run: RunContext,
        records: Mapping[str, Record],
        frames: Frames,
        beam: Beam,
        time_for: TimeMaker,
    ) -> None:
        """Begin at rest; raises RecipeError if the station has no spectrometer."""
        self._run = run
        self._frames = frames
        self._lock = threading.Lock()
        self._wanted = _Wanted.REST
        self._changed = run.clock.signal()
        self._idle = run.clock.signal()
        self._idle.set()
        self._beam = beam
        self._time = time_for(frames, self)
        self._tuned: SpectrometerSetting | None = None
        """What the spectrometer is tuned to, if nobody else can have tuned it."""
        self._series = [self._made(name, record) for name, record in records.items()]
        self._names = " and ".join(records)
        self._task = run.clock.spawn(self._loop, "recorder-spectra")

    def _made(self, name: str, record: Record) -> _Series:
        spectrometer, settings = self._run.station.spectrometer, record.spectrum
        if spectrometer is None or settings is None:
            station = self._run.station.station.name
            raise RecipeError(
                f"record.{name} needs a spectrometer, and station {station!r} has none."
            )
        spectra = Spectra(
            self._time, spectrometer, name, settings.spectra, SPOT_NM, {}, record.every
        )
        return _Series(name, settings.at, record.every, spectra)

    def resume(self) -> None:
        """Begin to record, or go on with it."""
        with self._lock:
            if self._wanted is not _Wanted.REST:
                return
            self._wanted = _Wanted.RECORD
        self._run.note("recording", f"{self._names}: on")
        self._changed.set()

    def suspend(self, reason: str) -> None:
        """Stop exposing after the present spectrum, and wait until that is so."""
        with self._lock:
            if self._wanted is not _Wanted.RECORD:
                return
            self._wanted = _Wanted.REST
        self._changed.set()  # it may wait for a lost link
        look_s = _LOOK_WALL_S * finite_rate(self._run.clock)
        while not self._idle.wait(look_s):
            if self._run.ending:
                return  # nothing may hold up the end of a run
        self._run.note("recording", f"{self._names}: off, {reason}")

    def close(self) -> None:
        """End the task; what is under way the end of the run has cut."""
        with self._lock:
            self._wanted = _Wanted.END
        self._changed.set()
        self._task.join()

    # --------------------------------------------------------- what its own beam time asks for

    @property
    def interrupted(self) -> bool:
        """Whether somebody else wants the beam."""
        return self._wanted is not _Wanted.RECORD or self._run.ending or self._run.stop.is_set()

    def checkpoint(self) -> float:
        """Give way here if asked to; never waits, and is never paused."""
        if self.interrupted:
            raise _GaveWay
        return 0.0

    def wait(self, timeout_s: float) -> float:
        """Wait in run time, or give way."""
        self.checkpoint()
        self._changed.wait(timeout_s)
        self._changed.clear()
        return self.checkpoint()

    @property
    def beam_on(self) -> bool:
        """Whether the beam is on, as far as is known."""
        return self._beam.on

    @property
    def beam_since_s(self) -> float:
        """Run time at which the beam was un-blanked last."""
        return self._beam.since_s

    def beam(self, *, on: bool, briefly: bool = False) -> None:
        """Un-blank or blank the beam; tries again as the recipe allows if the scan is lost."""
        self._beam.switch(on=on, briefly=briefly, by=(self._time.scan_link, self.wait))

    # ------------------------------------------------------------------------------ its task

    def _loop(self) -> None:
        while self._wanted is not _Wanted.END:
            if self._wanted is _Wanted.REST or self._run.ending:
                self._tuned = None  # who has the beam now may tune it
                self._time.settle(*(series.name for series in self._series))
                self._changed.wait()
                self._changed.clear()
                continue
            left_s = self._left_s()
            if left_s > 0:
                self._changed.wait(left_s)
                self._changed.clear()
                continue
            if not self._begun():
                continue
            try:
                self._take(min(self._series, key=lambda series: series.due_s))
            except _GaveWay:
                pass
            except Exception as error:  # noqa: BLE001  whatever it is, it must end the run safely
                self._run.fail(error)
            finally:
                self._idle.set()

    def _begun(self) -> bool:
        with self._lock:
            if self.interrupted:
                return False
            self._idle.clear()
            return True

    def _left_s(self) -> float:
        """How long to wait before the next spectrum may be taken; 0 if it may be now."""
        left_s = min(series.due_s for series in self._series) - self._run.now_s()
        if left_s > _LEAST_S:
            return left_s
        if self._run.stop.is_set():
            return RETRY_S  # a pause that cuts is about to begin
        return 0.0 if self._frames.fed else _TURN_S

    def _take(self, series: _Series) -> None:
        time, spectra = self._time, series.spectra
        if time.spectrometer_link.lost and not spectra.revived():
            self.wait(RETRY_S)
            return
        with time.beam(f"a spectrum of {series.name}", dark=True):
            start_s = self._run.now_s()
            setting, tuned = spectra.settings.setting(), self._tuned
            self._tuned = None
            if spectra.once(series.at_nm, tune=setting != tuned):
                series.took(start_s)
                self._tuned = setting
            elif not time.spectrometer_link.lost:
                # it was cut
                time.demand_reason("spectrometer", series.name)
                time.loop.checkpoint()
        if time.spectrometer_link.lost:
            self.wait(RETRY_S)
