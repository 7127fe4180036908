"""Heats a simulated chip that drifts fast, with the drift corrected, and tells how far the field went."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np

from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.errors import HotstageError
from acquire.instruments import Frame, Simulation
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import CountingSink
from acquire.stream import FrameContext

FIELD_NM = 160.0
_RECIPE = """
hotstage: 1
name: ramp
limits: {{temperature: 900 °C}}
record:
  overview: {{scan: {{detectors: [haadf], size: {size}, field_of_view: {field} nm, dwell_time: {dwell} µs}}, every: 1 s}}
estimate:
  drift: {{from: overview.haadf, correct: scan_shift, max_shift: 2000 nm}}
steps:
  - hold: {{for: 5 s}}
  - ramp: {{to: 800 °C, rate: 5 °C/s}}
  - hold: {{for: {hold} s}}
"""


@dataclass(frozen=True, slots=True)
class RampResult:
    """Where the field was on the specimen, against where the run found it."""

    farthest: float
    """Over the field's width."""
    drifted_nm: float
    """How far the specimen went meanwhile."""
    frames: int


class _Witness(CountingSink):
    """Keeps where every frame was: the scan's shift, less the specimen's true drift."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation
        self._keeping = threading.Lock()
        self.places: list[tuple[float, float]] = []
        self.drifts: list[tuple[float, float]] = []

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        """Keep the frame's place on the specimen."""
        super().append_frame(frame, context)
        if frame.stream != "overview":
            return
        x_nm, y_nm = self._simulation.truth("scan", context.source_index)["drift_nm"]
        scalars = frame.meta.scalars
        with self._keeping:
            self.drifts.append((x_nm, y_nm))
            self.places.append((scalars["scan_shift_x"] - x_nm, scalars["scan_shift_y"] - y_nm))


def ramp(
    seed: int,
    *,
    size_px: int = 512,
    drift: str = "1 nm/°C",
    hold_s: float = 60.0,
) -> RampResult:
    """Heat from 25 to 800 °C at 5 °C/s in virtual time, one frame of 160 nm a second.

    Args:
        seed: of the specimen, the drift and all noise.
        size_px: of the frames.
        drift: displacement of the membrane per degree; 1 nm/°C is 5 nm/s.
        hold_s: how long the end is watched.

    Raises:
        HotstageError: the run did not complete.
    """
    station = Station.load("simulated")
    simulation = station.file.simulation
    assert simulation is not None
    options = {**simulation.options, "thermal_drift": drift}
    changed = simulation.model_copy(update={"seed": seed, "options": options})
    station = replace(station, file=station.file.model_copy(update={"simulation": changed}))
    dwell_us = 0.8e6 / size_px**2
    recipe = Recipe.parse(
        _RECIPE.format(size=size_px, field=FIELD_NM, dwell=round(dwell_us, 2), hold=hold_s)
    )
    with station.open(VirtualClock()) as opened:
        assert opened.simulation is not None
        sink = _Witness(opened.simulation)
        report = Engine(opened, "hotstage bench").run(recipe, sink)
    if report.outcome != "completed":
        raise HotstageError(f"the ramp of the bench {report.outcome}: {report.cause}")
    places, drifts = np.array(sink.places), np.array(sink.drifts)
    away = np.hypot(*(places - places[0]).T)
    went = np.hypot(*(drifts - drifts[0]).T)
    return RampResult(float(away.max() / FIELD_NM), float(went.max()), len(places))
