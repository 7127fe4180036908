"""Numbers from EELS spectra: zero-loss position, power-law background, edge integrals, line profiles.

Names are imported when they are first used: a program that takes no spectra does not wait for scipy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOME = {
    "EDGES": "elements",
    "EDGE_TABLE": "elements",
    "Calibration": "calibrate",
    "Camera": "camera",
    "Edge": "elements",
    "EdgeProfile": "profile",
    "EelsEstimator": "estimator",
    "Faults": "faults",
    "Feature": "calibrate",
    "LineProfile": "profile",
    "PairSettings": "pairs",
    "PairShapes": "pairs",
    "Pairs": "pairs",
    "PowerLaw": "background",
    "ResidualShift": "core_shift",
    "ShiftFilter": "shifts",
    "ShiftNoise": "shifts",
    "Shifts": "shifts",
    "ZeroLoss": "zlp",
    "ZeroLossShape": "zlp_shape",
    "background_limit": "background",
    "core_shifts": "shifts",
    "dispersion_from_features": "calibrate",
    "edges_on": "elements",
    "estimate_shift_noise": "shifts",
    "filter_shifts": "shifts",
    "find_faults": "faults",
    "find_zero_loss": "zlp",
    "fit_power_law": "background",
    "line_profile": "profile",
    "measure_pairs": "pairs",
    "measure_shapes": "pairs",
    "measure_zero_loss_shape": "zlp",
    "offset_from_zero_loss": "calibrate",
    "overlaps": "elements",
    "residual_core_shift": "core_shift",
    "running_sum": "windows",
    "warm_up": "warm",
    "window_sum": "windows",
    "zero_loss_limit": "zlp_shape",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'acquire.measure.eels' has no attribute {name!r}")
    return getattr(importlib.import_module(f"acquire.measure.eels.{_HOME[name]}"), name)
