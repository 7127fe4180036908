"""How frames and estimates become the rows of Zarr groups: names, dimensions, coordinates."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from acquire.errors import StoreError
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.store.cf import cf_units
from acquire.store.columns import Cell, ColumnSpec, Kind
from acquire.store.groups import GrowingGroup
from acquire.store.layout import (
    ESTIMATES,
    IMAGES,
    PARTICLES,
    SPECTRA,
    ArrayLayout,
    check_name,
)
from acquire.stream.records import Estimate, Quantity
from acquire.stream.sink import FrameContext

logger = logging.getLogger(__name__)

_OME_UNITS = {"nm": "nanometer", "µm": "micrometer", "s": "second", "Å": "angstrom"}
_AXIS_NAMES = {
    "x": "distance along the scan lines, to the right",
    "y": "distance across the scan lines, downwards",
    "energy_loss": "energy loss, nominal",
    "energy_loss_low": "energy loss, nominal, of the low-loss range",
}

_FRAME_COLUMNS = (
    ColumnSpec("time", unit="s", long_name="start of the exposure, on the run's clock"),
    ColumnSpec("t_end", unit="s", long_name="end of the exposure, on the run's clock"),
    ColumnSpec(
        "temperature_before", unit="°C", long_name="last reading that began before the exposure"
    ),
    ColumnSpec(
        "temperature_after", unit="°C", long_name="first reading after the exposure had ended"
    ),
    ColumnSpec("dose", unit="e/nm²", long_name="electrons per area in this exposure"),
    ColumnSpec("dose_total", unit="e/nm²", long_name="electrons per area in this stream so far"),
    ColumnSpec("frame_index", Kind.COUNT, long_name="number of the frame in its stream"),
    ColumnSpec("source_index", Kind.COUNT, long_name="number that the instrument gave the frame"),
)
_POSITION_COLUMNS = (
    ColumnSpec("position_x", unit="nm", long_name="where the probe rested, to the right"),
    ColumnSpec("position_y", unit="nm", long_name="where the probe rested, downwards"),
)


class FrameStream:
    """The group of one stream of frames."""

    def __init__(self, root: Path, kind: str, spec: StreamSpec) -> None:
        if kind not in (IMAGES, SPECTRA):
            raise StoreError(f"frames are {IMAGES!r} or {SPECTRA!r}, not {kind!r}.")
        check_name(spec.name, "a stream")
        self.kind = kind
        self.spec = spec
        self.next_index = 0
        self._dose_total = 0.0
        self._gaps = 0
        self._span_s: tuple[float, float] = (np.nan, np.nan)
        """Start of the first and of the newest frame."""
        columns = _FRAME_COLUMNS + (_POSITION_COLUMNS if kind == SPECTRA else ())
        self._dims = stored_dims(spec)
        dims = {dim for of_channel in self._dims.values() for dim in of_channel}
        self._taken = {c.name for c in columns} | set(spec.channels) | dims
        columns += tuple(
            ColumnSpec(self._scalar(name), unit=scalar.unit, long_name=scalar.long_name)
            for name, scalar in spec.scalars.items()
        )
        for name in spec.channels:
            check_name(name, f"a channel of stream {spec.name!r}")
            if name in {c.name for c in columns} | dims:
                raise StoreError(
                    f"stream {spec.name!r} has a channel called {name!r}, which is the name of a "
                    "coordinate; rename the channel."
                )
        self._coordinates = [c.name for c in columns if c.name != "time"]
        self.group = GrowingGroup(root, f"{kind}/{spec.name}", "time", columns)
        self._declare_arrays()
        self.group.set_attributes(**self._attributes())

    def _scalar(self, name: str) -> str:
        """Column of a scalar: an instrument may call a number of its own as we call one of ours."""
        return f"reported_{name}" if name in self._taken else name

    def _declare_arrays(self) -> None:
        done: set[str] = set()
        for name, channel in self.spec.channels.items():
            for original, dim, size in zip(
                channel.dims, self._dims[name], channel.shape, strict=True
            ):
                axis = channel.axes.get(original)
                if axis is not None and not np.isfinite([axis.offset, axis.step]).all():
                    raise StoreError(
                        f"the axis {original!r} of {self.spec.name}.{name} starts at {axis.offset} "
                        f"with steps of {axis.step}: both must be finite. Calibrate the instrument."
                    )
                if dim not in done and original in channel.axes:
                    axis = channel.axes[original]
                    values = axis.offset + axis.step * np.arange(size, dtype=np.float64)
                    self.group.add_axis(dim, values, _axis_attributes(dim, axis))
                    done.add(dim)
            self.group.add_block(
                name,
                ArrayLayout(
                    np.dtype(channel.dtype),
                    ("time", *self._dims[name]),
                    inner_shape=channel.shape,
                    attributes={
                        "units": cf_units(channel.unit),
                        "long_name": channel.long_name or name.replace("_", " "),
                    },
                ),
            )

    def append(self, frame: Frame, context: FrameContext) -> None:
        """Write a frame's data and buffer its coordinates; raises StoreError."""
        for name, channel in self.spec.channels.items():
            data = frame.data.get(name)
            if data is None or data.shape != channel.shape or data.dtype != channel.dtype:
                found = "is missing" if data is None else f"is {data.dtype} {data.shape}"
                raise StoreError(
                    f"frame {frame.index} of {self.spec.name!r} does not fit what was declared: "
                    f"{name!r} {found}, declared is {channel.dtype} {channel.shape}."
                )
        if len(frame.data) > len(self.spec.channels):
            extra = ", ".join(sorted(set(frame.data) - set(self.spec.channels)))
            raise StoreError(
                f"frame {frame.index} of {self.spec.name!r} does not fit what was declared: it "
                f"holds {extra}, too, which would be lost. Declare every channel."
            )
        for name in self.spec.channels:
            self.group.write_block(name, frame.data[name])
        self._dose_total += 0.0 if np.isnan(context.dose_e_per_nm2) else context.dose_e_per_nm2
        first = frame.t_start_s if np.isnan(self._span_s[0]) else self._span_s[0]
        self._span_s = (first, frame.t_start_s)
        self.group.append(self._cells(frame, context), **self._attributes(1))
        self.next_index = frame.index + 1

    def _cells(self, frame: Frame, context: FrameContext) -> dict[str, Cell]:
        cells: dict[str, Cell] = {
            "time": frame.t_start_s,
            "t_end": frame.t_end_s,
            "temperature_before": context.temperature_before_celsius,
            "temperature_after": context.temperature_after_celsius,
            "dose": context.dose_e_per_nm2,
            "dose_total": self._dose_total,
            "frame_index": frame.index,
            "source_index": context.source_index,
        }
        if self.kind == SPECTRA:
            cells["position_x"], cells["position_y"] = context.position_nm
        for name, value in frame.meta.scalars.items():
            cells[self._scalar(name)] = value
        for name, (start, end) in frame.meta.spans.items():
            for column, what, value in (("start", "start", start), ("end", "end", end)):
                column = f"{name}_t_{column}"
                if column not in self._coordinates:
                    self._coordinates.append(column)
                    self.group.add_column(
                        ColumnSpec(
                            column,
                            unit="s",
                            long_name=f"{what} of the exposure of {name.replace('_', ' ')}, where "
                            "it is not that of the frame",
                        )
                    )
                cells[column] = value
        return cells

    def skip(self, index: int) -> None:
        """Say that frame ``index`` is missing; the frame index jumps, nothing is written for it."""
        self.next_index = max(self.next_index, index + 1)
        self._gaps += 1
        self.group.set_attributes(**self._attributes())

    def _attributes(self, coming: int = 0) -> dict[str, Any]:
        """The group's attributes when ``coming`` more rows are there."""
        attributes: dict[str, Any] = {
            # for xarray: these are coordinates, not data
            "coordinates": " ".join(self._coordinates),
            "missing_frames": self._gaps,
        }
        if self.kind == IMAGES:
            intervals = self.group.rows + coming - 1
            first, newest = self._span_s
            period = (newest - first) / intervals if intervals > 0 and newest > first else 1.0
            attributes["ome"] = ome_metadata(self.spec, period, 0.0 if np.isnan(first) else first)
        return attributes


