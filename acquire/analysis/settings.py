"""What an analysis shall do: estimators with their options, as a recipe's ``estimate`` section has them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from acquire import plugins
from acquire.config import explain
from acquire.errors import ConfigError
from acquire.instruments import StreamSpec
from acquire.recipe import EstimateSettings, Recipe
from acquire.recipe.reading import Lines, read_text, read_yaml
from acquire.recipe.schema import Name
from acquire.store import Run
from acquire.stream import Estimator
from acquire.stream.choosing import make_estimator

_SECTION = "estimate"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    estimate: dict[Name, EstimateSettings] = Field(min_length=1)


@dataclass(frozen=True)
class AnalysisSettings:
    """Estimators by name; made by one of the class methods, which check them."""

    estimate: Mapping[str, EstimateSettings]
    source: str = "settings"
    """Where they are written, for messages."""
    lines: Lines = field(default_factory=dict, compare=False)
    changed: frozenset[str] = frozenset()
    """``ESTIMATOR.KEY`` that were set beside the source."""

    @classmethod
    def of(cls, entries: Mapping[str, Any], source: str = "settings") -> AnalysisSettings:
        """Check a mapping such as ``{"particles": {"from": "overview.haadf"}}``.

        Raises:
            ConfigError: naming key, value and mend.
        """
        return _checked({_SECTION: dict(entries)}, source, {})

    @classmethod
    def parse(cls, text: str, source: str = "settings") -> AnalysisSettings:
        """Read YAML: a recipe, its ``estimate`` section, or what is in that; raises ConfigError."""
        raw, lines = read_yaml(text, source)
        if not isinstance(raw, Mapping) or not raw:
            raise ConfigError(
                f"{source}: write estimators with their options, as in a recipe: "
                "{particles: {from: overview.haadf}}"
            )
        if _SECTION in raw:
            others = {} if "hotstage" in raw else {k: v for k, v in raw.items() if k != _SECTION}
            return _checked({_SECTION: raw[_SECTION], **others}, source, lines)
        return _checked(
            {_SECTION: dict(raw)}, source, {(_SECTION, *at): line for at, line in lines.items()}
        )

    @classmethod
    def load(cls, path: Path | str) -> AnalysisSettings:
        """Read a file; see :meth:`parse`."""
        return cls.parse(read_text(str(path), "settings file"), str(path))

    @classmethod
    def of_run(cls, run: Run) -> AnalysisSettings:
        """What the run itself was measured with; raises ConfigError if its recipe estimates nothing."""
        recipe = Recipe.parse(run.header.recipe_yaml, f"the recipe of {run.path}")
        if not recipe.estimate:
            raise ConfigError(
                f"{run.path} was recorded without estimators; say what to measure, as in "
                "--set particles.from=overview.haadf, or in a file with --settings."
            )
        return cls(recipe.estimate, f"the recipe of {run.path}")

    def with_options(self, options: Iterable[str]) -> AnalysisSettings:
        """With ``ESTIMATOR.KEY=VALUE`` changed or added, VALUE as in YAML; raises ConfigError."""
        entries = self.plain()
        changed = set(self.changed)
        for option in options:
            path, equals, text = option.partition("=")
            name, dot, key = path.strip().partition(".")
            if not (equals and dot and name and key):
                raise ConfigError(
                    f"--set {option!r}: write ESTIMATOR.KEY=VALUE, such as "
                    "particles.smallest_diameter='3 nm'."
                )
            value, _ = read_yaml(text, f"--set {option!r}")
            entries.setdefault(name, {})[key] = value
            changed.add(f"{name}.{key}")
        return replace(
            _checked({_SECTION: entries}, self.source, self.lines), changed=frozenset(changed)
        )

    def only(self, names: Iterable[str]) -> AnalysisSettings:
        """Only these estimators, or all if none is named; raises ConfigError for an unknown one."""
        wanted = list(names)
        for name in wanted:
            if name not in self.estimate:
                known = ", ".join(self.estimate)
                raise ConfigError(
                    f"--only {name}: {self.source} has no such estimator, only {known}."
                )
        kept = {n: e for n, e in self.estimate.items() if not wanted or n in wanted}
        return replace(self, estimate=kept)

    def plain(self) -> dict[str, dict[str, Any]]:
        """The same as plain values, which :meth:`of` takes."""
        return {name: _written(entry) for name, entry in self.estimate.items()}

    def dump(self) -> str:
        """The same as YAML, which :meth:`parse` takes."""
        stream = io.StringIO()
        yaml = YAML()
        yaml.default_flow_style = None
        yaml.dump({_SECTION: self.plain()}, stream)
        return stream.getvalue()

    def make(self, name: str, spec: StreamSpec) -> Estimator:
        """A new estimator for frames of a stream; raises ConfigError with file, line and mend."""
        entry = self.estimate[name]
        plugin = plugin_of(name, entry)
        factory = plugins.find(plugins.ESTIMATORS, plugin)
        try:
            return make_estimator(plugin, factory, name, spec, entry.channel, entry.options)
        except ConfigError as error:
            raise ConfigError(f"{self._where(name, str(error))}{error}") from error

    def _where(self, name: str, text: str) -> str:
        """File and line of the option that a message names, or of its estimator."""
        keys = [k for k in self.estimate[name].options if f"'{k}'" in text or f"{k} =" in text]
        if any(f"{name}.{key}" in self.changed for key in keys):
            return "--set: "
        for at in (*((_SECTION, name, key) for key in keys), (_SECTION, name)):
            if at in self.lines:
                return f"{self.source}:{self.lines[at]}: "
        return f"{self.source}: "


def plugin_of(name: str, entry: EstimateSettings) -> str:
    """The plugin behind an entry: the one it asks for with ``use``, else its own name."""
    return str(getattr(entry, "use", None) or name)


def _checked(document: Mapping[str, Any], source: str, lines: Lines) -> AnalysisSettings:
    try:
        section = _Section.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(error, source, _Section, lines)) from error
    return AnalysisSettings(section.estimate, source, lines)


def _written(entry: EstimateSettings) -> dict[str, Any]:
    return entry.model_dump(mode="json", by_alias=True, exclude_defaults=True)
