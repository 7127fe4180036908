"""The far end of DENSsolutions Impulse: a ZMQ control socket and a data stream on a simulated holder.

The wire ``impulse`` has two ports: ``control`` (replies to JSON requests; 5557 in the vendor's
software) and ``data`` (publishes topics ``heat`` and ``events`` as two-part messages; 5556). What is
answered, and what of it is inferred, is in :mod:`simulators.wires.impulse_control`.

A router socket stands in for the vendor's REP socket: a client cannot tell them apart, but one that
sends nonsense, or goes away before its reply, leaves nothing stuck.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import zmq

from acquire.clock import finite_rate
from acquire.errors import ConfigError
from acquire.farends import FarEndContext
from acquire.instruments import HeatingHolder
from simulators import options
from simulators.faults import Faults, from_options
from simulators.wires.impulse_control import CONTROL, NO_CONTROL, Impulse, StopRamp

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 1 << 20
"""ZMQ itself ends the connection of a client that sends more, in bytes."""
WAITING = 32
"""Requests of one client that may wait; ZMQ holds back the rest."""
AT_ONCE = 50
"""Requests that are answered before data is looked after."""
LOOK_WALL_S = 0.05
CLOSE_WALL_S = 2.0


def serve(
    context: FarEndContext,
    *,
    period: str = "100 ms",
    stop_ramp: StopRamp = "holds",
    control: bool = True,
    faults: Mapping[str, float] | None = None,
) -> ImpulseFarEnd:
    """Listen as Impulse does: the entry point ``impulse`` of ``hotstage.wires``.

    Args:
        context: whose simulation has the ``holder`` that is heated.
        period: from one data message to the next (5 ms to 10 s of the clock).
        stop_ramp: whether ``stopRamp`` ``holds`` the present setpoint or ``jumps`` to the end of the
            ramp; what the real Impulse does is not documented.
        control: whether scripts may command it from the beginning, as after the operator allows it.
        faults: shares of replies that suffer, for example ``{slow = 0.05}``.

    Raises:
        ValueError, TypeError: an option's value cannot be used.
        ConfigError: the station wishes a port that there is none of.
        OSError: a port cannot be had.
    """
    context.expect("control", "data")
    if stop_ramp not in ("holds", "jumps"):
        raise ValueError(f"stop_ramp = {stop_ramp!r} refused: write holds or jumps.")
    holder = context.simulation.instruments.get("holder")
    if not isinstance(holder, HeatingHolder):
        raise ConfigError(
            f"{context.source}: wires.{context.name}: the simulation has no holder to heat."
        )
    impulse = Impulse(holder, context.clock, stop_ramp)
    if not options.switch("control", control):
        impulse.status = NO_CONTROL
    return ImpulseFarEnd(
        context,
        impulse,
        options.quantity("period", period, "s", 0.005, 10),
        from_options(faults, seed=0),
    )


class ImpulseFarEnd:
    """Both sockets of Impulse, served by one thread."""

    def __init__(
        self, context: FarEndContext, impulse: Impulse, period_s: float, faults: Faults
    ) -> None:
        self.faults = faults
        """What happens to replies of the control socket. A message has no half: a split reply comes
        whole but late, a doubled one comes twice, and a lost connection loses the reply."""
        self.silent = False
        """Whether data messages and events are withheld, as if the stream had died."""
        self._clock = context.clock
        self._impulse = impulse
        self._period_s = period_s
        self._wishes: deque[tuple[str, str]] = deque()
        self._stop = threading.Event()
        self._zmq = zmq.Context()
        try:
            self._control, where = self._listen(zmq.ROUTER, context.where("control"))
            self._data, data_where = self._listen(zmq.PUB, context.where("data"))
        except BaseException:
            self._zmq.destroy(linger=0)
            raise
        self._addresses = MappingProxyType({"control": where, "data": data_where})
        self._late: list[tuple[float, list[bytes]]] = []
        self._sequence = 0
        self._begin_s = self._due_s = self._clock.now_s()
        self._thread = threading.Thread(target=self._run, name="impulse-far-end", daemon=True)
        self._thread.start()

    @property
    def addresses(self) -> Mapping[str, str]:
        """``HOST:PORT`` of ``control`` and ``data``."""
        return self._addresses

    def lose_control(self, why: str = "The operator has taken control.") -> None:
        """Take control from scripts, as the operator can at any time; the heater goes on as it is."""
        self._wishes.append((NO_CONTROL, why))

    def give_control(self, why: str = "Control is given to scripts.") -> None:
        """Let scripts command again."""
        self._wishes.append((CONTROL, why))

    def close(self) -> None:
        """Stop listening; idempotent."""
        self._stop.set()
        self._thread.join(CLOSE_WALL_S)
        self._zmq.destroy(linger=0)

    # -------------------------------------------------------------------- in the thread

    def _listen(self, kind: int, where: tuple[str, int]) -> tuple[zmq.Socket[bytes], str]:
        socket: zmq.Socket[bytes] = self._zmq.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, LONGEST_MESSAGE)
        socket.setsockopt(zmq.RCVHWM, WAITING)
        host, port = where
        try:
            socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            socket.close()
            raise OSError(error.errno, f"{host}:{port}: {error.strerror}") from error
        end = socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(end, bytes)
        return socket, end.decode().rstrip("\0").removeprefix("tcp://")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except zmq.ZMQError as error:
                if self._stop.is_set():
                    return
                logger.warning("the impulse far end goes on after: %s", error)
            except Exception:
                logger.exception("the impulse far end goes on after an error")
                self._stop.wait(LOOK_WALL_S)

    def _turn(self) -> None:
        if self.faults.unplugged:
            self._away_while_unplugged()
            return
        left_s = (self._due_s - self._clock.now_s()) / finite_rate(self._clock)
        for _ in range(AT_ONCE):
            if not self._control.poll(math.ceil(1000 * max(0.0, min(left_s, LOOK_WALL_S)))):
                break
            self._answer(self._control.recv_multipart())
            left_s = 0.0
        self._send_late()
        while self._wishes:
            self._impulse.change_status(*self._wishes.popleft())
        self._impulse.look()
        self._publish()

    def _answer(self, parts: list[bytes]) -> None:
        # who asks, an empty part, the request: anything else is no REQ client, and gets no answer
        if len(parts) < 3 or parts[1] != b"":
            logger.debug("a message of %d parts is no request", len(parts))
            return
        envelope, request = parts[:2], b"".join(parts[2:])
        delivery = self.faults.deliver(self._impulse.answer(request))
        if delivery.disconnect or not delivery.pieces:
            return
        pieces = [piece.data for piece in delivery.pieces]
        after_s = sum(piece.after_s for piece in delivery.pieces)
        # a doubled reply is two messages; pieces of a split one are a single message
        messages = pieces if len(set(pieces)) == 1 else [b"".join(pieces)]
        for message in messages:
            if after_s > 0:
                due_s = self._clock.now_s() + after_s * finite_rate(self._clock)
                self._late.append((due_s, [*envelope, message]))
            else:
                self._control.send_multipart([*envelope, message])

    def _send_late(self) -> None:
        now_s = self._clock.now_s()
        for due_s, message in list(self._late):
            if due_s <= now_s:
                self._late.remove((due_s, message))
                self._control.send_multipart(message)

    def _publish(self) -> None:
        while self._impulse.events:
            event = self._impulse.events.pop(0)
            self._send("events", {"timeStamp": self._stamp(), **event})
        now_s = self._clock.now_s()
        if now_s < self._due_s:
            return
        # a beat that was missed is left out: nobody measured then
        self._due_s = max(self._due_s + self._period_s, now_s)
        self._sequence += 1
        self._send("heat", self._impulse.data(self._sequence, now_s - self._begin_s, self._stamp()))

    def _send(self, topic: str, message: Mapping[str, object]) -> None:
        if not self.silent:
            body = json.dumps(message, allow_nan=False).encode()
            self._data.send_multipart([topic.encode(), body])

    def _stamp(self) -> str:
        unix_s = self._clock.epoch_unix_s + self._clock.now_s()
        return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")

    def _away_while_unplugged(self) -> None:
        """Keep both ports closed until the cable is back."""
        self._control.close()
        self._data.close()
        self._late.clear()
        while self.faults.unplugged and not self._stop.wait(LOOK_WALL_S):
            pass
        for name, kind in (("control", zmq.ROUTER), ("data", zmq.PUB)):
            host, _, port = self._addresses[name].rpartition(":")
            while not self._stop.is_set():
                try:
                    socket, _ = self._listen(kind, (host, int(port)))
                except OSError:  # the system has not let go of the port yet
                    self._stop.wait(LOOK_WALL_S)
                    continue
                if kind == zmq.ROUTER:
                    self._control = socket
                else:
                    self._data = socket
                break
