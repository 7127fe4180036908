"""The engine: carries out recipes and scripts, and ends safely whatever happens.

Names are imported when they are first used, so that a window that only asks for a status does not
load the whole engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acquire.engine.core import Engine
    from acquire.engine.rehearsal import Preflight, preflight
    from acquire.engine.status import EngineState, EngineStatus, HostApi, PlanView

_HOME = {
    "Engine": "core",
    "EngineState": "status",
    "EngineStatus": "status",
    "HostApi": "status",
    "PlanView": "status",
    "Preflight": "rehearsal",
    "preflight": "rehearsal",
}

__all__ = [
    "Engine",
    "EngineState",
    "EngineStatus",
    "HostApi",
    "PlanView",
    "Preflight",
    "preflight",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'acquire.engine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"acquire.engine.{_HOME[name]}"), name)
