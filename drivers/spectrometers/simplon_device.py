"""A DECTRIS counting detector as a source of image series: configure, arm, trigger, receive, abort.

A series is taken with the detector's own pace (``trigger_mode`` ``ints``, one trigger). The stream gives
every message to one client only, and what nobody reads is lost, so a number that is missing is an
error. It is connected before the detector is armed, and only while somebody takes images.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from acquire.clock import Clock, Task, finite_rate
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.units import show
from drivers.links import parse_address
from drivers.spectrometers.simplon_messages import CBOR
from drivers.spectrometers.simplon_rest import Parameter, Rest
from drivers.spectrometers.simplon_series import SLICE_MS, TAKEN_AS_ASKED, Series

logger = logging.getLogger(__name__)

CONNECT_S = 3.0
SETTLE_S = 5.0
"""Wall seconds until a detector that was told to end is idle."""
RELEASE_S = 0.5
"""Wall seconds that whoever takes images has to notice that this is closed."""
LARGEST_MESSAGE = 256 << 20
QUEUED = 2000
"""Messages that wait here while nobody takes them; more than that are lost, and noticed."""


@dataclass(frozen=True, slots=True)
class Detector:
    """What does not change about a detector."""

    description: str
    serial: str
    width: int
    height: int
    shortest_s: float
    longest_s: float


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
        self._receivers: set[zmq.Socket[bytes]] = set()
        self._settled = False
        """Whether it is known to be idle, since nothing was begun."""
        self._put: dict[tuple[str, str], object] = {}
        """What it was told since it was last looked at, so that it is not told again."""
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
        if self._settled:
            return
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
        self._settled = True

    def forget(self) -> None:
        """Trust nothing of what it was told or was doing."""
        self._put.clear()
        self._settled = False

    def configure(self, count_s: float, images: int, *, anew: bool) -> float:
        """Set exposure and length of the next series; returns the exposure time that it took.

        Args:
            count_s: exposure time.
            images: in the series.
            anew: whether to trust nothing of what it was told before.

        Raises:
            InstrumentError: it refuses, or takes another one.
        """
        if anew:
            self.forget()
        self.settle()
        try:
            return self._configure(count_s, images)
        except BaseException:
            self._put.clear()
            raise

    def _configure(self, count_s: float, images: int) -> float:
        frame_s = count_s + self._gap_s
        pairs = [("count_time", count_s), ("frame_time", frame_s)]
        if not self._told("count_time", count_s):
            if frame_s > self._config("frame_time").number("frame_time"):
                pairs.reverse()  # an exposure must fit its frame at every moment
            for name, value in pairs:
                self._rest.set("detector", name, value)
        self._tell("detector", "trigger_mode", "ints")
        self._tell("detector", "ntrigger", 1)
        self._tell("detector", "nimages", images)
        self._tell("stream", "mode", "enabled")
        if ("stream", "format") not in self._put:
            if self._version == CBOR or self._streams_both():
                self._tell("stream", "format", self._version)
            self._put["stream", "format"] = self._version
        taken = self._config("count_time").number("count_time")
        if abs(taken - count_s) > TAKEN_AS_ASKED * count_s:
            raise InstrumentError(
                f"{self._rest.what} exposes for {show(taken, 's')} instead of {show(count_s, 's')}. "
                "Choose an exposure time that it can do."
            )
        if round(self._config("nimages").number("nimages")) != images:
            raise InstrumentError(f"{self._rest.what} does not take {images} images in a series.")
        self._put["detector", "count_time"] = count_s
        return taken

    def _told(self, name: str, value: object) -> bool:
        return self._put.get(("detector", name)) == value

    def _tell(self, module: str, name: str, value: object) -> None:
        if self._put.get((module, name)) != value:
            self._rest.set(module, name, value)
            self._put[module, name] = value

    def connect(self) -> zmq.Socket[bytes]:
        """A connection to the stream, for one thread, which must :meth:`release` it; raises LinkError.

        Each message goes to one connection only: while two are open, images are lost to both.
        """
        if self._closed:
            raise LinkError(f"the link to {self._rest.what} was closed here.")
        receiver = self._connect()
        self._receivers.add(receiver)
        return receiver

    def series(
        self, receiver: zmq.Socket[bytes], detector: Detector, count_s: float, images: int
    ) -> Series:
        """Begin a series as configured: arm, trigger, receive; raises LinkError, InstrumentError."""
        self.settle()
        self._settled = False
        try:
            reply = self._rest.command("detector", "arm")
            number = reply.get("sequence id") if isinstance(reply, dict) else None
            if type(number) is not int:
                raise LinkError(f"{self._rest.what} did not say the number of the series.")
            return Series(self, receiver, detector, number, count_s, images)
        except BaseException:
            self.end("abort")
            raise

    def release(self, receiver: zmq.Socket[bytes]) -> None:
        """Leave the stream to others; only for the thread that takes the images. Idempotent."""
        receiver.close(0)
        self._receivers.discard(receiver)

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
        give_up = time.monotonic() + RELEASE_S
        while self._receivers and time.monotonic() < give_up:
            time.sleep(SLICE_MS / 1000)  # its socket belongs to the thread that takes the images
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
