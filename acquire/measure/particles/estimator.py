"""The live estimator ``particles``: options from a recipe, pixel size from the stream, ids that persist."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.spatial import KDTree

from acquire.config import explain
from acquire.errors import ConfigError, MeasureError, UnitError
from acquire.instruments import AnyArray, Frame, StreamSpec
from acquire.measure.particles.link import link, view_shift
from acquire.measure.particles.measure import (
    ParticleMeasurement,
    ParticleOptions,
    empty_table,
    measure_particles,
)
from acquire.measure.particles.shapes import Shape
from acquire.measure.particles.summary import COLUMNS, QUANTITIES, no_values
from acquire.stream.records import Estimate, Quantity
from acquire.units import Nanometres, convert, show

_FORGET_AFTER = 5
"""Frames for which a particle that is not seen keeps its id."""
_TRUST = 0.85
"""Mean SNR over the finding threshold from which a particle may be fainter in single frames."""
_FEWEST_FOR_GROWTH = 5
_LONGEST_MEMORY = 10
_BLANK_SHARE = 0.02
"""A film this much darker than the last one measured is a beam that is off."""

_Positive = Annotated[Nanometres, Field(gt=0, allow_inf_nan=False)]


class EstimatorOptions(BaseModel):
    """What a recipe may write under ``estimate: particles``, beside ``from``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    polarity: Literal["bright", "dark"] | None = None
    """None: dark for a channel called ``abf`` or ``bf``, else bright."""
    shape: Shape = Shape.HEMISPHERE
    exponent: Annotated[float, Field(ge=0.0, le=3.0)] | None = None
    probe_sigma: Annotated[Nanometres, Field(ge=0, allow_inf_nan=False)] = 0.2
    expected_diameter: _Positive = 4.0
    smallest_diameter: _Positive = 2.0
    largest_diameter: _Positive = 20.0
    false_islands: Annotated[float, Field(gt=0, le=1)] = 0.002
    dark_level: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    link_distance: _Positive = 3.0

    @model_validator(mode="after")
    def _in_order(self) -> EstimatorOptions:
        if not self.smallest_diameter <= self.expected_diameter <= self.largest_diameter:
            raise ValueError(
                f"expected_diameter = {show(self.expected_diameter, 'nm')} must lie between "
                f"smallest_diameter = {show(self.smallest_diameter, 'nm')} and "
                f"largest_diameter = {show(self.largest_diameter, 'nm')}"
            )
        return self

    def for_channel(self, channel: str) -> ParticleOptions:
        """The options of the pure function."""
        dark = channel.lower() in ("abf", "bf", "bright_field")
        return ParticleOptions(
            polarity=self.polarity or ("dark" if dark else "bright"),
            shape=self.shape,
            exponent=self.exponent,
            probe_sigma_nm=self.probe_sigma,
            expected_diameter_nm=self.expected_diameter,
            smallest_diameter_nm=self.smallest_diameter,
            largest_diameter_nm=self.largest_diameter,
            false_islands=self.false_islands,
            dark_level=self.dark_level,
        )


@dataclass(frozen=True)
class _Known:
    """Particles seen lately: positions (y, x) in nm, sizes, ids, frames since each was seen."""

    places: NDArray[np.float64]
    sizes: NDArray[np.float64]
    ids: NDArray[np.int64]
    unseen: NDArray[np.int64]
    looks: NDArray[np.int64]
    """How often the place was looked at after the frame that found it."""
    share: NDArray[np.float64]
    """Running mean over these looks of SNR over the SNR that finding needs."""

    @property
    def trusted(self) -> NDArray[np.bool_]:
        """Where repeated looks, not one lucky frame, say that there is a particle."""
        return np.asarray((self.looks >= 3) & (self.share > _TRUST))


_NOTHING = _Known(
    np.zeros((0, 2)),
    np.zeros(0),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0),
)


