"""The field of the DigiScan driver: magnification, shift of the beam, points in it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LimitError
from acquire.instruments import ScanExposure
from drivers.scans.digiscan import DigiScan
from tests.drivers.digiscan.conftest import LONG, SHORT, Opener, acquisitions
from tests.drivers.emccd_double import EmccdDouble, picture


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
