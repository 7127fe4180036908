"""Makes small runs for the tests of the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from acquire.instruments import (
    Axis,
    ChannelSpec,
    Description,
    Frame,
    FrameMeta,
    Limit,
    ScalarSpec,
    StreamSpec,
)
from acquire.store import RunWriter
from acquire.stream import (
    Estimate,
    FrameContext,
    Quantity,
    Row,
    RunHeader,
    RunReport,
    Value,
)

SIDE = 32


@dataclass
class Maker:
    """Records whose contents follow from their number."""

    header: RunHeader
    images: StreamSpec
    spectra: StreamSpec
    quantities: tuple[Quantity, ...]
    columns: dict[str, str]

    def open(self, path: Path) -> RunWriter:
        writer = RunWriter(path)
        writer.open(self.header)
        writer.declare_frames("images", self.images)
        writer.declare_frames("spectra", self.spectra)
        writer.declare_rows(
            "holder", {"measured": "°C", "setpoint": "°C", "state": "text", "fault": "text"}
        )
        writer.declare_estimates("particles", self.quantities, self.columns)
        return writer

    def image(self, index: int) -> Frame:
        ramp = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)
        data = {"haadf": ramp + np.uint16(index + 1), "abf": ramp[::-1] + np.uint16(index + 2)}
        meta = FrameMeta({"drift_x": 0.1 * index})
        return Frame("overview", index, data, float(index), index + 0.5, meta)

    def spectrum(self, index: int) -> Frame:
        data = {
            "core_loss": np.full(64, index + 1, np.uint32),
            "low_loss": np.full(64, index + 2, np.uint32),
        }
        start = 100.0 + index
        meta = FrameMeta(spans={"low_loss": (start, start + 0.01)})
        return Frame("line", index, data, start, start + 0.5, meta)

    def context(self, index: int) -> FrameContext:
        return FrameContext(700.0 + index, 701.0 + index, 1e4, 1000 + index, (2.0 * index, 5.0))

    def row(self, number: int) -> Row:
        state = "ramping" if number % 3 else "holding"
        fault = "" if number % 5 else f"deviates by {number} °C"
        values = {"measured": 20.0 + number, "setpoint": 21.0, "state": state, "fault": fault}
        return Row("holder", 0.1 * number, values)

    def estimate(self, index: int, particles: int) -> Estimate:
        flags = ("few_particles",) if particles < 3 else ()
        table = {"x_nm": np.arange(particles, dtype=float), "diameter_nm": np.full(particles, 3.0)}
        values = {"mean_diameter": Value(3.0 + index, 0.1)}
        return Estimate("particles", "overview", index, index + 0.5, values, flags, table)

    def report(self) -> RunReport:
        steps = ({"index": 0, "text": "ramp", "t_start_s": 0.0, "t_end_s": 9.0, "outcome": "done"},)
        return RunReport("completed", "", 9.0, {"overview": 3}, steps, 3e4)


@pytest.fixture(scope="session")
def maker() -> Maker:
    return make_maker()


def make_maker() -> Maker:
    pixel = Axis(-2.0, 0.25, "nm")
    image = ChannelSpec("uint16", (SIDE, SIDE), ("y", "x"), {"y": pixel, "x": pixel})
    limits = (Limit("temperature", 20.0, float("inf"), "°C", "driver"),)
    return Maker(
        header=RunHeader(
            name="first look",
            recipe_yaml="hotstage: 1\nname: first look\n",
            station_toml="hotstage = 1\n",
            station="bench",
            instruments={"holder": Description("holder", "chip", "simulated", limits=limits)},
            epoch_unix_s=1.7e9,
            clock_rate=float("inf"),
            specimen={"id": "LSNT-07"},
            simulation={"seed": 1},
            versions={"hotstage": "0"},
        ),
        images=StreamSpec(
            "overview", {"haadf": image, "abf": image}, {"drift_x": ScalarSpec("nm", "drift")}
        ),
        spectra=StreamSpec(
            "line",
            {
                name: ChannelSpec(
                    "uint32", (64,), ("energy_loss",), {"energy_loss": Axis(offset, 0.5, "eV")}
                )
                for name, offset in (("core_loss", 450.0), ("low_loss", -10.0))
            },
        ),
        quantities=(Quantity("mean_diameter", "nm", "mean diameter"),),
        columns={"x_nm": "nm", "diameter_nm": "nm"},
    )


@pytest.fixture
def small_run(maker: Maker, tmp_path: Path) -> Path:
    """A closed run of 5 images with frame 2 missing, 3 spectra, 7 readings, 5 estimates."""
    return make_small_run(maker, tmp_path / "run")


def make_small_run(maker: Maker, path: Path) -> Path:
    writer = maker.open(path)
    for index in (0, 1, 3, 4, 5):
        if index == 3:
            writer.gap("overview", 2, "the link was lost")
        writer.append_frame(maker.image(index), maker.context(index))
        writer.append_estimate(maker.estimate(index, particles=index))
    for index in range(3):
        writer.append_frame(maker.spectrum(index), maker.context(index))
    for number in range(7):
        writer.append_row(maker.row(number))
    writer.close(maker.report())
    return path
