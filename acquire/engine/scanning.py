"""Records a scan throughout a run, and gives way to steps that need the beam."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import asdict
from enum import Enum, auto

from acquire.clock import finite_rate
from acquire.engine.context import RunContext
from acquire.engine.correcting import DriftCorrector
from acquire.engine.dose import Beat, as_taken, demand_same_field, field_of, image_dose
from acquire.engine.links import RETRY_S, LinkWatch
from acquire.engine.recording import FrameRecorder
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.instruments import (
    Frame,
    Scan,
    ScanExposure,
    Spectrometer,
    SpectrumExposure,
    StreamSpec,
)
from acquire.units import show_duration

logger = logging.getLogger(__name__)

_LOOK_WALL_S = 0.1
_LEAST_S = 1e-6
"""Less time than this is none."""


class _Wanted(Enum):
    REST = auto()
    RECORD = auto()
    END = auto()


class ScanRecorder:
    """Records one scan stream throughout the run, and gives way to steps that need the beam."""

    def __init__(
        self,
        run: RunContext,
        recorder: FrameRecorder,
        exposure: ScanExposure,
        corrector: DriftCorrector | None = None,
    ) -> None:
        self._run = run
        self._corrector = corrector
        self._recorder = recorder
        self._exposure = exposure
        self._name = recorder.spec.name
        taken = as_taken(exposure, recorder.spec)
        self._dose = image_dose(run.probe_current_pa, taken)
        self._area = field_of(taken)
        self._link = LinkWatch(run, "scan")
        self._lock = threading.Lock()
        self._wanted = _Wanted.REST
        self._stop = run.clock.signal()  # cuts the acquisition under way
        self._changed = run.clock.signal()
        self._idle = run.clock.signal()
        self._idle.set()
        self._giving_way = False
        """Whether it rests for a moment only, and keeps its beat."""
        self._beat: Beat | None = None
        """Of the acquisition under way."""
        self._next_s = -math.inf
        """When the next frame is due at the earliest, on the clock."""
        self._not_before_s = -math.inf
        """When to be armed again, if it gave way."""
        self._fed = False
        self._told: StreamSpec | None = None
        """How the scan was armed when that was last written to the journal."""
        self._task = run.clock.spawn(self._loop, f"recorder-{self._name}")

    def resume(self) -> None:
        """Begin to record, or go on with it."""
        with self._lock:
            if self._wanted is not _Wanted.REST:
                return
            self._wanted = _Wanted.RECORD
            self._begin_anew()
        self._stop.clear()
        self._run.note("recording", f"{self._name}: on")
        self._changed.set()

    def give_way(self) -> None:
        """Rest between two frames until :meth:`go_on`, which the journal does not tell.

        A frame that is being exposed is waited for; the time up to the next one is not.
        """
        with self._lock:
            if self._wanted is not _Wanted.RECORD:
                return
            self._wanted = _Wanted.REST
            self._giving_way = True
            beat = self._beat
        self._changed.set()  # it may wait for a lost link
        if beat is None or not beat.exposing(self._run.clock.now_s()):
            self._stop.set()
        self._await_idle(cut=False)

    def go_on(self) -> None:
        """Go on as if nothing had been: the next frame comes when it is due."""
        with self._lock:
            if not self._giving_way:
                return
            self._wanted = _Wanted.RECORD
            self._giving_way = self._fed = False
            self._not_before_s = self._next_s
        self._stop.clear()
        self._changed.set()

    @property
    def fed(self) -> bool:
        """Whether it has had its turn, so that it can give way again without going short."""
        with self._lock:
            early = self._next_s > self._run.clock.now_s() + _LEAST_S
            return self._fed or early or self._link.lost or self._wanted is not _Wanted.RECORD

    def _begin_anew(self) -> None:
        self._giving_way = self._fed = False
        self._next_s = self._not_before_s = -math.inf
        self._told = None

    def suspend(self, reason: str, *, cut: bool) -> None:
        """Stop exposing, after the present frame or within it, and wait until that is so."""
        with self._lock:
            gave_way, self._giving_way = self._giving_way, False
            if self._wanted is not _Wanted.RECORD and not gave_way:
                return
            self._wanted = _Wanted.REST
        self._changed.set()  # it may wait for a lost link
        if self._await_idle(cut=cut):
            self._run.note("recording", f"{self._name}: off, {reason}")

    def _await_idle(self, *, cut: bool) -> bool:
        """Wait until nothing is exposed; False if the run ends before."""
        run, look_s = self._run, _LOOK_WALL_S * finite_rate(self._run.clock)
        patience_s = max(self._exposure.frame_period_s, 2 * self._exposure.scan_time_s) + 1.0
        give_up_s = run.now_s() + patience_s
        while not self._idle.wait(0.0 if cut else look_s):
            if cut or run.ending or run.now_s() > give_up_s:
                self._stop.set()
                break
        while not self._idle.wait(look_s):
            if run.ending:
                return False  # nothing may hold up its end: it cuts and waits when all is safe
        return True

    def close(self) -> None:
        """Cut what is under way and end the task."""
        with self._lock:
            self._wanted = _Wanted.END
        self._stop.set()
        self._changed.set()
        self._task.join()

    def _loop(self) -> None:
        while True:
            with self._lock:
                wanted = self._wanted
                early_s = self._not_before_s - self._run.clock.now_s()
                early = wanted is _Wanted.RECORD and early_s > _LEAST_S
                if wanted is _Wanted.RECORD and not early:
                    self._idle.clear()
            if early:
                self._changed.wait(early_s)
                self._changed.clear()
                continue
            try:
                if wanted is _Wanted.RECORD:
                    self._acquire()
                elif not self._giving_way:
                    self._recorder.settle()
                    self._link.forget()
            except LinkError as error:
                self._idle.set()
                self._lose(error)
            except Exception as error:  # noqa: BLE001  whatever it is, it must end the run safely
                self._fail(error)
            finally:
                self._idle.set()
            if wanted is _Wanted.END:
                return
            if wanted is _Wanted.REST:
                self._changed.wait()
                self._changed.clear()

    def _lose(self, error: LinkError) -> None:
        """Wait a little before the link is tried again, or end the run."""
        try:
            self._recorder.lost(error, self._period_s)
            self._link.failed(error)
        except Exception as last:  # noqa: BLE001  whatever it is, it must end the run safely
            self._fail(last)
        else:
            self._changed.wait(RETRY_S)
            self._changed.clear()

    @property
    def _period_s(self) -> float:
        least_s = max(self._exposure.frame_period_s, self._exposure.scan_time_s)
        return max(least_s, self._recorder.spec.frame_period_s)

    def _fail(self, error: BaseException) -> None:
        self._run.fail(error)
        with self._lock:
            self._wanted = _Wanted.END

    def _acquire(self) -> None:
        scan, run = self._run.station.scan, self._run
        self._recorder.new_acquisition()
        if run.ending or not run.allow_dose(self._dose, self._area):
            # the beam is blanked by now, or soon, even if the run's own thread is held up
            self._rest()
            return
        if self._corrector is not None and math.isfinite(self._next_s):
            # what was wanted while it gave way
            self._corrector.exposed(run.now_s())
        if self._link.lost:
            # it may not know what it was told before: neither that it is armed, nor the beam
            scan.disarm()
            scan.blank(False)
        spec = scan.arm(self._exposure)
        self._beat = beat = Beat(run.clock.now_s(), self._exposure.frame_period_s)
        try:
            if spec != self._told:
                note_armed(run, "scan", self._name, self._exposure, spec)
                self._told = spec
            demand_same_field(self._recorder.spec, spec)
            try:
                self._take(beat)
            finally:
                self._beat = None
                if self._corrector is not None:
                    self._corrector.rest(briefly=self._giving_way)
        except LinkError:
            if beat.exposing(run.clock.now_s()):
                run.dose.add_image(self._dose, self._area)
            disarm_lost(scan)
            raise
        except BaseException:
            disarm_lost(scan)
            raise
        disarm(scan, self._link)

    def _take(self, beat: Beat) -> None:
        """Record frames until something else is wanted."""
        run = self._run
        for frame in run.station.scan.frames(self._stop):
            beat.took(frame)
            run.dose.add_image(self._dose, self._area)
            self._link.works()
            if frame.t_end_s > run.blanked_s:
                self._rest()
                return
            self._recorder.record(frame, self._dose)
            self._fed = True
            self._next_s = frame.t_start_s + self._exposure.frame_period_s
            self._between(frame)
            if self._wanted is not _Wanted.RECORD:
                return
            if run.ending or not run.allow_dose(self._dose, self._area):
                self._rest()
                return
        if self._stop.is_set():
            if beat.exposing(run.clock.now_s()):
                run.dose.add_image(self._dose, self._area)
            return
        if self._wanted is _Wanted.RECORD:
            raise InstrumentError(
                f"the scan stopped delivering {self._name!r} by itself at run time "
                f"{show_duration(run.now_s())}."
            )

    def _between(self, frame: Frame) -> None:
        """Let the field be shifted, while nothing is exposed."""
        if self._corrector is None:
            return
        if self._wanted is not _Wanted.RECORD:
            return
        next_s = max(frame.t_end_s, frame.t_start_s + self._exposure.frame_period_s)
        self._corrector.exposed(next_s - self._run.zero_s)

    def _rest(self) -> None:
        with self._lock:
            if self._wanted is _Wanted.RECORD:
                self._wanted = _Wanted.REST


def note_armed(
    run: RunContext,
    instrument: str,
    stream: str,
    exposure: ScanExposure | SpectrumExposure,
    spec: StreamSpec,
    **more: object,
) -> None:
    """Write to the journal how an instrument was armed, and what it said its frames would be."""
    channels = {name: asdict(channel) for name, channel in spec.channels.items()}
    taken = {"channels": channels, "frame_period_s": spec.frame_period_s}
    run.note(
        "armed",
        f"{instrument} armed for {stream}",
        {"instrument": instrument, "exposure": asdict(exposure), "taken": taken, **more},
    )


def disarm(instrument: Scan | Spectrometer, link: LinkWatch) -> None:
    """End an acquisition that is over; a link that is lost by now has cost no frame."""
    try:
        instrument.disarm()
    except LinkError as error:
        link.failed(error)


def disarm_lost(instrument: Scan | Spectrometer) -> None:
    """End an acquisition that went wrong; what comes of that does not hide why."""
    try:
        instrument.disarm()
    except HotstageError as error:
        logger.info("could not be disarmed: %s", error)
