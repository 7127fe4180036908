"""Where the lines of a scan really run: jitter, flyback, and drift while the frame is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.specimen import View

Array = NDArray[np.float64]

FLYBACK_SETTLING_S = 5e-6
_KNOTS = 33


@dataclass(frozen=True, slots=True)
class ScanErrors:
    """How a scan generator errs."""

    line_jitter_nm: float = 0.0
    """Standard deviation of the displacement of a line along itself."""
    flyback_nm: float = 0.0
    """How far the probe still is from where a line begins; dies out with ``FLYBACK_SETTLING_S``."""


NO_ERRORS = ScanErrors()


@dataclass(frozen=True, slots=True)
class Lines:
    """Places of the pixels of a view from its top-left corner, in nm: pixel (i, j) is at x[i] + along[j], y[i]."""

    x_nm: Array
    """Displacement of each row, float64 (rows,)."""
    y_nm: Array
    """Of each row, float64 (rows,)."""
    along_nm: Array
    """Of the columns, float64 (columns,)."""

    @property
    def margin_nm(self) -> float:
        """How far pixels are at most from where a perfect scan has them."""
        rows, columns = len(self.y_nm), len(self.along_nm)
        pixel = float(self.along_nm[-1] - self.along_nm[-2]) if columns > 1 else 0.0
        down = np.abs(self.y_nm - (np.arange(rows) + 0.5) * pixel).max()
        across = np.abs(self.x_nm).max() + abs(self.along_nm[0] - 0.5 * pixel)
        return float(np.hypot(down, across))


def straight(view: View) -> Lines:
    """The lines of a perfect scan."""
    rows, columns = view.shape
    return Lines(
        np.zeros(rows),
        (np.arange(rows, dtype=np.float64) + 0.5) * view.pixel_nm,
        (np.arange(columns, dtype=np.float64) + 0.5) * view.pixel_nm,
    )


def real(
    view: View,
    errors: ScanErrors,
    rng: np.random.Generator,
    *,
    start_s: float,
    line_s: float,
    dwell_s: float,
    drift_nm: Callable[[float], tuple[float, float]],
) -> Lines:
    """The lines of a scan that errs, of a specimen that drifts under it.

    Args:
        view: what would be seen if all of it were scanned at mid-exposure.
        errors: of the scan generator.
        rng: of the frame's jitter.
        start_s: when the first line begins.
        line_s: from line to line.
        dwell_s: from pixel to pixel.
        drift_nm: displacement (x, y) of the specimen at a time.
    """
    rows, columns = view.shape
    perfect = straight(view)
    time = start_s + (np.arange(rows) + 0.5) * line_s
    knots = np.linspace(start_s, start_s + rows * line_s, _KNOTS)
    middle = np.array(drift_nm(start_s + rows * line_s / 2))
    drift = np.array([drift_nm(t) for t in knots.tolist()]) - middle
    jitter = errors.line_jitter_nm * rng.standard_normal(rows)
    late = errors.flyback_nm * np.exp(-(np.arange(columns) + 0.5) * dwell_s / FLYBACK_SETTLING_S)
    return Lines(
        jitter - np.interp(time, knots, drift[:, 0]),
        perfect.y_nm - np.interp(time, knots, drift[:, 1]),
        perfect.along_nm + late,
    )
