"""The commander's side of a lease: keeps control alive from a thread of its own, and tells when it is lost."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from acquire.errors import HotstageError, LeaseError, LinkError
from acquire.remote.client import Link
from acquire.remote.lease import TTL_S
from acquire.remote.tls import Identity

logger = logging.getLogger(__name__)

BEAT_S = 0.5
POLL_S = 0.1


class LeaseKeeper:
    """The commander's side: takes control, keeps it alive from a thread of its own, tells when it is lost.

    Control that was lost is never taken again by itself: whoever commands must first read what the
    instruments do now. Implements :class:`acquire.station.Control`.
    """

    def __init__(
        self,
        address: str,
        object_id: str,
        *,
        beat_s: float = BEAT_S,
        identity: Identity | None = None,
    ) -> None:
        self._address = address
        self._identity = identity
        self._object_id = object_id
        self._beat_s = beat_s
        self._lock = threading.Lock()
        self._problem = "control was not taken"
        self._token = ""
        self._last_beat = 0.0
        self._asked_by = ""
        self._ttl_s = TTL_S
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def token(self) -> str:
        """What commands carry; empty before control was taken."""
        return self._token

    @property
    def asked_by(self) -> str:
        """Who asks for control, as of the last beat; empty if nobody does."""
        with self._lock:
            return self._asked_by

    def hand_over(self, to: str = "") -> str:
        """Give control to who asks for it, without making safe in between; returns their name.

        Args:
            to: who is meant; default who asked as of the last beat.

        Raises:
            LeaseError: it is not ours, nobody asks, or somebody else by now.
            LinkError: the server does not answer.
        """
        link = Link(self._address, self._object_id, timeout_s=TTL_S, identity=self._identity)
        try:
            heir = str(link.call("lease_hand_over", self._token, to or self.asked_by))
        finally:
            link.close()
        self._lost(f"control was handed over to {heir}")
        self._stop.set()
        return heir

    def take(self, commander: str, patience_s: float = 0.0) -> None:
        """Take control and keep it alive; raises LeaseError, LinkError.

        Args:
            commander: who takes it, as others are told.
            patience_s: if another has it, ask for it and wait so many wall seconds to be given it.
        """
        if self._thread is not None:
            if not self.problem():
                return
            self.release()
        outcome: list[HotstageError] = []
        decided = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._keep,
            args=(commander, patience_s, self._stop, decided, outcome),
            name="lease-keeper",
            daemon=True,
        )
        self._thread.start()
        decided.wait()
        if outcome:
            self._thread = None
            raise outcome[0]
        if problem := self.problem():
            raise LeaseError(f"control was asked for, but {problem}.")

    def release(self) -> None:
        """Give control back, whereupon the server makes everything safe; idempotent."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def problem(self) -> str:
        """Empty while control is held, else what is wrong."""
        with self._lock:
            if self._problem:
                return self._problem
            silent_s = time.monotonic() - self._last_beat
            if silent_s > self._ttl_s:
                return (
                    f"control is lost: this program could not tell the server at {self._address} "
                    f"that it lives for {silent_s:.1f} s"
                )
            return ""

    def _keep(
        self,
        commander: str,
        patience_s: float,
        stop: threading.Event,
        decided: threading.Event,
        outcome: list[HotstageError],
    ) -> None:
        link = Link(self._address, self._object_id, timeout_s=TTL_S, identity=self._identity)
        try:
            asked = time.monotonic()
            granted = self._ask(link, commander, patience_s, stop)
            with self._lock:
                self._token, self._ttl_s = str(granted["token"]), float(granted["ttl_s"])
                self._problem, self._last_beat = "", asked
            decided.set()
            self._beat_on(link, stop)
            if stop.is_set() and not self.problem():
                self._give_back(link)
        except HotstageError as error:
            outcome.append(error)
            self._lost(f"control was not given: {error}")
        finally:
            decided.set()
            link.close()

    def _ask(
        self, link: Link, commander: str, patience_s: float, stop: threading.Event
    ) -> dict[str, Any]:
        try:
            taken: dict[str, Any] = link.call("lease_acquire", commander, timeout_s=2 * TTL_S)
            return taken
        except LeaseError:
            if patience_s <= 0:
                raise
        give_up = time.monotonic() + patience_s
        wished: dict[str, Any] = link.call("lease_request", commander)
        while not link.call("lease_granted", wished["token"]):
            if time.monotonic() > give_up or stop.wait(POLL_S):
                raise LeaseError(f"control was not handed over within {patience_s:g} s.")
        return wished

    def _beat_on(self, link: Link, stop: threading.Event) -> None:
        while not stop.wait(self._beat_s):
            asked = time.monotonic()
            try:
                asking = link.call("lease_beat", self._token)
            except LinkError as error:
                # the server saw this connection end or will see silence: only a beat that arrives
                # within the time to live can still save it
                if time.monotonic() - self._last_beat > self._ttl_s:
                    self._lost(f"control is lost: {error}")
                    return
            except HotstageError as error:
                self._lost(f"control is lost: {error}")
                return
            else:
                with self._lock:
                    self._last_beat, self._asked_by = asked, str(asking)

    def _give_back(self, link: Link) -> None:
        try:
            link.call("lease_release", self._token)
        except HotstageError as error:
            logger.warning("control could not be given back and will lapse: %s", error)
        self._lost("control was given back")

    def _lost(self, problem: str) -> None:
        logger.info("%s", problem)
        with self._lock:
            self._problem, self._asked_by = problem, ""
