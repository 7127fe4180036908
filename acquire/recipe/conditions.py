"""Conditions on live estimates, as written in recipes: ``mean_diameter >= 3.83 nm for 3 frames``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from acquire.errors import RecipeError, UnitError
from acquire.stream import Estimate, Quantity
from acquire.units import convert, parse, show

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(
    r"""^\s*(?P<quantity>[A-Za-z_]\w*)\s*(?P<op>>=|<=|>|<)\s*
        (?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>(?!for\b|within\b)[^\s].*?)??
        (?:\s+for\s+(?P<frames>\d+)\s+frames?)?
        (?:\s+within\s+(?P<age>.+?))?\s*$""",
    re.VERBOSE,
)
EXAMPLE = "mean_diameter >= 3.83 nm for 3 frames"
DEFAULT_MAX_AGE_S = 30.0


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a live quantity with a value, over one or more frames in a row."""

    quantity: str
    op: str
    value: float
    unit: str
    frames: int = 1
    """That many estimates in succession must agree."""
    max_age_s: float = DEFAULT_MAX_AGE_S
    """An estimate older than this says nothing."""

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition; raises RecipeError with an example."""
        match = _FORM.match(text)
        if match is None:
            raise RecipeError(
                f"{text!r} is not a condition; write QUANTITY >= VALUE UNIT [for N frames] "
                f"[within TIME], for example {EXAMPLE!r}."
            )
        frames = int(match["frames"] or 1)
        if frames < 1:
            raise RecipeError(f"{text!r}: 'for {frames} frames' must be at least 1 frame.")
        try:
            age = parse(match["age"], "s") if match["age"] else DEFAULT_MAX_AGE_S
        except UnitError as error:
            raise RecipeError(f"{text!r}: within {error}") from error
        if age <= 0:
            raise RecipeError(f"{text!r}: 'within {match['age']}' must be above 0 s.")
        return cls(
            match["quantity"],
            match["op"],
            float(match["value"]),
            (match["unit"] or "1").strip(),
            frames,
            age,
        )

    def __str__(self) -> str:
        text = f"{self.quantity} {self.op} {show(self.value, self.unit, 12)}"
        if self.frames > 1:
            text += f" for {self.frames} frames"
        if self.max_age_s != DEFAULT_MAX_AGE_S:
            text += f" within {self.max_age_s:g} s"
        return text

    def check(self, known: dict[str, Quantity]) -> None:
        """Raise RecipeError if the quantity is not estimated, or its unit does not fit."""
        if self.quantity not in known:
            listed = ", ".join(sorted(known)) or "none (add an estimator under 'estimate')"
            raise RecipeError(
                f"condition '{self}': {self.quantity!r} is not estimated; estimated are: {listed}."
            )
        try:
            convert(self.value, self.unit, known[self.quantity].unit)
        except UnitError as error:
            raise RecipeError(f"condition '{self}': {error}") from error


class ConditionWatch:
    """Judges estimates as they come, for one step.

    An estimate whose exposure began before the step, that is too old, or that a newer frame has
    overtaken does not count. One that is not finite, or that carries a flag under which its quantity
    is not to be trusted, breaks the succession.
    """

    def __init__(self, condition: Condition, quantity: Quantity, since_s: float) -> None:
        self._condition = condition
        self._spoilt = frozenset(quantity.spoiled_by)
        self._limit = convert(condition.value, condition.unit, quantity.unit)
        self._compare = _OPERATORS[condition.op]
        self._since_s = since_s
        self._last_frame = -1
        self._run = 0
        self.met_by: Estimate | None = None
        """The estimate that completed the condition."""

    def judge(self, estimate: Estimate, exposure_start_s: float, now_s: float) -> bool:
        """Take one estimate into account; True once the condition is met.

        Args:
            estimate: a new estimate of the stream that the quantity belongs to.
            exposure_start_s: when its frame's exposure began.
            now_s: the present time.
        """
        if self.met_by is not None:
            return True
        value = estimate.values.get(self._condition.quantity)
        if (
            value is None
            or exposure_start_s < self._since_s
            or estimate.frame_index <= self._last_frame
            or now_s - estimate.t_s > self._condition.max_age_s
        ):
            return False
        self._last_frame = estimate.frame_index
        trusted = math.isfinite(value.value) and self._spoilt.isdisjoint(estimate.flags)
        holds = trusted and self._compare(value.value, self._limit)
        self._run = self._run + 1 if holds else 0
        if self._run >= self._condition.frames:
            self.met_by = estimate
        return self.met_by is not None
