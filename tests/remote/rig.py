"""Small honest instruments for tests of acquire.remote, also as a server process and as a commander process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from acquire.clock import Clock, Signal, WallClock
from acquire.errors import FaultError, InstrumentError, LimitError
from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    HolderReading,
    HolderState,
    Limit,
    RampRequest,
    SafeState,
    ScalarSpec,
    ScanExposure,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.remote import attach, connect
from acquire.station import OpenStation, Station

STATION = """
hotstage = 1
name = "rig"
[simulation]
simulator = "rig"
[server]
launch = false
[holder]
driver = "simulated"
limits = {temperature = "1000 °C", ramp_rate = "200 °C/s"}
[scan]
driver = "simulated"
[spectrometer]
driver = "simulated"
[channels.pressure]
driver = "simulated"
"""

OWN_STATION = STATION.replace("launch = false", "launch = true")


class Holder:
    """A holder whose temperature is its setpoint."""

    secret = "not for the wire"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._from = (0.0, 25.0)
        self._target, self._rate = 25.0, 0.0
        self._state = HolderState.OFF
        self.safe_state = SafeState()
        self.made_safe: list[str] = []
        self.hang = threading.Event()

    @property
    def fault(self) -> str:
        return ""

    def describe(self) -> Description:
        limit = Limit("temperature", -273.15, 1000.0, "°C", "driver")
        return Description(
            "holder", "rig", "rig", limits=(limit,), details={"chip": "R1", "r": 1.5}
        )

    def check(self, request: RampRequest) -> None:
        if not request.target_celsius <= 1000:
            raise LimitError(f"{request.target_celsius:g} °C is above 1000 °C. Lower the target.")

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        self.check(RampRequest(target_celsius, rate_celsius_per_s))
        if target_celsius == 666:
            raise FaultError("the heater is off and stays off: open heater.")
        if target_celsius == 667:
            raise SystemExit(3)
        if target_celsius == 668:
            raise ZeroDivisionError("a bug in a driver")
        if target_celsius == 669:
            self.hang.wait(10)
        with self._lock:
            self._from = (self._clock.now_s(), self._setpoint())
            self._target, self._rate = target_celsius, rate_celsius_per_s
            self._state = HolderState.RAMPING

    def hold(self) -> None:
        with self._lock:
            self._from = (self._clock.now_s(), self._setpoint())
            self._target = self._from[1]
            self._state = HolderState.HOLDING

    def _setpoint(self) -> float:
        t, start = self._from
        went = self._rate * (self._clock.now_s() - t)
        return start + float(np.clip(self._target - start, -went, went))

    def read(self) -> HolderReading:
        with self._lock:
            now, at = self._clock.now_s(), self._setpoint()
            return HolderReading(now, at, at, self._target, float("nan"), 100.0, self._state)

    def arm_safe_state(self, safe_state: SafeState) -> None:
        self.safe_state = safe_state

    def make_safe(self, reason: str) -> None:
        with self._lock:
            self.made_safe.append(reason)
            self._from = (self._clock.now_s(), 25.0)
            self._target = 25.0
            self._state = HolderState.OFF

    def clear_fault(self) -> None:
        raise FaultError("nothing is latched.")


class Frames:
    """Counts frames; every pixel says which frame and detector it belongs to."""

    role = "scan"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._index = 0
        self._armed: tuple[int, int | None, float, Mapping[str, tuple[int, ...]]] | None = None
        self._number = 0
        self.fail_at: int | None = None

    def _arm(
        self, frames: int | None, period_s: float, shapes: Mapping[str, tuple[int, ...]]
    ) -> StreamSpec:
        if self._armed is not None:
            raise InstrumentError("armed already; disarm first.")
        self._number += 1
        self._armed = (self._number, frames, period_s, shapes)
        dims = ("y", "x") if self.role == "scan" else ("energy_loss",)
        channels = {
            name: ChannelSpec("uint16", shape, dims, {dim: Axis(0.0, 0.5, "nm") for dim in dims})
            for name, shape in shapes.items()
        }
        return StreamSpec(self.role, channels, {"dose": ScalarSpec("e/nm²", "dose")})

    def frames(self, stop: Signal) -> Iterator[Frame]:
        if self._armed is None:
            raise InstrumentError("not armed.")
        number, count, period_s, shapes = self._armed
        taken = 0
        while count is None or taken < count:
            start = self._clock.now_s()
            wall_end = start + period_s
            while (left_s := wall_end - self._clock.now_s()) > 0:
                if stop.wait(min(left_s, 0.05 * self._clock.rate)) or self._armed is None:
                    return
            if stop.is_set() or self._armed is None or self._armed[0] != number:
                return
            if self.fail_at == taken:
                raise FaultError("the beam was lost. Look at the column.")
            data = {
                name: np.full(shape, (self._index * 7 + n) % 65521, np.uint16)
                for n, (name, shape) in enumerate(shapes.items())
            }
            end = self._clock.now_s()
            meta = FrameMeta({"dose": float("inf")}, {next(iter(data)): (start, end)})
            yield Frame(self.role, self._index, data, start, end, meta)
            self._index += 1
            taken += 1

    def disarm(self) -> None:
        self._armed = None


class Scan(Frames):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._blanked = True
        self.shifts: list[tuple[float, float]] = []

    def describe(self) -> Description:
        return Description("scan", "rig", "rig", detectors=("haadf", "abf"))

    def check(self, request: ScanExposure) -> None:
        if request.field_of_view_nm > 5000:
            raise LimitError("the field of view is above 5 µm.")

    def arm(self, exposure: ScanExposure, frames: int | None = None) -> StreamSpec:
        self.check(exposure)
        shapes = dict.fromkeys(exposure.detectors, exposure.shape)
        return self._arm(frames, exposure.frame_period_s, shapes)

    def park(self, x_nm: float, y_nm: float) -> None:
        self.shifts.append((x_nm, y_nm))

    def shift(self, dx_nm: float, dy_nm: float) -> None:
        self.shifts.append((dx_nm, dy_nm))

    def blank(self, blanked: bool) -> None:
        self._blanked = blanked

    def blanked(self) -> bool:
        return self._blanked

    def make_safe(self, reason: str) -> None:
        self._blanked = True


class Spectrometer(Frames):
    role = "spectrometer"

    def describe(self) -> Description:
        return Description("spectrometer", "rig", "rig")

    def check(self, setting: SpectrometerSetting) -> None:
        if setting.energy_offset_ev > 3000:
            raise LimitError("beyond 3000 eV.")

    def tune(self, setting: SpectrometerSetting) -> SpectrometerSetting:
        self.check(setting)
        return SpectrometerSetting(setting.energy_offset_ev, round(setting.dispersion_ev, 2))

    def arm(self, exposure: SpectrumExposure, frames: int | None = None) -> StreamSpec:
        shapes = {"core_loss": (2048,), "low_loss": (2048,)}
        return self._arm(frames, exposure.dwell_time_s, shapes)

    def make_safe(self, reason: str) -> None:
        self.disarm()


class Pressure:
    def describe(self) -> Description:
        return Description("pressure", "rig", "rig", details={"column": "Pa"})

    def read(self) -> Mapping[str, float]:
        return {"column": 1e-5, "gun": float("nan")}

    def make_safe(self, reason: str) -> None:
        return


@dataclass
class Simulation:
    instruments: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> Mapping[str, str | float]:
        return {"simulator": "rig", "seed": np.float64(3.0)}

    def truth(self, stream: str, index: int) -> Mapping[str, Any]:
        if index > 99:
            raise KeyError(f"frame {index} of {stream} is not remembered")
        return {"count": np.int64(index), "particles": [{"id": 1, "x_nm": 0.5}], "drift_nm": (0, 1)}

    def expected(self) -> Mapping[str, float]:
        return {"mean_diameter": 3.83}


def build(clock: Clock, *, seed: int, draft: bool, start_s: float = 0.0) -> Simulation:
    """The entry point by which a server process of its own finds these instruments."""
    if start_s < 0:
        raise ValueError(f"start_s = {start_s!r}: must not be negative")
    holder, scan, spectrometer = Holder(clock), Scan(clock), Spectrometer(clock)
    return Simulation(
        {"holder": holder, "scan": scan, "spectrometer": spectrometer, "pressure": Pressure()}
    )


def open_rig(rate: float = 1.0) -> OpenStation:
    clock = WallClock(rate)
    return OpenStation(
        station=Station.parse(STATION, "rig.toml"),
        clock=clock,
        holder=Holder(clock),
        scan=Scan(clock),
        spectrometer=Spectrometer(clock),
        channels={"pressure": Pressure()},
        simulation=Simulation(),
    )


def command(address: str, what: str) -> None:
    """Take control, heat and expose, say so, and live on until killed."""
    opened = attach(address)
    opened.control.take("the commander process")
    opened.scan.blank(False)
    opened.holder.ramp(900.0, 50.0)
    if what == "expose":
        opened.scan.arm(ScanExposure(("haadf",), (64, 64), 100.0, 1e-6, 0.02))
        for frame in opened.scan.frames(opened.clock.signal()):
            if frame.index == 2:
                break
    sys.stdout.write("commanding\n")
    sys.stdout.flush()
    obey_until_refused(opened)


def own(linger_s: float) -> None:
    """Start a server process, command it, and live on until killed."""
    opened = connect(Station.parse(OWN_STATION, "rig.toml"), linger_s=linger_s)
    opened.control.take("the owner process")
    opened.scan.blank(False)
    opened.holder.ramp(900.0, 50.0)
    sys.stdout.write(opened.address + "\n")
    sys.stdout.flush()
    obey_until_refused(opened)


def obey_until_refused(opened: OpenStation) -> None:
    while True:
        try:
            opened.holder.hold()
            opened.clock.sleep(0.05)
        except InstrumentError as error:
            sys.stdout.write(f"{type(error).__name__}: {error} | {opened.control.problem()}\n")
            sys.stdout.flush()
            sys.stdin.read()
            return


if __name__ == "__main__":
    if sys.argv[1] == "own":
        own(float(sys.argv[2]))
    else:
        command(sys.argv[1], sys.argv[2])
