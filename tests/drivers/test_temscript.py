"""The temscript driver against the package's own server on a made-up microscope, and against raw bytes."""

from __future__ import annotations

import contextlib
import json
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
from acquire.errors import HotstageError, InstrumentError, LimitError, LinkError
from acquire.instruments import Scan, ScanExposure
from acquire.station import DriverContext
from drivers.conformance import check_scan
from drivers.scans.temscript import TemscriptScan, open_temscript
from drivers.scans.temscript_http import TemscriptHttp
from tests.drivers.temscript_double import Column, RawServer, Server

Opener = Callable[..., TemscriptScan]
SHORT = ScanExposure(("haadf", "bf"), (64, 64), 80.0, 1e-6)
LONG = replace(SHORT, dwell_time_s=300e-6)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def column(server: Server) -> Column:
    return server.column


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def opened(server: Server, clock: WallClock) -> Iterator[Opener]:
    made: list[TemscriptScan] = []

    def make(**options: Any) -> TemscriptScan:
        context = DriverContext("scan", clock, "station.toml")
        given = {"address": server.address, "width_at_1x": "0.1 m", "full_size": 256}
        made.append(open_temscript(context, **{**given, **options}))
        return made[-1]

    yield make
    for scan in made:
        scan.close()
        scan.close()


def test_it_is_a_scan_with_the_microscopes_detectors(opened: Opener) -> None:
    scan = opened(probe_current="100 pA", beam_energy="300 keV")
    assert isinstance(scan, Scan)
    found = scan.describe()
    assert found.detectors == ("haadf", "bf")
    assert found.model == "TITAN STEM"
    assert found.details["beam_energy_kev"] == 300.0
    assert found.details["probe_current_pa"] == 100.0
    assert found.details["sizes"] == "32, 64, 128, 256"


def test_it_passes_conformance(opened: Opener, clock: WallClock) -> None:
    scan = opened(dwell_time=["100 ns", "0.3 ms"])
    check_scan(scan, clock, SHORT)


