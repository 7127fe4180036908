"""The live estimator ``superlattice``: half-order spots of one region, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acquire.config import explain
from acquire.errors import ConfigError, MeasureError
from acquire.instruments import Frame, StreamSpec
from acquire.measure.crystallinity.superlattice import (
    Region,
    SuperlatticeOptions,
    measure_superlattice,
)
from acquire.measure.scale import pixel_size_of
from acquire.stream.records import Estimate, Quantity, Value
from acquire.units import Nanometres, show

_CANNOT = ("no_lattice", "saturated", "blank", "unreadable")
QUANTITIES = (
    Quantity("superlattice_snr", "1", "amplitude of half-order spots over the noise's", _CANNOT),
    Quantity("superlattice_intensity", "1", "power of half-order over fundamental spots", _CANNOT),
)
_Edge = Annotated[Nanometres, Field(ge=0, allow_inf_nan=False)]


class SuperlatticeSettings(BaseModel):
    """What a recipe may write under ``estimate: superlattice``, beside ``from``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: tuple[_Edge, _Edge, _Edge, _Edge] | None = None
    """x0, y0, x1, y1 from the image's top-left corner; None is all of it."""
    lattice: Annotated[Nanometres, Field(gt=0, allow_inf_nan=False)] = 0.3905
    tolerance: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    false_positive_rate: Annotated[float, Field(gt=0, le=0.5)] = 0.001
    dark_level: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class SuperlatticeEstimator:
    """Measures the half-order spots of a region of every frame; it holds nothing between frames.

    Flags are those of :func:`measure_superlattice`, and ``no_superlattice`` where noise would reach
    the same with more than the stated rate.
    """

    quantities: tuple[Quantity, ...] = QUANTITIES
    columns: Mapping[str, str] = {}

    def __init__(
        self, name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
    ) -> None:
        try:
            chosen = SuperlatticeSettings.model_validate(dict(options))
        except ValidationError as error:
            raise ConfigError(explain(error, f"estimate.{name}", SuperlatticeSettings)) from error
        self.pixel_size_nm = pixel_size_of(name, spec, channel)
        coarsest = chosen.lattice * (1 - chosen.tolerance) / 2
        if self.pixel_size_nm > coarsest:
            raise ConfigError(
                f"estimate.{name}: pixels of {show(self.pixel_size_nm, 'nm')} in {spec.name!r} "
                f"cannot show a lattice of {show(chosen.lattice, 'nm')}: {show(coarsest, 'nm')} or "
                "less is needed. Scan a smaller field of view or more pixels."
            )
        rows, columns = spec.channels[channel].shape
        side = columns * self.pixel_size_nm, rows * self.pixel_size_nm
        region = chosen.region
        if region is not None and not (
            region[0] < region[2] <= side[0] + 1e-6 and region[1] < region[3] <= side[1] + 1e-6
        ):
            raise ConfigError(
                f"estimate.{name}: region {list(region)} nm does not lie in the image of "
                f"{side[0]:.4g} × {side[1]:.4g} nm; write region: [x0, y0, x1, y1] from its "
                "top-left corner."
            )
        self.name, self.stream, self.channel = name, spec.name, channel
        self.region_nm: Region | None = region
        self.options = SuperlatticeOptions(
            chosen.lattice, chosen.tolerance, chosen.false_positive_rate, chosen.dark_level
        )

    def update(self, frame: Frame) -> Estimate | None:
        """Measure one frame; None if it lacks the channel."""
        image = frame.data.get(self.channel)
        if image is None:
            return None
        nan = Value(math.nan, math.nan)
        values = {"superlattice_snr": nan, "superlattice_intensity": nan}
        try:
            seen = measure_superlattice(image, self.pixel_size_nm, self.region_nm, self.options)
        except MeasureError:
            flags: tuple[str, ...] = ("unreadable",)
        else:
            values = {"superlattice_snr": seen.snr, "superlattice_intensity": seen.intensity}
            quiet = not seen.found and math.isfinite(seen.snr.value)
            flags = (*seen.flags, "no_superlattice") if quiet else seen.flags
        return Estimate(
            estimator=self.name,
            stream=frame.stream,
            frame_index=frame.index,
            t_s=frame.t_end_s,
            values=values,
            flags=flags,
        )
