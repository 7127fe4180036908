"""The engine: carries out recipes and scripts, and ends safely whatever happens."""

from acquire.engine.core import Engine
from acquire.engine.rehearsal import Preflight, preflight
from acquire.engine.status import EngineState, EngineStatus, HostApi, PlanView

__all__ = [
    "Engine",
    "EngineState",
    "EngineStatus",
    "HostApi",
    "PlanView",
    "Preflight",
    "preflight",
]
