"""The live estimator ``crystallinity``: which particles are crystals, since when, and above what size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from acquire.config import explain
from acquire.errors import ConfigError, MeasureError
from acquire.instruments import AnyArray, Axis, ChannelSpec, Frame, StreamSpec
from acquire.measure.crystallinity.following import Follower
from acquire.measure.crystallinity.spots import (
    COLUMNS,
    NICKEL_NM,
    Crystallinity,
    CrystalOptions,
    measure_crystallinity,
    unjudged,
)
from acquire.measure.particles import EstimatorOptions, ParticleEstimator
from acquire.measure.particles.checks import (
    SMALLEST_SIDE_PX,
    UNMEASURABLE,
    check_image,
    image_flags,
)
from acquire.measure.particles.pixels import block_means
from acquire.measure.scale import pixel_size_of
from acquire.stream.records import Estimate, Quantity, Value
from acquire.units import Nanometres, Seconds, show

_WRONG_IMAGE = ("saturated", "polarity", "blank", "unreadable")
_CANNOT = (*_WRONG_IMAGE, "no_film", "no_power")
_NAN = Value(math.nan, math.nan)
_SIZING_PIXEL_NM = 0.22
"""Sizes are taken from blocks of about this, in which fringes average out and noise is nearly white."""
_PARTICLE = ("id", "x_nm", "y_nm", "diameter_nm", "diameter_sigma_nm", "border", "fitted")

QUANTITIES = (
    Quantity(
        "crystalline_fraction", "1", "share of the judged particles that are crystals", _CANNOT
    ),
    Quantity("crystalline_count", "1", "particles that show lattice fringes", _CANNOT),
    Quantity(
        "first_stable_crystal_time",
        "s",
        "run time at which the first crystal that has stayed appeared",
        ("stable_from_start",),
    ),
    Quantity(
        "critical_diameter", "nm", "diameter above which crystals stay", ("critical_doubtful",)
    ),
)


class CrystallinityOptions(EstimatorOptions):
    """What a recipe may write under ``estimate: crystallinity``: the keys of ``particles``, and these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacings: Annotated[
        tuple[Annotated[Nanometres, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)
    ] = NICKEL_NM
    tolerance: Annotated[float, Field(gt=0, le=0.2)] = 0.03
    false_positive_rate: Annotated[float, Field(gt=0, le=0.5)] = 0.001
    fringe_contrast: Annotated[float, Field(gt=0, le=2)] = 0.1
    stable_for: Annotated[Seconds, Field(gt=0, allow_inf_nan=False)] = 15.0
    stable_looks: Annotated[int, Field(ge=2)] = 8


class CrystallinityEstimator:
    """Judges the particles of every frame of one detector; the same frames give the same estimates.

    Particles are found, sized and named by a :class:`ParticleEstimator` with the same options, so
    that ids last from frame to frame, on means over blocks of about 0.22 nm: fringes would be taken
    for a rough film. Particles that touch the border are in the table only.

    A particle's crystal has stayed when it was seen for ``stable_for`` and in at least
    ``stable_looks`` looks; looks that miss it are forgiven as long as their detection power makes them
    likelier than a crystal that comes and goes. The critical diameter is :func:`critical_diameter` of the looks so far.

    Flags beside those of ``particles`` and :func:`measure_crystallinity`: ``stable_from_start`` (the
    first particle that is a stable crystal was one when it was first seen: its time is an upper
    limit), ``critical_doubtful`` (seen on both sides of fewer than three particles).
    """

    quantities: tuple[Quantity, ...] = QUANTITIES
    columns: Mapping[str, str] = {
        **{name: ParticleEstimator.columns[name] for name in _PARTICLE},
        **COLUMNS,
        "stable": "1",
    }

    def __init__(
        self, name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
    ) -> None:
        try:
            chosen = CrystallinityOptions.model_validate(dict(options))
        except ValidationError as error:
            raise ConfigError(explain(error, f"estimate.{name}", CrystallinityOptions)) from error
        of_particles = {k: v for k, v in options.items() if k in EstimatorOptions.model_fields}
        self.pixel_size_nm = pixel_size_of(name, spec, channel)
        self._block = _block(spec.channels[channel].shape, self.pixel_size_nm)
        coarse = _in_blocks(spec, channel, self._block)
        self._particles = ParticleEstimator(name, coarse, channel, of_particles)
        self.name, self.stream, self.channel = name, spec.name, channel
        sizing = self._particles.options
        self.options = CrystalOptions(
            spacings_nm=chosen.spacings,
            tolerance=chosen.tolerance,
            false_positive_rate=chosen.false_positive_rate,
            fringe_contrast=chosen.fringe_contrast,
            polarity=sizing.polarity,
            dark_level=sizing.dark_level,
        )
        coarsest = max(chosen.spacings) * (1 - chosen.tolerance) / 2
        if self.pixel_size_nm > coarsest:
            raise ConfigError(
                f"estimate.{name}: pixels of {show(self.pixel_size_nm, 'nm')} in {spec.name!r} "
                f"cannot show lattice fringes of {show(max(chosen.spacings), 'nm')}: two pixels per "
                f"fringe need {show(coarsest, 'nm')} or less. Scan a smaller field of view or more "
                "pixels."
            )
        self._follower = Follower(
            chosen.stable_for, chosen.stable_looks, chosen.false_positive_rate
        )

    @property
    def follower(self) -> Follower:
        """What was seen so far: looks for :func:`critical_diameter`, times of stable crystals."""
        return self._follower

    def prepare(self) -> None:
        """Wait until all is compiled, which takes up to a minute the first time on a machine."""
        self._particles.prepare()

    def update(self, frame: Frame) -> Estimate | None:
        """Judge one frame; None if it lacks the channel."""
        image = frame.data.get(self.channel)
        if image is None:
            return None
        found = self._particles.update(self._sized(frame, image))
        if found is None:
            return None
        table, flags = found.table, found.flags
        footprint_nm = np.asarray(table["diameter_nm"]) / (
            self._particles.options.shape.diameter_per_radius
        )
        places = np.stack([table["y_nm"], table["x_nm"]], axis=1)
        seen = self._judge(frame, places, footprint_nm)
        flags = (*flags, *(flag for flag in seen.flags if flag not in flags))
        t_s = 0.5 * (frame.t_start_s + frame.t_end_s)
        self._follow(t_s, table, seen)
        return Estimate(
            estimator=self.name,
            stream=frame.stream,
            frame_index=frame.index,
            t_s=frame.t_end_s,
            values=self._values(table, seen),
            flags=(*flags, *self._doubts()),
            table=self._table(table, seen),
        )

    def _sized(self, frame: Frame, image: AnyArray) -> Frame:
        """What is given to the sizing: means over blocks, or the image itself where it is unfit."""
        try:
            check_image(image, self.pixel_size_nm)
        except MeasureError:
            return frame
        if UNMEASURABLE.intersection(image_flags(image, self.options.dark_level)):
            return frame
        coarse = block_means(image, self._block, 0.0)
        return replace(frame, data={self.channel: coarse})

    def _judge(self, frame: Frame, places: AnyArray, footprint_nm: AnyArray) -> Crystallinity:
        try:
            return measure_crystallinity(
                frame.data[self.channel], self.pixel_size_nm, places, footprint_nm, self.options
            )
        except MeasureError:
            return Crystallinity(unjudged(len(places)), ("unreadable",))

    def _follow(self, t_s: float, table: Mapping[str, AnyArray], seen: Crystallinity) -> None:
        if len(table["id"]) == 0:
            return
        use = seen.judged & (np.asarray(table["border"]) == 0)
        ids = np.asarray(table["id"], np.int64)
        power = np.asarray(seen.table["power"], np.float64)
        self._follower.look(t_s, ids[use], seen.crystalline[use], power[use])
        use &= np.asarray(table["fitted"]) != 0
        if "overlap" in table:
            use &= np.asarray(table["overlap"]) == 0
        self._follower.size(
            ids[use],
            np.asarray(table["diameter_nm"], np.float64)[use],
            np.asarray(table["diameter_sigma_nm"], np.float64)[use],
            seen.crystalline[use],
            power[use],
        )

    def _values(self, table: Mapping[str, AnyArray], seen: Crystallinity) -> dict[str, Value]:
        first, _ = self._follower.first_stable()
        critical = self._follower.critical
        count, share = _NAN, _NAN
        use = seen.judged & (np.asarray(table["border"]) == 0)
        judged = int(np.count_nonzero(use))
        if judged or not len(table["id"]):
            crystals = int(np.count_nonzero(seen.crystalline & use))
            sigma = self._count_sigma(seen, use)
            count = Value(float(crystals), sigma)
            share = Value(crystals / judged, sigma / judged) if judged else _NAN
        return {
            "crystalline_fraction": share,
            "crystalline_count": count,
            "first_stable_crystal_time": first,
            "critical_diameter": _NAN
            if critical is None
            else Value(critical.diameter_nm, critical.sigma_nm),
        }

    def _count_sigma(self, seen: Crystallinity, use: AnyArray) -> float:
        """From what noise may have added, and what the power may have missed at even odds."""
        found = seen.crystalline[use]
        rate = self.options.false_positive_rate
        missed = 1.0 - np.asarray(seen.table["power"])[use][~found]
        doubt = missed / (1.0 + missed)
        variance = np.count_nonzero(found) * rate * (1 - rate) + float((doubt * (1 - doubt)).sum())
        return math.sqrt(variance)

    def _doubts(self) -> tuple[str, ...]:
        flags: list[str] = []
        if self._follower.first_stable()[1]:
            flags.append("stable_from_start")
        critical = self._follower.critical
        if critical is not None and critical.flags:
            flags.append("critical_doubtful")
        return tuple(flags)

    def _table(self, table: Mapping[str, AnyArray], seen: Crystallinity) -> dict[str, AnyArray]:
        stable = self._follower.stable
        return {
            **{name: table[name] for name in _PARTICLE},
            **seen.table,
            "stable": np.array([int(name in stable) for name in table["id"].tolist()], np.int64),
        }


def _block(shape: tuple[int, ...], pixel_size_nm: float) -> int:
    """Side of the blocks in pixels."""
    wanted = max(1, round(_SIZING_PIXEL_NM / pixel_size_nm))
    return max(1, min(wanted, min(shape) // SMALLEST_SIDE_PX))


def _in_blocks(spec: StreamSpec, channel: str, block: int) -> StreamSpec:
    """The stream as it is once every ``block`` × ``block`` pixels are one."""
    fine = spec.channels[channel]
    shape = tuple(length // block for length in fine.shape)
    axes = {
        name: Axis(axis.offset + 0.5 * (block - 1) * axis.step, block * axis.step, axis.unit)
        for name, axis in fine.axes.items()
    }
    return StreamSpec(spec.name, {channel: ChannelSpec("float32", shape, fine.dims, axes)})