def stored_dims(spec: StreamSpec) -> dict[str, tuple[str, ...]]:
    """Dimension names by channel, made different where channels of a stream differ in an axis."""
    taken: dict[str, tuple[int, Axis | None]] = {}
    found: dict[str, tuple[str, ...]] = {}
    # core loss and images first: they keep the plain names
    for name in sorted(spec.channels, key=lambda n: n.startswith("low_loss")):
        channel = spec.channels[name]
        dims: list[str] = []
        for dim, size in zip(channel.dims, channel.shape, strict=True):
            axis = channel.axes.get(dim)
            stored = f"{dim}_low" if name == "low_loss" and dim == "energy_loss" else dim
            if taken.setdefault(stored, (size, axis)) != (size, axis):
                stored = f"{dim}_{name}"
                taken[stored] = (size, axis)
            dims.append(stored)
        found[name] = tuple(dims)
    return found


def ome_metadata(spec: StreamSpec, period_s: float, start_s: float) -> dict[str, Any]:
    """OME-NGFF 0.5 multiscales: one single-level image per detector.

    The scale of time is the mean spacing of the frames; their exact times are the coordinate.
    """
    multiscales = []
    for name, channel in spec.channels.items():
        if channel.dims != ("y", "x"):
            continue
        axes = [_axis(channel, dim) for dim in channel.dims]
        multiscales.append(
            {
                "name": name,
                "axes": [
                    {"name": "time", "type": "time", "unit": "second"},
                    *(
                        {"name": dim, "type": "space", "unit": _OME_UNITS.get(axis.unit, axis.unit)}
                        for dim, axis in zip(channel.dims, axes, strict=True)
                    ),
                ],
                "datasets": [
                    {
                        "path": name,
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [period_s, *(a.step for a in axes)]},
                            {
                                "type": "translation",
                                "translation": [start_s, *(a.offset for a in axes)],
                            },
                        ],
                    }
                ],
            }
        )
    return {"version": "0.5", "multiscales": multiscales}


