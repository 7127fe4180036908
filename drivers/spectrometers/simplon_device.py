"""A DECTRIS counting detector as a source of image series: configure, arm, trigger, receive, abort.

A series is taken with the detector's own pace (``trigger_mode`` ``ints``, one trigger). The stream gives
every message to one client only, and what nobody reads is lost, so a number that is missing is an
error. It is connected before the detector is armed, and only while somebody takes images.

Whatever waits looks at a ``cut`` and raises ExchangeCut within 0.1 s when it turns true; what the detector
did is not known then, and the next series begins with a look at its state.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq

from acquire.acquisition import Cut
from acquire.clock import Clock, Task, finite_rate
from acquire.errors import HotstageError, InstrumentError, LinkError
from acquire.units import show
from drivers.links import ExchangeCut
from drivers.spectrometers.simplon_messages import CBOR
from drivers.spectrometers.simplon_rest import Parameter, Rest, never
from drivers.spectrometers.simplon_series import TAKEN_AS_ASKED, Series
from drivers.spectrometers.simplon_stream import LOOK_MS, Stream

logger = logging.getLogger(__name__)

SETTLE_S = 5.0
"""Wall seconds until a detector that was told to end is idle."""


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
        self._stream = Stream(stream, rest.what)
        self._rest = rest
        self._version = version
        self._threshold = threshold
        self._gap_s = gap_s
        self._clock = clock
        self._ending: Task | None = None
        self._running: Series | None = None
        self._settled = False
        """Whether it is known to be idle, since nothing was begun."""
        self._put: dict[tuple[str, str], object] = {}
        """What it was told since it was last looked at, so that it is not told again."""

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

    def state(self, cut: Cut = never) -> str:
        """What it is doing, such as ``idle``, ``ready`` or ``acquire``."""
        return str(self._rest.get("detector", "status", "state", cut=cut).value)

    def settle(self, cut: Cut = never) -> None:
        """See that it is idle, ending what it may still be doing; raises LinkError, InstrumentError."""
        if self._settled:
            return
        self._wait_for_end(cut)
        state = self.state(cut)
        if state in ("ready", "acquire", "configure"):
            logger.warning("%s is in state %r; its series is aborted", self._rest.what, state)
            self._rest.command("detector", "abort", cut=cut)
            state = self._wait_for_idle(cut)
        if state != "idle":
            raise InstrumentError(
                f"{self._rest.what} is in state {state!r} instead of idle. Look at its own page."
            )
        self._settled = True

    def forget(self) -> None:
        """Trust nothing of what it was told or was doing."""
        self._put.clear()
        self._settled = False

    def configure(self, count_s: float, images: int, *, anew: bool, cut: Cut) -> float:
        """Set exposure and length of the next series; returns the exposure time that it took.

        Args:
            count_s: exposure time.
            images: in the series.
            anew: whether to trust nothing of what it was told before.
            cut: ends it.

        Raises:
            InstrumentError: it refuses, or takes another one.
        """
        if anew:
            self.forget()
        self.settle(cut)
        try:
            return self._configure(count_s, images, cut)
        except BaseException:
            self._put.clear()
            raise

    def _configure(self, count_s: float, images: int, cut: Cut) -> float:
        frame_s = count_s + self._gap_s
        pairs = [("count_time", count_s), ("frame_time", frame_s)]
        if not self._told("count_time", count_s):
            if frame_s > self._config("frame_time", cut).number("frame_time"):
                pairs.reverse()  # an exposure must fit its frame at every moment
            for name, value in pairs:
                self._rest.set("detector", name, value, cut)
        self._tell("detector", "trigger_mode", "ints", cut)
        self._tell("detector", "ntrigger", 1, cut)
        self._tell("detector", "nimages", images, cut)
        self._tell("stream", "mode", "enabled", cut)
        if ("stream", "format") not in self._put:
            if self._version == CBOR or self._streams_both(cut):
                self._tell("stream", "format", self._version, cut)
            self._put["stream", "format"] = self._version
        taken = self._config("count_time", cut).number("count_time")
        if abs(taken - count_s) > TAKEN_AS_ASKED * count_s:
            raise InstrumentError(
                f"{self._rest.what} exposes for {show(taken, 's')} instead of {show(count_s, 's')}. "
                "Choose an exposure time that it can do."
            )
        if round(self._config("nimages", cut).number("nimages")) != images:
            raise InstrumentError(f"{self._rest.what} does not take {images} images in a series.")
        self._put["detector", "count_time"] = count_s
        return taken

    def _told(self, name: str, value: object) -> bool:
        return self._put.get(("detector", name)) == value

    def _tell(self, module: str, name: str, value: object, cut: Cut) -> None:
        if self._put.get((module, name)) != value:
            self._rest.set(module, name, value, cut)
            self._put[module, name] = value

    @property
    def stream(self) -> Stream:
        """Where its images come."""
        return self._stream

    def series(
        self,
        receiver: zmq.Socket[bytes],
        detector: Detector,
        count_s: float,
        images: int,
        cut: Cut,
    ) -> Series:
        """Begin a series as configured: arm, trigger, receive; raises LinkError, InstrumentError."""
        self.settle(cut)
        self._settled = False
        try:
            reply = self._rest.command("detector", "arm", cut=cut)
            number = reply.get("sequence id") if isinstance(reply, dict) else None
            if type(number) is not int:
                raise LinkError(f"{self._rest.what} did not say the number of the series.")
            self._running = Series(self, receiver, detector, number, count_s, images)
            return self._running
        except BaseException:
            self.end("abort")
            raise

    def end(self, how: str, then: Callable[[], None] | None = None) -> None:
        """Tell it to end its series (``disarm`` or ``abort``), ``then`` do something; returns at once."""
        self._running = None

        def tell() -> None:
            try:
                self._rest.command("detector", how)
            except HotstageError as error:
                # the next series looks what state it is in; a detector that counts does no harm
                logger.warning("%s could not be told to %s: %s", self._rest.what, how, error)
            if then is not None:
                then()

        self._ending = self._clock.spawn(tell, f"simplon-{how}")

    def close(self) -> None:
        """Let go of it, and see that it ends what it does; idempotent."""
        self._stream.left()
        running = self._running
        if running is not None:  # of a reader that neither goes on nor ends
            running.close()
        self._wait_for_end(never)
        self._rest.close()
        self._stream.close()

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

    def _config(self, name: str, cut: Cut = never) -> Parameter:
        return self._rest.get("detector", "config", name, cut=cut)

    def _streams_both(self, cut: Cut) -> bool:
        """Whether this detector knows more than one version of the stream."""
        try:
            self._rest.get("stream", "config", "format", cut=cut)
        except (LinkError, ExchangeCut):
            raise
        except InstrumentError:
            return False
        return True

    def _wait_for_end(self, cut: Cut) -> None:
        """Wait until it was told to end its last series, or that has failed."""
        ending = self._ending
        give_up = time.monotonic() + SETTLE_S
        rate = finite_rate(self._clock)
        while ending is not None and not ending.join(LOOK_MS / 1000 * rate):
            if cut():
                raise ExchangeCut("the wait for the end of the last series was cut.")
            if time.monotonic() >= give_up:
                break
        if self._ending is ending:
            self._ending = None

    def _wait_for_idle(self, cut: Cut) -> str:
        give_up = time.monotonic() + SETTLE_S
        while (state := self.state(cut)) != "idle" and time.monotonic() < give_up:
            time.sleep(LOOK_MS / 1000)
        return state
