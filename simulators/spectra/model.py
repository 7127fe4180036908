"""Mean spectra of a point: core losses, low losses, or any energies, made ready once for a band.

Edges sit on a power law; titanium is a mixture of Ti4+ (crystal-field doublets) and Ti3+ (shifted by
-2 eV, splitting washed out); oxygen's second peak weakens with its own mixture. Everything is scattered
plurally with the low loss of the same point, and blurred by the zero-loss peak.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from simulators.spectra.band import Band, FineAxis
from simulators.spectra.cross_sections import TABLE_KEV, TABLE_MRAD, barn, dipole
from simulators.spectra.edges import EDGES, per_atom
from simulators.spectra.geometry import Optics
from simulators.spectra.plural import Complex, Scattering
from simulators.spectra.point import Point
from simulators.spectra.zero_loss import FWHM_EV

Array = NDArray[np.float64]

BACKGROUND_PER_NM_EV = 8e-6 / 60
"""Background per nm of perovskite and eV at 456 eV; 200 kV."""
BACKGROUND_EXPONENT = 3.0
BACKGROUND_FROM_EV = 100.0
"""Below, the background of the core losses bends down: what is there belongs to the low loss."""
CORE_ONLY_EV = 400.0
"""A band that begins above holds no low loss."""
LOW_ONLY_EV = 20.0
"""A band that ends below holds no core loss."""
_ROOM_EV = 10.0  # more than the zero-loss peak of a filter of 0.6 eV ever moves
_LOSS_REACH_EV = 200.0
_OPTICS = Optics()


class Model(Protocol):
    """Mean spectra of any point in one band."""

    def spectrum(self, point: Point) -> Spectrum:
        """The spectrum of a point, per electron of the beam."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """A mean spectrum per electron of the beam, summed up so that any channels can be taken from it."""

    axis: FineAxis
    below: Array
    """Share of the electrons up to the upper end of every cell; float64 (cells,)."""

    def rows(
        self, electrons: float, shift_ev: Sequence[float] | Array, blur_ev: float = 0.0
    ) -> Array:
        """Mean electrons per channel of spectra moved up by shifts (n,); float64 (n, channels).

        ``blur_ev`` is the standard deviation of a further Gaussian blur, small against the peak.
        """
        from simulators.spectra.sampling import channels

        axis, shift = self.axis, np.asarray(shift_ev, np.float64)
        out = np.zeros((len(shift), axis.band.channels))
        away = math.sqrt(3) * blur_ev
        # three nodes of Gauss-Hermite blur exactly to the fifth moment
        nodes = [(-away, 1 / 6), (0.0, 2 / 3), (away, 1 / 6)] if blur_ev > 0 else [(0.0, 1.0)]
        for by_ev, weight in nodes:
            channels(self.below, axis.places(shift + by_ev), axis.parts, weight * electrons, out)
        return out

    def row(self, electrons: float, shift_ev: float) -> Array:
        """Mean electrons per channel, float64 (channels,)."""
        return np.asarray(self.rows(electrons, [shift_ev])[0])


class CoreLoss:
    """Core losses: background and edges, scattered plurally; no low loss."""

    def __init__(self, band: Band, optics: Optics = _OPTICS) -> None:
        # plural scattering comes from below: the axis reaches as far down as the low loss does
        below_ev = min(_LOSS_REACH_EV, max(0.0, band.offset_ev))
        self._axis = FineAxis(band, below_ev, room_ev(optics), optics.fwhm_ev)
        self._optics = optics
        self._scattering = Scattering(self._axis.count, self._axis.step, optics)
        self._response = self._scattering.peak()
        self._lock = threading.Lock()
        self._parts: dict[str, Complex] = {}

    def spectrum(self, point: Point) -> Spectrum:
        """The spectrum of a point, per electron of the beam."""
        return _summed(self._axis, self.per_cell(point))

    def mean(self, point: Point, electrons: float, shift_ev: float) -> Array:
        """Mean electrons per channel, float64 (channels,); the spectrum moved up by ``shift_ev``."""
        return self.spectrum(point).row(electrons, shift_ev)

    def per_cell(self, point: Point) -> Array:
        """Share of the beam's electrons per cell."""
        scattering = self._scattering
        single: Complex = np.zeros(scattering.length // 2 + 1, np.complex128)
        for name, amount in _parts(point).items():
            if amount > 0:
                single += amount * self._part(name)
        single *= self._response * self._optics.beam_share(point.thickness_nm)
        single *= scattering.inelastic(point)
        return scattering.back(single, self._axis.count)

    def _part(self, name: str) -> Complex:
        with self._lock:
            known = self._parts.get(name)
        if known is not None:
            return known
        energy = self._axis.energy
        if name == "background":
            shape = background(energy, self._optics)
        else:
            shape = per_atom(name, energy, lambda edge: self._barn(edge))
            shape *= _onset(energy)
        transform: Complex = fft.rfft(shape * self._axis.step, self._scattering.length)
        with self._lock:
            self._parts[name] = transform
        return transform

    def _barn(self, edge: str) -> float:
        return barn(edge, self._optics.beam_kev, self._optics.collection_mrad)


class LowLoss:
    """Low losses: zero loss, plasmons, low edges and vibrations, scattered plurally; no core loss."""

    def __init__(self, band: Band, optics: Optics = _OPTICS) -> None:
        self._axis = FineAxis(band, max(0.0, band.offset_ev), room_ev(optics), optics.fwhm_ev)
        self._scattering = Scattering(self._axis.count, self._axis.step, optics)
        self._peak = self._scattering.peak(self._axis.first)

    def spectrum(self, point: Point, share: float = 1.0) -> Spectrum:
        """The spectrum of a point, per electron of the beam; of a share of the inelastic scattering only."""
        return _summed(self._axis, self.per_cell(point, share))

    def mean(self, point: Point, electrons: float, shift_ev: float) -> Array:
        """Mean electrons per channel, float64 (channels,); the spectrum moved up by ``shift_ev``."""
        return self.spectrum(point).row(electrons, shift_ev)

    def per_cell(self, point: Point, share: float = 1.0) -> Array:
        """Share of the beam's electrons per cell."""
        axis, scattering = self._axis, self._scattering
        total = self._peak * scattering.inelastic(point, share) * scattering.seen(point)
        # loss 0 is cell 0 of the convolution; gains have wrapped around to its end
        whole = scattering.back(total, scattering.length)
        return np.concatenate([whole[axis.first :], whole[: axis.count + axis.first]])


class AnyLoss:
    """All losses that a band can hold; where it holds both, they are added, and no electron twice."""

    def __init__(self, band: Band, optics: Optics = _OPTICS) -> None:
        self._optics = optics
        self._core = CoreLoss(band, optics) if band.end_ev > LOW_ONLY_EV else None
        self._low = LowLoss(band, optics) if band.offset_ev < CORE_ONLY_EV else None

    def spectrum(self, point: Point) -> Spectrum:
        """The spectrum of a point, per electron of the beam."""
        if self._low is None or self._core is None:
            model = self._low or self._core
            assert model is not None
            return model.spectrum(point)
        # what the background stands for is part of the scattering that the mean free path tells of
        beyond, depth = background_events(point, self._optics), point.depth(self._optics.beam_kev)
        low = self._low.spectrum(point, 1 - beyond / depth if depth > 0 else 1.0)
        core = self._core.spectrum(point)
        below = low.below * (1 - beyond)
        # both axes end alike, and the low loss begins at or below the core loss
        below[core.axis.first - low.axis.first :] += core.below
        return Spectrum(low.axis, below)

    def mean(self, point: Point, electrons: float, shift_ev: float) -> Array:
        """Mean electrons per channel, float64 (channels,); the spectrum moved up by ``shift_ev``."""
        return self.spectrum(point).row(electrons, shift_ev)


def room_ev(optics: Optics) -> float:
    """How far the zero-loss peak may move: it does so in proportion to the resolution."""
    return _ROOM_EV * optics.fwhm_ev / FWHM_EV


def background(energy_ev: Array, optics: Optics = _OPTICS) -> Array:
    """Background of the core losses per eV and nm of perovskite: a power law above 200 eV or so."""
    safe = np.maximum(energy_ev, 5.0)
    level = BACKGROUND_PER_NM_EV * _of_beam(optics)
    return level * (safe / 456.0) ** -BACKGROUND_EXPONENT * _onset(energy_ev)


def background_events(point: Point, optics: Optics = _OPTICS) -> float:
    """Mean number of scattering events of a point that the background stands for."""
    energy = np.arange(0.0, 4000.0, 0.5)
    return float(background(energy, optics).sum()) * 0.5 * point.background_nm()


def _of_beam(optics: Optics) -> float:
    """Cross-sections at 456 eV over those at the table's beam."""
    now = dipole(optics.beam_kev, optics.collection_mrad, 456.0)
    return now / dipole(TABLE_KEV, TABLE_MRAD, 456.0)


def _onset(energy_ev: Array) -> Array:
    """Tails of power laws end where the low loss begins; 1 - 2·10⁻⁴ at 400 eV."""
    safe = np.maximum(energy_ev, 1e-3)
    return np.where(energy_ev > 0, 1 / (1 + (BACKGROUND_FROM_EV / safe) ** 6), 0.0)


def _parts(point: Point) -> dict[str, float]:
    """Atoms per nm² by edge, and the nm of background."""
    atoms, rutile = point.per_nm2, point.material == "tio2"
    reduced, boundary = point.ti3_fraction, point.o_boundary_fraction
    titanium, oxygen = atoms.get("Ti", 0.0), atoms.get("O", 0.0)
    found = {
        "background": point.background_nm(),
        "ti4_tio2" if rutile else "ti4": titanium * (1 - reduced),
        "ti3": titanium * reduced,
        "o_tio2" if rutile else "o_bulk": oxygen * (1 - boundary),
        "o_boundary": oxygen * boundary,
        "ta_m3": atoms.get("Ta", 0.0),
    }
    for element in ("La", "Ni", "Sr", "Zr", "Ta", "C"):
        found[element.lower()] = atoms.get(element, 0.0)
    assert found.keys() - {"background"} <= EDGES.keys()
    return found


def _summed(axis: FineAxis, per_cell: Array) -> Spectrum:
    # rounding of the transforms leaves tiny negative numbers where there is nothing
    return Spectrum(axis, np.cumsum(np.maximum(per_cell, 0.0)))
