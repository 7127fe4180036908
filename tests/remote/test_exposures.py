"""Frames of instruments behind a server: each once and in order, whoever is slow, lost or late."""

from __future__ import annotations

import logging
import math
import threading
import time

import pytest

from acquire.errors import FaultError, InstrumentError, LinkError
from acquire.instruments import ScanExposure, SpectrumExposure
from acquire.remote import InstrumentServer, Link, attach
from acquire.remote.acquisition import QUEUE_BYTES, QUEUE_FRAMES, REPLY_BYTES
from acquire.remote.receiving import RING_BYTES, SLOTS
from acquire.remote.ring import LEAST_SLOTS
from acquire.remote.wire import ALIGN
from acquire.station import OpenStation
from tests.remote.exposures import EXPOSURE, until

logger = logging.getLogger(__name__)


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
