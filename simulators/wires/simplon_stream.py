"""Pushes messages to whoever listens, from a buffer that forgets what it cannot hold."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque

import zmq

from simulators.faults import Fault, Faults

logger = logging.getLogger(__name__)

LOOK_MS = 50
"""How often a sender that waits for a client looks whether it shall end, in wall milliseconds."""
IN_FLIGHT = 2
"""Messages that ZeroMQ itself holds; what is there when a client goes is lost."""
GARBAGE_BYTES = 32


class Pusher:
    """A bound PUSH socket with a thread that serves it.

    A message waits for a client in a buffer; when that is full, new messages are lost and counted.

    Args:
        where: host and port (0: any).
        buffer: messages.
        faults: what happens to them: lost, doubled, late, a byte less, garbage, nothing any more.
        name: for the thread.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, where: tuple[str, int], buffer: int, faults: Faults, name: str) -> None:
        self._buffer = buffer
        self._faults = faults
        self._random = random.Random(0)
        self._queue: deque[list[bytes]] = deque()
        self._change = threading.Condition()
        self._closing = False
        self._deaf = False
        self._dropped = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, IN_FLIGHT)
        host, port = where
        try:
            self._socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            self._socket.close()
            self._context.term()
            raise OSError(error.errno, str(error)) from error
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT).removeprefix("tcp://")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Messages lost since the last :meth:`forget`."""
        with self._change:
            return self._dropped

    def push(self, parts: list[bytes]) -> None:
        """Hand over a message; never waits."""
        with self._change:
            if len(self._queue) >= self._buffer:
                self._dropped += 1
                return
            self._queue.append(parts)
            self._change.notify()

    def forget(self) -> None:
        """Empty the buffer and count anew: a series begins."""
        with self._change:
            self._queue.clear()
            self._dropped = 0
            self._deaf = False

    def close(self) -> None:
        """End; what was not read is lost. Idempotent."""
        with self._change:
            self._closing = True
            self._change.notify()
        self._thread.join(2.0)
        self._socket.close()
        self._context.term()

    def _run(self) -> None:
        while True:
            with self._change:
                while not (self._queue or self._closing):
                    self._change.wait()
                if self._closing:
                    return
            if self._faults.hung:
                time.sleep(LOOK_MS / 1000)
                continue
            if not self._socket.poll(LOOK_MS, zmq.POLLOUT):
                continue
            with self._change:
                parts = self._queue.popleft() if self._queue else None
            if parts is not None:
                self._deliver(parts)

    def _deliver(self, parts: list[bytes]) -> None:
        if self._faults.unplugged or self._deaf:
            return
        fault = self._faults.pick()
        if fault is Fault.LOSE:
            return
        if fault in (Fault.HANG, Fault.DISCONNECT):
            self._deaf = True
            return
        if fault is Fault.SLOW:
            time.sleep(self._faults.slow_s)
        if fault in (Fault.DROP, Fault.GARBAGE):
            parts = self._spoilt(parts, fault)
        for _ in range(2 if fault is Fault.DUPLICATE else 1):
            try:
                self._socket.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                with self._change:
                    self._dropped += 1

    def _spoilt(self, parts: list[bytes], fault: Fault) -> list[bytes]:
        which = self._random.randrange(len(parts))
        part = parts[which]
        if fault is Fault.GARBAGE or not part:
            bad = self._random.randbytes(GARBAGE_BYTES)
        else:
            at = self._random.randrange(len(part))
            bad = part[:at] + part[at + 1 :]
        return [*parts[:which], bad, *parts[which + 1 :]]
