"""The clocks of two computers drift apart: time stamps follow, say how well, and never go back."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquire.clock import ClockRelation, WallClock
from acquire.engine import Engine
from acquire.errors import LinkError
from acquire.recipe import Recipe
from acquire.remote import InstrumentServer, attach
from acquire.remote.following import DRIFT, ClockFollower, StreamTimes, merge
from acquire.station import OpenStation
from acquire.store import RunWriter, open_run


class Clock(WallClock):
    """A clock that is moved by hand; asking for the time takes some."""

    def __init__(self) -> None:
        super().__init__()
        self.t_s = 0.0

    def now_s(self) -> float:
        return self.t_s


def test_drift_is_followed_and_the_truth_stays_within_the_uncertainty() -> None:
    local = Clock()
    ways = itertools.cycle([(0.0001, 0.0002), (0.004, 0.0001), (0.0001, 0.02), (0.0002, 0.0001)])

    def remote_s() -> float:
        return 100.0 + local.t_s * (1 - 50e-6)

    def ping() -> float:
        there_s, back_s = next(ways)
        local.t_s += there_s
        at_s = remote_s()
        local.t_s += back_s
        return at_s

    follower = ClockFollower(local, ping, ClockRelation(-100.0, 0.0005))
    for _ in range(400):
        local.t_s += 3.0
        follower.look()
        found = follower.relation
        truth_s = local.t_s - remote_s()
        assert abs(found.offset_s - truth_s) <= found.uncertainty_s
        assert found.uncertainty_s < 0.001, "one slow answer must not spoil what was known"
    assert follower.relation.offset_s == pytest.approx(-100.0 + 400 * 3 * 50e-6, abs=0.002)


def test_a_clock_that_was_set_is_believed_at_once() -> None:
    assert merge(ClockRelation(0.0, 1e-4), ClockRelation(5.0, 1e-3), DRIFT * 3) == ClockRelation(
        5.0, 1e-3
    )


def test_a_server_that_does_not_answer_changes_nothing() -> None:
    def ping() -> float:
        raise LinkError("gone")

    follower = ClockFollower(Clock(), ping, ClockRelation(1.0, 0.1))
    follower.look()
    assert follower.relation == ClockRelation(1.0, 0.1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 10.0), st.floats(-1.0, 1.0)),
        min_size=2,
        max_size=50,
    )
)
def test_stamps_that_rise_at_the_server_rise_here(steps: list[tuple[float, float]]) -> None:
    relation = ClockRelation(0.0, 0.0)
    times = StreamTimes(lambda: relation)
    remote_s = last_s = 0.0
    mapped: list[float] = []
    for passed_s, offset_s in steps:
        relation = ClockRelation(offset_s, 1e-4)
        remote_s = last_s + passed_s
        last_s = remote_s
        mapped.append(remote_s + times.offset_s(remote_s))
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(mapped))


def test_an_offset_that_shrinks_is_reached_in_the_end() -> None:
    relation = ClockRelation(0.010, 0.0)
    times = StreamTimes(lambda: relation)
    assert times.offset_s(0.0) == 0.010
    relation = ClockRelation(0.0, 0.0)
    assert 0.0 < times.offset_s(0.5) < 0.010
    assert times.offset_s(2.0) == 0.0


def test_an_attached_station_measures_its_clock_again_while_it_is_open(
    server: InstrumentServer, inside: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acquire.remote.launch.FOLLOW_S", 0.02)
    with attach(server.address) as opened:
        first = opened.relation
        inside.clock._zero -= 1.0  # type: ignore[attr-defined]  # the server's clock is set ahead
        moved = threading.Event()
        for _ in range(500):
            if abs(opened.relation.offset_s - (first.offset_s - 1.0)) < 0.1:
                moved.set()
                break
            threading.Event().wait(0.01)
        assert moved.is_set()
        assert opened.relation.uncertainty_s < 0.1
    names = [thread.name for thread in threading.enumerate()]
    assert "clock-follower" not in names


def test_a_run_keeps_how_the_clocks_moved(
    server: InstrumentServer,
    inside: OpenStation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("acquire.remote.launch.FOLLOW_S", 0.02)
    recipe = Recipe.parse("hotstage: 1\nname: drift\nsteps:\n  - hold: {for: 1.5 s}\n")
    with attach(server.address) as opened:

        def set_ahead() -> None:
            inside.clock._zero -= 0.2  # type: ignore[attr-defined]

        setting = threading.Timer(0.5, set_ahead)
        setting.start()
        report = Engine(opened, "a test").run(
            recipe, RunWriter(tmp_path / "run"), folder=tmp_path / "run"
        )
        setting.join()
    assert report.outcome == "completed", report.cause
    run = open_run(tmp_path / "run")
    table = run.table("clock")
    began_s, _ = run.header.clock_relation_s
    assert float(table["offset"].values[-1]) == pytest.approx(began_s - 0.2, abs=0.05)
    assert 0 < float(table["uncertainty"].values[-1]) < 0.05
