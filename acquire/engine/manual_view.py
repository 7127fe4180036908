"""Images taken by hand, to find a place and to focus: shown, counted as dose, and stored nowhere."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from acquire.engine.by_hand import ByHand
from acquire.engine.core import Engine
from acquire.engine.dose import (
    Beat,
    as_taken,
    field_of,
    image_dose,
    probe_current_pa,
)
from acquire.engine.sharpness import sharpness
from acquire.engine.station_view import LIVE_VIEW
from acquire.errors import HotstageError
from acquire.instruments import Frame, ScanExposure, StreamSpec

logger = logging.getLogger(__name__)

ENDS_WITHIN_S = 2.0
"""Wall seconds in which a view that is stopped has blanked the beam, unless an instrument hangs."""


class HandView:
    """One live view, from a thread of its own: the beam is on only while it lasts.

    Args:
        engine: whose scan it uses, and whose viewers it shows the images to.
        dose: counts them.
        exposure: of every image.
        frames: how many; 0 until it is stopped.
        for_s: wall seconds after which it ends by itself.
        ended: called once from its thread when it has ended, with the reason, which is empty if that
            was to be, and whether the beam may still be on.
    """

    def __init__(
        self,
        engine: Engine,
        dose: ByHand,
        exposure: ScanExposure,
        frames: int,
        for_s: float,
        ended: Callable[[str, bool], None],
    ) -> None:
        self._engine = engine
        self._dose = dose
        self._exposure = exposure
        self._frames = frames
        self._until_s = time.monotonic() + for_s
        self._ended = ended
        self._stop = engine.station.clock.signal()
        self.taken = 0
        self.sharpness = math.nan
        self._unsure = False
        self._thread = threading.Thread(target=self._run, name="manual-view", daemon=True)
        self._thread.start()

    @property
    def left_s(self) -> float:
        """Wall seconds until it ends by itself; NaN once it has ended."""
        if not self._thread.is_alive():
            return math.nan
        return max(0.0, self._until_s - time.monotonic())

    def tick(self) -> None:
        """End it if its time is up, also while no image comes."""
        if time.monotonic() > self._until_s:
            self.cut()

    def cut(self) -> None:
        """End it; returns at once."""
        self._stop.set()

    def stop(self) -> None:
        """End it and wait until the beam is blanked, but not long."""
        self.cut()
        if self._thread is not threading.current_thread():
            self._thread.join(ENDS_WITHIN_S)

    def _run(self) -> None:
        reason = ""
        try:
            self._expose()
        except HotstageError as error:
            reason = str(error)
        except Exception as error:
            logger.exception("the live view failed")
            reason = f"{type(error).__name__}: {error}"
        if reason and self._stop.is_set():
            logger.info("the live view was cut: %s", reason)
            reason = ""
        self._ended(reason, self._unsure)

    def _expose(self) -> None:
        scan, clock = self._engine.station.scan, self._engine.station.clock
        if self._stop.is_set():
            return
        try:
            scan.blank(False)
            if self._stop.is_set():  # cut while it was being un-blanked: not a moment longer
                return
            spec = scan.arm(self._exposure, self._frames or None)
            taken = as_taken(self._exposure, spec)
            dose = image_dose(probe_current_pa(scan.describe()), taken)
            beat = Beat(clock.now_s(), self._exposure.frame_period_s)
            try:
                for frame in scan.frames(self._stop):
                    beat.took(frame)
                    self._dose.image(dose, field_of(taken))
                    self._show(frame, spec)
                    self.tick()
            finally:
                if beat.exposing(clock.now_s()) and not self._complete:
                    self._dose.image(dose, field_of(taken))
                scan.disarm()
        finally:
            self._unsure = True
            scan.blank(True)
            self._unsure = False

    @property
    def _complete(self) -> bool:
        """Whether no further image was begun."""
        return self._frames > 0 and self.taken >= self._frames

    def _show(self, frame: Frame, spec: StreamSpec) -> None:
        run = self._engine.run_context
        zero_s = 0.0 if run is None else run.zero_s
        pixel = next(iter(spec.channels.values())).axes["x"].step
        shown = replace(
            frame,
            stream=LIVE_VIEW,
            index=self.taken,
            t_start_s=frame.t_start_s - zero_s,
            t_end_s=frame.t_end_s - zero_s,
        )
        self.taken += 1
        self._engine.live.put_image(shown, pixel)
        self.sharpness = sharpness(frame.data[self._exposure.detectors[0]])
