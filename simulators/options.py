"""Reads the options of a simulation, as station files write them, with advice for what cannot be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import MappingProxyType

from acquire.errors import UnitError
from acquire.units import parse, show
from simulators.column import Beam, BulgeSettings
from simulators.imaging import Detector, Imaging, Probe, Readout, ScanErrors
from simulators.imaging.probe import FWHM_PER_SIGMA
from simulators.spectra import CAMERAS
from simulators.spectrometer import SpectrometerSettings

_SIDES = ("plan", "cross_section")
FOLLOWING = "following"


def quantity(name: str, text: str, unit: str, low: float, high: float) -> float:
    """A unit string within limits; raises ValueError."""
    try:
        value = parse(text, unit)
    except UnitError as error:
        raise ValueError(f"{name}: {error}") from error
    if not low <= value <= high:
        raise ValueError(
            f"{name} = {text!r} refused: {show(low, unit)} to {show(high, unit)} is allowed."
        )
    return value


def number(name: str, value: object, low: float, high: float) -> float:
    """A plain number within limits; raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} = {value!r} refused: a number is needed.")
    if not low <= value <= high:
        raise ValueError(f"{name} = {value} refused: {low:g} to {high:g} is allowed.")
    return float(value)


def switch(name: str, value: object) -> bool:
    """Yes or no; raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} = {value!r} refused: write true or false.")
    return value


def detector(name: str, angles: Sequence[str], convergence_mrad: float) -> Detector:
    """A detector from its inner and outer angle as unit strings; raises TypeError, ValueError."""
    if not isinstance(angles, list | tuple) or len(angles) != 2:
        raise TypeError(
            f"{name} = {angles!r} refused: write a list of two angles, for example "
            '["70 mrad", "175 mrad"].'
        )
    inner, outer = (quantity(name, text, "mrad", 0, 500) for text in angles)
    try:
        found = Detector(inner, outer, convergence_mrad)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if found.dark_field != name.startswith("haadf"):
        side = "outside" if name.startswith("haadf") else "inside"
        raise ValueError(
            f"{name} = {list(angles)} refused: it must lie {side} of the probe's "
            f"{convergence_mrad:g} mrad."
        )
    return found


def imaging(
    *,
    beam: Beam,
    view: str,
    substrate: bool,
    probe_size: str,
    haadf_angles: Sequence[str],
    abf_angles: Sequence[str],
    line_jitter: str,
    flyback: str,
    afterglow: float,
    detector_bits: int,
    detector_gain: float,
    detector_offset: float,
) -> Imaging:
    """How the microscope looks at the specimen; see :func:`simulators.instruments.build`."""
    if view not in _SIDES:
        raise ValueError(f"view = {view!r} refused: write one of {', '.join(_SIDES)}.")
    if isinstance(detector_bits, bool) or detector_bits not in (8, 16):
        raise ValueError(f"detector_bits = {detector_bits!r} refused: 8 or 16 is allowed.")
    convergence = beam.convergence_semi_angle_mrad
    sigma = quantity("probe_size", probe_size, "nm", 0.05, 5) / FWHM_PER_SIGMA
    return Imaging(
        side="plan" if view == "plan" else "cross_section",
        substrate=switch("substrate", substrate),
        detectors=MappingProxyType(
            {
                "haadf": detector("haadf_angles", haadf_angles, convergence),
                "abf": detector("abf_angles", abf_angles, convergence),
            }
        ),
        probe=Probe(sigma, convergence),
        readout=Readout(
            gain=number("detector_gain", detector_gain, 1e-3, 1000),
            offset=number("detector_offset", detector_offset, 0, 2**detector_bits / 2),
            bits=int(detector_bits),
            afterglow=number("afterglow", afterglow, 0, 0.5),
        ),
        errors=ScanErrors(
            quantity("line_jitter", line_jitter, "nm", 0, 5),
            quantity("flyback", flyback, "nm", 0, 20),
        ),
    )


def bulge(rate: str, focus: str) -> BulgeSettings:
    """How the membrane leaves the focus, and whether the operator follows it."""
    per_k = quantity("bulge", rate, "nm/°C", -1, 1)
    if focus == FOLLOWING:
        return BulgeSettings(per_k)
    # a blur of many fields of view would take seconds to draw, and show nothing
    return BulgeSettings(per_k, quantity("focus", focus, "nm", -1000, 1000))


def spectra(energy_resolution: str, camera: str) -> SpectrometerSettings:
    """What the spectrometer is; see :func:`simulators.instruments.build`."""
    if camera not in CAMERAS:
        raise ValueError(f"camera = {camera!r} refused: write one of {', '.join(CAMERAS)}.")
    fwhm_ev = quantity("energy_resolution", energy_resolution, "eV", 1e-3, 2.0)
    return SpectrometerSettings(fwhm_ev, CAMERAS[camera])
