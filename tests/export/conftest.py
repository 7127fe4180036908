"""Makes one run that holds everything an export can meet, each number following from its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
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
from acquire.stream import Estimate, FrameContext, Note, Quantity, Row, RunHeader, RunReport, Value
from acquire.stream.sink import FrameBlock

SHAPE = (24, 32)
KEPT = [0, 1, 2, 5, 6, 7]
"""Frames 3 and 4 are missing."""
SPECTRA = 230
CHANNELS = 64


@dataclass(frozen=True)
class Made:
    """A finished run and how to know what is in it."""

    path: Path

    def image(self, index: int) -> NDArray[np.uint16]:
        return image(index)

    def images(self) -> NDArray[np.uint16]:
        return np.stack([image(index) for index in KEPT])

    def spectra(self) -> NDArray[np.uint32]:
        return spectra(np.arange(SPECTRA))


def image(index: int) -> NDArray[np.uint16]:
    return np.random.default_rng(index).poisson(500, SHAPE).astype(np.uint16)


def spectra(numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
    return (numbers[:, None] * 70_000 + np.arange(CHANNELS)).astype(np.uint32)


def header() -> RunHeader:
    scan = {"beam_energy_kev": 200.0, "convergence_semi_angle_mrad": 25.0, "probe_current_pa": 50.0}
    return RunHeader(
        name="exsolution at 700 °C",
        recipe_yaml="hotstage: 1\nname: exsolution\n",
        station_toml="hotstage = 1\n",
        station="bench",
        instruments={
            "scan": Description("scan", "Titan", "simulated", details=scan),
            "spectrometer": Description(
                "spectrometer",
                "Quantum",
                "simulated",
                details={"collection_semi_angle_mrad": 33.0},
            ),
        },
        epoch_unix_s=1_700_000_000.0,
        clock_rate=1.0,
        specimen={"id": "LSNT-07", "support": "Si3N4 <50 nm> & chip"},
        versions={"hotstage": "0.1"},
    )


def open_writer(path: Path) -> RunWriter:
    writer = RunWriter(path)
    writer.open(header())
    axes = {"y": Axis(-6.0, 0.5, "nm"), "x": Axis(-4.0, 0.25, "nm")}
    channel = ChannelSpec("uint16", SHAPE, ("y", "x"), axes)
    writer.declare_frames(
        "images", StreamSpec("overview", {"haadf": channel}, {"drift_x": ScalarSpec("nm", "drift")})
    )
    energies = {
        name: ChannelSpec(
            "uint32", (CHANNELS,), ("energy_loss",), {"energy_loss": Axis(offset, 0.5, "eV")}
        )
        for name, offset in (("core_loss", 450.0), ("low_loss", -10.0))
    }
    writer.declare_frames("spectra", StreamSpec("line", energies, frame_period_s=0.01))
    writer.declare_rows("holder", {"measured": "°C", "state": "text", "fault": "text"})
    writer.declare_estimates(
        "particles", (Quantity("mean_diameter", "nm", "mean diameter"),), {"diameter": "nm"}
    )
    return writer


def record_image(writer: RunWriter, index: int) -> None:
    meta = FrameMeta({"drift_x": 0.1 * index})
    frame = Frame("overview", index, {"haadf": image(index)}, 2.0 * index, 2.0 * index + 1.5, meta)
    writer.append_frame(frame, FrameContext(700.0 + index, 701.0 + index, 1e4, 1000 + index))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("made") / "run"
    writer = open_writer(path)
    for index in KEPT:
        if index == 5:
            writer.gap("overview", 3, "the link, it was lost", 2, (5.5, 10.0))
        record_image(writer, index)
        flags = ("few particles", "dose") if index == 2 else ()
        table = {"diameter": np.arange(index) + 3.25}
        values = {"mean_diameter": Value(3.0 + index, 0.1)}
        when = 2.0 * index + 1.5
        writer.append_estimate(Estimate("particles", "overview", index, when, values, flags, table))
    for first in range(0, SPECTRA, 23):
        rows = np.arange(first, first + 23)
        data = {"core_loss": spectra(rows), "low_loss": spectra(rows) + np.uint32(1)}
        starts = 20.0 + 0.01 * rows
        context = {"position_x_nm": 0.5 * rows}
        writer.append_block(FrameBlock("line", first, data, starts, starts + 0.008, context))
    for number in range(9):
        fault = 'deviates by 5 °C, "much"' if number == 4 else ""
        state = "ramping" if number % 3 else "holding"
        values_of = {"measured": 20.0 + number, "state": state, "fault": fault}
        writer.append_row(Row("holder", 0.1 * number, values_of))
    writer.note(Note("mark", 1.0, "first particle"))
    writer.close(RunReport("completed", "", 30.0, {"overview": len(KEPT)}))
    return Made(path)
