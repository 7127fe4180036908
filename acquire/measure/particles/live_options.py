"""What a recipe may choose of the live estimator ``particles``, and the pixel size that it works with."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from acquire.errors import ConfigError, UnitError
from acquire.instruments import StreamSpec
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.shapes import Shape
from acquire.units import Nanometres, Seconds, convert, show

_Positive = Annotated[Nanometres, Field(gt=0, allow_inf_nan=False)]


class EstimatorOptions(BaseModel):
    """What a recipe may write under ``estimate: particles``, beside ``from``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    polarity: Literal["bright", "dark"] | None = None
    """None: dark for a channel called ``abf`` or ``bf``, else bright."""
    shape: Shape = Shape.HEMISPHERE
    contact_angle: Annotated[float, Field(gt=0.0, le=90.0)] | None = None
    """Of caps on the film in degrees, if it is known to be other than a hemisphere's 90."""
    exponent: Annotated[float, Field(ge=0.0, le=3.0)] | Literal["calibrate"] | None = None
    """``calibrate``: exponent and blur come from the first frames and are held after them."""
    calibrate_frames: Annotated[int, Field(ge=1, le=20)] = 5
    probe_sigma: Annotated[Nanometres, Field(ge=0, allow_inf_nan=False)] = 0.2
    expected_diameter: _Positive = 4.0
    smallest_diameter: _Positive = 2.0
    largest_diameter: _Positive = 20.0
    false_islands: Annotated[float, Field(gt=0, le=1)] = 0.001
    dark_level: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    link_distance: _Positive = 3.0
    growth_window: Annotated[Seconds, Field(gt=0, allow_inf_nan=False)] = 120.0
    """The growth rate is that over the last while of this length; it lags by half of it."""

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
            contact_angle_deg=self.contact_angle,
            exponent=None if self.exponent == "calibrate" else self.exponent,
            probe_sigma_nm=self.probe_sigma,
            expected_diameter_nm=self.expected_diameter,
            smallest_diameter_nm=self.smallest_diameter,
            largest_diameter_nm=self.largest_diameter,
            false_islands=self.false_islands,
            dark_level=self.dark_level,
        )


def pixel_size_of(name: str, spec: StreamSpec, channel: str) -> float:
    """Side of a channel's square pixels in nm; ConfigError where there is none."""
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
