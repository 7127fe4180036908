"""Calibrates the energy axis within a run: what is measured goes along with every spectrum that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import numpy as np

from acquire.errors import MeasureError
from acquire.instruments import Axis, Frame, ScalarSpec, StreamSpec
from acquire.measure.eels.camera import Camera
from acquire.recipe import CalibrateEnergy, Recipe
from acquire.store import JournalEntry, Run

if TYPE_CHECKING:
    # scipy comes with it, for which a run that calibrates nothing does not wait
    from acquire.measure.eels.corrections import AxisCorrection

CORE, LOW, ENERGY = "core_loss", "low_loss", "energy_loss"
SCALARS: Mapping[str, ScalarSpec] = {
    "core_loss_correction": ScalarSpec(
        "eV", "calibration: to be added to the first channel's energy"
    ),
    "low_loss_correction": ScalarSpec("eV", "calibration: to be added to that of the low loss"),
    "dispersion_scale": ScalarSpec("1", "calibration: true over nominal energy per channel"),
}
"""Numbers of every spectrum of a run that calibrates; NaN where nothing is known for its dispersion."""
NOTE = "calibration"
"""Kind of the journal's notes that tell what was measured, or why it was refused."""
_SAME = 1e-6
_NOTHING = dict.fromkeys(SCALARS, math.nan)


class Calibrations:
    """What was measured of the energy axis in one run, by nominal dispersion: the newest counts.

    Args:
        recipe: of the run.
        earlier: what the segments before it have measured.
    """

    def __init__(
        self, recipe: Recipe, earlier: Sequence[tuple[float, AxisCorrection]] = ()
    ) -> None:
        self._expected = any(isinstance(s, CalibrateEnergy) for s in recipe.distinct_steps())
        if self._expected:
            import acquire.measure.eels.corrections  # noqa: F401 - the preflight waits for it, not the run
        self._found = list(earlier)

    @property
    def scalars(self) -> Mapping[str, ScalarSpec]:
        """What a stream of spectra that begins now is to hold; empty in a run without calibrations."""
        return SCALARS if self._expected or self._found else {}

    def hold(self, dispersion_ev: float, correction: AxisCorrection) -> None:
        """Use a correction from now on."""
        self._found.append((dispersion_ev, correction))

    def of(self, spec: StreamSpec) -> Mapping[str, float]:
        """The numbers of a spectrum of such a stream.

        A dispersion is that of a magnification of the spectrometer: what was measured of one says
        nothing of another. An offset is taken to be off alike wherever the range begins.
        """
        axis = _axis(spec, CORE)
        if axis is None:
            return _NOTHING
        for dispersion_ev, correction in reversed(self._found):
            if abs(axis.step / dispersion_ev - 1.0) < _SAME:
                return {
                    "core_loss_correction": correction.core_ev,
                    "low_loss_correction": correction.low_ev,
                    "dispersion_scale": correction.scale,
                }
        return _NOTHING


def inherited(runs: Sequence[Run]) -> tuple[tuple[float, AxisCorrection], ...]:
    """What the journals of segments tell of calibrations, in order, each with its dispersion."""
    entries = [entry for run in runs for entry in run.journal() if entry.kind == NOTE]
    return tuple(found for entry in entries if (found := _of_note(entry)) is not None)


def _of_note(entry: JournalEntry) -> tuple[float, AxisCorrection] | None:
    from acquire.measure.eels.corrections import AxisCorrection

    names = ("dispersion_ev", *(field.name for field in fields(AxisCorrection)))
    if not all(name in entry.details for name in names):
        return None  # one that was refused
    told = [entry.details[name] for name in names]
    dispersion_ev, *numbers = (math.nan if value is None else float(str(value)) for value in told)
    return dispersion_ev, AxisCorrection(*numbers)


def measured(
    step: CalibrateEnergy,
    frames: Sequence[Frame],
    spec: StreamSpec,
    details: Mapping[str, object],
) -> AxisCorrection:
    """What spectra of a calibration tell.

    Args:
        step: with its features.
        frames: as they were recorded.
        spec: of their stream.
        details: of the spectrometer, with what it knows of its camera.

    Raises:
        MeasureError: nothing that could be trusted.
    """
    from acquire.measure.eels.calibrate import Feature
    from acquire.measure.eels.corrections import measure_correction

    axis, low_axis = _axis(spec, CORE), _axis(spec, LOW)
    if axis is None or not frames:
        raise MeasureError("there are no spectra with an energy axis to calibrate by.")
    low = None if low_axis is None else np.stack([frame.data[LOW] for frame in frames])
    features = [Feature(f.energy, f.kind, f.search) for f in step.features]
    return measure_correction(
        np.stack([frame.data[CORE] for frame in frames]),
        axis,
        low,
        low_axis,
        features=(features[0], features[1]) if features else None,
        camera=_camera(details),
        within_ev=step.within,
    )


def told(correction: AxisCorrection, dispersion_ev: float) -> tuple[str, dict[str, object]]:
    """For the journal: by how much the spectrometer was off, in words and as numbers."""
    text = (
        f"energy axis at {dispersion_ev:g} eV per channel: it was {-correction.core_ev:+.3f} ± "
        f"{correction.core_sigma_ev:.3f} eV off"
    )
    if correction.scale_sigma > 0:
        text += (
            f" at its first channel, and its dispersion {100 * (1 / correction.scale - 1):+.3f} ± "
            f"{100 * correction.scale_sigma:.3f} %"
        )
    numbers = {
        name: value if math.isfinite(value) else None for name, value in asdict(correction).items()
    }
    return text, {"dispersion_ev": dispersion_ev, **numbers}


def _axis(spec: StreamSpec, channel: str) -> Axis | None:
    found = spec.channels.get(channel)
    axis = None if found is None else found.axes.get(ENERGY)
    return axis if isinstance(axis, Axis) and axis.unit == "eV" else None


def _camera(details: Mapping[str, object]) -> Camera:
    def number(name: str, otherwise: float) -> float:
        value = details.get(name)
        return float(value) if isinstance(value, int | float) else otherwise

    return Camera(
        number("gain_counts_per_electron", 1.0),
        number("readout_noise_electrons", 0.0),
        number("offset_counts", 0.0),
    )
