"""Much to draw: thousands of particles a frame, and the curves and notes of a day."""

from __future__ import annotations

import numpy as np

from acquire.engine.live import LiveView
from acquire.instruments import Frame, HolderReading, HolderState
from acquire.stream import Estimate, Value

DAY_S = 8 * 3600.0
ESTIMATES_EVERY_S = 2.0
NOTES = 5000
_WALK = 0.3
"""Radians of its circle that a particle goes from one frame to the next."""


def estimate_of(
    rng: np.random.Generator, frame: Frame, particles: int, field_nm: float
) -> Estimate:
    """Particles all over a field, each wandering about its own place, as large as leaves room for the next."""
    side = int(np.ceil(np.sqrt(particles)))
    pitch_nm = field_nm / side
    number = np.arange(particles)
    angle = number + _WALK * frame.index
    x = (number % side + 0.5 + 0.2 * np.sin(angle)) * pitch_nm
    y = (number // side + 0.5 + 0.2 * np.cos(angle)) * pitch_nm
    diameter = np.minimum(5.0, 0.6 * pitch_nm) * rng.lognormal(0.0, 0.15, particles)
    table = {
        "x_nm": x,
        "y_nm": y,
        "diameter_nm": diameter,
        "diameter_sigma_nm": np.full(particles, 0.1),
        "mask_diameter_nm": diameter,
        "id": number,
        "border": ((x < diameter / 2) | (y < diameter / 2)).astype(np.int64),
    }
    values = {
        "mean_diameter": Value(float(np.mean(diameter)), 0.1),
        "count": Value(float(particles), 1.0),
    }
    return Estimate("particles", frame.stream, frame.index, frame.t_end_s, values, (), table)


def put_day(live: LiveView, rng: np.random.Generator) -> None:
    """The curves of eight hours: temperature every second, sizes every two, and thousands of notes."""
    for t_s in np.arange(0.0, DAY_S, 1.0):
        set_celsius = 700 + 40 * np.sin(t_s / 900)
        live.put_reading(
            HolderReading(
                float(t_s),
                float(set_celsius + rng.normal()),
                float(set_celsius),
                700.0,
                12.0,
                900.0,
                HolderState.HOLDING,
            )
        )
    for t_s in np.arange(0.0, DAY_S, ESTIMATES_EVERY_S):
        values = {
            "mean_diameter": Value(5 + t_s / DAY_S + 0.1 * float(rng.normal()), 0.1),
            "count": Value(float(round(60 + 5 * rng.normal())), 2.0),
            "areal_density": Value(1e-3 * float(60 + rng.normal()), 1e-4),
            "coverage": Value(0.1 + 0.01 * float(rng.normal()), 0.01),
        }
        live.put_estimate(Estimate("particles", "overview", -1, float(t_s), values, (), {}))
    for number in range(NOTES):
        t_s = number * DAY_S / NOTES
        kind = "mark" if number % 50 == 0 else "action" if number % 10 == 0 else "correction"
        live.put_note(t_s, kind, f"note {number} of a long day, about as long as such lines are")
