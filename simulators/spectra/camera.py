"""The camera of the spectrometer: a CCD behind a scintillator, or a detector that counts electrons."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simulators.noise import generator

Array = NDArray[np.float64]

COUNTS_PER_ELECTRON = 5.3
READOUT_ELECTRONS = 1.4
GAIN_REFERENCE_NOISE = 0.0027
FULL_SCALE_COUNTS = 1_000_000.0


@dataclass(frozen=True, slots=True)
class SpectrumCamera:
    """What lies between electrons and counts."""

    kind: str
    counts_per_electron: float = 1.0
    readout_electrons: float = 0.0
    """Of a channel in a spectrum, all of its rows binned."""
    gain_noise: float = 0.0
    """Relative, of the gain reference: the same in every spectrum."""
    dark_noise_electrons: float = 0.0
    """Of the dark reference: the same in every spectrum."""
    spread: float = 0.0
    """Share of a channel that goes to either neighbour."""
    light: bool = False
    """Whether light spreads, so that the noise of neighbours correlates, or electrons, so that it does not."""
    full_scale_counts: float = FULL_SCALE_COUNTS


CAMERAS: Mapping[str, SpectrumCamera] = MappingProxyType(
    {
        # the dark reference is the mean of 100 exposures
        "ccd": SpectrumCamera(
            "ccd",
            COUNTS_PER_ELECTRON,
            READOUT_ELECTRONS,
            GAIN_REFERENCE_NOISE,
            READOUT_ELECTRONS / 10,
            spread=0.1,
            light=True,
        ),
        "counting": SpectrumCamera("counting", spread=0.1, full_scale_counts=2.0**24 - 1),
    }
)


class Detector:
    """One camera with its fixed patterns. Safe for use by several threads.

    Args:
        camera: what it is.
        seed: of patterns and noise; the same seed, stream and number give the same counts.
    """

    def __init__(self, camera: SpectrumCamera, seed: int) -> None:
        self.camera = camera
        self._seed = seed
        self._key = functools.lru_cache(maxsize=16)(self._make_key)
        self._patterns = functools.lru_cache(maxsize=4)(self._make_patterns)

    def counts(self, mean_electrons: Array, stream: str, first: int) -> NDArray[np.int32]:
        """Counts of spectra with numbers from ``first`` on; int32, as ``mean_electrons`` (n, channels)."""
        from simulators.spectra.sampling import count

        camera, mean = self.camera, np.ascontiguousarray(mean_electrons, np.float64)
        out = np.empty(mean.shape, np.int32)
        count(
            mean,
            self._key(stream),
            first,
            camera.spread,
            camera.light,
            *self._patterns(mean.shape[1]),
            camera.readout_electrons,
            camera.counts_per_electron,
            camera.full_scale_counts,
            out,
        )
        return out

    def _make_key(self, stream: str) -> np.uint64:
        rng = generator(self._seed, f"camera {stream}")
        return np.uint64(rng.integers(0, 2**64 - 1, dtype=np.uint64))

    def _make_patterns(self, channels: int) -> tuple[Array, Array]:
        rng = generator(self._seed, "camera patterns")
        gain, dark = rng.standard_normal((channels, 2)).T.copy()
        camera = self.camera
        return 1 + camera.gain_noise * gain, camera.dark_noise_electrons * dark


def make_ready() -> threading.Thread:
    """Compile what spectra go through, in a thread of its own: some seconds once on a machine."""
    thread = threading.Thread(target=_draw_once, name="prepare spectra", daemon=True)
    thread.start()
    return thread


def _draw_once() -> None:
    from simulators.spectra.sampling import channels

    mean = np.zeros((1, 8))
    channels(np.zeros(64), np.zeros(1), 4, 1.0, mean)
    Detector(CAMERAS["ccd"], 0).counts(mean, "ready", 0)
