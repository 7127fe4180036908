"""The options of the DigiScan driver, and what follows from them: limits and the shape of frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acquire.errors import InstrumentError
from acquire.instruments import Limit, ScanExposure, StreamSpec
from drivers import options
from drivers.scans import microscope
from drivers.scans.digiscan_device import REST, Flags, Properties
from drivers.scans.microscope import TIMING, TIMING_SPEC, pair

SMALLEST = 16
MAINS_TOLERANCE = 0.01
"""Of the frequency of the mains against the one that DigiScan states."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of :func:`open_digiscan`, read."""

    detectors: Mapping[str, int]
    width_at_1x_nm: float
    field_nm: tuple[float, float]
    field_tolerance: float
    largest: int
    rotation_deg: float
    flyback_us: float | None
    flags: Flags
    shift_nm: float
    shift_rotation_rad: float
    shift_mirrored: bool
    farthest_nm: float
    facts: Mapping[str, str | float]


def read(
    *,
    detectors: Mapping[str, int],
    width_at_1x: str,
    field_of_view: Sequence[str],
    field_tolerance: float,
    maximum_size: int,
    rotation: str,
    flyback: str | None,
    line_sync: bool,
    rest: str,
    shift_unit: str,
    shift_rotation: str,
    shift_mirrored: bool,
    maximum_shift: str,
    probe_current: str | None,
    beam_energy: str | None,
    convergence_semi_angle: str | None,
    detector_angles: Mapping[str, Sequence[str]] | None,
) -> Settings:
    """Read the options of :func:`drivers.scans.digiscan.open_digiscan`; raises ValueError, TypeError."""
    if rest not in REST:
        raise ValueError(f"rest = {rest!r} refused: write one of {', '.join(REST)}.")
    return Settings(
        detectors=_detectors(detectors),
        width_at_1x_nm=options.quantity("width_at_1x", width_at_1x, "nm", 1e3, 1e12),
        field_nm=pair("field_of_view", field_of_view, "nm", 0.1, 1e6),
        field_tolerance=options.number("field_tolerance", field_tolerance, 1e-6, 0.5),
        largest=options.whole("maximum_size", maximum_size, SMALLEST, 1 << 14),
        rotation_deg=options.quantity("rotation", rotation, "deg", -360, 360),
        flyback_us=None if flyback is None else options.quantity("flyback", flyback, "µs", 1, 1e5),
        flags=REST[rest]
        | (Flags.LINE_SYNC if options.switch("line_sync", line_sync) else Flags(0)),
        shift_nm=options.quantity("shift_unit", shift_unit, "nm", 1e-6, 1e9),
        shift_rotation_rad=options.quantity("shift_rotation", shift_rotation, "rad", -10, 10),
        shift_mirrored=options.switch("shift_mirrored", shift_mirrored),
        farthest_nm=options.quantity("maximum_shift", maximum_shift, "nm", 0, 1e6),
        facts=microscope.facts(
            probe_current=probe_current,
            beam_energy=beam_energy,
            convergence_semi_angle=convergence_semi_angle,
            detector_angles=detector_angles,
        ),
    )


def expect(found: Properties, settings: Settings) -> None:
    """Raise InstrumentError for a detector whose signal DigiScan does not have."""
    missing = {n: k for n, k in settings.detectors.items() if k >= found.signals}
    if missing:
        raise InstrumentError(
            f"detectors {missing} refused: DigiScan has {found.signals} signals, numbered from 0."
        )


def limits_of(found: Properties, settings: Settings) -> tuple[Limit, Limit, Limit, Limit]:
    """Field of view (nm), dwell time (s), size (pixels) and position (nm) that are allowed."""
    low, high = settings.field_nm
    return (
        Limit("field_of_view", low, high, "nm", "field_of_view"),
        Limit("dwell_time", found.shortest_us / 1e6, found.longest_us / 1e6, "s", "driver"),
        Limit("size", SMALLEST, settings.largest, "px", "maximum_size"),
        Limit("position", -settings.farthest_nm, settings.farthest_nm, "nm", "maximum_shift"),
    )


def within(limit: Limit, value: float, name: str = "") -> None:
    """Raise LimitError for a value beyond a limit, or NaN."""
    microscope.within(limit, value, "DigiScan", name)


def spec_of(role: str, exposure: ScanExposure, pixel_nm: float, duration_s: float) -> StreamSpec:
    """What frames look like whose pixels are ``pixel_nm`` wide."""
    return StreamSpec(
        role,
        microscope.channels(exposure, pixel_nm, exposure.center_nm),
        {TIMING: TIMING_SPEC},
        max(exposure.frame_period_s, duration_s),
    )


def lasts_s(exposure: ScanExposure, found: Properties, flags: Flags) -> float:
    """How long a frame takes, flyback and the wait for the mains included."""
    line_s = exposure.shape[1] * exposure.dwell_time_s + found.flyback_us * 1e-6
    frequency = found.line_frequency_hz
    if flags & Flags.LINE_SYNC and frequency > 0:
        line_s = math.ceil(line_s * frequency) / frequency
    return exposure.shape[0] * line_s


def shortest_s(exposure: ScanExposure, found: Properties, flags: Flags) -> float:
    """What a whole frame takes at the least, whatever the flyback really is."""
    frequency = found.line_frequency_hz
    if not (flags & Flags.LINE_SYNC and frequency > 0):
        return exposure.scan_time_s * (1 - 1e-6)
    pixels_s = exposure.shape[1] * exposure.dwell_time_s
    line_s = math.ceil(pixels_s * frequency * (1 - MAINS_TOLERANCE)) / frequency
    return ((exposure.shape[0] - 1) * line_s + pixels_s) * (1 - MAINS_TOLERANCE)


def _detectors(given: Any) -> dict[str, int]:
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"detectors = {given!r} refused: write a table, as {{haadf = 0, abf = 1}}.")
    found = {
        str(name): options.whole(f"detectors.{name}", channel, 0, 7)
        for name, channel in given.items()
    }
    if len(set(found.values())) < len(found):
        raise ValueError(f"detectors = {found} refused: each needs a signal of its own.")
    return found
