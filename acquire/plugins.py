"""Finds drivers, simulators, estimators and stations by entry point; a broken one is listed, never fatal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from acquire.errors import PluginError

DRIVERS = "hotstage.drivers"
SIMULATORS = "hotstage.simulators"
ESTIMATORS = "hotstage.estimators"
STATIONS = "hotstage.stations"
WINDOWS = "hotstage.windows"
BENCHES = "hotstage.benches"
WIRES = "hotstage.wires"


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of a group, loaded or with the error that its import raised."""

    group: str
    name: str
    target: str
    distribution: str
    loaded: Any = None
    error: str = ""

    @property
    def works(self) -> bool:
        """Whether it could be imported."""
        return not self.error


def discover(group: str) -> list[Plugin]:
    """Every plugin of a group, sorted by name; those that fail to import carry their error."""
    return [_load(point) for point in sorted(_points(group), key=lambda p: p.name)]


def find(group: str, name: str) -> Any:
    """The loaded object behind a plugin's name.

    Raises:
        PluginError: no such name (the known ones are listed), or its import failed (with the cause).
    """
    points = {point.name: point for point in _points(group)}
    if name not in points:
        known = ", ".join(sorted(points)) or "none is installed"
        raise PluginError(f"{group} has no {name!r}; known are: {known}.")
    plugin = _load(points[name])
    if not plugin.works:
        raise PluginError(
            f"{name!r} ({plugin.target}, from {plugin.distribution}) cannot be used: {plugin.error}"
        )
    return plugin.loaded


def _points(group: str) -> tuple[EntryPoint, ...]:
    """Entry points of a group; what is installed is read anew when a place of it has changed."""
    changed = []
    for place in sys.path:
        with suppress(OSError):
            changed.append((place, os.stat(place or ".").st_mtime_ns))  # noqa: PTH116 - of any string
    return _read(entry_points, group, tuple(changed))


@lru_cache(maxsize=32)
def _read(
    read: Callable[..., Iterable[EntryPoint]], group: str, changed: tuple[tuple[str, int], ...]
) -> tuple[EntryPoint, ...]:
    return tuple(read(group=group))


def _load(point: EntryPoint) -> Plugin:
    distribution = point.dist.name if point.dist is not None else "unknown"
    try:
        loaded = point.load()
    except Exception as error:  # noqa: BLE001  whatever a foreign module raises must not stop us
        return Plugin(
            point.group,
            point.name,
            point.value,
            distribution,
            error=f"{type(error).__name__}: {error}",
        )
    return Plugin(point.group, point.name, point.value, distribution, loaded=loaded)
