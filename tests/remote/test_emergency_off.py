"""Emergency off reaches instruments behind a server whatever else happens, and takes control away."""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Any

import pytest

from acquire.errors import EmergencyOff, LeaseError, LinkError
from acquire.instruments import HolderReading, HolderState, SafeState
from acquire.remote import InstrumentServer, Link, emergency_off
from acquire.remote.acquisition import Acquisition
from acquire.remote.daemon import MAX_CONNECTIONS
from acquire.station import OpenStation
from tests.remote.exposures import EXPOSURE, until

logger = logging.getLogger(__name__)


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
