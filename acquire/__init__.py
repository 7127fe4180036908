"""hotstage: in-situ heating experiments in a scanning transmission electron microscope.

What scripts need is here; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from acquire._version import __version__

if TYPE_CHECKING:
    from acquire.engine import Engine, preflight
    from acquire.engine.continuation import continue_experiment
    from acquire.engine.experiment import run_experiment
    from acquire.recipe import (
        Plan,
        Recipe,
        calibrate_energy,
        hold,
        image,
        line_scan,
        mark,
        ramp,
        regulate,
        spectrum,
        spectrum_image,
        wait_for_operator,
        when,
    )
    from acquire.remote import connect
    from acquire.station import Station
    from acquire.store import open_run

_HOME = {
    "calibrate_energy": "acquire.recipe",
    "Engine": "acquire.engine",
    "preflight": "acquire.engine",
    "continue_experiment": "acquire.engine.continuation",
    "run_experiment": "acquire.engine.experiment",
    "Plan": "acquire.recipe",
    "Recipe": "acquire.recipe",
    "hold": "acquire.recipe",
    "image": "acquire.recipe",
    "line_scan": "acquire.recipe",
    "mark": "acquire.recipe",
    "ramp": "acquire.recipe",
    "regulate": "acquire.recipe",
    "spectrum": "acquire.recipe",
    "spectrum_image": "acquire.recipe",
    "wait_for_operator": "acquire.recipe",
    "when": "acquire.recipe",
    "connect": "acquire.remote",
    "Station": "acquire.station",
    "open_run": "acquire.store",
}

__all__ = [
    "Engine",
    "Plan",
    "Recipe",
    "Station",
    "__version__",
    "calibrate_energy",
    "connect",
    "continue_experiment",
    "hold",
    "image",
    "line_scan",
    "mark",
    "open_run",
    "preflight",
    "ramp",
    "regulate",
    "run_experiment",
    "spectrum",
    "spectrum_image",
    "wait_for_operator",
    "when",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'acquire' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
