"""Annular detectors: what their angles make of film and nickel, and how they read electrons out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_WAVE_NUMBER_PER_NM = 2 * math.pi / 1.9687e-3  # of 300 kV
_SCREENING_NM = 0.885 * 0.0529177  # Thomas-Fermi radius of hydrogen
_NICKEL: Mapping[int, float] = {28: 1.0}
_FILM: Mapping[int, float] = {57: 0.2, 38: 0.7, 28: 0.1, 22: 0.9, 8: 3.0}
_HAADF_MRAD, _ABF_MRAD = (70.0, 175.0), (7.5, 17.0)
_HAADF_SHARE, _HAADF_PER_NM = 0.1, 0.1
_ABF_SHARE, _ABF_PER_NM, _ABF_POWER = 0.3, -0.06, -0.4


def scattering(atoms: Mapping[int, float], inner_mrad: float, outer_mrad: float) -> float:
    """Elastic scattering of atoms (atomic number: how many) between two angles, in arbitrary units.

    The Wentzel model, Reimer & Kohl, Transmission Electron Microscopy, section 5.1: dσ/dΩ goes as
    Z²/(θ² + θ0²)², θ0 = Z^(1/3)/(k 0.885 a0), whose integral over a ring is
    Z² (1/(θ1² + θ0²) - 1/(θ2² + θ0²)).
    """
    total = 0.0
    for number, share in atoms.items():
        screening = number ** (1 / 3) / (_WAVE_NUMBER_PER_NM * _SCREENING_NM)
        inner, outer = (1 / ((a * 1e-3) ** 2 + screening**2) for a in (inner_mrad, outer_mrad))
        total += share * number**2 * (inner - outer)
    return total


@dataclass(frozen=True, slots=True)
class Detector:
    """An annular detector inside or outside of the cone of the probe.

    Outside of it (dark field) the signal is what is scattered into the ring; inside (bright field),
    what is not scattered out beyond it. Both are relative to the detectors that the simulation is
    calibrated with: HAADF of 70 to 175 mrad detects 10 % of the probe on 60 nm of film and 0.1 more
    of that per nm of nickel; ABF of 7.5 to 17 mrad detects 30 %, and exp(-0.06) of it per nm.

    Raises:
        ValueError: the angles do not rise, or the ring lies on both sides of the cone's edge.
    """

    inner_mrad: float
    outer_mrad: float
    convergence_mrad: float = 23.0
    dark_counts: float = 0.02
    """Electrons' worth per pixel, beam on or off."""

    def __post_init__(self) -> None:
        if not 0 <= self.inner_mrad < self.outer_mrad <= 500:
            raise ValueError(
                f"detector from {self.inner_mrad:g} to {self.outer_mrad:g} mrad refused: "
                "give two rising angles, at most 500 mrad."
            )
        if self.inner_mrad < self.convergence_mrad < self.outer_mrad:
            raise ValueError(
                f"detector from {self.inner_mrad:g} to {self.outer_mrad:g} mrad refused: it would mix "
                f"bright and dark field. Keep to one side of the probe's {self.convergence_mrad:g} mrad."
            )

    @property
    def dark_field(self) -> bool:
        """Whether it lies outside of the probe's cone, so that nickel is bright."""
        return self.inner_mrad >= self.convergence_mrad

    @property
    def detected_share(self) -> float:
        """Share of the probe's electrons that it counts on the bare film of nominal thickness."""
        if self.dark_field:
            relative = self._ring(_FILM) / scattering(_FILM, *_HAADF_MRAD)
            return -math.expm1(relative * math.log1p(-_HAADF_SHARE))
        area = self.outer_mrad**2 - self.inner_mrad**2
        return _ABF_SHARE * area / (_ABF_MRAD[1] ** 2 - _ABF_MRAD[0] ** 2)

    @property
    def per_nm(self) -> float:
        """Contrast of 1 nm of nickel: relative gain (positive) or attenuation (negative)."""
        if self.dark_field:
            here = self._ring(_NICKEL) / self._ring(_FILM)
            there = scattering(_NICKEL, *_HAADF_MRAD) / scattering(_FILM, *_HAADF_MRAD)
            return _HAADF_PER_NM * here / there
        return _ABF_PER_NM * self._lost(_NICKEL)

    @property
    def thickness_power(self) -> float:
        """How intensity follows the film's relative thickness."""
        return 1.0 if self.dark_field else _ABF_POWER * self._lost(_FILM)

    @property
    def texture_sign(self) -> float:
        """What a relative change of the film's scattering makes of the intensity."""
        return 1.0 if self.dark_field else -0.5

    def _ring(self, atoms: Mapping[int, float]) -> float:
        return scattering(atoms, self.inner_mrad, self.outer_mrad)

    def _lost(self, atoms: Mapping[int, float]) -> float:
        """Scattering out of the detector over that of the calibrated bright field."""
        calibrated = scattering(atoms, _ABF_MRAD[1], 1e6)
        return scattering(atoms, self.outer_mrad, 1e6) / calibrated


DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {"haadf": Detector(*_HAADF_MRAD), "abf": Detector(*_ABF_MRAD)}
)


@dataclass(frozen=True, slots=True)
class Readout:
    """From electrons to counts: offset + gain · electrons, rounded, and clipped to the converter's range."""

    gain: float = 1.0
    """Counts per electron."""
    offset: float = 0.0
    """Counts without any electron."""
    bits: int = 16
    """8 or 16."""
    afterglow: float = 0.0
    """Share of the light of a pixel that comes one pixel later or more, falling by this much each."""

    @property
    def highest(self) -> int:
        """Where counts saturate."""
        return int(2**self.bits) - 1

    @property
    def dtype_name(self) -> str:
        """Of the images."""
        return f"uint{self.bits}"
