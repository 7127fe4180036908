"""The step that steers a live quantity by the temperature."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from acquire.errors import UnitError
from acquire.recipe.amounts import Amount
from acquire.recipe.step import AmountText, ConditionText, Step
from acquire.units import Celsius, CelsiusPerSecond, ElectronVolts, Seconds, show, show_duration

GROWTH = "growth_rate"
SIZES = ("mean_diameter", "median_diameter")
GROWTH_UNIT = "nm/min"
SIZE_UNIT = "nm"


class Regulate(Step):
    """Steer the growth rate, or the mean size, of the particles by the temperature.

    See :class:`acquire.engine.regulating.GrowthController` for how, and for what the tuning does.
    """

    kind: ClassVar[str] = "regulate"
    quantity: str
    """A growth rate, or a mean or median diameter whose estimator gives the growth rate, too."""
    target: AmountText
    by: Literal["temperature"] = "temperature"
    between: tuple[Celsius, Celsius]
    """Lowest and highest setpoint."""
    for_: Seconds = Field(alias="for", gt=0)
    rate: CelsiusPerSecond = Field(default=0.5, gt=0)
    """The temperature moves no faster than this."""
    from_: AmountText | None = Field(default=None, alias="from")
    """Where the target of a size is at the beginning; needs ``over``."""
    over: Seconds | None = Field(default=None, gt=0)
    """How long the target of a size takes from ``from`` to ``target``."""
    until: ConditionText | None = None
    else_: Literal["continue", "abort", "pause"] = Field(default="continue", alias="else")
    """What follows if the time is up before the condition is met."""
    within: Seconds = Field(default=30.0, gt=0)
    """An estimate that is older than this freezes the temperature."""
    barrier: ElectronVolts = Field(default=1.5, gt=0)
    """Apparent activation energy of growth: a higher one makes smaller corrections."""
    response_time: Seconds | None = Field(default=None, gt=0)
    """Over which the controller averages: a longer one is calmer and slower. As long as the growth is
    averaged, at least 60 s, unless said otherwise."""
    window: Seconds | None = Field(default=None, gt=0)
    """Over which the growth is averaged, if the estimator has no ``growth_window``."""

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
                    "'from' and 'over' move the target of a size; a growth rate has one target. "
                    "Leave them out, or write several steps"
                )
            return self
        if not self.quantity.endswith(SIZES):
            raise ValueError(
                f"{self.quantity!r} cannot be steered by the temperature; {GROWTH}, "
                f"{' and '.join(SIZES)} can"
            )
        self._amount("target", self.target, SIZE_UNIT)
        if self.from_ is not None:
            start, end = self._amount("from", self.from_, SIZE_UNIT), self.target_at(float("inf"))
            if start > end:
                raise ValueError(
                    f"'from' {self.from_} is above 'target' {self.target}: heat does not make "
                    "particles smaller"
                )
        return self

    @property
    def is_rate(self) -> bool:
        """Whether a growth rate is steered, not a size."""
        return self.quantity.endswith(GROWTH)

    @property
    def growth_quantity(self) -> str:
        """The growth rate that belongs to the quantity: of the same estimator, with its prefix."""
        ending = next(word for word in (GROWTH, *SIZES) if self.quantity.endswith(word))
        return self.quantity.removesuffix(ending) + GROWTH

    def target_at(self, elapsed_s: float) -> float:
        """The target after some time, in nm/min of a growth rate and in nm of a size."""
        end = self.target.in_unit(GROWTH_UNIT if self.is_rate else SIZE_UNIT)
        if self.from_ is None or self.over is None or elapsed_s >= self.over:
            return end
        start = self.from_.in_unit(SIZE_UNIT)
        return start + (end - start) * max(0.0, elapsed_s) / self.over

    def slope_at(self, elapsed_s: float) -> float:
        """How fast the target of a size moves, in nm/min."""
        if self.from_ is None or self.over is None or elapsed_s >= self.over:
            return 0.0
        return (self.target_at(self.over) - self.target_at(0.0)) / self.over * 60

    def rest(self, elapsed_s: float) -> Regulate:
        """What is left of it after some time; the time must not be up."""
        left: dict[str, object] = {"for_": self.for_ - elapsed_s}
        if self.over is not None and elapsed_s < self.over:
            left["from_"] = Amount(self.target_at(elapsed_s), SIZE_UNIT)
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
            raise ValueError(f"'{key}' = {amount} must be above 0 {unit}")
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
