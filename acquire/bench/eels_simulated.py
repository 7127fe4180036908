"""Rows of the EELS bench on the simulated station: Ti3+ under jitter, and boundaries recovered from line scans."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from acquire.bench.eels_station import Array, Microscope, Point, Spectra, microscope
from acquire.bench.work import Bench
from acquire.errors import HotstageError
from acquire.instruments import SpectrometerSetting, SpectrumExposure
from acquire.measure.eels import core_shifts, find_zero_loss, line_profile
from acquire.measure.eels.interface import InterfaceFit, fit_interface, fit_interfaces
from acquire.measure.eels.phonons import phonon_windows
from acquire.measure.eels.references import Reference, measured_reference
from acquire.measure.eels.valence import Valence, ti3_fraction
from acquire.stream import Value

TI3_BIAS = 0.005
MOST_SIGMA = 0.03
SYSTEMATIC = 0.005
"""Of a change relative to the matrix: what plural scattering moves between windows is not in σ."""
_BY_CHANCE = 1e-3
_BACKGROUND_EV = (410.0, 450.0)
_TITANIUM = SpectrometerSetting(400.0, 0.1, 2048)
_PUBLISHED = SpectrumExposure(0.5, 1e-4, 10)
"""0.5 s per point with ten low-loss reads, 400 to 600 eV in 0.1 eV."""
_MOVED_EV = 0.02
_DISTANCES_NM = (0.6, 1.5, 8.0)
_JITTER = "Ti3+ under simulated jitter, references measured on SrTiO3 and a boundary: bias"
_LINES = "boundaries: found, true, deviation in σ"
_EDGES = {"sr_l": "Sr", "ta_m": "Ta", "zr_l": "Zr", "o_k": "O"}
_HEAVY, _LIGHT = "10-50 meV", "50-100 meV"


@dataclass(frozen=True, slots=True)
class _Standards:
    """References measured on standards of known Ti3+: SrTiO3 (0), and a boundary's middle."""

    ti4: Reference
    mixed: Reference
    mixed_fraction: float

    def share(
        self, spectra: Spectra, offset_ev: Array, shift_sigma_ev: Array | float = 0.0
    ) -> tuple[Array, Array]:
        """Ti3+ of spectra and its σ, with what the axis may be off."""

        def fit(by_ev: float) -> Valence:
            return ti3_fraction(
                spectra.camera.electrons(spectra.core),
                offset_ev + by_ev,
                spectra.core_axis.step,
                references=(self.ti4, self.mixed),
                readout_variance=spectra.camera.readout_variance,
            )

        found = fit(0.0)
        slope = (fit(_MOVED_EV).fraction - fit(-_MOVED_EV).fraction) / (2 * _MOVED_EV)
        sigma = np.hypot(found.sigma, slope * shift_sigma_ev)
        return self.mixed_fraction * found.fraction, self.mixed_fraction * sigma


def titanium_under_jitter(bench: Bench) -> None:
    """Share of Ti3+ beside an anti-phase boundary, with each spectrum's shift from its low-loss reads."""
    specimens = bench.count(4)
    corrected: dict[float, list[Array]] = {distance: [] for distance in _DISTANCES_NM}
    held: dict[float, list[Array]] = {distance: [] for distance in _DISTANCES_NM}
    shifts: list[Array] = []
    for seed in bench.seeds("jitter", specimens):
        bench.tell("Ti3+ under jitter")
        with microscope(seed, specimen="lsnt_nonstoichiometric") as at:
            at.tune(_TITANIUM)
            place, across = at.boundary()
            standards = _standards(at, place, seed, bench)
            for distance in _DISTANCES_NM:
                spot = (place[0] + across[0] * distance, place[1] + across[1] * distance)
                taken = at.take(_PUBLISHED, [spot], bench.count(100))
                offset, _ = _aligned(taken)
                truth = taken.true("ti3_fraction")
                corrected[distance].append(standards.share(taken, offset)[0] - truth)
                still = np.full_like(offset, offset.mean())
                held[distance].append(standards.share(taken, still)[0] - truth)
                shifts.append(taken.core_axis.offset - offset - taken.true("zlp_shift_ev"))
    for distance in _DISTANCES_NM:
        bias, uncertain = _bias(corrected[distance])
        spread = float(np.std(np.concatenate(corrected[distance])))
        without = float(np.std(np.concatenate(held[distance])))
        bench.add(
            _JITTER,
            f"{distance:g} nm from an anti-phase boundary, {specimens} specimens",
            f"{bias:+.4f} ± {uncertain:.4f} (sd {spread:.4f}; one axis for all {without:.4f})",
            f"± {TI3_BIAS:g}",
            abs(bias) - 2 * uncertain <= TI3_BIAS,
            bias=bias,
            bias_sigma=uncertain,
            sd=spread,
            sd_without=without,
            shift_rmse_ev=float(np.sqrt(np.mean(np.square(np.concatenate(shifts))))),
        )


