"""The options that all scans have about their microscope: facts for the metadata, ranges, calibrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acquire.errors import LimitError, UnitError
from acquire.instruments import Axis, ChannelSpec, Limit, ScalarSpec, ScanExposure
from acquire.units import parse, show
from drivers import options

TIMING = "timing_bound"
"""Scalar of a frame: how much longer than its exposure its time span is, the bound of its error in s."""
TIMING_SPEC = ScalarSpec("s", "bound of the error of the frame's times")


def facts(
    *,
    probe_current: str | None,
    beam_energy: str | None,
    convergence_semi_angle: str | None,
    detector_angles: Mapping[str, Sequence[str]] | None,
) -> dict[str, str | float]:
    """Details of a description, in pA, keV and mrad; raises ValueError, TypeError."""
    found: dict[str, str | float] = {}
    if probe_current is not None:
        found["probe_current_pa"] = options.quantity(
            "probe_current", probe_current, "pA", 1e-3, 1e6
        )
    if beam_energy is not None:
        found["beam_energy_kev"] = _energy_kev(beam_energy)
    if convergence_semi_angle is not None:
        found["convergence_semi_angle_mrad"] = options.quantity(
            "convergence_semi_angle", convergence_semi_angle, "mrad", 0.01, 200.0
        )
    for name, angles in (detector_angles or {}).items():
        inner, outer = pair(f"detector_angles.{name}", angles, "mrad", 0, 1000)
        found |= {f"{name}_inner_mrad": inner, f"{name}_outer_mrad": outer}
    return found


def pair(name: str, given: Any, unit: str, low: float, high: float) -> tuple[float, float]:
    """Two quantities, the smaller one first; raises ValueError, TypeError."""
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise TypeError(f"{name} = {given!r} refused: write a list of two quantities.")
    first, second = (options.quantity(name, text, unit, low, high) for text in given)
    if first > second:
        raise ValueError(f"{name} = {list(given)} refused: the smaller one comes first.")
    return first, second


def within(limit: Limit, value: float, device: str, name: str = "") -> None:
    """Raise LimitError for a value beyond a limit, or NaN."""
    if not limit.low <= value <= limit.high:
        raise LimitError(
            f"{name or limit.quantity.replace('_', ' ')} {show(value, limit.unit)} refused: {device} "
            f"allows {show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
            f"({limit.source}). Choose a value in between."
        )


def check_detectors(asked: Sequence[str], known: Sequence[str]) -> None:
    """Raise LimitError for detectors that are not there, none at all, or one named twice."""
    if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(known):
        raise LimitError(
            f"detectors {list(asked)} refused: the scan has {', '.join(known)}; name one or more "
            "of them, each once."
        )


def channels(
    exposure: ScanExposure, pixel_nm: float, center_nm: tuple[float, float]
) -> dict[str, ChannelSpec]:
    """What the images look like whose pixels are ``pixel_nm`` wide around ``center_nm`` (x, y)."""
    rows, columns = exposure.shape
    axes = {
        "y": Axis(center_nm[1] - (rows - 1) / 2 * pixel_nm, pixel_nm, "nm"),
        "x": Axis(center_nm[0] - (columns - 1) / 2 * pixel_nm, pixel_nm, "nm"),
    }
    return {
        name: ChannelSpec(
            "uint16", exposure.shape, ("y", "x"), axes, "counts", f"{name.upper()} image"
        )
        for name in exposure.detectors
    }


def _energy_kev(text: str) -> float:
    """``300 kV`` or ``300 keV``."""
    try:
        parse(text, "keV")
    except (UnitError, AttributeError, TypeError):
        return options.quantity("beam_energy", text, "V", 1e3, 1e6) * 1e-3
    return options.quantity("beam_energy", text, "keV", 1.0, 1e3)
