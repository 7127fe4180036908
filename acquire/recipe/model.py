"""A whole recipe: read from YAML with the line of every mistake, written back, and turned into a plan."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML

from acquire.config import explain
from acquire.errors import RecipeError
from acquire.recipe.maps import SpectrumImage
from acquire.recipe.reading import read_text, read_yaml
from acquire.recipe.schema import (
    ChannelRecord,
    EstimateSettings,
    Limits,
    LinkLossSettings,
    Name,
    PauseSettings,
    Record,
    SafeStateSettings,
    Specimen,
    SpectrumSettings,
    StoreChoices,
    Strict,
)
from acquire.recipe.step import Step
from acquire.recipe.steps import AnyStep, Plan, Repeat, When
from acquire.stream.choosing import AUTO, chooses

STEPS_AT_MOST = 100_000
"""A plan with more is taken for a mistake, in a recipe and in a script."""


_SPECTRA = ("core_loss", "low_loss")
"""Channels of spectra."""


class Recipe(Strict):
    """What an experiment does, in a form that a person can read two years later."""

    hotstage: Literal[1] = 1
    name: str = Field(min_length=1)
    specimen: Specimen | None = None
    limits: Limits = Limits()
    safe_state: SafeStateSettings = SafeStateSettings()
    pause: PauseSettings = PauseSettings()
    on_link_loss: LinkLossSettings = LinkLossSettings()
    store: StoreChoices = StoreChoices()
    record: dict[Name, Record] = Field(default_factory=dict)
    estimate: dict[Name, EstimateSettings] = Field(default_factory=dict)
    steps: tuple[AnyStep, ...] = ()
    """Empty for a script, which brings a plan of its own."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        scans = [name for name, entry in self.record.items() if entry.scan is not None]
        holders = [name for name, entry in self.record.items() if entry.holder is not None]
        for what, names in (("scan", scans), ("holder", holders)):
            if len(names) > 1:
                raise ValueError(
                    f"record: {' and '.join(names)} both record the one {what}; keep one of them"
                )
        recorders: dict[str, str] = {}
        for name, record in self.channels.items():
            other = recorders.setdefault(record.name, name)
            if other != name:
                raise ValueError(
                    f"record: {other} and {name} both record the channel {record.name!r}; keep one "
                    "of them"
                )
        self._check_beam_shared()
        for name, settings in self.estimate.items():
            self._check_source(name, settings, scans)
        total = _count(self.steps)
        if total > STEPS_AT_MOST:
            raise ValueError(
                f"steps: {total} steps with all repeats written out are too many; at most "
                f"{STEPS_AT_MOST} can be run"
            )
        for step in self.distinct_steps():
            if isinstance(step, When) and not (step.then or step.else_):
                raise ValueError(
                    f"the step '{step}' has nothing to decide between; give it 'then', 'else' or both"
                )
            for stream in streams_of(step):
                if stream in self.record:
                    raise ValueError(
                        f"the step '{step}' is named like the recorded stream {stream!r}; give it "
                        "another 'name'"
                    )
        return self

    def _check_beam_shared(self) -> None:
        """Refuse recorded spectra that leave no time to each other, or for an image in between."""
        scan = self.record[self.scan_stream].scan if self.scan_stream is not None else None
        image_s = scan.exposure().scan_time_s if scan is not None else 0.0
        share = sum(
            (record.spectrum.spectra.exposed_s + image_s) / record.every
            for record in self.record.values()
            if record.spectrum is not None
        )
        if share > 1:
            names = [name for name, record in self.record.items() if record.spectrum is not None]
            image = f" and an image of {self.scan_stream} after each" if scan is not None else ""
            raise ValueError(
                f"record: the spectra {', '.join(names)}{image} take {100 * share:.0f} % of the time; "
                "take them less often ('every'), or with shorter dwell times"
            )

    def _check_source(self, name: str, settings: EstimateSettings, scans: list[str]) -> None:
        asked = f"estimate.{name}.from = {settings.source!r}"
        if self.spectra(settings.stream) is not None:
            if self._has_series(settings.stream):
                raise ValueError(
                    f"{asked}: the spectra {settings.stream!r} have an energy axis each "
                    "(energy_offsets), which no estimator follows; measure them after the run"
                )
            if settings.channel not in _SPECTRA:
                raise ValueError(
                    f"{asked}: {settings.stream!r} are spectra, of {' and '.join(_SPECTRA)}; name one"
                )
            return
        entry = self.record.get(settings.stream)
        if entry is None or entry.scan is None:
            names = dict.fromkeys(name for name, _ in self._spectra_taken())
            also = f", and spectra are taken as: {', '.join(names)}" if names else ""
            raise ValueError(
                f"{asked}: no scan called {settings.stream!r} is recorded; recorded are: "
                f"{', '.join(scans) or 'none'}{also}"
            )
        detectors = entry.scan.detectors
        if settings.channel not in detectors and not chooses(settings.channel, detectors):
            raise ValueError(
                f"{asked}: record.{settings.stream} has no detector {settings.channel!r}, only "
                f"{', '.join(detectors)}; or write {settings.stream}.{AUTO} for the one that shows "
                "most"
            )

    def spectra(self, stream: str) -> SpectrumSettings | None:
        """How the spectra of a stream are taken, beside the steps or by them; None if none are.

        Raises:
            ValueError: steps of one name take them in different ways, and an estimator would have
                to look at both.
        """
        found = list(
            dict.fromkeys(taken for name, taken in self._spectra_taken() if name == stream)
        )
        if len(found) > 1 and any(entry.stream == stream for entry in self.estimate.values()):
            raise ValueError(
                f"the spectra {stream!r} are taken in {len(found)} different ways, and an estimator "
                "looks at them; give the steps a 'name' each"
            )
        return found[0] if found else None

    def _has_series(self, stream: str) -> bool:
        """Whether a stream holds spectra on several energy axes."""
        return any(
            getattr(step, "name", "") == stream and getattr(step, "energy_offsets", ())
            for step in self.distinct_steps()
        )

    def _spectra_taken(self) -> Iterator[tuple[str, SpectrumSettings]]:
        for name, record in self.record.items():
            if record.spectrum is not None:
                yield name, record.spectrum.spectra
        for step in self.distinct_steps():
            taken = getattr(step, "spectra", None)
            if isinstance(taken, SpectrumSettings):
                yield str(getattr(step, "name", "")), taken

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe file; raises RecipeError naming file, line, key, value and mend."""
        return cls.parse(read_text(str(path), "recipe"), str(path))

    @classmethod
    def parse(cls, text: str, source: str = "recipe") -> Recipe:
        """Read a recipe from YAML text; raises RecipeError."""
        raw, lines = read_yaml(text, source)
        if not isinstance(raw, Mapping):
            raise RecipeError(f"{source}: a recipe is a mapping that begins with 'hotstage: 1'.")
        if "hotstage" not in raw:
            raise RecipeError(
                f"{source}:1: the key 'hotstage' is missing; begin with 'hotstage: 1', the version "
                "of the recipe language."
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise RecipeError(explain(error, source, cls, lines)) from error

    def dump(self) -> str:
        """The recipe as YAML text that :meth:`parse` reads to an equal recipe."""
        body = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        stream = io.StringIO()
        yaml = YAML()
        yaml.default_flow_style = None
        yaml.width = 100
        yaml.dump({"hotstage": 1, **body}, stream)
        return stream.getvalue()

    def flat_steps(self) -> Iterator[Step]:
        """The steps in the order in which they run, repeats written out.

        Behind a ``when`` come the steps of both of its branches, of which a run takes one.
        """
        yield from _flatten(self.steps)

    def steps_after(self, results: Sequence[str]) -> Iterator[Step]:
        """As :meth:`flat_steps`, without the steps that ended so, and what they decided against."""
        yield from _after(self.steps, iter(results))

    def distinct_steps(self) -> Iterator[Step]:
        """The steps as they are written, those of a repeat once."""
        yield from _flatten(self.steps, once=True)

    def plan(self) -> Plan:
        """The steps as a plan for an engine: how a ``when`` ends says which branch follows it."""
        yield from _carried_out(self.steps)

    @property
    def scan_stream(self) -> str | None:
        """The name of the recorded scan, if there is one."""
        return next((n for n, entry in self.record.items() if entry.scan is not None), None)

    @property
    def recorded_spectra(self) -> dict[str, Record]:
        """The records of spectra, by their names."""
        return {n: entry for n, entry in self.record.items() if entry.spectrum is not None}

    def period_s(self, stream: str) -> float:
        """From start to start of what is recorded throughout as a stream; 0 if nothing, or back to back."""
        record = self.record.get(stream)
        return record.every if record is not None else 0.0

    @property
    def channels(self) -> dict[str, ChannelRecord]:
        """The recorded channels, by the names of their records."""
        return {n: entry.channel for n, entry in self.record.items() if entry.channel is not None}

    @property
    def holder_period_s(self) -> float:
        """How often the holder is read; it always is, at least once a second."""
        periods = [e.holder.every for e in self.record.values() if e.holder is not None]
        return min([1.0, *periods])


def streams_of(step: Step) -> tuple[str, ...]:
    """Names of the streams that a step records."""
    if isinstance(step, SpectrumImage) and step.images is not None:
        return step.name, step.images_name
    name = getattr(step, "name", None)
    return () if name is None else (str(name),)


def _flatten(steps: tuple[Step, ...], *, once: bool = False) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, Repeat):
            for _ in range(1 if once else step.times):
                yield from _flatten(step.steps, once=once)
            continue
        yield step
        if isinstance(step, When):
            yield from _flatten(step.then, once=once)
            yield from _flatten(step.else_, once=once)


def _carried_out(steps: tuple[Step, ...]) -> Plan:
    for step in steps:
        if isinstance(step, Repeat):
            for _ in range(step.times):
                yield from _carried_out(step.steps)
            continue
        outcome = yield step
        if isinstance(step, When):
            yield from _carried_out(step.branch(outcome.result))


def _after(steps: tuple[Step, ...], results: Iterator[str]) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, Repeat):
            for _ in range(step.times):
                yield from _after(step.steps, results)
            continue
        result = next(results, None)
        if result is None:
            yield from _flatten((step,))
        elif isinstance(step, When):
            yield from _after(step.branch(result), results)


def _count(steps: tuple[Step, ...]) -> int:
    return sum(map(_count_one, steps))


def _count_one(step: Step) -> int:
    if isinstance(step, Repeat):
        return step.times * _count(step.steps)
    if isinstance(step, When):
        return 1 + max(_count(step.then), _count(step.else_))
    return 1
