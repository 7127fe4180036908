"""Instruments behind a server, with the same protocols as those in this process."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from acquire.bursts import BLOCK_S, SpectrumBlock
from acquire.clock import ClockRelation, Signal
from acquire.errors import HotstageError, InstrumentError, LeaseError
from acquire.instruments import (
    Description,
    Frame,
    FrameMeta,
    HolderReading,
    Instrument,
    RampRequest,
    SafeState,
    ScanExposure,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.remote.blocks import unpack_block
from acquire.remote.catalogue import kind_of, method_of
from acquire.remote.client import Link
from acquire.remote.following import StreamTimes
from acquire.remote.frames import unpack_frames
from acquire.remote.receiving import Receiver
from acquire.remote.wire import ALIGN, pack, unpack, unpack_result

logger = logging.getLogger(__name__)

ARM_WALL_S = 30.0
"""A camera may have to take dark images of several seconds when it is armed."""
Relation = Callable[[], ClockRelation]
"""Asks how the server's clock maps to ours now."""


class _Remote:
    """What all proxies share: a link, a role, the relation of the clocks, the commander's token."""

    def __init__(self, link: Link, role: str, relation: Relation, token: Callable[[], str]) -> None:
        self._link = link
        self._role = role
        self._kind = kind_of(role)
        self._times = StreamTimes(relation)
        self._token = token

    def describe(self) -> Description:
        """Identity, limits and facts for the metadata."""
        described: Description = self._call("describe")
        return described

    def make_safe(self, reason: str) -> None:
        """Have the instrument made safe; a server that is gone has done so or cannot be reached."""
        try:
            self._call("make_safe", reason)
        except HotstageError as error:
            logger.error("%s could not be told to make safe: %s", self._role, error)

    def _call(self, method: str, *arguments: Any) -> Any:
        return unpack_result(method_of(self._kind, method), self._invoke(method, *arguments))

    def _invoke(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        packed = [pack(argument) for argument in arguments]
        return self._link.call(
            "invoke", self._role, method, packed, self._token(), timeout_s=timeout_s
        )


class RemoteHolder(_Remote):
    """A heating holder behind a server."""

    def check(self, request: RampRequest) -> None:
        """Raise LimitError if ``ramp`` would refuse the request."""
        self._call("check", request)

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Start a ramp; raises LimitError, FaultError, LeaseError, LinkError."""
        self._call("ramp", target_celsius, rate_celsius_per_s)

    def hold(self) -> None:
        """Freeze the setpoint."""
        self._call("hold")

    def read(self) -> HolderReading:
        """A reading, its time on the local clock."""
        reading: HolderReading = self._call("read")
        return replace(reading, t_s=reading.t_s + self._times.offset_s(reading.t_s))

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Say how ``make_safe`` shall proceed."""
        self._call("arm_safe_state", safe_state)

    def clear_fault(self) -> None:
        """Unlatch a fault."""
        self._call("clear_fault")


class _RemoteFrames(_Remote):
    """An instrument that exposes frames."""

    def __init__(self, link: Link, role: str, relation: Relation, token: Callable[[], str]) -> None:
        super().__init__(link, role, relation, token)
        self._number = 0
        self._frame_bytes = 0
        self._seen_times = StreamTimes(relation)
        """Viewers see newer frames than the recorder does."""
        self._receivers: list[Receiver] = []
        """Those that nobody uses now; with their connections, and memory shared with the server."""

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """The armed frames in order, none left out, their times on the local clock.

        Ends within 0.25 s of wall time after ``stop`` is set, also while another thread disarms.

        Raises:
            InstrumentError: not armed, or what ended the exposure at the server.
            LeaseError: control was lost, whereupon the server ended the exposure.
        """
        for frame in self._arriving(stop, self._frame_bytes):
            yield self._local(frame, self._times)

    def _arriving(self, stop: Signal, frame_bytes: int, *, blocks: bool = False) -> Iterator[Frame]:
        """What comes from the server, its times on the server's clock."""
        number, ended = self._number, False
        if not number:
            raise InstrumentError(f"{self._role} is not armed; arm it before asking for frames.")
        receiver = self._receiver()
        try:
            for frames in receiver.batches(number, self._token, frame_bytes, stop, blocks=blocks):
                for frame in frames:
                    if stop.is_set():
                        return
                    yield frame
            ended = not stop.is_set()
        except LeaseError:
            ended = True  # the server has ended it
            raise
        finally:
            self._receivers.append(receiver)
            if not ended:
                self._stop(number)

    def _receiver(self) -> Receiver:
        try:
            return self._receivers.pop()
        except IndexError:
            return Receiver(self._link, self._role)

    def release(self) -> None:
        """Let go of what carries frames; the next ones make it anew."""
        while self._receivers:
            self._receivers.pop().close()

    def latest(self, after: int, wait_s: float = 0.5) -> tuple[int, Frame | None, int]:
        """The newest frame for a viewer: its serial number, the frame, and how many were not shown.

        Args:
            after: serial number of the last frame seen, 0 at first.
            wait_s: wall seconds to wait for a newer one, at most 1; then the frame is None.
        """
        reply, buffer = self._link.call_with_blobs("frames_latest", self._role, after, wait_s)
        serial = unpack(int, reply["serial"])
        frames = unpack_frames(reply["frames"], buffer)
        if not frames:
            return after, None, 0
        frame = self._local(frames[0], self._seen_times)
        return serial, frame, max(0, serial - after - 1) if after else 0

    def disarm(self) -> None:
        """End the acquisition; idempotent."""
        self._call("disarm")
        self._number = 0

    def _arm(self, exposure: ScanExposure | SpectrumExposure, frames: int | None) -> StreamSpec:
        reply = self._invoke("arm", exposure, frames, timeout_s=ARM_WALL_S)
        self._number = unpack(int, reply["number"])
        spec: StreamSpec = unpack(StreamSpec, reply["spec"])
        self._frame_bytes = sum(
            math.prod(channel.shape) * np.dtype(channel.dtype).itemsize + ALIGN
            for channel in spec.channels.values()
        )
        return spec

    def _stop(self, number: int) -> None:
        try:
            self._link.call("frames_stop", self._role, number, self._token())
        except HotstageError as error:
            logger.info("the frames of %s need no stop any more: %s", self._role, error)

    def _local(self, frame: Frame, times: StreamTimes) -> Frame:
        offset_s = times.offset_s(frame.t_start_s)
        spans = {
            name: (start + offset_s, end + offset_s)
            for name, (start, end) in frame.meta.spans.items()
        }
        return Frame(
            frame.stream,
            frame.index,
            frame.data,
            frame.t_start_s + offset_s,
            frame.t_end_s + offset_s,
            FrameMeta(frame.meta.scalars, spans),
        )


class RemoteScan(_RemoteFrames):
    """A scan generator with its detectors behind a server."""

    def check(self, request: ScanExposure) -> None:
        """Raise LimitError if ``arm`` would refuse the exposure."""
        self._call("check", request)

    def arm(self, exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        """Prepare ``frames`` exposures; they begin when ``frames()`` is iterated."""
        return self._arm(exposure, frames)

    def park(self, x_nm: float, y_nm: float) -> None:
        """Put the resting probe on a point."""
        self._call("park", x_nm, y_nm)

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """Move the field of view, relative to the present one."""
        self._call("shift", dx_nm, dy_nm)

    def blank(self, blanked: bool) -> None:
        """Blank the beam (anyone may) or un-blank it (the commander)."""
        self._call("blank", blanked)

    def blanked(self) -> bool:
        """Whether the beam is blanked now."""
        blanked: bool = self._call("blanked")
        return blanked


class RemoteSpectrometer(_RemoteFrames):
    """An EELS spectrometer behind a server."""

    def check(self, setting: SpectrometerSetting) -> None:
        """Raise LimitError if ``tune`` would refuse the setting."""
        self._call("check", setting)

    def check_exposure(self, setting: SpectrometerSetting, exposure: SpectrumExposure) -> None:
        """Raise LimitError if ``arm`` would refuse the exposure; says nothing where the driver cannot tell."""
        self._call("check_exposure", setting, exposure)

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Set energy offset and dispersion; returns what the device took."""
        taken: SpectrometerSetting = self._call("tune", setting)
        return taken

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare ``frames`` spectra; they begin when ``frames()`` is iterated."""
        return self._arm(exposure, frames)


class RemoteBursts(RemoteSpectrometer):
    """An EELS spectrometer behind a server that hands over its spectra in blocks, too."""

    _period_s = BLOCK_S

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Prepare ``frames`` spectra; they begin when ``blocks()`` or ``frames()`` is iterated."""
        spec = super().arm(exposure, frames)
        self._period_s = spec.frame_period_s or exposure.dwell_time_s
        return spec

    def blocks(self, stop: Signal) -> Iterator[SpectrumBlock]:
        """The armed spectra in blocks, as :meth:`frames` gives them one by one."""
        at_once = max(1, math.ceil(BLOCK_S / self._period_s))
        for frame in self._arriving(stop, at_once * self._frame_bytes, blocks=True):
            block = unpack_block(frame)
            span_s = float(block.t_start_s[0]), float(block.t_end_s[-1])
            # the clocks may come closer within it, and times must not fall from block to block
            yield block.later(*map(self._times.offset_s, span_s))


class RemoteChannel(_Remote):
    """Scalars behind a server."""

    def read(self) -> Mapping[str, float]:
        """The present values by name."""
        values: Mapping[str, float] = self._call("read")
        return values


class RemoteSimulation:
    """The truth of a simulated station behind a server."""

    def __init__(self, link: Link, instruments: Mapping[str, Instrument]) -> None:
        self._link = link
        self._instruments = instruments

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """The proxies by role."""
        return self._instruments

    def describe(self) -> Mapping[str, str | float]:
        """Simulator, specimen, seed."""
        found: Mapping[str, str | float] = unpack(
            dict[str, str | float], self._link.call("simulation_facts")
        )
        return found

    def truth(self, stream: str, index: int) -> Mapping[str, Any]:
        """What really was in one frame; raises KeyError if it is not remembered."""
        found: Mapping[str, Any] = unpack(dict[str, Any], self._link.call("truth", stream, index))
        return found

    def expected(self) -> Mapping[str, float]:
        """What a perfect measurement would say now."""
        found: Mapping[str, float] = unpack(
            dict[str, float], self._link.call("simulation_expected")
        )
        return found
