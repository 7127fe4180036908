"""Connections to the ZeroMQ stream of a DECTRIS detector; one at a time, and only while images are taken.

The stream gives each message to one connection only: while two are open, images are lost to both.
"""

from __future__ import annotations

import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from acquire.acquisition import Cut
from acquire.errors import LinkError
from drivers.links import ExchangeCut, parse_address

CONNECT_S = 3.0
RELEASE_S = 0.5
"""Wall seconds that whoever takes images has to notice that this is closed."""
LOOK_MS = 20
"""How often a wait looks whether it is cut, in wall time."""
LARGEST_MESSAGE = 256 << 20
QUEUED = 2000
"""Messages that wait here while nobody takes them; more than that are lost, and noticed."""


class Stream:
    """The stream of one detector.

    Args:
        address: ``HOST:PORT``.
        what: the detector, for messages.

    Raises:
        ValueError: the address is none.
    """

    def __init__(self, address: str, what: str) -> None:
        host, port = parse_address(address)
        self._endpoint = f"tcp://{host}:{port}"
        self._what = what
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._receivers: set[zmq.Socket[bytes]] = set()
        self._closed = False

    def connect(self, cut: Cut) -> zmq.Socket[bytes]:
        """A connection, for one thread, which must :meth:`release` it; raises LinkError, ExchangeCut."""
        if self._closed:
            raise LinkError(f"the link to {self._what} was closed here.")
        receiver = self._context.socket(zmq.PULL)
        receiver.setsockopt(zmq.LINGER, 0)
        receiver.setsockopt(zmq.RCVHWM, QUEUED)
        receiver.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
        self._receivers.add(receiver)
        try:
            self._reach(receiver, cut)
        except BaseException:
            self.release(receiver)
            raise
        return receiver

    def release(self, receiver: zmq.Socket[bytes]) -> None:
        """Leave the stream to others; only for the thread that takes the images. Idempotent."""
        receiver.close(0)
        self._receivers.discard(receiver)

    def left(self) -> None:
        """Take no more connections, and wait until the last is released, but not for long."""
        self._closed = True
        give_up = time.monotonic() + RELEASE_S
        while self._receivers and time.monotonic() < give_up:
            time.sleep(LOOK_MS / 1000)

    def close(self) -> None:
        """End it all, also under whoever has not released his connection; idempotent."""
        self._closed = True
        if not self._context.closed:
            self._context.destroy(0)

    def _reach(self, receiver: zmq.Socket[bytes], cut: Cut) -> None:
        monitor = receiver.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        try:
            receiver.connect(self._endpoint)
            give_up = time.monotonic() + CONNECT_S
            while not monitor.poll(LOOK_MS):
                if cut():
                    raise ExchangeCut("the connection to the stream was cut.")
                if time.monotonic() >= give_up:
                    raise LinkError(
                        f"the stream of {self._what} at {self._endpoint} cannot be reached within "
                        f"{CONNECT_S:g} s. See that its stream is enabled, and that the port is "
                        "right: 31001 for cbor, 9999 for legacy."
                    )
            recv_monitor_message(monitor)
        finally:
            receiver.disable_monitor()
            monitor.close(0)
