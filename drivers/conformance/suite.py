"""The conformance suite as classes for a test file: fill in two factories, and pytest does the rest.

    from drivers.conformance.suite import HolderSuite, Subject

    class TestMyOven(HolderSuite):
        subject = Subject("my oven", start=..., open=..., is_safe=...)

``start(clock)`` starts the far end, ``open(context, addresses)`` opens the driver on its addresses,
``is_safe(far_end)`` looks at the far end whether the device is safe. Between the two, the suite puts
proxies that disturb the bytes. Nothing here needs pytest itself; any runner of classes with
``setup_class`` will do. A pass on a simulated far end is not a validation of hardware.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

from acquire.instruments import (
    Channel,
    HeatingHolder,
    Scan,
    ScanExposure,
    Spectrometer,
    SpectrometerSetting,
)
from drivers.conformance import frame_links as frames
from drivers.conformance import holder_links as holders
from drivers.conformance.acquisitions import check_scan, check_spectrometer
from drivers.conformance.channel import check_channel, check_channel_disturbed, check_channel_loss
from drivers.conformance.holder import check_holder
from drivers.conformance.links import check_opening, check_release
from drivers.conformance.proxy import Disturbance
from drivers.conformance.rig import Rig, Subject, rig

__all__ = [
    "ChannelSuite",
    "Disturbance",
    "HolderSuite",
    "ScanSuite",
    "SpectrometerSuite",
    "Subject",
]


class LinkSuite:
    """What holds for every driver."""

    subject: ClassVar[Subject]
    disturbances: ClassVar[Sequence[Disturbance]] = tuple(Disturbance)
    rig: ClassVar[Rig]
    _made: ClassVar[AbstractContextManager[Rig]]

    @classmethod
    def setup_class(cls) -> None:
        """Start the far end."""
        cls._made = rig(cls.subject)
        cls.rig = cls._made.__enter__()

    @classmethod
    def teardown_class(cls) -> None:
        """End it."""
        cls._made.__exit__(None, None, None)

    def test_opening_on_a_dead_wire(self) -> None:
        """See :func:`check_opening`."""
        check_opening(self.rig)

    def test_closing(self) -> None:
        """See :func:`check_release`."""
        check_release(self.rig)


class HolderSuite(LinkSuite):
    """A heating holder."""

    def test_protocol(self) -> None:
        """Limits, ramp, hold, safe states: see :func:`check_holder`."""
        with self.rig.opened() as holder:
            assert isinstance(holder, HeatingHolder)
            check_holder(holder, self.rig.clock)

    def test_link_lost_when_off(self) -> None:
        """See :func:`drivers.conformance.holder_links.check_loss`, as the next ones."""
        holders.check_loss(self.rig, holders.Step.OFF)

    def test_link_lost_in_the_reply_to_a_ramp(self) -> None:
        """The command was sent; what became of it is read."""
        holders.check_loss(self.rig, holders.Step.COMMANDED)

    def test_link_lost_in_a_ramp(self) -> None:
        """In mid-ramp."""
        holders.check_loss(self.rig, holders.Step.RAMPING)

    def test_link_lost_in_a_hold(self) -> None:
        """While the temperature is held."""
        holders.check_loss(self.rig, holders.Step.HOLDING)

    def test_link_lost_on_the_way_to_safety(self) -> None:
        """While the safe state cools."""
        holders.check_loss(self.rig, holders.Step.COOLING)

    def test_made_safe_while_unplugged(self) -> None:
        """See :func:`drivers.conformance.holder_links.check_safe_without_link`."""
        holders.check_safe_without_link(self.rig, silent=False)

    def test_made_safe_in_silence(self) -> None:
        """The same when the device only says nothing."""
        holders.check_safe_without_link(self.rig, silent=True)

    def test_disturbed_replies_are_never_taken_for_others(self) -> None:
        """See :func:`drivers.conformance.holder_links.check_disturbance`."""
        for disturbance in self.disturbances:
            holders.check_disturbance(self.rig, disturbance)

    def test_calls_of_many_threads(self) -> None:
        """See :func:`drivers.conformance.holder_links.check_many_threads`."""
        holders.check_many_threads(self.rig)


class FrameSuite(LinkSuite):
    """What takes frames."""

    def exposing(self, instrument: Any) -> frames.Exposing:
        """How frames are taken with the instrument."""
        raise NotImplementedError("take ScanSuite or SpectrometerSuite.")

    def test_link_lost_when_idle(self) -> None:
        """See :func:`drivers.conformance.frame_links.check_loss`, as the next ones."""
        self._lose(frames.Step.IDLE)

    def test_link_lost_when_armed(self) -> None:
        """Before the first exposure."""
        self._lose(frames.Step.ARMED)

    def test_link_lost_in_an_exposure(self) -> None:
        """In a long one."""
        self._lose(frames.Step.EXPOSING)

    def test_link_lost_between_exposures(self) -> None:
        """While one short exposure follows another."""
        self._lose(frames.Step.BETWEEN)

    def test_stop_in_silence(self) -> None:
        """See :func:`drivers.conformance.frame_links.check_stop_in_silence`."""
        with self.rig.opened() as instrument:
            frames.check_stop_in_silence(self.rig, self.exposing(instrument))

    def test_disturbed_replies_are_never_taken_for_others(self) -> None:
        """See :func:`drivers.conformance.frame_links.check_disturbance`."""
        for disturbance in self.disturbances:
            with self.rig.opened() as instrument:
                frames.check_disturbance(self.rig, self.exposing(instrument), disturbance)

    def test_calls_of_many_threads(self) -> None:
        """See :func:`drivers.conformance.frame_links.check_many_threads`."""
        with self.rig.opened() as instrument:
            frames.check_many_threads(self.rig, self.exposing(instrument))

    def _lose(self, step: frames.Step) -> None:
        with self.rig.opened() as instrument:
            frames.check_loss(self.rig, self.exposing(instrument), step)


class ScanSuite(FrameSuite):
    """A scan with its detectors."""

    exposure: ClassVar[ScanExposure | None] = None
    """What :func:`check_scan` takes; default: 64² pixels of 2 µs, 40 nm, every detector."""

    def exposing(self, instrument: Any) -> frames.Exposing:
        """Small images."""
        return frames.scanning(instrument, self.rig)

    def test_protocol(self) -> None:
        """Limits, arming, frames, cuts, blanking: see :func:`check_scan`."""
        with self.rig.opened() as scan:
            assert isinstance(scan, Scan)
            check_scan(scan, self.rig.clock, self.exposure)

    def test_made_safe_while_unplugged(self) -> None:
        """See :func:`drivers.conformance.frame_links.check_safe_without_link`."""
        with self.rig.opened() as scan:
            frames.check_safe_without_link(self.rig, self.exposing(scan), silent=False)

    def test_made_safe_in_silence(self) -> None:
        """The same when the device only says nothing."""
        with self.rig.opened() as scan:
            frames.check_safe_without_link(self.rig, self.exposing(scan), silent=True)


class SpectrometerSuite(FrameSuite):
    """A spectrometer."""

    setting: ClassVar[SpectrometerSetting] = SpectrometerSetting(400.0, 0.1, 2000, dual=True)
    """Fewer channels are taken where there are not so many."""

    def exposing(self, instrument: Any) -> frames.Exposing:
        """Short spectra."""
        return frames.dispersing(instrument, self.rig, self._possible(instrument))

    def _possible(self, spectrometer: Spectrometer) -> SpectrometerSetting:
        limits = spectrometer.describe().limits
        most = [int(limit.high) for limit in limits if limit.quantity == "channels"]
        return replace(self.setting, channels=min([self.setting.channels, *most]))

    def test_protocol(self) -> None:
        """Limits, tuning, spectra, cuts: see :func:`check_spectrometer`."""
        with self.rig.opened() as spectrometer:
            assert isinstance(spectrometer, Spectrometer)
            check_spectrometer(spectrometer, self.rig.clock, self._possible(spectrometer))


class ChannelSuite(LinkSuite):
    """A channel of numbers."""

    def test_protocol(self) -> None:
        """See :func:`check_channel`."""
        with self.rig.opened() as channel:
            assert isinstance(channel, Channel)
            check_channel(channel)

    def test_link_lost(self) -> None:
        """See :func:`check_channel_loss`."""
        check_channel_loss(self.rig)

    def test_disturbed_replies_are_never_taken_for_others(self) -> None:
        """See :func:`check_channel_disturbed`."""
        for disturbance in self.disturbances:
            check_channel_disturbed(self.rig, disturbance)
