"""The one world behind all instruments of a simulation: specimen, temperature, column, drift, truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Protocol

from acquire.clock import Clock
from acquire.instruments import ScanExposure
from simulators.chip import AMBIENT_CELSIUS, ChipSettings, HeatingChip
from simulators.column import (
    RELAXATION_S,
    RELAXED,
    Beam,
    Bulge,
    BulgeSettings,
    Column,
    Drift,
    DriftSettings,
)
from simulators.history import Relaxation, TemperatureHistory
from simulators.imaging import Imaging, Lines, Probe, domes_in, real
from simulators.imaging.prepare import Preparation
from simulators.noise import generator
from simulators.specimen import Domes, Specimen, View, lived
from simulators.truth import TruthLog

SCAN = "scan"
SPECTROMETER = "spectrometer"
PROBE_FWHM_NM = 0.1  # area that a parked probe's dose is counted on


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """What a world is made of beside its specimen."""

    beam: Beam = field(default_factory=Beam)
    drift: DriftSettings = field(default_factory=DriftSettings)
    chip: ChipSettings = field(default_factory=ChipSettings)
    bulge: BulgeSettings = field(default_factory=BulgeSettings)
    imaging: Imaging = field(default_factory=Imaging)
    viewing_area_offset: float = 0.0
    """Share of the rise above ambient by which the sample stays cooler than the heater."""


class EnergyAxis(Protocol):
    """An energy filter as the cameras behind it see it."""

    @property
    def dispersion_ev(self) -> float:
        """Energy per channel."""

    @property
    def correction_ev(self) -> float:
        """What the axis was moved by to centre the zero-loss peak."""

    @property
    def slit_width_ev(self) -> float:
        """Of the slit, if it is in."""

    slit_in: bool

    def energy_at(self, t_s: float) -> float:
        """The energy loss that is set, in effect at a time, in eV."""


class Sample:
    """The temperature of the specimen, cooler than the heater by a share of the rise above ambient."""

    def __init__(self, history: TemperatureHistory, cooler_by: float) -> None:
        self._history = history
        self._cooler_by = cooler_by

    def celsius(self, t_s: float) -> float:
        """The specimen's temperature at a time."""
        heater = self._history.celsius(t_s)
        return heater - self._cooler_by * (heater - AMBIENT_CELSIUS)

    def value(self, name: str, t_s: float) -> float:
        """What a process of the specimen has lived through."""
        return self._history.value(name, t_s)


@dataclass
class World:
    """Everything the instruments share; made by :func:`make`."""

    clock: Clock
    seed: int
    draft: bool
    specimen: Specimen
    settings: WorldSettings
    history: TemperatureHistory
    sample: Sample
    chip: HeatingChip
    column: Column
    drift: Drift
    bulge: Bulge
    truth: dict[str, TruthLog] = field(
        default_factory=lambda: {name: TruthLog(name) for name in (SCAN, SPECTROMETER)}
    )
    prepared: Preparation | None = None
    """Of images; None for drafts, which have none."""
    field_of_view: ScanExposure | None = None
    """Of the last armed scan."""
    energy_filter: EnergyAxis | None = None
    """What the cameras of wires look through, if the far end of a filter is there."""

    def sample_celsius(self, t_s: float) -> float:
        """Temperature of the specimen at a time."""
        return self.sample.celsius(t_s)

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

    def domes(self, view: View, t_s: float) -> Domes:
        """Particles in a view at a time, from the side that the microscope looks from."""
        return domes_in(self.specimen, view, t_s, self.settings.imaging.side)

    def probe(self, t_s: float) -> Probe:
        """The probe at its defocus at a time."""
        return replace(self.settings.imaging.probe, defocus_nm=self.bulge.defocus_nm(t_s))

    def lines(self, exposure: ScanExposure, index: int, start_s: float, line_s: float) -> Lines:
        """Where the lines of a frame run that begins at a time, ``line_s`` from line to line."""
        rows = exposure.shape[0]
        return real(
            self.view(exposure, start_s + rows * line_s / 2),
            self.settings.imaging.errors,
            generator(self.seed, "scan lines", index),
            start_s=start_s,
            line_s=line_s,
            dwell_s=exposure.dwell_time_s,
            drift_nm=self.drift.at,
        )

    def electrons_per_nm2(self, electrons: float) -> float:
        """Electrons of a parked probe per area of the probe."""
        return electrons / (math.pi / 4 * PROBE_FWHM_NM**2)


def make(
    clock: Clock, seed: int, specimen: Specimen, settings: WorldSettings, *, draft: bool
) -> World:
    """A world at rest: heater off, beam on, at the clock's present time; the specimen is fresh."""
    start_s = clock.now_s()
    history = lived(
        start_s=start_s,
        cooler_by=settings.viewing_area_offset,
        more={RELAXED: Relaxation(RELAXATION_S)},
    )
    sample = Sample(history, settings.viewing_area_offset)
    return World(
        clock=clock,
        seed=seed,
        draft=draft,
        specimen=specimen.under(sample, start_s),
        prepared=None if draft else Preparation(specimen, settings.imaging),
        settings=settings,
        history=history,
        sample=sample,
        chip=HeatingChip(history, settings.chip, seed),
        column=Column(settings.beam),
        drift=Drift(history, settings.drift, seed),
        bulge=Bulge(history, settings.bulge),
    )
