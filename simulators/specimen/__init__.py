"""What is in the beam: the film, its boundaries, the particles on it, and the truth about them."""

from simulators.specimen.domes import (
    FOOTPRINT_PER_DIAMETER,
    VISIBLE_NM,
    Domes,
    Summary,
    View,
    summarise,
    touches_border,
)
from simulators.specimen.presets import PRESETS
from simulators.specimen.rates import Temperature, lived
from simulators.specimen.specimen import Specimen, named

__all__ = [
    "FOOTPRINT_PER_DIAMETER",
    "PRESETS",
    "VISIBLE_NM",
    "Domes",
    "Specimen",
    "Summary",
    "Temperature",
    "View",
    "lived",
    "named",
    "summarise",
    "touches_border",
]
