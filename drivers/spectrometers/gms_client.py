"""Speaks with our server inside Gatan's Microscopy Suite: its lease, its jobs and what they give.

The server is :mod:`drivers.gms.server`; it talks Pyro5, which :class:`acquire.remote.Link` speaks with a deadline on
every call, a connection for every thread, and nothing sent twice.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Clock, finite_rate
from acquire.errors import InstrumentError, LeaseError, LinkError
from acquire.remote import Link

logger = logging.getLogger(__name__)

OBJECT = "hotstage.gms"
PROTOCOL = 2
CALL_S = 3.0
"""Wall seconds for a call, beyond those that it is asked to wait."""
SLICE_S = 0.05
"""How often a wait looks whether it is cut, in wall seconds."""
BUSY_S = 5.0
"""Wall seconds that a job which was cut may take to end."""
LARGEST_ARRAY = 256 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a job has done, and when, on the station's clock."""

    facts: Mapping[str, Any]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Done:
    """A job that is complete."""

    parts: tuple[Part, ...]
    arrays: Mapping[str, NDArray[Any]]
    bound_s: float
    """How far the times may be off."""


class GmsClient:
    """One server; jobs one at a time, any thread may call.

    Args:
        address: ``HOST:PORT`` of it, on this computer.
        owner: how it calls who commands it.
        clock: the station's.

    Raises:
        ConfigError: the address is none, or is on another computer.
    """

    def __init__(self, address: str, owner: str, clock: Clock) -> None:
        self.address = address
        self._clock = clock
        self._owner = owner
        self._token = ""
        self._lock = threading.Lock()
        """Held while a job is begun: one at a time, under one lease."""
        self._left_behind = False
        """Whether a job may still run over there that nobody here waits for."""
        self._link = Link(
            address,
            OBJECT,
            CALL_S,
            mend="See that GMS runs with the script drivers/gms/server.py, and that the port is right.",
        )
        self._looking = futures.ThreadPoolExecutor(1, "gms-look")

    def identify(self) -> dict[str, str | float]:
        """Facts about the server; raises LinkError, InstrumentError for another one."""
        found = self._link.call("hello")
        known = isinstance(found, dict) and found.get("server") == OBJECT
        if not known or found.get("protocol") != PROTOCOL:
            raise InstrumentError(
                f"the server at {self.address} is {str(found)[:80]!r}, not ours of protocol {PROTOCOL}. "
                "Look at the address, and copy the script that belongs to this version to the GMS computer."
            )
        return {"gms_python": str(found.get("python", ""))[:40]}

    def run(
        self, kind: str, settings: Mapping[str, Any], within_s: float, cut: Callable[[], bool]
    ) -> Done | None:
        """Carry out a job; None when it is cut, which ends it over there, too.

        Args:
            kind: of job.
            settings: what the server's class of that kind takes.
            within_s: wall seconds that it may take.
            cut: looked at every 50 ms.

        Raises:
            LinkError: no answer, or it did not end in time; what it did is not known.
            InstrumentError, LimitError, LeaseError: refused or failed.
        """
        give_up = time.monotonic() + within_s
        try:
            begun = self._begin(kind, settings, cut)
            if begun is None:
                return None
            answer, span_s = begun
            while not cut():
                state = self._look(answer["job"], cut)
                if state is None:
                    continue
                if state["state"] == "cut":
                    raise InstrumentError(f"the job ({kind}) was ended by somebody else.")
                if state["state"] == "done":
                    return self._done(answer["job"], state, answer["now_s"], span_s)
                if time.monotonic() > give_up:
                    self._abort(answer["job"])
                    raise LinkError(
                        f"GMS at {self.address} did not end a job ({kind}) within {within_s:g} s; what "
                        "it does is not known. Look at its window."
                    )
        except LinkError:
            self._left_behind = True
            raise
        self._abort(answer["job"])
        return None

    def close(self) -> None:
        """Give the lease back and end the connection; idempotent."""
        if self._token:
            try:
                self._link.call("release", self._token, timeout_s=0.5)
            except (LinkError, InstrumentError) as error:
                logger.info("GMS at %s keeps its lease until it lapses: %s", self.address, error)
            self._token = ""
        self._link.close()
        self._looking.shutdown(cancel_futures=True)

    # --------------------------------------------------------------------------- within

    def _look(self, job: str, cut: Callable[[], bool]) -> Any:
        """What a job is doing; None when cut, which a server that has fallen silent cannot hold up."""
        looking = self._looking.submit(
            self._link.call, "wait", self._token, job, SLICE_S, timeout_s=CALL_S + SLICE_S
        )
        while not futures.wait((looking,), SLICE_S).done:
            if cut():
                return None
        return looking.result()

    def _begin(
        self, kind: str, settings: Mapping[str, Any], cut: Callable[[], bool]
    ) -> tuple[dict[str, Any], tuple[float, float]] | None:
        """Begin a job; the answer, and when here it was asked for and came. None when cut."""
        while not self._lock.acquire(timeout=SLICE_S):
            if cut():
                return None
        try:
            if not self._wait_until_free(cut):
                return None
            before_s = self._clock.now_s()
            answer = self._begin_under_lease(kind, settings)
            return answer, (before_s, self._clock.now_s())
        finally:
            self._lock.release()

    def _begin_under_lease(self, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if self._token:
                return _expect(self._link.call("begin", self._token, kind, settings))
        except LeaseError:
            pass  # it was refused, so that nothing is sent twice
        # known before it is asked for, so that it is ours even if the answer is lost
        self._token = uuid.uuid4().hex
        self._link.call("take", self._owner, self._token)
        return _expect(self._link.call("begin", self._token, kind, settings))

    def _wait_until_free(self, cut: Callable[[], bool]) -> bool:
        """Wait until a job that was cut has ended; False when cut."""
        give_up = time.monotonic() + BUSY_S
        while not cut():
            status = self._link.call("status")
            if not isinstance(status, dict) or not status.get("busy"):
                self._left_behind = False
                return True
            if self._left_behind:
                self._abort(None)
            if time.monotonic() > give_up:
                raise InstrumentError(
                    f"GMS at {self.address} has been busy with {status.get('doing')!r} of "
                    f"{status.get('owner') or 'nobody'} for {BUSY_S:g} s. Look at its window."
                )
            time.sleep(SLICE_S)
        return False

    def _abort(self, job: str | None) -> None:
        """End a job, if it still runs; None: whichever of ours does."""
        try:
            self._link.call("abort", self._token, job, timeout_s=0.1)
        except (LinkError, InstrumentError) as error:
            # an exposure under way may keep the server from answering: then it ends by itself
            logger.info("GMS at %s was not told to abort: %s", self.address, error)

    def _done(
        self, job: str, state: Mapping[str, Any], zero: float, span_s: tuple[float, float]
    ) -> Done:
        rate = finite_rate(self._clock)
        try:
            ends = [part.get("end_s", zero) for part in state["parts"]]
            latest_s = (max(ends, default=zero) - zero) * rate
            # the middle of a call that went out fast and came back slowly is too late; what is done is
            # past, and is moved as a whole: cut at the present it would seem shorter than it was
            middle_s = min(sum(span_s) / 2, self._clock.now_s() - latest_s)

            def station_s(theirs: float) -> float:
                return middle_s + (theirs - zero) * rate

            parts = tuple(
                Part(part, station_s(part.get("start_s", zero)), station_s(part.get("end_s", zero)))
                for part in state["parts"]
            )
            arrays = {
                name: self._fetch(job, name, about["dtype"], about["shape"])
                for name, about in state["arrays"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LinkError(
                f"GMS at {self.address} answered with something that is not understood: {error!r}."
            ) from error
        return Done(parts, arrays, (span_s[1] - span_s[0]) / 2)

    def _fetch(self, job: str, name: str, dtype: str, shape: list[int]) -> NDArray[Any]:
        if dtype not in ("<f8", "<u4", "<u2") or not all(type(side) is int for side in shape):
            raise ValueError(f"an array of {dtype!r} and {shape!r}")
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not 0 < size <= LARGEST_ARRAY:
            raise ValueError(f"an array of {size} bytes")
        came = bytearray()
        while len(came) < size:
            piece = self._link.call("fetch", self._token, job, name, len(came))
            if not isinstance(piece, bytes) or not piece or len(came) + len(piece) > size:
                raise ValueError(f"a piece of {name!r}")
            came += piece
        return np.frombuffer(bytes(came), dtype).reshape(shape)


def _expect(begun: Any) -> dict[str, Any]:
    if not isinstance(begun, dict) or not isinstance(begun.get("now_s"), float):
        raise LinkError("GMS began a job with an answer that is not understood.")
    return begun
