"""Control of a heater and a beam as a lease: one commander at a time, and safe when it falls silent.

All of it runs in wall time from threads of its own, whatever the station's clock does.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from acquire.errors import EmergencyOff, LeaseError

logger = logging.getLogger(__name__)

TTL_S = 2.0
UNNAMED = "an unnamed program"
_NEVER = "nobody has taken control yet"


@dataclass(frozen=True, slots=True)
class _Wish:
    """Somebody who has asked for control, and the token that would be theirs."""

    token: str
    name: str
    connection: int


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
        self._wish: _Wish | None = None
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
                    f"control refused: {self._commander} has it. Ask there to hand it over, or end "
                    f"that program; it lapses {self.ttl_s:g} s after its last sign of life."
                )
            self._give(_Wish(secrets.token_hex(16), commander or UNNAMED, connection))
            logger.info("%s has control", self._commander)
            return self._token

    def request(self, commander: str, connection: int) -> str:
        """Ask who has control to hand it over; returns what the token will be if they do.

        A later request replaces an earlier one. Raises LeaseError if nobody has control: take it.
        """
        with self._changed:
            if not self._token:
                raise LeaseError("nobody has control; take it.")
            self._wish = _Wish(secrets.token_hex(16), commander or UNNAMED, connection)
            logger.info("%s asks %s for control", self._wish.name, self._commander)
            return self._wish.token

    def granted(self, token: str) -> bool:
        """Whether what was asked for is in force; LeaseError when it cannot come true any more."""
        with self._changed:
            if self._token and token == self._token:
                return True
            if self._wish is not None and token == self._wish.token and self._token:
                return False
            raise LeaseError("control was not handed over. Ask again, or take it if it is free.")

    def hand_over(self, token: str, to: str = "") -> str:
        """Give control to who asked last, without making safe in between; returns their name.

        From now on it lapses like any other: a new commander who is gone leaves all safe.

        Args:
            token: of who has it.
            to: who is meant to get it; empty for whoever asked last.

        Raises:
            LeaseError: it is not yours to give, or nobody asks, or not who is meant.
        """
        with self._changed:
            self._require(token)
            if self._wish is None:
                raise LeaseError("control cannot be handed over: nobody asks for it.")
            if to and to != self._wish.name:
                raise LeaseError(
                    f"control was not handed over: {self._wish.name} asks for it now, not {to}."
                )
            before, heir = self._commander, self._wish
            self._ended, self._refusal = f"{before} handed control to {heir.name}", LeaseError
            self._give(heir)
        logger.warning("%s handed control over to %s", before, heir.name)
        return heir.name

    @property
    def asked_by(self) -> str:
        """Who asks for control; empty if nobody does."""
        with self._changed:
            return "" if self._wish is None else self._wish.name

    def _give(self, to: _Wish) -> None:
        self._token, self._commander, self._connection = to.token, to.name, to.connection
        self._deadline = time.monotonic() + self.ttl_s
        self._wish = None
        self._changed.notify_all()

    def beat(self, token: str, connection: int) -> str:
        """Keep control alive; from now on the end of this connection ends it.

        Returns who asks for control; empty if nobody does. Raises LeaseError.
        """
        with self._changed:
            self._require(token)
            self._connection = connection
            self._deadline = time.monotonic() + self.ttl_s
            return "" if self._wish is None else self._wish.name

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
        """End control if the connection that ended is the one that keeps it alive; or a request for it."""
        with self._changed:
            if self._wish is not None and self._wish.connection == connection:
                self._wish = None
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
            self._wish = None
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
