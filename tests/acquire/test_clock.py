"""Virtual time is exact and repeatable; remote clocks are related with a bound."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquire.clock import VirtualClock, WallClock, relate
from acquire.errors import HotstageError


def test_ctrl_c_in_virtual_time_leaves_a_clock_that_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = VirtualClock()
    ticks: list[float] = []

    def tick() -> None:
        for _ in range(5):
            clock.sleep(1.0)
            ticks.append(clock.now_s())

    with clock.enrolled("test"):
        task = clock.spawn(tick, "ticking")
        flag, baton = clock.signal(), clock._me().baton
        acquire = baton.acquire

        def interrupted(*arguments: object) -> bool:
            monkeypatch.setattr(baton, "acquire", acquire)
            raise KeyboardInterrupt

        monkeypatch.setattr(baton, "acquire", interrupted)
        with pytest.raises(KeyboardInterrupt):
            flag.wait(2.5)
        assert clock._running is clock._me()
        clock.sleep(0.25)
        flag.set()
        assert task.join()
    assert ticks == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_tasks_run_in_the_order_of_their_deadlines_without_costing_wall_time() -> None:
    clock = VirtualClock()
    log: list[tuple[str, float]] = []

    def ticking(name: str, period_s: float) -> None:
        for _ in range(3):
            clock.sleep(period_s)
            log.append((name, clock.now_s()))

    with clock.enrolled("test"):
        tasks = [
            clock.spawn(lambda: ticking("slow", 3600.0), "slow"),
            clock.spawn(lambda: ticking("fast", 1000.0), "fast"),
        ]
        assert all(task.join() for task in tasks)
    assert log == [
        ("fast", 1000.0),
        ("fast", 2000.0),
        ("fast", 3000.0),
        ("slow", 3600.0),
        ("slow", 7200.0),
        ("slow", 10800.0),
    ]


def test_a_signal_wakes_its_waiter_at_the_time_it_is_set_and_a_timeout_says_false() -> None:
    clock = VirtualClock()
    signal = clock.signal()
    seen: list[tuple[bool, float]] = []

    def waiter() -> None:
        seen.append((signal.wait(1.5), clock.now_s()))
        seen.append((signal.wait(100.0), clock.now_s()))

    with clock.enrolled("test"):
        task = clock.spawn(waiter, "waiter")
        clock.sleep(5.0)
        signal.set()
        assert task.join()
    assert seen == [(False, 1.5), (True, 5.0)]


def test_a_thread_outside_virtual_time_can_command_a_task_inside() -> None:
    clock = VirtualClock()
    signal, reached = clock.signal(), threading.Event()
    outcome: list[bool] = []

    def inside() -> None:
        with clock.enrolled("inside"):
            reached.set()
            outcome.append(signal.wait())

    thread = threading.Thread(target=inside)
    thread.start()
    assert reached.wait(5)
    signal.set()
    thread.join(5)
    assert outcome == [True]


def test_time_stands_still_while_nobody_is_enrolled() -> None:
    clock = VirtualClock()
    ticks: list[float] = []

    def ticking() -> None:
        while len(ticks) < 10:
            clock.sleep(1.0)
            ticks.append(clock.now_s())

    task = clock.spawn(ticking, "ticking")
    assert clock.now_s() == 0.0
    with clock.enrolled("test"):
        clock.sleep(2.5)
        assert ticks == [1.0, 2.0]
        assert task.join()


def test_waiting_without_being_enrolled_is_refused_with_the_mend() -> None:
    with pytest.raises(HotstageError, match="enrolled"):
        VirtualClock().sleep(1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=6), min_size=1, max_size=5))
def test_any_set_of_tasks_gives_the_same_history_every_time(naps: list[list[float]]) -> None:
    def history() -> list[tuple[int, float]]:
        clock, log = VirtualClock(), list[tuple[int, float]]()

        def sleeper(number: int) -> None:
            for nap in naps[number]:
                clock.sleep(nap)
                log.append((number, clock.now_s()))

        with clock.enrolled("test"):
            tasks = [
                clock.spawn(lambda n=n: sleeper(n), f"sleeper-{n}")  # type: ignore[misc]
                for n in range(len(naps))
            ]
            for task in tasks:
                task.join()
        return log

    first = history()
    assert first == history()
    assert [t for _, t in first] == sorted(t for _, t in first)


def test_a_fast_wall_clock_runs_at_its_rate() -> None:
    clock = WallClock(rate=50.0)
    before = clock.now_s()
    assert not clock.signal().wait(5.0)
    assert 5.0 <= clock.now_s() - before < 50.0


def test_relation_of_clocks_is_right_within_its_stated_uncertainty() -> None:
    local, remote = WallClock(), WallClock()
    ahead_s = 123.25
    relation = relate(local, lambda: remote.now_s() + ahead_s)
    truth = local.now_s() - (remote.now_s() + ahead_s)
    assert relation.uncertainty_s < 0.01
    assert relation.offset_s == pytest.approx(truth, abs=relation.uncertainty_s + 1e-3)
