"""Writes coordinates, readings, estimates, particles and gaps as CSV files, whatever their length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from acquire.errors import StoreError
from acquire.export.source import channels_of, gaps_of, unit_of
from acquire.store import Run, flags_of, words_of

_ROWS = 65536

_FIRST = ("time", "frame_index")


def write_tables(run: Run, folder: Path, stream: str | None) -> list[Path]:
    """Write every table of a run, or those of one stream, into a new folder; returns the files.

    Columns are headed by name and unit (``time [s]``), words and flags are words, NaN is empty.

    Raises:
        StoreError: there is nothing to write.
    """
    tables = dict(_tables(run, stream))
    if not tables:
        what = f"stream {stream!r} of {run.path}" if stream is not None else f"{run.path}"
        raise StoreError(f"{what} holds no rows yet; export it when something was recorded.")
    folder.mkdir()
    for name, data in tables.items():
        write_dataset(folder / f"{name}.csv", data)
    return [folder / f"{name}.csv" for name in tables] + write_gaps(run, folder, stream)


def write_dataset(path: Path, data: xr.Dataset) -> None:
    """Write all columns of a dataset that run along its rows."""
    (dim,) = {str(v.dims[0]) for v in data.variables.values() if v.dims in (("time",), ("row",))}
    names = [str(name) for name, v in data.variables.items() if v.dims == (dim,)]
    names = [n for n in _FIRST if n in names] + sorted(n for n in names if n not in _FIRST)
    with path.open("x", encoding="utf-8", newline="") as file:
        for first in range(0, max(1, data.sizes[dim]), _ROWS):
            part = data[names].isel({dim: slice(first, first + _ROWS)})
            table = pd.DataFrame({_head(data[n]): _cells(part[n]) for n in names})
            table.to_csv(file, index=False, header=first == 0, lineterminator="\n")


def write_gaps(run: Run, folder: Path, stream: str | None) -> list[Path]:
    """Write which frames are missing, if any are; returns the file."""
    gaps = gaps_of(run, stream)
    if not gaps:
        return []
    path = folder / ("gaps.csv" if stream is None else f"{stream}_gaps.csv")
    units = {"t_start": "t_start [s]", "t_end": "t_end [s]"}
    table = pd.DataFrame([asdict(gap) for gap in gaps]).rename(columns=units)
    table.to_csv(path, index=False, mode="x", lineterminator="\n")
    return [path]


def _tables(run: Run, stream: str | None) -> Iterator[tuple[str, xr.Dataset]]:
    for channel in channels_of(run, stream):
        if channel.aside:
            continue
        yield f"{channel.stream}_frames", channel.frames.drop_vars(list(channel.frames.data_vars))
    if stream is None:
        for name in run.tables:
            if run.table(name).sizes["time"]:
                yield name, run.table(name)
        for name in run.channels:
            if run.channel(name).sizes["time"]:
                yield f"channels_{name}", run.channel(name)
    for name in run.estimators:
        estimates = run.estimates(name)
        if estimates.sizes["time"] and stream in (None, estimates.attrs.get("stream")):
            yield f"estimates_{name}", estimates
            if name in run.particle_tables and run.particles(name).sizes["row"]:
                yield f"particles_{name}", run.particles(name)


def _head(variable: xr.DataArray) -> str:
    unit = unit_of(variable)
    return f"{variable.name} [{unit}]" if unit else str(variable.name)


def _cells(variable: xr.DataArray) -> object:
    if "flag_values" in variable.attrs:
        return words_of(variable)
    if variable.dtype == np.uint64:  # flags; without attributes as long as none was ever set
        return ["|".join(flags) for flags in flags_of(variable)]
    return variable.values
