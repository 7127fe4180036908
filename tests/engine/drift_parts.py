"""A station whose specimen drifts, and an estimator that wants whatever a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from acquire.clock import VirtualClock
from acquire.instruments import Frame, StreamSpec
from acquire.recipe import Recipe
from acquire.station import OpenStation, Station
from acquire.stream import Estimate, Quantity, RunReport, Value
from acquire.stream.shifting import AppliedShift, Steering, WantedShift

STEERING = Steering(
    gain=0.8,
    deadband_nm=0.3,
    max_step_nm=12.0,
    max_shift_nm=100.0,
    max_sigma_nm=2.0,
    pixel_size_nm=0.25,
    predict=True,
)


STATION = """
hotstage = 1
name = "drifting"
[simulation]
simulator = "exsolution"
seed = 7
[simulation.options]
probe_current = "100 pA"
thermal_drift = "0.75 nm/°C"
[holder]
driver = "simulated"
limits = { temperature = "1000 °C", ramp_rate = "100 °C/s" }
[scan]
driver = "simulated"
"""


RECIPE = """
hotstage: 1
name: drift
record:
  overview: {scan: {detectors: [haadf], size: 256, field_of_view: 160 nm, dwell_time: 1 µs}, every: 1 s}
estimate:
  drift: {from: overview.haadf, correct: scan_shift, max_shift: 1 µm, sum: 8, store_sum: true}
steps:
  - hold: {for: 3 s}
  - ramp: {to: 800 °C, rate: 10 °C/s}
  - hold: {for: 5 s}
"""


def wanted(x: float, y: float = 0.0, t_s: float = 0.0, **more: float) -> WantedShift:
    rates = more.get("rate", 0.0), 0.0
    return WantedShift(t_s, x, y, *rates, more.get("sigma", 0.05))


class Wishing:
    """An estimator that wants whatever a test says, and remembers what it was told."""

    quantities = (Quantity("wish", "nm", "what is wanted"),)
    columns: Mapping[str, str] = {}
    steering: Steering | None = STEERING

    def __init__(self, wish: Callable[[float], WantedShift | None]) -> None:
        self._wish = wish
        self.told: list[AppliedShift] = []
        self._t_s = 0.0

    def applied_shift(self, shift: AppliedShift) -> None:
        self.told.append(shift)

    def update(self, frame: Frame) -> Estimate:
        self._t_s = (frame.t_start_s + frame.t_end_s) / 2
        values = {"wish": Value(0.0, 0.0)}
        return Estimate("drift", frame.stream, frame.index, frame.t_end_s, values)

    def wanted_shift(self) -> WantedShift | None:
        return self._wish(self._t_s)


def scripted(
    bench: Any, recipe: str, wish: Callable[[float], WantedShift | None]
) -> tuple[RunReport, Wishing]:
    """Run a recipe whose drift estimator is replaced by a wishing one."""
    wishing = Wishing(wish)

    def make(recipe: Recipe, specs: Mapping[str, StreamSpec]) -> dict[str, Any]:
        return dict.fromkeys(recipe.estimate, wishing)

    with bench.clock.enrolled("test"):
        report = bench.engine.run(Recipe.parse(recipe), bench.sink, make=make)
    return report, wishing


def small(every: str = "1 s", steps: str = "hold: {for: 20 s}") -> str:
    return RECIPE.split("steps:")[0].replace("every: 1 s", f"every: {every}") + (
        f"steps:\n  - {steps}\n"
    )


def shifts_of(bench: Any) -> np.ndarray:
    frames = [frame for frame in bench.sink.kept_frames if frame.stream == "overview"]
    names = ("scan_shift_x", "scan_shift_y")
    return np.array([[frame.meta.scalars[name] for name in names] for frame in frames])


def drifting_station() -> OpenStation:
    return Station.parse(STATION).open(VirtualClock())
