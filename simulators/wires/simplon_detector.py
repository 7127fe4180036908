"""The detector's states and exposures: idle, armed (ready), acquiring, and what is refused when.

Sources as in :mod:`simulators.wires.simplon_parameters`: a trigger command returns when its images are
taken; the configuration is read-only while armed; a series ends when it is complete, or by disarm, cancel
(after the image that is being taken) or abort (at once). Inferred: that a complete series ends by
itself, and which commands are refused in which state.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from acquire.clock import Clock, finite_rate
from simulators.wires.simplon_camera import CountingCamera
from simulators.wires.simplon_messages import Image, Series
from simulators.wires.simplon_parameters import LONGEST_S, SHORTEST_S, Parameters, Refused

LOOK_WALL_S = 0.05
END_WALL_S = 5.0
"""How long a command waits for an exposure that it ends."""


class Forbidden(Exception):
    """A command that cannot be carried out in this state."""


class Listener(Protocol):
    """What is told of a series."""

    def start(self, series: Series) -> None:
        """It is armed."""

    def image(self, series: Series, image: Image) -> None:
        """An exposure has ended."""

    def end(self, series: Series) -> None:
        """It has ended."""


class Detector:
    """One detector; any thread may command it.

    Args:
        clock: of the exposures.
        config: its configuration.
        camera: makes images.
        describe: completes a series with the settings of the stream.
        listeners: are told.
        initialized: whether it is ready for use at once, or after the command ``initialize``.
    """

    def __init__(
        self,
        clock: Clock,
        config: Parameters,
        camera: CountingCamera,
        describe: Callable[[Series], Series],
        listeners: tuple[Listener, ...],
        *,
        initialized: bool,
    ) -> None:
        self._clock = clock
        self._config = config
        self._camera = camera
        self._describe = describe
        self._listeners = listeners
        self._lock = threading.RLock()
        self._state = "idle" if initialized else "na"
        self._series: Series | None = None
        self._number = 0
        self._armed_s = 0.0
        self._triggers_left = 0
        self._images = 0
        self._exposures = 0
        self._stop = clock.signal()
        self._cancelled = False
        self._free = threading.Event()
        self._free.set()

    @property
    def state(self) -> str:
        """``na``, ``idle``, ``ready`` or ``acquire``."""
        return self._state

    @property
    def configurable(self) -> bool:
        """Whether the configuration may be changed."""
        return self._state in ("na", "idle")

    def initialize(self) -> None:
        """Make it usable, whatever it does."""
        self.abort()
        with self._lock:
            self._state = "idle"

    def arm(self) -> int:
        """Begin a series; returns its number. Raises Forbidden."""
        with self._lock:
            if self._state != "idle":
                raise Forbidden(f"arm in state {self._state!r}")
            self._number += 1
            self._armed_s = self._clock.now_s()
            armed = datetime.fromtimestamp(self._clock.epoch_unix_s + self._armed_s, UTC)
            config = {
                **self._config.values(),
                "data_collection_date": armed.isoformat(),
            }
            plain = Series(self._number, uuid.uuid4().hex, armed, config, "basic", "", "")
            self._series = self._describe(plain)
            self._triggers_left = config["ntrigger"]
            self._images = 0
            self._cancelled = False
            self._stop.clear()
            self._state = "ready"
            for listener in self._listeners:
                listener.start(self._series)
            return self._number

    def trigger(self, count_time_s: object = None) -> None:
        """Take the images of one internal trigger; returns when they are taken. Raises Forbidden, Refused.

        ``count_time_s`` is only for the mode ``inte``, where every trigger is one image.
        """
        with self._lock:
            series = self._begin(("ints", "inte"))
            count_s = float(series.config["count_time"])
            if series.config["trigger_mode"] == "inte" and count_time_s is not None:
                count_s = self._count_time(count_time_s)
            self._state = "acquire"
            self._free.clear()
        self._acquire(series, count_s)

    def pulse(self, width_s: float) -> None:
        """What a pulse at the external trigger input does; returns when its images are taken."""
        with self._lock:
            series = self._begin(("exts", "exte"))
            exact = series.config["trigger_mode"] == "exte"
            count_s = width_s if exact else float(series.config["count_time"])
            self._state = "acquire"
            self._free.clear()
        self._acquire(series, count_s)

    def disarm(self) -> int:
        """End the series after the image that is being taken; returns its number."""
        return self._finish(at_once=False)

    def abort(self) -> int:
        """End the series at once; returns its number."""
        return self._finish(at_once=True)

    def _begin(self, modes: tuple[str, ...]) -> Series:
        series = self._series
        if self._state != "ready" or series is None:
            raise Forbidden(f"trigger in state {self._state!r}")
        if series.config["trigger_mode"] not in modes:
            raise Forbidden(f"this trigger in mode {series.config['trigger_mode']!r}")
        return series

    def _count_time(self, value: object) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not SHORTEST_S <= float(str(value)) <= LONGEST_S:
            raise Refused(f"count time {value!r}")
        return float(str(value))

    def _acquire(self, series: Series, count_s: float) -> None:
        single = series.config["trigger_mode"] in ("inte", "exte")
        number = 1 if single else int(series.config["nimages"])
        frame_s = max(float(series.config["frame_time"]), count_s)
        try:
            began_s = self._clock.now_s()
            for i in range(number):
                start_s = began_s + i * frame_s
                if not self._wait_until(start_s + count_s):
                    return
                self._expose(series, start_s, start_s + count_s)
                if self._cancelled:
                    return
        finally:
            with self._lock:
                self._triggers_left -= 1
                self._state = "ready"
                if self._triggers_left == 0 or self._cancelled or self._stop.is_set():
                    self._end()
            self._free.set()

    def _expose(self, series: Series, start_s: float, end_s: float) -> None:
        index, self._exposures = self._exposures, self._exposures + 1
        pixels = self._camera.take(index, start_s, end_s, series.dtype, series.saturation)
        times = (start_s - self._armed_s, end_s - self._armed_s, end_s - start_s)
        image = Image(self._images, pixels, *times)
        self._images += 1
        for listener in self._listeners:
            listener.image(series, image)

    def _finish(self, *, at_once: bool) -> int:
        with self._lock:
            if self._state == "ready":
                self._end()
            elif self._state == "acquire":
                self._cancelled = True
                if at_once:
                    self._stop.set()
        longest_s = 0.0 if at_once else float(self._config["frame_time"])
        self._free.wait(END_WALL_S + longest_s / finite_rate(self._clock))
        return self._number

    def _end(self) -> None:
        series, self._series = self._series, None
        self._state = "idle"
        if series is not None:
            for listener in self._listeners:
                listener.end(series)

    def _wait_until(self, t_s: float) -> bool:
        """Wait for a time; False if the series is aborted before."""
        slice_s = LOOK_WALL_S * finite_rate(self._clock)
        while not self._stop.is_set():
            left_s = t_s - self._clock.now_s()
            if not (math.isfinite(left_s) and left_s > 0):
                return True
            self._stop.wait(min(left_s, slice_s))
        return False


def with_stream(series: Series, config: Parameters) -> Series:
    """A series with the stream's settings of now."""
    return replace(
        series,
        header_detail=config["header_detail"],
        header_appendix=config["header_appendix"],
        image_appendix=config["image_appendix"],
    )
