"""A number with the unit that its author wrote, where the quantity and so the unit is known only later."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from acquire.errors import RecipeError, UnitError
from acquire.units import convert, show

_FORM = re.compile(
    r"^\s*(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>\S.*?)\s*$"
)


@dataclass(frozen=True, slots=True)
class Amount:
    """A value and its unit, such as ``0.2 nm/min``."""

    value: float
    unit: str

    @classmethod
    def parse(cls, text: object) -> Amount:
        """Read ``VALUE UNIT``; raises RecipeError with an example."""
        match = _FORM.match(text) if isinstance(text, str) else None
        if match is None or not math.isfinite(float(match["value"])):
            raise RecipeError(
                f"{text!r} is not a value with a unit; write for example '0.2 nm/min'."
            )
        amount = cls(float(match["value"]), match["unit"])
        try:
            convert(amount.value, amount.unit, amount.unit)
        except UnitError as error:
            raise RecipeError(f"{text!r}: {error}") from error
        return amount

    def in_unit(self, unit: str) -> float:
        """The value in another unit; raises UnitError if the dimensions differ."""
        return convert(self.value, self.unit, unit)

    def __str__(self) -> str:
        return show(self.value, self.unit, 12)
