"""Readies everything that the first image of a specimen would wait for: compiled loops and the film's maps."""

from __future__ import annotations

import threading

import numpy as np

from simulators.imaging.frame import Imaging, expected_counts
from simulators.specimen import Domes, Specimen, View


class Preparation:
    """Compiles in a thread of its own, so that opening a simulation does not wait for it.

    That takes some ten seconds once on a machine and one second in later processes. The thread
    cannot be stopped, but holds nothing up: it ends with the process.
    """

    def __init__(self, specimen: Specimen, imaging: Imaging) -> None:
        self._done = threading.Event()
        self._specimen, self._imaging = specimen, imaging
        threading.Thread(target=self._prepare, name="prepare images", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Whether all is ready, after at most some seconds of waiting."""
        return self._done.wait(timeout_s)

    def _prepare(self) -> None:
        try:
            draw_once(self._specimen, self._imaging)
        finally:
            self._done.set()  # what went wrong here will be said by the first image


def draw_once(specimen: Specimen, imaging: Imaging) -> None:
    """Draw and count a tiny image with one particle; asks the specimen for nothing but its film."""
    from simulators.imaging.counting import count

    view = View((0.0, 0.0), (16, 16), 0.3)
    place = np.array([2.0])
    one = Domes(np.array([0]), place, place, place)
    readout = imaging.readout
    counts = np.empty(view.shape, readout.dtype_name)
    for mean in expected_counts(
        specimen, one, view, 100.0, imaging.detectors, imaging=imaging
    ).values():
        count(
            mean,
            np.uint64(0),
            0,
            readout.afterglow,
            readout.gain,
            readout.offset,
            float(readout.highest),
            counts,
        )