class ParticleEstimator:
    """Sizes the particles of every frame of one detector; the same frames give the same estimates.

    An image that cannot be measured gives an estimate of NaN with a flag and the run goes on; the
    ids of the particles survive it. The level of the film is remembered so that a beam that goes
    off is told from a film without particles.
    """

    quantities: tuple[Quantity, ...] = QUANTITIES
    columns: Mapping[str, str] = COLUMNS

    def __init__(
        self, name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
    ) -> None:
        try:
            chosen = EstimatorOptions.model_validate(dict(options))
        except ValidationError as error:
            raise ConfigError(explain(error, f"estimate.{name}", EstimatorOptions)) from error
        self.name = name
        self.stream = spec.name
        self.channel = channel
        self.options = chosen.for_channel(channel)
        self.pixel_size_nm = _pixel_size_nm(name, spec, channel)
        radius_px = chosen.smallest_diameter / self.options.shape.diameter_per_radius
        if radius_px < self.pixel_size_nm:
            raise ConfigError(
                f"estimate.{name}: smallest_diameter = {show(chosen.smallest_diameter, 'nm')} is too "
                f"small for pixels of {show(self.pixel_size_nm, 'nm')} in {spec.name!r}. "
                "Scan a smaller field of view or more pixels, or raise smallest_diameter."
            )
        self._link_nm = chosen.link_distance
        self._faint_nm = math.sqrt(chosen.smallest_diameter * chosen.expected_diameter)
        self._known = _NOTHING
        self._shift = np.zeros(2)
        self._next_id = 0
        self._level = math.nan

    def update(self, frame: Frame) -> Estimate | None:
        """Measure one frame; None if it lacks the channel."""
        image = frame.data.get(self.channel)
        if image is None:
            return None
        try:
            measured = measure_particles(
                image,
                self.pixel_size_nm,
                self.options,
                self._known.places + self._shift,
                self._known.trusted,
            )
        except MeasureError:
            measured = ParticleMeasurement({}, no_values(), ("unreadable",), math.nan)
        if measured.level < _BLANK_SHARE * self._level:
            measured = ParticleMeasurement({}, no_values(), ("blank",), math.nan)
        if math.isfinite(measured.level):
            self._level = measured.level
        table = empty_table()
        if measured.table and measured.context is not None:
            table = self._follow(measured)
        return Estimate(
            estimator=self.name,
            stream=frame.stream,
            frame_index=frame.index,
            t_s=frame.t_end_s,
            values=measured.values,
            flags=measured.flags,
            table=table,
        )

    def _follow(self, measured: ParticleMeasurement) -> dict[str, AnyArray]:
        """The table with ids that last from frame to frame."""
        table, known = measured.table, self._looked_at(measured)
        places = np.stack([table["y_nm"], table["x_nm"]], axis=1)
        sizes = np.asarray(table["diameter_nm"], np.float64)
        drifted = view_shift(
            known.places[known.unseen == 0], places, 4 * self._link_nm, 0.4 * self._link_nm
        )
        expected = known.places + drifted
        self._shift = drifted
        found = link(expected, known.sizes, places, sizes, self._link_nm)
        old = found >= 0
        ids = np.empty(len(places), np.int64)
        ids[old] = known.ids[found[old]]
        ids[~old] = self._next_id + np.arange(np.count_nonzero(~old))
        self._next_id += int(np.count_nonzero(~old))
        looks, share = np.zeros(len(places), np.int64), np.zeros(len(places))
        looks[old], share[old] = known.looks[found[old]], known.share[found[old]]
        lost = np.setdiff1d(np.arange(len(known.ids)), found)
        lost = lost[known.unseen[lost] < _FORGET_AFTER]
        fresh = measured.candidates_nm
        if len(expected) and len(fresh):
            fresh = fresh[KDTree(expected).query(fresh)[0] > self._link_nm]
        zero = np.zeros(len(fresh), np.int64)
        self._known = _Known(
            np.concatenate([places, expected[lost], fresh]),
            np.concatenate([sizes, known.sizes[lost], np.full(len(fresh), self._faint_nm)]),
            np.concatenate([ids, known.ids[lost], self._next_id + np.arange(len(fresh))]),
            np.concatenate([np.zeros(len(ids), np.int64), known.unseen[lost] + 1, zero + 1]),
            np.concatenate([looks, known.looks[lost], zero]),
            np.concatenate([share, known.share[lost], zero.astype(np.float64)]),
        )
        self._next_id += len(fresh)
        return {**table, "id": ids}

    def _looked_at(self, measured: ParticleMeasurement) -> _Known:
        known = self._known
        if len(measured.known_snr) != len(known.ids):
            return known
        now = measured.known_snr / measured.seed_snr
        looked = np.isfinite(now)
        looks = known.looks + looked
        weight = 1.0 / np.clip(looks, 1, _LONGEST_MEMORY)
        share = np.where(looked, known.share + weight * (now - known.share), known.share)
        return replace(known, looks=looks, share=share)


def _pixel_size_nm(name: str, spec: StreamSpec, channel: str) -> float:
    if channel not in spec.channels:
        known = ", ".join(sorted(spec.channels)) or "none"
        raise ConfigError(
            f"estimate.{name}: the stream {spec.name!r} has no channel {channel!r}; it has: {known}. "
            f"Write from: {spec.name}.CHANNEL with one of these."
        )
    shown = spec.channels[channel]
    if shown.dims != ("y", "x"):
        raise ConfigError(
            f"estimate.{name}: {spec.name}.{channel} has dimensions {shown.dims}; particles are "
            "sized on images with dimensions (y, x). Choose a detector image."
        )
    steps = []
    for dim in ("y", "x"):
        axis = shown.axes.get(dim)
        if axis is None:
            raise ConfigError(
                f"estimate.{name}: {spec.name}.{channel} has no axis {dim!r}, so its pixel size is "
                "unknown. The scan's driver must give it."
            )
        try:
            steps.append(convert(axis.step, axis.unit, "nm"))
        except UnitError as error:
            raise ConfigError(
                f"estimate.{name}: the pixel size of {spec.name}.{channel} is in {axis.unit!r}, "
                "not a length. Calibrate the scan."
            ) from error
    y_nm, x_nm = steps
    if not (math.isfinite(x_nm) and x_nm > 0) or not math.isclose(y_nm, x_nm, rel_tol=1e-3):
        raise ConfigError(
            f"estimate.{name}: pixels of {y_nm:g} × {x_nm:g} nm in {spec.name}.{channel}; "
            "square pixels of a positive size are needed. Calibrate the scan."
        )
    return x_nm
