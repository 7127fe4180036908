"""The steps of a recipe: what a run does, one after the other, from YAML or from Python."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    PlainSerializer,
    PrivateAttr,
    Tag,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.functional_validators import BeforeValidator

from acquire.config import explain, suggest
from acquire.errors import RecipeError
from acquire.recipe.conditions import Condition
from acquire.recipe.schema import Name, Point, ScanSettings, SpectrumSettings, Strict
from acquire.stream import Value
from acquire.units import Celsius, CelsiusPerSecond, Seconds, show, show_duration


def _read_condition(value: Any) -> Any:
    if value is None or isinstance(value, Condition):
        return value
    try:
        return Condition.parse(str(value))
    except RecipeError as error:
        raise ValueError(str(error)) from error


ConditionText = Annotated[Condition, BeforeValidator(_read_condition), PlainSerializer(str)]


class Step(Strict):
    """Base of all steps."""

    kind: ClassVar[str]


class Ramp(Step):
    """Heat or cool linearly to a temperature."""

    kind: ClassVar[str] = "ramp"
    to: Celsius
    rate: CelsiusPerSecond = Field(gt=0)

    def __str__(self) -> str:
        return f"ramp to {show(self.to, '°C')} at {show(self.rate, '°C/s')}"


class Hold(Step):
    """Keep the temperature for a time, or until a live estimate meets a condition."""

    kind: ClassVar[str] = "hold"
    for_: Seconds = Field(alias="for", gt=0)
    until: ConditionText | None = None
    else_: Literal["continue", "abort", "pause"] = Field(default="continue", alias="else")
    """What follows if the time is up before the condition is met."""

    def __str__(self) -> str:
        if self.until is None:
            return f"hold for {show_duration(self.for_)}"
        return f"hold until {self.until}, at most {show_duration(self.for_)}"


class Image(Step):
    """Take images as a stream of their own."""

    kind: ClassVar[str] = "image"
    scan: ScanSettings
    frames: int = Field(default=1, ge=1, strict=True)
    every: Seconds = Field(default=0.0, ge=0)
    name: Name = "image"

    def __str__(self) -> str:
        return f"{self.frames} image{'s' * (self.frames > 1)}, {self.scan}"


class LineScan(Step):
    """Take spectra at points along a line.

    ``from`` and ``to`` are positions [x, y] in the field of view of the recorded scan, from its
    top left corner; without a recorded scan they count from the scan's origin.
    """

    kind: ClassVar[str] = "line_scan"
    from_: Point = Field(alias="from")
    to: Point
    points: int = Field(ge=2, le=100_000, strict=True)
    spectra: SpectrumSettings
    name: Name = "line_scan"

    @model_validator(mode="after")
    def _a_line(self) -> LineScan:
        if self.from_ == self.to:
            raise ValueError("'from' and 'to' are the same point; use a 'spectrum' step for one")
        return self

    @property
    def spacing_nm(self) -> float:
        """Distance from point to point."""
        return math.dist(self.from_, self.to) / (self.points - 1)

    def positions_nm(self) -> list[tuple[float, float]]:
        """The points (x, y), in nm."""
        (x0, y0), (x1, y1) = self.from_, self.to
        last = self.points - 1
        return [(x0 + (x1 - x0) * i / last, y0 + (y1 - y0) * i / last) for i in range(self.points)]

    def __str__(self) -> str:
        low, high = self.spectra.range
        return (
            f"line scan, {self.points} points, {low:g}–{high:g} eV, "
            f"{show_duration(self.spectra.dwell_time)} each"
        )


class Spectrum(Step):
    """Take spectra at one point (see :class:`LineScan` for positions)."""

    kind: ClassVar[str] = "spectrum"
    at: Point
    spectra: SpectrumSettings
    frames: int = Field(default=1, ge=1, strict=True)
    name: Name = "spectrum"
    _spacing_nm: float = PrivateAttr(default=1.0)

    @property
    def spacing_nm(self) -> float:
        """Side of the square over which the electrons are thought to be spread, for the dose."""
        return self._spacing_nm

    @classmethod
    def last_of(cls, line: LineScan) -> Spectrum:
        """The last point of a line by itself; its electrons count as those of the line's points do."""
        # not validated anew: what is in a step has lost its units
        step = cls.model_construct(at=line.to, spectra=line.spectra, frames=1, name=line.name)
        step._spacing_nm = line.spacing_nm
        return step

    def __str__(self) -> str:
        low, high = self.spectra.range
        what = "spectrum" if self.frames == 1 else "spectra"
        return (
            f"{self.frames} {what}, {low:g}–{high:g} eV, {show_duration(self.spectra.dwell_time)}"
        )


class WaitForOperator(Step):
    """Go on when the operator says so."""

    kind: ClassVar[str] = "wait_for_operator"
    message: str = Field(min_length=1)

    def __str__(self) -> str:
        return f"wait for operator: {self.message}"


class Mark(Step):
    """Note something in the journal."""

    kind: ClassVar[str] = "mark"
    text: str

    def __str__(self) -> str:
        return f"mark: {self.text}"


