"""Numbers from EELS spectra: zero-loss position, power-law background, edge integrals, line profiles."""

from acquire.measure.eels.background import PowerLaw, fit_power_law
from acquire.measure.eels.camera import Camera
from acquire.measure.eels.profile import EDGES, Edge, EdgeProfile, LineProfile, line_profile
from acquire.measure.eels.windows import running_sum, window_sum
from acquire.measure.eels.zlp import ZeroLoss, find_zero_loss

__all__ = [
    "EDGES",
    "Camera",
    "Edge",
    "EdgeProfile",
    "LineProfile",
    "PowerLaw",
    "ZeroLoss",
    "find_zero_loss",
    "fit_power_law",
    "line_profile",
    "running_sum",
    "window_sum",
]
