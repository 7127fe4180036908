"""Listens in between a client and a server, so that what the client says can be said again, right or wrong."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field

from acquire.remote.listening import listen_on

LONGEST_CONVERSATION = 1 << 18
"""Bytes of a client that are kept; what it says later is like what it said before."""
MOST_CONVERSATIONS = 32
MOST_STEPS = 8
ANSWER_S = 5.0
"""Wall seconds for one answer; who has none then is taken for dead."""
_CHUNK = 1 << 16
_NUMBERED = re.compile(
    r"^(?P<before>(?:[a-z0-9+.]+://)?)(?P<host>[^/]*):(?P<port>\d+)(?P<rest>/.*)?$"
)


def place_of(address: str) -> tuple[str, int]:
    """Host and number in an address of any protocol; raises ValueError if there is no number."""
    found = _NUMBERED.match(address)
    if found is None:
        raise ValueError(f"{address!r} has no port.")
    return found["host"].strip("[]"), int(found["port"])


@dataclass
class Step:
    """What a client sent, and how many bytes came back at first."""

    sent: bytes
    answered: int = 0


@dataclass
class Conversation:
    """What one connection carried."""

    steps: list[Step] = field(default_factory=list)
    size: int = 0

    def said(self, data: bytes) -> None:
        """Note what the client sent."""
        if self.size > LONGEST_CONVERSATION:
            return
        self.size += len(data)
        if self.steps and not self.steps[-1].answered:
            self.steps[-1].sent += data
        else:
            self.steps.append(Step(data))

    def answered(self, count: int) -> None:
        """Note what came back."""
        if self.steps and not self.steps[-1].answered:
            self.steps[-1].answered = count


class Tap:
    """Passes bytes to and from an address, and keeps what the client said.

    Args:
        target: in any form that has ``HOST:PORT`` in it.

    Raises:
        ValueError: it has not.
    """

    def __init__(self, target: str) -> None:
        self._target = place_of(target)
        self._listener = listen_on("127.0.0.1", 0)
        number = self._listener.getsockname()[1]
        found = _NUMBERED.match(target)
        before, rest = (found["before"], found["rest"] or "") if found else ("", "")
        self.address = f"{before}127.0.0.1:{number}{rest}"
        """What a client is given instead."""
        self.conversations: list[Conversation] = []
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._start(self._accept)

    def close(self) -> None:
        """End all connections; what was heard stays."""
        self._closed.set()
        for end in self._ends:
            with contextlib.suppress(OSError):  # it is gone already
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(2.0)
        self._listener.close()
        for end in self._ends:
            end.close()

    def _start(self, job: object, *arguments: object) -> None:
        thread = threading.Thread(target=job, args=arguments, name="tap", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=ANSWER_S)
            except OSError:
                near.close()
                continue
            heard = Conversation()
            if len(self.conversations) < MOST_CONVERSATIONS:
                self.conversations.append(heard)
            self._ends += (near, far)
            for one in (near, far):
                one.settimeout(None)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(self._pass_questions, near, far, heard)
            self._start(self._pass_answers, far, near, heard)

    def _pass_questions(self, near: socket.socket, far: socket.socket, heard: Conversation) -> None:
        with contextlib.suppress(OSError):  # one of the two has ended
            while data := near.recv(_CHUNK):
                heard.said(data)
                far.sendall(data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    def _pass_answers(self, far: socket.socket, near: socket.socket, heard: Conversation) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(_CHUNK):
                heard.answered(len(data))
                near.sendall(data)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)


def ask(place: tuple[str, int], steps: list[Step], answer_s: float = ANSWER_S) -> float:
    """Say the same again on a new connection, each step when the one before was answered.

    An answer may be shorter than it was, by half: numbers in it change.

    Returns:
        The longest wall seconds until one answer; connecting counts with the first.

    Raises:
        OSError: there was no such answer in time.
    """
    asked, longest_s = time.monotonic(), 0.0
    with socket.create_connection(place, timeout=answer_s) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        came = before = 0
        for step in steps:
            sock.sendall(step.sent)
            wanted = before + max(1, step.answered // 2) if step.answered else before
            while came < wanted:
                piece = sock.recv(_CHUNK)
                if not piece:
                    raise ConnectionResetError("the connection was ended without an answer")
                came += len(piece)
            before += step.answered
            now = time.monotonic()
            longest_s, asked = max(longest_s, now - asked), now
        return longest_s


def probe_of(place: tuple[str, int], conversations: list[Conversation]) -> list[Step]:
    """The longest beginning of a conversation that has the same answers each time it is said; may be empty."""
    best: list[Step] = []
    for conversation in conversations:
        steps = [step for step in conversation.steps[:MOST_STEPS] if step.answered]
        if steps != conversation.steps[: len(steps)]:
            steps = []
        while len(steps) > len(best):
            try:
                for _ in range(2):
                    ask(place, steps)
            except OSError:
                steps = steps[:-1]
            else:
                best = steps
    return best
