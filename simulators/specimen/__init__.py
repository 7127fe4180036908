"""What is in the beam: the film, its boundaries, the particles on it, and the truth about them."""

from simulators.specimen.presets import ACTIVATION_EV, PRESETS, REFERENCE_CELSIUS
from simulators.specimen.specimen import (
    FOOTPRINT_PER_DIAMETER,
    VISIBLE_NM,
    Domes,
    Specimen,
    Summary,
    View,
    named,
    summarise,
    touches_border,
)

__all__ = [
    "ACTIVATION_EV",
    "FOOTPRINT_PER_DIAMETER",
    "PRESETS",
    "REFERENCE_CELSIUS",
    "VISIBLE_NM",
    "Domes",
    "Specimen",
    "Summary",
    "View",
    "named",
    "summarise",
    "touches_border",
]
