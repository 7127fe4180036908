"""The one world behind all instruments of a simulation: specimen, temperature, column, drift, truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from acquire.clock import Clock
from acquire.instruments import ScanExposure
from simulators.chip import AMBIENT_CELSIUS, ChipSettings, HeatingChip
from simulators.column import RELAXATION_S, RELAXED, Beam, Column, Drift, DriftSettings
from simulators.history import OfSample, Relaxation, TemperatureHistory, ThermalTime
from simulators.specimen import ACTIVATION_EV, REFERENCE_CELSIUS, Specimen, Summary, View, summarise
from simulators.truth import TruthLog

SCAN = "scan"
SPECTROMETER = "spectrometer"
PROBE_FWHM_NM = 0.1  # area that a parked probe's dose is counted on
_THERMAL = "thermal"


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """What a world is made of beside its specimen."""

    beam: Beam = field(default_factory=Beam)
    drift: DriftSettings = field(default_factory=DriftSettings)
    chip: ChipSettings = field(default_factory=ChipSettings)
    viewing_area_offset: float = 0.0
    """Share of the rise above ambient by which the sample stays cooler than the heater."""


@dataclass
class World:
    """Everything the instruments share; made by :func:`make`."""

    clock: Clock
    seed: int
    draft: bool
    specimen: Specimen
    settings: WorldSettings
    history: TemperatureHistory
    sample: OfSample
    chip: HeatingChip
    column: Column
    drift: Drift
    truth: dict[str, TruthLog] = field(
        default_factory=lambda: {name: TruthLog(name) for name in (SCAN, SPECTROMETER)}
    )
    field_of_view: ScanExposure | None = None
    """Of the last armed scan."""

    def thermal_s(self, t_s: float) -> float:
        """Thermal time of the specimen at a time."""
        return self.history.value(_THERMAL, t_s)

    def sample_celsius(self, t_s: float) -> float:
        """Temperature of the specimen at a time."""
        return self.sample.sample_celsius(self.history.celsius(t_s))

    def to_specimen(self, x_nm: float, y_nm: float, t_s: float) -> tuple[float, float]:
        """Specimen coordinates of a point of the scan's frame at a time."""
        shift, drift = self.column.shift(), self.drift.at(t_s)
        return x_nm + shift[0] - drift[0], y_nm + shift[1] - drift[1]

    def view(self, exposure: ScanExposure, t_s: float) -> View:
        """What a scan sees at a time."""
        pixel = exposure.pixel_size_nm
        rows, columns = exposure.shape
        left = exposure.center_nm[0] - columns * pixel / 2
        top = exposure.center_nm[1] - rows * pixel / 2
        return View(self.to_specimen(left, top, t_s), exposure.shape, pixel)

    def summary(self, exposure: ScanExposure, t_s: float) -> Summary:
        """The truth about a field at a time."""
        view = self.view(exposure, t_s)
        return summarise(self.specimen.domes(view, self.thermal_s(t_s)), view)

    def electrons_per_nm2(self, electrons: float) -> float:
        """Electrons of a parked probe per area of the probe."""
        return electrons / (math.pi / 4 * PROBE_FWHM_NM**2)


def make(
    clock: Clock, seed: int, specimen: Specimen, settings: WorldSettings, *, draft: bool
) -> World:
    """A world at rest: heater off, beam on, at the clock's present time."""
    share = settings.viewing_area_offset
    sample = OfSample(ThermalTime(ACTIVATION_EV, REFERENCE_CELSIUS), share, AMBIENT_CELSIUS)
    history = TemperatureHistory(
        clock.now_s(), AMBIENT_CELSIUS, {_THERMAL: sample, RELAXED: Relaxation(RELAXATION_S)}
    )
    return World(
        clock=clock,
        seed=seed,
        draft=draft,
        specimen=specimen,
        settings=settings,
        history=history,
        sample=sample,
        chip=HeatingChip(history, settings.chip, seed),
        column=Column(settings.beam),
        drift=Drift(history, settings.drift, seed),
    )
