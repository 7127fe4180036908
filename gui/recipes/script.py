"""A recipe as the Python script that does the same steps."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from keyword import iskeyword
from typing import Any

from acquire.recipe import scripting
from acquire.recipe.steps import KINDS
from gui.recipes.edits import remove
from gui.recipes.fields import short_key
from gui.recipes.reading import Reading, read
from gui.recipes.writing import WIDTH

_NAMES: dict[str, dict[str, str]] = {
    "hold": {"for": "duration", "else": "otherwise"},
    "regulate": {"for": "duration", "from": "from_", "else": "else_"},
    "line_scan": {"from": "start", "to": "end"},
    "spectrum_image": {"from": "corner", "to": "opposite"},
}
"""What a step's settings are called in Python, where that differs."""
_BRANCHES = ("then", "else")


def as_script(reading: Reading) -> str:
    """The script of a recipe that is good; its header is kept as it is written."""
    header = _header(reading)
    quoted = header.strip("\n").replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    name = str(reading.mapping.get("name", "")).replace("\\", "\\\\").replace('"', "'")
    steps = _Writer().write(reading.mapping.get("steps") or [])
    return f'''"""{name}: run it with `python THIS_FILE OUTPUT_FOLDER [STATION]`."""

import sys

import acquire
from acquire import recipe

RECIPE = acquire.Recipe.parse(
    """
{quoted}
"""
)


def experiment() -> acquire.Plan:
    """The steps of the recipe."""
{steps}

def main(folder: str, station_name: str = "simulated") -> None:
    """Run it into a new folder."""
    with acquire.connect(acquire.Station.load(station_name)) as station:
        acquire.run_experiment(RECIPE, station, folder, experiment)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


def _header(reading: Reading) -> str:
    """The recipe without its steps; with them, where an estimator looks at what they record."""
    if not reading.mapping.get("steps"):
        return reading.text
    header = remove(reading.text, ("steps",))
    if read(header).recipe is not None:
        return header
    return "# the steps are named for the estimators; experiment() below is done\n" + reading.text


class _Writer:
    def __init__(self) -> None:
        self._lines: list[str] = []
        self._decisions = 0

    def write(self, steps: Sequence[Mapping[str, Any]]) -> str:
        self._block(steps, 1)
        if not steps:
            self._say(1, "yield from ()")
        return "\n".join(self._lines) + "\n"

    def _say(self, depth: int, line: str) -> None:
        self._lines.append("    " * depth + line)

    def _say_call(self, depth: int, before: str, call: str, arguments: Sequence[str]) -> None:
        whole = f"{before}{call}({', '.join(arguments)})"
        if len(whole) + 4 * depth <= WIDTH:
            self._say(depth, whole)
            return
        self._say(depth, f"{before}{call}(")
        for argument in arguments:
            self._say(depth + 1, f"{argument},")
        self._say(depth, ")")

    def _block(self, steps: Sequence[Mapping[str, Any]], depth: int) -> None:
        for step in steps:
            ((kind, body),) = step.items()
            if kind == "repeat":
                self._say(depth, f"for _ in range({body['times']}):")
                self._block(body["steps"], depth + 1)
            elif kind == "when":
                self._decision(body, depth)
            else:
                self._say_call(depth, "yield ", *_call(kind, body))

    def _decision(self, body: Mapping[str, Any], depth: int) -> None:
        self._decisions += 1
        name = f"decided_{self._decisions}"
        settings = {key: value for key, value in body.items() if key not in _BRANCHES}
        self._say_call(depth, f"{name} = yield ", *_call("when", settings))
        word = "if"
        for branch, result in (("then", "met"), ("else", "not_met")):
            if not body.get(branch):
                continue
            results = [result, *(["unknown"] if body.get("unknown") == branch else [])]
            test = (
                f"{name}.result in {tuple(results)}"
                if len(results) > 1
                else f'{name}.result == "{result}"'
            )
            self._say(depth, f"{word} {test}:")
            self._block(body[branch], depth + 1)
            word = "elif"


def _call(kind: str, body: Any) -> tuple[str, list[str]]:
    """What makes a step and its arguments: its function in ``acquire.recipe``, or its model if it has none."""
    settings = body if isinstance(body, Mapping) else {short_key(kind): body}
    function = getattr(scripting, kind, None)
    if function is not None:
        names = _NAMES.get(kind, {})
        known = inspect.signature(function).parameters
        free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
        given = {names.get(key, key): value for key, value in settings.items()}
        usable = all(key.isidentifier() and not iskeyword(key) for key in given)
        if usable and all(key in known or free for key in given):
            return f"recipe.{kind}", [f"{key}={_literal(value)}" for key, value in given.items()]
    return f"recipe.{KINDS[kind].__name__}.model_validate", [_literal(dict(settings))]


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)
