"""What Impulse publishes: heat measurements as they arrive, and its events; the newest is always at hand."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import zmq

from acquire.clock import Clock
from drivers.holders.impulse.control import FIRST_PAUSE_MS, LONGEST_PAUSE_MS

logger = logging.getLogger(__name__)

HEAT = b"heat"
EVENTS = (b"events", b"event")
"""The topic of today's Impulse, and that of the first one with an API."""
FINISHED = "data.event.stimulusActionFinished"
LONGEST_MESSAGE = 1 << 20
LOOK_MS = 50
JOIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Units:
    """What a number of each property is worth in °C, mW, A and V; NaN if its unit is not known."""

    milliwatt: float
    ampere: float
    volt: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One message of the heat channel."""

    number: int
    """Of Impulse; it starts anew when Impulse does."""
    t_s: float
    """On the station's clock, when it arrived."""
    wall_s: float
    """On :func:`time.monotonic`, when it arrived."""
    measured_celsius: float
    setpoint_celsius: float
    power_mw: float
    resistance_ohm: float


class Stream:
    """Receives in a thread of its own, from when it is made until it is closed.

    A byte that was lost makes ZMQ take what follows for parts of one long message, without end and
    without an error: a socket that has been silent for too long is made anew.

    Args:
        silence_s: how long that is, in wall s.
        on_state: told the name of every state that Impulse says to enter, from the thread.
        on_restart: told when Impulse counts its messages from the beginning again.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        clock: Clock,
        units: Units,
        *,
        silence_s: float,
        on_state: Callable[[str], None],
        on_restart: Callable[[], None],
    ) -> None:
        self._context = context
        self._address = address
        self._silence_s = silence_s
        self._clock = clock
        self._units = units
        self._on_state = on_state
        self._on_restart = on_restart
        self._news = threading.Condition()
        self._last: Measurement | None = None
        self._before: Measurement | None = None
        self._backward: int | None = None
        self._finished_wall_s = -math.inf
        self._closed = threading.Event()
        self._complained = False
        self._socket = self._subscribed()
        self._thread = threading.Thread(target=self._run, name="impulse-data", daemon=True)
        self._thread.start()

    @property
    def last(self) -> Measurement | None:
        """The newest measurement."""
        return self._last

    @property
    def last_two(self) -> tuple[Measurement | None, Measurement | None]:
        """The newest measurement and the one before it."""
        with self._news:  # also by who waits for news, who holds it already
            return self._last, self._before

    @property
    def finished_wall_s(self) -> float:
        """When Impulse last said that a heat action had finished, on :func:`time.monotonic`."""
        return self._finished_wall_s

    def wait_for(
        self, wanted: Callable[[Measurement], bool], until_wall_s: float
    ) -> Measurement | None:
        """The newest measurement as soon as it is a wanted one; None if there is none by a time."""
        with self._news:
            while self._last is None or not wanted(self._last):
                left_s = until_wall_s - time.monotonic()
                if left_s <= 0 or self._closed.is_set():
                    return None
                self._news.wait(left_s)
            return self._last

    def close(self) -> None:
        """Stop receiving; idempotent."""
        self._closed.set()
        with self._news:
            self._news.notify_all()
        self._thread.join(JOIN_S)

    def _subscribed(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.SUB)
        socket.linger = 0
        socket.setsockopt(zmq.MAXMSGSIZE, LONGEST_MESSAGE)
        socket.setsockopt(zmq.RECONNECT_IVL, FIRST_PAUSE_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, LONGEST_PAUSE_MS)
        for topic in (HEAT, EVENTS[-1]):  # subscriptions are prefixes
            socket.setsockopt(zmq.SUBSCRIBE, topic)
        socket.connect(f"tcp://{self._address}")
        return socket

    def _run(self) -> None:
        heard = time.monotonic()
        try:
            while not self._closed.is_set():
                if self._socket.poll(LOOK_MS):
                    self._take(self._socket.recv_multipart())
                    heard = time.monotonic()
                elif time.monotonic() - heard > self._silence_s:
                    self._socket.close(linger=0)
                    self._socket = self._subscribed()
                    heard = time.monotonic()
        except zmq.ZMQError as error:
            if not self._closed.is_set():
                logger.error("the data of Impulse ended: %s", error)
        finally:
            self._socket.close(linger=0)

    def _take(self, parts: list[bytes]) -> None:
        try:
            topic, body = parts
            message = json.loads(body)
            if not isinstance(message, dict):
                raise ValueError("not an object")
            if topic == HEAT:
                self._measurement(message)
            elif topic in EVENTS:
                self._event(message)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if not self._complained:  # once: a stream may bring ten of them a second
                logger.warning("a message of Impulse was not understood and left out: %r", error)
            self._complained = True

    def _measurement(self, message: Mapping[str, Any]) -> None:
        number = message["sequenceNumber"]
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"sequenceNumber {number!r}")
        setpoint = _number(message["temperatureSetpoint"])
        if not math.isfinite(setpoint):
            raise ValueError("the setpoint is not a number")
        current = _number(message.get("currentMeasured", math.nan)) * self._units.ampere
        volts = _number(message.get("voltageMeasured", math.nan)) * self._units.volt
        new = Measurement(
            number=number,
            t_s=self._clock.now_s(),
            wall_s=time.monotonic(),
            measured_celsius=_number(message["temperatureMeasured"]),
            setpoint_celsius=setpoint,
            power_mw=_number(message.get("powerMeasured", math.nan)) * self._units.milliwatt,
            resistance_ohm=volts / current if abs(current) > 0 else math.nan,
        )
        last = self._last
        if last is not None and number <= last.number and not self._restarted(number):
            return  # doubled or late
        self._backward = None
        with self._news:
            self._before, self._last = last, new
            self._news.notify_all()

    def _restarted(self, number: int) -> bool:
        """Whether Impulse counts anew: one small number may be a late message, two in a row are not."""
        before, self._backward = self._backward, number
        if before is None or number != before + 1:
            return False
        logger.warning("Impulse counts its data from %d again; it was started anew", before)
        self._on_restart()
        return True

    def _event(self, message: Mapping[str, Any]) -> None:
        if message.get("$type") == FINISHED and message.get("stimulusType") == "heat":
            self._finished_wall_s = time.monotonic()
        state = message.get("newState")
        if isinstance(state, str):
            self._on_state(state)
        elif isinstance(message.get("message"), str):
            logger.warning("Impulse says: %s", message["message"])


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)
