"""Foresees where the zero-loss peak of a recipe's spectra would fill the camera."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from acquire.engine.dose import ELECTRONS_PER_PICOCOULOMB, probe_current_pa
from acquire.instruments import Description
from acquire.recipe import LineScan, Record, Spectrum, SpectrumImage, SpectrumSettings, Step
from acquire.station import OpenStation
from acquire.units import show

NO_RECORDS: Mapping[str, Record] = MappingProxyType({})
USUAL_FWHM_EV = 0.6
"""Width of the zero-loss peak where the spectrometer does not tell its own: the resolution without a
monochromator with which exsolution has been studied at anti-phase boundaries."""


def saturated(
    steps: Iterable[Step], station: OpenStation, records: Mapping[str, Record] = NO_RECORDS
) -> list[str]:
    """What is to be said of spectra whose zero-loss peak would be too bright; nothing where facts are missing.

    Needed are the scan's ``probe_current_pa`` and the spectrometer's ``gain_counts_per_electron`` and
    ``full_scale_counts``, which is that of a channel in a spectrum.
    """
    of_spectra = [
        (f"record.{name}", record.spectrum.spectra)
        for name, record in records.items()
        if record.spectrum is not None
    ] + [
        (f"step '{step}'", step.spectra)
        for step in steps
        if isinstance(step, LineScan | Spectrum | SpectrumImage)
    ]
    if not of_spectra or station.spectrometer is None:
        return []
    current_pa = probe_current_pa(station.scan.describe())
    camera = _Camera.of(station.spectrometer.describe())
    if camera is None or not math.isfinite(current_pa):
        return []
    found = [
        f"{whose}: {text}"
        for whose, settings in of_spectra
        for text in _too_bright(settings, camera, current_pa)
    ]
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Camera:
    counts_per_electron: float
    offset_counts: float
    full_scale_counts: float
    fwhm_ev: float

    @classmethod
    def of(cls, spectrometer: Description) -> _Camera | None:
        def fact(name: str, otherwise: float) -> float:
            value = spectrometer.details.get(name, otherwise)
            return float(value) if isinstance(value, int | float) else otherwise

        gain, full = fact("gain_counts_per_electron", math.nan), fact("full_scale_counts", math.nan)
        if not (gain > 0 and full > 0):
            return None
        fwhm_ev = fact("energy_resolution_ev", USUAL_FWHM_EV)
        return cls(gain, fact("offset_counts", 0.0), full, fwhm_ev)

    def brightest_counts(self, electrons: float, dispersion_ev: float) -> float:
        """Of the channel on which a Gaussian peak is centred, with all electrons in the peak."""
        share = math.erf(math.sqrt(math.log(2)) * dispersion_ev / self.fwhm_ev)
        return self.offset_counts + electrons * share * self.counts_per_electron


def _too_bright(settings: SpectrumSettings, camera: _Camera, current_pa: float) -> list[str]:
    if settings.off_axis > 0:
        return []  # how much of the peak still enters is not known
    dwells_s = {}
    if settings.dual:
        dwells_s["low_loss_dwell_time"] = settings.low_loss_dwell_time
    low_ev, high_ev = settings.range
    if low_ev <= 0 < high_ev:
        dwells_s["dwell_time"] = settings.dwell_time
    found = []
    for key, dwell_s in dwells_s.items():
        electrons = current_pa * ELECTRONS_PER_PICOCOULOMB * dwell_s
        counts = camera.brightest_counts(electrons, settings.dispersion)
        if counts <= camera.full_scale_counts:
            continue
        signal = counts - camera.offset_counts
        fits_s = dwell_s * max(0.0, camera.full_scale_counts - camera.offset_counts) / signal
        found.append(
            f"the zero-loss peak would fill the camera where the specimen is thin: {show(counts, '', 2)} "
            f"counts in its brightest channel, and a channel holds {show(camera.full_scale_counts, '', 3)}. "
            f"A {key} of {_rounded_down(fits_s)} fits; a weaker beam or a finer dispersion allow more."
        )
    return found


def _rounded_down(seconds: float) -> str:
    """Two digits, in the unit that reads best."""
    factor, unit = next(
        ((f, u) for f, u in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")) if seconds * f >= 1),
        (1e9, "ns"),
    )
    value = seconds * factor
    if value < 1:
        return f"less than 1 {unit}"
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return show(math.floor(value / step + 1e-9) * step, unit, 3)
