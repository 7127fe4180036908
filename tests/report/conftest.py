"""Writes a run that looks like an experiment, all or part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    StreamSpec,
)
from acquire.store import RunWriter
from acquire.stream import (
    Estimate,
    FrameContext,
    Note,
    Quantity,
    Row,
    RunHeader,
    RunReport,
    Value,
)

SIDE = 256
FIELD_NM = 120.0
FRAMES = 40
PERIOD_S = 6.0
STEPS = (
    ("ramp to 700 °C at 20 °C/s", 0.0, 34.0, "reached"),
    ("hold for 5 min until mean_diameter >= 3.83 nm", 34.0, 190.0, "condition met"),
    ("line scan at 40 points", 190.0, 212.0, "done"),
    ("ramp to 25 °C at 50 °C/s", 212.0, 240.0, "reached"),
)
CALLED = "Ni exsolution, first look"


def temperature(t_s: float) -> float:
    return float(np.interp(t_s, [0, 34, 212, 225.5, 240], [25, 700, 700, 25, 25]))


def write_experiment(
    path: Path,
    *,
    parts: frozenset[str] = frozenset({"holder", "images", "estimates", "spectra"}),
    outcome: str = "completed",
    cause: str = "",
    frames: int = FRAMES,
) -> Path:
    """Write a run; ``outcome`` of "" leaves it as a killed process would."""
    rng = np.random.default_rng(7)
    writer = RunWriter(path)
    camera = {
        "gain_counts_per_electron": 2.0,
        "readout_noise_electrons": 1.0,
        "offset_counts": 10.0,
    }
    writer.open(
        RunHeader(
            name=CALLED,
            recipe_yaml="hotstage: 1\n",
            station_toml="hotstage = 1\n",
            station="simulated",
            instruments={
                "holder": Description("holder", "chip", "simulated", simulated=True),
                "spectrometer": Description("spectrometer", "s", "simulated", details=camera),
            },
            epoch_unix_s=1.79e9,
            clock_rate=10.0,
            specimen={"id": "LSNT-07", "description": "60 nm film on a heating chip"},
        )
    )
    for number, (text, start, end, result) in enumerate(STEPS, 1):
        if start <= frames * PERIOD_S:
            writer.note(Note("action", start, f"begin step {number}: {text}"))
            if end <= frames * PERIOD_S:
                writer.note(Note("action", end, f"end step {number}: {result}"))
    writer.note(Note("mark", 100.0, "first particles on the boundary"))
    if "holder" in parts:
        write_holder(writer, rng, frames * PERIOD_S)
    if "images" in parts:
        write_images(writer, rng, frames, estimates="estimates" in parts)
    if "spectra" in parts:
        write_line_scan(writer, rng)
    if outcome:
        steps = tuple(
            {"index": n, "text": text, "t_start_s": start, "t_end_s": end, "outcome": result}
            for n, (text, start, end, result) in enumerate(STEPS)
        )
        writer.close(RunReport(outcome, cause, 240.0, {"overview": frames}, steps, 8.1e6))
    else:
        writer.publish()
        abandon(writer)
    return path


def abandon(writer: RunWriter) -> None:
    """Stop the writer's threads and files without the end that a close writes."""
    writer._upkeep.stop()
    assert writer._pool is not None
    writer._pool.close()
    writer._publisher.close()
    assert writer._journal is not None
    assert writer._checksums is not None
    writer._journal.close()
    writer._checksums.close()


def write_holder(writer: RunWriter, rng: np.random.Generator, until_s: float) -> None:
    units = {"measured": "°C", "setpoint": "°C", "state": "text", "fault": "text"}
    writer.declare_rows("holder", units)
    for t_s in np.arange(0, until_s, 0.5):
        celsius = temperature(t_s)
        state = "holding" if 34 < t_s < 212 else "ramping"
        measured = celsius + rng.normal(0, 0.4)
        values = {"measured": measured, "setpoint": celsius, "state": state, "fault": ""}
        writer.append_row(Row("holder", float(t_s), values))


