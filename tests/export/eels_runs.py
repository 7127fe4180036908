"""Runs that hold a map and a line scan, every number of which tells where and when it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    ScalarSpec,
    StreamSpec,
)
from acquire.store import RunWriter
from acquire.stream import FrameContext, RunHeader, RunReport

ROWS, COLUMNS, PASSES, READS, CHANNELS = 3, 4, 2, 2, 200
LOST = (1, 2, 3)
"""Pass, row and column of the map's point that was never taken."""
CORE, LOW = Axis(400.0, 0.5, "eV"), Axis(-20.0, 0.5, "eV")
GAIN, READOUT = 5.0, 1.5
TUNED = (400.0, 400.4, 406.2)
"""Energies of the first channel of the spectra of the series."""
CORRECTION, SCALE = 1.25, 1.02


def core(point: int) -> NDArray[np.uint16]:
    """Counts of a point: its number shows in every channel, and an edge begins at 456 eV."""
    energy = CORE.offset + CORE.step * np.arange(CHANNELS)
    return np.rint(400.0 * (energy / 400.0) ** -3 + (100 + 10 * point) * (energy >= 456.0)).astype(
        np.uint16
    )


def low(point: int, read: int) -> NDArray[np.uint16]:
    """Counts of a read, with a zero-loss peak at 1 eV."""
    energy = LOW.offset + LOW.step * np.arange(CHANNELS)
    return np.rint(50 + point + read + 5000.0 * np.exp(-0.5 * np.square(energy - 1.0))).astype(
        np.uint16
    )


def write(path: Path) -> None:
    """A finished run: ``map`` in two passes, ``line`` of 5 points twice, ``series``, one ``spot``."""
    writer = RunWriter(path)
    camera = {
        "collection_semi_angle_mrad": 33.0,
        "gain_counts_per_electron": GAIN,
        "readout_noise_electrons": READOUT,
    }
    scan = {"beam_energy_kev": 300.0, "convergence_semi_angle_mrad": 23.0, "probe_current_pa": 50.0}
    writer.open(
        RunHeader(
            name="maps",
            recipe_yaml="hotstage: 1\nname: maps\n",
            station_toml="hotstage = 1\n",
            station="bench",
            instruments={
                "scan": Description("scan", "ARM", "simulated", details=scan),
                "spectrometer": Description("spectrometer", "GIF", "simulated", details=camera),
            },
            epoch_unix_s=1_700_000_000.0,
            clock_rate=1.0,
        )
    )
    of_core = ChannelSpec("uint16", (CHANNELS,), ("energy_loss",), {"energy_loss": CORE})
    of_low = ChannelSpec("uint16", (READS, CHANNELS), ("read", "energy_loss"), {"energy_loss": LOW})
    times = ChannelSpec("float64", (READS, 2), ("read", "edge"), {})
    dual = {"core_loss": of_core, "low_loss": of_low, "low_loss_time": times}
    numbers = {name: ScalarSpec("1", name) for name in ("map_row", "map_column", "map_pass")}
    writer.declare_frames("spectra", StreamSpec("map", dual, numbers))
    calibrated = {
        "core_loss_correction": ScalarSpec("eV", "c"),
        "dispersion_scale": ScalarSpec("1", "s"),
    }
    writer.declare_frames("spectra", StreamSpec("line", {"core_loss": of_core}, calibrated))
    tuned = {"energy_offset": ScalarSpec("eV", "o")}
    writer.declare_frames("spectra", StreamSpec("series", {"core_loss": of_core}, tuned))
    writer.declare_frames("spectra", StreamSpec("spot", {"core_loss": of_core}))

    def append(
        stream: str,
        index: int,
        data: dict[str, NDArray[np.generic]],
        scalars: dict[str, float],
        position: tuple[float, float],
    ) -> None:
        start = 2.0 * index
        frame = Frame(stream, index, data, start, start + 0.5, FrameMeta(scalars))
        writer.append_frame(frame, FrameContext(700.0, 700.0, 1e4, index, position))

    index = 0
    for number, row, column in np.ndindex(PASSES, ROWS, COLUMNS):
        if (number, row, column) == LOST:
            continue
        point = point_of(number, row, column)
        data: dict[str, NDArray[np.generic]] = {
            "core_loss": core(point),
            "low_loss": np.stack([low(point, read) for read in range(READS)]),
            "low_loss_time": np.array([[0.0, 0.001], [0.25, 0.251]]),
        }
        scalars = {"map_row": float(row), "map_column": float(column), "map_pass": float(number)}
        append("map", index, data, scalars, (10.0 + 2.0 * column, 30.0 + 3.0 * row))
        index += 1
    for number in range(10):
        moved = {"core_loss_correction": CORRECTION, "dispersion_scale": SCALE}
        at = (10.0 + 3.0 * (number % 5), 20.0 + 4.0 * (number % 5))
        append("line", number, {"core_loss": core(number)}, moved, at)
    for number, offset in enumerate(TUNED):
        append("series", number, {"core_loss": core(number)}, {"energy_offset": offset}, (5.0, 5.0))
    append("spot", 0, {"core_loss": core(7)}, {}, (1.0, 1.0))
    writer.close(RunReport("completed", "", 60.0, {}))


def point_of(number: int, row: int, column: int) -> int:
    """The number of a point of a pass, as :func:`core` takes it."""
    return int(np.ravel_multi_index((number, row, column), (PASSES, ROWS, COLUMNS)))
