"""Measures one block of a stored run's frames by themselves: what a worker, here or elsewhere, does."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from acquire.analysis.frames import Unreadable, frames_of, read_block
from acquire.errors import HotstageError, MeasureError
from acquire.instruments import Frame
from acquire.store import open_run


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive frames of one channel, or more, of a run."""

    run: Path
    stream: str
    channels: tuple[str, ...]
    first: int
    """Rows, not frame numbers, as ``stop``."""
    stop: int
    version_ns: int
    """Of the run's metadata when the analysis began; a run may be growing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a frame."""

    head: Frame
    """The frame without its data."""
    result: Any
    crc32: int
    """Of the pixels that were looked at, channel after channel."""
    why: str = ""
    """Why it could not be read, if it could not."""


def measure_block(
    block: Block, measure: Callable[[Frame], Any], stopped: Callable[[], bool] | None = None
) -> list[Measured]:
    """Read a block and measure its frames; raises MeasureError naming the frame that failed.

    ``stopped`` is asked between frames whether nobody wants them any more, which ends it.
    """
    found: list[Measured] = []
    data = _opened(block.run, block.stream, block.version_ns)
    for frame in read_block(data, block.stream, block.channels, block.first, block.stop):
        if stopped is not None and stopped():
            raise HotstageError(f"the analysis of {block.run} was interrupted.")
        if isinstance(frame, Unreadable):
            found.append(Measured(frame.head, None, 0, frame.why))
            continue
        crc = 0
        for name in block.channels:
            crc = zlib.crc32(np.ascontiguousarray(frame.data[name]).data, crc)
        try:
            result = measure(frame)
        except HotstageError:
            raise
        except Exception as error:
            raise MeasureError(
                f"measuring frame {frame.index} of {block.stream!r} in {block.run} failed: "
                f"{type(error).__name__}: {error}"
            ) from error
        found.append(Measured(replace(frame, data={}), result, crc))
    return found


def whole(frame: Frame) -> Frame:
    """The frame as it is, for estimators that measure and remember in one go."""
    return frame


@lru_cache(maxsize=8)
def _opened(run: Path, stream: str, version_ns: int) -> xr.Dataset:
    """The stream as it was then or later; opening it anew for each block would be slow."""
    return frames_of(open_run(run), stream)
