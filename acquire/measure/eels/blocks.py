"""Sums of the spectra of a block: what is measured of a burst, whose single spectra hold hardly an electron."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from acquire.bursts import SpectrumBlock
from acquire.instruments import AnyArray
from acquire.measure.eels.camera import Camera

_MOST = int(np.iinfo(np.int32).max)


@dataclass(frozen=True, slots=True)
class SummedCamera:
    """What lies between electrons and counts of a sum of spectra."""

    camera: Camera
    """The readout noise of all of them together, and their dark counts."""
    full_scale_counts: float | None

    @classmethod
    def of(cls, camera: Camera, full_scale_counts: float | None, count: int) -> SummedCamera:
        """That of ``count`` spectra of a camera; of one it is the camera itself."""
        summed = replace(
            camera,
            readout_electrons=camera.readout_electrons * count**0.5,
            dark_counts=camera.dark_counts * count,
        )
        full = None if full_scale_counts is None else min(full_scale_counts * count, _MOST)
        return cls(summed, full)


def summed(block: SpectrumBlock, channel: str, full_scale_counts: float | None) -> AnyArray:
    """Counts of a channel, added up over the block; float64, or int32 for integers; shape of the channel.

    Nothing is aligned: within a block the axis moves by far less than the resolution. A channel that was
    full (``full_scale_counts``) in any spectrum is as full in the sum.
    """
    counts = block.data[channel]
    total = counts.sum(axis=0, dtype=np.int64 if counts.dtype.kind in "iu" else np.float64)
    if full_scale_counts is not None:
        full = (counts >= full_scale_counts).any(axis=0)
        total[full] = min(full_scale_counts * len(block), _MOST)
    if total.dtype.kind != "i":
        return np.asarray(total)
    return np.asarray(np.clip(total, -_MOST, _MOST).astype(np.int32))
