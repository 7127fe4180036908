"""Instruments behind a server behave as those in this process."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from types import ModuleType
from typing import Any

import pytest

from acquire.errors import (
    ConfigError,
    EmergencyOff,
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
    ScanExposure,
    Simulation,
    Spectrometer,
    SpectrometerSetting,
    SpectrumExposure,
)
from acquire.remote import InstrumentServer, Link, attach, emergency_off
from acquire.remote.acquisition import QUEUE_BYTES, QUEUE_FRAMES, REPLY_BYTES, Acquisition
from acquire.remote.daemon import MAX_CONNECTIONS
from acquire.remote.receiving import RING_BYTES, SLOTS
from acquire.remote.ring import LEAST_SLOTS
from acquire.remote.wire import ALIGN
from acquire.station import OpenStation

EXPOSURE = ScanExposure(("haadf", "abf"), (512, 512), 100.0, 1e-6)

logger = logging.getLogger(__name__)


def until(condition, seconds: float = 3.0) -> float:
    """Wall seconds until the condition holds."""
    start = time.monotonic()
    pause = threading.Event()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        pause.wait(0.001)
    return time.monotonic() - start


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


def test_all_frames_come_once_and_in_order_to_a_slow_receiver(
    inside: OpenStation, outside: OpenStation
) -> None:
    outside.control.take("a test")
    count = 150  # beyond the queue, so that the exposure is held up
    spec = outside.scan.arm(EXPOSURE, count)
    assert list(spec.channels) == ["haadf", "abf"]
    assert spec.channels["abf"].axes["x"].step == 0.5
    pause = threading.Event()
    seen = []
    for frame in outside.scan.frames(outside.clock.signal()):
        seen.append(frame.index)
        assert [int(frame.data[name][17, 3]) for name in ("haadf", "abf")] == [
            frame.index * 7,
            frame.index * 7 + 1,
        ]
        assert frame.data["haadf"].shape == (512, 512)
        assert not frame.data["haadf"].flags.writeable
        assert frame.t_start_s <= frame.t_end_s <= outside.clock.now_s() + 0.1
        assert frame.meta.scalars == {"dose": math.inf}
        assert frame.meta.spans["haadf"] == (frame.t_start_s, frame.t_end_s)
        if frame.index == 0:
            size = sum(array.nbytes for array in frame.data.values())
            queued = QUEUE_BYTES // size
            for _ in range(300):  # until the queue is full
                if inside.scan._index > queued:
                    break
                pause.wait(0.1)
            pause.wait(0.3)
            # what the first answer brought has left the queue: all that has been acknowledged
            slots = min(SLOTS, max(LEAST_SLOTS, RING_BYTES // (size + 2 * ALIGN)))
            answered = max(slots // 2, REPLY_BYTES // size)
            assert queued < inside.scan._index <= queued + answered
        elif frame.index % 40 == 0:
            pause.wait(0.1)
    assert seen == list(range(count))
    outside.scan.disarm()


def test_a_lost_answer_loses_and_doubles_nothing(
    server: InstrumentServer, outside: OpenStation
) -> None:
    outside.control.take("a test")
    exposure = SpectrumExposure(0.0)
    assert outside.spectrometer is not None
    outside.spectrometer.arm(exposure, 300)
    ask = Link(server.address, "station")
    seen: list[int] = []
    received = 0
    while True:
        arguments = ("spectrometer", 1, received, 0.5, outside.control.token)
        reply, _ = ask.call_with_blobs("frames_next", *arguments)
        again, _ = ask.call_with_blobs("frames_next", *arguments)  # as if the first were lost
        numbers, once_more = (
            [index for head in answer["frames"] for index in head["index"]]
            for answer in (reply, again)
        )
        assert once_more[: len(numbers)] == numbers
        seen += numbers
        received += len(numbers)
        if reply["ended"]:
            break
    assert seen == list(range(300))
    with pytest.raises(InstrumentError, match="One receiver must take them all"):
        ask.call_with_blobs("frames_next", "spectrometer", 1, 0, 0.1, outside.control.token)
    ask.close()


def test_an_observer_gets_the_newest_frame_and_is_told_what_it_missed(
    server: InstrumentServer, outside: OpenStation
) -> None:
    outside.control.take("a test")
    outside.scan.arm(ScanExposure(("haadf",), (64, 64), 100.0, 1e-6, 0.005))
    stop = outside.clock.signal()
    recorded: list[int] = []

    def record() -> None:
        recorded.extend(frame.index for frame in outside.scan.frames(stop))

    recorder = threading.Thread(target=record)
    recorder.start()
    with attach(server.address) as observer:
        serial, frame, _ = observer.scan.latest(0, 1.0)
        shown, skipped = 1, 0
        assert frame is not None
        first = frame.index
        while frame is None or frame.index < first + 60:
            threading.Event().wait(0.05)
            serial, frame, missed = observer.scan.latest(serial, 1.0)
            shown, skipped = shown + 1, skipped + missed
        last = frame.index
    stop.set()
    recorder.join(2)
    assert skipped > 0
    assert shown + skipped == last - first + 1
    assert recorded == list(range(len(recorded)))


def test_stop_and_disarm_reach_a_sixty_second_exposure(outside: OpenStation) -> None:
    outside.control.take("a test")
    for how in ("stop", "disarm"):
        outside.scan.arm(ScanExposure(("haadf",), (64, 64), 100.0, 1e-6, 60.0))
        stop = outside.clock.signal()
        began, ended = threading.Event(), threading.Event()

        def pull(stop=stop, began=began, ended=ended) -> None:
            began.set()
            assert list(outside.scan.frames(stop)) == []
            ended.set()

        threading.Thread(target=pull).start()
        began.wait()
        threading.Event().wait(0.2)
        start = time.monotonic()
        if how == "stop":
            stop.set()
        else:
            outside.scan.disarm()
        assert ended.wait(0.5)
        took_s = time.monotonic() - start
        logger.info("%s reaches a 60 s exposure, ms: %.1f", how, 1e3 * took_s)
        assert took_s < 0.25
        outside.scan.disarm()


def test_an_error_of_the_exposure_reaches_its_receiver_after_the_frames_before_it(
    inside: OpenStation, outside: OpenStation
) -> None:
    inside.scan.fail_at = 3
    outside.control.take("a test")
    outside.scan.arm(EXPOSURE, 10)
    frames = outside.scan.frames(outside.clock.signal())
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FaultError, match=r"^the beam was lost. Look at the column.$"):
        next(frames)
    with pytest.raises(InstrumentError, match="armed already"):
        outside.scan.arm(EXPOSURE, 1)
    outside.scan.disarm()
    outside.scan.arm(EXPOSURE, 1)


def test_a_lost_connection_to_the_device_is_told_at_once_and_as_such(
    inside: OpenStation, outside: OpenStation
) -> None:
    outside.control.take("a test")
    outside.scan.arm(EXPOSURE, 10)

    def lost(stop: object) -> None:
        raise LinkError("the scan generator at COM3 does not answer.")

    inside.scan.frames = lost
    start = time.monotonic()
    with pytest.raises(LinkError, match=r"^the scan generator at COM3 does not answer.$"):
        next(outside.scan.frames(outside.clock.signal()))
    assert time.monotonic() - start < 0.5


def test_emergency_off_needs_no_control_and_takes_it_away(
    inside: OpenStation,
    outside: OpenStation,
    server: InstrumentServer,
) -> None:
    outside.control.take("a test")
    outside.holder.arm_safe_state(SafeState(1.0, 25.0))
    outside.scan.blank(False)
    outside.holder.ramp(900, 100)
    outside.scan.arm(EXPOSURE)
    frames = outside.scan.frames(outside.clock.signal())
    next(frames)
    start = time.monotonic()
    emergency_off(server.address, "by a test")
    took_s = time.monotonic() - start
    logger.info("emergency off ms: %.1f", 1e3 * took_s)
    assert took_s < 0.3
    assert inside.holder.safe_state == SafeState()
    assert inside.holder.read().state is HolderState.OFF
    assert inside.scan.blanked()
    with pytest.raises(LeaseError, match="emergency off"):
        outside.holder.ramp(900, 100)
    with pytest.raises(LeaseError, match="emergency off"):
        list(frames)
    until(lambda: "emergency off" in outside.control.problem())
    outside.control.take("the same, knowingly")
    outside.scan.arm(EXPOSURE, 1)
    assert outside.control.problem() == ""
    outside.holder.ramp(100, 100)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exposure_that_ends_with_control_says_so_to_who_was_just_asking(
    when: str,
    outside: OpenStation,
    server: InstrumentServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside.control.take("a test")
    outside.scan.arm(EXPOSURE)
    require, ask = server._lease.require, Acquisition.next

    def off_before(token: str) -> None:
        require(token)
        monkeypatch.undo()
        server.emergency_off("by a test")
        until(lambda: "scan" not in server._acquisitions)

    def off_after(acquisition: Acquisition, *arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        server.emergency_off("by a test")
        return ask(acquisition, *arguments, **options)

    if when == "before":  # that it was looked up
        monkeypatch.setattr(server._lease, "require", off_before)
    else:
        monkeypatch.setattr(Acquisition, "next", off_after)
    link, token = Link(server.address, "station"), outside.control.token
    with pytest.raises(LeaseError, match="emergency off"):
        link.call_with_blobs("frames_next", "scan", 1, 0, 0.5, token)
    link.close()


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


def test_a_command_that_hangs_across_the_loss_of_control_is_undone(
    inside: OpenStation, outside: OpenStation, server: InstrumentServer
) -> None:
    outside.control.take("a test")
    outcome: list[Exception] = []

    def command() -> None:
        try:
            outside.holder.ramp(669, 100)
        except LeaseError as error:
            outcome.append(error)

    thread = threading.Thread(target=command)
    thread.start()
    until(lambda: thread.is_alive())
    threading.Event().wait(0.1)
    emergency_off(server.address)
    inside.holder.hang.set()
    thread.join(2)
    assert "undone by making safe" in str(outcome[0])
    assert inside.holder.read().state is HolderState.OFF


def test_a_virtual_clock_and_a_clock_of_another_rate_are_refused(
    rig: ModuleType, server: InstrumentServer
) -> None:
    from acquire.clock import VirtualClock, WallClock

    for clock in (VirtualClock(), WallClock(60)):
        with pytest.raises(ConfigError, match="cannot follow the server"):
            attach(server.address, clock)


@pytest.mark.parametrize("reason", ["by {nobody}", "by {0}", "a } in it", "{}"])
def test_emergency_off_takes_control_away_whatever_its_reason_says(
    inside: OpenStation, outside: OpenStation, reason: str
) -> None:
    outside.control.take("a test")
    outside.holder.ramp(500, 10)
    emergency_off(outside.address, reason)
    with pytest.raises(EmergencyOff, match=re.escape(f"emergency off ({reason})")):
        outside.holder.ramp(500, 10)
    assert inside.holder.read().state is HolderState.OFF


def test_nobody_heats_again_while_emergency_off_waits_for_an_instrument_that_hangs(
    inside: OpenStation, outside: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    monkeypatch.setattr(inside.scan, "make_safe", lambda reason: hang.wait(5))
    outside.control.take("a test")
    outside.holder.arm_safe_state(SafeState(0.01, 25.0))
    outside.holder.ramp(500, 10)
    # with its default patience: a hanging instrument must not make it look as if nothing was done
    button = threading.Thread(target=emergency_off, args=(outside.address,))
    button.start()
    until(lambda: len(inside.holder.made_safe) > 0)
    threading.Event().wait(0.1)
    assert button.is_alive()
    with pytest.raises(EmergencyOff):
        outside.holder.ramp(500, 10)
    start = time.monotonic()
    button.join(3)
    assert time.monotonic() - start < 1.5
    assert inside.holder.read().state is HolderState.OFF
    hang.set()


def test_a_wait_that_is_not_a_number_is_none(outside: OpenStation) -> None:
    outside.control.take("a test")
    link = Link(outside.address, "station")
    for wait_s in (math.nan, -1.0, -math.inf):
        start = time.monotonic()
        reply, _ = link.call_with_blobs("frames_latest", "scan", 99, wait_s, timeout_s=1.0)
        assert reply["frames"] == []
        assert time.monotonic() - start < 0.5
    outside.scan.arm(ScanExposure(("haadf",), (8, 8), 9.0, 1e-6, 5.0))
    token = outside.control.token
    link.call_with_blobs("frames_next", "scan", 1, 0, math.nan, token, timeout_s=1.0)
    link.close()


def test_a_scan_that_is_late_to_be_safe_does_not_end_what_the_next_commander_armed(
    inside: OpenStation, server: InstrumentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, begun = threading.Event(), threading.Event()
    exposure = ScanExposure(("haadf",), (8, 8), 9.0, 1e-6, 0.02)

    def make_safe(reason: str) -> None:
        begun.set()
        late.wait(5)

    with attach(server.address) as first:
        first.control.take("the first")
        first.scan.arm(exposure)
        monkeypatch.setattr(inside.scan, "make_safe", make_safe)
        first.control.release()
    assert begun.is_set()
    with attach(server.address) as second:
        second.control.take("the second")
        second.scan.disarm()
        second.scan.arm(exposure)
        stop = second.clock.signal()
        frames = second.scan.frames(stop)
        next(frames)
        late.set()
        assert len([next(frames) for _ in range(20)]) == 20
        monkeypatch.undo()


def test_arming_again_after_anybody_made_safe_leaves_no_thread_with_a_full_queue(
    inside: OpenStation,
    server: InstrumentServer,
    outside: OpenStation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pumps() -> int:
        return sum(thread.name.startswith("frames-") for thread in threading.enumerate())

    monkeypatch.setattr(inside.scan, "make_safe", lambda reason: inside.scan.disarm())
    outside.control.take("a test")
    link, token = Link(outside.address, "station"), outside.control.token
    for number in (1, 2, 3):
        outside.scan.arm(ScanExposure(("haadf",), (8, 8), 9.0, 1e-6))
        link.call_with_blobs("frames_next", "scan", number, 0, 0.5, token)
        until(lambda: len(server._acquisitions["scan"]._queue) == QUEUE_FRAMES)
        outside.scan.make_safe("an observer")
    until(lambda: pumps() <= 1)
    link.close()


def test_emergency_off_gets_in_when_every_place_waits_for_a_holder_that_hangs(
    inside: OpenStation, outside: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside.control.take("a test")
    outside.holder.ramp(500, 10)
    hang, read = threading.Event(), inside.holder.read

    def hanging() -> HolderReading:
        hang.wait(10)
        return read()

    monkeypatch.setattr(inside.holder, "read", hanging)
    for _ in range(MAX_CONNECTIONS + 1):  # each has given up, its place is still taken
        link = Link(outside.address, "station")
        link.wait_until_there(10.0)
        with pytest.raises(LinkError, match="did not answer"):
            link.call("invoke", "holder", "read", [], "", timeout_s=0.02)
    emergency_off(outside.address)
    assert read().state is HolderState.OFF
    hang.set()


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


def test_a_viewer_that_outlived_its_server_sees_the_frames_of_the_next(
    outside: OpenStation, server: InstrumentServer
) -> None:
    outside.control.take("a test")
    outside.scan.arm(ScanExposure(("haadf",), (8, 8), 9.0, 1e-6, 0.01), 2)
    assert len(list(outside.scan.frames(outside.clock.signal()))) == 2
    link = Link(server.address, "station")
    reply, _ = link.call_with_blobs("frames_latest", "scan", 5000, 0.5)
    assert reply["serial"] == 2
    assert len(reply["frames"]) == 1
    link.close()