def write_images(
    writer: RunWriter, rng: np.random.Generator, frames: int, *, estimates: bool
) -> None:
    pixel = FIELD_NM / SIDE
    axis = Axis(-FIELD_NM / 2 + pixel / 2, pixel, "nm")
    channel = ChannelSpec("uint16", (SIDE, SIDE), ("y", "x"), {"y": axis, "x": axis})
    spec = StreamSpec("overview", {"abf": channel, "haadf": channel})
    writer.declare_frames("images", spec)
    if estimates:
        quantities = (
            Quantity("mean_diameter", "nm", "mean equivalent spherical diameter"),
            Quantity("count", "1", "particles in view"),
            Quantity("areal_density", "1/µm²", "particles per area"),
        )
        columns = {"x_nm": "nm", "y_nm": "nm", "diameter_nm": "nm"}
        writer.declare_estimates("particles", quantities, columns)
    places = rng.uniform(6, FIELD_NM - 6, (30, 2))
    born = rng.uniform(30, 120, 30)
    y, x = (np.arange(SIDE) + 0.5)[:, None] * pixel, (np.arange(SIDE) + 0.5)[None, :] * pixel
    for index in range(frames):
        start = index * PERIOD_S
        alive = born < start
        diameters = 9.0 * (np.clip(start - born[alive], 0, None) / 200) ** (1 / 3)
        signal = 150 + 0.3 * x + 0.1 * y
        for (cx, cy), diameter in zip(places[alive], diameters, strict=True):
            r2 = ((x - cx) ** 2 + (y - cy) ** 2) / (diameter / 2 + 1e-9) ** 2
            signal = signal + 25 * diameter * np.sqrt(np.clip(1 - r2, 0, None))
        counts = rng.poisson(signal).astype(np.uint16)
        frame = Frame(
            "overview", index, {"abf": 400 - counts // 2, "haadf": counts}, start, start + 1.5
        )
        celsius = temperature(start)
        writer.append_frame(frame, FrameContext(celsius, temperature(start + 1.5), 2e5, index))
        if estimates:
            n = int(alive.sum())
            mean = float(diameters.mean()) if n else float("nan")
            table = {
                "x_nm": places[alive, 0],
                "y_nm": places[alive, 1],
                "diameter_nm": diameters,
            }
            values = {
                "mean_diameter": Value(mean, 0.25 / np.sqrt(max(n, 1)) + 0.02),
                "count": Value(n, 0.5),
                "areal_density": Value(n / 0.0144, np.sqrt(n) / 0.0144),
            }
            flags = () if n >= 5 else ("few_particles",)
            end_s = start + 1.5
            writer.append_estimate(
                Estimate("particles", "overview", index, end_s, values, flags, table)
            )


def write_line_scan(writer: RunWriter, rng: np.random.Generator, points: int = 40) -> None:
    core_axis, low_axis = Axis(400.0, 0.1, "eV"), Axis(-20.0, 0.1, "eV")
    spec = StreamSpec(
        "line",
        {
            "core_loss": ChannelSpec(
                "int32", (2048,), ("energy_loss",), {"energy_loss": core_axis}
            ),
            "low_loss": ChannelSpec("int32", (1024,), ("energy_loss",), {"energy_loss": low_axis}),
        },
    )
    writer.declare_frames("spectra", spec)
    energy = 400 + 0.1 * np.arange(2048)
    low_energy = -20 + 0.1 * np.arange(1024)
    zero_loss = 5000 * np.exp(-0.5 * (low_energy / 0.25) ** 2) + 0.5
    for index in range(points):
        oxygen = 1 - 0.3 * np.exp(-0.5 * ((index - 20) / 4) ** 2)
        electrons = 120 * (energy / 400) ** -3.0
        electrons = electrons + 40 * np.exp(-0.5 * ((energy - 458) / 1.5) ** 2)
        electrons = electrons + 30 * np.exp(-0.5 * ((energy - 464) / 1.5) ** 2)
        electrons = electrons + 25 * oxygen / (1 + np.exp(-(energy - 533) / 0.8))
        data: dict[str, Any] = {
            name: np.round(2.0 * (rng.poisson(e) + rng.normal(0, 1, len(e))) + 10).astype(np.int32)
            for name, e in (("core_loss", electrons), ("low_loss", zero_loss))
        }
        start = 190.0 + 0.5 * index
        frame = Frame("line", index, data, start, start + 0.5, FrameMeta())
        writer.append_frame(
            frame, FrameContext(700.0, 700.0, 1e5, index, (10.0 + 1.25 * index, 60.0))
        )


@pytest.fixture(scope="session")
def experiment() -> Callable[..., Path]:
    return write_experiment
