"""Records frames: completes each one with temperature and dose, writes it, then shows it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from acquire.clock import finite_rate
from acquire.engine.context import RunContext
from acquire.engine.dose import Beat, image_dose
from acquire.engine.monitor import HolderMonitor
from acquire.errors import InstrumentError
from acquire.instruments import Frame, ScanExposure, StreamSpec
from acquire.stream import FrameContext
from acquire.units import show_duration

_LOOK_WALL_S = 0.1


class FrameRecorder:
    """Writes the frames of one stream under the run's own count and time."""

    def __init__(
        self,
        run: RunContext,
        monitor: HolderMonitor,
        kind: str,
        stream: str,
        spec: StreamSpec,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        self._run = run
        self._monitor = monitor
        self._kind = kind
        self._stream = stream
        self._on_frame = on_frame
        self._last_source = -1
        self.spec = replace(spec, name=stream)
        if stream not in run.frames:
            run.frames[stream] = 0
            run.sink.declare_frames(kind, self.spec)

    def new_acquisition(self) -> None:
        """Expect the instrument's frame number to jump here."""
        self._last_source = -1

    def record(
        self,
        frame: Frame,
        dose_e_per_nm2: float,
        position_nm: tuple[float, float] = (math.nan, math.nan),
    ) -> Frame:
        """Write one frame as the instrument gave it; returns it as it was recorded."""
        run = self._run
        if 0 <= self._last_source < frame.index - 1:
            self._note_gap(self._last_source + 1, frame.index)
        self._last_source = frame.index
        own = replace(
            frame,
            stream=self._stream,
            index=run.frames[self._stream],
            t_start_s=frame.t_start_s - run.zero_s,
            t_end_s=frame.t_end_s - run.zero_s,
            meta=replace(
                frame.meta,
                spans={
                    key: (start - run.zero_s, end - run.zero_s)
                    for key, (start, end) in frame.meta.spans.items()
                },
            ),
        )
        before, after = self._monitor.bracket(own.t_start_s, own.t_end_s)
        run.sink.append_frame(
            own, FrameContext(before, after, dose_e_per_nm2, frame.index, position_nm)
        )
        run.frames[self._stream] += 1
        if self._kind == "images":
            pixel = next(iter(self.spec.channels.values())).axes["x"].step
            run.live.put_image(own, pixel)
        else:
            run.live.put_spectrum(own, self.spec)
        run.dispatcher.emit(run.dispatcher.events.frame_recorded, own)
        if self._on_frame is not None:
            self._on_frame(own)
        return own

    def _note_gap(self, first: int, after: int) -> None:
        run = self._run
        for source in range(first, after):
            reason = f"the instrument's frame {source} never arrived"
            run.sink.gap(self._stream, run.frames[self._stream], reason)
            run.frames[self._stream] += 1


class _Wanted(Enum):
    REST = auto()
    RECORD = auto()
    END = auto()


class ScanRecorder:
    """Records one scan stream throughout the run, and gives way to steps that need the beam."""

    def __init__(self, run: RunContext, recorder: FrameRecorder, exposure: ScanExposure) -> None:
        self._run = run
        self._recorder = recorder
        self._exposure = exposure
        self._name = recorder.spec.name
        self._dose = image_dose(run.probe_current_pa, exposure)
        self._lock = threading.Lock()
        self._wanted = _Wanted.REST
        self._stop = run.clock.signal()  # cuts the acquisition under way
        self._changed = run.clock.signal()
        self._idle = run.clock.signal()
        self._idle.set()
        self._task = run.clock.spawn(self._loop, f"recorder-{self._name}")

    def resume(self) -> None:
        """Begin to record, or go on with it."""
        with self._lock:
            if self._wanted is not _Wanted.REST:
                return
            self._wanted = _Wanted.RECORD
        self._stop.clear()
        self._run.note("recording", f"{self._name}: on")
        self._changed.set()

    def suspend(self, reason: str, *, cut: bool) -> None:
        """Stop exposing, after the present frame or within it, and wait until that is so."""
        with self._lock:
            if self._wanted is not _Wanted.RECORD:
                return
            self._wanted = _Wanted.REST
        run, look_s = self._run, _LOOK_WALL_S * finite_rate(self._run.clock)
        patience_s = max(self._exposure.frame_period_s, 2 * self._exposure.scan_time_s) + 1.0
        give_up_s = run.now_s() + patience_s
        while not self._idle.wait(0.0 if cut else look_s):
            if cut or run.ending or run.now_s() > give_up_s:
                self._stop.set()
                break
        while not self._idle.wait(look_s):
            if run.ending:
                return  # nothing may hold up the end of a run: it cuts and waits when all is safe
        run.note("recording", f"{self._name}: off, {reason}")

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
                if wanted is _Wanted.RECORD:
                    self._idle.clear()
            if wanted is _Wanted.END:
                return
            if wanted is _Wanted.REST:
                self._changed.wait()
                self._changed.clear()
                continue
            try:
                self._acquire()
            except Exception as error:  # noqa: BLE001  whatever it is, it must end the run safely
                self._run.fail(error)
                with self._lock:
                    self._wanted = _Wanted.END
            finally:
                self._idle.set()

    def _acquire(self) -> None:
        scan, run = self._run.station.scan, self._run
        self._recorder.new_acquisition()
        if not run.allow_dose(self._dose):
            self._rest()
            return
        scan.arm(self._exposure)
        beat = Beat(run.clock.now_s(), self._exposure.frame_period_s)
        try:
            for frame in scan.frames(self._stop):
                beat.took(frame)
                run.dose.add_image(self._dose)
                self._recorder.record(frame, self._dose)
                if self._wanted is not _Wanted.RECORD:
                    return
                if not run.allow_dose(self._dose):
                    self._rest()
                    return
        finally:
            scan.disarm()
        if self._stop.is_set():
            if beat.exposing(run.clock.now_s()):
                run.dose.add_image(self._dose)
            return
        if self._wanted is _Wanted.RECORD:
            raise InstrumentError(
                f"the scan stopped delivering {self._name!r} by itself at run time "
                f"{show_duration(run.now_s())}."
            )

    def _rest(self) -> None:
        with self._lock:
            if self._wanted is _Wanted.RECORD:
                self._wanted = _Wanted.REST
