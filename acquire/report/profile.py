"""Finds the EELS line scans of a run and measures them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.instruments import Axis
from acquire.measure.eels import Camera, LineProfile, line_profile
from acquire.store import Run

logger = logging.getLogger(__name__)

FEWEST_POINTS = 3
SPECTROMETER = "spectrometer"


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
    """The line scans of a run in the order in which they began; those that show no edge are left out."""
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
    x, y = spectra.position_x.values, spectra.position_y.values
    distance = np.hypot(x - x[0], y - y[0]) if len(x) else np.zeros(0)
    if len(x) < FEWEST_POINTS or not np.isfinite(distance).all() or not np.ptp(distance) > 0:
        return None
    low = spectra.low_loss if "low_loss" in spectra else None
    profile = line_profile(
        spectra.core_loss.values,
        _axis(spectra.core_loss),
        None if low is None else low.values,
        None if low is None else _axis(low),
        camera=_camera(run),
    )
    return RunProfile(stream, distance, profile)


def _axis(data: xr.DataArray) -> Axis:
    energies = data[data.dims[-1]]
    if energies.size < 2 or "units" not in energies.attrs:
        raise MeasureError(f"{data.name} has no energy axis. Calibrate the spectrometer.")
    return Axis(float(energies[0]), float(energies[1] - energies[0]), str(energies.attrs["units"]))


def _camera(run: Run) -> Camera:
    """The camera as its instrument described it; counted electrons where it said nothing."""
    description = run.header.instruments.get(SPECTROMETER)
    details = {} if description is None else description.details
    return Camera(
        counts_per_electron=float(details.get("gain_counts_per_electron", 1.0)),
        readout_electrons=float(details.get("readout_noise_electrons", 0.0)),
        dark_counts=float(details.get("offset_counts", 0.0)),
    )
