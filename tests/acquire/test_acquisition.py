"""The cycle of an acquisition: armed, paced, counted, cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from acquire.acquisition import Acquisition, Watch
from acquire.clock import Clock, VirtualClock, WallClock
from acquire.errors import InstrumentError
from acquire.instruments import Frame
from simulators.exposing import lasting


def framed(clock: Clock) -> Callable[[int, Watch], Frame | None]:
    return lambda index, cut: Frame("camera", index, {}, clock.now_s(), clock.now_s())


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    made = VirtualClock()
    with made.enrolled("test"):
        yield made


def test_frames_are_counted_over_all_acquisitions(clock: VirtualClock) -> None:
    acquisition = Acquisition(clock, "camera")
    seen = []
    for _ in range(2):
        ended = acquisition.arm(2)
        seen += [frame.index for frame in acquisition.frames(clock.signal(), 0.0, framed(clock))]
        assert not ended()
        acquisition.disarm()
        assert ended()
    assert seen == [0, 1, 2, 3]


def test_it_is_armed_once_and_read_by_one(clock: VirtualClock) -> None:
    acquisition = Acquisition(clock, "camera")
    with pytest.raises(InstrumentError, match="not armed"):
        acquisition.frames(clock.signal(), 0.0, framed(clock))
    with pytest.raises(InstrumentError, match="0 frames"):
        acquisition.arm(0)
    acquisition.arm(None)
    with pytest.raises(InstrumentError, match="armed already"):
        acquisition.arm(None)
    acquisition.frames(clock.signal(), 0.0, framed(clock))
    with pytest.raises(InstrumentError, match="being read"):
        acquisition.frames(clock.signal(), 0.0, framed(clock))


def test_frames_begin_a_period_apart_and_a_late_one_delays_no_other(clock: VirtualClock) -> None:
    acquisition = Acquisition(clock, "camera")
    lengths = iter([0.5, 1.3, 0.2, 0.1, 3.5, 0.1, 0.1])

    def expose(index: int, cut: Watch) -> Frame:
        start_s = clock.now_s()
        clock.sleep(next(lengths))
        return Frame("camera", index, {}, start_s, clock.now_s())

    acquisition.arm(7)
    begun = [frame.t_start_s for frame in acquisition.frames(clock.signal(), 1.0, expose)]
    assert begun == pytest.approx([0.0, 1.0, 2.3, 3.0, 4.0, 7.5, 8.5])


def test_a_frame_that_ends_after_it_was_disarmed_is_neither_given_nor_counted(
    clock: VirtualClock,
) -> None:
    acquisition = Acquisition(clock, "camera")

    def disarmed_meanwhile(index: int, cut: Watch) -> Frame:
        acquisition.disarm()
        return Frame("camera", index, {}, 0.0, 0.0)

    acquisition.arm(None)
    assert list(acquisition.frames(clock.signal(), 0.0, disarmed_meanwhile)) == []
    acquisition.arm(1)
    (frame,) = acquisition.frames(clock.signal(), 0.0, framed(clock))
    assert frame.index == 0


@pytest.mark.parametrize("how", ["stop", "disarm"])
def test_a_wait_within_an_exposure_ends_when_it_is_cut(how: str) -> None:
    clock = WallClock()
    acquisition, stop, waits = Acquisition(clock, "camera"), clock.signal(), threading.Event()

    def expose(index: int, cut: Watch) -> Frame | None:
        waits.set()
        assert not cut.wait_until(clock.now_s() + 1000.0)
        assert cut()
        return None

    acquisition.arm(None)
    frames: list[Frame] = []
    reader = threading.Thread(target=lambda: frames.extend(acquisition.frames(stop, 0.0, expose)))
    reader.start()
    assert waits.wait(10)
    stop.set() if how == "stop" else acquisition.disarm()
    reader.join(10)
    assert not reader.is_alive()
    assert frames == []


def test_a_simulated_exposure_is_made_at_its_middle_and_given_at_its_end(
    clock: VirtualClock,
) -> None:
    acquisition, made_s = Acquisition(clock, "camera"), []

    def make(index: int, start_s: float, end_s: float, keep_going: Callable[[], bool]) -> Frame:
        assert keep_going()
        made_s.append(clock.now_s())
        return Frame("camera", index, {}, start_s, end_s)

    acquisition.arm(2)
    given_s = []
    for frame in acquisition.frames(clock.signal(), 5.0, lasting(clock, 2.0, make)):
        assert frame.t_end_s - frame.t_start_s == 2.0
        given_s.append(clock.now_s())
    assert made_s == [1.0, 6.0]
    assert given_s == [2.0, 7.0]
