"""Instruments that hand out ready frames as fast as they are taken, so that only their transport is measured."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np

from acquire.clock import Clock, Signal, WallClock
from acquire.instruments import (
    AnyArray,
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    HolderReading,
    HolderState,
    RampRequest,
    SafeState,
    ScalarSpec,
    ScanExposure,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.station import OpenStation, Station

DISTINCT = 7
"""Different images; frame ``n`` is the one of number ``n % DISTINCT``, and all its pixels are equal."""
STATION = """
hotstage = 1
name = "bench"
[simulation]
simulator = "bench"
[server]
launch = false
[holder]
driver = "simulated"
limits = {temperature = "1000 °C", ramp_rate = "200 °C/s"}
[scan]
driver = "simulated"
[spectrometer]
driver = "simulated"
"""


def value_of(index: int) -> int:
    """What every pixel of frame ``index`` holds."""
    return 257 * (index % DISTINCT + 1)


class BenchHolder:
    """A holder that is on or off, and remembers when it was made safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._state = HolderState.OFF
        self.safe_at = 0.0
        """``time.monotonic()`` when it was made safe last while it was on."""

    def describe(self) -> Description:
        """Nothing to be said."""
        return Description("holder", "bench", "bench")

    def check(self, request: RampRequest) -> None:
        """Allow everything."""

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Switch on."""
        self._state = HolderState.RAMPING

    def hold(self) -> None:
        """Stay on."""

    def read(self) -> HolderReading:
        """The state, at no temperature in particular."""
        now_s = self._clock.now_s()
        return HolderReading(now_s, 25.0, 25.0, 25.0, 0.0, 100.0, self._state)

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Switching off is the only safe state."""

    def make_safe(self, reason: str) -> None:
        """Switch off."""
        if self._state is not HolderState.OFF:
            self.safe_at = time.monotonic()
        self._state = HolderState.OFF

    def clear_fault(self) -> None:
        """Nothing ever trips."""


class _Frames:
    role = "scan"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._index = 0
        self._pools: dict[tuple[int, ...], list[AnyArray]] = {}
        self._armed: tuple[tuple[int, ...], int | None, float] | None = None
        self._lock = threading.Lock()

    def _arm(self, shape: tuple[int, ...], frames: int | None, period_s: float) -> StreamSpec:
        self._pool(shape)
        with self._lock:
            self._armed = (shape, frames, period_s)
        dims = ("y", "x")[-len(shape) :]
        axes = {dim: Axis(0.0, 1.0, "nm") for dim in dims}
        scalars = {"dose": ScalarSpec("e/nm²", "dose")}
        return StreamSpec(self.role, {"full": ChannelSpec("uint16", shape, dims, axes)}, scalars)

    def _pool(self, shape: tuple[int, ...]) -> list[AnyArray]:
        if shape not in self._pools:
            self._pools = {shape: [np.full(shape, value_of(n), np.uint16) for n in range(DISTINCT)]}
        return self._pools[shape]

    def frames(self, stop: Signal) -> Iterator[Frame]:
        """The armed frames, as fast as they are taken, or at their period."""
        with self._lock:
            armed = self._armed
        if armed is None:
            return
        shape, count, period_s = armed
        pool = self._pool(shape)
        due_s = self._clock.now_s()
        for _ in itertools.repeat(None) if count is None else range(count):
            due_s += period_s
            if period_s and stop.wait(max(0.0, due_s - self._clock.now_s())):
                return
            if stop.is_set() or self._armed is not armed:
                return
            now_s = self._clock.now_s()
            meta = FrameMeta({"dose": 1.5}, {"full": (now_s - period_s, now_s)})
            data = {"full": pool[self._index % DISTINCT]}
            yield Frame(self.role, self._index, data, now_s - period_s, now_s, meta)
            self._index += 1

    def disarm(self) -> None:
        """End the acquisition."""
        with self._lock:
            self._armed = None

    def make_safe(self, reason: str) -> None:
        """End the acquisition."""
        self.disarm()


class BenchScan(_Frames):
    """Images of one detector."""

    def describe(self) -> Description:
        """Its one detector."""
        return Description("scan", "bench", "bench", detectors=("full",))

    def check(self, request: ScanExposure) -> None:
        """Allow everything."""

    def arm(self, exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        """Images of the exposure's shape, one every ``frame_period_s``."""
        return self._arm(exposure.shape, frames, exposure.frame_period_s)

    def park(self, x_nm: float, y_nm: float) -> None:
        """There is no beam."""

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        """There is no beam."""

    def blank(self, blanked: bool) -> None:
        """There is no beam."""

    def blanked(self) -> bool:
        """There is no beam."""
        return True


class BenchSpectrometer(_Frames):
    """A camera as large as an image: spectra before they are summed to a line."""

    role = "spectrometer"
    SHAPE = (2048, 2048)

    def describe(self) -> Description:
        """Nothing to be said."""
        return Description("spectrometer", "bench", "bench")

    def check(self, setting: SpectrometerSetting) -> None:
        """Allow everything."""

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        """Take everything."""
        return setting

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        """Camera images, one every ``dwell_time_s``."""
        return self._arm(self.SHAPE, frames, exposure.dwell_time_s)


def open_bench() -> OpenStation:
    """The instruments, in this process."""
    clock = WallClock()
    return OpenStation(
        station=Station.parse(STATION, "bench.toml"),
        clock=clock,
        holder=BenchHolder(clock),
        scan=BenchScan(clock),
        spectrometer=BenchSpectrometer(clock),
        channels={},
    )


def exposure(side: int, period_s: float = 0.0) -> ScanExposure:
    """Images of ``side``² pixels, back to back or one every ``period_s``."""
    return ScanExposure(("full",), (side, side), 100.0, 1e-6, period_s)
