"""A running acquisition of DigiScan: exposes frames until it shall end, and keeps the last complete one."""

from __future__ import annotations

import logging
import threading

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Clock, Signal, Task
from acquire.errors import HotstageError
from acquire.instruments import ScanExposure
from simulators.scan import SimulatedScan

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint16]
STOP_WALL_S = 2.0
LOOK_WALL_S = 0.05


class Run:
    """One acquisition in a task of the clock.

    Args:
        scan: exposes.
        clock: of the simulation.
        exposure: what.
        turns: of every image by 90°, clockwise.
        extra_s: that a frame takes longer.
        closing: raised when the far end ends.
    """

    def __init__(
        self,
        scan: SimulatedScan,
        clock: Clock,
        exposure: ScanExposure,
        turns: int,
        extra_s: float,
        closing: Signal,
    ) -> None:
        self.finishing = False
        """Whether it shall end with the present frame."""
        self.trouble = "the far end ends"
        """Why there is no image, if there is none."""
        self._scan = scan
        self._clock = clock
        self._exposure = exposure
        self._turns = turns
        self._extra_s = extra_s
        self._closing = closing
        self._stop = clock.signal()
        self._lock = threading.Lock()
        self._images: dict[str, Pixels] = {}
        self._fresh = clock.signal()
        self._task: Task | None = None

    def begin(self, frames: int | None) -> None:
        """Expose so many frames, or for ever."""
        self._task = self._clock.spawn(lambda: self._expose(frames), "digiscan")

    def running(self) -> bool:
        """Whether it goes on."""
        return self._task is not None and self._task.is_alive()

    def wait(self) -> None:
        """Wait for its end."""
        while self._task is not None and not self._task.join(LOOK_WALL_S * self._clock.rate):
            if self._closing.is_set():
                self.halt()
                return

    def wait_for_frame(self) -> None:
        """Wait for a frame that was not waited for yet, or the end."""
        while self.running() and not self._closing.is_set():
            if self._fresh.wait(LOOK_WALL_S * self._clock.rate):
                break
        self._fresh.clear()

    def halt(self) -> None:
        """End it now, in the middle of a frame."""
        self._stop.set()
        if self._task is not None:
            self._task.join(STOP_WALL_S * self._clock.rate)

    def blank(self) -> Pixels:
        """An image of nothing."""
        return np.zeros(self._exposure.shape, np.uint16)

    def images(self) -> dict[str, Pixels]:
        """The last complete frame."""
        with self._lock:
            return dict(self._images)

    def _expose(self, frames: int | None) -> None:
        try:
            self._scan.arm(self._exposure, frames)
            for frame in self._scan.frames(self._stop):
                if self._extra_s and self._stop.wait(self._extra_s):
                    break
                turned = {name: np.rot90(data, -self._turns) for name, data in frame.data.items()}
                with self._lock:
                    self._images = turned
                self._fresh.set()
                if self.finishing:
                    break
        except HotstageError as error:
            self.trouble = str(error)
            logger.warning("DigiScan: %s", error)
        finally:
            self._scan.disarm()
