"""Conditions on what is measured, as written in recipes: ``mean_diameter >= 3.83 nm for 3 frames``.

A value of a recorded channel is called by its record and its own name, and is judged by readings:
``film.resistance <= 2 kΩ for 3 readings``. Several are joined by ``and`` or by ``or``, never by both: ``a >= 3 nm and b >= 20``.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

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
    r"""^\s*(?P<quantity>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)\s*(?P<op>>=|<=|>|<)\s*
        (?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>(?!for\b|within\b)[^\s].*?)??
        (?:\s+for\s+(?P<frames>\d+)\s+(?P<what>frame|reading)s?)?
        (?:\s+within\s+(?P<age>.+?))?\s*$""",
    re.VERBOSE,
)
_JOINT = re.compile(r"\s+(and|or)\s+")
EXAMPLE = "mean_diameter >= 3.83 nm for 3 frames"
DEFAULT_MAX_AGE_S = 30.0
"""What is older says nothing, unless the condition says so or it comes more rarely."""
PERIODS = 1.5
"""Of what comes more rarely, the newest counts for so many times its period."""
NO_PERIODS: Mapping[str, float] = MappingProxyType({})


def usual_age_s(period_s: float) -> float:
    """How old an estimate may be where nobody says it, if one comes every so often (0: all the time)."""
    return max(DEFAULT_MAX_AGE_S, PERIODS * period_s)


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a live quantity with a value, over one or more frames in a row."""

    quantity: str
    op: str
    value: float
    unit: str
    frames: int = 1
    """That many estimates, or readings of a channel, in succession must agree."""
    max_age_s: float | None = None
    """What is older than this says nothing; None is :func:`usual_age_s` of what it rests on."""

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
        word = _word_for(match["quantity"])
        if match["what"] not in (None, word):
            raise RecipeError(
                f"{text!r}: {match['quantity']} comes by {word}s; write 'for {frames} {word}s'."
            )
        if not math.isfinite(float(match["value"])):
            raise RecipeError(f"{text!r}: {match['value']} is too large for a number.")
        try:
            age = parse(match["age"], "s") if match["age"] else None
        except UnitError as error:
            raise RecipeError(f"{text!r}: within {error}") from error
        if age is not None and age <= 0:
            raise RecipeError(f"{text!r}: 'within {match['age']}' must be above 0 s.")
        return cls(
            match["quantity"],
            match["op"],
            float(match["value"]),
            (match["unit"] or "1").strip(),
            frames,
            age,
        )

    @property
    def of_channel(self) -> bool:
        """Whether the quantity is a value of a recorded channel."""
        return "." in self.quantity

    @property
    def parts(self) -> tuple[Condition, ...]:
        """Itself, as :attr:`Conditions.parts`."""
        return (self,)

    @property
    def word(self) -> str:
        """As :attr:`Conditions.word`; with one part both words mean the same."""
        return "and"

    def __str__(self) -> str:
        text = f"{self.quantity} {self.op} {show(self.value, self.unit, 12)}"
        if self.frames > 1:
            text += f" for {self.frames} {_word_for(self.quantity)}s"
        if self.max_age_s is not None:
            text += f" within {self.max_age_s:g} s"
        return text

    def check(self, known: Mapping[str, Quantity]) -> None:
        """Raise RecipeError if the quantity is not measured, or its unit does not fit."""
        if self.quantity not in known:
            raise RecipeError(f"condition '{self}': {self._unknown(known)}")
        try:
            convert(self.value, self.unit, known[self.quantity].unit)
        except UnitError as error:
            raise RecipeError(f"condition '{self}': {error}") from error

    def _unknown(self, known: Mapping[str, Quantity]) -> str:
        read = sorted(name for name in known if "." in name)
        if self.of_channel:
            listed = ", ".join(read) or "none (record a channel under 'record')"
            return f"no recorded channel gives {self.quantity!r}; given are: {listed}."
        estimated = sorted(set(known) - set(read))
        listed = ", ".join(estimated) or "none (add an estimator under 'estimate')"
        meant = [name for name in read if name.partition(".")[2] == self.quantity]
        mend = f" Or do you mean {' or '.join(meant)}?" if meant else ""
        return f"{self.quantity!r} is not estimated; estimated are: {listed}.{mend}"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Several conditions, of which all (``and``) or any (``or``) must hold at the same time."""

    parts: tuple[Condition, ...]
    word: str
    """``and`` or ``or``."""

    def __str__(self) -> str:
        return f" {self.word} ".join(map(str, self.parts))

    def check(self, known: Mapping[str, Quantity]) -> None:
        """Raise RecipeError as :meth:`Condition.check` does."""
        for part in self.parts:
            part.check(known)


AnyCondition = Condition | Conditions


def _word_for(quantity: str) -> str:
    """What a quantity comes by."""
    return "reading" if "." in quantity else "frame"


def parse_condition(text: str) -> AnyCondition:
    """Read one condition, or several joined by ``and`` or ``or``; raises RecipeError."""
    pieces = _JOINT.split(text.strip())
    words = set(pieces[1::2])
    if len(words) > 1:
        raise RecipeError(
            f"{text!r} joins conditions by 'and' as well as by 'or', which can be read in two ways. "
            "Use one of the words."
        )
    parts = tuple(Condition.parse(piece) for piece in pieces[0::2])
    return parts[0] if len(parts) == 1 else Conditions(parts, words.pop())


class ConditionWatch:
    """Judges estimates as they come, for one condition within one step.

    An estimate whose exposure began before the step, that is too old, or that a newer frame has
    overtaken does not count. One that is not finite, or that carries a flag under which its quantity
    is not to be trusted, breaks the succession.
    """

    def __init__(
        self, condition: Condition, quantity: Quantity, since_s: float, period_s: float = 0.0
    ) -> None:
        """``period_s``: how often estimates come; 0 if all the time."""
        self._condition = condition
        said_s = condition.max_age_s
        self._max_age_s = usual_age_s(period_s) if said_s is None else said_s
        self._spoilt = frozenset(quantity.spoiled_by)
        self._limit = convert(condition.value, condition.unit, quantity.unit)
        self._compare = _OPERATORS[condition.op]
        self._since_s = since_s
        self._last_frame = -1
        self._run = 0
        self._newest: tuple[Estimate, bool] | None = None
        """The newest estimate that is trusted, and whether the comparison holds."""
        self.met_by: Estimate | None = None
        """The estimate that first completed the condition."""

    def judge(self, estimate: Estimate, exposure_start_s: float, now_s: float) -> bool:
        """Take one estimate into account; True once the condition has been met.

        Args:
            estimate: a new estimate, of whatever estimator.
            exposure_start_s: when its frame's exposure began.
            now_s: the present time.
        """
        value = estimate.values.get(self._condition.quantity)
        if (
            value is None
            or exposure_start_s < self._since_s
            or estimate.frame_index <= self._last_frame
            or now_s - estimate.t_s > self._max_age_s
        ):
            return self.met_by is not None
        self._last_frame = estimate.frame_index
        if math.isfinite(value.value) and self._spoilt.isdisjoint(estimate.flags):
            holds = self._compare(value.value, self._limit)
            self._newest = estimate, holds
            self._run = self._run + 1 if holds else 0
        else:
            self._newest, self._run = None, 0
        if self._run >= self._condition.frames and self.met_by is None:
            self.met_by = estimate
        return self.met_by is not None

    def verdict(self, now_s: float) -> bool | None:
        """Whether the condition holds now; None while no estimate can be trusted to tell.

        One trusted estimate is enough for a no; a yes takes as many as the condition asks for.
        """
        if self._newest is None:
            return None
        estimate, holds = self._newest
        if now_s - estimate.t_s > self._max_age_s:
            return None
        if not holds:
            return False
        return True if self._run >= self._condition.frames else None

    @property
    def newest(self) -> Estimate | None:
        """The estimate that the verdict rests on."""
        return self._newest[0] if self._newest is not None else None


class ConditionsWatch:
    """Judges estimates as they come, for one condition or several joined ones, within one step."""

    def __init__(
        self,
        condition: AnyCondition,
        known: Mapping[str, Quantity],
        since_s: float,
        periods_s: Mapping[str, float] = NO_PERIODS,
    ) -> None:
        """``periods_s``: how often estimates of a quantity come, where that is not all the time."""
        self.condition = condition
        self._parts = tuple(
            (part, ConditionWatch(part, known[name], since_s, periods_s.get(name, 0.0)))
            for part in condition.parts
            for name in [part.quantity]
        )
        self.met = False
        """Whether the condition was met at some time."""
        self.grounds: tuple[tuple[Condition, Estimate], ...] = ()
        """What the condition was met by, or what the last verdict rests on."""

    def judge(self, estimate: Estimate, exposure_start_s: float, now_s: float) -> bool:
        """As :meth:`ConditionWatch.judge`."""
        if not self.met:
            for _, watch in self._parts:
                watch.judge(estimate, exposure_start_s, now_s)
            self.met = self.verdict(now_s) is True
        return self.met

    def verdict(self, now_s: float) -> bool | None:
        """As :meth:`ConditionWatch.verdict`; what one part leaves open another may decide."""
        verdicts = [watch.verdict(now_s) for _, watch in self._parts]
        decisive = self.condition.word == "or"
        found: bool | None = None
        if decisive in verdicts:
            found = decisive
        elif None not in verdicts:
            found = not decisive
        if found is not None:
            self.grounds = tuple(
                (part, watch.newest)
                for (part, watch), verdict in zip(self._parts, verdicts, strict=True)
                if verdict is found and watch.newest is not None
            )
        return found
