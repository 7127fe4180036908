"""The options of the DigiScan driver, and what follows from them: limits and the shape of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acquire.errors import InstrumentError, LimitError
from acquire.instruments import Axis, ChannelSpec, Limit, ScalarSpec, ScanExposure, StreamSpec
from acquire.units import show
from drivers import options
from drivers.scans.digiscan_device import REST, Flags, Properties

SMALLEST = 16
TIMING = "timing_bound"
"""Scalar of a frame: how much longer than its exposure its time span is, the bound of its error in s."""


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
    maximum_shift: str,
    probe_current: str | None,
    beam_energy: str | None,
    convergence_semi_angle: str | None,
    detector_angles: Mapping[str, Sequence[str]] | None,
) -> Settings:
    """Read the options of :func:`drivers.scans.digiscan.open_digiscan`; raises ValueError, TypeError."""
    low, high = _pair("field_of_view", field_of_view, "nm", 0.1, 1e6)
    if rest not in REST:
        raise ValueError(f"rest = {rest!r} refused: write one of {', '.join(REST)}.")
    given = {
        "probe_current_pa": (probe_current, "pA", 1e-3, 1e6, 1.0),
        "beam_energy_kev": (beam_energy, "V", 1e3, 1e6, 1e-3),
        "convergence_semi_angle_mrad": (convergence_semi_angle, "mrad", 0.01, 200.0, 1.0),
    }
    facts: dict[str, str | float] = {
        name: options.quantity(name.rpartition("_")[0], text, unit, least, most) * factor
        for name, (text, unit, least, most, factor) in given.items()
        if text is not None
    }
    for name, angles in (detector_angles or {}).items():
        inner, outer = _pair(f"detector_angles.{name}", angles, "mrad", 0, 1000)
        facts |= {f"{name}_inner_mrad": inner, f"{name}_outer_mrad": outer}
    return Settings(
        detectors=_detectors(detectors),
        width_at_1x_nm=options.quantity("width_at_1x", width_at_1x, "nm", 1e3, 1e12),
        field_nm=(low, high),
        field_tolerance=options.number("field_tolerance", field_tolerance, 1e-6, 0.5),
        largest=options.whole("maximum_size", maximum_size, SMALLEST, 1 << 14),
        rotation_deg=options.quantity("rotation", rotation, "deg", -360, 360),
        flyback_us=None if flyback is None else options.quantity("flyback", flyback, "µs", 1, 1e5),
        flags=REST[rest]
        | (Flags.LINE_SYNC if options.switch("line_sync", line_sync) else Flags(0)),
        shift_nm=options.quantity("shift_unit", shift_unit, "nm", 1e-6, 1e9),
        shift_rotation_rad=options.quantity("shift_rotation", shift_rotation, "rad", -10, 10),
        farthest_nm=options.quantity("maximum_shift", maximum_shift, "nm", 0, 1e6),
        facts=facts,
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
    if not limit.low <= value <= limit.high:
        raise LimitError(
            f"{name or limit.quantity.replace('_', ' ')} {show(value, limit.unit)} refused: DigiScan "
            f"allows {show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
            f"({limit.source}). Choose a value in between."
        )


def spec_of(role: str, exposure: ScanExposure, pixel_nm: float, duration_s: float) -> StreamSpec:
    """What frames look like whose pixels are ``pixel_nm`` wide."""
    rows, columns = exposure.shape
    axes = {
        "y": Axis(exposure.center_nm[1] - (rows - 1) / 2 * pixel_nm, pixel_nm, "nm"),
        "x": Axis(exposure.center_nm[0] - (columns - 1) / 2 * pixel_nm, pixel_nm, "nm"),
    }
    return StreamSpec(
        role,
        {
            name: ChannelSpec(
                "uint16", exposure.shape, ("y", "x"), axes, "counts", f"{name.upper()} image"
            )
            for name in exposure.detectors
        },
        {TIMING: ScalarSpec("s", "bound of the error of the frame's times")},
        max(exposure.frame_period_s, duration_s),
    )


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


def _pair(name: str, given: Any, unit: str, low: float, high: float) -> tuple[float, float]:
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise TypeError(f"{name} = {given!r} refused: write a list of two quantities.")
    first, second = (options.quantity(name, text, unit, low, high) for text in given)
    if first > second:
        raise ValueError(f"{name} = {list(given)} refused: the smaller one comes first.")
    return first, second
