"""The DigiScan driver: what it tells of itself, its beam, its options."""

from __future__ import annotations

import time
from typing import Any

import pytest

from acquire.clock import WallClock
from acquire.errors import InstrumentError, LinkError
from acquire.instruments import Scan
from drivers.conformance import check_scan
from drivers.scans.digiscan import DigiScan
from tests.drivers.digiscan.conftest import Opener, until
from tests.drivers.emccd_double import EmccdDouble, picture


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
