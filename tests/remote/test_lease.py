"""Whoever commands must live: real processes take control of a heater and are killed, stopped or cut off."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from acquire.errors import LeaseError
from acquire.instruments import HolderState
from acquire.remote import HardDaemon, InstrumentServer, Lease, LeaseKeeper, Link, attach
from acquire.station import OpenStation

Start = Callable[..., subprocess.Popen[Any]]
unix_signals = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

logger = logging.getLogger(__name__)


def until(condition: Callable[[], bool], seconds: float) -> float:
    start = time.monotonic()
    pause = threading.Event()
    while not condition():
        assert time.monotonic() - start < seconds, f"it did not happen within {seconds} s"
        pause.wait(0.0005)
    return time.monotonic() - start


def is_off(inside: OpenStation) -> bool:
    return inside.holder.read().state is HolderState.OFF and inside.scan.blanked()


@pytest.mark.process
@pytest.mark.parametrize("what", ["heat", "expose"])
def test_a_killed_commander_leaves_heater_and_beam_off_at_once(
    inside: OpenStation,
    server: InstrumentServer,
    commander: Start,
    what: str,
) -> None:
    process = commander(server.address, what)
    assert not is_off(inside)
    process.kill()
    took_s = until(lambda: is_off(inside), 0.5)
    logger.info("kill to safe ms: %.1f", 1e3 * took_s)
    with attach(server.address) as heir:
        heir.control.take("an heir")
        heir.scan.blank(False)
        assert "is gone" in inside.holder.made_safe[0]


@pytest.mark.process
@unix_signals
def test_a_stopped_commander_loses_control_within_the_time_to_live_and_for_good(
    inside: OpenStation,
    server: InstrumentServer,
    commander: Start,
) -> None:
    process = commander(server.address, "heat")
    process.send_signal(signal.SIGSTOP)
    took_s = until(lambda: is_off(inside), 2.3)
    logger.info("stop to safe s: %.1f", took_s)
    assert took_s > 1.0
    process.send_signal(signal.SIGCONT)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert "LeaseError" in said
    assert "gave no sign of life for 2 s" in said
    assert "control is lost" in said
    threading.Event().wait(0.7)  # longer than a beat: it must not have taken control again
    with attach(server.address) as other:
        other.control.take("somebody else")
    assert is_off(inside)


@pytest.mark.process
def test_control_is_exclusive_and_the_refusal_names_who_has_it(
    server: InstrumentServer, commander: Start
) -> None:
    commander(server.address, "heat")
    with attach(server.address) as second:
        with pytest.raises(LeaseError, match="the commander process has it"):
            second.control.take("a second one")
        with pytest.raises(LeaseError, match="the commander process has control, not you"):
            second.holder.ramp(100, 10)
        assert second.control.problem() != ""


def test_giving_control_back_makes_safe(inside: OpenStation, server: InstrumentServer) -> None:
    with attach(server.address) as opened:
        opened.control.take("a test")
        assert opened.control.problem() == ""
        opened.holder.ramp(500, 10)
        opened.control.release()
        assert is_off(inside)
        assert opened.control.problem() == "control was given back"
        with pytest.raises(LeaseError, match="a test gave control back"):
            opened.holder.ramp(500, 10)
        opened.control.take("a test, again")
        opened.holder.ramp(500, 10)
    assert is_off(inside)


def test_control_outlives_its_time_to_live_as_long_as_its_keeper_beats(
    server: InstrumentServer,
) -> None:
    with attach(server.address) as opened:
        opened.control.take("a test")
        threading.Event().wait(2.6)
        assert opened.control.problem() == ""
        opened.holder.ramp(500, 10)


def test_the_end_of_another_connection_or_a_request_that_cannot_be_read_is_no_lapse(
    inside: OpenStation, server: InstrumentServer
) -> None:
    link = Link(server.address, "station")
    with attach(server.address) as opened:
        opened.control.take("a test")
        opened.holder.ramp(500, 10)
        assert link.call("about")["commander"] == "a test"
        with pytest.raises(Exception, match="argument"):
            link.call("now_s", 1, 2, 3)
        link.close()
        threading.Event().wait(0.7)
        assert opened.control.problem() == ""
        assert inside.holder.made_safe == []


@pytest.fixture
def lease() -> Iterator[tuple[Lease, list[str]]]:
    lapses: list[str] = []
    lease = Lease(lapses.append, ttl_s=0.15)
    yield lease, lapses
    lease.close()


def test_a_lapse_is_told_exactly_once_whatever_comes_together(
    lease: tuple[Lease, list[str]],
) -> None:
    owned, lapses = lease
    token = owned.acquire("one", 7)
    ends = [
        lambda: owned.disconnected(7),
        lambda: owned.revoke("a button"),
        lambda: owned.release(token),
    ]
    threads = [threading.Thread(target=end) for end in ends * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lapses) == 1
    with pytest.raises(LeaseError):
        owned.beat(token, 7)
    second = owned.acquire("two", 8)
    assert until(lambda: len(lapses) == 2, 1.0) > 0.1
    assert "two gave no sign of life" in lapses[1]
    with pytest.raises(LeaseError, match="two gave no sign of life"):
        owned.require(second)


def test_the_connection_of_an_old_commander_cannot_end_the_control_of_a_new_one(
    lease: tuple[Lease, list[str]],
) -> None:
    owned, lapses = lease
    first = owned.acquire("one", 7)
    owned.release(first)
    second = owned.acquire("two", 8)
    owned.disconnected(7)
    owned.release(first)
    owned.require(second)
    owned.beat(second, 9)
    owned.disconnected(8)
    owned.require(second)
    assert len(lapses) == 1


def test_a_new_commander_waits_until_what_the_last_one_left_is_safe() -> None:
    safe = threading.Event()
    lease = Lease(lambda reason: safe.wait(0.3) and None, ttl_s=1.0)
    lease.acquire("one", 1)
    ended = threading.Thread(target=lease.revoke, args=("a button",))
    ended.start()
    until(lambda: lease.commander == "", 1.0)
    start = time.monotonic()
    lease.acquire("two", 2)
    assert time.monotonic() - start > 0.15
    ended.join()
    lease.close()


def test_a_keeper_whose_server_dies_tells_that_control_is_lost(inside: OpenStation) -> None:
    server = InstrumentServer(inside)
    server.start()
    keeper = LeaseKeeper(server.address, "station", beat_s=0.05)
    keeper.take("a test")
    server.close()
    until(lambda: keeper.problem() != "", 3.0)
    assert "control is lost" in keeper.problem()
    keeper.release()


class Stuck:
    """A server that gives control and then answers no beat in time."""

    def lease_acquire(self, commander: str) -> dict[str, object]:
        return {"token": commander, "ttl_s": 0.3}

    def lease_beat(self, token: str) -> None:
        threading.Event().wait(1.0)

    def lease_release(self, token: str) -> None:
        return


def test_a_keeper_whose_beats_are_not_answered_does_not_believe_in_its_control() -> None:
    daemon = HardDaemon()
    daemon.register("station", Stuck(), ["lease_acquire", "lease_beat", "lease_release"])
    daemon.start()
    keeper = LeaseKeeper(daemon.address, "station", beat_s=0.05)
    keeper.take("a test")
    assert keeper.problem() == ""
    assert until(lambda: keeper.problem() != "", 0.9) > 0.2
    assert "could not tell the server" in keeper.problem()
    keeper.release()
    daemon.close()
