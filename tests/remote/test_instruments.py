"""Instruments behind a server behave as those in this process."""

from __future__ import annotations

import math
import threading
import time
from types import ModuleType
from typing import Any

import pytest

from acquire.errors import (
    ConfigError,
    FaultError,
    InstrumentError,
    LeaseError,
    LimitError,
    LinkError,
)
from acquire.instruments import (
    Channel,
    HeatingHolder,
    HolderReading,
    HolderState,
    RampRequest,
    SafeState,
    Scan,
    Simulation,
    Spectrometer,
    SpectrometerSetting,
    SpectrumExposure,
)
from acquire.remote import InstrumentServer, Link, attach, emergency_off
from acquire.station import OpenStation
from tests.remote.exposures import EXPOSURE


def test_every_method_of_every_protocol_reaches_its_instrument(
    inside: OpenStation, outside: OpenStation
) -> None:
    assert isinstance(outside.holder, HeatingHolder)
    assert isinstance(outside.scan, Scan)
    assert isinstance(outside.spectrometer, Spectrometer)
    assert isinstance(outside.channels["pressure"], Channel)
    assert isinstance(outside.simulation, Simulation)
    for role, instrument in inside.instruments.items():
        assert outside.instruments[role].describe() == instrument.describe()
    outside.control.take("a test")
    outside.holder.check(RampRequest(900, 20))
    outside.holder.ramp(600, 100)
    assert outside.holder.read().state is HolderState.RAMPING
    outside.holder.hold()
    assert outside.holder.read().state is HolderState.HOLDING
    safe = SafeState(20.0, 30.0)
    outside.holder.arm_safe_state(safe)
    assert inside.holder.safe_state == safe
    with pytest.raises(FaultError, match="nothing is latched"):
        outside.holder.clear_fault()
    outside.scan.park(1.5, -2)
    outside.scan.shift(3, 4)
    assert inside.scan.shifts == [(1.5, -2.0), (3.0, 4.0)]
    outside.scan.blank(False)
    assert outside.scan.blanked() is False
    setting = SpectrometerSetting(400.0, 0.1234)
    outside.spectrometer.check(setting)
    assert outside.spectrometer.tune(setting).dispersion_ev == 0.12
    # one that cannot tell refuses nothing beforehand
    outside.spectrometer.check_exposure(setting, SpectrumExposure(0.1))
    values = outside.channels["pressure"].read()
    assert values["column"] == 1e-5
    assert math.isnan(values["gun"])
    outside.make_safe("the end of a test")
    assert inside.holder.made_safe == ["the end of a test"]


def test_a_spectrometer_says_from_afar_what_it_would_not_expose(
    inside: OpenStation, outside: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any, setting: SpectrometerSetting, exposure: SpectrumExposure) -> None:
        raise LimitError(f"{exposure.low_loss_reads} reads at {setting.dispersion_ev} eV refused.")

    monkeypatch.setattr(type(inside.spectrometer), "check_exposure", refuse, raising=False)
    with pytest.raises(LimitError, match=r"^4 reads at 0.1 eV refused.$"):
        outside.spectrometer.check_exposure(
            SpectrometerSetting(400.0, 0.1), SpectrumExposure(0.1, low_loss_reads=4)
        )


def test_times_come_on_the_local_clock(inside: OpenStation, outside: OpenStation) -> None:
    assert outside.relation.uncertainty_s < 0.01
    before = outside.clock.now_s()
    read = outside.holder.read().t_s
    after = outside.clock.now_s()
    slack = outside.relation.uncertainty_s
    assert before - slack <= read <= after + slack
    first, there, last = outside.clock.now_s(), inside.clock.now_s(), outside.clock.now_s()
    offset = outside.relation.offset_s
    assert offset != 0
    assert first - there - slack <= offset <= last - there + slack


def test_the_truth_of_a_simulation_crosses_plainly(outside: OpenStation) -> None:
    simulation = outside.simulation
    assert simulation is not None
    truth = {"count": 3, "particles": [{"id": 1, "x_nm": 0.5}], "drift_nm": [0, 1]}
    assert simulation.truth("scan", 3) == truth
    with pytest.raises(KeyError, match=r"frame 100 of scan is not remembered"):
        simulation.truth("scan", 100)
    assert simulation.describe() == {"simulator": "rig", "seed": 3.0}
    assert simulation.expected() == {"mean_diameter": 3.83}


