"""What a recipe may choose of the live estimator ``particles``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from acquire.measure.particles.channels import usual_polarity
from acquire.measure.particles.options import ParticleOptions
from acquire.measure.particles.shapes import Shape
from acquire.units import Nanometres, Seconds, show

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
        return ParticleOptions(
            polarity=self.polarity or usual_polarity(channel) or "bright",
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
