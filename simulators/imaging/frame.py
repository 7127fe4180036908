"""A whole frame: maps of a field to counts of every detector, band by band."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simulators.imaging.detectors import DETECTORS, Detector, Readout
from simulators.imaging.lines import NO_ERRORS, Lines, ScanErrors, straight
from simulators.imaging.plan import film_maps, nickel_map
from simulators.imaging.probe import Probe
from simulators.imaging.section import section_domes, section_maps
from simulators.specimen import Domes, Specimen, View

Image = NDArray[np.float32]
Counts = NDArray[np.uint16] | NDArray[np.uint8]
Side = Literal["plan", "cross_section"]

_BAND_PIXELS = 1 << 16  # a band takes some 10 ms, after which a cut exposure is noticed


@dataclass(frozen=True, slots=True)
class Imaging:
    """How the microscope looks at the specimen."""

    side: Side = "plan"
    """From above, or along the surface of a lamella."""
    substrate: bool = True
    """Whether a cross-section shows the substrate below the film."""
    detectors: Mapping[str, Detector] = field(default_factory=lambda: DETECTORS)
    probe: Probe = field(default_factory=Probe)
    """In focus."""
    readout: Readout = field(default_factory=Readout)
    errors: ScanErrors = NO_ERRORS


PERFECT = Imaging()
"""Plan view, a scan without errors, one count per electron."""


def render(
    specimen: Specimen,
    t_s: float,
    view: View,
    electrons_per_pixel: float,
    detectors: Mapping[str, np.random.Generator],
    keep_going: Callable[[], bool] = lambda: True,
    *,
    imaging: Imaging = PERFECT,
    probe: Probe | None = None,
    lines: Lines | None = None,
) -> dict[str, Counts] | None:
    """Counts of every named detector, each drawn from its own generator; None if told to stop.

    Args:
        specimen: what is looked at.
        t_s: when, for its particles.
        view: what would be seen if all of it were scanned at that time.
        electrons_per_pixel: of the probe, in a dwell time.
        detectors: a fresh generator for each wanted detector; its first number decides all noise.
        keep_going: asked between bands of some 10 ms.
        imaging: everything about the microscope that does not change.
        probe: at its present defocus; that of ``imaging`` by default.
        lines: where the lines of the scan run; a perfect scan by default.

    Returns:
        (y, x) per detector, uint16, or uint8 of a readout of 8 bits.
    """
    from simulators.imaging.counting import count

    probe = probe or imaging.probe
    lines = lines or straight(view)
    domes = domes_in(
        specimen, view, t_s, imaging.side, 5 * probe.blur_nm(view.pixel_nm) + lines.margin_nm
    )
    readout = imaging.readout
    images: dict[str, Any] = {
        name: np.empty(view.shape, dtype=readout.dtype_name) for name in detectors
    }
    keys = {name: rng.integers(0, 2**64, dtype=np.uint64) for name, rng in detectors.items()}
    rows, columns = view.shape
    step = max(1, _BAND_PIXELS // columns)
    for first in range(0, rows, step):
        if not keep_going():
            return None
        last = min(first + step, rows)
        means = expected_counts(
            specimen,
            domes,
            view,
            electrons_per_pixel,
            detectors,
            (first, last),
            imaging=imaging,
            probe=probe,
            lines=lines,
        )
        for name, mean in means.items():
            count(
                mean,
                keys[name],
                first,
                readout.afterglow,
                readout.gain,
                readout.offset,
                float(readout.highest),
                images[name][first:last],
            )
    return images


def domes_in(
    specimen: Specimen, view: View, t_s: float, side: Side, margin_nm: float = 0.0
) -> Domes:
    """Particles that reach into a view, or to ``margin_nm`` from it, as seen from a side."""
    if side == "plan":
        return specimen.domes(view, t_s, margin_nm)
    return section_domes(specimen, view, t_s, margin_nm)


def expected_counts(
    specimen: Specimen,
    domes: Domes,
    view: View,
    electrons_per_pixel: float,
    detectors: Mapping[str, object],
    rows: tuple[int, int] | None = None,
    *,
    imaging: Imaging = PERFECT,
    probe: Probe | None = None,
    lines: Lines | None = None,
) -> dict[str, Image]:
    """Mean electrons per pixel that the named detectors count in some rows of a view; float32 (y, x)."""
    from simulators.imaging.kernels import intensity

    probe = probe or imaging.probe
    lines = lines or straight(view)
    first, last = rows = rows if rows is not None else (0, view.shape[0])
    shape = (last - first, view.shape[1])
    if electrons_per_pixel <= 0:
        dark = {name: imaging.detectors[name].dark_counts for name in detectors}
        return {name: np.full(shape, value, np.float32) for name, value in dark.items()}
    if imaging.side == "plan":
        mass, fine = film_maps(specimen, view, probe, lines, rows)
        nickel = nickel_map(domes, view, probe, lines, rows)
    else:
        mass, fine, nickel = section_maps(
            specimen, domes, view, probe, lines, rows, substrate=imaging.substrate
        )
    means: dict[str, Image] = {}
    for name in detectors:
        detector = imaging.detectors[name]
        means[name] = np.empty(shape, np.float32)
        intensity(
            mass,
            fine,
            nickel,
            electrons_per_pixel * detector.detected_share,
            detector.per_nm,
            detector.thickness_power,
            _powers(detector.thickness_power),
            detector.texture_sign,
            imaging.side != "plan",
            detector.dark_counts,
            means[name],
        )
    return means


@lru_cache(maxsize=16)
def _powers(power: float) -> Image:
    """A power of relative thicknesses from 0 to 4, as the kernel wants it; float32."""
    from simulators.imaging.kernels import PER_UNIT

    thickness = np.maximum(np.arange(4 * PER_UNIT + 1), 1) / PER_UNIT
    return np.asarray(thickness**power, dtype=np.float32)


def height_map(
    domes: Domes, view: View, rows: tuple[int, int], probe: Probe | None = None
) -> Image:
    """Nickel in nm as a plan view shows it, blurred by probe and pixel, without fringes; float32 (y, x)."""
    return nickel_map(domes, view, probe or Probe(), straight(view), rows, fringes=False)
