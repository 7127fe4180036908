"""How soon a heater is safe when its commander is killed, stopped, frozen or cut off; and that it is not otherwise."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from acquire.bench.transport_child import Served
from acquire.bench.transport_commander import FREEZE, HEAT
from acquire.bench.transport_source import BenchHolder, exposure, open_bench
from acquire.errors import HotstageError
from acquire.instruments import SpectrumExposure
from acquire.remote.launch import attach
from acquire.remote.lease import TTL_S
from acquire.remote.listening import listen_on
from acquire.remote.server import InstrumentServer

MARGIN_S = 0.3
KILL, STOP, CUT, FROZEN = "kill -9", "SIGSTOP", "cut network", "frozen client"
WAYS = (KILL, STOP, CUT, FROZEN) if hasattr(signal, "SIGSTOP") else (KILL, CUT, FROZEN)
AT_ONCE = 4
"""Commanders that are treated at the same time, each with a server of its own."""
STREAM_PERIOD_S = 0.1


class Cuttable(Protocol):
    """A way between a client and a server."""

    def cut(self) -> None:
        """From now on nothing passes."""


class Cable:
    """A network between a client and a server, which goes silent when it is cut: nothing is closed."""

    def __init__(self, to: str) -> None:
        host, _, port = to.rpartition(":")
        self._to = (host, int(port))
        self._listener = listen_on("127.0.0.1", 0)
        self.address = "{}:{}".format(*self._listener.getsockname()[:2])
        self._cut = threading.Event()
        self._closed = threading.Event()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, name="cable", daemon=True).start()

    def cut(self) -> None:
        """From now on nothing passes."""
        self._cut.set()

    def close(self) -> None:
        """End all connections."""
        self._closed.set()
        self._listener.close()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            far = socket.create_connection(self._to)
            self._ends += (near, far)
            for one, other in ((near, far), (far, near)):
                one.settimeout(None)
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self._cut.is_set():
                    return
                target.sendall(data)
        except OSError:  # an end was closed
            return


def shares(times: int) -> list[int]:
    """How often each of those that work at the same time does it."""
    return [times // AT_ONCE + (n < times % AT_ONCE) for n in range(AT_ONCE)]


def safe_after(way: str, times: int, seed: int) -> list[float]:
    """Seconds from each mishap until the heater was off."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(
            lambda share, number: _some_mishaps(way, share, Random(f"{seed} {way} {number}")),
            shares(times),
            range(AT_ONCE),
        )
        return list(itertools.chain.from_iterable(found))


def _some_mishaps(way: str, times: int, chance: Random) -> list[float]:
    station = open_bench()
    holder = station.holder
    assert isinstance(holder, BenchHolder)
    server = InstrumentServer(station, "127.0.0.1:0")
    server.start()
    try:
        if way == CUT:
            return [_cut(server, holder, chance) for _ in range(times)]
        if way == KILL:
            return [_killed(server, holder, chance) for _ in range(times)]
        with commander(server.address) as program:
            return [mishap(way, program, None, holder, chance) for _ in range(times)]
    finally:
        server.close()


def _cut(server: InstrumentServer, holder: BenchHolder, chance: Random) -> float:
    with closing(Cable(server.address)) as cable, commander(cable.address) as program:
        return mishap(CUT, program, cable, holder, chance)


def _killed(server: InstrumentServer, holder: BenchHolder, chance: Random) -> float:
    with commander(server.address) as program:
        return mishap(KILL, program, None, holder, chance)


def mishap(
    way: str,
    program: subprocess.Popen[str],
    cable: Cuttable | None,
    holder: BenchHolder,
    chance: Random,
) -> float:
    """Seconds from one mishap of a program that commands until the heater is off; infinity if it stays on."""
    _tell(program, HEAT)
    assert program.stdout is not None
    if program.stdout.readline() != "commanding\n":
        raise HotstageError(f"a commander of the bench could not command: {_last_words(program)}")
    commanded = time.monotonic()
    time.sleep(chance.uniform(0.0, 0.6))  # anywhere between two beats
    if holder.safe_at > commanded:
        raise HotstageError("the heater was made safe too early.")
    began = time.monotonic()
    _strike(way, program, cable)
    while holder.safe_at < began:
        if time.monotonic() - began > 10 * TTL_S:
            return float("inf")
        time.sleep(0.001)
    took_s = holder.safe_at - began
    if way == STOP:
        program.send_signal(signal.SIGCONT)
    return took_s


def _strike(way: str, program: subprocess.Popen[str], cable: Cuttable | None) -> None:
    if way == KILL:
        program.kill()
    elif way == STOP:
        os.kill(program.pid, signal.SIGSTOP)
    elif way == FROZEN:
        _tell(program, FREEZE)
    elif cable is not None:
        cable.cut()


def _last_words(program: subprocess.Popen[str]) -> str:
    program.kill()
    said = program.stderr.read().strip().splitlines() if program.stderr else []
    return said[-1] if said else "it said nothing."


def _tell(program: subprocess.Popen[str], word: str) -> None:
    if program.stdin is not None:
        program.stdin.write(word + "\n")
        program.stdin.flush()


@contextmanager
def commander(
    address: str, before: Sequence[str] = (), keys: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program that commands the server at an address; ``before`` is what runs it."""
    arguments = [address] if keys is None else [address, str(keys)]
    process = subprocess.Popen(
        [*before, sys.executable, "-P", "-m", "acquire.bench.transport_commander", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@dataclass
class Soaked:
    """What happened while four large streams ran under one lease."""

    seconds: float = 0.0
    trips: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """Of each stream: two recorded, two watched."""
    longest_silence_s: float = 0.0
    """Of the recorded streams."""


def soak(served: Served, seconds: float, tell: Callable[[float], None]) -> Soaked:
    """Record two streams of 2048² and watch two others for so long; control must never lapse."""
    soaked, stop = Soaked(), threading.Event()
    with attach(served.address) as station, attach(served.address) as viewer:
        control, scan, spectrometer = station.control, station.scan, station.spectrometer
        assert spectrometer is not None
        control.take("hotstage bench")
        scan.arm(exposure(2048, STREAM_PERIOD_S))
        spectrometer.arm(SpectrumExposure(STREAM_PERIOD_S))
        ends = station.clock.signal()

        def record(number: int, source: object) -> None:
            last = time.monotonic()
            try:
                for frame in source.frames(ends):  # type: ignore[attr-defined]
                    soaked.frames[number] += 1
                    now = time.monotonic()
                    soaked.longest_silence_s = max(soaked.longest_silence_s, now - last)
                    last = now
                    del frame
            except HotstageError as error:
                soaked.trips.append(str(error))

        def watch(number: int, source: object) -> None:
            serial = 0
            try:
                while not stop.is_set():
                    serial, frame, _ = source.latest(serial, 0.5)  # type: ignore[attr-defined]
                    soaked.frames[number] += frame is not None
            except HotstageError as error:
                soaked.trips.append(str(error))

        jobs = [
            (record, scan),
            (record, spectrometer),
            (watch, viewer.scan),
            (watch, viewer.spectrometer),
        ]
        threads = [
            threading.Thread(target=job, args=(number, source), name=f"soak-{number}")
            for number, (job, source) in enumerate(jobs)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while soaked.seconds < seconds and not soaked.trips:
            if problem := control.problem():
                soaked.trips.append(problem)
            tell(soaked.seconds)
            time.sleep(0.1)
            soaked.seconds = time.monotonic() - began
        stop.set()
        ends.set()
        for thread in threads:
            thread.join(10.0)
        scan.disarm()
        spectrometer.disarm()
    return soaked
