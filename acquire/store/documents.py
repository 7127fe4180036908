"""Headers and reports as JSON, and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from acquire.errors import StoreError
from acquire.stream.sink import RunHeader, RunReport

_NOT_FINITE: Mapping[Any, float] = {str(x): x for x in (math.nan, math.inf, -math.inf)}
_HEADER = TypeAdapter(RunHeader)
_REPORT = TypeAdapter(RunReport)


def plain(value: object) -> Any:
    """A value in JSON's types; numbers that are not finite become ``"inf"``, ``"-inf"``, ``"nan"``."""
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, Enum) else plain(value.value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    return value.as_posix() if isinstance(value, Path) else str(value)


def read_header(attributes: Mapping[str, Any], source: Path) -> RunHeader:
    """The header from the attributes of a run's root group; raises StoreError."""
    names = {f.name for f in dataclasses.fields(RunHeader)}
    try:
        return _HEADER.validate_python({k: v for k, v in attributes.items() if k in names})
    except ValidationError as error:
        raise StoreError(f"{source} has a header that cannot be read: {error}") from error


def read_report(attributes: Mapping[str, Any], source: Path) -> RunReport | None:
    """The report from the attributes of a run's root group; None before the end of the run."""
    if attributes.get("report") is None:
        return None
    report = dict(attributes["report"])
    report["steps"] = [
        {k: _NOT_FINITE.get(v, v) if isinstance(v, str) else v for k, v in step.items()}
        for step in report["steps"]
    ]
    try:
        return _REPORT.validate_python(report)
    except ValidationError as error:
        raise StoreError(f"{source} has a report that cannot be read: {error}") from error
