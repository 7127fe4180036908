"""Records frames: completes each one with temperature and dose, writes it, then shows it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from acquire.bursts import SpectrumBlock
from acquire.engine.context import RunContext
from acquire.engine.disk import DiskWatch
from acquire.engine.dose import field_of_stream
from acquire.engine.monitor import HolderMonitor
from acquire.errors import LinkError
from acquire.instruments import (
    Frame,
    ScalarSpec,
    StreamSpec,
)
from acquire.stream import FrameBlock, FrameContext

logger = logging.getLogger(__name__)

_LOOK_WALL_S = 0.1
_SHIFTS = {
    "scan_shift_x": ScalarSpec("nm", "scan shift to the right since the run began"),
    "scan_shift_y": ScalarSpec("nm", "scan shift downwards since the run began"),
    "scan_shifted": ScalarSpec("1", "1 if the scan was shifted during the exposure, else 0"),
}


class FrameRecorder:
    """Writes the frames of one stream under the run's own count and time."""

    def __init__(
        self,
        run: RunContext,
        monitor: HolderMonitor,
        disk: DiskWatch,
        kind: str,
        stream: str,
        spec: StreamSpec,
        on_frame: Callable[[Frame], None] | None = None,
        *,
        on_block: Callable[[SpectrumBlock], None] | None = None,
        derived: bool = False,
    ) -> None:
        self._run = run
        self._derived = derived
        self._shifted = run.steered and not derived
        self._monitor = monitor
        self._disk = disk
        self._kind = kind
        self._stream = stream
        self._on_frame = on_frame
        self._on_block = on_block
        self._last_source = -1
        self._begun_s = 0.0
        self._last_start_s = self._last_end_s = math.nan
        self._missing: _Missing | None = None
        self.next_index = 0
        """Number of the next frame in its stream; those that are missing have theirs."""
        scalars = {**_SHIFTS, **spec.scalars} if self._shifted else spec.scalars
        self._calibrated = kind == "spectra" and bool(run.calibrations.scalars)
        if self._calibrated:
            scalars = {**scalars, **run.calibrations.scalars}
        self.spec = replace(spec, name=stream, scalars=scalars)
        run.frames.setdefault(stream, 0)
        run.sink.declare_frames(kind, self.spec)

    @property
    def uncalibrated(self) -> bool:
        """Whether its frames are spectra that have no room for a calibration."""
        return self._kind == "spectra" and not self._calibrated

    def new_acquisition(self) -> None:
        """Expect the instrument's frame number to jump here."""
        self._last_source = -1
        self._begun_s = self._run.now_s()
        self._last_start_s = math.nan

    def record(
        self,
        frame: Frame,
        dose_e_per_nm2: float,
        position_nm: tuple[float, float] = (math.nan, math.nan),
    ) -> Frame:
        """Write one frame as the instrument gave it; returns it as it was recorded."""
        run = self._run
        start_s, end_s = frame.t_start_s - run.zero_s, frame.t_end_s - run.zero_s
        unseen = self._note_missing(frame.index, start_s)
        if self._kind == "images" and unseen:
            # they were exposed all the same
            run.dose.add_image(unseen * dose_e_per_nm2, field_of_stream(self.spec))
        own = replace(
            frame,
            stream=self._stream,
            index=self.next_index,
            t_start_s=start_s,
            t_end_s=end_s,
            meta=replace(
                frame.meta,
                scalars={
                    **self._shift(start_s, end_s),
                    **self._calibration(),
                    **frame.meta.scalars,
                },
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
        self._disk.took_record()
        self._last_source, self._last_start_s, self._last_end_s = frame.index, start_s, end_s
        self.next_index += 1
        run.frames[self._stream] += 1
        if self._kind == "images":
            pixel = next(iter(self.spec.channels.values())).axes["x"].step
            run.live.put_image(own, pixel, derived=self._derived)
        else:
            run.live.put_spectrum(own, self.spec)
        run.dispatcher.emit(run.dispatcher.events.frame_recorded, own)
        if self._on_frame is not None:
            self._on_frame(own)
        return own

    def record_block(
        self,
        block: SpectrumBlock,
        dose_e_per_nm2: float,
        position_nm: tuple[float, float],
    ) -> SpectrumBlock:
        """Write a block of spectra as the instrument gave it; returns it as it was recorded.

        Args:
            block: on the station's clock.
            dose_e_per_nm2: of each of its spectra.
            position_nm: of the probe, for all of them.
        """
        run = self._run
        local = block.later(-run.zero_s)
        self._note_missing(block.first_index, float(local.t_start_s[0]))
        last_s = float(local.t_end_s[-1])
        shift = {**self._shift(float(local.t_start_s[0]), last_s), **self._calibration()}
        every = np.ones(len(block))
        own = replace(
            local,
            stream=self._stream,
            first_index=self.next_index,
            scalars={**{name: value * every for name, value in shift.items()}, **block.scalars},
        )
        before, after = self._monitor.brackets(own.t_start_s, own.t_end_s)
        context = {
            **own.scalars,
            "temperature_before_celsius": before,
            "temperature_after_celsius": after,
            "dose_e_per_nm2": dose_e_per_nm2 * every,
            "position_x_nm": position_nm[0] * every,
            "position_y_nm": position_nm[1] * every,
        }
        run.sink.append_block(
            FrameBlock(
                self._stream,
                self.next_index,
                own.data,
                own.t_start_s,
                own.t_end_s,
                context,
                block.first_index,
                own.spans,
            )
        )
        self._disk.took_record()
        self._last_source = block.last_index
        self._last_start_s, self._last_end_s = float(own.t_start_s[-1]), last_s
        self.next_index += len(block)
        run.frames[self._stream] += len(block)
        newest = own.frame(-1)
        # one alone has hardly an electron to show
        sums = {name: counts.sum(axis=0) for name, counts in own.data.items()}
        run.live.put_spectrum(replace(newest, data=sums), self.spec)
        run.dispatcher.emit(run.dispatcher.events.frame_recorded, newest)
        if self._on_block is not None:
            self._on_block(own)
        return own

    def _shift(self, start_s: float, end_s: float) -> dict[str, float]:
        if not self._shifted:
            return {}
        shift = self._run.shifts.during(start_s, end_s)
        return dict(zip(_SHIFTS, (shift.x_nm, shift.y_nm, float(not shift.steady)), strict=True))

    def _calibration(self) -> Mapping[str, float]:
        return self._run.calibrations.of(self.spec) if self._calibrated else {}

    def lost(self, error: LinkError, period_s: float = 0.0) -> None:
        """Frames are missing from now on, until the next one is recorded or :meth:`settle`.

        Args:
            error: why.
            period_s: a frame is due so often meanwhile; 0: none but the one that was lost.
        """
        if self._missing is not None:
            return
        due_s = self._last_start_s + period_s
        due_s = self._begun_s if math.isnan(due_s) else due_s
        self._missing = _Missing(
            min(due_s, self._run.now_s()), due_s, period_s, self._last_source, str(error)
        )

    def settle(self) -> None:
        """Record what has been missing up to now, if anything has: it will not be tried again."""
        missing, self._missing = self._missing, None
        if missing is not None:
            now_s = self._run.now_s()
            self._gap(missing.reason, missing.due(now_s), (missing.since_s, now_s))

    def _note_missing(self, source: int, start_s: float) -> int:
        """Record the gap before a frame, if there is one; returns how many exposures nobody saw."""
        missing, self._missing = self._missing, None
        last = self._last_source if missing is None else missing.last_source
        # an instrument that was started anew counts from the beginning
        unseen = max(0, source - last - 1) if last >= 0 else 0
        if missing is not None:
            count = max(missing.due(start_s), unseen)
            self._gap(missing.reason, count, (missing.since_s, start_s))
        elif unseen:
            which = f"frame {last + 1}" if unseen == 1 else f"frames {last + 1} to {source - 1}"
            reason = f"the instrument's {which} never arrived"
            self._gap(reason, unseen, (self._last_end_s, start_s))
        return unseen

    def _gap(self, reason: str, count: int, span_s: tuple[float, float]) -> None:
        self._run.sink.gap(self._stream, self.next_index, reason, count, span_s)
        self.next_index += count


@dataclass(frozen=True, slots=True)
class _Missing:
    """Frames that do not come because the link to their instrument is lost."""

    since_s: float
    due_s: float
    """When the first of them was due."""
    period_s: float
    last_source: int
    reason: str

    def due(self, until_s: float) -> int:
        """How many should have come by then: the one that was lost at least."""
        if self.period_s <= 0:
            return 1
        return max(1, math.ceil((until_s - self.due_s) / self.period_s - 0.01))
