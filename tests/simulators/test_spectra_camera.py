"""Cameras of the spectrometer: noise, patterns, spread, saturation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from simulators.spectra import CAMERAS, COUNTS_PER_ELECTRON, READOUT_ELECTRONS, Detector

CCD, COUNTING = CAMERAS["ccd"], CAMERAS["counting"]
SHARP = replace(CCD, spread=0.0)


@pytest.mark.parametrize("mean", [0.0, 20.0, 500.0])
def test_a_ccd_has_poisson_readout_and_gain_noise(mean: float) -> None:
    counts = Detector(SHARP, 1).counts(np.full((200, 1000), mean), "core", 0)
    assert counts.dtype == np.int32
    electrons = counts / COUNTS_PER_ELECTRON
    assert electrons.mean() == pytest.approx(mean, abs=0.02 + 4 * math.sqrt((mean + 2) / 2e5))
    expected = mean + READOUT_ELECTRONS**2 * 1.01 + (0.0027 * mean) ** 2
    assert electrons.var() == pytest.approx(expected, rel=0.02)


def test_the_patterns_of_gain_and_dark_reference_are_the_same_in_every_spectrum() -> None:
    detector = Detector(SHARP, 1)
    first, second = (
        detector.counts(np.full((300, 500), 3e4), "core", k).mean(axis=0) for k in (0, 5000)
    )
    assert np.std(first / first.mean()) == pytest.approx(0.0027, rel=0.15)
    assert np.corrcoef(first, second)[0, 1] > 0.95
    dark = detector.counts(np.zeros((3000, 500)), "core", 0).mean(axis=0) / COUNTS_PER_ELECTRON
    assert np.std(dark) == pytest.approx(0.14, rel=0.15)
    other = Detector(SHARP, 2).counts(np.full((300, 500), 3e4), "core", 0).mean(axis=0)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.3


def test_light_of_a_ccd_spreads_and_its_noise_correlates() -> None:
    line = np.zeros((400, 41))
    line[:, 20] = 1e5
    seen = Detector(CCD, 1).counts(line, "core", 0).mean(axis=0) / COUNTS_PER_ELECTRON
    assert seen[19:22] / 1e5 == pytest.approx([0.1, 0.8, 0.1], abs=0.01)
    flat = Detector(CCD, 1).counts(np.full((400, 400), 1e4), "core", 0) / COUNTS_PER_ELECTRON
    noise = flat - flat.mean(axis=0)
    s = CCD.spread
    kernel = (1 - 2 * s) ** 2 + 2 * s**2
    assert noise.var() == pytest.approx(1e4 * kernel + 2, rel=0.02)
    neighbours = float((noise[:, 1:] * noise[:, :-1]).mean())
    assert neighbours == pytest.approx(1e4 * 2 * s * (1 - 2 * s), rel=0.05)
    # a wide window holds what was detected, with its own noise only
    assert flat[:, 50:350].sum(axis=1).var() == pytest.approx(300 * 1e4, rel=0.3)


def test_a_counting_detector_counts_whole_electrons_without_noise_of_its_own() -> None:
    detector = Detector(COUNTING, 1)
    for mean in (0.0, 0.3, 12.0, 4000.0):
        counts = detector.counts(np.full((200, 500), mean), "core", 0)
        assert counts.mean() == pytest.approx(mean, abs=1e-9 + 4 * math.sqrt(mean / 1e5))
        assert counts.var() == pytest.approx(mean, rel=0.02)
        noise = counts - mean
        if mean:
            # electrons spread, not their light
            assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 0.02 * mean
    line = np.zeros((400, 41))
    line[:, 20] = 1e4
    assert detector.counts(line, "core", 0).mean(axis=0)[19:22] / 1e4 == pytest.approx(
        [0.1, 0.8, 0.1], abs=0.01
    )


@pytest.mark.parametrize("camera", [CCD, COUNTING])
def test_a_channel_saturates_at_full_scale(camera: object) -> None:
    assert camera in (CCD, COUNTING)
    kind = CCD if camera is CCD else COUNTING
    counts = Detector(kind, 1).counts(np.full((3, 40), 1e9), "low", 0)
    assert (counts == kind.full_scale_counts).all()


def test_noise_depends_on_seed_stream_and_number_alone() -> None:
    mean = np.linspace(0, 50, 300)[None].repeat(8, axis=0)
    detector = Detector(CCD, 7)
    together = detector.counts(mean, "core", 100)
    alone = np.concatenate([detector.counts(mean[:1], "core", 100 + k) for k in range(8)])
    assert np.array_equal(together, alone)
    assert not np.array_equal(together, detector.counts(mean, "low", 100))
    assert not np.array_equal(together, detector.counts(mean, "core", 101))
    assert not np.array_equal(together, Detector(CCD, 8).counts(mean, "core", 100))
    assert len(np.unique(together, axis=0)) == 8
