"""In-process instruments on one simulated specimen and any clock, and the truth about them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from acquire.clock import Clock
from acquire.errors import LimitError
from acquire.instruments import (
    Description,
    HolderReading,
    Instrument,
    Limit,
    RampRequest,
    SafeState,
)
from acquire.units import show
from simulators import options
from simulators.chip import AMBIENT_CELSIUS, HeatingChip
from simulators.column import Beam, DriftSettings
from simulators.film_channel import SimulatedResistance
from simulators.film_resistance import FilmCircuit
from simulators.imaging.probe import FWHM_PER_SIGMA
from simulators.meeting import in_place
from simulators.scan import SimulatedScan
from simulators.specimen import Domes, named, summarise
from simulators.specimen.domes import VISIBLE_NM, touches_border
from simulators.specimen.film import SLOPE_PER_UNDULATION
from simulators.spectrometer import SimulatedSpectrometer, SpectrometerSettings
from simulators.truth import SpectrumFacts
from simulators.world import SPECTROMETER, World, WorldSettings, make

__all__ = [
    "ExsolutionSimulation",
    "SimulatedHolder",
    "SimulatedScan",
    "SimulatedSpectrometer",
    "build",
]

GROWTH_OVER_S = 10.0
"""What an expected growth rate is averaged over."""
FEWEST_GROWING = 5
"""Fewer particles do not tell a growth rate."""
_TEMPERATURE = Limit("temperature", AMBIENT_CELSIUS, 1300.0, "°C", "driver")
_RAMP_RATE = Limit("ramp_rate", 1e-3, 1000.0, "°C/s", "driver")


def build(
    clock: Clock,
    *,
    seed: int,
    draft: bool = False,
    specimen: str = "lsnt_nonstoichiometric",
    dome_diameters: Sequence[str] = (),
    probe_current: str = "50 pA",
    drift: bool = True,
    thermal_drift: str = "0.1 nm/°C",
    slow_drift: str = "3 nm",
    viewing_area_offset: float = 0.0,
    texture: float | None = None,
    slope: float | None = None,
    view: str = "plan",
    substrate: bool = True,
    probe_size: str = "0.471 nm",
    haadf_angles: Sequence[str] = ("70 mrad", "175 mrad"),
    abf_angles: Sequence[str] = ("7.5 mrad", "17 mrad"),
    bulge: str = "0.05 nm/°C",
    focus: str = options.FOLLOWING,
    line_jitter: str = "0.02 nm",
    flyback: str = "0.2 nm",
    afterglow: float = 0.0,
    detector_bits: int = 16,
    detector_gain: float = 1.0,
    detector_offset: float = 0.0,
    beam_energy: str = "300 keV",
    energy_resolution: str = "0.6 eV",
    camera: str = "ccd",
    blanked: bool = False,
) -> ExsolutionSimulation:
    """Make a simulation: the entry point ``exsolution`` of ``hotstage.simulators``.

    Args:
        clock: what everything runs on.
        seed: of everything random; the same seed and commands give the same frames.
        draft: frames are left empty, for a fast preflight; everything else is the same.
        specimen: a preset: ``lsnt_nonstoichiometric``, ``lsnt_stoichiometric``,
            ``lstz_grain_boundary``, ``blank_film``, ``reference_domes``, ``calibration_grating``,
            ``srtio3``, ``tio2``, ``vacuum``.
        dome_diameters: equivalent spherical diameters of ``reference_domes``, as unit strings.
        probe_current: above 0, at most 10 nA.
        drift: whether the view drifts at all.
        thermal_drift: displacement of the membrane per degree.
        slow_drift: amplitude of the drift that has no cause.
        viewing_area_offset: share (0 to 0.2) of the rise above 25 °C by which the sample stays
            cooler than the heater.
        texture: relative rms of the film's fine structure (0 to 0.5), instead of the preset's.
        slope: change of the film's thickness over 256 nm where it is steepest, relative to the
            nominal thickness (0 to 0.75), instead of the preset's.
        view: ``plan``, or ``cross_section``: along the surface of a lamella of 30 nm.
        substrate: whether a cross-section shows what is below the film.
        probe_size: full width at half maximum of the probe in focus, tails and vibration included.
        haadf_angles: inner and outer angle of the dark-field detector.
        abf_angles: of the bright-field detector.
        bulge: how far the membrane rises per degree.
        focus: ``following`` the bulge, as an operator who refocuses would, or a fixed height above
            the cold membrane.
        line_jitter: standard deviation of the displacement of a line along itself.
        flyback: how far the probe still is from where a line begins.
        afterglow: share of a pixel's light that comes later (0 to 0.5); 0 is a counting detector.
        detector_bits: 8 or 16.
        detector_gain: counts per electron.
        detector_offset: counts without any electron.
        beam_energy: 60 to 300 keV; spectra follow it, images do not.
        energy_resolution: width of the zero-loss peak, 1 meV to 2 eV; 8 to 10 meV is a monochromator's.
        camera: of the spectrometer: ``ccd``, or ``counting``.
        blanked: whether the beam is blanked when the simulation begins.

    Raises:
        ValueError: an option's value cannot be used.
        TypeError: an option is unknown or of the wrong kind.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed!r} refused: give a whole number from 0 to 2^63.")
    options.switch("drift", drift)
    options.switch("blanked", blanked)
    options.number("viewing_area_offset", viewing_area_offset, 0, 0.2)
    if texture is not None:
        options.number("texture", texture, 0, 0.5)
    if slope is not None:
        options.number("slope", slope, 0, 0.75)
    if isinstance(dome_diameters, str):
        raise TypeError('dome_diameters must be a list of quantities, for example ["5 nm"].')
    diameters = [options.quantity("dome_diameters", text, "nm", 0, 100) for text in dome_diameters]
    current_pa = options.quantity("probe_current", probe_current, "pA", 0, 10_000)
    thermal = options.quantity("thermal_drift", thermal_drift, "nm/°C", -10, 10)
    slow = options.quantity("slow_drift", slow_drift, "nm", 0, 1000)
    if current_pa == 0:
        raise ValueError("probe_current = 0 refused: blank the beam instead.")
    beam_kev = options.quantity("beam_energy", beam_energy, "keV", 60, 300)
    beam = Beam(current_pa=current_pa, energy_kev=beam_kev)
    world = make(
        clock,
        seed,
        named(specimen, seed, diameters, texture=texture, slope=slope),
        WorldSettings(
            beam=beam,
            bulge=options.bulge(bulge, focus),
            imaging=options.imaging(
                beam=beam,
                view=view,
                substrate=substrate,
                probe_size=probe_size,
                haadf_angles=haadf_angles,
                abf_angles=abf_angles,
                line_jitter=line_jitter,
                flyback=flyback,
                afterglow=afterglow,
                detector_bits=detector_bits,
                detector_gain=detector_gain,
                detector_offset=detector_offset,
            ),
            drift=DriftSettings(thermal, slow_nm=slow) if drift else DriftSettings(0.0, 0.0, 0.0),
            viewing_area_offset=viewing_area_offset,
        ),
        draft=draft,
    )
    world.column.blank(blanked)
    return ExsolutionSimulation(world, specimen, options.spectra(energy_resolution, camera))


