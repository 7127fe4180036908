"""Frames of the DigiScan driver: short ones and long ones, whole, cut and lost."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LinkError
from drivers.scans.digiscan import DigiScan
from tests.drivers.digiscan.conftest import LONG, SHORT, Opener, acquisitions, until
from tests.drivers.emccd_double import EmccdDouble, picture


def test_a_short_frame_is_asked_for_as_it_shall_be(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    scan = opened(rotation="30 deg", rest="edge")
    scan.arm(SHORT, 1)
    (frame,) = scan.frames(clock.signal())
    ((longs, doubles),) = acquisitions(double)
    assert longs == (24 * 32, 32, 24, 8 | 16, 0, 0, 2)
    assert doubles == (pytest.approx(30.0), pytest.approx(2.0))
    assert np.array_equal(frame.data["haadf"], picture(0, (24, 32)))
    assert np.array_equal(frame.data["abf"], picture(2, (24, 32)))
    assert double.at_rest


def test_a_long_frame_is_one_pass_that_can_be_interrupted(
    double: EmccdDouble, scan: DigiScan, clock: WallClock
) -> None:
    scan.arm(LONG, 1)
    asked_s = clock.now_s()
    (frame,) = scan.frames(clock.signal())
    functions = [function for function, *_ in double.requests if function in (19, 20, 21)]
    assert functions == [21, 19, 21, 20, 20]
    assert any("DSFinishAcquisition()" in script for script in double.scripts)
    assert acquisitions(double)[0][0][4] == 1
    assert np.array_equal(frame.data["haadf"], picture(0, (32, 32)))
    assert np.array_equal(frame.data["abf"], picture(2, (32, 32)))
    assert frame.t_start_s >= asked_s
    assert frame.t_end_s - frame.t_start_s == pytest.approx(LONG.scan_time_s, abs=0.15)
    assert frame.meta.scalars["timing_bound"] < 0.15
    assert double.at_rest
    assert not double.continuous


def test_lines_that_wait_for_the_mains_take_whole_periods(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    spec = opened(line_sync=True).arm(SHORT, 1)
    assert spec.frame_period_s == pytest.approx(24 / 50)


def test_a_long_frame_is_cut_at_once_and_the_beam_leaves_the_field(
    double: EmccdDouble, scan: DigiScan, clock: WallClock
) -> None:
    scan.arm(replace(LONG, dwell_time_s=0.01), None)
    stop, told = clock.signal(), []

    def end() -> None:
        told.append(time.monotonic())
        stop.set()

    threading.Timer(0.3, end).start()
    assert list(scan.frames(stop)) == []
    assert time.monotonic() - told[0] < 0.25
    assert not double.continuous
    assert double.at_rest


def test_the_beam_is_blanked_in_the_middle_of_a_long_frame(
    double: EmccdDouble, scan: DigiScan, clock: WallClock
) -> None:
    scan.arm(replace(LONG, dwell_time_s=0.01), None)
    seen: list[bool] = []
    reader = threading.Thread(target=lambda: list(scan.frames(clock.signal())))
    reader.start()
    until(lambda: double.continuous)
    begin = time.monotonic()
    scan.make_safe("a test")
    assert time.monotonic() - begin < 0.1
    seen.append(scan.blanked())
    assert time.monotonic() - begin < 0.5
    reader.join(2)
    assert seen == [True]
    assert double.blanked
    assert not reader.is_alive()


def test_without_dsfinishacquisition_frames_are_taken_in_one_call(
    double: EmccdDouble, opened: Opener, clock: WallClock
) -> None:
    double.unknown = {"DSFinishAcquisition"}
    scan = opened()
    scan.arm(LONG, 1)
    assert len(list(scan.frames(clock.signal()))) == 1
    assert acquisitions(double)[0][0][4] == 0


def test_a_frame_that_came_too_soon_is_an_error(
    double: EmccdDouble, scan: DigiScan, clock: WallClock
) -> None:
    double.speedup = 10.0
    scan.arm(LONG, 1)
    with pytest.raises(InstrumentError, match="shortened the dwell time"):
        list(scan.frames(clock.signal()))


def test_a_link_that_is_lost_in_a_frame_is_told_and_the_scan_is_stopped(
    double: EmccdDouble, scan: DigiScan, clock: WallClock
) -> None:
    scan.arm(replace(LONG, dwell_time_s=0.01), None)
    frames = scan.frames(clock.signal())
    threading.Thread(target=lambda: (until(lambda: double.continuous), double.drop())).start()
    with pytest.raises(LinkError):
        next(frames)
    until(lambda: not double.continuous)
    scan.disarm()
    assert scan.blanked() is False
    scan.arm(SHORT, 1)
    (frame,) = scan.frames(clock.signal())
    assert np.array_equal(frame.data["haadf"], picture(0, (24, 32)))


@pytest.mark.parametrize("lost", [True, False])
def test_a_scan_that_ended_before_its_last_line_is_no_frame(
    double: EmccdDouble, opened: Opener, clock: WallClock, lost: bool
) -> None:
    scan = opened(line_sync=True)
    # two periods of the mains for a line: 2.56 s, of which the beam dwells on pixels for 1.33 s
    exposure = replace(LONG, shape=(64, 32), dwell_time_s=650e-6)
    double.line_s = 0.04
    scan.arm(exposure, 1)

    def end() -> None:
        until(lambda: double.ends_s is not None)
        time.sleep(1.5)
        if lost:
            double.drop()
        else:
            double.continuous = False  # somebody has pressed DigitalMicrograph's button

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(LinkError if lost else InstrumentError, match=r"whole|stopped"):
        list(scan.frames(clock.signal()))
    ending.join()


def test_a_scan_that_is_on_its_way_out_does_not_end_the_next_one(
    double: EmccdDouble, scan: DigiScan, clock: WallClock
) -> None:
    taken: list[Any] = []

    def take() -> None:
        taken.extend(scan.frames(clock.signal()))

    for number in range(3):
        scan.arm(LONG, None)
        reader = threading.Thread(target=take)
        reader.start()
        until(lambda: double.ends_s is not None)
        scan.disarm()
        scan.arm(LONG, 1)
        (frame,) = scan.frames(clock.signal())
        scan.disarm()
        reader.join(5)
        assert not reader.is_alive()
        assert frame.index == number
        assert np.array_equal(frame.data["abf"], picture(2, (32, 32)))
        double.ends_s = None
    assert taken == []


def test_the_flyback_that_somebody_has_set_meanwhile_counts(
    double: EmccdDouble, scan: DigiScan
) -> None:
    scan.arm(LONG, 1)
    scan.disarm()
    double.flyback_us = 5000.0
    assert scan.arm(LONG, 1).frame_period_s == pytest.approx(32 * (32 * 600e-6 + 5e-3))


def test_frames_are_counted_over_all_acquisitions(scan: DigiScan, clock: WallClock) -> None:
    indices = []
    for number in (2, 1):
        scan.arm(SHORT, number)
        indices += [frame.index for frame in scan.frames(clock.signal())]
        scan.disarm()
    assert indices == [0, 1, 2]
