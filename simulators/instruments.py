"""In-process instruments on one simulated specimen and any clock, and the truth about them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from acquire.clock import Clock
from acquire.errors import LimitError, UnitError
from acquire.instruments import (
    Description,
    HolderReading,
    Instrument,
    Limit,
    RampRequest,
    SafeState,
)
from acquire.units import parse, show
from simulators.chip import AMBIENT_CELSIUS, HeatingChip
from simulators.column import Beam, DriftSettings
from simulators.scan import SimulatedScan
from simulators.specimen import named
from simulators.spectrometer import SimulatedSpectrometer
from simulators.world import World, WorldSettings, make

__all__ = [
    "ExsolutionSimulation",
    "SimulatedHolder",
    "SimulatedScan",
    "SimulatedSpectrometer",
    "build",
]

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
) -> ExsolutionSimulation:
    """Make a simulation: the entry point ``exsolution`` of ``hotstage.simulators``.

    Args:
        clock: what everything runs on.
        seed: of everything random; the same seed and commands give the same frames.
        draft: frames are left empty, for a fast preflight; everything else is the same.
        specimen: a preset: ``lsnt_nonstoichiometric``, ``lsnt_stoichiometric``,
            ``lstz_grain_boundary``, ``blank_film``, ``reference_domes``, ``calibration_grating``.
        dome_diameters: equivalent spherical diameters of ``reference_domes``, as unit strings.
        probe_current: above 0, at most 10 nA.
        drift: whether the view drifts at all.
        thermal_drift: displacement of the membrane per degree.
        slow_drift: amplitude of the drift that has no cause.
        viewing_area_offset: share (0 to 0.2) of the rise above 25 °C by which the sample stays
            cooler than the heater.

    Raises:
        ValueError: an option's value cannot be used.
        TypeError: an option is unknown or of the wrong kind.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed!r} refused: give a whole number from 0 to 2^63.")
    if not isinstance(drift, bool):
        raise TypeError(f"drift = {drift!r} refused: write true or false.")
    if not 0 <= _number("viewing_area_offset", viewing_area_offset) <= 0.2:
        raise ValueError(
            f"viewing_area_offset = {viewing_area_offset} refused: 0 to 0.2 is allowed."
        )
    if isinstance(dome_diameters, str):
        raise TypeError('dome_diameters must be a list of quantities, for example ["5 nm"].')
    diameters = [_quantity("dome_diameters", text, "nm", 0, 100) for text in dome_diameters]
    current_pa = _quantity("probe_current", probe_current, "pA", 0, 10_000)
    thermal = _quantity("thermal_drift", thermal_drift, "nm/°C", -10, 10)
    slow = _quantity("slow_drift", slow_drift, "nm", 0, 1000)
    if current_pa == 0:
        raise ValueError("probe_current = 0 refused: blank the beam instead.")
    world = make(
        clock,
        seed,
        named(specimen, seed, diameters),
        WorldSettings(
            beam=Beam(current_pa=current_pa),
            drift=DriftSettings(thermal, slow_nm=slow) if drift else DriftSettings(0.0, 0.0, 0.0),
            viewing_area_offset=viewing_area_offset,
        ),
        draft=draft,
    )
    return ExsolutionSimulation(world, specimen)


class ExsolutionSimulation:
    """A holder, a scan and a spectrometer on one specimen, and the truth, which they never tell."""

    def __init__(self, world: World, preset: str) -> None:
        self._world = world
        self._preset = preset
        self._instruments: dict[str, Instrument] = {
            "holder": SimulatedHolder(world.chip, world.clock),
            "scan": SimulatedScan(world),
            "spectrometer": SimulatedSpectrometer(world),
        }

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """The instruments by role."""
        return dict(self._instruments)

    @property
    def chip(self) -> HeatingChip:
        """The heating chip, to break it in tests (:meth:`~simulators.chip.HeatingChip.fail`)."""
        return self._world.chip

    def describe(self) -> Mapping[str, str | float]:
        """Simulator, specimen, seed."""
        settings = self._world.settings
        return {
            "simulator": "exsolution",
            "specimen": self._preset,
            "specimen_description": self._world.specimen.preset.description,
            "seed": self._world.seed,
            "probe_current_pa": settings.beam.current_pa,
            "thermal_drift_nm_per_k": settings.drift.thermal_nm_per_k,
            "slow_drift_nm": settings.drift.slow_nm,
            "viewing_area_offset": settings.viewing_area_offset,
            "particle_shape": "hemisphere that sinks until half of its volume is below the surface; "
            "diameters are of the sphere of equal volume",
        }

    def truth(self, stream: str, index: int) -> Mapping[str, Any]:
        """What really was in a frame of ``scan`` or ``spectrometer``; raises KeyError if forgotten."""
        if stream not in self._world.truth:
            raise KeyError(f"no stream {stream!r}; there are {', '.join(self._world.truth)}.")
        return self._world.truth[stream].find(index).tell(self._world.specimen)

    def expected(self) -> Mapping[str, float]:
        """Mean diameter (nm), count and areal density (1/µm²) in the last armed field, now.

        Empty before a scan was armed; the mean is NaN while no particle is visible.
        """
        field = self._world.field_of_view
        if field is None:
            return {}
        summary = self._world.summary(field, self._world.clock.now_s())
        return {
            "mean_diameter": summary.mean_diameter_nm,
            "count": float(summary.count),
            "areal_density": summary.areal_density_per_um2,
        }


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


def _quantity(name: str, text: str, unit: str, low: float, high: float) -> float:
    try:
        value = parse(text, unit)
    except UnitError as error:
        raise ValueError(f"{name}: {error}") from error
    if not low <= value <= high:
        raise ValueError(
            f"{name} = {text!r} refused: {show(low, unit)} to {show(high, unit)} is allowed."
        )
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} = {value!r} refused: a number is needed.")
    return float(value)
