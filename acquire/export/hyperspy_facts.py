"""What HyperSpy and eXSpy are told of a channel, by their names: microscope, detector, noise, and all else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.export.energies import Energies
from acquire.export.source import (
    SPECTRA,
    Channel,
    LinearAxis,
    began,
    gaps_of,
    instrument_facts,
    run_facts,
)
from acquire.store import Run

_LONGEST_TEXT = 60_000
"""Bytes; HDF5 takes no attributes beyond 64 kB."""


@dataclass(frozen=True, slots=True)
class Laid:
    """A channel's frames at their places."""

    navigation: list[dict[str, Any]]
    """Axes of the places, slowest first, as rosettasciio has them; none for a single spectrum."""
    frames: NDArray[np.intp]
    """Number of the frame at each place, -1 where there is none; a dimension per axis."""
    inner: list[LinearAxis]
    """Axes of a frame."""
    energies: Energies | None
    """Of spectra."""
    placed: bool
    """Whether places are those on the specimen, or times."""


def metadata(channel: Channel) -> dict[str, Any]:
    """HyperSpy's metadata tree; of spectra with eXSpy's names and units (keV, mrad, nA, s)."""
    run, start = channel.run, began(channel.run)
    specimen = dict(run.header.specimen)
    facts = instrument_facts(run)
    microscope: dict[str, Any] = {"acquisition_mode": "STEM"} | _numbers(
        facts,
        beam_energy=("beam_energy_kev", 1.0),
        convergence_angle=("convergence_semi_angle_mrad", 1.0),
        beam_current=("probe_current_pa", 1e-3),
    )
    if "scan" in run.header.instruments:
        microscope["microscope"] = run.header.instruments["scan"].model
    signal: dict[str, Any] = {
        "signal_type": "EELS" if channel.kind == SPECTRA else "",
        "quantity": f"Intensity ({channel.unit})" if channel.unit else "Intensity",
    }
    if channel.kind == SPECTRA:
        microscope["Detector"] = {"EELS": _spectrometer(channel, facts)}
        if noise := _noise(run):
            signal["Noise_properties"] = {"Variance_linear_model": noise}
    return {
        "General": {
            "title": channel.title,
            "original_filename": run.path.name,
            "date": start.date().isoformat(),
            "time": start.time().isoformat("seconds"),
            "time_zone": "UTC",
        },
        "Signal": signal,
        "Sample": {
            **({"sample_id": specimen["id"]} if "id" in specimen else {}),
            "description": "; ".join(f"{key}: {value}" for key, value in specimen.items()),
        },
        "Acquisition_instrument": {"TEM": microscope},
    }


def _spectrometer(channel: Channel, facts: dict[str, Any]) -> dict[str, Any]:
    """One read's exposure, and how long the probe was on the point for all of them."""
    run = channel.run
    eels: dict[str, Any] = {"frame_number": 1} | _numbers(
        facts,
        collection_angle=("collection_semi_angle_mrad", 1.0),
        aperture_size=("entrance_aperture_mm", 1.0),
    )
    frames = channel.frames
    if f"{channel.name}_time" in frames:  # several reads: (time, read, begin and end)
        spans = np.diff(np.asarray(frames[f"{channel.name}_time"].values, np.float64), axis=-1)
        exposure_s = float(np.nanmedian(spans)) if np.isfinite(spans).any() else math.nan
    else:
        exposure_s = channel.exposure_s
    if math.isfinite(exposure_s):
        eels["exposure"] = exposure_s
    whole_s = np.asarray(frames["t_end"].values, np.float64) - channel.times_s
    if np.isfinite(whole_s).any():
        eels["dwell_time"] = float(np.nanmedian(whole_s))
    if "spectrometer" in run.header.instruments:
        eels["spectrometer"] = run.header.instruments["spectrometer"].model
    return eels


def _noise(run: Run) -> dict[str, float]:
    """HyperSpy's model of the variance of counts, gain · counts + offset, where the camera is known."""
    described = run.header.instruments.get("spectrometer")
    details = {} if described is None else described.details
    gain, readout = details.get("gain_counts_per_electron"), details.get("readout_noise_electrons")
    if not (isinstance(gain, int | float) and isinstance(readout, int | float)):
        return {}
    dark = details.get("offset_counts", 0.0)
    known_dark = float(dark) if isinstance(dark, int | float) else 0.0
    return {
        "gain_factor": float(gain),
        "gain_offset": float(gain) * (float(gain) * float(readout) ** 2 - known_dark),
        "correlation_factor": 1.0,
    }


def _numbers(facts: dict[str, Any], **wanted: tuple[str, float]) -> dict[str, float]:
    """Those of the wanted facts that are known, by HyperSpy's names and in its units."""
    return {
        name: float(facts[fact]) * factor
        for name, (fact, factor) in wanted.items()
        if isinstance(facts.get(fact), int | float)
    }


def everything(channel: Channel, laid: Laid) -> dict[str, Any]:
    """All else that is known of a run's channel: coordinates of every frame, recipe, gaps.

    ``frame_at`` is the number of each place's frame among ``frames``, -1 where none was recorded.
    """
    run = channel.run
    columns = channel.columns()
    found: dict[str, Any] = {
        **run_facts(run),
        "frames": {name: column.values for name, column in columns.items()},
        "frames_units": {name: column.unit for name, column in columns.items()},
        "instruments": {
            role: dict(instrument.details)
            | {"model": instrument.model, "driver": instrument.driver, "serial": instrument.serial}
            for role, instrument in run.header.instruments.items()
        },
        "recipe": _short(run.header.recipe_yaml),
        "station_file": _short(run.header.station_toml),
    }
    for name, values in channel.asides().items():
        found["frames"][name] = values
    if laid.placed and laid.navigation:
        found["frame_at"] = laid.frames
        if missing := int(np.count_nonzero(laid.frames < 0)):
            found["missing"] = f"{missing} places have no spectrum, and hold NaN"
    if laid.energies is not None and laid.energies.text:
        nominal = channel.axes[-1]
        found["energies"] = {
            "what": laid.energies.text,
            "nominal_offset": nominal.offset,
            "nominal_scale": nominal.step,
            "shift_left": laid.energies.rest_ev,
            "shift_left_units": "eV, to be added to the energies of each frame",
        }
    if gaps := gaps_of(run, channel.stream):
        found["gaps"] = {
            "frame_index": np.array([gap.frame_index for gap in gaps]),
            "frames": np.array([gap.frames for gap in gaps]),
            "t_start": np.array([gap.t_start for gap in gaps]),
            "t_end": np.array([gap.t_end for gap in gaps]),
            "reason": [gap.reason for gap in gaps],
        }
    return found


def _short(text: str) -> str:
    data = text.encode()
    if len(data) <= _LONGEST_TEXT:
        return text
    return f"{data[:_LONGEST_TEXT].decode(errors='ignore')}\n# … cut; the whole is in the run"