class ExsolutionSimulation:
    """Holder, scan, spectrometer and the film's resistance on one specimen, and the untold truth."""

    def __init__(
        self, world: World, preset: str, spectra: SpectrometerSettings | None = None
    ) -> None:
        self._world = world
        self._preset = preset
        self._start_s = world.clock.now_s()
        self._instruments: dict[str, Instrument] = {
            "holder": SimulatedHolder(world.chip, world.clock),
            "scan": SimulatedScan(world),
            "spectrometer": SimulatedSpectrometer(world, spectra),
            "resistance": SimulatedResistance(FilmCircuit(world.specimen), world.clock, world.seed),
        }

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """The instruments by role."""
        return dict(self._instruments)

    @property
    def world(self) -> World:
        """What is behind the instruments, for the far ends of wires."""
        return self._world

    @property
    def chip(self) -> HeatingChip:
        """The heating chip, to break it in tests (:meth:`~simulators.chip.HeatingChip.fail`)."""
        return self._world.chip

    def describe(self) -> Mapping[str, str | float]:
        """Simulator, specimen, seed."""
        settings = self._world.settings
        imaging = settings.imaging
        return {
            "simulator": "exsolution",
            "specimen": self._preset,
            "specimen_description": self._world.specimen.preset.description,
            "seed": self._world.seed,
            "probe_current_pa": settings.beam.current_pa,
            "thermal_drift_nm_per_k": settings.drift.thermal_nm_per_k,
            "slow_drift_nm": settings.drift.slow_nm,
            "viewing_area_offset": settings.viewing_area_offset,
            "view": imaging.side,
            "texture": self._world.specimen.film.settings.texture,
            "slope": self._world.specimen.film.settings.undulation * SLOPE_PER_UNDULATION,
            "probe_fwhm_nm": imaging.probe.sigma_nm * FWHM_PER_SIGMA,
            "line_jitter_nm": imaging.errors.line_jitter_nm,
            "flyback_nm": imaging.errors.flyback_nm,
            "bulge_nm_per_k": settings.bulge.nm_per_k,
            "focus_nm": options.FOLLOWING
            if settings.bulge.focus_nm is None
            else settings.bulge.focus_nm,
            "particle_shape": "hemisphere that sinks until half of its volume is below the surface; "
            "diameters are of the sphere of equal volume",
        }

    def truth(self, stream: str, index: int) -> Mapping[str, Any]:
        """What really was in a frame of ``scan`` or ``spectrometer``; raises KeyError if forgotten."""
        if stream not in self._world.truth:
            raise KeyError(f"no stream {stream!r}; there are {', '.join(self._world.truth)}.")
        return self._world.truth[stream].find(index).tell(self._world.specimen)

    def expected(self) -> Mapping[str, float]:
        """Sizes (nm), growth rate (nm/min), count, areal density (1/µm²), crystals in the last armed field, now;
        and Ti3+ fraction and t/λ where the newest spectrum was taken, as if nothing drifted; NaN before.

        Nothing of images before a scan was armed; sizes are NaN while no particle is visible. Growth is that of
        the particles that are seen now and were there 10 s ago, and in which no other has gone up
        meanwhile; it is NaN while there are fewer than five.
        """
        return {**self._expected_of_images(), **self._expected_of_spectra()}

    def _expected_of_spectra(self) -> dict[str, float]:
        facts = self._world.truth[SPECTROMETER].newest
        if not isinstance(facts, SpectrumFacts):
            return dict.fromkeys(("ti3_fraction", "relative_thickness"), math.nan)
        # drift is no business of an expectation: an estimator has the field follow it
        point = in_place(self._world, facts.met)
        return {
            "ti3_fraction": point.ti3_fraction,
            "relative_thickness": point.depth(facts.met.beam_kev),
        }

    def _expected_of_images(self) -> dict[str, float]:
        world = self._world
        field = world.field_of_view
        if field is None:
            return {}
        now_s = world.clock.now_s()
        view = world.view(field, now_s)
        domes = world.domes(view, now_s)
        summary = summarise(domes, view)
        whole = (domes.diameter_nm >= VISIBLE_NM) & ~touches_border(domes, view)
        return {
            "mean_diameter": summary.mean_diameter_nm,
            "median_diameter": float(np.median(domes.diameter_nm[whole]))
            if whole.any()
            else math.nan,
            "growth_rate": self._growth(domes[whole], now_s),
            "count": float(summary.count),
            # an edge-on film has no area that particles could be counted on
            "areal_density": summary.areal_density_per_um2
            if world.settings.imaging.side == "plan"
            else math.nan,
            "crystalline_count": float(np.count_nonzero(domes.crystalline[whole])),
            "crystalline_fraction": float(domes.crystalline[whole].mean())
            if whole.any()
            else math.nan,
        }

    def _growth(self, domes: Domes, now_s: float) -> float:
        """Mean growth of some particles over the last seconds, in nm/min."""
        then_s = now_s - GROWTH_OVER_S
        specimen = self._world.specimen
        if then_s < self._start_s or len(domes) < FEWEST_GROWING:
            return math.nan
        before = specimen.particles(then_s)
        merged, gone = specimen.merged(now_s), specimen.merged(then_s)
        eaters = [into for who, into in merged.items() if who not in gone]
        same, now, then = np.intersect1d(domes.id, before.id, return_indices=True)
        grown = domes.diameter_nm[now] - before.diameter_nm[then]
        paired = grown[(before.diameter_nm[then] >= VISIBLE_NM) & ~np.isin(same, eaters)]
        if len(paired) < FEWEST_GROWING:
            return math.nan
        return float(paired.mean()) / GROWTH_OVER_S * 60


