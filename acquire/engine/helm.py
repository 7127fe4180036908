"""Which of a host's clients commands it: one at a time, any number look.

Not to be confused with the lease of the instrument server (:mod:`acquire.remote.lease`), by which
one program commands the instruments: here several windows and scripts share the one program that
does, the engine host.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from acquire.errors import LeaseError

logger = logging.getLogger(__name__)

TTL_S = 5.0
"""Wall seconds without a sign of life after which control is free again."""
LOOK_EVERY_S = 0.5


class Helm:
    """Control of an engine host; any thread may call.

    The first that commands takes control, and keeps it while it gives signs of life. Who is gone, or
    silent for :data:`TTL_S`, has lost it. Another takes it explicitly, never by the way.

    Args:
        release: ends safely what the client in control has in hand, for a reason; it is called
            before anybody else has control. A run is no such thing: it goes on.
        tell: is told every change in words.
    """

    def __init__(self, release: Callable[[str], None], tell: Callable[[str], None]) -> None:
        self._release = release
        self._tell = tell
        self._turn = threading.RLock()
        """Held while control changes, and while a command is carried out that needs it."""
        self._state = threading.Lock()
        self._name = ""
        self._connection = 0
        self._beat_s = 0.0
        self._seen: dict[str, tuple[float, int]] = {}
        """When every client gave its last sign of life, and on which connection."""
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="helm", daemon=True).start()

    @property
    def name(self) -> str:
        """Who has control; empty if nobody has."""
        return self._name

    @property
    def attended(self) -> tuple[str, ...]:
        """Everybody who gave a sign of life lately, whether in control or not."""
        with self._state:
            return tuple(sorted(self._seen))

    @contextmanager
    def commanding(self, who: str) -> Iterator[None]:
        """Context of a command, during which control stays where it is; takes control if it is free.

        Raises:
            LeaseError: another client has it.
        """
        with self._turn:
            if self._name != who:
                if self._name:
                    raise LeaseError(
                        f"refused: {self._name} is in control. Take control first, or ask there."
                    )
                self._give_to(who)
                self._tell(f"{who} is in control")
            self._beat_s = time.monotonic()
            yield

    def attend(self, who: str, connection: int) -> bool:
        """A sign of life; whether ``who`` has control, which the end of this connection now ends."""
        now_s = time.monotonic()
        with self._state:
            self._seen[who] = now_s, connection
            if who != self._name:
                return False
            self._connection, self._beat_s = connection, now_s
            return True

    def take(self, who: str) -> None:
        """Give control to ``who``, also if another has it: what that one has in hand is ended first."""
        with self._turn:
            before = self._name
            if before and before != who:
                self._release(f"{who} took control")
            self._give_to(who)
            if before != who:
                self._tell(f"{who} took control" + (f" from {before}" if before else ""))

    def give(self, who: str) -> None:
        """Give control back; what is in hand is ended. Nothing happens if ``who`` has it not."""
        self._free(lambda: who == self._name, f"{who} gave control back")

    def gone(self, connection: int) -> None:
        """A connection ended: if it was the one that kept control alive, control is free at once."""
        self._forget(lambda _, seen_on: seen_on == connection)
        self._free(
            lambda: self._connection == connection and connection != 0,
            f"{self._name} is gone, control is free",
        )

    def close(self) -> None:
        """Watch no more."""
        self._stop.set()

    def _give_to(self, who: str) -> None:
        with self._state:
            self._name, self._connection, self._beat_s = who, 0, time.monotonic()

    def _free(self, applies: Callable[[], bool], words: str) -> None:
        if not self._name or not applies():
            return
        with self._turn:
            if not self._name or not applies():
                return
            self._release(words)
            with self._state:
                self._name, self._connection = "", 0
            self._tell(words)

    def _forget(self, gone: Callable[[float, int], bool]) -> None:
        with self._state:
            self._seen = {who: seen for who, seen in self._seen.items() if not gone(*seen)}

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self._forget(lambda seen_s, _: time.monotonic() - seen_s > TTL_S)
                self._free(
                    lambda: time.monotonic() - self._beat_s > TTL_S,
                    f"{self._name} gave no sign of life for {TTL_S:g} s, control is free",
                )
            except Exception:
                logger.exception("while control of the host was watched")
