"""Frames reach the recorder every one and in order, through shared memory or a socket, whatever happens on the way."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.errors import FaultError, InstrumentError, LinkError
from acquire.instruments import Frame, ScanExposure
from acquire.remote import InstrumentServer, Link
from acquire.remote import ring as ring_module
from acquire.remote.proxies import RemoteScan
from acquire.remote.receiving import AHEAD, Receiver
from acquire.remote.ring import RingWriter
from acquire.remote.rings import Rings
from acquire.station import OpenStation

LARGE = ScanExposure(("haadf", "abf"), (256, 256), 100.0, 1e-6)
SMALL = ScanExposure(("haadf",), (16, 16), 100.0, 1e-6)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(ring_module, "_MEMORY", folder)
    return folder


@pytest.fixture
def scan(outside: OpenStation) -> RemoteScan:
    """A scan whose frames come through a server, under control."""
    outside.control.take("a test")
    assert isinstance(outside.scan, RemoteScan)
    return outside.scan


@pytest.fixture(params=["shared", "socket"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "socket":
        monkeypatch.setattr("acquire.remote.receiving.LEAST_BYTES", 1 << 40)
    return str(request.param)


def right(frame: Frame) -> bool:
    """Whether every pixel is the one that the rig put there."""
    return all(
        (array == (frame.index * 7 + n) % 65521).all()
        for n, array in enumerate(frame.data.values())
    )


def shared(scan: RemoteScan) -> bool:
    return scan._receivers[0].shared


def test_every_frame_comes_once_and_in_order(
    scan: RemoteScan, outside: OpenStation, way: str
) -> None:
    scan.arm(LARGE, 300)
    frames = list(itertools.islice(scan.frames(outside.clock.signal()), 301))
    assert [frame.index for frame in frames] == list(range(300))
    # all are held: none of their memory was used again
    assert all(right(frame) for frame in frames)
    assert not any(array.flags.writeable for array in frames[0].data.values())
    assert shared(scan) == (way == "shared")


def test_a_slow_recorder_holds_the_exposure_up_and_loses_nothing(
    scan: RemoteScan, outside: OpenStation, inside: OpenStation, way: str
) -> None:
    count = 700  # more than all that may wait between the two
    scan.arm(LARGE, count)
    frames = scan.frames(outside.clock.signal())
    first = next(frames)
    ahead = 0
    quiet = threading.Event()
    for _ in range(100):  # until the instrument has come to a stop
        before, ahead = ahead, inside.scan._index  # type: ignore[attr-defined]
        if ahead == before and ahead > 1:
            break
        quiet.wait(0.1)
    assert ahead < count
    rest = [frame.index for frame in frames]
    assert [first.index, *rest] == list(range(count))


def cut(server: InstrumentServer, keep: int) -> None:
    """End every connection but the ``keep`` oldest."""
    with server._daemon._lock:
        peers = sorted(server._daemon._peers, key=lambda peer: peer.number)
    for peer in peers[keep:]:
        peer.cut()


def test_a_connection_that_is_cut_again_and_again_loses_and_doubles_nothing(
    scan: RemoteScan, server: InstrumentServer, outside: OpenStation, way: str
) -> None:
    scan.arm(LARGE, 400)
    keep = 3  # the link's, the clock's, the lease's
    seen: list[int] = []
    for frame in scan.frames(outside.clock.signal()):
        assert right(frame)
        seen.append(frame.index)
        if len(seen) % 60 == 30:
            cut(server, keep)
    assert seen == list(range(400))


@pytest.mark.usefixtures("way")
def test_what_ends_an_exposure_comes_after_its_frames(
    scan: RemoteScan, inside: OpenStation, outside: OpenStation
) -> None:
    inside.scan.fail_at = 37  # type: ignore[attr-defined]
    scan.arm(LARGE)
    seen: list[int] = []
    with pytest.raises(FaultError, match="the beam was lost"):
        seen.extend(frame.index for frame in scan.frames(outside.clock.signal()))
    assert seen == list(range(37))


def test_short_acquisitions_use_one_connection_and_one_ring(
    scan: RemoteScan, server: InstrumentServer, outside: OpenStation
) -> None:
    made: list[int] = []
    opened = Rings.open

    def count(self: Rings, connection: int, slots: int, slot_bytes: int) -> str:
        made.append(connection)
        return opened(self, connection, slots, slot_bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rings, "open", count)
        for n in range(20):
            scan.arm(LARGE, 2)
            frames = list(scan.frames(outside.clock.signal()))
            assert [frame.index for frame in frames] == [2 * n, 2 * n + 1]
            scan.disarm()
    assert len(made) == 1


def test_a_larger_exposure_gets_a_larger_ring_and_a_tiny_one_needs_none(
    scan: RemoteScan, outside: OpenStation
) -> None:
    larger = ScanExposure(("haadf",), (1024, 1024), 100.0, 1e-6)
    for exposure in (SMALL, LARGE, larger, LARGE):
        scan.arm(exposure, 30)
        assert all(right(frame) for frame in scan.frames(outside.clock.signal()))
        scan.disarm()
        assert shared(scan) == (exposure is not SMALL)


def test_without_memory_to_share_frames_come_through_the_socket(
    scan: RemoteScan, outside: OpenStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(slots: int, slot_bytes: int) -> RingWriter:
        raise LinkError("no space left.")

    monkeypatch.setattr("acquire.remote.rings.RingWriter", full)
    scan.arm(LARGE, 50)
    assert len(list(scan.frames(outside.clock.signal()))) == 50
    assert not shared(scan)


def test_a_server_behind_a_forwarded_port_is_not_taken_for_one_on_this_computer(
    scan: RemoteScan, outside: OpenStation, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Rings.open

    def elsewhere(self: Rings, connection: int, slots: int, slot_bytes: int) -> str:
        opened(self, connection, slots, slot_bytes)
        other = RingWriter(slots, slot_bytes)  # the same path on another computer is other memory
        leftover.append(other)
        return str(other.path)

    leftover: list[RingWriter] = []
    monkeypatch.setattr(Rings, "open", elsewhere)
    scan.arm(LARGE, 50)
    assert all(right(frame) for frame in scan.frames(outside.clock.signal()))
    assert not shared(scan)
    leftover[0].close()
    assert list(place.rglob("ring-*")) == []


def test_a_ring_goes_with_its_connection(
    scan: RemoteScan, server: InstrumentServer, outside: OpenStation
) -> None:
    scan.arm(LARGE, 10)
    list(scan.frames(outside.clock.signal()))
    assert len(server._rings._rings) == 1
    scan.release()
    for _ in range(500):
        if not server._rings._rings:
            return
        threading.Event().wait(0.01)
    raise AssertionError("the ring is still there")


def test_stopping_in_the_middle_ends_within_a_quarter_second_and_the_next_one_works(
    scan: RemoteScan, outside: OpenStation, way: str
) -> None:
    for _ in range(3):
        scan.arm(LARGE)
        stop = outside.clock.signal()
        frames = scan.frames(stop)
        assert right(next(frames))
        stop.set()
        began = time.monotonic()
        assert list(frames) == []
        assert time.monotonic() - began < 0.25 + 0.25
        scan.disarm()


def test_a_client_that_claims_to_have_copied_what_was_never_there_is_refused(
    scan: RemoteScan, server: InstrumentServer, outside: OpenStation
) -> None:
    scan.arm(LARGE, 10)
    link = Link(server.address, "station")
    path = link.call("ring_open", 4, 300_000)
    ring = ring_module.RingReader(path, 4, 300_000)
    assert link.call("ring_attach", ring.proof) is True
    token = outside.control.token  # type: ignore[attr-defined]
    reply, _ = link.call_with_blobs("frames_next", "scan", 1, 0, 0.5, token, False, 0)
    assert reply["places"] in ([1], [1, 2])
    with pytest.raises(LinkError, match="cannot have been copied"):
        link.call_with_blobs("frames_next", "scan", 1, 2, 0.5, token, True, 99)
    with pytest.raises(LinkError, match=r"refused|no more is given"):
        link.call("ring_open", 1000, 1 << 30)
    ring.close()
    link.close()


def indices(reply: Any) -> list[int]:
    """Of the frames in an answer."""
    return [index for head in reply["frames"] for index in head["index"]]


@pytest.fixture
def pump(scan: RemoteScan, server: InstrumentServer) -> Iterator[Any]:
    """Questions of a client by hand."""
    scan.arm(SMALL, 1000)
    link = Link(server.address, "station")
    yield link.questions()
    link.close()


def test_questions_that_are_asked_ahead_are_answered_with_what_follows(
    pump: Any, outside: OpenStation
) -> None:
    token = outside.control.token  # type: ignore[attr-defined]
    received, onward, seen = 0, False, list[int]()
    while len(seen) < 1000:
        while pump.unanswered < AHEAD:
            pump.ask("frames_next", "scan", 1, received, 0.5, token, onward, within_s=5.0)
            onward = True
        reply, _ = pump.answer(5.0)
        assert reply["first"] == len(seen) + 1
        seen += indices(reply)
        received = len(seen)
    assert seen == list(range(1000))


def test_what_was_given_but_not_received_can_be_had_again(pump: Any, outside: OpenStation) -> None:
    token = outside.control.token  # type: ignore[attr-defined]
    for onward in (False, True, True):
        pump.ask("frames_next", "scan", 1, 0, 0.5, token, onward, within_s=5.0)
    given = [pump.answer(5.0)[0] for _ in range(3)]
    assert [reply["first"] for reply in given] == sorted({reply["first"] for reply in given})
    pump.ask("frames_next", "scan", 1, 1, 0.5, token, False, within_s=5.0)
    assert pump.answer(5.0)[0]["first"] == 2
    pump.ask("frames_next", "scan", 1, 0, 0.5, token, False, within_s=5.0)
    with pytest.raises(InstrumentError, match="One receiver must take them all"):
        pump.answer(5.0)


def test_a_second_recorder_of_the_same_acquisition_is_refused(
    scan: RemoteScan, outside: OpenStation
) -> None:
    scan.arm(LARGE, 2000)
    first = scan.frames(outside.clock.signal())
    assert [frame.index for frame in itertools.islice(first, 40)] == list(range(40))
    second = scan.frames(outside.clock.signal())
    with pytest.raises(InstrumentError, match="One receiver must take them all"):
        next(second)


def test_frames_of_other_shapes_than_were_announced_still_come(
    scan: RemoteScan, outside: OpenStation, server: InstrumentServer
) -> None:
    scan.arm(LARGE, 30)
    number, token = scan._number, scan._token
    receiver = Receiver(scan._link, "scan")
    # slots for half a frame only
    batches = receiver.batches(number, token, 40_000, outside.clock.signal())
    frames = [frame for batch in batches for frame in batch]
    assert receiver.shared
    assert all(right(frame) for frame in frames)
    assert np.array_equal([frame.index for frame in frames], range(30))
    receiver.close()
