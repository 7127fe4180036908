"""Kills and freezes instrument servers under their supervisors, and looks at the far end when the heater is off."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import Random

import psutil

from acquire.clock import WallClock
from acquire.errors import FaultError, HotstageError
from acquire.farends import FarEnds, resolve
from acquire.instruments import HeatingHolder, HolderState
from acquire.remote.child import Child, facts
from acquire.remote.launch import attach
from acquire.remote.supervisor import CRASHES
from acquire.station import OpenStation, Station
from acquire.station.station import installed

SAFE_S = 3.0
HOT_CELSIUS, COLD_CELSIUS = 80.0, 35.0
"""A simulated chip that is not heated is cold within milliseconds."""
TARGET_CELSIUS, RATE_CELSIUS_PER_S = 200.0, 100.0
START_S, HEAT_S, GIVE_UP_S = 60.0, 20.0, 20.0
AT_ONCE = 2
KILL, STOP = "kill -9", "SIGSTOP"
WAYS = (KILL, STOP) if hasattr(signal, "SIGSTOP") else (KILL,)


@dataclass
class Deaths:
    """What came of the servers of one supervisor, one after the other."""

    station: str
    safe_s: list[float] = field(default_factory=list)
    """From each death until the heater was off at the far end; infinity if it never was."""
    returned_s: list[float] = field(default_factory=list)
    """Until a new server answered at the same address, with the heater off."""
    latched: bool | None = None
    """After a crash loop: whether it stays down and tells why; None if it did not come to that."""
    problems: list[str] = field(default_factory=list)


def stations() -> list[Station]:
    """An installed station for every kind of holder on a wire."""
    found: dict[str, Station] = {}
    for name in sorted(installed()):
        station = Station.load(name)
        if station.file.wires:
            found.setdefault(station.file.holder.driver, station)
    return list(found.values())


def deaths(way: str, times: int, seed: int) -> list[Deaths]:
    """At least so many deaths, spread over stations and supervisors, each of which sees a crash loop."""
    rounds = -(-times // CRASHES)
    chosen = list(itertools.islice(itertools.cycle(stations()), rounds))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [
            pool.submit(_crash_loop, way, station, Random(f"{seed} {way} {number}"))
            for number, station in enumerate(chosen)
        ]
        return [job.result() for job in jobs]


def _crash_loop(way: str, station: Station, chance: Random) -> Deaths:
    found = Deaths(station.name)
    clock = WallClock()
    far_ends = station.start_far_ends(clock)
    try:
        with _supervised(_on_devices(station, far_ends)) as (supervisor, address):
            for number in range(CRASHES):
                struck = _heat_and_strike(way, supervisor, address, far_ends, chance, found)
                if number < CRASHES - 1:
                    _await_return(address, struck, found)
            found.latched = _is_latched(address) and _celsius(far_ends) < COLD_CELSIUS
    except (HotstageError, psutil.Error) as error:
        found.problems.append(str(error))
    finally:
        far_ends.close()
    return found


def _on_devices(station: Station, far_ends: FarEnds) -> Station:
    """The station as it is written for real devices, at the addresses of far ends that run here.

    What simulates outlives the server and its supervisor, as a device does.
    """
    lines: list[str] = []
    simulated = False
    for line in station.text.splitlines():
        if line.startswith("["):
            simulated = line.startswith(("[simulation", "[wires"))
        if not simulated:
            lines.append(line)
    text = "\n".join(lines)
    # the longest first: @camera.stream2 begins like @camera.stream
    for reference in sorted(far_ends.addresses, key=len, reverse=True):
        text = text.replace(f'"@{reference}"', f'"{far_ends.addresses[reference]}"')
    made = Station.parse(text, station.source)
    if made.file.wires or made.simulated:
        raise HotstageError(f"station {station.name} cannot be put on devices by this bench.")
    for role, settings in made.settings.items():
        for name, value in settings.options.items():
            resolve(value, {}, f"{role}.{name}")
    return made


@contextmanager
def _supervised(station: Station) -> Iterator[tuple[Child, str]]:
    supervisor = Child(["supervise", "--linger", "0.5"], "the supervisor", end_s=30.0)
    try:
        supervisor.tell(facts(station))
        yield supervisor, str(supervisor.ready(START_S)["address"])
    finally:
        supervisor.close()


def _heat_and_strike(
    way: str,
    supervisor: Child,
    address: str,
    far_ends: FarEnds,
    chance: Random,
    found: Deaths,
) -> float:
    """Heat, strike the server, and note when the heater was off; returns when it was struck."""
    opened = _attached(address)
    try:
        opened.control.take("hotstage bench")
        opened.holder.ramp(TARGET_CELSIUS, RATE_CELSIUS_PER_S)
        if not _until(lambda: _celsius(far_ends) > HOT_CELSIUS, HEAT_S):
            raise HotstageError(f"station {found.station} does not heat.")
        time.sleep(chance.uniform(0.0, 0.5))
        struck = time.monotonic()
        _strike(way, _server_below(supervisor.pid))
        off = _until(lambda: _celsius(far_ends) < COLD_CELSIUS, GIVE_UP_S)
        found.safe_s.append(time.monotonic() - struck if off else float("inf"))
        return struck
    finally:
        with suppress(HotstageError):  # its server is gone, which is the point
            opened.control.release()
        with suppress(HotstageError):
            opened.close()


def _await_return(address: str, struck: float, found: Deaths) -> None:
    with _attached(address) as again:
        found.returned_s.append(time.monotonic() - struck)
        if (state := again.holder.read().state) is not HolderState.OFF:
            found.problems.append(f"the new server of {found.station} began with {state}")


def _server_below(pid: int) -> int:
    found = [p.pid for p in psutil.Process(pid).children(recursive=True) if "serve" in p.cmdline()]
    if len(found) != 1:
        raise HotstageError(f"{len(found)} servers run below supervisor {pid}.")
    return found[0]


def _strike(way: str, pid: int) -> None:
    if way == STOP:
        os.kill(pid, signal.SIGSTOP)
    else:
        psutil.Process(pid).kill()


def _attached(address: str) -> OpenStation:
    """A handle on the server at an address, also if it is just being started again."""
    give_up = time.monotonic() + START_S
    while True:
        try:
            return attach(address)
        except FaultError:
            raise
        except HotstageError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def _is_latched(address: str) -> bool:
    give_up = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up:
        try:
            attach(address).close()
        except FaultError:
            return True
        except HotstageError:  # nobody answers yet
            time.sleep(0.05)
        else:
            return False
    return False


def _celsius(far_ends: FarEnds) -> float:
    """As the device itself has it."""
    holder = far_ends.simulation.instruments["holder"]
    if not isinstance(holder, HeatingHolder):
        raise HotstageError("the simulation has no holder.")
    return holder.read().measured_celsius


def _until(reached: Callable[[], bool], within_s: float) -> bool:
    give_up, pause = time.monotonic() + within_s, threading.Event()
    while not reached():
        if time.monotonic() > give_up:
            return False
        pause.wait(0.005)
    return True