class SimulatedHolder:
    """A heating holder on a simulated chip: closed loop, 1300 °C, at most 1000 °C/s."""

    def __init__(self, chip: HeatingChip, clock: Clock) -> None:
        self._chip = chip
        self._clock = clock

    def describe(self) -> Description:
        """Identity, limits and calibration."""
        chip = self._chip.settings
        return Description(
            role="holder",
            model="simulated MEMS heating holder",
            driver="simulated",
            simulated=True,
            limits=(_TEMPERATURE, _RAMP_RATE),
            details={
                "chip": "simulated",
                "r0_ohm": chip.r0_ohm,
                "t0_celsius": chip.t0_celsius,
                "alpha_per_k": chip.alpha_per_k,
                "noise_celsius": chip.noise_celsius,
            },
        )

    def check(self, request: RampRequest) -> None:
        """Raise LimitError if the ramp would be refused."""
        for limit, value, what in (
            (_TEMPERATURE, request.target_celsius, "ramp to"),
            (_RAMP_RATE, request.rate_celsius_per_s, "ramp rate"),
        ):
            if not limit.low <= value <= limit.high:
                raise LimitError(
                    f"{what} {show(value, limit.unit)} refused: the holder allows "
                    f"{show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
                    f"(its driver, {limit.quantity}). Choose a value in between."
                )

    def ramp(self, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Start a linear ramp; raises LimitError, FaultError, InstrumentError while making safe."""
        self.check(RampRequest(target_celsius, rate_celsius_per_s))
        self._chip.ramp(self._clock.now_s(), target_celsius, rate_celsius_per_s)

    def hold(self) -> None:
        """Freeze the setpoint; raises FaultError, InstrumentError while making safe."""
        self._chip.hold(self._clock.now_s())

    def read(self) -> HolderReading:
        """A reading, now."""
        return self._chip.read(self._clock.now_s())

    def arm_safe_state(self, safe_state: SafeState) -> None:
        """Say how ``make_safe`` shall proceed; raises LimitError for a cooling beyond the limits."""
        rate = safe_state.cool_rate_celsius_per_s
        if rate is not None:
            self.check(RampRequest(safe_state.cool_to_celsius, rate))
        self._chip.arm_safe_state(safe_state)

    def make_safe(self, reason: str) -> None:
        """Switch off, or cool and then switch off, as armed; idempotent."""
        self._chip.make_safe(self._clock.now_s())

    def clear_fault(self) -> None:
        """Unlatch a fault; raises FaultError while its cause persists."""
        self._chip.clear_fault(self._clock.now_s())
