"""Carries out one export: what becomes which file, and where."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from acquire.errors import StoreError
from acquire.export.hyperspy import write_hspy, write_zspy
from acquire.export.nexus import write_nexus
from acquire.export.placing import new_place
from acquire.export.source import IMAGES, SPECTRA, Channel, channels_of
from acquire.export.tables import write_dataset, write_gaps, write_tables
from acquire.export.tiff import write_imagej, write_ome
from acquire.store import ZARR_NAME, Run


class Format(StrEnum):
    """What a run can be exported to."""

    ZSPY = "zspy"
    HSPY = "hspy"
    TIFF = "tiff"
    OME_TIFF = "ome-tiff"
    CSV = "csv"
    NEXUS = "nexus"


_WriteChannel = Callable[[Channel, Path], None]

_BY_CHANNEL: dict[Format, tuple[str, _WriteChannel, str | None]] = {
    Format.HSPY: (".hspy", write_hspy, None),
    Format.ZSPY: (".zspy", write_zspy, None),
    Format.TIFF: (".tif", write_imagej, IMAGES),
    Format.OME_TIFF: (".ome.tif", write_ome, IMAGES),
}
"""Suffix, writer, and the only kind of stream that the format can hold."""


def export_run(
    run: Run,
    to: Format,
    stream: str | None = None,
    output: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Export what a run held when it was opened, all of it or one stream; returns where it lies.

    NeXus makes one file, every other format a folder: ``<stream>_<channel>.<suffix>``, beside TIFF
    the tables ``<stream>_frames.csv`` and ``<stream>_gaps.csv``. Frames are read and written a few
    at a time. A missing frame is left out, never filled; ``frame_index`` and the gaps go along.

    Args:
        run: finished, cut off or still being written.
        to: the format.
        stream: only this one.
        output: must not exist; by default ``NAME_FORMAT`` (``NAME.nxs``) beside the run.
        tell: is given a line whenever a file is begun or a stream left out.

    Raises:
        StoreError: the output exists or cannot be written, the run has nothing of this kind, the
            format cannot hold it, or a library is missing.
    """
    target = output if output is not None else _default_place(run, to)
    if to is Format.CSV:
        with new_place(target) as place:
            write_tables(run, place, stream)
    elif to is Format.NEXUS:
        with new_place(target) as place:
            write_nexus(run, place, stream)
    else:
        _export_channels(run, to, stream, target, tell)
    return target


def _export_channels(
    run: Run, to: Format, stream: str | None, target: Path, tell: Callable[[str], None]
) -> None:
    suffix, write, only = _BY_CHANNEL[to]
    if target.suffix == Path(f"x{suffix}").suffix:
        raise StoreError(
            f"{to} makes a folder of files, one for each channel: give --output a name without "
            f"{target.suffix!r}, not {target.name!r}."
        )
    channels = [c for c in channels_of(run, stream) if not c.aside]
    fitting = [c for c in channels if only in (None, c.kind)]
    for name in dict.fromkeys(c.stream for c in channels if c not in fitting):
        if stream is not None:
            raise StoreError(
                f"stream {stream!r} holds {SPECTRA}, and {to} takes {only}: export it to hspy, zspy "
                "or nexus."
            )
        tell(f"{name} is left out: {to} takes {only}")
    if not fitting:
        what = f"stream {stream!r} of {run.path}" if stream is not None else f"{run.path}"
        raise StoreError(f"{what} holds no {only or 'frames'} that {to} could take.")
    with new_place(target) as place:
        place.mkdir()
        for channel in fitting:
            tell(f"{channel.stem}{suffix}: {channel.count} frames")
            write(channel, place / f"{channel.stem}{suffix}")
        if only == IMAGES:
            for name, frames in {c.stream: c.frames for c in fitting}.items():
                write_dataset(place / f"{name}_frames.csv", frames.drop_vars(frames.data_vars))
                write_gaps(run, place, name)


def _default_place(run: Run, to: Format) -> Path:
    """Beside the run; for a continuation, which lies in its run's folder, beside that."""
    place, name = run.path, run.path.name
    if (place.parent / ZARR_NAME).is_dir():
        place, name = place.parent, f"{place.parent.name}_{name}"
    return place.with_name(f"{name}.nxs" if to is Format.NEXUS else f"{name}_{to}")
