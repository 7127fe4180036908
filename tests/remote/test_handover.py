"""Control goes from one commander to another on request, and nothing is made safe in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from acquire.errors import LeaseError
from acquire.instruments import HolderState
from acquire.remote import InstrumentServer, LeaseKeeper, Link
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
