"""The images of one series of a DECTRIS detector: received in order, checked, and stamped with the station's time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from acquire.clock import finite_rate
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.units import show
from drivers.links import MalformedReply
from drivers.spectrometers.simplon_messages import End, Image, decode

if TYPE_CHECKING:
    from drivers.spectrometers.simplon_device import Detector, SimplonDevice

SLICE_MS = 20
"""How often a wait for an image looks whether it is cut, in wall time."""
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
        self._refused: HotstageError | None = None
        self._zero_s: float | None = None
        self._late_s = float("inf")
        clock = device.clock
        self._asked_s = clock.now_s()
        self._task = clock.spawn(self._trigger, "simplon-trigger")

    @property
    def left(self) -> int:
        """Images still to come."""
        return self._images - self._next

    def next(self, cut: Callable[[], bool]) -> Shot | None:
        """The next image; None when it is cut.

        Raises:
            InstrumentError: an image is missing, or a message cannot be read.
            LinkError: it did not come in time.
        """
        while not cut():
            if self._receiver.poll(SLICE_MS):
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
        """End the series, complete or not; returns at once."""
        self._device.end("abort" if self.left else "disarm")

    def _take(self, parts: list[bytes]) -> Image | None:
        message = decode(parts, self._shape, self._device.threshold)
        if message is None or message.series != self._number:
            return None  # what an earlier series, cut short, has left
        if isinstance(message, End):
            raise InstrumentError(
                f"{self._device.rest.what} ended its series after {self._next} of {self._images} "
                "images. Does somebody else command it?"
            )
        if not isinstance(message, Image) or message.number < self._next:
            return None  # the start; or an image that came twice
        if message.number > self._next:
            raise InstrumentError(
                f"image {self._next} of series {self._number} of {self._device.rest.what} was lost: "
                f"{message.number} came instead. Does another program read the stream, or is this "
                "computer too slow for it?"
            )
        self._next += 1
        return message

    def _stamped(self, image: Image) -> Shot:
        """Times of the station, from the command that began the series and the detector's own pace."""
        now_s = self._device.clock.now_s()
        length_s = image.stop_s - image.start_s
        if not length_s >= self._count_s * (1 - TAKEN_AS_ASKED):
            raise InstrumentError(
                f"{self._device.rest.what} says that an image took {show(length_s, 's')} instead of "
                f"{show(self._count_s, 's')}."
            )
        if self._zero_s is None:
            # the first image cannot have begun before the trigger was sent
            self._zero_s = self._asked_s - image.start_s
        end_s = self._zero_s + image.stop_s
        self._late_s = max(0.0, min(self._late_s, now_s - end_s))
        if end_s > now_s:  # its clock is faster than ours
            self._zero_s -= end_s - now_s
            end_s = now_s
        return Shot(image, end_s - max(length_s, self._count_s), end_s, self._late_s)

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
                "detector", "trigger", 1.5 * total_s / finite_rate(clock) + GRACE_S
            )
        except HotstageError as error:
            self._refused = error
