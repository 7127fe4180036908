"""A DECTRIS counting detector as a source of image series: configure, arm, trigger, receive, abort.

A series is taken with the detector's own pace (``trigger_mode`` ``ints``, one trigger). The stream gives
every message to one client only, and what nobody reads is lost, so a number that is missing is an
error. It is connected for a series only, and before the detector is armed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from acquire.clock import Clock, Task, finite_rate
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.units import show
from drivers.links import MalformedReply, parse_address
from drivers.spectrometers.simplon_messages import CBOR, End, Image, decode
from drivers.spectrometers.simplon_rest import Parameter, Rest

logger = logging.getLogger(__name__)

SLICE_MS = 20
"""How often a wait for an image looks whether it is cut, in wall time."""
CONNECT_S = 3.0
GRACE_S = 5.0
"""Wall seconds that an image may come after its exposure must have ended."""
SETTLE_S = 5.0
"""Wall seconds until a detector that was told to end is idle."""
LARGEST_MESSAGE = 256 << 20
QUEUED = 2000
"""Messages that wait here while nobody takes them; more than that are lost, and noticed."""
TAKEN_AS_ASKED = 1e-3
"""Relative difference of an exposure time that is no difference."""


@dataclass(frozen=True, slots=True)
class Detector:
    """What does not change about a detector."""

    description: str
    serial: str
    width: int
    height: int
    shortest_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Shot:
    """An image, and when (station's clock) it was exposed."""

    image: Image
    start_s: float
    end_s: float
    late_s: float
    """At most so much later than ``start_s`` and ``end_s`` it may have been."""


class SimplonDevice:
    """One detector; one series at a time.

    Args:
        rest: its REST interface.
        stream: ``HOST:PORT`` of its stream.
        version: of the stream: ``cbor`` or ``legacy``.
        threshold: channel that is read, the first if empty.
        gap_s: from exposure to exposure.
        clock: the station's.

    Raises:
        ValueError: the address of the stream is none.
    """

    def __init__(
        self, rest: Rest, stream: str, version: str, threshold: str, gap_s: float, clock: Clock
    ) -> None:
        host, port = parse_address(stream)
        self._endpoint = f"tcp://{host}:{port}"
        self._rest = rest
        self._version = version
        self._threshold = threshold
        self._gap_s = gap_s
        self._clock = clock
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._ending: Task | None = None
        self._closed = False

    def identify(self, model: str) -> Detector:
        """What it is; raises InstrumentError unless its description contains ``model``."""
        try:
            description = str(self._config("description").value)
        except InstrumentError as error:
            if isinstance(error, LinkError):
                raise
            raise InstrumentError(
                f"{self._rest.what} does not speak SIMPLON of this version: {error} "
                "Look at the address, and at the option api."
            ) from error
        if model.lower() not in description.lower():
            raise InstrumentError(
                f"{self._rest.what} is a {description!r}, not a {model!r}. "
                "Look at the address, or change the option model."
            )
        state = self.state()
        if state == "na":
            raise InstrumentError(
                f"{self._rest.what} is not initialized. Initialize it on its own page first."
            )
        count_time = self._config("count_time")
        return Detector(
            description,
            str(self._config("detector_number").value),
            round(self._config("x_pixels_in_detector").number("x_pixels_in_detector")),
            round(self._config("y_pixels_in_detector").number("y_pixels_in_detector")),
            count_time.low,
            count_time.high,
        )

    def state(self) -> str:
        """What it is doing, such as ``idle``, ``ready`` or ``acquire``."""
        return str(self._rest.get("detector", "status", "state").value)

    def settle(self) -> None:
        """See that it is idle, ending what it may still be doing; raises LinkError, InstrumentError."""
        ending, self._ending = self._ending, None
        if ending is not None:
            ending.join(SETTLE_S * finite_rate(self._clock))
        state = self.state()
        if state in ("ready", "acquire", "configure"):
            logger.warning("%s is in state %r; its series is aborted", self._rest.what, state)
            self._rest.command("detector", "abort")
            state = self._wait_for_idle()
        if state != "idle":
            raise InstrumentError(
                f"{self._rest.what} is in state {state!r} instead of idle. Look at its own page."
            )

    def configure(self, count_s: float, images: int) -> float:
        """Set exposure and length of the next series; returns the exposure time that it took.

        Raises:
            InstrumentError: it refuses, or takes another one.
        """
        self.settle()
        put = self._rest.set
        frame_s = count_s + self._gap_s
        pairs = [("count_time", count_s), ("frame_time", frame_s)]
        if frame_s > self._config("frame_time").number("frame_time"):
            pairs.reverse()  # an exposure must fit its frame at every moment
        for name, value in pairs:
            put("detector", name, value)
        put("detector", "trigger_mode", "ints")
        put("detector", "ntrigger", 1)
        put("detector", "nimages", images)
        put("stream", "mode", "enabled")
        if self._version == CBOR or self._streams_both():
            put("stream", "format", self._version)
        taken = self._config("count_time").number("count_time")
        if abs(taken - count_s) > TAKEN_AS_ASKED * count_s:
            raise InstrumentError(
                f"{self._rest.what} exposes for {show(taken, 's')} instead of {show(count_s, 's')}. "
                "Choose an exposure time that it can do."
            )
        if round(self._config("nimages").number("nimages")) != images:
            raise InstrumentError(f"{self._rest.what} does not take {images} images in a series.")
        return taken

    def series(self, detector: Detector, count_s: float, images: int) -> Series:
        """Begin a series as configured: arm, trigger, receive; raises LinkError, InstrumentError."""
        if self._closed:
            raise LinkError(f"the link to {self._rest.what} was closed here.")
        self.settle()
        receiver = self._connect()
        try:
            reply = self._rest.command("detector", "arm")
            number = reply.get("sequence id") if isinstance(reply, dict) else None
            if type(number) is not int:
                raise LinkError(f"{self._rest.what} did not say the number of the series.")
            return Series(self, receiver, detector, number, count_s, images)
        except BaseException:
            receiver.close(0)
            self.end("abort")
            raise

    def end(self, how: str) -> None:
        """Tell it to end its series (``disarm`` or ``abort``), and do not wait for it."""

        def tell() -> None:
            try:
                self._rest.command("detector", how)
            except HotstageError as error:
                # the next series looks what state it is in; a detector that counts does no harm
                logger.warning("%s could not be told to %s: %s", self._rest.what, how, error)

        self._ending = self._clock.spawn(tell, f"simplon-{how}")

    def close(self) -> None:
        """Let go of it; idempotent."""
        self._closed = True
        ending, self._ending = self._ending, None
        if ending is not None:
            ending.join(SETTLE_S * finite_rate(self._clock))
        if not self._context.closed:
            self._context.destroy(0)

    # --------------------------------------------------------------------------- within

    @property
    def clock(self) -> Clock:
        """The station's."""
        return self._clock

    @property
    def rest(self) -> Rest:
        """Its REST interface."""
        return self._rest

    @property
    def threshold(self) -> str:
        """Channel that is read."""
        return self._threshold

    @property
    def gap_s(self) -> float:
        """From exposure to exposure."""
        return self._gap_s

    def _config(self, name: str) -> Parameter:
        return self._rest.get("detector", "config", name)

    def _streams_both(self) -> bool:
        """Whether this detector knows more than one version of the stream."""
        try:
            self._rest.get("stream", "config", "format")
        except LinkError:
            raise
        except InstrumentError:
            return False
        return True

    def _wait_for_idle(self) -> str:
        give_up = time.monotonic() + SETTLE_S
        while (state := self.state()) != "idle" and time.monotonic() < give_up:
            time.sleep(SLICE_MS / 1000)
        return state

    def _connect(self) -> zmq.Socket[bytes]:
        """Connect to the stream and wait until it is; raises LinkError."""
        receiver = self._context.socket(zmq.PULL)
        receiver.setsockopt(zmq.LINGER, 0)
        receiver.setsockopt(zmq.RCVHWM, QUEUED)
        receiver.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
        monitor = receiver.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            receiver.connect(self._endpoint)
            if not monitor.poll(round(1000 * CONNECT_S)):
                raise LinkError(
                    f"the stream of {self._rest.what} at {self._endpoint} cannot be reached within "
                    f"{CONNECT_S:g} s. See that its stream is enabled, and that the port is right: "
                    "31001 for cbor, 9999 for legacy."
                )
            recv_monitor_message(monitor)
        except BaseException:
            receiver.close(0)
            raise
        finally:
            if not receiver.closed:
                receiver.disable_monitor()
            monitor.close(0)
        return receiver


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
        self._receiver.close(0)
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
