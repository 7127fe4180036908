"""The images of one series of a DECTRIS detector: received in order, checked, and stamped with the station's time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import zmq

from acquire.acquisition import Cut
from acquire.clock import finite_rate
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.units import show
from drivers.links import MalformedReply
from drivers.spectrometers.simplon_messages import End, Image, Start, decode
from drivers.spectrometers.simplon_stream import LOOK_MS

if TYPE_CHECKING:
    from drivers.spectrometers.simplon_device import Detector, SimplonDevice

GRACE_S = 5.0
"""Wall seconds that an image may come after its exposure must have ended."""
TAKEN_AS_ASKED = 1e-3
"""Relative difference of an exposure time that is no difference."""


@dataclass(frozen=True, slots=True)
class Shot:
    """An image, and when (station's clock) it was exposed."""

    image: Image
    start_s: float
    end_s: float
    late_s: float
    """At most so much later than ``start_s`` and ``end_s`` it may have been."""
    full_counts: int
    """A pixel that has so many may have had more."""


class Series:
    """The images of one series, in order, none left out; for one thread."""

    def __init__(
        self,
        device: SimplonDevice,
        receiver: zmq.Socket[bytes],
        detector: Detector,
        number: int,
        count_s: float,
        images: int,
    ) -> None:
        self._device = device
        self._receiver = receiver
        self._shape = (detector.height, detector.width)
        self._number = number
        self._count_s = count_s
        self._images = images
        self._next = 0
        self._full_counts: int | None = None
        self._refused: HotstageError | None = None
        self._zero_s: float | None = None
        self._late_s = float("inf")
        self._closed = False
        self._over = threading.Event()
        """Whether the detector was told to end it, or could not be told."""
        clock = device.clock
        self._asked_s = clock.now_s()
        self._task = clock.spawn(self._trigger, "simplon-trigger")

    @property
    def left(self) -> int:
        """Images still to come."""
        return self._images - self._next

    def next(self, cut: Cut) -> Shot | None:
        """The next image; None when it is cut.

        Raises:
            InstrumentError: an image is missing, or a message cannot be read.
            LinkError: it did not come in time.
        """
        while not cut():
            if self._receiver.poll(LOOK_MS):
                try:
                    image = self._take(self._receiver.recv_multipart())
                except MalformedReply as error:
                    raise InstrumentError(f"{self._device.rest.what}: {error}") from error
                if image is not None:
                    return self._stamped(image)
            elif self._refused is not None:
                raise self._refused
            elif self._device.clock.now_s() > self._due_s():
                raise LinkError(
                    f"image {self._next} of series {self._number} of {self._device.rest.what} did not "
                    "come; it is lost. Does another program read the stream, too?"
                )
        return None

    def close(self) -> None:
        """End the series, complete or not; returns at once. Idempotent."""
        if not self._closed:
            self._closed = True
            self._device.end("abort" if self.left else "disarm", self._leave)

    def _leave(self) -> None:
        """Wait no longer for the reply to the trigger, which may never come."""
        self._over.set()
        self._task.join(finite_rate(self._device.clock))

    def _take(self, parts: list[bytes]) -> Image | None:
        message = decode(parts, self._shape, self._device.threshold)
        if message is None or message.series != self._number:
            return None  # what an earlier series, cut short, has left
        if isinstance(message, End):
            raise InstrumentError(
                f"{self._device.rest.what} ended its series after {self._next} of {self._images} "
                "images. Does somebody else command it?"
            )
        if isinstance(message, Start):
            self._begun(message)
            return None
        if message.number < self._next:
            return None  # it came twice
        if message.number > self._next:
            raise InstrumentError(
                f"image {self._next} of series {self._number} of {self._device.rest.what} was lost: "
                f"{message.number} came instead. Does another program read the stream, or is this "
                "computer too slow for it?"
            )
        self._next += 1
        return message

    def _begun(self, start: Start) -> None:
        """Note what the detector says of the series; raises InstrumentError for another than was asked for."""
        self._full_counts = start.full_counts
        if start.count_s is not None and not self._is_exposure(start.count_s):
            raise InstrumentError(
                f"{self._device.rest.what} was armed to expose for {show(start.count_s, 's')} instead "
                f"of {show(self._count_s, 's')}. Does somebody else command it?"
            )

    def _is_exposure(self, taken_s: float) -> bool:
        return abs(taken_s - self._count_s) <= TAKEN_AS_ASKED * self._count_s

    def _stamped(self, image: Image) -> Shot:
        """Times of the station, from the command that began the series and the detector's own pace."""
        now_s = self._device.clock.now_s()
        length_s = image.stop_s - image.start_s
        exposed_s = length_s if image.exposed_s is None else min(image.exposed_s, length_s)
        if not exposed_s >= self._count_s * (1 - TAKEN_AS_ASKED):
            raise InstrumentError(
                f"{self._device.rest.what} says that an image took {show(exposed_s, 's')} instead of "
                f"{show(self._count_s, 's')}. Does somebody else command it?"
            )
        if self._zero_s is None:
            # the first image cannot have begun before the trigger was sent
            self._zero_s = self._asked_s - image.start_s
        end_s = self._zero_s + image.stop_s
        self._late_s = max(0.0, min(self._late_s, now_s - end_s))
        if end_s > now_s:  # its clock is faster than ours
            self._zero_s -= end_s - now_s
            end_s = now_s
        # the highest value of all marks a pixel without data
        full = int(np.iinfo(image.pixels.dtype).max) - 1
        if self._full_counts is not None:
            full = min(full, self._full_counts)
        start_s = end_s - max(length_s, self._count_s)
        return Shot(image, start_s, end_s, self._late_s, full)

    def _due_s(self) -> float:
        clock = self._device.clock
        frames = self._next + 1
        exposed_s = frames * (self._count_s + self._device.gap_s)
        return self._asked_s + 1.02 * exposed_s + GRACE_S * finite_rate(clock)

    def _trigger(self) -> None:
        clock = self._device.clock
        total_s = self._images * (self._count_s + self._device.gap_s)
        try:
            self._device.rest.command(
                "detector",
                "trigger",
                1.5 * total_s / finite_rate(clock) + GRACE_S,
                self._over.is_set,
            )
        except HotstageError as error:
            self._refused = error
