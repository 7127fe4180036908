"""The DigiScan driver against a stand-in of the plug-in."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LimitError, LinkError
from acquire.instruments import Scan, ScanExposure
from acquire.station import DriverContext
from drivers.conformance import check_scan
from drivers.scans.digiscan import DigiScan, open_digiscan
from tests.drivers.emccd_double import EmccdDouble, picture

Opener = Callable[..., DigiScan]
SHORT = ScanExposure(("haadf", "abf"), (24, 32), 64.0, 2e-6)
LONG = ScanExposure(("haadf", "abf"), (32, 32), 64.0, 600e-6)


@pytest.fixture
def double() -> Iterator[EmccdDouble]:
    with EmccdDouble() as made:
        yield made


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def opened(double: EmccdDouble, clock: WallClock) -> Iterator[Opener]:
    contexts: list[DriverContext] = []
    scans: list[DigiScan] = []

    def make(**options: Any) -> DigiScan:
        context = DriverContext("scan", clock, "station.toml")
        given = {
            "address": double.address,
            "detectors": {"haadf": 0, "abf": 2},
            "width_at_1x": "0.1 m",
        }
        contexts.append(context)
        scans.append(open_digiscan(context, **{**given, **options}))
        return scans[-1]

    yield make
    for scan in scans:
        scan.close()
        scan.close()
    for context in contexts:
        context.shared.close()


@pytest.fixture
def scan(opened: Opener) -> DigiScan:
    return opened()


def acquisitions(double: EmccdDouble) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    return [(longs, doubles) for function, longs, doubles in double.requests if function == 19]


def test_it_is_a_scan_and_conforms(double: EmccdDouble, scan: DigiScan, clock: WallClock) -> None:
    assert isinstance(scan, Scan)
    dark = picture
    double.images = lambda channel, shape: dark(channel, shape) * (not double.blanked)
    check_scan(scan, clock)


def test_limits_come_from_the_device_and_the_options(scan: DigiScan) -> None:
    limits = {limit.quantity: limit for limit in scan.describe().limits}
    assert (limits["dwell_time"].low, limits["dwell_time"].high) == (0.5e-6, 0.419430)
    assert (limits["field_of_view"].low, limits["field_of_view"].high) == (5.0, 5000.0)


@pytest.mark.parametrize("beam_energy", ["300 kV", "300 keV", "0.3 MeV"])
def test_facts_of_the_microscope_are_told(opened: Opener, beam_energy: str) -> None:
    details = (
        opened(
            probe_current="100 pA",
            beam_energy=beam_energy,
            convergence_semi_angle="23 mrad",
            detector_angles={"haadf": ["70 mrad", "175 mrad"]},
        )
        .describe()
        .details
    )
    assert details["probe_current_pa"] == 100
    assert details["beam_energy_kev"] == pytest.approx(300)
    assert details["haadf_outer_mrad"] == 175
    assert details["line_flyback_s"] == pytest.approx(100e-6)


# ----------------------------------------------------------------------------- frames


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


# ------------------------------------------------------------------------------- field


def test_the_field_sets_the_magnification_of_the_longer_side(
    double: EmccdDouble, scan: DigiScan
) -> None:
    spec = scan.arm(SHORT, 1)
    assert double.magnification == pytest.approx(0.1e9 / 64)
    axis = spec.channels["haadf"].axes["x"]
    assert axis.step == 2.0
    assert axis.offset == pytest.approx(-31.0)
    scan.disarm()
    scan.arm(replace(SHORT, shape=(64, 32)), 1)
    assert double.magnification == pytest.approx(0.1e9 / 128)


def test_axes_tell_the_field_that_the_column_took(double: EmccdDouble, scan: DigiScan) -> None:
    double.script_values["EMGetMagnification"] = 0.1e9 / 64 * 0.995
    spec = scan.arm(SHORT, 1)
    assert spec.channels["abf"].axes["y"].step == pytest.approx(2.0 / 0.995)


def test_a_magnification_too_far_off_is_an_error_and_leaves_it_disarmed(
    double: EmccdDouble, scan: DigiScan
) -> None:
    double.script_values["EMGetMagnification"] = 0.1e9 / 80
    with pytest.raises(InstrumentError, match="80 nm"):
        scan.arm(SHORT, 1)
    double.script_values.clear()
    scan.arm(SHORT, 1)


def test_a_magnification_that_somebody_has_turned_meanwhile_is_set_again(
    double: EmccdDouble, scan: DigiScan
) -> None:
    scan.arm(SHORT, 1)
    scan.disarm()
    double.magnification *= 2
    spec = scan.arm(SHORT, 1)
    assert double.magnification == pytest.approx(0.1e9 / 64)
    assert spec.channels["haadf"].axes["x"].step == 2.0


@pytest.mark.parametrize("exposure", [SHORT, LONG])
def test_a_magnification_that_is_turned_in_an_acquisition_ends_it(
    double: EmccdDouble, scan: DigiScan, clock: WallClock, exposure: ScanExposure
) -> None:
    scan.arm(exposure, None)
    frames = scan.frames(clock.signal())
    next(frames)
    double.magnification *= 1.5
    with pytest.raises(InstrumentError, match="magnification was changed"):
        next(frames)
    scan.disarm()
    scan.blank(True)
    with pytest.raises(InstrumentError, match="magnification was changed"):
        scan.park(0.0, 0.0)
    scan.arm(exposure, 1)
    assert len(list(scan.frames(clock.signal()))) == 1


def test_where_somebody_has_moved_the_beam_it_is_shifted_from_there(
    double: EmccdDouble, scan: DigiScan
) -> None:
    scan.arm(SHORT, 1)
    scan.disarm()
    double.shift = [103.0, -52.0]
    scan.shift(1.0, 2.0)
    assert double.shift == [pytest.approx(104.0), pytest.approx(-50.0)]
    scan.arm(replace(SHORT, center_nm=(10.0, 0.0)), 1)
    assert double.shift == [pytest.approx(114.0), pytest.approx(-50.0)]
    scan.shift(-1.0, -2.0)
    assert double.shift == [pytest.approx(113.0), pytest.approx(-52.0)]


def test_a_beam_shift_in_metres_is_told_to_the_picometre(
    double: EmccdDouble, opened: Opener
) -> None:
    double.shift = [0.0, 0.0]
    scan = opened(shift_unit="1 m")
    scan.shift(0.3, -0.2)
    assert double.shift == [pytest.approx(0.3e-9, abs=1e-12), pytest.approx(-0.2e-9, abs=1e-12)]


def test_a_beam_shift_whose_y_goes_up_is_mirrored(double: EmccdDouble, opened: Opener) -> None:
    scan = opened(shift_mirrored=True, shift_rotation="90 deg")
    scan.shift(10.0, 5.0)
    assert double.shift == [pytest.approx(3.0 + 5.0), pytest.approx(-2.0 + 10.0)]


def test_centre_and_shift_move_the_beam_from_where_it_was(
    double: EmccdDouble, opened: Opener
) -> None:
    scan = opened(shift_unit="2 nm", shift_rotation="90 deg")
    scan.shift(10.0, 0.0)
    assert double.shift == [pytest.approx(3.0), pytest.approx(3.0)]
    scan.arm(replace(SHORT, center_nm=(0.0, 4.0)), 1)
    assert double.shift == [pytest.approx(1.0), pytest.approx(3.0)]
    scan.disarm()
    scan.arm(SHORT, 1)
    assert double.shift == [pytest.approx(3.0), pytest.approx(3.0)]


def test_a_shift_that_the_column_does_not_take_is_an_error(
    double: EmccdDouble, scan: DigiScan
) -> None:
    double.script_values["EMSetCalibratedBeamShift"] = 0.0
    with pytest.raises(InstrumentError, match="the column is 50 nm from it"):
        scan.shift(50.0, 0.0)
    with pytest.raises(LimitError):
        scan.shift(1e6, 0.0)


def test_the_probe_is_put_on_a_point_of_the_field_calibrated_in_the_dark(
    double: EmccdDouble, scan: DigiScan
) -> None:
    lit: list[bool] = []
    double.images = lambda channel, shape: lit.append(not double.blanked) or picture(channel, shape)
    scan.arm(replace(SHORT, center_nm=(10.0, 0.0)), 1)
    scan.disarm()
    scan.park(10.0 + 16.0, -8.0)
    # a quarter of the field to the right, an eighth up
    assert double.position == (pytest.approx(-22000 / 4), pytest.approx(-18000 / 8))
    assert lit == [False]
    assert not double.blanked
    assert not double.continuous
    assert not double.kept
    frames = len(acquisitions(double))
    scan.park(10.0, 0.0)
    assert double.position == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))
    assert len(acquisitions(double)) == frames
    with pytest.raises(LimitError, match="the field is 64 nm around"):
        scan.park(-30.0, 0.0)
    with pytest.raises(LimitError):
        scan.park(math.nan, 0.0)


def test_the_probe_is_calibrated_in_a_field_that_is_rotated_as_the_frames_are(
    double: EmccdDouble, opened: Opener
) -> None:
    scan = opened(rotation="30 deg")
    scan.arm(SHORT, 1)
    scan.disarm()
    scan.park(0.0, 0.0)
    ((_, (rotation_deg, _)),) = acquisitions(double)
    assert rotation_deg == pytest.approx(30.0)


def test_a_calibration_in_vain_does_not_leave_the_beam_blanked(
    double: EmccdDouble, scan: DigiScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = double._function

    def nowhere(name: str, inside: str, names: dict[str, float]) -> float:
        if name != "DSCalcDSCoordFromImage":
            return others(name, inside, names)
        names["x"] = names["y"] = 1.0
        return 0.0

    monkeypatch.setattr(double, "_function", nowhere)
    scan.arm(SHORT, 1)
    scan.disarm()
    with pytest.raises(InstrumentError, match="where the points"):
        scan.park(0.0, 0.0)
    assert not double.blanked


# -------------------------------------------------------------------------------- beam


def test_a_blank_that_does_not_happen_is_an_error(double: EmccdDouble, scan: DigiScan) -> None:
    double.script_values["EMGetBeamBlanked"] = 0.0
    with pytest.raises(InstrumentError, match="not blanked"):
        scan.blank(True)


def test_where_the_column_cannot_tell_the_last_command_counts(
    double: EmccdDouble, opened: Opener
) -> None:
    double.unknown = {"EMGetBeamBlanked"}
    scan = opened()
    assert scan.describe().details["blank_is_read_back"] == "no"
    scan.blank(True)
    assert scan.blanked()
    assert double.blanked


def test_make_safe_goes_on_until_the_beam_is_blanked(double: EmccdDouble, scan: DigiScan) -> None:
    double.silent = True
    begin = time.monotonic()
    scan.make_safe("a test")
    scan.make_safe("again")
    assert time.monotonic() - begin < 0.1
    with pytest.raises(LinkError, match="not known yet"):
        scan.blanked()
    assert not double.blanked
    double.silent = False
    until(lambda: double.blanked)
    assert scan.blanked()


def test_closing_ends_a_make_safe_that_cannot_succeed(opened: Opener, double: EmccdDouble) -> None:
    scan = opened()
    double.__exit__(None, None, None)
    scan.make_safe("a test")
    begin = time.monotonic()
    scan.close()
    assert time.monotonic() - begin < 2.5


# ----------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        {"detectors": {}},
        {"detectors": {"haadf": 0, "abf": 0}},
        {"detectors": {"haadf": 9}},
        {"detectors": {"haadf": "0"}},
        {"width_at_1x": 100},
        {"width_at_1x": "1 kg"},
        {"rest": "anywhere"},
        {"field_of_view": ["1 µm", "10 nm"]},
        {"line_sync": 1},
        {"shift_mirrored": "no"},
        {"beam_energy": "300"},
        {"address": "nowhere"},
    ],
)
def test_options_that_cannot_be_used_are_refused(opened: Opener, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        opened(**options)


def test_a_signal_that_digiscan_does_not_have_is_refused(opened: Opener) -> None:
    with pytest.raises(InstrumentError, match="3 signals"):
        opened(detectors={"haadf": 5})


def until(look: Callable[[], bool], within_s: float = 8.0) -> None:
    end = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)
