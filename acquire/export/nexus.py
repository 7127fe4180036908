"""Writes a run, or one stream of it, as a NeXus file: HDF5 whose NXdata plot themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from acquire._version import __version__
from acquire.errors import StoreError
from acquire.export.nexus_eels import describe_eels
from acquire.export.placing import check_room, library
from acquire.export.source import (
    IMAGES,
    Channel,
    Gap,
    began,
    channels_of,
    gaps_of,
    run_facts,
    unit_of,
)
from acquire.instruments import AnyArray
from acquire.store import JOURNAL_NAME, Run, flags_of, words_of
from acquire.store.layout import NOTES_NAME
from acquire.store.segments import run_folder

_BLOCK = 2**20
"""Bytes of a chunk, about."""


def write_nexus(run: Run, path: Path, stream: str | None) -> None:
    """Write frames, readings, estimates, particles and gaps, with units, into a new file.

    Spectra are named as NXem_eels has them, too (:mod:`acquire.export.nexus_eels`). The application
    definition NXem is followed where a run knows what it asks for, and not claimed:
    it demands facts that a run need not hold.

    Raises:
        StoreError: there is nothing to write.
    """
    h5py = library("h5py", "h5py")
    channels = channels_of(run, stream)
    tables = _tables(run, stream)
    if not channels and not tables:
        raise StoreError(f"{run.path} holds no rows yet; export it when something was recorded.")
    rows = [data.sizes["time" if "time" in data.sizes else "row"] for _, data, _ in tables]
    columns = [len(data.variables) for _, data, _ in tables]
    check_room(path, 8 * sum(n * of for n, of in zip(rows, columns, strict=True)))
    with h5py.File(path, "x") as file:
        file.attrs.update(NX_class="NXroot", creator=f"hotstage {__version__}", default="entry")
        entry = _group(file, "entry", "NXentry")
        _describe(entry, run)
        plots = [_write_channel(entry, channel, path) for channel in channels]
        written = [(channel, entry[name]) for channel, name in zip(channels, plots, strict=True)]
        estimates = {}
        for name, data, signal in tables:
            plots.append(_write_table(entry, name, data, signal))
            estimates[str(data.attrs.get("stream", ""))] = entry[plots[-1]]
        describe_eels(entry, written, estimates)
        if gaps := gaps_of(run, stream):
            group = _group(entry, "gaps", "NXcollection")
            for name in (f.name for f in fields(Gap)):
                values = np.array([getattr(gap, name) for gap in gaps])
                _field(group, name, values, "s" if name.startswith("t_") else "")
        entry.attrs["default"] = plots[0]


def _tables(run: Run, stream: str | None) -> list[tuple[str, xr.Dataset, str]]:
    """Name, contents and the column to plot."""
    found: list[tuple[str, xr.Dataset, str]] = []
    if stream is None:
        found += [(name, run.table(name), "measured") for name in run.tables]
        for name in run.channels:
            signal = next(iter(run.channel_values(name)), "")
            found.append((f"channels_{name}", run.channel(name), signal))
    for name in run.estimators:
        estimates = run.estimates(name)
        if stream in (None, estimates.attrs.get("stream")):
            found.append((f"estimates_{name}", estimates, ""))
            if name in run.particle_tables:
                found.append((f"particles_{name}", run.particles(name), ""))
    return [item for item in found if max(item[1].sizes.values(), default=0)]


def _describe(entry: Any, run: Run) -> None:
    header, report, start = run.header, run.report, began(run)
    entry["title"] = header.name
    entry["start_time"] = start.isoformat()
    if report is not None and np.isfinite(report.t_end_s):
        entry["end_time"] = (start + timedelta(seconds=report.t_end_s)).isoformat()
    entry["experiment_description"] = (
        "in-situ heating in a scanning transmission electron microscope"
    )
    program = entry.create_dataset("program_name", data="hotstage")
    program.attrs["version"] = str(header.versions.get("hotstage", ""))
    sample = _group(entry, "sample", "NXsample")
    sample["name"] = header.specimen.get("id", header.name)
    for key, value in header.specimen.items():
        sample.attrs[key] = value
    instrument = _group(entry, "instrument", "NXinstrument")
    instrument["name"] = header.station
    for role, device in header.instruments.items():
        group = _group(instrument, role, "NXcollection")
        group["model"] = device.model
        group["driver"] = device.driver
        details = _group(group, "details", "NXcollection")
        for name, fact in device.details.items():
            details[name.replace("/", "_")] = fact
    _note(entry, "recipe", header.recipe_yaml, "application/yaml")
    _note(entry, "station", header.station_toml, "application/toml")
    try:
        journal = (run.path / JOURNAL_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        journal = ""  # a run whose journal was lost still has its data
    _note(entry, "journal", journal, "application/jsonl")
    added = run_folder(run.path) / NOTES_NAME
    if added.exists():
        text = added.read_text(encoding="utf-8", errors="replace")
        _note(entry, "notes_added_later", text, "application/jsonl")
    facts = _group(entry, "run", "NXcollection")
    for fact, text in run_facts(run).items():
        facts[fact] = text


def _write_channel(entry: Any, channel: Channel, path: Path) -> str:
    """Returns the name of the group."""
    group = _group(entry, channel.stem, "NXdata")
    axes = channel.axes
    names = [axis.name for axis in axes]
    group.attrs["signal"] = "data"
    group.attrs["axes"] = ["time", *names]
    group["title"] = channel.title
    rows = min(channel.count, channel.rows_of_block(_BLOCK))
    data = group.create_dataset(
        "data",
        shape=channel.data.shape,
        dtype=channel.data.dtype,
        chunks=(rows, *channel.data.shape[1:]),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    data.attrs["long_name"] = str(channel.data.attrs.get("long_name", channel.name))
    data.attrs["interpretation"] = "image" if channel.kind == IMAGES else "spectrum"
    if channel.unit:
        data.attrs["units"] = channel.unit
    for first in range(0, channel.count, rows):
        check_room(path, rows * channel.frame_bytes)
        data[first : first + rows] = channel.block(first, min(channel.count, first + rows))
    for number, axis in enumerate(axes, 1):
        values = axis.offset + axis.step * np.arange(axis.size)
        _field(group, axis.name, values, axis.unit)
        group.attrs[f"{axis.name}_indices"] = number
    for name, column in channel.columns().items():
        _field(group, name, column.values, column.unit, column.long_name)
        group.attrs[f"{name}_indices"] = 0
    return _name_of(group)


def _write_table(entry: Any, name: str, data: xr.Dataset, signal: str) -> str:
    """Returns the name of the group."""
    dim = "time" if "time" in data.dims else "row"
    columns = [str(n) for n, v in data.variables.items() if v.dims == (dim,)]
    numbers = [n for n in columns if data[n].dtype.kind == "f" and n != dim]
    group = _group(entry, name, "NXdata")
    for column in columns:
        variable = data[column]
        long_name = str(variable.attrs.get("long_name", ""))
        _field(group, column, _plain(variable), unit_of(variable), long_name)
    if dim == "row":
        group["row"] = np.arange(data.sizes[dim])
    if numbers:
        first = signal if signal in numbers else numbers[0]
        group.attrs["signal"] = first
        group.attrs["auxiliary_signals"] = [n for n in numbers if n != first]
    group.attrs["axes"] = [dim]
    return _name_of(group)


def _plain(variable: xr.DataArray) -> AnyArray:
    if "flag_values" in variable.attrs:
        return words_of(variable)
    if variable.dtype == np.uint64:  # flags; without attributes as long as none was ever set
        return np.array(["|".join(flags) for flags in flags_of(variable)], dtype=object)
    return np.asarray(variable.values)


def _name_of(group: Any) -> str:
    return str(group.name).rpartition("/")[2]


def _free(parent: Any, name: str) -> str:
    """The name, or one like it where a table or column is called as something of NeXus is."""
    while name in parent:
        name = f"{name}_"
    return name


def _group(parent: Any, name: str, nx_class: str) -> Any:
    group = parent.create_group(_free(parent, name))
    group.attrs["NX_class"] = nx_class
    return group


def _note(entry: Any, name: str, text: str, kind: str) -> None:
    if text:
        note = _group(entry, name, "NXnote")
        note["type"] = kind
        note["data"] = text


def _field(group: Any, name: str, values: AnyArray, unit: str, long_name: str = "") -> None:
    name = _free(group, name)
    if values.dtype.kind in "OUT":
        texts: Iterable[object] = values.tolist()
        # HDF5 ends a string where it meets a NUL
        clean = [str(text).replace("\0", "�") for text in texts]
        h5py = library("h5py", "h5py")
        field = group.create_dataset(name, data=clean, dtype=h5py.string_dtype())
    else:
        field = group.create_dataset(name, data=values)
    if unit:
        field.attrs["units"] = unit
    if long_name:
        field.attrs["long_name"] = long_name
