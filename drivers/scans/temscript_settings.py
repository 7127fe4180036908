"""The options of the temscript driver, and what follows from them: sizes of images and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acquire.errors import InstrumentError
from acquire.instruments import Limit
from drivers import options
from drivers.scans import microscope
from drivers.scans.temscript_device import Identity

SHIFTS = ("beam_shift", "image_shift")
PARTS = {"FULL": 1, "HALF": 2, "QUARTER": 4}
PARTIAL_FIELDS = ("unused", "cropped", "whole")
LARGEST = 1 << 14


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of :func:`drivers.scans.temscript.open_temscript`, read."""

    detectors: Mapping[str, str] | None
    full_size: int
    partial_field: str
    width_at_1x_nm: float
    field_nm: tuple[float, float]
    field_tolerance: float
    dwell_s: tuple[float, float]
    rotation_rad: float | None
    shift: str
    shift_nm: float
    """What 1 m of the microscope's shift is, in nm."""
    shift_rotation_rad: float
    shift_mirrored: bool
    farthest_nm: float
    count_offset: int
    blank_between: bool
    facts: Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Size:
    """How images of one size are taken."""

    image_size: str
    binning: int
    field_share: float
    """Share of the whole field's width that they show."""


def read(
    *,
    detectors: Mapping[str, str] | None,
    full_size: int,
    partial_field: str,
    width_at_1x: str,
    field_of_view: Sequence[str],
    field_tolerance: float,
    dwell_time: Sequence[str],
    rotation: str | None,
    shift: str,
    shift_unit: str,
    shift_rotation: str,
    shift_mirrored: bool,
    maximum_shift: str,
    count_offset: int,
    blank_between_frames: bool,
    facts: Mapping[str, str | float],
) -> Settings:
    """Read the options; raises ValueError, TypeError."""
    if partial_field not in PARTIAL_FIELDS:
        raise ValueError(
            f"partial_field = {partial_field!r} refused: write one of {', '.join(PARTIAL_FIELDS)}."
        )
    if shift not in SHIFTS:
        raise ValueError(f"shift = {shift!r} refused: write one of {', '.join(SHIFTS)}.")
    return Settings(
        detectors=None if detectors is None else _names(detectors),
        full_size=options.whole("full_size", full_size, 16, LARGEST),
        partial_field=partial_field,
        width_at_1x_nm=options.quantity("width_at_1x", width_at_1x, "nm", 1e3, 1e12),
        field_nm=microscope.pair("field_of_view", field_of_view, "nm", 0.1, 1e6),
        field_tolerance=options.number("field_tolerance", field_tolerance, 1e-6, 0.5),
        dwell_s=microscope.pair("dwell_time", dwell_time, "s", 1e-8, 10.0),
        rotation_rad=None
        if rotation is None
        else options.quantity("rotation", rotation, "rad", -6.3, 6.3),
        shift=shift,
        shift_nm=options.quantity("shift_unit", shift_unit, "nm", 1.0, 1e12),
        shift_rotation_rad=options.quantity("shift_rotation", shift_rotation, "rad", -10, 10),
        shift_mirrored=options.switch("shift_mirrored", shift_mirrored),
        farthest_nm=options.quantity("maximum_shift", maximum_shift, "nm", 0, 1e6),
        count_offset=options.whole("count_offset", count_offset, -(1 << 31), 1 << 31),
        blank_between=options.switch("blank_between_frames", blank_between_frames),
        facts=facts,
    )


def detectors_of(settings: Settings, found: Identity) -> dict[str, str]:
    """The microscope's name of every detector; raises InstrumentError if it lacks one."""
    there = found.binnings
    wanted = settings.detectors
    if wanted is None:
        wanted = {name.lower(): name for name in there}
    missing = [name for name in wanted.values() if name not in there]
    if missing or not wanted:
        raise InstrumentError(
            f"the microscope has no STEM detector {', '.join(missing) or 'at all'}; it has "
            f"{', '.join(there) or 'none'}. Select the detectors in the microscope's own program: only "
            "those are offered. TIA must run."
        )
    return dict(wanted)


def sizes_of(settings: Settings, found: Identity, names: Sequence[str]) -> dict[int, Size]:
    """How an image of so many pixels on a side is taken; the whole field is preferred."""
    sizes: dict[int, Size] = {}
    common = set.intersection(*(set(found.binnings[name]) for name in names))
    for image_size, part in PARTS.items():
        if part > 1 and settings.partial_field == "unused":
            continue
        share = 1 / part if settings.partial_field == "cropped" else 1.0
        for binning in sorted(common):
            if settings.full_size % (part * binning) == 0:
                sizes.setdefault(
                    settings.full_size // (part * binning), Size(image_size, binning, share)
                )
    if not sizes:
        raise InstrumentError(
            f"no binning of {sorted(common)} divides full_size = {settings.full_size}. Look at that "
            "option: it is the size of an image without binning."
        )
    return sizes


def limits_of(settings: Settings, sizes: Mapping[int, Size]) -> tuple[Limit, Limit, Limit, Limit]:
    """Field of view (nm), dwell time (s), size (pixels) and position (nm) that are allowed."""
    return (
        Limit("field_of_view", *settings.field_nm, "nm", "field_of_view"),
        Limit("dwell_time", *settings.dwell_s, "s", "dwell_time"),
        Limit("size", min(sizes), max(sizes), "px", "driver"),
        Limit("position", -settings.farthest_nm, settings.farthest_nm, "nm", "maximum_shift"),
    )


def _names(given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f'detectors = {given!r} refused: write a table, as {{haadf = "HAADF"}}.')
    if not all(isinstance(name, str) and name for name in given.values()):
        raise TypeError(f"detectors = {given!r} refused: names of the microscope are texts.")
    if len(set(given.values())) < len(given):
        raise ValueError(f"detectors = {given} refused: each needs one of its own.")
    return {str(ours): theirs for ours, theirs in given.items()}
