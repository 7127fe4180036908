"""Writes images and spectra as HyperSpy's own files, hspy (HDF5) and zspy (Zarr v2), by rosettasciio."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from acquire.errors import StoreError
from acquire.export.placing import check_room, library
from acquire.export.source import (
    SPECTRA,
    Channel,
    LinearAxis,
    began,
    even_times,
    gaps_of,
    instrument_facts,
    run_facts,
)
from acquire.instruments import AnyArray

_HSPY_BLOCK = 2**20
"""A chunk of about 1 MB is what HyperSpy reads best."""
_ZSPY_BLOCK = 4 * 2**20
"""Every chunk is a file there."""

_LONGEST_TEXT = 60_000
"""Bytes; HDF5 takes no attributes beyond 64 kB."""


def write_hspy(channel: Channel, path: Path) -> None:
    """Write a channel as one HyperSpy signal in HDF5, block by block."""
    rsciio, dask = library("rsciio.hspy", "rosettasciio"), library("dask", "rosettasciio")
    # in this thread: HDF5 takes one block at a time, and others would wait for it in memory
    with dask.config.set(scheduler="synchronous"):
        rsciio.file_writer(
            str(path),
            signal_of(channel, path, _HSPY_BLOCK),
            compression="gzip",
            compression_opts=1,
            show_progressbar=False,
        )


def write_zspy(channel: Channel, path: Path) -> None:
    """Write a channel as one HyperSpy signal in a folder of Zarr v2, block by block.

    ``rsciio.zspy.file_writer`` opens its store by a class that Zarr 3 does not have any more. The
    writer behind it takes any group, and gets one of format 2, which HyperSpy reads.
    """
    import numcodecs
    import zarr

    api, dask = library("rsciio.zspy._api", "rosettasciio"), library("dask", "rosettasciio")
    hierarchical = library("rsciio._hierarchical", "rosettasciio")

    writer = type("Writer", (api.ZspyWriter,), {"overwrite_dataset": classmethod(_write_array)})
    signal = signal_of(channel, path, _ZSPY_BLOCK)
    try:
        with (
            # lists of words are still made by a name that Zarr will drop
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
            dask.config.set(scheduler="synchronous"),
        ):
            root = zarr.open_group(path, mode="w-", zarr_format=2)
            root.attrs.update(file_format="ZSpy", file_format_version=hierarchical.version)
            # not the title, as in HDF5: this becomes a folder, and Windows refuses many signs
            group = root.create_group("Experiments").create_group(channel.stem)
            blosc = numcodecs.Blosc("zstd", 1, numcodecs.Blosc.SHUFFLE)
            writer(root, signal, group, compressor=blosc).write()
            zarr.consolidate_metadata(path)
    except (AttributeError, TypeError, NotImplementedError) as error:
        raise StoreError(
            f"the rosettasciio that is installed cannot write zspy beside Zarr {zarr.__version__} "
            f"({error}). Export to hspy, which HyperSpy reads as well."
        ) from error


def _write_array(
    cls: Any, /, group: Any, data: Any, key: str, *, compressor: Any, **_: object
) -> None:
    """Write an array to a group; rosettasciio's own makes a file for every number of a column."""
    stored = data.shape if isinstance(data, np.ndarray) else tuple(n[0] for n in data.chunks)
    array = group.create_array(
        key,
        shape=data.shape,
        dtype=data.dtype,
        chunks=tuple(max(1, n) for n in stored),
        compressors=compressor,
    )
    cls._store_data(data, array, group, key, stored, False)


def signal_of(channel: Channel, path: Path, block_bytes: int) -> dict[str, Any]:
    """A channel as rosettasciio's writers take it, its data a dask array that reads it in blocks.

    ``path`` is where they will write: every block is preceded by a look at what is free there.
    """
    array = library("dask.array", "rosettasciio")
    rows = min(channel.count, channel.rows_of_block(block_bytes))
    data = array.from_array(
        _Frames(channel, path),
        chunks=(rows, *channel.data.shape[1:]),
        name=False,
        meta=np.empty((0,) * channel.data.ndim, channel.data.dtype),
    )
    return {
        "data": data,
        "axes": [_time_axis(channel), *(_axis(a, channel.kind == SPECTRA) for a in channel.axes)],
        "metadata": _metadata(channel),
        "original_metadata": {"hotstage": _everything(channel)},
        "attributes": {"_lazy": True, "ragged": False},
        "package_info": {"package": "", "package_version": ""},
        "tmp_parameters": {},
        "learning_results": {},
        "models": {},
    }


