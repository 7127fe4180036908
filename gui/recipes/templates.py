"""What a new step, record, estimate or recipe begins with."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import acquire
from acquire.recipe.steps import KINDS
from gui.recipes.fields import Field, Shape, fields_of, short_key
from gui.recipes.writing import read_value

_SPECTRA = {"range": ["400 eV", "600 eV"], "dispersion": "0.1 eV", "dwell_time": "0.5 s"}
_SCAN = {"detectors": ["haadf"], "size": 512, "field_of_view": "160 nm", "dwell_time": "3 µs"}
_BODIES: dict[str, Any] = {
    "ramp": {"to": "700 °C", "rate": "5 °C/s"},
    "hold": {"for": "5 min"},
    "regulate": {
        "quantity": "growth_rate",
        "target": "0.1 nm/min",
        "between": ["650 °C", "850 °C"],
        "for": "20 min",
    },
    "image": {"scan": _SCAN, "frames": 1},
    "line_scan": {
        "from": ["40 nm", "80 nm"],
        "to": ["120 nm", "80 nm"],
        "points": 50,
        "spectra": _SPECTRA,
    },
    "spectrum_image": {
        "from": ["60 nm", "60 nm"],
        "to": ["100 nm", "100 nm"],
        "shape": [8, 8],
        "spectra": _SPECTRA,
    },
    "spectrum": {"at": ["80 nm", "80 nm"], "spectra": _SPECTRA},
    "repeat": {"times": 2, "steps": [{"hold": {"for": "1 min"}}]},
    "when": {"condition": "count >= 10", "then": [{"mark": "enough particles"}]},
    "wait_for_operator": "ready?",
    "mark": "note",
}
RECORDS: dict[str, Any] = {
    "scan": {"scan": _SCAN, "every": "1 s"},
    "spectrum": {
        "spectrum": {"at": ["80 nm", "80 nm"], "spectra": _SPECTRA},
        "every": "30 s",
    },
    "holder": {"holder": {"every": "200 ms"}},
    "channel": {"channel": {"name": "resistance", "every": "1 s"}},
}
ESTIMATORS = ("particles", "drift", "crystallinity", "superlattice", "eels")
NEW = """\
# What is done, and why.
hotstage: 1
name: New recipe
specimen: {id: SPECIMEN-1}

limits: {temperature: 900 °C, ramp_rate: 100 °C/s, dose: 5e8 e/nm², run_time: 1 h}
safe_state: {heater: {cool: {to: 25 °C, rate: 50 °C/s}}, beam: blanked}

record: # throughout the run, beside the steps
  overview:
    scan: {detectors: [haadf], size: 512, field_of_view: 160 nm, dwell_time: 3 µs}
    every: 1 s
  chip: {holder: {every: 200 ms}}

estimate: # live, from the recorded images
  particles: {from: overview.haadf}

steps:
  - ramp: {to: 700 °C, rate: 5 °C/s}
  - hold: {for: 5 min}
  - ramp: {to: 25 °C, rate: 50 °C/s}
"""


def new_step(kind: str) -> dict[str, Any]:
    """A step with all that it needs; one that is not known here is made of its model's own examples."""
    if kind in _BODIES:
        return {kind: _BODIES[kind]}
    model = KINDS[kind]
    short = short_key(kind)
    return {kind: short if short else required_of(model)}


def required_of(model: type[BaseModel]) -> dict[str, Any]:
    """The fields that a part must have, filled with examples."""
    if model.__name__ == "ScanSettings":
        return dict(_SCAN)
    if model.__name__ == "SpectrumSettings":
        return dict(_SPECTRA)
    return {field.key: example_of(field) for field in fields_of(model) if field.required}


def example_of(field: Field) -> Any:
    """Something that a field takes, or nearly: where it does not, the form says what is wrong with it."""
    if field.shape in (Shape.GROUP, Shape.EITHER) and field.model is not None:
        return required_of(field.model)
    if field.shape is Shape.CHOICE:
        return read_value(field.choices[0])
    if field.shape is Shape.STEPS:
        return [{"mark": "note"}]
    if field.shape is Shape.LIST:
        return [read_value(part) for part in (field.example or "1, 1").split(",")]
    if field.shape is Shape.NAMED:
        return {}
    return read_value(field.example or ("1" if field.shape is Shape.VALUE else field.key))


def examples() -> list[Path]:
    """The example recipes, as files that can be read: beside the code, or as they were installed."""
    installed = Path(str(importlib.resources.files(acquire))) / "examples" / "recipes"
    folder = installed if installed.is_dir() else installed.parents[2] / "examples" / "recipes"
    return sorted(folder.glob("*.yaml")) if folder.is_dir() else []
