"""Showers any server with malformed messages while another client asks it something, and watches its memory."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import psutil

from acquire.bench.transport_mutations import malformed
from acquire.bench.transport_tap import ANSWER_S, Conversation, Step, ask, probe_of

DRAIN_S = 0.02
"""Wall seconds in which an answer to nonsense is waited for."""
ASK_EVERY_S = 0.01
LOOK_EVERY = 20
"""Messages between two looks at the memory."""
BETWEEN = 4
"""Messages between two questions to a server that knows but one client."""
QUESTION_S = 10.0
"""Wall seconds after which a question counts as never answered."""


@dataclass
class Endured:
    """What malformed messages did to a server."""

    messages: int = 0
    grown_bytes: int = 0
    """Most that its memory had grown by, also in between."""
    worst_delay_s: float = 0.0
    """Of what another client asked meanwhile; infinity if it was not answered."""
    calm_delay_s: float = 0.0
    """The longest before."""
    questions: int = 0
    alive: bool = True
    problem: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Port:
    """One port of a server, and what clients were heard to say there."""

    name: str
    place: tuple[str, int]
    conversations: list[Conversation]
    probe: list[Step] = field(default_factory=list)
    alone: bool = False
    """Whether a new client ends the connection of the one before, by the protocol."""

    def prepare(self) -> None:
        """Find what another client can ask, and whether it is the only one."""
        self.probe = probe_of(self.place, self.conversations)
        self.alone = _is_alone(self.place)

    @property
    def samples(self) -> list[bytes]:
        """Everything that was said there."""
        return [step.sent for one in self.conversations for step in one.steps if step.sent]


def _is_alone(place: tuple[str, int]) -> bool:
    with socket.create_connection(place, timeout=ANSWER_S) as first:
        first.settimeout(0.3)
        with socket.create_connection(place, timeout=ANSWER_S):
            try:
                while first.recv(4096):  # some greet
                    pass
            except TimeoutError:
                return False
            except OSError:
                return True
            return True


def endure(
    ports: Sequence[Port], pid: int, messages: int, chance: Random, *, family: bool = True
) -> Endured:
    """Send so many malformed messages to the ports in turn, each on a connection of its own.

    Args:
        ports: prepared.
        pid: of the server.
        messages: altogether; a tenth more come before memory is looked at for the first time.
        chance: decides what is sent.
        family: whether the memory of its children counts, too.
    """
    found = Endured()
    for port in ports:
        if port.probe:
            found.calm_delay_s = max(
                [found.calm_delay_s, *(ask(port.place, port.probe) for _ in range(3))]
            )
        else:
            found.notes.append(f"{port.name}: nothing was heard there that has an answer")
    # what the first ones cost once does not count
    for _ in _shower(ports, max(20, messages // 10), chance):
        pass
    before = memory_of(pid, family=family)
    with _asking([port for port in ports if port.probe and not port.alone], found):
        for number, port in _shower(ports, messages, chance):
            found.messages += 1
            if port.probe and port.alone and number % BETWEEN == 0:
                _question(port, found)
            if number % LOOK_EVERY == 0 or number == messages - 1:
                found.grown_bytes = max(found.grown_bytes, memory_of(pid, family=family) - before)
    return found


def _shower(ports: Sequence[Port], messages: int, chance: Random) -> Iterator[tuple[int, Port]]:
    samples = [port.samples for port in ports]
    everything = [sample for own in samples for sample in own]
    for number in range(messages):
        port = ports[number % len(ports)]
        with contextlib.suppress(OSError):  # it ends the connection, as it may
            with socket.create_connection(port.place, timeout=0.25) as sock:
                for piece in _pieces(port, everything, chance):
                    sock.sendall(piece)
                if chance.random() < 0.7:
                    sock.shutdown(socket.SHUT_WR)
                    _drain(sock)
        yield number, port


def _pieces(port: Port, others: Sequence[bytes], chance: Random) -> list[bytes]:
    """The beginning of a conversation, and something malformed where it would go on."""
    heard = [one for one in port.conversations if one.steps]
    if not heard:
        sample = chance.choice(others) if others and chance.random() < 0.5 else b""
        return [malformed(chance, sample, others)]
    steps = chance.choice(heard).steps
    good = chance.randrange(min(len(steps), 24))
    wrong = malformed(chance, steps[good].sent, others)
    # one write or several: a far end must not depend on how bytes come
    if chance.random() < 0.2 and len(wrong) > 1:
        middle = chance.randrange(1, len(wrong))
        return [*(step.sent for step in steps[:good]), wrong[:middle], wrong[middle:]]
    return [b"".join(step.sent for step in steps[:good]) + wrong]


def _drain(sock: socket.socket) -> None:
    sock.settimeout(DRAIN_S)
    give_up = time.monotonic() + 5 * DRAIN_S
    while sock.recv(1 << 16) and time.monotonic() < give_up:
        pass


@contextmanager
def _asking(ports: Sequence[Port], found: Endured) -> Iterator[None]:
    """Another client, which asks again and again from a thread of its own."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            for port in ports:
                _question(port, found)
            stop.wait(ASK_EVERY_S)

    thread = threading.Thread(target=go_on, name="another client", daemon=True)
    if ports:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if ports:
            thread.join(2 * QUESTION_S)
        if thread.is_alive():
            found.worst_delay_s, found.problem = float("inf"), "another client still waits"


def _question(port: Port, found: Endured) -> None:
    """Ask until there is an answer: a connection that was ended is no reason to give up."""
    began, cause = time.monotonic(), ""
    found.questions += 1
    while (waited_s := time.monotonic() - began) < QUESTION_S:
        try:
            longest_s = ask(port.place, port.probe, QUESTION_S - waited_s)
        except OSError as error:
            cause = str(error)
            time.sleep(0.001)
            continue
        # what it lost with connections that were ended counts as well
        found.worst_delay_s = max(found.worst_delay_s, waited_s + longest_s)
        return
    found.worst_delay_s = float("inf")
    found.problem = found.problem or f"{port.name} did not answer another client: {cause}"


def memory_of(pid: int, *, family: bool = True) -> int:
    """Bytes that a process, perhaps with its children, holds; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        counted = [process, *(process.children(recursive=True) if family else ())]
    except psutil.NoSuchProcess:
        return 0
    held = 0
    for each in counted:
        with contextlib.suppress(psutil.NoSuchProcess):
            held += int(each.memory_info().rss)
    return held
