"""Remembers what really was in each of the newest frames, and tells it in full when asked."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.imaging import DETECTORS, PROBE_SIGMA_NM, Detector, Side, domes_in
from simulators.specimen import Specimen, View, summarise, touches_border
from simulators.spectra.point import Point

REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a scanned frame follows from, at mid-exposure."""

    index: int
    t_s: float
    view: View
    celsius: float
    drift_nm: tuple[float, float]
    dose_e_per_nm2: float
    blanked: bool
    side: Side = "plan"
    detectors: Mapping[str, Detector] = field(default_factory=lambda: DETECTORS)
    defocus_nm: float = 0.0
    probe_sigma_nm: float = PROBE_SIGMA_NM
    drift_across_nm: tuple[float, float] = (0.0, 0.0)
    """Drift from the beginning of the exposure to its end."""

    def tell(self, specimen: Specimen) -> dict[str, Any]:
        """The truth about the frame, JSON-ready; NaN where there is no particle to speak of.

        Image coordinates have their origin at the image's top-left corner, x to the right and y
        down, so that the centre of pixel j is at (j + ½) pixel sizes. Mean and count are over
        particles of at least 2 nm that do not touch the border. A particle is a hemisphere of its
        footprint above the surface (``height_nm``) and half an ellipsoid below it, down to
        ``depth_nm``; inside the film it is a sphere, with its centre at ``z_nm``. ``below`` is the share
        of its volume below the surface, ``faceting`` goes from a smooth cap (0) to a faceted crystal
        (1), and ``angle_rad`` is the direction of its {200} fringes' wave vector, from x towards y.
        ``contrast`` is the relative gain of HAADF at its centre before any blur, ``contrasts`` that of
        every detector in plan view. Places are those at mid-exposure; a line that is scanned earlier
        or later sees them displaced by its share of ``drift_across_frame_nm``. In a cross-section y is
        depth, with the surface at ``surface_y_nm``. ``merged`` lists which particles have gone into
        which of those in the view.
        """
        domes = domes_in(specimen, self.view, self.t_s, self.side)
        summary = summarise(domes, self.view)
        border = touches_border(domes, self.view)
        diameter, radius = domes.diameter_nm, domes.radius_nm
        depth, faceting = domes.depth_nm, domes.faceting
        contrasts = {name: _contrast(d, domes.peak_nm) for name, d in self.detectors.items()}
        within = set(domes.id.tolist())
        particles = [
            {
                "id": int(domes.id[k]),
                "x_nm": float(domes.x_nm[k]),
                "y_nm": float(domes.y_nm[k]),
                "diameter_nm": float(diameter[k]),
                "footprint_diameter_nm": 2 * float(radius[k]),
                "height_nm": 0.0 if domes.z_nm[k] > 0 else float(radius[k]),
                "z_nm": float(domes.z_nm[k]),
                "depth_nm": float(depth[k]),
                "below": float(domes.below[k]),
                "faceting": float(faceting[k]),
                "angle_rad": float(domes.angle_rad[k]),
                "phase": "crystal" if domes.crystalline[k] else "amorphous",
                "contrast": float(contrasts["haadf"][k]),
                "contrasts": {name: float(c[k]) for name, c in contrasts.items()},
                "touches_border": bool(border[k]),
            }
            for k in range(len(domes))
        ]
        return {
            "t_s": self.t_s,
            "mean_diameter_nm": summary.mean_diameter_nm,
            "count": summary.count,
            "areal_density_per_um2": summary.areal_density_per_um2
            if self.side == "plan"
            else math.nan,
            "particles": particles,
            "merged": [
                [gone, into] for gone, into in specimen.merged(self.t_s).items() if into in within
            ],
            "view": self.side,
            "surface_y_nm": -self.view.origin_nm[1] if self.side != "plan" else None,
            "drift_nm": list(self.drift_nm),
            "drift_across_frame_nm": list(self.drift_across_nm),
            "defocus_nm": self.defocus_nm,
            "probe_sigma_nm": self.probe_sigma_nm,
            "dose_e_per_nm2": self.dose_e_per_nm2,
            "temperature_celsius": self.celsius,
            "ni_reduced_fraction": specimen.ni_reduced_fraction(self.t_s),
            "pixel_size_nm": self.view.pixel_nm,
            "blanked": self.blanked,
        }