def _axis(channel: ChannelSpec, dim: str) -> Axis:
    return channel.axes.get(dim, Axis(0.0, 1.0, "nm"))


def _axis_attributes(dim: str, axis: Axis) -> dict[str, str]:
    return {"units": cf_units(axis.unit), "long_name": _AXIS_NAMES.get(dim, dim.replace("_", " "))}


class EstimateStream:
    """The groups of one estimator: its quantities over time, and its table of particles."""

    def __init__(
        self,
        root: Path,
        name: str,
        quantities: tuple[Quantity, ...],
        columns: Mapping[str, str],
    ) -> None:
        check_name(name, "an estimator")
        specs = [
            ColumnSpec("time", unit="s", long_name="end of the exposure of the frame"),
            ColumnSpec("frame_index", Kind.COUNT, long_name="number of the frame in its stream"),
            ColumnSpec("flags", Kind.FLAGS, long_name="reasons to distrust the estimate"),
        ]
        for quantity in quantities:
            specs += [
                ColumnSpec(quantity.name, unit=quantity.unit, long_name=quantity.long_name),
                ColumnSpec(
                    f"{quantity.name}_sigma",
                    unit=quantity.unit,
                    long_name=f"standard uncertainty of {quantity.long_name}",
                ),
            ]
        coordinates = {"coordinates": "frame_index"}
        self.name = name
        self.estimates = GrowingGroup(root, f"{ESTIMATES}/{name}", "time", specs, coordinates)
        self.particles: GrowingGroup | None = None
        if columns:
            specs = [
                ColumnSpec(
                    "frame_index", Kind.COUNT, long_name="number of the frame in its stream"
                ),
                ColumnSpec("time", unit="s", long_name="end of the exposure of the frame"),
                *(ColumnSpec(c, unit=u, long_name=c.replace("_", " ")) for c, u in columns.items()),
            ]
            coordinates = {"coordinates": "frame_index time"}
            self.particles = GrowingGroup(root, f"{PARTICLES}/{name}", "row", specs, coordinates)

    @property
    def groups(self) -> tuple[GrowingGroup, ...]:
        """What there is to publish."""
        return (self.estimates,) if self.particles is None else (self.estimates, self.particles)

    def append(self, estimate: Estimate) -> None:
        """Buffer an estimate and its table; raises StoreError for a table that is not one."""
        self._append_table(estimate)
        cells: dict[str, Cell] = {
            "time": estimate.t_s,
            "frame_index": estimate.frame_index,
            "flags": estimate.flags,
        }
        for name, value in estimate.values.items():
            cells[name] = value.value
            cells[f"{name}_sigma"] = value.sigma
        self.estimates.append(cells, stream=estimate.stream)

    def _append_table(self, estimate: Estimate) -> None:
        if not estimate.table:
            return
        lengths = {name: np.shape(column) for name, column in estimate.table.items()}
        shapes = set(lengths.values())
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise StoreError(
                f"the table of estimator {self.name!r} for frame {estimate.frame_index} is not one: "
                f"its columns have the shapes {lengths}; all must be 1-D and equally long."
            )
        if self.particles is None:
            raise StoreError(
                f"estimator {self.name!r} gives a table but declared no columns of one."
            )
        rows = next(iter(shapes))[0]
        self.particles.extend(
            {
                **{name: np.asarray(column) for name, column in estimate.table.items()},
                "frame_index": np.full(rows, estimate.frame_index),
                "time": np.full(rows, estimate.t_s),
            },
            rows,
        )