def test_images_have_their_detector_rows_and_columns(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    scan = opened(detectors={"light": "BF", "dark": "HAADF"})
    spec = scan.arm(replace(SHORT, detectors=("light", "dark")), 1)
    (frame,) = scan.frames(clock.signal())
    scan.disarm()
    assert frame.data["dark"].dtype == np.uint16
    assert (frame.data["dark"][5, 0], frame.data["dark"][0, 1]) == (110, 101)
    assert (frame.data["light"][5, 0], frame.data["light"][0, 1]) == (1110, 1101)
    assert column.get_stem_acquisition_param()["binning"] == 4
    assert spec.channels["dark"].axes["x"].step == pytest.approx(80.0 / 64)
    assert frame.meta.scalars["dwell_time"] == 1e-6


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", ">u2", "<u4", "i1", "<i8", ">u8"])
def test_any_integer_type_and_byte_order_is_read(
    opened: Opener, clock: WallClock, column: Column, dtype: str
) -> None:
    column.dtype = np.dtype(dtype)
    scan = opened(detectors={"haadf": "HAADF"})
    column.base = 0 if dtype == "i1" else 100
    scan.arm(replace(SHORT, detectors=("haadf",), shape=(32, 32)), 1)
    (frame,) = scan.frames(clock.signal())
    assert frame.data["haadf"][31, 1] == column.base + 63


def test_values_below_zero_are_refused_or_moved_but_never_clipped(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    column.base = -50
    scan = opened(detectors={"haadf": "HAADF"})
    asked = replace(SHORT, detectors=("haadf",))
    scan.arm(asked, 1)
    with pytest.raises(InstrumentError, match="count_offset"):
        list(scan.frames(clock.signal()))
    scan.disarm()
    moved = opened(detectors={"haadf": "HAADF"}, count_offset=32768)
    moved.blank(False)
    moved.arm(asked, 1)
    (frame,) = moved.frames(clock.signal())
    assert frame.data["haadf"][0, 0] == 32718


def test_the_axes_tell_the_step_of_magnification_that_was_taken(
    opened: Opener, column: Column
) -> None:
    column.step = lambda value: 1.02 * value
    scan = opened()
    axis = scan.arm(SHORT, 1).channels["bf"].axes["x"]
    assert axis.step == pytest.approx(80.0 / 64 / 1.02)
    scan.disarm()
    column.step = lambda value: 1.2 * value
    with pytest.raises(InstrumentError, match="field_tolerance"):
        scan.arm(SHORT, 1)
    column.step = float
    scan.arm(SHORT, 1)


@pytest.mark.parametrize(
    ("endpoint", "value", "told"),
    [
        ("set_stem_magnification", 2e6, "magnification was changed"),
        ("set_stem_rotation", 0.5, "rotated"),
        (
            "set_stem_acquisition_param",
            {"image_size": "FULL", "binning": 4, "dwell_time(s)": 2e-6},
            "changed from",
        ),
    ],
)
def test_what_somebody_changes_in_an_acquisition_ends_it_and_is_set_anew(
    opened: Opener, clock: WallClock, column: Column, endpoint: str, value: Any, told: str
) -> None:
    scan = opened(rotation="0 deg")
    scan.arm(SHORT, None)
    frames = scan.frames(clock.signal())
    next(frames)
    getattr(column, endpoint)(value)
    with pytest.raises(InstrumentError, match=told):
        next(frames)
    assert column.get_beam_blanked()
    scan.disarm()
    scan.arm(SHORT, 1)
    assert len(list(scan.frames(clock.signal()))) == 1
    assert column.get_stem_magnification() == pytest.approx(1e8 / 80.0)
    assert column.get_stem_rotation() == 0.0


def test_a_rotation_that_is_left_as_it_is_is_told(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    column.set_stem_rotation(math.radians(30.0))
    scan = opened()
    assert scan.describe().details["scan_rotation_deg"] == pytest.approx(30.0)
    column.set_stem_rotation(math.radians(-45.0))
    scan.arm(SHORT, 1)
    assert scan.describe().details["scan_rotation_deg"] == pytest.approx(-45.0)
    (frame,) = scan.frames(clock.signal())
    assert frame.meta.scalars["scan_rotation"] == pytest.approx(-45.0)


def test_another_dwell_time_than_asked_for_is_refused(opened: Opener, column: Column) -> None:
    column.dwell = lambda value: 1.1 * value
    with pytest.raises(InstrumentError, match="dwell time"):
        opened().arm(SHORT, 1)


def test_sizes_that_binning_does_not_give_are_refused_or_taken_as_a_part_of_the_field(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    with pytest.raises(LimitError, match="32, 64, 128, 256"):
        opened().arm(replace(SHORT, shape=(16, 16)), 1)
    scan = opened(partial_field="cropped", detectors={"haadf": "HAADF"})
    small = replace(SHORT, detectors=("haadf",), shape=(16, 16), field_of_view_nm=40.0)
    spec = scan.arm(small, 1)
    (frame,) = scan.frames(clock.signal())
    assert frame.data["haadf"].shape == (16, 16)
    assert column.get_stem_acquisition_param() == {
        "image_size": "HALF",
        "binning": 8,
        "dwell_time(s)": 1e-6,
    }
    assert column.get_stem_magnification() == pytest.approx(1e8 / 80.0)
    assert spec.channels["haadf"].axes["x"].step == pytest.approx(2.5)


def test_center_shift_and_parked_probe_add_up_in_metres(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    scan = opened()
    scan.arm(replace(SHORT, center_nm=(10.0, -20.0)), 1)
    assert column.get_beam_shift() == pytest.approx((10e-9, -20e-9))
    scan.shift(5.0, 5.0)
    assert column.get_beam_shift() == pytest.approx((15e-9, -15e-9))
    scan.park(30.0, 0.0)
    assert column.get_beam_shift() == pytest.approx((35e-9, 5e-9))
    list(scan.frames(clock.signal()))
    assert column.get_beam_shift() == pytest.approx((15e-9, -15e-9))
    for x in (2000.0, math.nan):
        with pytest.raises(LimitError):
            scan.park(x, 0.0)
        with pytest.raises(LimitError):
            scan.shift(0.0, x)
    assert column.get_beam_shift() == pytest.approx((15e-9, -15e-9))


def test_where_somebody_has_moved_the_beam_it_is_shifted_from_there(
    opened: Opener, column: Column
) -> None:
    scan = opened()
    scan.arm(SHORT, 1)
    scan.disarm()
    column.set_beam_shift((100e-9, -50e-9))
    scan.shift(1.0, 2.0)
    assert column.get_beam_shift() == pytest.approx((101e-9, -48e-9))
    scan.arm(replace(SHORT, center_nm=(10.0, 0.0)), 1)
    assert column.get_beam_shift() == pytest.approx((111e-9, -48e-9))


def test_a_shift_whose_y_goes_up_is_mirrored(opened: Opener, column: Column) -> None:
    scan = opened(shift_mirrored=True, shift_rotation="90 deg")
    scan.shift(10.0, 5.0)
    assert column.get_beam_shift() == pytest.approx((5e-9, 10e-9))


def test_an_unblank_that_make_safe_overtakes_does_not_light_later_frames(
    opened: Opener, clock: WallClock, column: Column, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = opened()
    scan.blank(True)
    told = column.set_beam_blanked

    def overtaken(mode: bool) -> None:
        if not mode:
            scan.make_safe("test")
        told(mode)

    monkeypatch.setattr(column, "set_beam_blanked", overtaken)
    scan.blank(False)
    monkeypatch.setattr(column, "set_beam_blanked", told)
    assert scan.blanked()
    scan.arm(SHORT, 3)
    lit = [frame.data["haadf"].min() >= 100 for frame in scan.frames(clock.signal())]
    assert lit == [False, False, False]


def test_the_beam_is_dark_between_frames_and_that_is_not_the_operators_blank(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    scan = opened()
    scan.arm(replace(SHORT, frame_period_s=0.2), 2)
    for frame in scan.frames(clock.signal()):
        assert frame.data["haadf"].min() >= 100
        assert column.get_beam_blanked()
        assert not scan.blanked()
    scan.disarm()
    scan.blank(True)
    assert scan.blanked()
    scan.arm(SHORT, 1)
    (frame,) = scan.frames(clock.signal())
    assert frame.data["bf"].max() < 200


def test_a_cut_frame_is_waited_for_before_the_next_one(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    scan = opened()
    stop = clock.signal()
    scan.arm(LONG, None)
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    assert list(scan.frames(stop)) == []
    assert time.monotonic() - began < 0.6
    scan.disarm()
    scan.blank(True)
    # what is told meanwhile waits for the end of the frame, 1.2 s after its beginning
    assert time.monotonic() - began > 1.2
    assert column.frames == 1
    assert scan.blanked()


def test_make_safe_in_a_frame_returns_at_once_and_blanks_after_it(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    scan = opened()
    scan.arm(LONG, None)
    taking = threading.Thread(target=lambda: list(scan.frames(clock.signal())))
    taking.start()
    while ("acquire", ("HAADF", "BF")) not in column.told:
        time.sleep(0.01)
    began = time.monotonic()
    scan.make_safe("test")
    assert time.monotonic() - began < 0.1
    taking.join(1.0)
    assert not taking.is_alive()
    assert scan.blanked()
    assert column.get_beam_blanked()
    assert column.told[-1] == ("blank", True)


def test_make_safe_is_not_forgotten_while_the_server_is_gone(
    clock: WallClock, server: Server, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = opened()
    working = scan._http.address
    scan._http.address = "127.0.0.1:1"
    monkeypatch.setattr("drivers.scans.temscript_beam.KNOWN_WALL_S", 0.1)
    scan.make_safe("test")
    with pytest.raises(LinkError, match="not known"):
        scan.blanked()
    scan._http.address = working
    monkeypatch.setattr("drivers.scans.temscript_beam.KNOWN_WALL_S", 5.0)
    assert scan.blanked()
    assert server.column.get_beam_blanked()


def test_a_refusal_of_the_microscope_is_told_with_its_reason(
    opened: Opener, clock: WallClock, column: Column
) -> None:
    scan = opened()
    scan.arm(SHORT, 1)
    column.fails = True
    with pytest.raises(InstrumentError, match="retracted"):
        list(scan.frames(clock.signal()))
    scan.disarm()
    column.fails = False
    scan.arm(SHORT, 1)
    assert len(list(scan.frames(clock.signal()))) == 1


def test_what_the_server_cannot_do_is_refused_at_the_beginning(
    opened: Opener, column: Column
) -> None:
    with pytest.raises(InstrumentError, match="HAADF, BF"):
        opened(detectors={"dark": "DF4"})
    column.version = "1.0.9"
    with pytest.raises(InstrumentError, match="version"):
        opened()
    column.version = "2.1.0"
    column.mode = "TEM"
    with pytest.raises(InstrumentError, match="STEM"):
        opened().arm(SHORT, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"width_at_1x": "3 s"},
        {"full_size": 3.5},
        {"partial_field": "some"},
        {"shift": "stage"},
        {"field_of_view": ["2 nm"]},
        {"dwell_time": ["1 s", "1 ms"]},
        {"detectors": {"a": "HAADF", "b": "HAADF"}},
        {"address": "nowhere"},
        {"beam_energy": "3 nm"},
        {"blank_between_frames": 1},
    ],
)
def test_options_that_cannot_be_are_refused(opened: Opener, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        opened(**options)


def test_nobody_there_is_a_link_error_in_bounded_time(clock: WallClock) -> None:
    began = time.monotonic()
    context = DriverContext("scan", clock, "station.toml")
    with pytest.raises(LinkError, match="cannot be reached"):
        open_temscript(context, address="127.0.0.1:1", width_at_1x="0.1 m")
    assert time.monotonic() - began < 4.0


def test_a_reply_that_drips_in_ends_at_the_deadline(clock: WallClock) -> None:
    with RawServer(b"HTTP/1.0 200 OK\r\n" * 20, pause_s=0.05) as raw:
        http = TemscriptHttp(raw.address, clock)
        began = time.monotonic()
        with pytest.raises(LinkError, match="in time"):
            http.get("version", within_s=0.5)
        assert time.monotonic() - began < 1.0


BODY = json.dumps("2.1.0").encode()
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        HEAD % 7 + b'"2.1.0',
        HEAD % 3 + BODY,
        HEAD % (1 << 40) + BODY,
        HEAD.replace(b"json", b"python-pickle") % len(BODY) + BODY,
        HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") % len(BODY) + BODY,
        HEAD % 100_000 + b"[" * 100_000,
        b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 200,
    ],
)
def test_a_malformed_reply_is_a_link_error(clock: WallClock, reply: bytes) -> None:
    with RawServer(reply) as raw:
        http = TemscriptHttp(raw.address, clock)
        with pytest.raises(LinkError):
            http.get("version", within_s=0.5)


@settings(max_examples=40, deadline=None)
@given(some.binary(max_size=60), some.sampled_from([b"", HEAD % 20, b"HTTP/1.1 200 OK\r\n"]))
def test_any_bytes_end_in_a_value_or_an_error_of_ours(tail: bytes, head: bytes) -> None:
    with RawServer(head + tail) as raw:
        http = TemscriptHttp(raw.address, WallClock())
        with contextlib.suppress(HotstageError):
            http.get("version", within_s=0.2)
