"""The simulated station of the EELS bench, in virtual time: line scans across a boundary, with their truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.clock import VirtualClock
from acquire.errors import HotstageError
from acquire.instruments import (
    AnyArray,
    Axis,
    Frame,
    Simulation,
    SpectrometerSetting,
    SpectrumExposure,
    StreamSpec,
)
from acquire.measure.eels import Camera
from acquire.station import OpenStation, Station

Array = NDArray[np.float64]
Point = tuple[float, float]

STATION = "simulated"
CORE, LOW, LOW_TIME = "core_loss", "low_loss", "low_loss_time"
_ROUGHLY = SpectrumExposure(1e-5, 1e-6)
_SEARCH_NM, _STEP_NM = 24.0, 4.0
_NEAR_NM = 0.02
_ROUNDS = 12
_DIRECTIONS, _ASIDE_NM = 24, 3.0


@dataclass(frozen=True, slots=True)
class Spectra:
    """Some spectra in the order in which they were taken, with what was really there."""

    core: AnyArray
    """Counts (n, channels)."""
    core_axis: Axis
    low: AnyArray | None
    """Counts (n, reads, channels); None if the exposure was not dual."""
    low_axis: Axis | None
    core_spans_s: Array
    """(n, 2)."""
    read_spans_s: Array
    """(n, reads, 2)."""
    truth: Sequence[Mapping[str, Any]]
    camera: Camera

    def true(self, name: str) -> Array:
        """One number of the truth for each spectrum."""
        return np.array([float(told[name]) for told in self.truth])

    def true_per_nm2(self, element: str) -> Array:
        """Atoms of an element under each spectrum."""
        return np.array([float(told["per_nm2"][element]) for told in self.truth])


class Microscope:
    """A simulated microscope whose probe can be put anywhere.

    It tells the truth about where a boundary lies, as a person who sees it in the image would know;
    all that is measured comes from its spectra.
    """

    def __init__(self, opened: OpenStation, clock: VirtualClock) -> None:
        spectrometer, simulation = opened.spectrometer, opened.simulation
        if spectrometer is None or simulation is None:
            raise HotstageError(f"the station {STATION!r} has no simulated spectrometer.")
        self.spectrometer = spectrometer
        self._simulation: Simulation = simulation
        self._scan = opened.scan
        self._clock = clock
        self._scan.blank(False)
        details = spectrometer.describe().details
        self.camera = Camera(
            float(details["gain_counts_per_electron"]),
            float(details["readout_noise_electrons"]),
            float(details["offset_counts"]),
        )

    def tune(self, setting: SpectrometerSetting) -> None:
        """Set the energy range."""
        self.spectrometer.tune(setting)

    def take(self, exposure: SpectrumExposure, places: Sequence[Point], each: int = 1) -> Spectra:
        """Spectra at places, ``each`` of them in a row."""
        frames: list[Frame] = []
        spec: StreamSpec | None = None
        for x_nm, y_nm in places:
            self._scan.park(x_nm, y_nm)
            spec = self.spectrometer.arm(exposure, each)
            try:
                frames.extend(self.spectrometer.frames(self._clock.signal()))
            finally:
                self.spectrometer.disarm()
        if spec is None:
            raise HotstageError("there are no places to take spectra at.")
        truth = [self._simulation.truth("spectrometer", frame.index) for frame in frames]
        core = np.stack([frame.data[CORE] for frame in frames])
        core_axis = spec.channels[CORE].axes["energy_loss"]
        core_spans = np.array([_span(frame, CORE) for frame in frames])
        if LOW not in spec.channels:
            nothing = np.empty((len(frames), 0, 2))
            return Spectra(core, core_axis, None, None, core_spans, nothing, truth, self.camera)
        low = np.stack([np.atleast_2d(frame.data[LOW]) for frame in frames])
        low_axis = spec.channels[LOW].axes["energy_loss"]
        spans = [
            frame.t_start_s + frame.data[LOW_TIME]
            if LOW_TIME in frame.data
            else np.array([_span(frame, LOW)])
            for frame in frames
        ]
        return Spectra(
            core, core_axis, low, low_axis, core_spans, np.array(spans), truth, self.camera
        )

    def line(
        self, half_nm: float, spacing_nm: float, *, search: bool = True
    ) -> tuple[Array, list[Point]]:
        """Places of a line across the next boundary, at right angles to it: distances and points."""
        at, along = self.boundary() if search else ((0.0, 0.0), (1.0, 0.0))
        count = round(half_nm / spacing_nm)
        distance: Array = spacing_nm * np.arange(-count, count + 1, dtype=np.float64)
        return distance, [(at[0] + along[0] * s, at[1] + along[1] * s) for s in distance.tolist()]

    def boundary(self) -> tuple[Point, Point]:
        """A point on the boundary next to the origin, and the unit vector across it."""
        ticks = np.arange(-_SEARCH_NM, _SEARCH_NM + 0.1, _STEP_NM).tolist()
        x, y = min(((x, y) for x in ticks for y in (-9.0, 0.0, 9.0)), key=self._distance_nm)
        for _ in range(_ROUNDS):
            here = self._distance_nm((x, y))
            if here < _NEAR_NM:
                break
            by = 0.2 * here
            slope_x = (self._distance_nm((x + by, y)) - here) / by
            slope_y = (self._distance_nm((x, y + by)) - here) / by
            length = math.hypot(slope_x, slope_y)
            if not length > 0.1:
                break
            # far from it the distance is but roughly one
            x, y = x - here * slope_x / length, y - here * slope_y / length
        if not self._distance_nm((x, y)) < 5 * _NEAR_NM:
            raise HotstageError("no boundary was found near the origin of the simulated specimen.")
        turns = (math.pi * k / _DIRECTIONS for k in range(_DIRECTIONS))
        across = max(((math.cos(a), math.sin(a)) for a in turns), key=partial(self._leaves, (x, y)))
        return (x, y), across

    def _leaves(self, place: Point, along: Point) -> float:
        """How far from the boundary a line gets that leaves a place on it to both sides."""
        ends = [(place[0] + s * along[0], place[1] + s * along[1]) for s in (-_ASIDE_NM, _ASIDE_NM)]
        return sum(map(self._distance_nm, ends))

    def _distance_nm(self, place: Point) -> float:
        told = self.take(_ROUGHLY, [place]).truth[0]["distance_to_boundary_nm"]
        return math.inf if told is None else float(told)


@contextmanager
def microscope(seed: int, **options: Any) -> Iterator[Microscope]:
    """The simulated station with another seed and other options, in virtual time."""
    station = Station.load(STATION)
    simulation = station.file.simulation
    if simulation is None:
        raise HotstageError(f"the station {STATION!r} has no simulation.")
    changed = simulation.model_copy(
        update={"seed": seed, "options": {**simulation.options, **options}}
    )
    anew = replace(station, file=station.file.model_copy(update={"simulation": changed}))
    clock = VirtualClock()
    with clock.enrolled("bench"), anew.open(clock) as opened:
        yield Microscope(opened, clock)


def _span(frame: Frame, channel: str) -> tuple[float, float]:
    begin, end = frame.meta.spans.get(channel, (frame.t_start_s, frame.t_end_s))
    return float(begin), float(end)