def _contrast(detector: Detector, nickel_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative change of a detector's signal by nickel upon the film."""
    per_nm = detector.per_nm
    return np.asarray(per_nm * nickel_nm if per_nm > 0 else np.expm1(per_nm * nickel_nm))


@dataclass(frozen=True, slots=True)
class Met:
    """What the parked probe meets at a time."""

    t_s: float
    position_nm: tuple[float, float]
    """Of the probe in the scan's frame."""
    boundary_distance_nm: float
    """From the nearest boundary, anti-phase or grain; infinite without one."""
    nickel_height_nm: float
    point: Point
    beam_kev: float
    celsius: float
    drift_nm: tuple[float, float]
    electrons_per_s: float
    """That reach the specimen; 0 while the beam is blanked."""


@dataclass(frozen=True, slots=True)
class SpectrumFacts:
    """What a spectrum was made from."""

    index: int
    t_s: float
    met: Met
    """Spectra of a burst share what was met in the middle of it."""
    shift_ev: float
    """Of the core loss: its mean over the dwell."""
    low_loss_shifts_ev: tuple[float, ...]
    """Of every low-loss read."""
    dose_electrons: float
    dose_e_per_nm2: float

    def tell(self, specimen: Specimen) -> dict[str, Any]:
        """The truth about the spectrum, JSON-ready; an infinite distance is told as None.

        ``per_nm2`` are atoms by element along the beam, ``relative`` the film's concentrations over the
        material's own where they can change, ``t_over_lambda`` the mean number of inelastic scattering
        events, ``phonons_10_50_mev`` and ``phonons_50_100_mev`` mean numbers of excitations on the axis
        without thermal ones. ``zlp_shift_ev`` is that of the core loss, ``low_loss_shifts_ev`` those of
        the low-loss reads.
        """
        met, point = self.met, self.met.point
        far = not math.isfinite(met.boundary_distance_nm)
        low, high = point.phonon_sums()
        return {
            "t_s": self.t_s,
            "position_nm": list(met.position_nm),
            "distance_to_boundary_nm": None if far else met.boundary_distance_nm,
            "material": point.material,
            "ti3_fraction": point.ti3_fraction,
            "o_boundary_fraction": point.o_boundary_fraction,
            "thickness_nm": point.thickness_nm,
            "t_over_lambda": point.depth(met.beam_kev),
            "nickel_height_nm": met.nickel_height_nm,
            "per_nm2": dict(point.per_nm2),
            "relative": dict(point.relative),
            "phonons_10_50_mev": low,
            "phonons_50_100_mev": high,
            "zlp_shift_ev": self.shift_ev,
            "low_loss_shifts_ev": list(self.low_loss_shifts_ev),
            "temperature_celsius": met.celsius,
            "drift_nm": list(met.drift_nm),
            "dose_electrons": self.dose_electrons,
            "dose_e_per_nm2": self.dose_e_per_nm2,
            "blanked": met.electrons_per_s == 0,
        }


Facts = ImageFacts | SpectrumFacts


class TruthLog:
    """The newest facts of one stream, oldest dropped first. Safe for use by several threads."""

    def __init__(self, stream: str, remembered: int = REMEMBERED) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._facts: deque[Facts] = deque(maxlen=remembered)

    @property
    def newest(self) -> Facts | None:
        """Of the last frame; None before the first."""
        with self._lock:
            return self._facts[-1] if self._facts else None

    def add(self, facts: Facts) -> None:
        """Remember a frame; a frame of the same index (it was cut before) is replaced."""
        with self._lock:
            if self._facts and self._facts[-1].index == facts.index:
                self._facts.pop()
            self._facts.append(facts)

    def find(self, index: int) -> Facts:
        """The facts of a frame; raises KeyError if it is not remembered."""
        with self._lock:
            place = index - self._facts[0].index if self._facts else -1
            if 0 <= place < len(self._facts):
                return self._facts[place]
        raise KeyError(f"frame {index} of {self._stream!r} is not remembered.")
