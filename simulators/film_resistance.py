"""The film's resistance as four points in a line measure it, for a source-meter that is connected to it."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from simulators.circuit import OFF, Point, Source, operating_point
from simulators.specimen import Specimen

COLLINEAR = math.log(2) / math.pi
"""Resistance over sheet resistance: four equally spaced points in a line on a wide film."""


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """The four points."""

    contact_ohm: float = 300.0
    """Of both contacts that carry the current; a measurement with two wires includes them."""
    relative_noise: float = 1e-4
    """Standard deviation of a reading of one power line cycle, relative."""


class FilmCircuit:
    """Four points on the film; its own current does not warm it. Safe for use by threads."""

    def __init__(self, specimen: Specimen, settings: ProbeSettings | None = None) -> None:
        self._specimen = specimen
        self._settings = settings or ProbeSettings()
        self._lock = threading.Lock()
        self._source: Source | None = None

    def connect(self, t_s: float, source: Source | None) -> None:
        """Force something else from now on; None is an output that is off."""
        with self._lock:
            self._source = source

    def resistance_ohm(self, t_s: float) -> float:
        """Of the film between the inner points, at a time that has come."""
        sheet = self._specimen.resistivity_ohm_m(t_s) / (
            self._specimen.film.settings.thickness_nm * 1e-9
        )
        return COLLINEAR * sheet

    def mean(self, begin_s: float, end_s: float) -> Point:
        """What flowed and was seen on average, over times that have come; the film changes slowly."""
        with self._lock:
            source = self._source
        if source is None:
            return OFF
        ohm = self.resistance_ohm((begin_s + end_s) / 2)
        return operating_point(source, ohm, self._settings.contact_ohm)

    def noise_ohm(self, ohm: float) -> float:
        """Noise of a resistance, a share of it."""
        return self._settings.relative_noise * ohm
