"""How frames become the rows of a Zarr group: names, dimensions, coordinates."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from acquire.errors import StoreError
from acquire.instruments import AnyArray, Frame, FrameMeta, StreamSpec
from acquire.store.axes import axis_attributes, ome_metadata, stored_dims
from acquire.store.cf import cf_units
from acquire.store.columns import ColumnSpec, Kind
from acquire.store.groups import GrowingGroup
from acquire.store.layout import (
    COLUMN_CHUNK_ROWS,
    FAST_COLUMN_CHUNK_ROWS,
    FAST_PER_S,
    FULL,
    IMAGES,
    SPECTRA,
    ArrayLayout,
    check_distinct,
    check_name,
)
from acquire.store.pool import WritePool
from acquire.store.shards import ShardedArray
from acquire.stream.sink import FrameBlock, FrameContext

logger = logging.getLogger(__name__)

_CONTEXT_COLUMNS = {
    "temperature_before_celsius": "temperature_before",
    "temperature_after_celsius": "temperature_after",
    "dose_e_per_nm2": "dose",
    "position_x_nm": "position_x",
    "position_y_nm": "position_y",
}
_Row = tuple[int, float, float, FrameContext, FrameMeta]
"""Index, start, end, and what else is known of a frame."""

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
    """The group of one stream of frames: blocks go to the disk, coordinates wait for the publisher."""

    def __init__(
        self, root: Path, kind: str, spec: StreamSpec, pool: WritePool, codec: str = "lz4"
    ) -> None:
        if kind not in (IMAGES, SPECTRA):
            raise StoreError(f"frames are {IMAGES!r} or {SPECTRA!r}, not {kind!r}.")
        check_name(spec.name, "a stream")
        self.kind = kind
        self.spec = spec
        self.next_index = 0
        self._pending: deque[_Row | FrameBlock] = deque()
        self._dose_total = 0.0
        self._gaps = 0
        self._first_s = self._newest_s = np.nan
        self._rows = 0
        columns = _FRAME_COLUMNS + (_POSITION_COLUMNS if kind == SPECTRA else ())
        self._dims = stored_dims(spec)
        dims = {dim for of_channel in self._dims.values() for dim in of_channel}
        taken = {c.name for c in columns} | set(spec.channels) | dims
        self._taken = {name.casefold() for name in taken}
        columns += tuple(
            ColumnSpec(self._scalar(name), unit=scalar.unit, long_name=scalar.long_name)
            for name, scalar in spec.scalars.items()
        )
        for name in spec.channels:
            check_name(name, f"a channel of stream {spec.name!r}")
            check_distinct(name, taken, f"a channel of stream {spec.name!r}")
            if name in {c.name for c in columns} | dims:
                raise StoreError(
                    f"stream {spec.name!r} has a channel called {name!r}, which is the name of a "
                    "coordinate; rename the channel."
                )
        self._coordinates = [c.name for c in columns if c.name != "time"]
        fast = 0 < spec.frame_period_s < 1 / FAST_PER_S
        self.group = GrowingGroup(
            root,
            f"{IMAGES}/{spec.name}/{FULL}" if kind == IMAGES else f"{SPECTRA}/{spec.name}",
            "time",
            columns,
            source=self,
            chunk_rows=FAST_COLUMN_CHUNK_ROWS if fast else COLUMN_CHUNK_ROWS,
        )
        self._blocks: list[tuple[str, ShardedArray, tuple[int, ...], np.dtype[Any]]] = []
        self._declare_arrays(pool, codec)

    def _scalar(self, name: str) -> str:
        """Column of a scalar: an instrument may call a number of its own as we call one of ours."""
        return f"reported_{name}" if name.casefold() in self._taken else name

    def _declare_arrays(self, pool: WritePool, codec: str) -> None:
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
                    self.group.add_axis(dim, values, axis_attributes(dim, axis))
                    done.add(dim)
            layout = ArrayLayout.of_frames(
                channel.dtype,
                ("time", *self._dims[name]),
                channel.shape,
                self.spec.frame_period_s,
                codec,
                {
                    "units": cf_units(channel.unit),
                    "long_name": channel.long_name or name.replace("_", " "),
                },
            )
            block = self.group.add_block(name, layout, pool)
            self._blocks.append((name, block, channel.shape, np.dtype(channel.dtype)))

    # ------------------------------------------------------- in the thread that has the frame

    def append(self, frame: Frame, context: FrameContext) -> None:
        """Take a frame; raises StoreError if it does not fit what was declared."""
        data = frame.data
        for name, _, shape, dtype in self._blocks:
            array = data.get(name)
            if array is None or array.shape != shape or array.dtype != dtype:
                self._refuse(f"frame {frame.index}", name, array)
        if len(data) > len(self._blocks):
            self._refuse_extra(f"frame {frame.index}", data)
        for name, block, _, _ in self._blocks:
            block.append(data[name][np.newaxis])
        # last: a row without its blocks would never show
        self._pending.append((frame.index, frame.t_start_s, frame.t_end_s, context, frame.meta))
        self.next_index = frame.index + 1

    def append_block(self, frames: FrameBlock) -> None:
        """Take many frames; raises StoreError if they do not fit what was declared."""
        if not len(frames):
            return
        what = f"the block from frame {frames.first_index} on"
        for name, _, shape, dtype in self._blocks:
            array = frames.data.get(name)
            if array is None or array.shape != (len(frames), *shape) or array.dtype != dtype:
                self._refuse(what, name, array)
        if len(frames.data) > len(self._blocks):
            self._refuse_extra(what, frames.data)
        short = [n for n, c in frames.context.items() if np.shape(c) != (len(frames),)]
        short += [n for n, spans in frames.spans.items() if np.shape(spans) != (len(frames), 2)]
        if short or np.shape(frames.t_end_s) != (len(frames),):
            raise StoreError(
                f"{what} of {self.spec.name!r} holds {len(frames)} frames, and its columns "
                f"{', '.join(short) or 't_end_s'} are not as long."
            )
        for name, block, _, _ in self._blocks:
            block.append(frames.data[name])
        # without the data: the pool's room bounds them, and they must not outlive their writing
        self._pending.append(replace(frames, data={}))
        self.next_index = frames.first_index + len(frames)

    def _refuse(self, what: str, name: str, array: AnyArray | None) -> None:
        channel = self.spec.channels[name]
        found = "is missing" if array is None else f"is {array.dtype} {array.shape}"
        raise StoreError(
            f"{what} of {self.spec.name!r} does not fit what was declared: {name!r} {found}, "
            f"declared is {channel.dtype} {channel.shape}."
        )

    def _refuse_extra(self, what: str, data: Mapping[str, AnyArray]) -> None:
        extra = ", ".join(sorted(set(data) - set(self.spec.channels)))
        raise StoreError(
            f"{what} of {self.spec.name!r} does not fit what was declared: it holds {extra}, too, "
            "which would be lost. Declare every channel."
        )

    def skip(self, index: int, count: int = 1) -> None:
        """Say that frames are missing from ``index`` on; nothing is written for them."""
        self.next_index = max(self.next_index, index + count)
        self._gaps += count

    # ------------------------------------------------------------- in the publisher's thread

    def take(self) -> tuple[Mapping[str, AnyArray], int]:
        """See :class:`~acquire.store.groups.RowSource`."""
        parts: list[dict[str, AnyArray]] = []
        lengths: list[int] = []
        rows: list[_Row] = []
        for _ in range(len(self._pending)):
            item = self._pending.popleft()
            if isinstance(item, FrameBlock):
                if rows:
                    parts.append(self._columns_of_rows(rows))
                    lengths.append(len(rows))
                    rows = []
                parts.append(self._columns_of_block(item))
                lengths.append(len(item))
            else:
                rows.append(item)
        if rows:
            parts.append(self._columns_of_rows(rows))
            lengths.append(len(rows))
        if not parts:
            return {}, 0
        columns = {
            name: np.concatenate(
                [
                    part[name] if name in part else np.full(length, np.nan)
                    for part, length in zip(parts, lengths, strict=True)
                ]
            )
            for name in dict.fromkeys(name for part in parts for name in part)
        }
        doses = np.nan_to_num(columns["dose"])
        columns["dose_total"] = self._dose_total + np.cumsum(doses)
        self._dose_total = float(columns["dose_total"][-1])
        if self._rows == 0:
            self._first_s = float(columns["time"][0])
        self._newest_s = float(columns["time"][-1])
        self._rows += sum(lengths)
        return columns, sum(lengths)

    def _columns_of_rows(self, rows: list[_Row]) -> dict[str, AnyArray]:
        indexes, starts, ends, contexts, metas = zip(*rows, strict=True)
        columns: dict[str, AnyArray] = {
            "time": np.array(starts, np.float64),
            "t_end": np.array(ends, np.float64),
            "temperature_before": np.array([c.temperature_before_celsius for c in contexts]),
            "temperature_after": np.array([c.temperature_after_celsius for c in contexts]),
            "dose": np.array([c.dose_e_per_nm2 for c in contexts], np.float64),
            "frame_index": np.array(indexes, np.int64),
            "source_index": np.array([c.source_index for c in contexts], np.int64),
        }
        if self.kind == SPECTRA:
            positions = np.array([c.position_nm for c in contexts], np.float64)
            columns["position_x"], columns["position_y"] = positions[:, 0], positions[:, 1]
        for name in dict.fromkeys(name for meta in metas for name in meta.scalars):
            values = [meta.scalars.get(name, np.nan) for meta in metas]
            columns[self._scalar(name)] = np.array(values, np.float64)
        for name in dict.fromkeys(name for meta in metas for name in meta.spans):
            spans = np.array([meta.spans.get(name, (np.nan, np.nan)) for meta in metas], np.float64)
            self._put_spans(columns, name, spans)
        return columns

    def _columns_of_block(self, frames: FrameBlock) -> dict[str, AnyArray]:
        count = len(frames)
        columns: dict[str, AnyArray] = {
            "time": frames.t_start_s,
            "t_end": frames.t_end_s,
            "frame_index": np.arange(frames.first_index, frames.first_index + count),
            "source_index": np.arange(frames.source_index, frames.source_index + count),
            "dose": np.full(count, np.nan),
        }
        for name, values in frames.context.items():
            columns[_CONTEXT_COLUMNS.get(name) or self._scalar(name)] = values
        for name, spans in frames.spans.items():
            self._put_spans(columns, name, spans)
        return columns

    def _put_spans(self, columns: dict[str, AnyArray], name: str, spans: AnyArray) -> None:
        for at, which in enumerate(("start", "end")):
            columns[f"{name}_t_{which}"] = spans[:, at]
            self._know_span(name, which)

    def _know_span(self, name: str, which: str) -> None:
        column = f"{name}_t_{which}"
        if column in self._coordinates:
            return
        self._coordinates.append(column)
        self.group.know_column(
            ColumnSpec(
                column,
                unit="s",
                long_name=f"{which} of the exposure of {name.replace('_', ' ')}, where it is not "
                "that of the frame",
            )
        )

    def attributes(self) -> Mapping[str, Any]:
        """See :class:`~acquire.store.groups.RowSource`; names of coordinates are for xarray."""
        return {"coordinates": " ".join(self._coordinates), "missing_frames": self._gaps}

    def parent_attributes(self) -> Mapping[str, Any]:
        """OME-NGFF metadata for the group above one of images."""
        if self.kind != IMAGES:
            return {}
        intervals = self._rows - 1
        span = self._newest_s - self._first_s
        period = span / intervals if intervals > 0 and span > 0 else 1.0
        start = 0.0 if np.isnan(self._first_s) else self._first_s
        return {"ome": ome_metadata(self.spec, period, start)}
