"""Rows of the EELS bench beside their statistical limits: zero loss, background, Ti3+ and thickness."""

from __future__ import annotations

import math

import numpy as np

from acquire.bench.eels_made import (
    EXPONENT,
    FIT_EV,
    PEAK,
    STEP_EV,
    TI_EV,
    Array,
    backgrounds,
    low_loss,
    poisson,
    titanium,
    titanium_pair,
    zero_losses,
)
from acquire.bench.particles_work import percent
from acquire.bench.work import Bench
from acquire.measure.eels import (
    Camera,
    background_limit,
    find_zero_loss,
    fit_power_law,
    zero_loss_limit,
)
from acquire.measure.eels.thickness import log_ratio
from acquire.measure.eels.valence import ti3_fraction, ti3_limit

ZERO_LOSS_RATIO, BACKGROUND_RATIO, TI3_RATIO = 1.05, 1.06, 1.1
BACKGROUND_BIAS, THICKNESS_ERROR = 0.01, 0.01
BIAS_FROM = 3.0
"""Electrons per channel from which the background's bias is judged."""
ELECTRONS = (1e2, 1e3, 1e4, 1e5, 1e6)
CHANNELS_EV = (0.1, 0.25, 0.5)
READOUTS = (0.0, 3.0)
EXPONENTS = (2.2, 3.0, 3.8)
"""Of backgrounds: what is usual."""
LEVELS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
PEAKS = (10.0, 100.0, 1000.0)
FRACTIONS = (0.05, 0.5)
DEPTHS = (0.2, 0.5, 1.0, 1.5)
_WITHIN = 0.95
_ZERO_LOSS = "zero loss: rmse over Cramér–Rao (missed if so beyond 2 standard errors)"
_BACKGROUND = "background under Ti-L: rmse over limit, bias"
_TI3 = "Ti3+, references known: rmse over limit, bias"
_THICKNESS = "t/λ: mean error, rmse, share within 0.01"


def zero_loss(bench: Bench) -> None:
    """Position of the zero-loss peak, its shape measured on the same spectra."""
    for step_ev in CHANNELS_EV:
        for readout in READOUTS:
            ratios, numbers, lost = [], [], 0
            for electrons in ELECTRONS:
                name = f"zero loss {step_ev} {readout} {electrons}"
                rng = np.random.default_rng(next(bench.seeds(name, 1)))
                count = bench.count(8000)
                counts, axis, position = zero_losses(rng, count, electrons, step_ev, readout)
                found = find_zero_loss(counts, axis, Camera(readout_electrons=readout))
                error = found.position_ev - position
                ratios.append(
                    _rms(error) / float(zero_loss_limit(electrons, step_ev, PEAK, readout))
                )
                numbers.append(count)
                lost += int(np.isnan(error).sum())
            bench.add(
                _ZERO_LOSS,
                f"{step_ev:g} eV per channel, readout {readout:g} e-; 1e2 to 1e6 e-",
                ", ".join(f"{ratio:.3f}" for ratio in ratios),
                f"≤ {ZERO_LOSS_RATIO:g}",
                all(map(_sharp, ratios, numbers, [ZERO_LOSS_RATIO] * len(ratios))),
                electrons=ELECTRONS,
                ratios=ratios,
                spectra=numbers,
                not_found=lost,
            )


