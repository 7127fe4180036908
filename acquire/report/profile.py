"""Finds the EELS line scans of a run and measures them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels import Camera, LineProfile, edges_on, line_profile
from acquire.measure.eels.camera import axis_ev
from acquire.measure.eels.true_axis import KNOWN_BY, true_axis
from acquire.store import Run

logger = logging.getLogger(__name__)

FEWEST_POINTS = 3
SPECTROMETER = "spectrometer"
_SHIFT_EV = 5.0
"""An edge that lacks so much at an end of the axis may be on it once that is shifted."""
_SEEN = 5.0
_STRAIGHT = 0.05
"""Of its length that a line may be bent by, as it follows the specimen."""


@dataclass(frozen=True, slots=True)
class RunProfile:
    """A line scan: edges against the distance along the line."""

    stream: str
    distance_nm: NDArray[np.float64]
    """From the first point, shape (points,)."""
    profile: LineProfile

    @property
    def edges(self) -> tuple[str, ...]:
        """Edges that could be told at two points or more."""
        return tuple(
            name
            for name, edge in self.profile.edges.items()
            if np.count_nonzero(np.isfinite(edge.electrons)) > 1
        )


def run_profiles(run: Run) -> list[RunProfile]:
    """The line scans of a run in the order in which they began; those that show no edge are left out.

    A line scan is spectra at three points or more on a straight line. Measured are the edges that lie
    on its axis and rise above the background by 5 σ of the whole line.
    """
    found: list[tuple[float, RunProfile]] = []
    for stream, kind in run.streams.items():
        if kind != "spectra":
            continue
        spectra = run.spectra(stream)
        try:
            profile = _profile(run, stream, spectra)
        except MeasureError as error:
            logger.warning("the spectra %r of %s cannot be measured: %s", stream, run.path, error)
            continue
        if profile is not None and profile.edges:
            found.append((float(spectra.time[0]), profile))
    return [profile for _, profile in sorted(found, key=lambda item: item[0])]


def _profile(run: Run, stream: str, spectra: xr.Dataset) -> RunProfile | None:
    if "core_loss" not in spectra or spectra.core_loss.dims != ("time", "energy_loss"):
        return None
    distance = _distance_nm(spectra)
    if distance is None:
        return None
    low = spectra.low_loss if "low_loss" in spectra else None
    axis = _axis(spectra, "core_loss")
    counts = spectra.core_loss.values
    offset, step = axis_ev(axis, "core_loss")
    end = offset + step * (counts.shape[1] - 1)
    described = run.header.instruments.get(SPECTROMETER)
    details = {} if described is None else described.details
    full_scale = details.get("full_scale_counts")

    def measured(edges: tuple[str, ...]) -> LineProfile:
        return line_profile(
            counts,
            axis,
            None if low is None else low.values,
            None if low is None else _axis(spectra, "low_loss"),
            camera=_camera(run),
            edges=edges,
            full_scale_counts=None if full_scale is None else float(full_scale),
        )

    offered = tuple(edges_on(offset - _SHIFT_EV, end + _SHIFT_EV))
    profile = measured(offered)
    seen = tuple(name for name in offered if _shows(profile, name))
    if seen != offered:
        profile = measured(seen)
    return RunProfile(stream, distance, profile)


def _distance_nm(spectra: xr.Dataset) -> NDArray[np.float64] | None:
    """From the first point; None if the points are no line."""
    if "map_row" in spectra:
        return None
    x, y = spectra.position_x.values, spectra.position_y.values
    if len(x) < FEWEST_POINTS or not np.isfinite(x + y).all():
        return None
    distance = np.hypot(x - x[0], y - y[0])
    far = int(np.argmax(distance))
    if not distance[far] > 0:
        return None
    across = ((x - x[0]) * (y[far] - y[0]) - (y - y[0]) * (x[far] - x[0])) / distance[far]
    return np.asarray(distance) if np.ptp(across) <= _STRAIGHT * distance[far] else None


def _shows(profile: LineProfile, name: str) -> bool:
    """Whether an edge rises above its background, all points together."""
    edge = profile.edges[name]
    known = np.isfinite(edge.electrons) & np.isfinite(edge.sigma)
    total, noise = edge.electrons[known].sum(), np.sqrt(np.square(edge.sigma[known]).sum())
    return bool(total > _SEEN * noise)


def _axis(spectra: xr.Dataset, channel: str) -> Axis:
    """The energy axis of a line, as its run calibrated it.

    Raises:
        MeasureError: no axis, or spectra that lie on several.
    """
    data = spectra[channel]
    energies = data[data.dims[-1]]
    if energies.size < 2 or "units" not in energies.attrs:
        raise MeasureError(f"{channel} has no energy axis. Calibrate the spectrometer.")
    step = float(energies[-1] - energies[0]) / (energies.size - 1)
    nominal = Axis(float(energies[0]), step, str(energies.attrs["units"]))
    numbers = {
        str(name): value.values for name, value in spectra.coords.items() if value.dims == ("time",)
    }
    axes = {
        true_axis(nominal, channel, dict(zip(KNOWN_BY, row, strict=True)))
        for row in np.stack(
            [numbers.get(name, np.full(len(data), np.nan)) for name in KNOWN_BY], axis=1
        ).tolist()
    }
    if len(axes) != 1:
        raise MeasureError(
            f"the spectra lie on {len(axes)} energy axes, as they were tuned or calibrated meanwhile. "
            "Measure those of one axis together."
        )
    return axes.pop()


def _camera(run: Run) -> Camera:
    """The camera as its instrument described it; counted electrons where it said nothing."""
    description = run.header.instruments.get(SPECTROMETER)
    details = {} if description is None else description.details
    return Camera(
        counts_per_electron=float(details.get("gain_counts_per_electron", 1.0)),
        readout_electrons=float(details.get("readout_noise_electrons", 0.0)),
        dark_counts=float(details.get("offset_counts", 0.0)),
    )
