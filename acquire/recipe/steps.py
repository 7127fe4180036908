"""The steps of a recipe: what a run does, one after the other, from YAML or from Python."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Discriminator,
    Field,
    PlainSerializer,
    PrivateAttr,
    Tag,
    WrapValidator,
    model_validator,
)
from pydantic.functional_validators import BeforeValidator

from acquire.config import suggest
from acquire.recipe.calibrate import CalibrationSettings
from acquire.recipe.maps import SpectrumImage
from acquire.recipe.regulate import Regulate
from acquire.recipe.schema import Name, Point, ScanSettings, SpectrumSettings
from acquire.recipe.step import ConditionText, Step
from acquire.stream import Value
from acquire.units import Celsius, CelsiusPerSecond, ElectronVolts, Seconds, show, show_duration


class Ramp(Step):
    """Heat or cool linearly to a temperature, or until a live estimate meets a condition."""

    kind: ClassVar[str] = "ramp"
    to: Celsius
    rate: CelsiusPerSecond = Field(gt=0)
    until: ConditionText | None = None
    """Where it is met, the ramp stops, and the temperature of then is held."""

    def __str__(self) -> str:
        text = f"ramp to {show(self.to, '°C')} at {show(self.rate, '°C/s')}"
        return text if self.until is None else f"{text}, or until {self.until}"


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
    energy_offsets: tuple[ElectronVolts, ...] = ()
    """Where the range begins instead: ``frames`` spectra at each of these, one after the other."""
    _spacing_nm: float = PrivateAttr(default=1.0)
    _done: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _a_series(self) -> Spectrum:
        if len(set(self.energy_offsets)) != len(self.energy_offsets):
            raise ValueError("energy_offsets names an energy twice; use 'frames' for more spectra")
        return self

    def series(self) -> Iterator[SpectrumSettings]:
        """How each spectrum of a series of energy offsets is taken that is still to be taken."""
        for number in range(self._done, self.frames * len(self.energy_offsets)):
            yield self.spectra.beginning_at(self.energy_offsets[number // self.frames])

    def after(self, done: int) -> Spectrum | None:
        """The rest when so many of its spectra are taken; None if nothing is left."""
        if self.energy_offsets:
            step = self.model_copy()
            step._done = self._done + done
            return step if next(step.series(), None) is not None else None
        left = self.frames - done
        return self.model_copy(update={"frames": left}) if left > 0 else None

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
        if self.energy_offsets:
            first, last = self.energy_offsets[0], self.energy_offsets[-1]
            return (
                f"{self.frames} {what} at each of {len(self.energy_offsets)} energy offsets from "
                f"{first:g} to {last:g} eV, {show_duration(self.spectra.dwell_time)}"
            )
        return (
            f"{self.frames} {what}, {low:g}–{high:g} eV, {show_duration(self.spectra.dwell_time)}"
        )


class CalibrateEnergy(CalibrationSettings, Spectrum):
    """Measure on spectra of one point how far the energy axis is off, for all of its dispersion that follow."""

    kind: ClassVar[str] = "calibrate_energy"
    frames: int = Field(default=8, ge=1, strict=True)
    name: Name = "calibration"

    def __str__(self) -> str:
        by = " and ".join(f"{f.energy:g} eV" for f in self.features) or "the zero-loss peak"
        return f"calibrate the energy axis by {by}: {super().__str__()}"


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


def _a_list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of steps, each beginning with '- '")
    return value


Steps = BeforeValidator(_a_list)


class Repeat(Step):
    """Do steps several times."""

    kind: ClassVar[str] = "repeat"
    times: int = Field(ge=1, strict=True)
    steps: Annotated[tuple[AnyStep, ...], Steps] = Field(min_length=1)

    def __str__(self) -> str:
        return f"repeat {self.times} times"


class When(Step):
    """Decide by a live estimate what to do next.

    The decision rests on the newest estimates that can be trusted: finite, without a flag that spoils
    the quantity, and not too old. Scripts leave ``then`` and ``else`` out, and branch themselves.
    """

    kind: ClassVar[str] = "when"
    condition: ConditionText
    then: Annotated[tuple[AnyStep, ...], Steps] = ()
    else_: Annotated[tuple[AnyStep, ...], Steps] = Field(default=(), alias="else")
    wait: Seconds = Field(default=30.0, ge=0)
    """How long to wait for estimates that tell."""
    unknown: Literal["abort", "pause", "continue", "then", "else"] = "abort"
    """What follows if none has told by then; after a pause, and for ``continue``, neither branch."""
    frames: Literal["new", "any"] = "new"
    """``new``: only frames that were exposed after the step began count."""

    def branch(self, result: str) -> tuple[AnyStep, ...]:
        """The steps that follow how it was decided: ``met``, ``not_met`` or ``unknown``."""
        if result == "unknown":
            result = {"then": "met", "else": "not_met"}.get(self.unknown, "")
        return {"met": self.then, "not_met": self.else_}.get(result, ())

    def __str__(self) -> str:
        return f"when {self.condition}"


_SHORT = {Mark.kind: "text", WaitForOperator.kind: "message"}
KINDS: dict[str, type[Step]] = {
    cls.kind: cls
    for cls in (
        Ramp,
        Hold,
        Regulate,
        Image,
        LineScan,
        SpectrumImage,
        Spectrum,
        CalibrateEnergy,
        Repeat,
        When,
        WaitForOperator,
        Mark,
    )
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
    | Annotated[Regulate, _unwrap("regulate"), Tag("regulate")]
    | Annotated[Image, _unwrap("image"), Tag("image")]
    | Annotated[LineScan, _unwrap("line_scan"), Tag("line_scan")]
    | Annotated[SpectrumImage, _unwrap("spectrum_image"), Tag("spectrum_image")]
    | Annotated[Spectrum, _unwrap("spectrum"), Tag("spectrum")]
    | Annotated[CalibrateEnergy, _unwrap("calibrate_energy"), Tag("calibrate_energy")]
    | Annotated[Repeat, _unwrap("repeat"), Tag("repeat")]
    | Annotated[When, _unwrap("when"), Tag("when")]
    | Annotated[WaitForOperator, _unwrap("wait_for_operator"), Tag("wait_for_operator")]
    | Annotated[Mark, _unwrap("mark"), Tag("mark")],
    Discriminator(_kind_of),
    BeforeValidator(_check_shape),
    PlainSerializer(_write),
]
Repeat.model_rebuild()
When.model_rebuild()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended, as a script sees it."""

    result: str
    """``done``; of a condition ``met``, ``time_up``; of a decision ``met``, ``not_met``, ``unknown``."""
    t_start_s: float
    t_end_s: float
    estimates: Mapping[str, Value] = field(default_factory=dict)
    """The newest estimates at its end."""

    @property
    def met(self) -> bool:
        """Whether the condition of the step was met."""
        return self.result == "met"


Plan = Generator[Step, Outcome, None]
"""What an engine runs: yields steps, is sent how each one ended."""
