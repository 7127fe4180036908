"""Half-order spots of a region: the alternation of A sites, over the lattice that carries it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from acquire.errors import MeasureError
from acquire.measure.crystallinity.spectra import Image, without_slow
from acquire.measure.crystallinity.statistics import false_alarm, threshold
from acquire.measure.particles.checks import UNMEASURABLE, check_image, image_flags
from acquire.stream.records import Value

Array = NDArray[np.float64]
Region = tuple[float, float, float, float]

_NAN = Value(math.nan, math.nan)
_SMALLEST_CELLS = 8
_SQUARE_RAD = 0.15
"""How far from a right angle the second row of spots is looked for."""
_LIKE_LENGTH = 0.3
"""Noise is taken from wave vectors of nearly the same length, since texture falls with it."""
_NEAR_CELLS, _GUARD_CELLS, _WIDE_CELLS = 1.0, 3.0, 8.0
"""Cells of the spectrum: a spot is looked for within the first of its place, noise between the others."""


@dataclass(frozen=True, slots=True)
class SuperlatticeOptions:
    """The lattice and the rate of errors."""

    lattice_nm: float = 0.3905
    """Of the fundamental cell; half-order spots are those of twice as much."""
    tolerance: float = 0.05
    """Relative; for how far the lattice parameter or the calibration may be off."""
    false_positive_rate: float = 0.001
    """Chance that noise is taken for a superlattice, per region and image."""
    dark_level: float = 0.0


@dataclass(frozen=True, slots=True)
class Superlattice:
    """What the spectrum of one region says."""

    found: bool
    """Whether a half-order spot stands above what noise reaches with the stated rate."""
    snr: Value
    """Highest amplitude at the half-order places over that of the noise about them."""
    intensity: Value
    """Power of the half-order spots over that of the fundamental ones, less the noise's; near 0
    without order, and then as often below it as above."""
    false_alarm: float
    """Chance that noise reaches this SNR."""
    lattice_nm: Value
    """Fundamental spacing as found."""
    angle_rad: float
    """Direction of the first fundamental spot, from x towards y, in (-π/2, π/2]."""
    flags: tuple[str, ...]


def measure_superlattice(
    image: NDArray[Any],
    pixel_size_nm: float,
    region_nm: Region | None = None,
    options: SuperlatticeOptions | None = None,
) -> Superlattice:
    """Look for spots half-way to the fundamental ones in a region of an image (y, x).

    ``region_nm`` is (x0, y0, x1, y1) from the image's top-left corner; None is all of it. It should
    lie in one grain. The lattice is found first, in a ring about 1/a and across it; at ½g of both
    directions the power is compared to that of the noise around. Flags: ``pixel_too_coarse``,
    ``no_lattice`` (its spots do not stand out, so that nothing is said), and those of the image.

    Raises:
        MeasureError: no image, or a region outside of it or of less than eight cells a side.
    """
    options = options or SuperlatticeOptions()
    image = np.asarray(image)
    check_image(image, pixel_size_nm)
    part = _cropped(image, pixel_size_nm, region_nm, options)
    flags = image_flags(image, options.dark_level)
    if UNMEASURABLE.intersection(flags):
        return _unsaid(flags)
    if options.lattice_nm * (1 - options.tolerance) < 2 * pixel_size_nm:
        return _unsaid((*flags, "pixel_too_coarse"))
    fast, _ = without_slow(part, pixel_size_nm, 0.8 * 0.5 / options.lattice_nm)
    spectrum = _Spectrum.of(fast, pixel_size_nm)
    rows = _fundamental(spectrum, options)
    if rows is None:
        return _unsaid((*flags, "no_lattice"))
    return _half_orders(spectrum, rows, options, flags)


def _cropped(
    image: NDArray[Any],
    pixel_size_nm: float,
    region_nm: Region | None,
    options: SuperlatticeOptions,
) -> NDArray[Any]:
    if region_nm is None:
        return image
    x0, y0, x1, y1 = region_nm
    height, width = (length * pixel_size_nm for length in image.shape)
    if not (0 <= x0 < x1 <= width + 1e-6 and 0 <= y0 < y1 <= height + 1e-6):
        raise MeasureError(
            f"region {region_nm} nm does not lie in the image of {width:.4g} × {height:.4g} nm: "
            "give (x0, y0, x1, y1) from its top-left corner, x0 below x1 and y0 below y1."
        )
    least = _SMALLEST_CELLS * options.lattice_nm
    if min(x1 - x0, y1 - y0) < least:
        raise MeasureError(
            f"region {region_nm} nm is too small for half-order spots: each side needs "
            f"{least:.3g} nm or more."
        )
    left, top, right, bottom = (round(edge / pixel_size_nm) for edge in (x0, y0, x1, y1))
    return image[top:bottom, left:right]


def _unsaid(flags: tuple[str, ...]) -> Superlattice:
    return Superlattice(False, _NAN, _NAN, math.nan, _NAN, math.nan, flags)


@dataclass(frozen=True)
class _Spectrum:
    """Power of a Hann-windowed region, with the scale of its noise."""

    power: Image
    """(rows, columns), both frequencies in rising order."""
    ky: Array
    kx: Array
    cell_per_nm: float
    """Width of an independent cell."""
    roughness_nm2: float

    @classmethod
    def of(cls, fast: Image, pixel_size_nm: float) -> _Spectrum:
        """From a region without its slow part; the transform has twice its size."""
        windows, seconds = [], []
        for length in fast.shape:
            window = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
            along = (np.arange(length) - 0.5 * (length - 1)) * pixel_size_nm
            windows.append(window)
            seconds.append(float((window**2 * along**2).sum() / (window**2).sum()))
        shaped = fast * (windows[0][:, None] * windows[1]).astype(np.float32)
        shape = tuple(fft.next_fast_len(2 * length) for length in fast.shape)
        transform = fft.fftshift(fft.fft2(shaped, s=shape))
        ky, kx = (fft.fftshift(fft.fftfreq(n, pixel_size_nm)) for n in shape)
        roughness = (2 * np.pi) ** 2 * math.sqrt(seconds[0] * seconds[1])
        # a Hann window of length L blurs to 1.94/L
        cell = 1.94 / (pixel_size_nm * math.sqrt(fast.shape[0] * fast.shape[1]))
        power = (transform.real**2 + transform.imag**2).astype(np.float32)
        return cls(power, ky, kx, cell, roughness)

    def noise(self, ky: float, kx: float) -> float:
        """Mean power of the noise about a place, by the median of what lies around it as far from 0."""
        ring = self._ring(ky, kx)
        return float(np.median(self.power[ring])) / math.log(2.0)

    def cells(self, ky: float, kx: float) -> float:
        """Independent values that this median is worth."""
        steps = float(self.ky[1] - self.ky[0]) * float(self.kx[1] - self.kx[0])
        return max(4.0, 0.5 * np.count_nonzero(self._ring(ky, kx)) * steps / self.cell_per_nm**2)

    def _ring(self, ky: float, kx: float) -> NDArray[np.bool_]:
        apart, length = self._apart(ky, kx), math.hypot(ky, kx)
        near = np.abs(self._apart(0.0, 0.0) - length) < _LIKE_LENGTH * length
        near &= apart > _GUARD_CELLS * self.cell_per_nm
        return np.asarray(near & (apart < _WIDE_CELLS * self.cell_per_nm))

    def highest(self, ky: float, kx: float) -> float:
        """Power of the highest point near a place."""
        near = self._apart(ky, kx) <= _NEAR_CELLS * self.cell_per_nm
        return float(self.power[near].max())

    def at(self, ky: float, kx: float) -> float:
        """Power at a place."""
        return float(self.power[np.argmin(np.abs(self.ky - ky)), np.argmin(np.abs(self.kx - kx))])

    def top(self, where: NDArray[np.bool_]) -> tuple[float, float]:
        """(ky, kx) of the highest point of a part, refined by parabolas."""
        i, j = np.unravel_index(int(np.argmax(np.where(where, self.power, -1.0))), self.power.shape)
        found = []
        for axis, at in ((self.ky, int(i)), (self.kx, int(j))):
            along = self.power[:, j] if axis is self.ky else self.power[i, :]
            near = np.log(np.maximum(along[max(at - 1, 0) : at + 2].astype(np.float64), 1e-30))
            shift = 0.0
            if len(near) == 3 and near[0] - 2 * near[1] + near[2] < 0:
                shift = float(0.5 * (near[0] - near[2]) / (near[0] - 2 * near[1] + near[2]))
            found.append(float(axis[at]) + np.clip(shift, -0.5, 0.5) * float(axis[1] - axis[0]))
        return found[0], found[1]

    def _apart(self, ky: float, kx: float) -> Array:
        return np.asarray(np.hypot(self.ky[:, None] - ky, self.kx[None, :] - kx))


def _fundamental(
    spectrum: _Spectrum, options: SuperlatticeOptions
) -> list[tuple[float, float]] | None:
    """Wave vectors (ky, kx) of the two rows of fundamental spots; None where they do not stand out."""
    k = np.hypot(spectrum.ky[:, None], spectrum.kx[None, :])
    angle = np.arctan2(spectrum.ky[:, None], spectrum.kx[None, :])
    low = 1 / (options.lattice_nm * (1 + options.tolerance))
    high = 1 / (options.lattice_nm * (1 - options.tolerance))
    ring = (k >= low) & (k <= high) & ((angle > -np.pi / 2) & (angle <= np.pi / 2))
    first = spectrum.top(ring)
    across = math.atan2(first[0], first[1]) + math.pi / 2
    off = np.abs(np.angle(np.exp(1j * (angle - across))))
    second = spectrum.top((k >= low) & (k <= high) & (off < _SQUARE_RAD))
    area = math.pi * (high**2 - low**2)
    needed = threshold(
        options.false_positive_rate, area, math.pi * (high + low), spectrum.roughness_nm2
    )
    for ky, kx in (first, second):
        if spectrum.at(ky, kx) < needed * spectrum.noise(ky, kx):
            return None
    return [first, second]


def _half_orders(
    spectrum: _Spectrum,
    rows: list[tuple[float, float]],
    options: SuperlatticeOptions,
    flags: tuple[str, ...],
) -> Superlattice:
    halves = [(0.5 * ky, 0.5 * kx) for ky, kx in rows]
    noise = [spectrum.noise(*half) for half in halves]
    highest = max(
        spectrum.highest(*half) / level for half, level in zip(halves, noise, strict=True)
    )
    reach = _NEAR_CELLS * spectrum.cell_per_nm
    chance = false_alarm(
        highest,
        2 * math.pi * reach**2,
        2 * math.pi * reach,
        spectrum.roughness_nm2,
        min(spectrum.cells(*half) for half in halves),
    )
    # two separate places: twice the chance of a single point enters, not once
    chance = min(1.0, chance + math.exp(-highest))
    whole = sum(spectrum.at(*row) - spectrum.noise(*row) for row in rows)
    signal = [spectrum.at(*half) - level for half, level in zip(halves, noise, strict=True)]
    variance = sum(
        level**2 + 2 * level * max(power, 0.0) for power, level in zip(signal, noise, strict=True)
    )
    lengths = [math.hypot(*row) for row in rows]
    spacing = 1 / float(np.mean(lengths))
    ky, kx = rows[0]
    return Superlattice(
        found=chance < options.false_positive_rate,
        snr=Value(math.sqrt(highest), math.sqrt(0.5)),
        intensity=Value(sum(signal) / whole, math.sqrt(variance) / whole),
        false_alarm=chance,
        lattice_nm=Value(spacing, abs(1 / lengths[0] - 1 / lengths[1]) / 2),
        angle_rad=math.atan(ky / kx) if kx else math.pi / 2,
        flags=flags,
    )
