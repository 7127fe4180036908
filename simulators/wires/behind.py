"""What a far end needs behind it: the simulation of this package, on a clock that runs by itself."""

from __future__ import annotations

import math

from acquire.farends import FarEndContext
from simulators.instruments import ExsolutionSimulation


def simulation(context: FarEndContext) -> ExsolutionSimulation:
    """The simulation behind a far end.

    Raises:
        ValueError: it is another one, or its clock is virtual: sockets wait in wall time.
    """
    if not isinstance(context.simulation, ExsolutionSimulation):
        raise ValueError("this wire needs the simulation 'exsolution' behind it.")
    if not math.isfinite(context.clock.rate):
        raise ValueError("a wire needs a clock that follows wall time, not a virtual one.")
    return context.simulation
