"""The options of the SIMPLON driver, read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers import options
from drivers.spectrometers.simplon_filter import EnergyAxis
from drivers.spectrometers.simplon_messages import CBOR, LEGACY

HIGHEST_ROW = 1 << 14


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of :func:`drivers.spectrometers.simplon.open_simplon`."""

    gap_s: float
    series_length: int
    rows: tuple[int, int] | None
    mirrored: bool
    filter_address: str
    """Empty where the filter is set by hand."""
    fixed: EnergyAxis | None
    """Its calibration then."""
    dispersions_ev: tuple[float, ...]
    zero_channel: float
    offsets_ev: tuple[float, float]
    low_loss_ev: float
    facts: dict[str, str | float]

    def rows_of(self, height: int) -> tuple[int, int]:
        """First row and the one after the last; raises ValueError if the detector has fewer."""
        top, bottom = (0, height) if self.rows is None else self.rows
        if bottom > height:
            raise ValueError(f"rows = {[top, bottom]} refused: the detector has {height} rows.")
        return top, bottom


def read(
    *,
    version: str,
    threshold: str,
    rows: Sequence[int] | None,
    mirrored: bool,
    gap: str,
    series_length: int,
    filter_address: str | None,
    dispersions: Sequence[str] | None,
    zero_loss_channel: float,
    energy_offsets: Sequence[str],
    low_loss_offset: str,
    energy_offset: str | None,
    dispersion: str | None,
    collection_semi_angle: str | None,
) -> Settings:
    """Read the options; raises ValueError, TypeError."""
    if version not in (CBOR, LEGACY):
        raise ValueError(f"version = {version!r} refused: write {CBOR!r} or {LEGACY!r}.")
    if version == LEGACY and threshold:
        raise ValueError(
            f"threshold = {threshold!r} refused: the stream {LEGACY!r} tells no channels apart. "
            f"Leave it out, or write version = {CBOR!r}."
        )
    low_ev, high_ev = (
        options.quantity("energy_offsets", text, "eV", -1e4, 1e5) for text in energy_offsets
    )
    facts: dict[str, str | float] = {"gain_counts_per_electron": 1.0, "offset_counts": 0.0}
    if collection_semi_angle is not None:
        facts["collection_semi_angle_mrad"] = options.quantity(
            "collection_semi_angle", collection_semi_angle, "mrad", 0.01, 500
        )
    by_hand = filter_address is None
    return Settings(
        gap_s=options.quantity("gap", gap, "s", 1e-9, 10),
        series_length=options.whole("series_length", series_length, 1, 10**6),
        rows=_rows(rows),
        mirrored=options.switch("mirrored", mirrored),
        filter_address=filter_address or "",
        fixed=_fixed(energy_offset, dispersion, dispersions) if by_hand else None,
        dispersions_ev=() if by_hand else _dispersions(dispersions, energy_offset or dispersion),
        zero_channel=options.number("zero_loss_channel", zero_loss_channel, -1e5, 1e5),
        offsets_ev=(low_ev, high_ev),
        low_loss_ev=options.quantity("low_loss_offset", low_loss_offset, "eV", -1e3, 1e3),
        facts=facts,
    )


def _rows(given: Sequence[int] | None) -> tuple[int, int] | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise TypeError(f"rows = {given!r} refused: write a list of two whole numbers.")
    top, bottom = (options.whole("rows", row, 0, HIGHEST_ROW) for row in given)
    if not top < bottom:
        raise ValueError(f"rows = {list(given)} refused: one row is the least.")
    return top, bottom


def _fixed(
    offset: str | None, dispersion: str | None, dispersions: Sequence[str] | None
) -> EnergyAxis:
    if dispersions is not None or offset is None or dispersion is None:
        raise ValueError(
            "energy_offset and dispersion are needed where no filter is named, and nothing else of "
            "the energy axis."
        )
    return EnergyAxis(
        options.quantity("energy_offset", offset, "eV", -1e4, 1e5),
        options.quantity("dispersion", dispersion, "eV", 1e-4, 100),
    )


def _dispersions(given: Sequence[str] | None, fixed: str | None) -> tuple[float, ...]:
    if fixed is not None:
        raise ValueError("energy_offset and dispersion are for a filter that is set by hand only.")
    if given is None or isinstance(given, str) or not given:
        raise TypeError(
            f"dispersions = {given!r} refused: write a list of quantities, energy per channel of "
            "this detector."
        )
    return tuple(options.quantity("dispersions", text, "eV", 1e-4, 100) for text in given)