def test_errors_keep_their_class_and_message(outside: OpenStation) -> None:
    outside.control.take("a test")
    with pytest.raises(LimitError, match=r"^1450 °C is above 1000 °C. Lower the target.$"):
        outside.holder.ramp(1450, 10)
    with pytest.raises(FaultError, match=r"^the heater is off and stays off: open heater.$"):
        outside.holder.ramp(666, 10)
    with pytest.raises(InstrumentError, match="ZeroDivisionError: a bug in a driver"):
        outside.holder.ramp(668, 10)
    with pytest.raises(InstrumentError, match="SystemExit"):
        outside.holder.ramp(667, 10)
    assert outside.holder.read().state is HolderState.OFF


def test_only_the_commander_commands_and_everybody_may_make_safe(
    inside: OpenStation, outside: OpenStation
) -> None:
    setting = SpectrometerSetting(400.0, 0.1)
    assert outside.spectrometer is not None
    commands = [
        lambda: outside.holder.ramp(100, 10),
        outside.holder.hold,
        lambda: outside.holder.arm_safe_state(SafeState()),
        outside.holder.clear_fault,
        lambda: outside.scan.arm(EXPOSURE, 1),
        lambda: outside.scan.park(0, 0),
        lambda: outside.scan.shift(0, 0),
        lambda: outside.scan.blank(False),
        outside.scan.disarm,
        lambda: outside.spectrometer.tune(setting),
        lambda: outside.spectrometer.arm(SpectrumExposure(0.1)),
        outside.spectrometer.disarm,
    ]
    for command in commands:
        with pytest.raises(LeaseError, match="Take control first"):
            command()
    outside.scan.blank(True)
    outside.holder.make_safe("anybody may")
    assert inside.holder.made_safe == ["anybody may"]


def test_nothing_but_the_listed_methods_can_be_reached(
    inside: OpenStation, server: InstrumentServer
) -> None:
    link = Link(server.address, "station")
    for method in (
        "__init__",
        "__class__",
        "_make_all_safe",
        "close",
        "address",
        "clients",
        "start",
    ):
        with pytest.raises(LinkError, match="serves no method"):
            link.call(method)
    for name in ("fault", "secret", "__init__", "_setpoint", "safe_state", "close"):
        with pytest.raises(LinkError, match="offers no method"):
            link.call("invoke", "holder", name, [], "")
    with pytest.raises(LinkError, match="serves no method '__setattr__'"):
        link.call("__setattr__", "secret", 1)
    with pytest.raises(LinkError, match="has no 'laser'"):
        link.call("invoke", "laser", "read", [], "")
    for wrong in ([["900", 20]], [900, 20], [{"target_celsius": 900}], []):
        with pytest.raises(LinkError):
            link.call("invoke", "holder", "check", wrong, "")
    other = Link(server.address, "Pyro.Daemon")
    with pytest.raises(LinkError, match=r"no object 'Pyro.Daemon'"):
        other.call("registered")
    assert inside.holder.secret == "not for the wire"
    link.close()


def test_a_server_that_is_not_there_is_told_clearly_and_soon() -> None:
    start = time.monotonic()
    with pytest.raises(LinkError, match=r"no server answers at 127\.0\.0\.1:9 .*hotstage serve"):
        attach("127.0.0.1:9")
    with pytest.raises(LinkError):
        emergency_off("127.0.0.1:9")
    assert time.monotonic() - start < 3
    with pytest.raises(ConfigError, match=r"beyond this machine.*mutual TLS"):
        attach("192.0.2.1:7746")


def test_a_virtual_clock_and_a_clock_of_another_rate_are_refused(
    rig: ModuleType, server: InstrumentServer
) -> None:
    from acquire.clock import VirtualClock, WallClock

    for clock in (VirtualClock(), WallClock(60)):
        with pytest.raises(ConfigError, match="cannot follow the server"):
            attach(server.address, clock)


def test_a_holder_that_hangs_does_not_keep_an_abandoned_server(
    inside: OpenStation, server: InstrumentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    read = inside.holder.read

    def hanging() -> HolderReading:
        hang.wait(10)
        return read()

    monkeypatch.setattr(inside.holder, "read", hanging)
    start = time.monotonic()
    assert server.settled()
    assert time.monotonic() - start < 2
    hang.set()


def test_the_safe_state_that_one_commander_armed_does_not_bind_the_next(
    inside: OpenStation, server: InstrumentServer
) -> None:
    slow = SafeState(0.01, 25.0)
    with attach(server.address) as first:
        first.control.take("the first")
        first.holder.arm_safe_state(slow)
        assert inside.holder.safe_state == slow
    with attach(server.address) as second:
        second.control.take("the second")
        assert inside.holder.safe_state == SafeState()
        second.holder.arm_safe_state(slow)
        assert inside.holder.safe_state == slow