def anti_phase_boundary(bench: Bench) -> None:
    """The published line scan across an anti-phase boundary: its width and its excess of Ti3+."""
    pulls: list[float] = []
    told: list[Mapping[str, float]] = []
    for seed in bench.seeds("anti-phase boundary", bench.count(4)):
        bench.tell("anti-phase boundary")
        with microscope(seed, specimen="lsnt_nonstoichiometric") as at:
            at.tune(_TITANIUM)
            place, _ = at.boundary()
            standards = _standards(at, place, seed, bench)
            distance, places = at.line(10.0, 0.5)
            taken = at.take(_PUBLISHED, places)
        share, sigma = standards.share(taken, *_aligned(taken))
        found = fit_interface(distance, share, sigma)
        true = fit_interface(distance, taken.true("ti3_fraction"), np.full(len(distance), 1e-3))
        pairs = {"excess": (found.excess, true.excess), "fwhm_nm": (found.fwhm_nm, true.fwhm_nm)}
        pulls += [_pull(*pair) for pair in pairs.values()]
        told.append(_numbers(pairs))
        if len(told) > 1:
            continue
        for name, unit in (("excess", ""), ("fwhm_nm", " nm")):
            seen, right = pairs[name]
            bench.add(
                _LINES,
                f"anti-phase boundary, 0.5 s, 0.5 nm apart: Ti3+ {name.removesuffix('_nm')}",
                f"{seen.value:.3f} ± {seen.sigma:.3f}{unit}, {right.value:.3f}, {_pull(seen, right):+.1f}",
                "",
                None,
            )
    _judge(bench, "anti-phase boundary: Ti3+ excess and width", pulls, None, told)


def grain_boundary(bench: Bench) -> None:
    """Core losses across the LSTZ grain boundary: what is missing of Sr, Ta, Zr and O."""
    pulls: list[float] = []
    sigmas: list[float] = []
    told: list[Mapping[str, float]] = []
    for seed in bench.seeds("grain boundary", bench.count(4)):
        bench.tell("grain boundary")
        with microscope(seed, specimen="lstz_grain_boundary", probe_current="400 pA") as at:
            at.tune(SpectrometerSetting(480.0, 0.5, 4096))
            distance, places = at.line(10.0, 0.2)
            taken = at.take(SpectrumExposure(5.0, 2e-5, 10), places)
        profile = line_profile(
            taken.core,
            taken.core_axis,
            taken.low,
            taken.low_axis,
            camera=taken.camera,
            edges=tuple(_EDGES),
            elements=("Li", *_EDGES.values()),
        )
        found = fit_interfaces(
            distance,
            {name: (edge.electrons, edge.sigma) for name, edge in profile.edges.items()},
        )
        true = _true_fits(distance, {k: taken.true_per_nm2(e) for k, e in _EDGES.items()})
        pairs = {
            element: (_widened(found[edge].change), true[edge].change)
            for edge, element in _EDGES.items()
        }
        pulls += [_pull(*pair) for pair in pairs.values()]
        sigmas += [found[edge].change.sigma for edge in _EDGES]
        told.append(_numbers(pairs))
        if len(told) == 1:
            _changes(bench, "grain boundary, 400 pA, 5 s, 0.2 nm apart", pairs)
    _judge(bench, "grain boundary: Sr, Ta, Zr, O", pulls, max(sigmas), told)


def vibrations(bench: Bench) -> None:
    """Vibrations off the axis across the grain boundary: heavy cations dip, Li–O does not."""
    pulls: list[float] = []
    sigmas: list[float] = []
    told: list[Mapping[str, float]] = []
    for seed in bench.seeds("vibrations", bench.count(4)):
        bench.tell("vibrations")
        with microscope(
            seed,
            specimen="lstz_grain_boundary",
            energy_resolution="9 meV",
            beam_energy="60 keV",
            camera="counting",
            probe_current="10 pA",
        ) as at:
            at.tune(SpectrometerSetting(-0.256, 0.001, 512, dual=False, off_axis_mrad=60.0))
            distance, places = at.line(10.0, 0.25)
            taken = at.take(SpectrumExposure(0.5), places)
        peak = find_zero_loss(taken.core, taken.core_axis, taken.camera)
        bands = phonon_windows(
            taken.camera.electrons(taken.core),
            taken.core_axis.offset - peak.position_ev,
            taken.core_axis.step,
            fwhm_ev=peak.fwhm_ev,
        ).windows
        names = {_HEAVY: "phonons_10_50_mev", _LIGHT: "phonons_50_100_mev"}
        found = fit_interfaces(
            distance, {name: (bands[name].electrons, bands[name].sigma) for name in names}
        )
        true = _true_fits(distance, {name: taken.true(key) for name, key in names.items()})
        pairs = {name: (_widened(found[name].change), true[name].change) for name in names}
        pulls += [_pull(*pair) for pair in pairs.values()]
        sigmas += [found[name].change.sigma for name in names]
        told.append(_numbers(pairs))
        if len(told) == 1:
            _changes(bench, "vibrations at 60 mrad, 10 pA, 0.5 s", pairs)
    _judge(bench, "vibrations at the grain boundary", pulls, max(sigmas), told)


