"""The tracks that are alive, as equally long arrays, and what a frame shows of particles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import AnyArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sightings:
    """Particles of one frame; arrays of equal length n."""

    places_nm: Array
    """(n, 2) as (y, x)."""
    diameter_nm: Array
    sigma_nm: Array
    snr: Array
    border: Bools
    """Cut by the image's edge: neither place nor diameter is that of the whole particle."""
    sized: Bools
    """Whether the diameter may be compared with that of other frames."""

    @classmethod
    def of(
        cls,
        places_nm: Array,
        diameter_nm: Array,
        sigma_nm: Array,
        snr: Array | None = None,
        border: Bools | None = None,
        sized: Bools | None = None,
    ) -> Sightings:
        """From plain arrays; what is left out is: SNR infinite, none at the border, all sized.

        Raises:
            MeasureError: the arrays differ in length, or a diameter is not positive and finite.
        """
        n = len(diameter_nm)
        edge = np.zeros(n, bool) if border is None else np.asarray(border, bool)
        made = cls(
            np.asarray(places_nm, np.float64).reshape(-1, 2),
            np.asarray(diameter_nm, np.float64),
            np.asarray(sigma_nm, np.float64),
            np.full(n, np.inf) if snr is None else np.asarray(snr, np.float64),
            edge,
            ~edge if sized is None else np.asarray(sized, bool) & ~edge,
        )
        made._check()
        return made

    @classmethod
    def from_table(cls, table: Mapping[str, AnyArray]) -> Sightings:
        """From a table of :func:`acquire.measure.particles.measure_particles`.

        Raises:
            MeasureError: see :meth:`of`.
        """
        border = np.asarray(table["border"]) != 0
        return cls.of(
            np.stack([table["y_nm"], table["x_nm"]], axis=1),
            table["diameter_nm"],
            table["diameter_sigma_nm"],
            table["snr"],
            border,
            (np.asarray(table["fitted"]) != 0) & ~border,
        )

    def __len__(self) -> int:
        return len(self.diameter_nm)

    def _check(self) -> None:
        lengths = {len(getattr(self, f.name)) for f in fields(self)}
        if len(lengths) != 1:
            raise MeasureError(
                f"particles cannot be tracked: columns of {sorted(lengths)} rows; all must be "
                "equally long, places as (n, 2)."
            )
        if not bool(np.all(np.isfinite(self.places_nm))):
            raise MeasureError("particles cannot be tracked: a place is not finite. Leave it out.")
        if not bool(np.all((self.diameter_nm > 0) & np.isfinite(self.diameter_nm))):
            raise MeasureError(
                "particles cannot be tracked: a diameter is not positive and finite. Leave it out."
            )


@dataclass(frozen=True, slots=True)
class Population:
    """Tracks that are alive; arrays of equal length."""

    track: Ints
    segment: Ints
    """Diameters of one segment are comparable: no merge or jump lies between them."""
    places_nm: Array
    """(n, 2) last known, moved along with the view since."""
    diameters: Array
    """(n, frames) of the latest frames, the newest last; NaN where not seen or not sized."""
    sigmas: Array
    size_nm: Array
    """Last known diameter."""
    first_s: Array
    last_s: Array
    """When first and last seen."""
    seen: Ints
    """Frames in which it was seen."""
    strong: Ints
    """Of these, the frames in which its SNR was above the threshold."""
    unseen: Ints
    """Frames in succession in which it was not."""
    born: Bools
    """It appeared within the view while it was watched."""
    sure: Bools
    """Seen well often enough to be a particle."""
    bright: Bools
    """Last seen with an SNR above the threshold."""
    edge: Bools
    """Last seen cut by the image's edge."""

    @classmethod
    def empty(cls, frames: int) -> Population:
        """Nobody; remembering the diameters of so many frames."""
        none, whole, no = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool)
        history = np.zeros((0, frames))
        return cls(
            whole,
            whole,
            np.zeros((0, 2)),
            history,
            history,
            none,
            none,
            none,
            whole,
            whole,
            whole,
            no,
            no,
            no,
            no,
        )

    def __len__(self) -> int:
        return len(self.track)

    def where(self, chosen: Bools) -> Population:
        """Those chosen."""
        return replace(self, **{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def and_also(self, others: Population) -> Population:
        """Both, these first."""
        return replace(
            self,
            **{
                f.name: np.concatenate([getattr(self, f.name), getattr(others, f.name)])
                for f in fields(self)
            },
        )


def starting(
    seen: Sightings, tracks: Ints, segments: Ints, t_s: float, born: Bools, frames: int
) -> Population:
    """New tracks from sightings; their SNR is counted by the caller."""
    n = len(seen)
    zero = np.zeros(n, np.int64)
    empty = np.full((n, frames), np.nan)
    return Population(
        tracks,
        segments,
        seen.places_nm,
        empty,
        empty,
        seen.diameter_nm,
        np.full(n, t_s),
        np.full(n, t_s),
        zero,
        zero,
        zero,
        born,
        np.zeros(n, bool),
        np.zeros(n, bool),
        seen.border,
    )


def mean_size(diameters: Array, sigmas: Array) -> tuple[Array, Array]:
    """Weighted mean over frames of (n, frames) diameters with NaN, and its σ; NaN where none."""
    weight = np.where(np.isfinite(diameters), 1.0 / np.square(sigmas), 0.0)
    total = weight.sum(axis=1)
    some = total > 0
    safe = np.where(some, total, 1.0)
    mean = (weight * np.nan_to_num(diameters)).sum(axis=1) / safe
    return np.where(some, mean, np.nan), np.where(some, 1 / np.sqrt(safe), np.nan)
