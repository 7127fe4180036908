"""How every bench begins and ends: the parts asked for, the table, the document, the exit status."""

from __future__ import annotations

import json as json_module
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from acquire.bench.verdicts import Verdict, table_of
from acquire.bench.work import Bench
from acquire.errors import ConfigError, HotstageError

_WIDTH = 170
"""Characters of a table in a file, which takes whole words."""
_LOADED = 1.2

Measure = Callable[[Bench], None]


class Seen(Protocol):
    """What a bench has found when it ends."""

    seed: int
    verdicts: list[Verdict]
    measured: dict[str, Any]
    notes: list[str]


def chosen_parts(option: str, words: str | None, among: Sequence[str]) -> list[str]:
    """The words of an option with commas, all of ``among`` for None.

    Raises:
        ConfigError: one of them is not among those that there are.
    """
    chosen = list(among) if words is None else [word.strip() for word in words.split(",")]
    if unknown := [word for word in chosen if word not in among]:
        raise ConfigError(
            f"{option} {words}: there is no {unknown[0]!r}; take some of {', '.join(among)}, with commas."
        )
    return chosen


class Closing:
    """Prints and writes what a bench has found; made when it begins, as it tells how long all took.

    Args:
        title: of the table.
        loaded: processes per core that want to run, from which a note says that figures suffer.
    """

    def __init__(self, title: str, *, loaded: float = _LOADED) -> None:
        self.console = Console()
        if not self.console.is_terminal:
            self.console = Console(width=_WIDTH)
        self._title, self._loaded = title, loaded
        self._began_s, self._busy = time.monotonic(), load_per_core()

    def measure(self, bench: Bench, parts: Mapping[str, Sequence[Measure]]) -> list[str]:
        """Do all parts, showing how far it is; returns what could not be measured."""
        failures: list[str] = []
        with Progress(console=self.console, transient=True) as progress:
            task = progress.add_task(self._title, total=sum(map(len, parts.values())))
            bench.tell = lambda what: progress.update(task, description=what)
            for part, measures in parts.items():
                for measure in measures:
                    progress.update(task, description=part)
                    try:
                        measure(bench)
                    except HotstageError as error:
                        failures.append(f"{part}: {error}")
                    progress.advance(task)
        return failures

    def conclude(
        self,
        bench: Seen,
        failures: Sequence[str],
        json: Path | None,
        *,
        check: bool,
        quick: bool,
        **more: Any,
    ) -> int:
        """The table, and for ``json`` a document with ``more`` in it.

        Returns:
            0; with ``check`` 1 if a goal was missed or something could not be measured.
        """
        good = not failures and all(verdict.good is not False for verdict in bench.verdicts)
        self.console.print(table_of(f"{self._title}: what was seen, and the goals", bench.verdicts))
        notes = [*bench.notes]
        # what this bench itself keeps at work is no disturbance
        if max(self._busy, load_per_core() - 1 / (os.cpu_count() or 1)) > self._loaded:
            notes.append(
                f"Other processes kept this machine busy ({self._busy:.1f} per core when it began): "
                "times and rates are longer and lower than it can do."
            )
        for text in (*notes, *failures):
            self.console.print(Text(text, "red" if text in failures else ""), soft_wrap=True)
        missed = sum(verdict.good is False for verdict in bench.verdicts)
        self.console.print(
            f"{missed} goals missed; seed {bench.seed}, {time.monotonic() - self._began_s:.0f} s."
            + (" A quick run: its figures mean nothing." if quick else "")
        )
        if json is not None:
            document = {
                "good": good,
                "quick": quick,
                "seed": bench.seed,
                **more,
                "machine": machine(),
                "notes": notes,
                "failures": list(failures),
                "verdicts": [verdict.document() for verdict in bench.verdicts],
                "measured": bench.measured,
            }
            write_document(json, document)
        return 1 if check and not good else 0


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON; what is not finite, which JSON does not have, becomes null."""
    text = json_module.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text, encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def machine() -> dict[str, str | int]:
    """What it was measured on."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 0,
        "memory_bytes": psutil.virtual_memory().total,
    }


def load_per_core() -> float:
    """Processes per core that wanted to run in the last minute; 0 where the system does not tell."""
    if not hasattr(os, "getloadavg"):
        return 0.0
    return os.getloadavg()[0] / (os.cpu_count() or 1)
