"""A small map whose spectra follow from their number, for tests of what reads maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from acquire.instruments import Axis, ChannelSpec, Frame, FrameMeta, ScalarSpec, StreamSpec
from acquire.store import RunWriter
from acquire.stream import FrameContext, Note, Quantity

PASSES, ROWS, COLUMNS, CHANNELS = 3, 2, 4, 64
POINTS = PASSES * ROWS * COLUMNS
AXIS = Axis(-10.0, 0.5, "eV")
NAMES = ("map_pass", "map_row", "map_column")
OFFSETS = {f"field_offset_{name}": ScalarSpec("nm", "") for name in ("x", "y", "known")}


def moved(number: int) -> int:
    """Channels by which the zero loss of a spectrum lies higher than at first."""
    return (0, 2, -1)[number // (ROWS * COLUMNS)]


def map_frame(number: int) -> Frame:
    low = np.round(5000 * np.exp(-((AXIS.step * (np.arange(CHANNELS) - 20 - moved(number))) ** 2)))
    core = np.zeros(CHANNELS, np.int32)
    core[30 + moved(number)] = 100 + number
    place = np.unravel_index(number, (PASSES, ROWS, COLUMNS))
    scalars = dict(zip(NAMES, map(float, place), strict=True))
    scalars |= {"field_offset_x": 0.5 * place[0], "field_offset_y": 0.0}
    scalars["field_offset_known"] = float(number != 9)
    data = {"core_loss": core, "low_loss": low.astype(np.int32)}
    return Frame("map", number, data, float(number), number + 0.5, FrameMeta(scalars))


def open_map(maker: Any, path: Path, *, told: bool = True, first_ev: float = 400.0) -> RunWriter:
    writer = RunWriter(path)
    writer.open(maker.header)
    channel = ChannelSpec("int32", (CHANNELS,), ("energy_loss",), {"energy_loss": AXIS})
    channels = {"core_loss": replace(channel, axes={"energy_loss": Axis(first_ev, 0.5, "eV")})}
    scalars = {**{name: ScalarSpec("1", "") for name in NAMES}, **OFFSETS}
    writer.declare_frames("spectra", StreamSpec("map", {**channels, "low_loss": channel}, scalars))
    writer.declare_estimates("eels", (Quantity("ti3_fraction", "1", "Ti3+"),), {})
    if told:
        details = {"stream": "map", "passes": PASSES, "rows": ROWS, "columns": COLUMNS}
        details |= {
            "first_x_nm": 10.0,
            "first_y_nm": 20.0,
            "spacing_x_nm": 2.0,
            "spacing_y_nm": 3.0,
        }
        writer.note(Note("map", 0.0, "map: 2 × 4", details))
    return writer


def write_map(writer: RunWriter, numbers: Any, taken: int = 0) -> None:
    """Write spectra; ``taken``: so many are in the stream already, of the map taken before."""
    for at, number in enumerate(numbers, taken):
        _, row, column = np.unravel_index(number, (PASSES, ROWS, COLUMNS))
        place = 10.0 + 2.0 * column, 20.0 + 3.0 * row
        frame = map_frame(number)
        if taken:
            frame = replace(frame, index=at, t_start_s=float(at), t_end_s=at + 0.5)
        writer.append_frame(frame, FrameContext(25.0, 25.0, 1.0, number, place))


def core_of(numbers: Any) -> np.ndarray:
    return np.stack([map_frame(number).data["core_loss"] for number in numbers])
