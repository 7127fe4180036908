"""The particles of one frame as the window draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.engine.status import LiveImage
from acquire.instruments import AnyArray
from gui.words import tr

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Particles:
    """Rows of a particle table whose place is known; all arrays are (n,)."""

    track: Ints
    """Number that lasts from frame to frame; -1 where the particle was not followed."""
    x_nm: Floats
    y_nm: Floats
    """Centres in the image."""
    outline_nm: Floats
    """Diameter of what the eye sees as the edge."""
    diameter_nm: Floats
    sigma_nm: Floats
    """Measured diameter and its σ, NaN where it is not known."""
    cut: Bools
    """Whether the border of the image cuts it."""
    overlaps: Bools
    by_mask: Bools
    """Whether its size is that of its outline, since no shape could be fitted."""

    def __len__(self) -> int:
        return len(self.track)

    def at(self, x_nm: float, y_nm: float, reach_nm: float) -> int:
        """The row whose outline a point lies in, or is within ``reach_nm`` of its centre; -1: none.

        Of several the smallest, which may lie before a larger one.
        """
        if not len(self):
            return -1
        apart = np.hypot(self.x_nm - x_nm, self.y_nm - y_nm)
        found = np.flatnonzero(apart <= np.maximum(self.outline_nm / 2, reach_nm))
        return int(found[np.argmin(self.outline_nm[found])]) if len(found) else -1

    def row_of(self, track: int) -> int:
        """The row of a track; -1 if it is not in this frame."""
        if track < 0:
            return -1
        found = np.flatnonzero(self.track == track)
        return int(found[0]) if len(found) else -1


def particles_of(table: Mapping[str, AnyArray]) -> Particles | None:
    """The particles of a table with places and diameters; None if it has not these columns."""
    x, y = _column(table, "x"), _column(table, "y")
    diameter = _column(table, "diameter")
    if x is None or y is None or diameter is None:
        return None
    unknown = np.full(len(x), np.nan)
    outline, mask = diameter, _column(table, "mask_diameter")
    if mask is not None:  # the spherical equivalent may be smaller than what the eye sees
        outline = np.where(np.isfinite(mask), mask, diameter)
    sigma = _column(table, "diameter_sigma")
    track = table.get("id")
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(outline)
    return Particles(
        np.full(len(x), -1)[good] if track is None else np.asarray(track, np.int64)[good],
        x[good],
        y[good],
        outline[good],
        diameter[good],
        (unknown if sigma is None else sigma)[good],
        _flag(table, "border", len(x))[good],
        _flag(table, "overlap", len(x))[good],
        (~_flag(table, "fitted", len(x)) & ("fitted" in table))[good],
    )


def words_of_others(image: LiveImage) -> str:
    """What was measured on an earlier frame than this one, of which nothing is drawn on it."""
    found = particles_of(image.particles)
    if found is None or not len(found):
        return tr("no particles measured")
    behind = image.index - image.estimate_index
    ago = tr("1 frame ago") if behind == 1 else tr("{n} frames ago").format(n=behind)
    return tr("{n} particles {ago}; none outlined on this one").format(n=len(found), ago=ago)


def _column(table: Mapping[str, AnyArray], name: str) -> Floats | None:
    found = table.get(f"{name}_nm", table.get(name))
    return None if found is None else np.asarray(found, dtype=np.float64)


def _flag(table: Mapping[str, AnyArray], name: str, rows: int) -> Bools:
    found = table.get(name)
    return np.zeros(rows, np.bool_) if found is None else np.asarray(found) != 0
