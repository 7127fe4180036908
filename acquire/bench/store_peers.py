"""Other writers on the same work, each as fast as it can be had, and plain readers of what they wrote."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.blosc import Blosc

from acquire.bench.store_work import CHANNEL, Work
from acquire.errors import HotstageError
from acquire.instruments import AnyArray
from acquire.store import PUBLISH_PERIOD_S

BLOSC_FILTER = 32001
"""The number under which HDF5 knows Blosc."""
_AHEAD = 32
"""Pieces that a writer which works in the background may hold."""


@dataclass
class Stopwatch:
    """Wall and CPU seconds of what is measured."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what is done inside."""
        gc.collect()  # what importing left is looked through now, which can take as long as the rest
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall_s = time.perf_counter() - wall
        self.cpu_s = time.process_time() - cpu


Writer = Callable[[Work, list[AnyArray], Path, int, Stopwatch], None]
"""Writes a work from its source below a folder, in so many threads."""
Rows = Callable[[int, int], AnyArray]
"""Reads records from one number up to another."""


def codec() -> Any:
    """What all use: blosc, lz4 at level 5, bits shuffled."""
    return Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)


def write_raw(
    work: Work, source: list[AnyArray], folder: Path, threads: int, watch: Stopwatch
) -> None:
    """Compress and append to one plain file: what no store can beat by much."""
    compress = codec()
    numbers = itertools.count()
    lock = threading.Lock()
    folder.mkdir()
    with (folder / "raw").open("wb", buffering=0) as file:
        end = 0
        positioned = hasattr(os, "pwrite")

        def run() -> None:
            nonlocal end
            while (number := next(numbers)) < work.pieces:
                data = compress.encode(source[number % work.distinct])
                with lock:
                    at, end = end, end + len(data)
                    if not positioned:
                        file.write(data)
                if positioned:
                    os.pwrite(file.fileno(), data, at)

        workers = [threading.Thread(target=run) for _ in range(threads)]
        with watch.running():
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()


def write_zarr(
    work: Work, source: list[AnyArray], folder: Path, threads: int, watch: Stopwatch
) -> None:
    """zarr-python, appending."""
    import zarr
    from zarr.codecs import BloscCodec

    array = zarr.create_array(
        folder,
        shape=(0, *work.shape),
        chunks=(work.rows, *work.shape),
        dtype="uint16",
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        dimension_names=("time", *work.dims),
    )
    with zarr.config.set({"threading.max_workers": threads}), watch.running():
        for piece in work.turn(source):
            array.append(piece)


def write_tensorstore(
    work: Work, source: list[AnyArray], folder: Path, threads: int, watch: Stopwatch
) -> None:
    """tensorstore, one file per chunk, without an fsync for each of them: its fastest."""
    import tensorstore as ts

    blosc = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": 2}
    array = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(folder), "file_io_sync": False},
            "metadata": {
                "shape": [work.count, *work.shape],
                "data_type": "uint16",
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [work.rows, *work.shape]},
                },
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "blosc", "configuration": blosc},
                ],
            },
        },
        context=ts.Context(
            {"data_copy_concurrency": {"limit": threads}, "file_io_concurrency": {"limit": threads}}
        ),
        create=True,
    ).result()
    with watch.running():
        # it keeps a reference to what it is given, which here never changes
        waiting: deque[Any] = deque()
        for number, piece in enumerate(work.turn(source)):
            waiting.append(array[number * work.rows : (number + 1) * work.rows].write(piece))
            if len(waiting) > _AHEAD:
                waiting.popleft().result()
        for future in waiting:
            future.result()


def write_acquire_zarr(
    work: Work, source: list[AnyArray], folder: Path, threads: int, watch: Stopwatch
) -> None:
    """acquire-zarr, 64 chunks to a shard: faster than fewer."""
    import acquire_zarr as az

    time_axis = az.Dimension(
        name="time",
        kind=az.DimensionType.TIME,
        array_size_px=0,
        chunk_size_px=work.rows,
        shard_size_chunks=64,
    )
    others = [
        az.Dimension(
            name=name,
            kind=az.DimensionType.SPACE,
            array_size_px=size,
            chunk_size_px=size,
            shard_size_chunks=1,
        )
        for name, size in zip(work.dims, work.shape, strict=True)
    ]
    if len(others) == 1:  # it takes three dimensions at least
        others.insert(
            0,
            az.Dimension(
                name="y",
                kind=az.DimensionType.SPACE,
                array_size_px=1,
                chunk_size_px=1,
                shard_size_chunks=1,
            ),
        )
    array = az.ArraySettings(
        output_key=CHANNEL,
        data_type=az.DataType.UINT16,
        dimensions=[time_axis, *others],
        compression=az.CompressionSettings(
            compressor=az.Compressor.BLOSC1,
            codec=az.CompressionCodec.BLOSC_LZ4,
            level=5,
            shuffle=2,
        ),
    )
    settings = az.StreamSettings(
        store_path=str(folder),
        version=az.ZarrVersion.V3,
        max_threads=threads,
        overwrite=False,
        arrays=[array],
    )
    stream = az.ZarrStream(settings)
    with watch.running():
        for piece in work.turn(source):
            stream.append(piece, key=CHANNEL)
        stream.close()


