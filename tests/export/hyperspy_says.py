"""Opens exported files in HyperSpy and eXSpy, and prints what these say of them, as JSON.

A program by itself, run by a Python that has HyperSpy; it needs nothing of hotstage.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import hyperspy.api as hs
import numpy as np


def said(path: str) -> dict[str, Any]:
    """Class, axes, metadata and numbers of one file."""
    signal = hs.load(path)
    eels = type(signal).__name__ == "EELSSpectrum"
    found: dict[str, Any] = {
        "class": type(signal).__name__,
        "module": type(signal).__module__.partition(".")[0],
        "title": signal.metadata.General.title,
        "navigation": [axis(a) for a in signal.axes_manager.navigation_axes],
        "signal": [axis(a) for a in signal.axes_manager.signal_axes],
        "shape": list(signal.data.shape),
        "first": np.nan_to_num(np.asarray(signal.data, float), nan=-1.0)
        .reshape(-1, signal.data.shape[-1])[:, 0]
        .tolist(),
    }
    microscope = signal.metadata.get_item("Acquisition_instrument.TEM")
    found["microscope"] = microscope.as_dictionary() if microscope is not None else {}
    noise = signal.metadata.get_item("Signal.Noise_properties.Variance_linear_model")
    found["noise"] = noise.as_dictionary() if noise is not None else {}
    if eels and "core_loss" in path and signal.axes_manager.navigation_dimension:
        # what a person does next: Ti-L above a power law, by energies
        net = signal.remove_background(
            signal_range=(405.0, 450.0),
            background_type="PowerLaw",
            fast=True,
            show_progressbar=False,
        )
        found["ti_l"] = np.nan_to_num(net.isig[458.0:478.0].sum(-1).data, nan=-1.0).ravel().tolist()
    if eels and "low_loss" in path:
        peaks = signal.estimate_zero_loss_peak_centre()
        found["zero_loss"] = np.asarray(peaks.data).ravel().tolist()
    return found


def axis(of: Any) -> dict[str, Any]:
    """One axis."""
    return {
        "name": str(of.name),
        "units": str(of.units),
        "size": int(of.size),
        "scale": float(of.scale),
        "offset": float(of.offset),
    }


def run(what: str) -> None:
    """Print what is said of the files of a list."""
    hs.set_log_level("ERROR")  # warnings would go to the same output
    sys.stdout.write(json.dumps({path: said(path) for path in json.loads(what)}, default=float))


if __name__ == "__main__":
    run(sys.argv[1])
