"""Whoever demands that something be off is not forgotten."""

from __future__ import annotations

import threading

from acquire.clock import WallClock
from acquire.errors import LinkError
from drivers.safekeeping import Safekeeper


def test_a_demand_during_a_confirmation_is_carried_out_after_it() -> None:
    inside, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def off() -> None:
        calls.append(1)
        inside.set()
        assert go_on.wait(3)

    keeper = Safekeeper(off, WallClock(), "a thing")
    keeper.demand()
    assert inside.wait(3)
    keeper.demand()  # it may have been switched on again meanwhile
    go_on.set()
    assert keeper.close(3.0) == ""
    assert len(calls) == 2


def test_it_is_tried_until_it_is_confirmed_and_says_so_until_then() -> None:
    calls: list[int] = []
    tried = threading.Event()

    def off() -> None:
        calls.append(1)
        if len(calls) < 3:
            tried.set()
            raise LinkError("no answer")

    keeper = Safekeeper(off, WallClock(), "a thing")
    keeper.demand()
    assert keeper.unknown
    assert tried.wait(3)
    assert keeper.close(3.0) == ""
    assert len(calls) == 3
