"""Control goes from one commander to another on request, and nothing is made safe in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from acquire.errors import LeaseError, LinkError
from acquire.instruments import HolderState, SafeState
from acquire.remote import InstrumentServer, LeaseKeeper, Link, emergency_off
from acquire.remote.wire import pack
from acquire.station import OpenStation


def wait_for(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    give_up = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < give_up, f"it did not happen within {within_s} s"
        pause.wait(0.002)


@pytest.fixture
def first(server: InstrumentServer) -> Iterator[LeaseKeeper]:
    keeper = LeaseKeeper(server.address, "station", beat_s=0.05)
    keeper.take("the window")
    yield keeper
    keeper.release()


@pytest.fixture
def second(server: InstrumentServer) -> Iterator[LeaseKeeper]:
    keeper = LeaseKeeper(server.address, "station", beat_s=0.05)
    yield keeper
    keeper.release()


def taking(keeper: LeaseKeeper, patience_s: float) -> tuple[threading.Thread, list[LeaseError]]:
    failed: list[LeaseError] = []

    def take() -> None:
        try:
            keeper.take("a script", patience_s)
        except LeaseError as error:
            failed.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    return thread, failed


def test_control_that_is_handed_over_keeps_the_heater_on(
    inside: OpenStation, server: InstrumentServer, first: LeaseKeeper, second: LeaseKeeper
) -> None:
    link = Link(server.address, "station")
    link.call("invoke", "holder", "ramp", [300.0, 50.0], first.token)
    thread, failed = taking(second, 10.0)
    wait_for(lambda: first.asked_by == "a script")
    assert link.call("about")["asked_by"] == "a script"
    assert first.hand_over() == "a script"
    thread.join(5.0)
    assert not failed
    assert link.call("about")["commander"] == "a script"
    assert inside.holder.made_safe == []  # type: ignore[attr-defined]
    assert inside.holder.read().state is HolderState.RAMPING
    assert "handed over" in first.problem()
    with pytest.raises(LeaseError, match="a script has control"):
        link.call("invoke", "holder", "hold", [], first.token)
    link.call("invoke", "holder", "hold", [], second.token)
    link.close()


def test_a_new_commander_who_is_gone_leaves_all_safe(
    inside: OpenStation, server: InstrumentServer, first: LeaseKeeper
) -> None:
    stranger = Link(server.address, "station")
    stranger.call("lease_request", "a stranger")
    wait_for(lambda: first.asked_by == "a stranger")
    first.hand_over()
    stranger.close()
    wait_for(lambda: bool(inside.holder.made_safe))  # type: ignore[attr-defined]


def test_a_wish_ends_with_its_patience_and_with_its_connection(
    server: InstrumentServer, first: LeaseKeeper, second: LeaseKeeper
) -> None:
    thread, failed = taking(second, 0.2)
    thread.join(5.0)
    assert "not handed over within 0.2 s" in str(failed[0])
    wait_for(lambda: first.asked_by == "")
    with pytest.raises(LeaseError, match="nobody asks"):
        first.hand_over()
    assert first.problem() == ""


def test_without_patience_a_held_control_is_refused_with_its_holder(
    first: LeaseKeeper, second: LeaseKeeper
) -> None:
    with pytest.raises(LeaseError, match="the window has it"):
        second.take("a script")


def test_control_is_handed_to_who_was_shown_and_to_nobody_else(
    server: InstrumentServer, first: LeaseKeeper
) -> None:
    shown, later = Link(server.address, "station"), Link(server.address, "station")
    shown.call("lease_request", "a colleague")
    wait_for(lambda: first.asked_by == "a colleague")
    later.call("lease_request", "somebody else")
    with pytest.raises(LeaseError, match="somebody else asks for it now, not a colleague"):
        first.hand_over("a colleague")
    assert first.problem() == ""
    assert first.hand_over("somebody else") == "somebody else"
    assert first.asked_by == ""
    shown.close()
    later.close()


def test_a_command_that_is_under_way_is_waited_for_and_not_undone(
    inside: OpenStation, server: InstrumentServer, first: LeaseKeeper
) -> None:
    heir, link = Link(server.address, "station"), Link(server.address, "station")
    heir.call("lease_request", "a script")
    wait_for(lambda: first.asked_by == "a script")
    failed: list[Exception] = []

    def ramp() -> None:  # the rig's 669 °C takes until it is let go
        try:
            link.call("invoke", "holder", "ramp", [669.0, 50.0], first.token)
        except Exception as error:  # noqa: BLE001  shown below
            failed.append(error)

    def hand_over() -> None:
        try:
            first.hand_over()
        except LeaseError as error:
            failed.append(error)

    commanding = threading.Thread(target=ramp)
    commanding.start()
    wait_for(lambda: server._under_way > 0)
    giving = threading.Thread(target=hand_over)
    giving.start()
    giving.join(0.2)
    inside.holder.hang.set()  # type: ignore[attr-defined]
    commanding.join(5.0)
    giving.join(5.0)
    assert failed == []
    assert inside.holder.made_safe == []  # type: ignore[attr-defined]
    assert heir.call("about")["commander"] == "a script"
    heir.close()
    link.close()


def test_what_a_new_commander_arms_at_once_is_not_forgotten(
    inside: OpenStation, server: InstrumentServer, first: LeaseKeeper
) -> None:
    heir = Link(server.address, "station")
    token = heir.call("lease_request", "a script")["token"]
    wait_for(lambda: first.asked_by == "a script")
    forgetting, go_on = threading.Event(), threading.Event()
    arm = inside.holder.arm_safe_state

    def slowly(safe_state: SafeState) -> None:
        if safe_state.cool_rate_celsius_per_s is None:
            forgetting.set()
            go_on.wait(1.0)
        arm(safe_state)

    inside.holder.arm_safe_state = slowly  # type: ignore[method-assign]
    giving = threading.Thread(target=first.hand_over)
    giving.start()
    assert forgetting.wait(5.0)
    arming = threading.Thread(
        target=heir.call,
        args=("invoke", "holder", "arm_safe_state", [pack(SafeState(10.0, 25.0))], token),
    )
    arming.start()
    arming.join(0.2)
    go_on.set()
    arming.join(5.0)
    giving.join(5.0)
    assert inside.holder.safe_state.cool_rate_celsius_per_s == 10.0  # type: ignore[attr-defined]
    heir.close()


def test_names_are_short_and_of_one_line(server: InstrumentServer) -> None:
    link = Link(server.address, "station")
    link.call("lease_acquire", "eve\n2026-01-01 WARNING all is safe" + 1000 * "x")
    told = link.call("about")["commander"]
    assert told.isprintable()
    assert len(told) <= 100
    link.close()


def test_an_emergency_off_does_not_depend_on_the_safe_state_being_taken(
    inside: OpenStation, server: InstrumentServer
) -> None:
    def refuse(safe_state: SafeState) -> None:
        raise LinkError("the device does not answer")

    inside.holder.arm_safe_state = refuse  # type: ignore[method-assign]
    emergency_off(server.address)
    wait_for(lambda: bool(inside.holder.made_safe))  # type: ignore[attr-defined]
