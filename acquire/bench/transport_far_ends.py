"""Malformed messages to every far end of the installed stations, each in a process of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from acquire.bench.transport_shower import Endured, Port, endure
from acquire.bench.transport_tap import Tap, place_of
from acquire.clock import Clock
from acquire.errors import ConfigError, HotstageError
from acquire.farends import REFERENCE
from acquire.instruments import (
    Channel,
    HeatingHolder,
    HolderState,
    Instrument,
    Scan,
    ScanExposure,
    Spectrometer,
    SpectrometerSetting,
    SpectrumExposure,
)
from acquire.remote.child import Child, facts
from acquire.station import Station
from acquire.station.station import installed

START_S = 60.0
WARM_S = 60.0
"""Wall seconds in which its drivers must be able to use it at first."""
AGAIN_S = 20.0
"""Wall seconds in which the drivers must be able to use a far end again."""
WARM_CELSIUS, RATE_CELSIUS_PER_S = 60.0, 20.0
UNEXPECTED = "Traceback"
"""In what a far end logs as an error: it has ended a connection because of a fault of its own."""
SETTING = SpectrometerSetting(400.0, 0.1, 2000, dual=True)


@dataclass(frozen=True)
class FarEndOnTrial:
    """A wire of an installed station, and the roles whose drivers talk to it."""

    wire: str
    """Entry point in ``hotstage.wires``."""
    name: str
    """What the station calls it."""
    station: Station
    roles: tuple[str, ...]


def far_ends() -> dict[str, FarEndOnTrial]:
    """One of every kind of far end that installed stations have, by its kind."""
    found: dict[str, FarEndOnTrial] = {}
    for source in sorted(installed()):
        station = Station.load(source)
        for name, wire in station.file.wires.items():
            roles = tuple(
                role
                for role, settings in station.settings.items()
                if any(_refers(value, name) for value in settings.options.values())
            )
            if roles and wire.wire not in found:
                found[wire.wire] = FarEndOnTrial(wire.wire, name, station, roles)
    return found


def _refers(value: Any, name: str) -> bool:
    return isinstance(value, str) and value.startswith(f"{REFERENCE}{name}.")


def try_far_end(trial: FarEndOnTrial, messages: int, seed: int) -> Endured:
    """What so many malformed messages do to a far end.

    First the station's own drivers use it through a tap, so that there are valid messages to be
    spoilt; at the end they must be able to use it again.

    Raises:
        HotstageError: it does not start, or its drivers cannot use it in the first place.
    """
    with _started(trial.station) as (process, addresses):
        if why := _use_within(trial, addresses, WARM_S):
            raise HotstageError(f"its drivers cannot use it in the first place: {why}")
        own = {ref: at for ref, at in addresses.items() if ref.startswith(f"{trial.name}.")}
        heard = _listen(trial, addresses, own)
        ports = [Port(ref, place_of(at), heard[ref]) for ref, at in own.items()]
        for port in ports:
            port.prepare()
        found = endure(ports, process.pid, messages, Random(f"{seed} {trial.wire}"))
        if process.status is not None:
            found.alive = False
            found.problem = f"it ended with status {process.status}: {process.log()[-500:]}"
        elif UNEXPECTED in process.log():
            found.problem = f"it was not prepared for all of them: {process.log()[-500:]}"
        elif why := _use_within(trial, addresses, AGAIN_S):
            found.alive = False
            found.problem = f"its drivers cannot use it any more: {why}"
        return found


def _use_within(trial: FarEndOnTrial, addresses: Mapping[str, str], within_s: float) -> str:
    """Use it as a valid client does, again if need be: why that cannot be done; empty if it can.

    The first image of a process is late, and somebody's control may still have to lapse.
    """
    give_up = time.monotonic() + within_s
    while True:
        try:
            _use(trial, addresses)
        except HotstageError as error:
            if time.monotonic() > give_up:
                return str(error)
            time.sleep(0.5)
        else:
            return ""


@contextmanager
def _started(station: Station) -> Iterator[tuple[Child, Mapping[str, str]]]:
    """The far ends of a station, as ``hotstage simulate`` runs them."""
    process = Child(["simulate"], "the simulator")
    try:
        process.tell(facts(station))
        yield process, process.ready(START_S)["addresses"]
    finally:
        process.close()


def _listen(
    trial: FarEndOnTrial, addresses: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, list[Any]]:
    """What the drivers say at each port of a far end."""
    with ExitStack() as stack:
        taps = {ref: Tap(at) for ref, at in own.items()}
        for tap in taps.values():
            stack.callback(tap.close)
        tapped = {**addresses, **{ref: tap.address for ref, tap in taps.items()}}
        _use(trial, tapped)
        for ref, tap in taps.items():
            if not tap.conversations:
                _use_instead(trial, tapped, ref)
        return {ref: tap.conversations for ref, tap in taps.items()}


def _use_instead(trial: FarEndOnTrial, addresses: Mapping[str, str], ref: str) -> None:
    """Have the drivers use a port that the station does not, in the place of the one that it does.

    Whether they can is no matter here: what they try is heard.
    """
    changed = {
        key: addresses[ref] if key.startswith(f"{trial.name}.") else at
        for key, at in addresses.items()
    }
    # a device with several kinds of port keeps the others
    siblings = [key for key in addresses if key.startswith(f"{trial.name}.") and key != ref]
    alike = [key for key in siblings if re.sub(r"\d+$", "", key) == re.sub(r"\d+$", "", ref)]
    if alike:
        changed = {**addresses, **dict.fromkeys(alike, addresses[ref])}
    try:
        _use(trial, changed)
    except HotstageError:
        return


def _use(trial: FarEndOnTrial, addresses: Mapping[str, str]) -> None:
    """Open the drivers that talk to a far end, and do with each what it is for."""
    clock = trial.station.make_clock()
    for role in trial.roles:
        opener = trial.station.opener(clock, addresses)
        try:
            instrument = opener.open(role)
            try:
                instrument.describe()
                _exercise(instrument, clock)
            finally:
                close = getattr(instrument, "close", None)
                if callable(close):
                    close()
        finally:
            opener.close()


def _exercise(instrument: Instrument, clock: Clock) -> None:
    for kind, exercise in _EXERCISES.items():
        if isinstance(instrument, kind):
            exercise(instrument, clock)
            return
    raise ConfigError(f"{type(instrument).__name__} is no instrument that this bench can use.")


def _heat(holder: HeatingHolder, clock: Clock) -> None:
    holder.ramp(WARM_CELSIUS, RATE_CELSIUS_PER_S)
    for _ in range(5):
        clock.sleep(0.5)
        holder.read()
    holder.hold()
    holder.make_safe("the bench has seen enough")
    give_up = clock.now_s() + 30.0 * clock.rate
    while holder.read().state is not HolderState.OFF:
        if clock.now_s() > give_up:
            raise HotstageError(f"the heater is not off: {holder.read()}")
        clock.sleep(0.1)


def _scan(scan: Scan, clock: Clock) -> None:
    detectors = scan.describe().detectors
    scan.blank(False)
    scan.park(1.0, 1.0)
    scan.arm(ScanExposure(detectors, (64, 64), 40.0, 2e-6), 2)
    _take(scan, clock)
    scan.blank(True)
    scan.blanked()


def _disperse(spectrometer: Spectrometer, clock: Clock) -> None:
    spectrometer.tune(SETTING)
    spectrometer.arm(SpectrumExposure(0.05), 2)
    _take(spectrometer, clock)


def _take(source: Scan | Spectrometer, clock: Clock) -> None:
    if (count := sum(1 for _ in source.frames(clock.signal()))) != 2:
        raise HotstageError(f"{count} frames came, 2 were asked for.")
    source.disarm()


def _look(channel: Channel, clock: Clock) -> None:
    channel.read()


_EXERCISES: dict[type[Any], Callable[[Any, Clock], None]] = {
    HeatingHolder: _heat,
    Scan: _scan,
    Spectrometer: _disperse,
    Channel: _look,
}
