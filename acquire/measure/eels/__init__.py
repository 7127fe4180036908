"""Numbers from EELS spectra: zero-loss position, power-law background, edge integrals, line profiles."""

from acquire.measure.eels.background import PowerLaw, background_limit, fit_power_law
from acquire.measure.eels.calibrate import (
    Calibration,
    Feature,
    dispersion_from_features,
    offset_from_zero_loss,
)
from acquire.measure.eels.camera import Camera
from acquire.measure.eels.core_shift import ResidualShift, residual_core_shift
from acquire.measure.eels.elements import EDGE_TABLE, EDGES, Edge, edges_on, overlaps
from acquire.measure.eels.estimator import EelsEstimator
from acquire.measure.eels.faults import Faults, find_faults
from acquire.measure.eels.pairs import (
    Pairs,
    PairSettings,
    PairShapes,
    measure_pairs,
    measure_shapes,
)
from acquire.measure.eels.profile import EdgeProfile, LineProfile, line_profile
from acquire.measure.eels.shifts import (
    ShiftFilter,
    ShiftNoise,
    Shifts,
    core_shifts,
    estimate_shift_noise,
    filter_shifts,
)
from acquire.measure.eels.warm import warm_up
from acquire.measure.eels.windows import running_sum, window_sum
from acquire.measure.eels.zlp import ZeroLoss, find_zero_loss, measure_zero_loss_shape
from acquire.measure.eels.zlp_shape import ZeroLossShape, zero_loss_limit

__all__ = [
    "EDGES",
    "EDGE_TABLE",
    "Calibration",
    "Camera",
    "Edge",
    "EdgeProfile",
    "EelsEstimator",
    "Faults",
    "Feature",
    "LineProfile",
    "PairSettings",
    "PairShapes",
    "Pairs",
    "PowerLaw",
    "ResidualShift",
    "ShiftFilter",
    "ShiftNoise",
    "Shifts",
    "ZeroLoss",
    "ZeroLossShape",
    "background_limit",
    "core_shifts",
    "dispersion_from_features",
    "edges_on",
    "estimate_shift_noise",
    "filter_shifts",
    "find_faults",
    "find_zero_loss",
    "fit_power_law",
    "line_profile",
    "measure_pairs",
    "measure_shapes",
    "measure_zero_loss_shape",
    "offset_from_zero_loss",
    "overlaps",
    "residual_core_shift",
    "running_sum",
    "warm_up",
    "window_sum",
    "zero_loss_limit",
]
