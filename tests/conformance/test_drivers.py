"""Every driver of ours passes the conformance suite on the far end of its wire, over disturbed connections.

Drivers and far ends come from the installed stations, so that a station whose options are wrong
fails here, too. Where a device is slow to be given up, the disturbances that only make it silent are
left to ``hotstage bench wires``, which tries all.
"""

from __future__ import annotations

import pytest

from acquire import plugins
from drivers.conformance.rig import Subject
from drivers.conformance.stations import drivers_on_wires, subject
from drivers.conformance.suite import (
    ChannelSuite,
    Disturbance,
    HolderSuite,
    ScanSuite,
    SpectrometerSuite,
)

pytestmark = pytest.mark.timeout(120)
SLOW = (Disturbance.SPLIT, Disturbance.DOUBLED, Disturbance.GARBAGE, Disturbance.CUT)


ON_WIRES = drivers_on_wires()


def _of(driver: str, rate: float) -> Subject:
    """A driver on the first station that has it, so many clock seconds per wall second."""
    return subject(*ON_WIRES[driver], rate)


class TestImpulse(HolderSuite):
    subject = _of("impulse", 10.0)
    disturbances = (*SLOW, Disturbance.DROPPED_BYTE)


class TestSourceMeterHeater(HolderSuite):
    subject = _of("source_meter_heater", 2.0)


class TestEurotherm(HolderSuite):
    subject = _of("eurotherm", 10.0)


class TestDigiScan(ScanSuite):
    subject = _of("digiscan", 5.0)
    disturbances = SLOW


class TestGif(SpectrometerSuite):
    subject = _of("gif", 5.0)
    disturbances = SLOW


class TestTemscript(ScanSuite):
    subject = _of("temscript", 5.0)
    disturbances = SLOW


class TestOpenBeam(ScanSuite):
    subject = _of("open_beam_interface", 5.0)
    disturbances = SLOW


class TestSimplon(SpectrometerSuite):
    subject = _of("simplon", 5.0)
    disturbances = SLOW


class TestGms(SpectrometerSuite):
    subject = _of("gms", 5.0)
    disturbances = SLOW


class TestSourceMeterResistance(ChannelSuite):
    subject = _of("source_meter_resistance", 10.0)


def test_every_driver_is_tried() -> None:
    tried = {
        suite.subject.name
        for suite in globals().values()
        if isinstance(suite, type) and hasattr(suite, "subject")
    }
    assert tried == {plugin.name for plugin in plugins.discover(plugins.DRIVERS)}
    assert tried == set(ON_WIRES)
