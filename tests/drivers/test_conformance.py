"""The conformance checks pass on sound instruments and catch broken ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from acquire.clock import Clock, Signal, VirtualClock, WallClock
from acquire.instruments import Frame, HolderReading, RampRequest, ScanExposure
from acquire.station import Station
from drivers.conformance import check_holder, check_scan, check_spectrometer
from simulators.instruments import SimulatedHolder, SimulatedScan, build

CLOCKS: dict[str, Callable[[], Clock]] = {
    "virtual": VirtualClock,
    "wall": lambda: WallClock(rate=20.0),
}


@pytest.fixture(params=list(CLOCKS))
def clock(request: pytest.FixtureRequest) -> Iterator[Clock]:
    made = CLOCKS[request.param]()
    with made.enrolled("test"):
        yield made


def test_the_simulated_holder_conforms(clock: Clock) -> None:
    check_holder(build(clock, seed=1).instruments["holder"], clock)  # type: ignore[arg-type]


def test_the_simulated_scan_conforms(clock: Clock) -> None:
    check_scan(build(clock, seed=1).instruments["scan"], clock)  # type: ignore[arg-type]


def test_the_simulated_spectrometer_conforms(clock: Clock) -> None:
    check_spectrometer(build(clock, seed=1).instruments["spectrometer"], clock)  # type: ignore[arg-type]


@pytest.mark.parametrize("draft", [False, True])
def test_the_instruments_of_the_default_station_conform(draft: bool) -> None:
    clock = VirtualClock()
    with clock.enrolled("test"), Station.load("simulated").open(clock, draft=draft) as station:
        assert station.spectrometer is not None
        check_holder(station.holder, clock)
        check_scan(station.scan, clock)
        check_spectrometer(station.spectrometer, clock)


class NeverOff(SimulatedHolder):
    def make_safe(self, reason: str) -> None:
        self.hold()


class NeverFreezes(SimulatedHolder):
    def hold(self) -> None:
        pass


class Obedient(SimulatedHolder):
    def check(self, request: RampRequest) -> None:
        pass


class Blocking(SimulatedHolder):
    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        super().ramp(target_celsius, rate_celsius_per_s)
        self._clock.sleep(3.0)


class Liar(SimulatedHolder):
    def read(self) -> HolderReading:
        reading = super().read()
        return replace(reading, measured_celsius=0.9 * reading.setpoint_celsius)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (NeverOff, "not to making_safe"),
        (NeverFreezes, "after hold"),
        (Obedient, "must raise LimitError"),
        (Blocking, "must return at once"),
        (Liar, "are measured"),
    ],
)
def test_a_broken_holder_is_caught(broken: type[SimulatedHolder], complaint: str) -> None:
    clock = VirtualClock()
    with clock.enrolled("test"):
        holder = broken(build(clock, seed=1).chip, clock)
        with pytest.raises(AssertionError, match=complaint):
            check_holder(holder, clock)


class Deaf(SimulatedScan):
    def frames(self, stop: Signal) -> Iterator[Frame]:
        return super().frames(self._world.clock.signal())


class Lossy(SimulatedScan):
    def frames(self, stop: Signal) -> Iterator[Frame]:
        for k, frame in enumerate(super().frames(stop)):
            if k != 1:
                yield frame


class Unblankable(SimulatedScan):
    def blank(self, blanked: bool) -> None:
        pass


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Lossy, "3 frames were armed, 2 came"),
        (Unblankable, "had no effect"),
    ],
)
def test_a_broken_scan_is_caught(broken: type[SimulatedScan], complaint: str) -> None:
    clock = VirtualClock()
    with clock.enrolled("test"):
        scan = broken(build(clock, seed=1)._world)
        with pytest.raises(AssertionError, match=complaint):
            check_scan(scan, clock)


def test_a_scan_that_does_not_hear_stop_is_caught() -> None:
    clock = VirtualClock()
    with clock.enrolled("test"):
        scan = Deaf(build(clock, seed=1, draft=True)._world)
        exposure = ScanExposure(("haadf",), (64, 64), 20.0, 1e-6)

        def disarm_late() -> None:
            clock.sleep(100.0)  # else the endless acquisition would never end
            scan.disarm()

        clock.spawn(disarm_late, "late")
        with pytest.raises(AssertionError, match="must yield nothing"):
            check_scan(scan, clock, exposure)
