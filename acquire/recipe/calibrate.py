"""What a recipe says of a calibration of the energy axis: by the zero-loss peak, and by two known features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from acquire.recipe.schema import Strict
from acquire.units import ElectronVolts

if TYPE_CHECKING:
    from acquire.recipe.schema import SpectrumSettings

FRAMES_AT_MOST = 1000
"""Spectra of one calibration: they are kept until it is measured."""


class EnergyFeature(Strict):
    """Something in the core loss whose energy is known."""

    energy: ElectronVolts = Field(gt=0)
    """Of the maximum of a peak, or of the steepest place of an edge."""
    kind: Literal["peak", "edge"] = "peak"
    search: ElectronVolts = Field(default=5.0, gt=0)
    """How far from its energy it may show; nothing else of its kind may be there."""


class CalibrationSettings(Strict):
    """What a calibration has beside the spectra that it takes."""

    features: tuple[EnergyFeature, ...] = ()
    """Two, by which the dispersion is measured; none: the offset alone is, by the zero-loss peak."""
    within: ElectronVolts = Field(default=0.1, gt=0)
    """σ of the offset from which on the calibration is refused."""
    else_: Literal["continue", "abort", "pause"] = Field(default="abort", alias="else")
    """What follows if it is refused: the axis stays as it was."""

    @model_validator(mode="after")
    def _possible(self) -> CalibrationSettings:
        spectra: SpectrumSettings = self.spectra  # type: ignore[attr-defined]
        if getattr(self, "energy_offsets", ()):
            raise ValueError("a calibration takes spectra of one range: leave energy_offsets out")
        if self.frames > FRAMES_AT_MOST:  # type: ignore[attr-defined]
            raise ValueError(f"frames: at most {FRAMES_AT_MOST} are taken for a calibration")
        low, high = spectra.range
        if not self.features:
            if not spectra.dual and not low <= 0 <= high:
                raise ValueError(
                    "there is no zero-loss peak to calibrate by: take dual spectra, a range that holds "
                    "0 eV, or name two features"
                )
            return self
        if len(self.features) != 2:
            raise ValueError(
                f"features: {len(self.features)} are named, and a dispersion is measured by two; name "
                "two, or none for the offset alone"
            )
        for feature in self.features:
            if not low + feature.search <= feature.energy <= high - feature.search:
                raise ValueError(
                    f"features: the {feature.kind} at {feature.energy:g} eV does not lie within "
                    f"[{low:g} eV, {high:g} eV] with {feature.search:g} eV to either side; move the "
                    "range, or choose another"
                )
        first, second = self.features
        if abs(first.energy - second.energy) <= 10 * spectra.dispersion:
            raise ValueError("features: the two lie within 10 channels; choose two far apart")
        return self