def background(bench: Bench) -> None:
    """The power law extrapolated from 410–450 eV into 456–480 eV, exponent free, for three exponents."""
    for level in LEVELS:
        count = bench.count(5000)
        ratios, biases, uncertain = [], [], []
        for exponent in EXPONENTS:
            name = f"background {level} {exponent}"
            rng = np.random.default_rng(next(bench.seeds(name, 1)))
            counts, offset = backgrounds(rng, count, level, exponent)
            value, _ = fit_power_law(counts, offset, STEP_EV, *FIT_EV).integral(*TI_EV)
            truth, limit = background_limit(level, exponent, STEP_EV, FIT_EV, TI_EV)
            ratios.append(_rms(value - truth) / limit)
            biases.append(float(np.mean(value)) / truth - 1.0)
            uncertain.append(float(np.std(value)) / truth / math.sqrt(count))
        judged = level >= BIAS_FROM
        unbiased = all(
            abs(bias) - 2 * sigma <= BACKGROUND_BIAS
            for bias, sigma in zip(biases, uncertain, strict=True)
        )
        sharp = all(_sharp(ratio, count, BACKGROUND_RATIO) for ratio in ratios)
        bench.add(
            _BACKGROUND,
            f"{level:g} e- per channel, exponents {', '.join(f'{e:g}' for e in EXPONENTS)}",
            f"{', '.join(f'{ratio:.3f}' for ratio in ratios)}; "
            f"{', '.join(percent(bias) for bias in biases)} ± {100 * max(uncertain):.2f}",
            f"≤ {BACKGROUND_RATIO:g}" + (f", ± {100 * BACKGROUND_BIAS:g} %" if judged else ""),
            sharp and (unbiased or not judged),
            exponents=EXPONENTS,
            ratios=ratios,
            biases=biases,
            bias_sigmas=uncertain,
            spectra=count,
        )


def valence(bench: Bench) -> None:
    """Share of Ti3+ by two references that are those of the spectra, on a background."""
    pair = titanium_pair()
    for peak in PEAKS:
        for fraction in FRACTIONS:
            count = bench.count(3000)
            rng = np.random.default_rng(next(bench.seeds(f"ti3 {peak} {fraction}", 1)))
            counts, offset, amount, level = titanium(pair, rng, count, fraction, peak)
            error = ti3_fraction(counts, offset, STEP_EV, references=pair).fraction - fraction
            limit = ti3_limit(
                fraction, amount, STEP_EV, references=pair, background=(level, EXPONENT)
            )
            ratio, bias = _rms(error) / limit, float(np.nanmean(error))
            uncertain = float(np.nanstd(error)) / math.sqrt(count)
            bench.add(
                _TI3,
                f"{peak:g} e- in the peak, share {fraction:g}",
                f"{ratio:.3f} (σ {_rms(error):.4f}), {bias:+.4f} ± {uncertain:.4f}",
                f"≤ {TI3_RATIO:g}",
                _sharp(ratio, count, TI3_RATIO),
                ratio=ratio,
                limit=limit,
                bias=bias,
                bias_sigma=uncertain,
                spectra=count,
            )


def thickness(bench: Bench) -> None:
    """t/λ of single low-loss spectra of 1e6 electrons, of all orders of scattering."""
    for depth in DEPTHS:
        count = bench.count(200)
        rng = np.random.default_rng(next(bench.seeds(f"thickness {depth}", 1)))
        mean, energy = low_loss(depth)
        counts = poisson(rng, np.tile(1e6 * mean, (count, 1)), 1.4)
        offset = np.full(count, energy[0])
        found = log_ratio(counts, offset, STEP_EV, fwhm_ev=0.6, readout_variance=1.96)
        error = found.t_over_lambda - depth
        within = float(np.mean(np.abs(error) <= THICKNESS_ERROR))
        bench.add(
            _THICKNESS,
            f"t/λ = {depth:g}, 1e6 e-, readout 1.4 e-",
            f"{np.nanmean(error):+.4f}, {_rms(error):.4f}, {100 * within:.0f} %",
            f"± {THICKNESS_ERROR:g} in {100 * _WITHIN:.0f} %",
            within >= _WITHIN,
            mean_error=float(np.nanmean(error)),
            rmse=_rms(error),
            within=within,
            spectra=count,
        )


def _rms(error: Array) -> float:
    return float(np.sqrt(np.nanmean(np.square(error))))


def _sharp(ratio: float, count: int, goal: float) -> bool:
    """Whether a ratio of standard deviations is not above the goal by more than chance leaves open."""
    return ratio * (1.0 - 2.0 / math.sqrt(2 * count)) <= goal
