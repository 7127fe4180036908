"""The options of the GIF driver, and the limits that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from acquire.errors import LimitError
from acquire.instruments import Limit
from acquire.units import show
from drivers import options
from drivers.spectrometers.gif_device import GAIN_NORMALIZED, PROCESSING, UNPROCESSED, Camera

FEWEST_CHANNELS = 64
FULL_COUNTS = 65535.0
"""Of a pixel of 16 bits as the camera has it; what processing makes of a full one is its own."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of :func:`open_gif`, read."""

    camera: Camera
    dispersions_ev: tuple[float, ...]
    zero_channel: float
    low_loss_ev: float
    offset_ev: tuple[float, float]
    longest_s: float
    shortest_s: float
    facts: dict[str, str | float]


def read(
    *,
    dispersions: Sequence[str],
    zero_loss_channel: float,
    camera: int,
    camera_size: Sequence[int],
    rows: Sequence[int] | None,
    processing: str,
    settling: str,
    low_loss_offset: str,
    energy_offset: Sequence[str],
    shortest_exposure: str,
    longest_exposure: str,
    collection_semi_angle: str | None,
    counts_per_electron: float | None,
    readout_noise_electrons: float | None,
    saturation_counts: float | None,
) -> Settings:
    """Read the options of :func:`drivers.spectrometers.gif.open_gif`; raises ValueError, TypeError."""
    if processing not in PROCESSING:
        raise ValueError(
            f"processing = {processing!r} refused: write one of {', '.join(PROCESSING)}."
        )
    width, height = _two("camera_size", camera_size, 1, 1 << 14)
    top, bottom = (0, height) if rows is None else _two("rows", rows, 0, height)
    if width < FEWEST_CHANNELS or not top < bottom:
        raise ValueError(
            f"camera_size = {list(camera_size)}, rows = {rows} refused: {FEWEST_CHANNELS} channels "
            "and one row are the least."
        )
    if isinstance(dispersions, str) or not dispersions:
        raise TypeError(f"dispersions = {dispersions!r} refused: write a list of quantities.")
    low_ev, high_ev = (
        options.quantity("energy_offset", text, "eV", -1e4, 1e5) for text in energy_offset
    )
    shortest_s = options.quantity("shortest_exposure", shortest_exposure, "s", 1e-6, 1)
    longest_s = options.quantity("longest_exposure", longest_exposure, "s", 0.01, 3)
    if 2 * shortest_s > longest_s:
        raise ValueError(
            f"shortest_exposure = {shortest_exposure!r} refused: a sum of exposures of at most "
            f"{show(longest_s, 's')} has some of little more than half of that. Write less than half of it."
        )
    full_counts = FULL_COUNTS if PROCESSING[processing] == UNPROCESSED else math.nan
    if saturation_counts is not None:
        full_counts = options.number("saturation_counts", saturation_counts, 1, 1e9)
    normalized = PROCESSING[processing] == GAIN_NORMALIZED
    facts: dict[str, str | float] = {
        "dual": "sequential",
        "offset_counts": 0.0,
        "gain_is_normalized": "yes" if normalized else "no",
    }
    if not math.isnan(full_counts):
        facts["pixel_saturation_counts"] = full_counts
    if collection_semi_angle is not None:
        facts["collection_semi_angle_mrad"] = options.quantity(
            "collection_semi_angle", collection_semi_angle, "mrad", 0.01, 500
        )
    for name, value in (
        ("gain_counts_per_electron", counts_per_electron),
        ("readout_noise_electrons", readout_noise_electrons),
    ):
        if value is not None:
            facts[name] = options.number(name, value, 0, 1e6)
    return Settings(
        camera=Camera(
            number=options.whole("camera", camera, 0, 9),
            width=width,
            height=height,
            top=top,
            bottom=bottom,
            processing=PROCESSING[processing],
            settling_s=options.quantity("settling", settling, "s", 0, 10),
            full_counts=full_counts,
        ),
        dispersions_ev=tuple(
            options.quantity("dispersions", text, "eV", 1e-4, 100) for text in dispersions
        ),
        zero_channel=options.number("zero_loss_channel", zero_loss_channel, -1e5, 1e5),
        low_loss_ev=options.quantity("low_loss_offset", low_loss_offset, "eV", -1e3, 1e3),
        offset_ev=(low_ev, high_ev),
        longest_s=longest_s,
        shortest_s=shortest_s,
        facts=facts,
    )


def limits_of(settings: Settings) -> tuple[Limit, Limit, Limit, Limit, Limit]:
    """Energy offset, dispersion, channels, dwell time and that of the low loss that are allowed."""
    low, high = settings.offset_ev
    dispersions = settings.dispersions_ev
    return (
        Limit("energy_offset", low, high, "eV", "energy_offset"),
        Limit("dispersion", min(dispersions), max(dispersions), "eV", "dispersions"),
        Limit("channels", FEWEST_CHANNELS, settings.camera.width, "", "camera_size"),
        Limit("dwell_time", settings.shortest_s, 1000.0, "s", "shortest_exposure"),
        Limit("low_loss_dwell_time", settings.shortest_s, 10.0, "s", "shortest_exposure"),
    )


def within(limit: Limit, value: float) -> None:
    """Raise LimitError for a value beyond a limit, or NaN."""
    if not limit.low <= value <= limit.high:
        raise LimitError(
            f"{limit.quantity.replace('_', ' ')} {show(value, limit.unit)} refused: the spectrometer "
            f"allows {show(limit.low, limit.unit)} to {show(limit.high, limit.unit)} "
            f"({limit.source}). Choose a value in between."
        )


def _two(name: str, given: Sequence[int], low: int, high: int) -> tuple[int, int]:
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise TypeError(f"{name} = {given!r} refused: write a list of two whole numbers.")
    first, second = (options.whole(name, value, low, high) for value in given)
    return first, second
