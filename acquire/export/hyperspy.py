"""Writes images and spectra as HyperSpy's own files, hspy (HDF5) and zspy (Zarr v2), by rosettasciio."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import StoreError
from acquire.export.energies import energies_of, exact_as_float
from acquire.export.hyperspy_facts import Laid, everything, metadata
from acquire.export.laying import layout_of
from acquire.export.placing import check_room, library
from acquire.export.source import SPECTRA, Channel, LinearAxis, even_times, navigates
from acquire.instruments import AnyArray

_HSPY_BLOCK = 2**20
"""A chunk of about 1 MB is what HyperSpy reads best."""
_ZSPY_BLOCK = 4 * 2**20
"""Every chunk is a file there."""


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

    Spectra lie as they do on the specimen: a map is (y, x, …), a line (x, …), several passes of them
    before that; what is neither, and images, is ordered by time. A single frame has no such axis.

    ``path`` is where they will write: every block is preceded by a look at what is free there.
    """
    array = library("dask.array", "rosettasciio")
    laid = lay_out(channel)
    view = _Frames(channel, path, laid)
    data = array.from_array(
        view,
        chunks=view.chunks(block_bytes),
        name=False,
        meta=np.empty((0,) * view.ndim, view.dtype),
    )
    spectra = channel.kind == SPECTRA
    inner = [
        _axis(axis, spectra and not navigates(axis), navigate=spectra and navigates(axis))
        for axis in laid.inner
    ]
    return {
        "data": data,
        "axes": [*laid.navigation, *inner],
        "metadata": metadata(channel),
        "original_metadata": {"hotstage": everything(channel, laid)},
        "attributes": {"_lazy": True, "ragged": False},
        "package_info": {"package": "", "package_version": ""},
        "tmp_parameters": {},
        "learning_results": {},
        "models": {},
    }


def lay_out(channel: Channel) -> Laid:
    """Which frame lies where in an export, and on which axes."""
    inner = list(channel.axes)
    layout, energies = None, None
    if channel.kind == SPECTRA:
        layout = layout_of(channel.frames)
        energies = energies_of(channel.frames, channel.name, inner[-1])
        inner[-1] = energies.axis
    if layout is not None:
        navigation = [_axis(axis, False, navigate=True) for axis in layout.axes]
        return Laid(navigation, layout.frames, inner, energies, True)
    frames = np.arange(channel.count, dtype=np.intp)
    # one spectrum is a spectrum; a stream of one image stays a stream
    if channel.kind == SPECTRA and channel.count == 1:
        return Laid([], np.asarray(frames[0]), inner, energies, True)
    return Laid([_time_axis(channel)], frames, inner, energies, False)


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


class _Frames:
    """What dask reads from: frames at their places, NaN where there is none."""

    def __init__(self, channel: Channel, path: Path, laid: Laid) -> None:
        self._channel = channel
        self._path = path
        self._laid = laid
        first = None if laid.energies is None else laid.energies.first
        self._first = first
        self._filled = first is not None or bool((laid.frames < 0).any())
        frame = list(channel.data.shape[1:])
        if first is not None and laid.energies is not None:
            frame[-1] = laid.energies.axis.size
        self.shape = (*laid.frames.shape, *frame)
        own = channel.data.dtype
        self.dtype = exact_as_float(own) if self._filled else own
        self.ndim = len(self.shape)

    def chunks(self, nbytes: int) -> tuple[int, ...]:
        """About so many bytes, of frames that were recorded one after the other."""
        places = self._laid.frames.shape
        inner = self.shape[len(places) :]
        if not self._laid.placed:
            return (min(places[0], self._channel.rows_of_block(nbytes)), *inner)
        left = max(1, nbytes // max(1, self._channel.frame_bytes))
        found: list[int] = []
        for size in reversed(places):
            found.insert(0, min(size, max(1, left)))
            left //= size
        return (*found, *inner)

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        places = self._laid.frames.ndim
        wanted = np.asarray(self._laid.frames[key[:places]])
        check_room(self._path, wanted.size * self._channel.frame_bytes)
        rest = tuple(key[places:])
        numbers = wanted.ravel()
        there = numbers >= 0
        if not there.any():
            empty = np.full((*wanted.shape, *self.shape[places:]), np.nan, self.dtype)
            return empty[(slice(None),) * places + rest]
        begin, stop = int(numbers[there].min()), int(numbers.max()) + 1
        block = self._channel.block(begin, stop)
        if not self._filled and np.array_equal(numbers, np.arange(begin, stop)):
            found = block
        else:
            found = self._placed(numbers, block, begin)
        shaped = found.reshape(*wanted.shape, *self.shape[places:])
        return np.asarray(shaped[(slice(None),) * places + rest])

    def _placed(self, numbers: NDArray[np.intp], block: AnyArray, begin: int) -> AnyArray:
        shape = (len(numbers), *self.shape[self._laid.frames.ndim :])
        found = np.full(shape, np.nan if self._filled else 0, self.dtype)
        channels = block.shape[-1]
        for place, number in enumerate(numbers.tolist()):
            if number >= 0:
                start = 0 if self._first is None else int(self._first[number])
                found[place, ..., start : start + channels] = block[number - begin]
        return found
