"""A reference: the shape of an edge or a whole spectrum on an energy axis of its own, taken to any data's axis.

The data are never resampled. A reference is taken to their axis by integrals over their channels,
each of which may cut channels of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.eels.background import fit_power_law

Array = NDArray[np.float64]
Window = tuple[float, float]

_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
_COARSER = 1.02
"""A reference's channels may be so much wider than the data's: dispersions are not known better."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A shape per eV, on an even and ascending axis.

    Raises:
        MeasureError: an axis that is no even, ascending energy axis, or a shape that is not finite.
    """

    name: str
    energy_ev: Array
    """Centres of its channels, float64 (n,)."""
    per_ev: Array
    """Mean density within each channel, float64 (n,); any scale."""
    source: str
    """Where it comes from: a file, a run, a formula."""
    onset_ev: float | None = None
    """Of an edge: there is nothing below this energy, however far down the data reach."""
    resolution_ev: float = 0.0
    """Full width at half maximum of the zero-loss peak that it is blurred with; 0 for none."""
    electrons: float = math.inf
    """How many electrons were measured for it: what its own noise is like."""

    def __post_init__(self) -> None:
        energy, shape = np.array(self.energy_ev, np.float64), np.array(self.per_ev, np.float64)
        if energy.ndim != 1 or shape.shape != energy.shape or len(energy) < 8:
            raise MeasureError(
                f"the reference {self.name!r} has energies of shape {energy.shape} and values of shape "
                f"{shape.shape}: two equal rows of at least 8 channels are needed."
            )
        steps = np.diff(energy)
        if not np.isfinite(energy).all() or not (steps > 0).all():
            raise MeasureError(
                f"the energies of the reference {self.name!r} do not ascend from the first to the "
                "last. Sort it, or mend its dispersion."
            )
        if np.ptp(steps) > 0.01 * steps.mean():
            raise MeasureError(
                f"the channels of the reference {self.name!r} are {steps.min():.6g} to "
                f"{steps.max():.6g} eV wide: an even axis is needed. Interpolate it first."
            )
        if not np.isfinite(shape).all() or not shape.any():
            raise MeasureError(
                f"the reference {self.name!r} is empty or holds values that are not finite."
            )
        energy.flags.writeable = shape.flags.writeable = False  # what fits make of it is kept
        object.__setattr__(self, "energy_ev", energy)
        object.__setattr__(self, "per_ev", shape)

    @property
    def step_ev(self) -> float:
        """Width of its channels."""
        return float((self.energy_ev[-1] - self.energy_ev[0]) / (len(self.energy_ev) - 1))

    @property
    def covers_ev(self) -> Window:
        """Lower end of its first and upper end of its last channel."""
        half = self.step_ev / 2
        return float(self.energy_ev[0] - half), float(self.energy_ev[-1] + half)

    def below(self, energy_ev: Array | float) -> Array:
        """Its integral up to energies of any shape; NaN beyond its ends, 0 below its onset."""
        low, high = self.covers_ev
        ends = np.linspace(low, high, len(self.energy_ev) + 1)
        sums = np.concatenate([[0.0], np.cumsum(self._above_onset()) * self.step_ev])
        at = np.asarray(energy_ev, np.float64)
        # rounding of the ends must not make a hole
        room = _ROUNDING * (high - low)
        value = np.interp(at, ends, sums)
        empty = self.onset_ev is not None and self.onset_ev >= low
        outside = (at > high + room) | ((at < low - room) & (not empty))
        return np.asarray(np.where(outside, np.nan, value))

    def _above_onset(self) -> Array:
        """Its values, nothing below the onset; a channel that the onset cuts counts by its share."""
        if self.onset_ev is None:
            return self.per_ev
        upper = self.energy_ev + self.step_ev / 2
        return self.per_ev * np.clip((upper - self.onset_ev) / self.step_ev, 0.0, 1.0)

    def area(self, low_ev: float, high_ev: float) -> float:
        """Its integral between two energies; raises MeasureError where it does not reach."""
        found = float(self.below(high_ev) - self.below(low_ev))
        if not math.isfinite(found):
            low, high = self.covers_ev
            raise MeasureError(
                f"the reference {self.name!r} reaches from {low:g} to {high:g} eV, and not over "
                f"{low_ev:g} to {high_ev:g} eV. Choose another window, or a longer reference."
            )
        return found

    def on(self, offset_ev: Array | float, step_ev: float, channels: int) -> Array:
        """Its integrals over the channels of spectra, float64 (n, channels); NaN where it does not reach.

        Args:
            offset_ev: centre of each spectrum's first channel, (n,) or a number.
            step_ev: width of the channels; not finer than the reference's own.
            channels: how many.

        Raises:
            MeasureError: the reference is coarser than the data.
        """
        self.check((), step_ev)
        offset = np.atleast_1d(np.asarray(offset_ev, np.float64))
        ends = offset[:, None] + step_ev * (np.arange(channels + 1) - 0.5)
        return np.asarray(np.diff(self.below(ends), axis=1))

    def check(self, windows_ev: Sequence[Window], step_ev: float) -> None:
        """Refuse data that this reference does not suit.

        Raises:
            MeasureError: its channels are wider than the data's, or a window lies beyond its axis.
        """
        if self.step_ev > step_ev * _COARSER:
            raise MeasureError(
                f"the reference {self.name!r} has channels of {self.step_ev:.4g} eV, the data of "
                f"{step_ev:.4g} eV: it cannot be made finer. Bin the data, or take a finer reference."
            )
        for low, high in windows_ev:
            self.area(low, high)

    def scaled(self, factor: float) -> Reference:
        """The same, so many times as large; raises MeasureError if that is no scale."""
        if not (math.isfinite(factor) and factor > 0):
            raise MeasureError(f"the reference {self.name!r} cannot be scaled by {factor!r}.")
        return replace(self, per_ev=self.per_ev * factor)

    def normalised(self, low_ev: float, high_ev: float) -> Reference:
        """The same with an integral of 1 between two energies.

        Raises:
            MeasureError: it does not reach, or has no positive area there.
        """
        area = self.area(low_ev, high_ev)
        if area <= 0:
            raise MeasureError(
                f"the reference {self.name!r} has an area of {area:.4g} from {low_ev:g} to "
                f"{high_ev:g} eV. Subtract its background, or choose another window."
            )
        return self.scaled(1.0 / area)

    def shifted(self, by_ev: float) -> Reference:
        """The same, moved up by an energy."""
        onset = None if self.onset_ev is None else self.onset_ev + by_ev
        return replace(self, energy_ev=self.energy_ev + by_ev, onset_ev=onset)

    def blurred(self, fwhm_ev: float) -> Reference:
        """The same as data of this zero-loss width see it: widths add in quadrature, as Gaussians do.

        Raises:
            MeasureError: its own resolution is worse than that by more than 5 %.
        """
        if not (math.isfinite(fwhm_ev) and fwhm_ev >= 0) or self.resolution_ev > 1.05 * fwhm_ev:
            raise MeasureError(
                f"the reference {self.name!r} has a resolution of {self.resolution_ev:g} eV and "
                f"cannot be brought to {fwhm_ev:g} eV. Take one that is sharper than the data."
            )
        sigma = _SIGMA * math.sqrt(max(fwhm_ev**2 - self.resolution_ev**2, 0.0))
        wide = max(fwhm_ev, self.resolution_ev)
        if sigma < 0.05 * self.step_ev:
            return replace(self, resolution_ev=wide)
        reach = math.ceil(5 * sigma / self.step_ev)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * self.step_ev / sigma) ** 2)
        padded = np.pad(self._above_onset(), reach, mode="edge")
        energy, onset = self.energy_ev, self.onset_ev
        if onset is not None:  # the edge reaches below the axis now
            padded = np.pad(padded[reach:], (2 * reach, 0))
            below = energy[0] - self.step_ev * np.arange(reach, 0, -1)
            energy, onset = np.concatenate([below, energy]), onset - 5 * sigma
        shape = np.convolve(padded, kernel / kernel.sum(), mode="valid")
        return replace(self, energy_ev=energy, per_ev=shape, resolution_ev=wide, onset_ev=onset)

    def without_background(self, low_ev: float, high_ev: float) -> Reference:
        """The same less a power law fitted between two energies before its edge, which is then its onset.

        Raises:
            MeasureError: no power law can be fitted there.
        """
        self.area(low_ev, high_ev)
        law = fit_power_law(
            self.per_ev[None] * self.step_ev,
            self.energy_ev[:1],
            self.step_ev,
            low_ev,
            high_ev,
        )
        under = np.exp(
            law.log_level[0]
            - law.exponent[0] * np.log(np.maximum(self.energy_ev, 1e-3) / law.reference_ev)
        )
        if not np.isfinite(under).all():
            raise MeasureError(
                f"no power law fits the reference {self.name!r} from {low_ev:g} to {high_ev:g} eV. "
                "Choose a window before its edge."
            )
        return replace(self, per_ev=self.per_ev - under, onset_ev=high_ev)


def measured_reference(
    name: str,
    electrons: Array,
    offset_ev: Array,
    step_ev: float,
    *,
    background_ev: Window | None = None,
    resolution_ev: float = 0.0,
    source: str = "mean of measured spectra",
) -> Reference:
    """The mean of measured spectra (n, channels), each on its own axis, as a reference.

    Spectra are laid upon each other by whole channels and never resampled; what is left of the
    shifts moves the mean's axis by their mean, and blurs it by a channel / √12 at the most. Its
    noise is that of ``electrons`` in all: a reference should hold ten times as many as the spectra
    that it is fitted to. Rows that are not finite are left out. A power law fitted in ``background_ev``
    is subtracted; ``resolution_ev`` is the FWHM of the zero-loss peak of these spectra.

    Raises:
        MeasureError: no finite spectra, or too few channels that all of them have.
    """
    rows, offset = rows_of(electrons, offset_ev, step_ev)
    good = np.isfinite(rows).all(axis=1) & np.isfinite(offset)
    if not good.any():
        raise MeasureError(f"no finite spectra to make the reference {name!r} of.")
    rows, offset = rows[good], offset[good]
    first = offset.max()
    skip = np.rint((first - offset) / step_ev).astype(np.intp)
    left = offset + step_ev * skip - first
    length = int(rows.shape[1] - skip.max())
    if length < 8:
        raise MeasureError(
            f"the spectra for the reference {name!r} share {max(length, 0)} channels: their axes lie "
            "too far apart."
        )
    mean = np.take_along_axis(rows, skip[:, None] + np.arange(length), axis=1).mean(axis=0)
    found = Reference(
        name,
        first + left.mean() + step_ev * np.arange(length),
        mean / step_ev,
        source,
        resolution_ev=resolution_ev,
        electrons=float(np.maximum(mean.sum(), 0.0) * len(rows)),
    )
    if background_ev is None:
        return found
    signal = found.without_background(*background_ev)
    high = signal.covers_ev[1]
    net = signal.below(high) - signal.below(background_ev[1])
    return replace(signal, electrons=max(float(net), 0.0) * len(rows))


def rows_of(electrons: Array, offset_ev: Array | float, step_ev: float) -> tuple[Array, Array]:
    """Spectra as float64 (n, channels) and the energies of their first channels as (n,).

    Raises:
        MeasureError: shapes that do not belong together, or a step that is not positive.
    """
    rows = np.atleast_2d(np.asarray(electrons, np.float64))
    offset = np.asarray(offset_ev, np.float64)
    if rows.ndim != 2 or rows.shape[1] < 8 or offset.shape not in ((), (len(rows),)):
        raise MeasureError(
            f"spectra of shape {rows.shape} do not go with offsets of shape {offset.shape}: "
            "(n, channels) with at least 8 channels, and (n,), are needed."
        )
    if not (math.isfinite(step_ev) and step_ev > 0):
        raise MeasureError(f"the channels' width of {step_ev!r} eV must be positive and finite.")
    return np.ascontiguousarray(rows), np.ascontiguousarray(np.broadcast_to(offset, len(rows)))
