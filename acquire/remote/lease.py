"""Control of a heater and a beam as a lease: one commander at a time, and safe when it falls silent.

All of it runs in wall time from threads of its own, whatever the station's clock does.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable

from acquire.errors import EmergencyOff, HotstageError, LeaseError, LinkError
from acquire.remote.client import Link

logger = logging.getLogger(__name__)

TTL_S = 2.0
BEAT_S = 0.5
_NEVER = "nobody has taken control yet"


class Lease:
    """The server's side: who may command, until when, and what happens when that ends.

    Args:
        on_lapse: called once, with the reason, whenever control ends in whatever way; it makes safe.
        ttl_s: wall seconds without a beat after which control has lapsed.
    """

    def __init__(self, on_lapse: Callable[[str], None], ttl_s: float = TTL_S) -> None:
        self.ttl_s = ttl_s
        self._on_lapse = on_lapse
        self._changed = threading.Condition()
        self._token = ""
        self._commander = ""
        self._connection = 0
        self._deadline = 0.0
        self._ended = _NEVER
        self._refusal: type[LeaseError] = LeaseError
        self._closing = self._safing = False
        self._watcher = threading.Thread(target=self._watch, name="lease-watch", daemon=True)
        self._watcher.start()

    @property
    def commander(self) -> str:
        """Who holds control; empty if nobody does."""
        with self._changed:
            return self._commander

    @property
    def ended_by_emergency(self) -> bool:
        """Whether control ended last by an emergency."""
        with self._changed:
            return issubclass(self._refusal, EmergencyOff)

    def acquire(self, commander: str, connection: int) -> str:
        """Give control to ``commander`` and return the token that its commands must carry.

        Raises:
            LeaseError: another has it, or the server is being closed.
        """
        with self._changed:
            # what the last commander left behind is made safe before the next one may begin
            self._changed.wait_for(lambda: not self._safing, self.ttl_s)
            if self._closing:
                raise LeaseError("control refused: the instrument server is being closed.")
            if self._token:
                raise LeaseError(
                    f"control refused: {self._commander} has it. Ask there to give it back, or end "
                    f"that program; it lapses {self.ttl_s:g} s after its last sign of life."
                )
            self._token = secrets.token_hex(16)
            self._commander, self._connection = commander or "an unnamed program", connection
            self._deadline = time.monotonic() + self.ttl_s
            self._changed.notify_all()
            return self._token

    def beat(self, token: str, connection: int) -> None:
        """Keep control alive; from now on the end of this connection ends it. Raises LeaseError."""
        with self._changed:
            self._require(token)
            self._connection = connection
            self._deadline = time.monotonic() + self.ttl_s

    def require(self, token: str) -> None:
        """Raise LeaseError unless ``token`` is that of the present commander."""
        with self._changed:
            self._require(token)

    def _require(self, token: str) -> None:
        if self._token and secrets.compare_digest(token.encode(), self._token.encode()):
            if time.monotonic() <= self._deadline:
                return
            raise LeaseError(f"command refused: control lapsed, {self._silence()}. Take it anew.")
        if self._token:
            raise LeaseError(f"command refused: {self._commander} has control, not you.")
        raise self._refusal(f"command refused: {self._ended}. Take control first.")

    def _silence(self) -> str:
        return f"{self._commander} gave no sign of life for {self.ttl_s:g} s"

    def release(self, token: str) -> None:
        """End control at its commander's wish; a token that is not in force changes nothing."""
        self._end(
            lambda commander: f"{commander} gave control back",
            lambda: bool(token) and token == self._token,
        )

    def revoke(self, reason: str, *, emergency: bool = False) -> bool:
        """End control, whoever has it; after an emergency, commands are refused as EmergencyOff.

        Returns:
            Whether anybody had it: then everything was made safe as at every end of control.
        """
        kind = EmergencyOff if emergency else LeaseError
        return self._end(
            lambda commander: f"control was taken from {commander}: {reason}", lambda: True, kind
        )

    def disconnected(self, connection: int) -> None:
        """End control if the connection that ended is the one that keeps it alive."""
        self._end(
            lambda commander: f"{commander} is gone (its connection ended)",
            lambda: self._connection == connection,
        )

    def close(self) -> None:
        """End control and stop watching; idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._end(
            lambda commander: "control ended: the instrument server is being closed", lambda: True
        )
        if self._watcher is not threading.current_thread():
            self._watcher.join(1.0)

    def _end(
        self,
        reason: Callable[[str], str],
        applies: Callable[[], bool],
        refusal: type[LeaseError] = LeaseError,
    ) -> bool:
        with self._changed:
            if not self._token or not applies():
                return False
            self._ended, self._refusal = reason(self._commander), refusal
            ended = self._ended
            self._token = self._commander = ""
            self._connection = 0
            self._safing = True
            self._changed.notify_all()
        logger.warning("%s", ended)
        try:
            self._on_lapse(ended)
        finally:
            with self._changed:
                self._safing = False
                self._changed.notify_all()
        return True

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closing:
                    return
                left_s = self._deadline - time.monotonic() if self._token else None
                if left_s is None or left_s > 0:
                    self._changed.wait(left_s)
                    continue
            self._end(lambda commander: self._silence(), lambda: time.monotonic() > self._deadline)


class LeaseKeeper:
    """The commander's side: takes control, keeps it alive from a thread of its own, tells when it is lost.

    Control that was lost is never taken again by itself: whoever commands must first read what the
    instruments do now. Implements :class:`acquire.station.Control`.
    """

    def __init__(self, address: str, object_id: str, *, beat_s: float = BEAT_S) -> None:
        self._address = address
        self._object_id = object_id
        self._beat_s = beat_s
        self._lock = threading.Lock()
        self._problem = "control was not taken"
        self._token = ""
        self._last_beat = 0.0
        self._ttl_s = TTL_S
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def token(self) -> str:
        """What commands carry; empty before control was taken."""
        return self._token

    def take(self, commander: str) -> None:
        """Take control and keep it alive; raises LeaseError, LinkError."""
        if self._thread is not None:
            if not self.problem():
                return
            self.release()
        outcome: list[HotstageError] = []
        decided = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._keep,
            args=(commander, self._stop, decided, outcome),
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
        stop: threading.Event,
        decided: threading.Event,
        outcome: list[HotstageError],
    ) -> None:
        link = Link(self._address, self._object_id, timeout_s=TTL_S)
        try:
            asked = time.monotonic()
            granted = link.call("lease_acquire", commander, timeout_s=2 * TTL_S)
            with self._lock:
                self._token, self._ttl_s = str(granted["token"]), float(granted["ttl_s"])
                self._problem, self._last_beat = "", asked
            decided.set()
            self._beat_on(link, stop)
            if stop.is_set():
                self._give_back(link)
        except HotstageError as error:
            outcome.append(error)
            self._lost(f"control was not given: {error}")
        finally:
            decided.set()
            link.close()

    def _beat_on(self, link: Link, stop: threading.Event) -> None:
        while not stop.wait(self._beat_s):
            asked = time.monotonic()
            try:
                link.call("lease_beat", self._token)
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
                    self._last_beat = asked

    def _give_back(self, link: Link) -> None:
        try:
            link.call("lease_release", self._token)
        except HotstageError as error:
            logger.warning("control could not be given back and will lapse: %s", error)
        self._lost("control was given back")

    def _lost(self, problem: str) -> None:
        logger.info("%s", problem)
        with self._lock:
            self._problem = problem