def write_h5py(
    work: Work, source: list[AnyArray], folder: Path, threads: int, watch: Stopwatch
) -> None:
    """h5py for readers at the same time (SWMR): compressed by the threads, given to it in order."""
    import h5py

    compress = codec()
    folder.mkdir()
    with h5py.File(folder / "data.h5", "w", libver="latest") as file:
        data = file.create_dataset(
            CHANNEL,
            (0, *work.shape),
            DTYPE_H5,
            chunks=(work.rows, *work.shape),
            maxshape=(None, *work.shape),
            compression=BLOSC_FILTER,
            allow_unknown_filter=True,
        )
        file.swmr_mode = True
        with ThreadPoolExecutor(threads) as pool, watch.running():
            pending: deque[Any] = deque()
            pieces = work.turn(source)
            flushed_at = time.monotonic()
            for number in range(work.pieces):
                for piece in itertools.islice(pieces, _AHEAD - len(pending)):
                    pending.append(pool.submit(compress.encode, piece))
                at = number * work.rows
                data.resize(at + work.rows, axis=0)
                data.id.write_direct_chunk(
                    (at, *(0 for _ in work.shape)), pending.popleft().result()
                )
                if time.monotonic() - flushed_at > PUBLISH_PERIOD_S:
                    data.flush()
                    flushed_at = time.monotonic()
            data.flush()


DTYPE_H5 = np.dtype("<u2")

PEERS: dict[str, tuple[str, Writer]] = {
    "zarr-python": ("zarr", write_zarr),
    "tensorstore": ("tensorstore", write_tensorstore),
    "acquire-zarr": ("acquire_zarr", write_acquire_zarr),
    "h5py": ("h5py", write_h5py),
}
"""By name: the module that it needs, and the writer."""


def installed(peer: str) -> bool:
    """Whether a peer can be measured here."""
    return importlib.util.find_spec(PEERS[peer][0]) is not None


def read_raw(work: Work, folder: Path) -> int:
    """Records in the plain file, all checked to be of the right length."""
    data, found, at = (folder / "raw").read_bytes(), 0, 0
    while at < len(data):
        # a blosc header tells the compressed and the raw length of what follows
        raw, size = (int.from_bytes(data[at + o : at + o + 4], "little") for o in (4, 12))
        found, at = found + raw // work.record_bytes, at + size
    return found


@contextmanager
def zarr_rows(path: Path, work: Work) -> Iterator[tuple[int, Rows]]:
    """Length and rows of a Zarr array, by plain zarr-python."""
    import zarr

    array = zarr.open_array(path, mode="r")
    yield array.shape[0], lambda a, b: np.asarray(array[a:b]).reshape(-1, *work.shape)


@contextmanager
def h5py_rows(path: Path, work: Work) -> Iterator[tuple[int, Rows]]:
    """Length and rows of a data set, chunk by chunk: the Blosc filter is not everywhere."""
    import h5py

    compress = codec()
    with h5py.File(path / "data.h5", "r") as file:
        data = file[CHANNEL]

        def rows(first: int, last: int) -> AnyArray:
            chunks = [
                np.frombuffer(
                    compress.decode(data.id.read_direct_chunk((at, *(0 for _ in work.shape)))[1]),
                    DTYPE_H5,
                )
                for at in range(first, last, work.rows)
            ]
            return np.concatenate(chunks).reshape(-1, *work.shape)

        yield data.shape[0], rows


def check(work: Work, source: list[AnyArray], length: int, rows: Rows, every: int) -> None:
    """Compare every so many pieces with what was appended, the last one in any case.

    Raises:
        HotstageError: they differ.
    """
    if length != work.count:
        raise HotstageError(f"{work.name}: {length} of {work.count} records can be read.")
    for number in {*range(0, work.pieces, every), work.pieces - 1}:
        found = rows(number * work.rows, (number + 1) * work.rows)
        if not np.array_equal(found, source[number % work.distinct]):
            raise HotstageError(f"{work.name}: piece {number} is not what was appended.")
