"""The command socket of Impulse: one JSON request, one JSON reply, and never a reply taken for another's.

A ZMQ request socket whose reply did not come is stuck, and the reply may come later. So every
mishap throws the socket away; the next request opens a new one, to which an old reply cannot find
its way. Nothing is ever sent twice: what Impulse did with a request that it did not answer is not
known.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import zmq

from acquire.errors import InstrumentError, LimitError, LinkError

logger = logging.getLogger(__name__)

STATUS_IN_CONTROL = "control"
LONGEST_REPLY = 1 << 20
FIRST_PAUSE_MS = 50
LONGEST_PAUSE_MS = 500
MEND = (
    "Is Impulse running, with its API switched on, and do the options control and data name its "
    "computer and ports?"
)
HOW_TO_GIVE_CONTROL = (
    "Go to the Impulse window, answer what it asks there, and let it take control of the holder, "
    "until its status is 'control'."
)


class ControlSocket:
    """Requests to Impulse, one at a time; any thread may ask.

    Args:
        context: that the socket belongs to; whoever made it ends it.
        address: ``HOST:PORT``.
        timeout_s: wall seconds for a request and its reply.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, timeout_s: float):
        self._context = context
        self._address = address
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._socket: zmq.Socket[bytes] | None = None
        self._closed = False

    @property
    def what(self) -> str:
        """Impulse and its address, for messages."""
        return f"Impulse at {self._address}"

    def ask(self, request: str, **fields: Any) -> Mapping[str, Any]:
        """Send one request and return the ``data`` of its reply (empty if it has none).

        Args:
            request: the ``$type``, as ``control.impulse.getStatus``.
            fields: the other keys of the request.

        Raises:
            LinkError: it was not sent, or not answered in time, or not understood; nothing is sent
                again.
            LimitError: Impulse refused a value.
            InstrumentError: Impulse refused the request, as it does when it is not in control.
        """
        deadline = time.monotonic() + self._timeout_s
        if not self._lock.acquire(timeout=self._timeout_s):
            raise LinkError(
                f"{self.what} was busy with another command for {self._timeout_s:g} s; {request} "
                "was not sent."
            )
        try:
            reply = self._exchange(request, {"$type": request, **fields}, deadline)
        finally:
            self._lock.release()
        return self._judge(request, reply)

    def status(self) -> str:
        """What Impulse says of itself: ``control`` when it takes commands; raises as :meth:`ask`."""
        return _text(self.ask("control.impulse.getStatus"), "status")

    def close(self) -> None:
        """Let go of the socket, after a request under way; later requests raise LinkError. Idempotent."""
        self._closed = True
        with self._lock:
            self._drop()

    def _exchange(self, request: str, message: Mapping[str, Any], deadline: float) -> bytes:
        if self._closed:
            raise LinkError(f"the link to {self.what} was closed here; {request} was not sent.")
        try:
            socket = self._opened()
            if not socket.poll(_left_ms(deadline), zmq.POLLOUT):
                self._drop()
                raise LinkError(f"{self.what} cannot be reached; {request} was not sent. {MEND}")
            socket.send(json.dumps(message).encode())
            if not socket.poll(_left_ms(deadline), zmq.POLLIN):
                self._drop()
                raise LinkError(
                    f"{self.what} did not answer {request} within {self._timeout_s:g} s; what it "
                    f"did is not known. {MEND}"
                )
            parts = socket.recv_multipart()
        except zmq.ZMQError as error:
            self._drop()
            raise LinkError(
                f"the link to {self.what} broke at {request} ({error}); what it did is not known."
            ) from error
        except BaseException:
            self._drop()  # interrupted: the reply would be taken for that of the next request
            raise
        if len(parts) != 1:
            self._drop()
            raise LinkError(
                f"{self.what} answered {request} in {len(parts)} parts instead of one; what it did "
                "is not known."
            )
        return parts[0]

    def _opened(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            socket = self._context.socket(zmq.REQ)
            socket.linger = 0
            # without a connection nothing is queued, so that nothing is carried out long after
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.setsockopt(zmq.MAXMSGSIZE, LONGEST_REPLY)
            socket.setsockopt(zmq.RECONNECT_IVL, FIRST_PAUSE_MS)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, LONGEST_PAUSE_MS)
            socket.connect(f"tcp://{self._address}")
            self._socket = socket
        return self._socket

    def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close(linger=0)

    def _judge(self, request: str, raw: bytes) -> Mapping[str, Any]:
        try:
            reply = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise self._not_understood(request, raw) from error
        if not isinstance(reply, dict) or not isinstance(reply.get("resultCode"), str):
            raise self._not_understood(request, raw)
        code = reply["resultCode"]
        if code == "ok":
            data = reply.get("data")
            return data if isinstance(data, dict) else {}
        if code == "invalidInput":
            raise LimitError(f"{self.what} refused {request}: {_why(reply)} Nothing changed.")
        if code == "invalidOperation":
            raise InstrumentError(
                f"{self.what} refused {request} in its present state: {_why(reply)} "
                f"{HOW_TO_GIVE_CONTROL}"
            )
        raise InstrumentError(
            f"{self.what} refused {request} ({code}): {_why(reply)} "
            "Is this version of Impulse one that the driver knows?"
        )

    def _not_understood(self, request: str, raw: bytes) -> LinkError:
        return LinkError(
            f"{self.what} answered {request} with something that is not understood: {raw[:80]!r}; "
            "what it did is not known."
        )


def _left_ms(deadline: float) -> int:
    return max(0, round(1e3 * (deadline - time.monotonic())))


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else f"without {key}"


def _why(reply: Mapping[str, Any]) -> str:
    """The message of an error reply and the parameters that it complains about."""
    said = [str(reply["message"])] if reply.get("message") else []
    data = reply.get("data")
    errors = data.get("errors") if isinstance(data, dict) else None
    for error in errors if isinstance(errors, list) else []:
        if isinstance(error, dict):
            parameter, description = error.get("parameter"), error.get("description")
            said.append(f"{parameter}: {description}")
    return ("; ".join(said) or "no reason given") + "."