def _standards(at: Microscope, place: Point, seed: int, bench: Bench) -> _Standards:
    with microscope(seed + 1, specimen="srtio3") as other:
        other.tune(_TITANIUM)
        plain = other.take(_PUBLISHED, [(0.0, 0.0)], bench.count(200))
    middle = at.take(_PUBLISHED, [place], bench.count(200))
    ti4, mixed = (
        measured_reference(
            name,
            taken.camera.electrons(taken.core),
            _aligned(taken)[0],
            taken.core_axis.step,
            background_ev=_BACKGROUND_EV,
        )
        for name, taken in (("SrTiO3", plain), ("boundary", middle))
    )
    return _Standards(ti4, mixed, float(middle.true("ti3_fraction").mean()))


def _aligned(taken: Spectra) -> tuple[Array, Array]:
    """First energies of core losses with the zero loss at 0, by their low-loss reads and their neighbours', and σ."""
    if taken.low is None or taken.low_axis is None:
        raise HotstageError("the simulated spectra are not dual: nothing tells their shifts.")
    rows = taken.low.reshape(-1, taken.low.shape[-1])
    peak = find_zero_loss(rows, taken.low_axis, taken.camera)
    shape = taken.low.shape[:2]
    shifts = core_shifts(
        peak.position_ev.reshape(shape),
        peak.sigma_ev.reshape(shape),
        taken.read_spans_s,
        taken.core_spans_s,
        lag=None,
    )
    return np.asarray(taken.core_axis.offset - shifts.shift_ev), shifts.sigma_ev


def _true_fits(distance: Array, truths: Mapping[str, Array]) -> dict[str, InterfaceFit]:
    """The same fit of what was really met, which follows thickness and drift."""
    return fit_interfaces(
        distance,
        {n: (v, np.full(len(distance), 1e-3 * float(v.mean()))) for n, v in truths.items()},
    )


def _widened(value: Value) -> Value:
    return Value(value.value, math.hypot(value.sigma, SYSTEMATIC))


def _pull(found: Value, true: Value) -> float:
    return (found.value - true.value) / found.sigma


def _numbers(pairs: Mapping[str, tuple[Value, Value]]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name, (found, true) in pairs.items():
        told |= {name: found.value, f"{name} sigma": found.sigma, f"{name} true": true.value}
    return told


def _changes(bench: Bench, what: str, pairs: Mapping[str, tuple[Value, Value]]) -> None:
    """The first line scan in full; all of them are judged together."""
    for name, (found, true) in pairs.items():
        bench.add(
            _LINES,
            f"{what}: {name}",
            f"{100 * found.value:+.1f} ± {100 * found.sigma:.1f} %, {100 * true.value:+.1f} %, "
            f"{_pull(found, true):+.1f}",
            "",
            None,
        )


def _judge(
    bench: Bench,
    what: str,
    pulls: list[float],
    sigma: float | None,
    told: list[Mapping[str, float]],
) -> None:
    """Deviations of several line scans together: of twenty that are right, one lies beyond 2 σ."""
    inside = sum(abs(pull) <= 2 for pull in pulls)
    chi2 = float(np.square(pulls).sum())
    probable = float(stats.chi2.sf(chi2, len(pulls))) >= _BY_CHANCE
    text = f"{inside} of {len(pulls)} within 2 σ, χ² {chi2:.1f}"
    if sigma is not None:
        text += f", σ to {100 * sigma:.1f} %"
    bench.add(
        _LINES,
        f"{what}, {len(told)} scans",
        text,
        "within 2 σ but for chance" + (f", σ ≤ {100 * MOST_SIGMA:g} %" if sigma else ""),
        probable and (sigma is None or sigma <= MOST_SIGMA),
        pulls=pulls,
        chi2=chi2,
        scans=told,
    )


def _bias(errors: list[Array]) -> tuple[float, float]:
    """Mean over specimens, and how well it is known: by spectra and by specimens."""
    means = np.array([float(np.mean(error)) for error in errors])
    within = np.std(np.concatenate(errors)) / math.sqrt(sum(map(len, errors)))
    among = np.std(means, ddof=1) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return float(means.mean()), float(max(within, among))
