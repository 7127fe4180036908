"""The step that steers a live quantity by the temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from acquire.errors import UnitError
from acquire.recipe.amounts import Amount
from acquire.recipe.conditions import usual_age_s
from acquire.recipe.step import AmountText, ConditionText, Step
from acquire.units import Celsius, CelsiusPerSecond, ElectronVolts, Seconds, show, show_duration

GROWTH = "growth_rate"
SIZES = ("mean_diameter", "median_diameter")
OF_SPECTRA = ("ti3_fraction", "ni_l_counts")
"""What rises with heat where spectra are recorded; its rate follows from how it rises."""
GROWTH_UNIT = "nm/min"
SIZE_UNIT = "nm"
LEVEL_UNIT = "1"
LEVEL_RATE_UNIT = "1/min"


class Regulate(Step):
    """Steer the growth rate or mean size of the particles, or what heat makes rise in spectra, by the temperature.

    See :class:`acquire.engine.regulating.GrowthController` for how, and for what the tuning does.
    """

    kind: ClassVar[str] = "regulate"
    quantity: str
    """A growth rate, a mean or median diameter whose estimator gives the growth rate, too, or a quantity
    of recorded spectra: ``ti3_fraction``, ``ni_l_counts``."""
    target: AmountText
    by: Literal["temperature"] = "temperature"
    between: tuple[Celsius, Celsius]
    """Lowest and highest setpoint."""
    for_: Seconds = Field(alias="for", gt=0)
    rate: CelsiusPerSecond = Field(default=0.5, gt=0)
    """The temperature moves no faster than this."""
    from_: AmountText | None = Field(default=None, alias="from")
    """Where the target is at the beginning, but of a growth rate; needs ``over``."""
    over: Seconds | None = Field(default=None, gt=0)
    """How long the target takes from ``from`` to ``target``."""
    until: ConditionText | None = None
    else_: Literal["continue", "abort", "pause"] = Field(default="continue", alias="else")
    """What follows if the time is up before the condition is met."""
    within: Seconds | None = Field(default=None, gt=0)
    """An estimate that is older than this freezes the temperature; see :meth:`within_s`."""
    barrier: ElectronVolts = Field(default=1.5, gt=0)
    """Apparent activation energy of growth: a higher one makes smaller corrections."""
    response_time: Seconds | None = Field(default=None, gt=0)
    """Over which the controller averages: a longer one is calmer and slower. As long as the growth is
    averaged, at least 60 s, unless said otherwise."""
    window: Seconds | None = Field(default=None, gt=0)
    """Over which the growth is averaged, if the estimator has no ``growth_window``; over which the rate of
    what spectra tell is fitted."""

    @model_validator(mode="before")
    @classmethod
    def _plain_levels(cls, value: Any) -> Any:
        """A share or a number of electrons has no unit to be written."""
        if not isinstance(value, Mapping) or not str(value.get("quantity", "")).endswith(
            OF_SPECTRA
        ):
            return value
        return {**value, **{k: _level(value[k]) for k in ("target", "from") if k in value}}

    @field_validator("between")
    @classmethod
    def _ascending(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if low >= high:
            raise ValueError(
                f"[{show(low, '°C')}, {show(high, '°C')}] must rise, for example [650 °C, 850 °C]"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Regulate:
        if (self.from_ is None) != (self.over is None):
            raise ValueError("'from' and 'over' belong together: write both, or neither")
        if self.is_rate:
            self._amount("target", self.target, GROWTH_UNIT)
            if self.from_ is not None:
                raise ValueError(
                    "'from' and 'over' move the target of a size or level; a growth rate has one. "
                    "Leave them out, or write several steps"
                )
            return self
        if not self.quantity.endswith((*SIZES, *OF_SPECTRA)):
            raise ValueError(
                f"{self.quantity!r} cannot be steered by the temperature; "
                f"{', '.join((GROWTH, *SIZES, *OF_SPECTRA))} can"
            )
        self._amount("target", self.target, self.unit)
        if self.from_ is not None:
            start, end = self._amount("from", self.from_, self.unit), self.target_at(float("inf"))
            if start > end:
                why = "undo this" if self.by_slope else "make particles smaller"
                raise ValueError(
                    f"'from' {self.from_} is above 'target' {self.target}: heat does not {why}"
                )
        return self

    @property
    def is_rate(self) -> bool:
        """Whether a growth rate is steered, not a size or a level."""
        return self.quantity.endswith(GROWTH)

    @property
    def by_slope(self) -> bool:
        """Whether the growth is the slope of the quantity itself, which no estimator gives."""
        return self.quantity.endswith(OF_SPECTRA)

    @property
    def unit(self) -> str:
        """Of the quantity."""
        return GROWTH_UNIT if self.is_rate else LEVEL_UNIT if self.by_slope else SIZE_UNIT

    @property
    def growth_unit(self) -> str:
        """Of its growth."""
        return LEVEL_RATE_UNIT if self.by_slope else GROWTH_UNIT

    def within_s(self, period_s: float) -> float:
        """How old an estimate may be, if one comes every so often.

        30 s, or one and a half periods; three where a line through many bears that some are left out.
        """
        if self.within is not None:
            return self.within
        return max(usual_age_s(period_s), 3 * period_s * self.by_slope)

    @property
    def growth_quantity(self) -> str:
        """The growth rate that belongs to the quantity: of the same estimator, with its prefix; or itself."""
        if self.by_slope:
            return self.quantity
        ending = next(word for word in (GROWTH, *SIZES) if self.quantity.endswith(word))
        return self.quantity.removesuffix(ending) + GROWTH

    def target_at(self, elapsed_s: float) -> float:
        """The target after some time, in :attr:`unit`."""
        end = self.target.in_unit(self.unit)
        if self.from_ is None or self.over is None or elapsed_s >= self.over:
            return end
        start = self.from_.in_unit(self.unit)
        return start + (end - start) * max(0.0, elapsed_s) / self.over

    def slope_at(self, elapsed_s: float) -> float:
        """How fast the target of a size or level moves, in :attr:`growth_unit`."""
        if self.from_ is None or self.over is None or elapsed_s >= self.over:
            return 0.0
        return (self.target_at(self.over) - self.target_at(0.0)) / self.over * 60

    def rest(self, elapsed_s: float) -> Regulate:
        """What is left of it after some time; the time must not be up."""
        left: dict[str, object] = {"for_": self.for_ - elapsed_s}
        if self.over is not None and elapsed_s < self.over:
            left["from_"] = Amount(self.target_at(elapsed_s), self.unit)
            left["over"] = self.over - elapsed_s
        elif self.over is not None:
            left["from_"] = left["over"] = None
        return self.model_copy(update=left)

    def _amount(self, key: str, amount: Amount, unit: str) -> float:
        try:
            value = amount.in_unit(unit)
        except UnitError as error:
            raise ValueError(f"'{key}' of {self.quantity}: {error}") from error
        if value <= 0:
            raise ValueError(f"'{key}' = {amount} must be above {show(0, unit)}")
        return value

    def __str__(self) -> str:
        low, high = self.between
        start = "" if self.from_ is None else f"{self.from_} to "
        over = "" if self.over is None else f" over {show_duration(self.over)}"
        text = (
            f"regulate {self.quantity} at {start}{self.target}{over} between {low:.4g} and "
            f"{high:.4g} °C for {show_duration(self.for_)}"
        )
        return text if self.until is None else f"{text}, or until {self.until}"


def _level(value: Any) -> Any:
    """A number, written as one or as text, as an amount without unit; anything else as it is."""
    if isinstance(value, str | float | int) and not isinstance(value, bool):
        try:
            return Amount(float(value), LEVEL_UNIT)
        except ValueError:
            return value
    return value