class Repeat(Step):
    """Do steps several times."""

    kind: ClassVar[str] = "repeat"
    times: int = Field(ge=1, strict=True)
    steps: tuple[AnyStep, ...] = Field(min_length=1)

    @field_validator("steps", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list of steps, each beginning with '- '")
        return value

    def __str__(self) -> str:
        return f"repeat {self.times} times"


_SHORT = {Mark.kind: "text", WaitForOperator.kind: "message"}
KINDS: dict[str, type[Step]] = {
    cls.kind: cls for cls in (Ramp, Hold, Image, LineScan, Spectrum, Repeat, WaitForOperator, Mark)
}


def _kind_of(value: Any) -> str | None:
    if isinstance(value, Step):
        return value.kind
    if isinstance(value, Mapping) and len(value) == 1:
        return str(next(iter(value)))
    return None


def _unwrap(kind: str) -> Any:
    def body(value: Any, handler: Any) -> Any:
        if isinstance(value, Step):
            return value
        inner = value[kind]
        if kind in _SHORT and inner is not None and not isinstance(inner, Mapping):
            inner = {_SHORT[kind]: inner}
        return handler({} if inner is None else inner)

    return WrapValidator(body)


def _check_shape(value: Any) -> Any:
    if isinstance(value, Step):
        return value
    known = ", ".join(KINDS)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(f"a step is one of {known} with its settings, as in '- ramp: {{…}}'")
    kind = str(next(iter(value)))
    if kind not in KINDS:
        raise ValueError(f"unknown step {kind!r}{suggest(kind, KINDS)}. Known steps: {known}")
    return value


def _write(step: Any) -> dict[str, Any]:
    body = step.model_dump(by_alias=True, exclude_defaults=True)
    if step.kind in _SHORT:
        return {step.kind: body[_SHORT[step.kind]]}
    return {step.kind: body}


AnyStep = Annotated[
    Annotated[Ramp, _unwrap("ramp"), Tag("ramp")]
    | Annotated[Hold, _unwrap("hold"), Tag("hold")]
    | Annotated[Image, _unwrap("image"), Tag("image")]
    | Annotated[LineScan, _unwrap("line_scan"), Tag("line_scan")]
    | Annotated[Spectrum, _unwrap("spectrum"), Tag("spectrum")]
    | Annotated[Repeat, _unwrap("repeat"), Tag("repeat")]
    | Annotated[WaitForOperator, _unwrap("wait_for_operator"), Tag("wait_for_operator")]
    | Annotated[Mark, _unwrap("mark"), Tag("mark")],
    Discriminator(_kind_of),
    BeforeValidator(_check_shape),
    PlainSerializer(_write),
]
Repeat.model_rebuild()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended, as a script sees it."""

    result: str
    """``done``, ``met`` (the condition), ``time_up``."""
    t_start_s: float
    t_end_s: float
    estimates: Mapping[str, Value] = field(default_factory=dict)
    """The newest estimates at its end."""

    @property
    def met(self) -> bool:
        """Whether a hold ended because its condition was met."""
        return self.result == "met"


Plan = Generator[Step, Outcome, None]
"""What an engine runs: yields steps, is sent how each one ended."""


# --------------------------------------------------------------- steps for Python scripts

_S = TypeVar("_S", bound=BaseModel)


def _make(cls: type[_S], **settings: Any) -> _S:
    try:
        return cls.model_validate({k: v for k, v in settings.items() if v is not None})
    except ValidationError as error:
        raise RecipeError(explain(error, cls.__name__.lower(), cls)) from error


def ramp(to: str, rate: str) -> Ramp:
    """A ramp step: ``ramp(to="700 °C", rate="5 °C/s")``; raises RecipeError."""
    return _make(Ramp, to=to, rate=rate)


def hold(duration: str, until: str | None = None, otherwise: str = "continue") -> Hold:
    """A hold step: ``hold("20 min", until="mean_diameter >= 3.83 nm")``; raises RecipeError."""
    return _make(Hold, **{"for": duration, "until": until, "else": otherwise})


def image(
    scan: Mapping[str, Any], frames: int = 1, every: str = "0 s", name: str = "image"
) -> Image:
    """An image step; ``scan`` as in a recipe; raises RecipeError."""
    return _make(Image, scan=scan, frames=frames, every=every, name=name)


def line_scan(
    start: tuple[str, str],
    end: tuple[str, str],
    points: int,
    spectra: Mapping[str, Any],
    name: str = "line_scan",
) -> LineScan:
    """A line scan step; ``spectra`` as in a recipe; raises RecipeError."""
    return _make(
        LineScan, **{"from": start, "to": end, "points": points, "spectra": spectra, "name": name}
    )


def spectrum(
    at: tuple[str, str], spectra: Mapping[str, Any], frames: int = 1, name: str = "spectrum"
) -> Spectrum:
    """A spectrum step; raises RecipeError."""
    return _make(Spectrum, at=at, spectra=spectra, frames=frames, name=name)


def wait_for_operator(message: str) -> WaitForOperator:
    """A step that waits for the operator."""
    return _make(WaitForOperator, message=message)


def mark(text: str) -> Mark:
    """A note in the journal."""
    return _make(Mark, text=text)
