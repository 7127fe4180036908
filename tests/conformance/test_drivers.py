"""Every driver of ours passes the conformance suite on the far end of its wire, over disturbed connections.

Drivers and far ends come from the installed stations, so that a station whose options are wrong
fails here, too.
"""

from __future__ import annotations

import pytest

from acquire import plugins
from acquire.instruments import SpectrometerSetting
from acquire.station import Station
from drivers.conformance.stations import drivers_on_wires, subject
from drivers.conformance.suite import ChannelSuite, HolderSuite, ScanSuite, SpectrometerSuite

pytestmark = pytest.mark.timeout(120)


class TestImpulse(HolderSuite):
    subject = subject(Station.load("founding"), "holder", rate=10.0)


class TestSourceMeterHeater(HolderSuite):
    subject = subject(Station.load("source_meter"), "holder", rate=2.0)


class TestEurotherm(HolderSuite):
    subject = subject(Station.load("eurotherm"), "holder", rate=10.0)


class TestDigiScan(ScanSuite):
    subject = subject(Station.load("founding"), "scan", rate=5.0)


class TestGif(SpectrometerSuite):
    subject = subject(Station.load("founding"), "spectrometer", rate=5.0)


class TestSourceMeterResistance(ChannelSuite):
    subject = subject(Station.load("source_meter"), "film", rate=10.0)
