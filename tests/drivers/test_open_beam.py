"""The Open Beam Interface driver against golden bytes and a stand-in of the board."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LimitError, LinkError
from acquire.instruments import Scan, ScanExposure
from acquire.station import DriverContext
from drivers.conformance import check_scan
from drivers.links import MalformedReply
from drivers.scans import open_beam_protocol as obi
from drivers.scans.open_beam import OpenBeamScan, open_scan
from tests.drivers.obi_double import ObiDouble, value

Opener = Callable[..., OpenBeamScan]
SHORT = ScanExposure(("haadf",), (32, 48), 192.0, 2e-6)
LONG = replace(SHORT, dwell_time_s=2e-3)


@pytest.fixture
def board() -> Iterator[ObiDouble]:
    with ObiDouble() as made:
        yield made


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def opened(board: ObiDouble, clock: WallClock) -> Iterator[Opener]:
    made: list[OpenBeamScan] = []

    def make(**options: Any) -> OpenBeamScan:
        context = DriverContext("scan", clock, "station.toml")
        made.append(
            open_scan(context, **{"address": board.address, "full_field": "1.6384 µm", **options})
        )
        return made[-1]

    yield make
    for scan in made:
        scan.close()
        scan.close()


def take(scan: OpenBeamScan, clock: WallClock, exposure: ScanExposure = SHORT) -> Any:
    scan.arm(exposure, 1)
    try:
        (frame,) = scan.frames(clock.signal())
    finally:
        scan.disarm()
    return frame


# ------------------------------------------------------------------------ golden bytes


def test_commands_are_the_documented_bytes() -> None:
    assert obi.synchronize(0x0102)[:3] == bytes.fromhex("01 0102")
    assert obi.runs(1024, 11) == bytes.fromhex("c0 03ff 000a")
    assert obi.runs(65537, 1) == bytes.fromhex("c0 ffff 0000 c0 0000 0000")
    assert obi.blank(True) == b"\x51"
    assert obi.blank(False, inline=True) == b"\x52"
    assert obi.external_control(True) == b"\x31"
    assert obi.point(1, 2, 9) == bytes.fromhex("e0 0001 0002 0008")
    x, y = obi.Range(1, 2, 0x180), obi.Range(4, 5, 6)
    assert obi.region(x, y) == bytes.fromhex("a0 0001 0002 0180 0004 0005 0006")
    assert obi.reply_to(0x0102) == bytes.fromhex("ffff 0102")


@given(some.integers(1, 1 << 20), some.integers(1, 1 << 16))
def test_runs_have_as_many_pixels_as_were_asked_for(pixels: int, cycles: int) -> None:
    packed = obi.runs(pixels, cycles)
    words = np.frombuffer(packed, ">u1").reshape(-1, 5).astype(int)
    assert set(words[:, 0]) == {0xC0}
    assert int((words[:, 1] * 256 + words[:, 2] + 1).sum()) == pixels


@settings(max_examples=200)
@given(some.binary(min_size=2, max_size=40).filter(lambda data: len(data) % 2 == 0))
def test_bytes_are_pixels_or_are_refused(data: bytes) -> None:
    try:
        counts = obi.counts(data)
    except MalformedReply:
        assert any(low & 3 for low in data[1::2])
    else:
        assert counts.max() <= obi.HIGHEST_COUNT


# ------------------------------------------------------------------------------- scans


def test_it_is_a_scan_with_one_detector(opened: Opener) -> None:
    scan = opened(detector="bf", detector_angles=["0 mrad", "10 mrad"])
    assert isinstance(scan, Scan)
    assert scan.describe().detectors == ("bf",)
    assert scan.describe().details["bf_outer_mrad"] == 10.0
    with pytest.raises(LimitError, match="one ADC"):
        scan.check(replace(SHORT, detectors=("bf", "haadf")))
    with pytest.raises(LimitError):
        scan.check(SHORT)


@pytest.mark.parametrize("rate", [10.0])
def test_it_passes_conformance(rate: float) -> None:
    clock = WallClock(rate)
    with ObiDouble(rate) as board:
        context = DriverContext("scan", clock, "station.toml")
        scan = open_scan(context, address=board.address, full_field="1.6384 µm")
        check_scan(scan, clock, SHORT)
        scan.close()


def test_every_pixel_is_read_where_the_axes_say(
    opened: Opener, clock: WallClock, board: ObiDouble
) -> None:
    scan = opened()
    scan.blank(False)
    asked = replace(SHORT, center_nm=(100.0, -50.0))
    spec = scan.arm(asked, 1)
    (frame,) = scan.frames(clock.signal())
    # 0.1 nm for a code, 4 nm for a pixel
    axes = spec.channels["haadf"].axes
    assert axes["x"].step == axes["y"].step == pytest.approx(4.0)
    x = axes["x"].offset + axes["x"].step * np.arange(48)
    y = axes["y"].offset + axes["y"].step * np.arange(32)
    assert abs(x.mean() - 100.0) < 0.1
    assert abs(y.mean() + 50.0) < 0.1
    codes_x, codes_y = np.round(x / 0.1 + 8192).astype(int), np.round(y / 0.1 + 8192).astype(int)
    expected = [[value(int(a), int(b)) for a in codes_x] for b in codes_y]
    np.testing.assert_array_equal(frame.data["haadf"], expected)
    assert frame.meta.scalars["dwell_time"] == 2e-6
    assert 0 <= frame.meta.scalars["timing_bound"] < 1.0


def test_quantities_that_the_board_cannot_take_are_refused(opened: Opener) -> None:
    scan = opened()
    bad = [
        replace(SHORT, dwell_time_s=190e-9),
        replace(SHORT, field_of_view_nm=1700.0),
        replace(SHORT, center_nm=(800.0, 0.0)),
        replace(SHORT, center_nm=(math.nan, 0.0)),
        replace(SHORT, shape=(8, 8)),
        replace(SHORT, dwell_time_s=8.3e-3),
        replace(SHORT, frame_period_s=math.inf),
    ]
    for request in bad:
        with pytest.raises((LimitError, ValueError)):
            scan.check(request)
    scan.check(replace(SHORT, dwell_time_s=250e-9))


def test_the_beam_is_on_only_for_pixels_and_parked_probes(
    opened: Opener, clock: WallClock, board: ObiDouble
) -> None:
    scan = opened()
    assert scan.blanked()
    assert not board.lit()
    scan.blank(False)
    assert board.lit()
    take(scan, clock)
    assert not board.lit()
    assert not scan.blanked()
    scan.park(10.0, -10.0)
    assert board.lit()
    assert board.at == (8292, 8092)
    scan.shift(1.0, 0.0)
    assert board.at == (8302, 8092)
    with pytest.raises(LimitError):
        scan.park(900.0, 0.0)
    with pytest.raises(LimitError):
        scan.park(math.nan, 0.0)
    scan.blank(True)
    scan.park(0.0, 0.0)
    assert not board.lit()
    assert scan.blanked()


def test_a_shift_that_takes_the_armed_field_beyond_the_dac_is_refused_and_moves_nothing(
    opened: Opener, clock: WallClock
) -> None:
    scan = opened()
    scan.blank(False)
    before = take(scan, clock).data["haadf"]
    scan.arm(SHORT, None)
    frames = scan.frames(clock.signal())
    next(frames)
    # the range ends at 819.2 nm, the field of 192 nm around the shift
    scan.shift(700.0, 0.0)
    with pytest.raises(LimitError, match="the DAC reaches"):
        scan.shift(50.0, 0.0)
    next(frames)
    scan.shift(-700.0, 0.0)
    np.testing.assert_array_equal(next(frames).data["haadf"], before)
    scan.disarm()
    scan.shift(750.0, 0.0)


def test_a_blank_in_a_frame_takes_effect_within_it(
    opened: Opener, clock: WallClock, board: ObiDouble
) -> None:
    scan = opened()
    scan.blank(False)
    got: list[Any] = []
    taking = threading.Thread(
        target=lambda: got.append(take(scan, clock, replace(LONG, dwell_time_s=1e-3)))
    )
    taking.start()
    while board.sent_pixels < 100:
        time.sleep(0.01)
    began = time.monotonic()
    scan.blank(True)
    assert time.monotonic() - began < 0.4
    assert not board.lit()
    taking.join(5.0)
    image = got[0].data["haadf"].ravel()
    assert image[0] > 5
    assert image[-1] == 5
    assert 100 < np.count_nonzero(image > 5) < 600


def test_make_safe_in_a_frame_aborts_and_blanks(
    opened: Opener, clock: WallClock, board: ObiDouble
) -> None:
    scan = opened()
    scan.blank(False)
    scan.arm(LONG, None)
    taking = threading.Thread(target=lambda: list(scan.frames(clock.signal())))
    taking.start()
    while board.sent_pixels < 10:
        time.sleep(0.005)
    began = time.monotonic()
    scan.make_safe("test")
    assert time.monotonic() - began < 0.1
    assert scan.blanked()
    assert not board.lit()
    assert board.control
    taking.join(1.0)
    assert not taking.is_alive()
    assert "abort" in board.log


def test_release_when_safe_blanks_before_it_gives_the_beam_back(
    opened: Opener, board: ObiDouble
) -> None:
    scan = opened(release_when_safe=True)
    scan.blank(False)
    scan.make_safe("test")
    assert not scan.blanked()
    assert board.log[-2:] == ["blank 1", "control 0"]
    scan.blank(True)
    assert board.control
    assert not board.lit()


def test_close_gives_the_beam_back_blanked_first(opened: Opener, board: ObiDouble) -> None:
    scan = opened()
    scan.blank(False)
    scan.close()
    assert board.log[-2:] == ["blank 1", "control 0"]
    with pytest.raises(LinkError):
        scan.blanked()


# ----------------------------------------------------------------------------- mishaps


@pytest.mark.parametrize("mishap", ["lose_byte_after", "extra_byte_after"])
@pytest.mark.parametrize("after", [0, 700])
def test_a_byte_too_few_or_too_many_never_shifts_an_image(
    opened: Opener,
    clock: WallClock,
    board: ObiDouble,
    monkeypatch: pytest.MonkeyPatch,
    mishap: str,
    after: int,
) -> None:
    monkeypatch.setattr("drivers.scans.open_beam_device.STALLED_S", 0.5)
    scan = opened()
    scan.blank(False)
    good = take(scan, clock).data["haadf"]
    setattr(board, mishap, board.sent_pixels + after)
    with pytest.raises(LinkError):
        take(scan, clock)
    again = take(scan, clock).data["haadf"]
    np.testing.assert_array_equal(again, good)
    assert board.connections == 2


def test_a_cut_connection_is_made_anew_and_nothing_is_replayed(
    opened: Opener, clock: WallClock, board: ObiDouble
) -> None:
    scan = opened()
    scan.blank(False)
    threading.Timer(0.3, board.cut).start()
    with pytest.raises(LinkError):
        take(scan, clock, LONG)
    regions = sum(line.startswith("region") for line in board.log)
    assert scan.blanked() is False
    assert not board.lit(), "on a new connection the beam is blanked at rest"
    assert sum(line.startswith("region") for line in board.log) == regions
    assert take(scan, clock).data["haadf"].max() > 5


def test_a_board_that_hangs_is_noticed_and_a_cut_still_ends_in_time(
    opened: Opener, clock: WallClock, board: ObiDouble
) -> None:
    scan = opened()
    scan.blank(False)
    board.hang_after = board.sent_pixels + 50
    stop = clock.signal()
    scan.arm(LONG, None)
    threading.Timer(0.5, stop.set).start()
    began = time.monotonic()
    assert list(scan.frames(stop)) == []
    assert time.monotonic() - began < 0.5 + 0.4
    board.hang_after = None
    assert scan.blanked() is False
    scan.disarm()
    assert take(scan, clock).data["haadf"].max() > 5


def test_what_an_earlier_client_left_is_thrown_away(opened: Opener, board: ObiDouble) -> None:
    board.garbage = True
    assert opened().blanked()


def test_nobody_there_is_a_link_error_in_bounded_time(clock: WallClock) -> None:
    began = time.monotonic()
    context = DriverContext("scan", clock, "station.toml")
    with pytest.raises(LinkError, match="cannot be reached"):
        open_scan(context, address="127.0.0.1:1", full_field="1 µm")
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    "options",
    [
        {"full_field": "3"},
        {"detector": ["haadf", "abf"]},
        {"release_when_safe": "no"},
        {"address": "2224"},
        {"probe_current": "much"},
    ],
)
def test_options_that_cannot_be_are_refused(opened: Opener, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        opened(**options)


def test_arming_twice_and_frames_without_arming_are_refused(
    opened: Opener, clock: WallClock
) -> None:
    scan = opened()
    with pytest.raises(InstrumentError):
        scan.frames(clock.signal())
    scan.arm(SHORT, 1)
    with pytest.raises(InstrumentError):
        scan.arm(SHORT, 1)