class _Frames:
    """What dask reads from."""

    def __init__(self, channel: Channel, path: Path) -> None:
        self._channel = channel
        self._path = path
        self.shape = channel.data.shape
        self.dtype = channel.data.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        rows, *rest = key
        first, stop, _ = rows.indices(self.shape[0])
        check_room(self._path, (stop - first) * self._channel.frame_bytes)
        return self._channel.block(first, stop)[(slice(None), *rest)]


def _axis(axis: LinearAxis, binned: bool, *, navigate: bool = False) -> dict[str, Any]:
    return {
        "_type": "UniformDataAxis",
        "name": "Energy loss" if axis.name.startswith("energy_loss") else axis.name,
        "units": axis.unit,
        "navigate": navigate,
        "is_binned": binned,
        "size": axis.size,
        "scale": axis.step,
        "offset": axis.offset,
    }


def _time_axis(channel: Channel) -> dict[str, Any]:
    """Frames over time; where some are missing or late, at the times that they really have."""
    times_s = channel.times_s
    even = even_times(times_s)
    if even is not None:
        return _axis(even, False, navigate=True)
    if not np.isfinite(times_s).all() or (np.diff(times_s) <= 0).any():
        # HyperSpy takes rising axes only; the times are in the original metadata
        return _axis(LinearAxis("frame", 0.0, 1.0, len(times_s), ""), False, navigate=True)
    return {
        "_type": "DataAxis",
        "name": "time",
        "units": "s",
        "navigate": True,
        "is_binned": False,
        "axis": times_s,
    }


def _metadata(channel: Channel) -> dict[str, Any]:
    run, start = channel.run, began(channel.run)
    specimen = dict(run.header.specimen)
    facts = instrument_facts(run)
    microscope: dict[str, Any] = {"acquisition_mode": "STEM"} | _numbers(
        facts,
        beam_energy=("beam_energy_kev", 1.0),
        convergence_angle=("convergence_semi_angle_mrad", 1.0),
        beam_current=("probe_current_pa", 1e-3),
    )
    if "scan" in run.header.instruments:
        microscope["microscope"] = run.header.instruments["scan"].model
    if channel.kind == SPECTRA:
        eels: dict[str, Any] = {"frame_number": 1} | _numbers(
            facts, collection_angle=("collection_semi_angle_mrad", 1.0)
        )
        if math.isfinite(channel.exposure_s):
            eels |= {"exposure": channel.exposure_s, "dwell_time": channel.exposure_s}
        if "spectrometer" in run.header.instruments:
            eels["spectrometer"] = run.header.instruments["spectrometer"].model
        microscope["Detector"] = {"EELS": eels}
    return {
        "General": {
            "title": channel.title,
            "original_filename": run.path.name,
            "date": start.date().isoformat(),
            "time": start.time().isoformat("seconds"),
            "time_zone": "UTC",
        },
        "Signal": {
            "signal_type": "EELS" if channel.kind == SPECTRA else "",
            "quantity": f"Intensity ({channel.unit})" if channel.unit else "Intensity",
        },
        "Sample": {
            **({"sample_id": specimen["id"]} if "id" in specimen else {}),
            "description": "; ".join(f"{key}: {value}" for key, value in specimen.items()),
        },
        "Acquisition_instrument": {"TEM": microscope},
    }


def _numbers(facts: dict[str, Any], **wanted: tuple[str, float]) -> dict[str, float]:
    """Those of the wanted facts that are known, by HyperSpy's names and in its units."""
    return {
        name: float(facts[fact]) * factor
        for name, (fact, factor) in wanted.items()
        if isinstance(facts.get(fact), int | float)
    }


def _everything(channel: Channel) -> dict[str, Any]:
    run = channel.run
    columns = channel.columns()
    found: dict[str, Any] = {
        **run_facts(run),
        "frames": {name: column.values for name, column in columns.items()},
        "frames_units": {name: column.unit for name, column in columns.items()},
        "instruments": {
            role: dict(instrument.details)
            | {"model": instrument.model, "driver": instrument.driver, "serial": instrument.serial}
            for role, instrument in run.header.instruments.items()
        },
        "recipe": _short(run.header.recipe_yaml),
        "station_file": _short(run.header.station_toml),
    }
    if gaps := gaps_of(run, channel.stream):
        found["gaps"] = {
            "frame_index": np.array([gap.frame_index for gap in gaps]),
            "frames": np.array([gap.frames for gap in gaps]),
            "t_start": np.array([gap.t_start for gap in gaps]),
            "t_end": np.array([gap.t_end for gap in gaps]),
            "reason": [gap.reason for gap in gaps],
        }
    return found


def _short(text: str) -> str:
    data = text.encode()
    if len(data) <= _LONGEST_TEXT:
        return text
    return f"{data[:_LONGEST_TEXT].decode(errors='ignore')}\n# … cut; the whole is in the run"
