"""What the writers are given to write: Poisson images and spectra, the same for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from acquire.instruments import AnyArray, Axis, ChannelSpec, StreamSpec

IMAGES, SPECTRA = "images", "spectra"
DTYPE = "<u2"


@dataclass(frozen=True, slots=True)
class Work:
    """A stream of images or spectra, and how many of them."""

    name: str
    kind: str
    shape: tuple[int, ...]
    count: int
    """Records in all: a whole number of ``rows``."""
    rows: int
    """Records that come at once, and that share a chunk."""
    per_s: float
    """How many come in a second where they are paced."""
    mean: float
    """Counts per pixel or channel: they decide how far the codec shrinks them."""
    distinct: int
    """Different pieces; they come round and round."""

    @property
    def pieces(self) -> int:
        """How often something is appended."""
        return self.count // self.rows

    @property
    def nbytes(self) -> int:
        """Bytes of all records before compression."""
        return self.count * self.record_bytes

    @property
    def record_bytes(self) -> int:
        """Bytes of one record before compression."""
        return int(np.prod(self.shape)) * np.dtype(DTYPE).itemsize

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions of a record."""
        return ("y", "x") if self.kind == IMAGES else ("energy_loss",)

    def part(self, scale: float) -> Work:
        """The same with fewer records, four pieces at least."""
        return (
            self
            if scale == 1
            else replace(self, count=self.rows * max(4, int(scale * self.pieces)))
        )

    def spec(self, stream: str, *, per_s: float | None = None) -> StreamSpec:
        """The stream as an instrument would declare it."""
        axis = Axis(0.0, 0.25, "nm" if self.kind == IMAGES else "eV")
        channel = ChannelSpec("uint16", self.shape, self.dims, dict.fromkeys(self.dims, axis))
        return StreamSpec(stream, {CHANNEL: channel}, frame_period_s=1 / (per_s or self.per_s))

    def make_source(self, folder: Path) -> Path:
        """Write the pieces to a file, once for all processes; returns its path."""
        path = folder / f"{self.name}.source"
        noise = np.random.default_rng(1)
        with path.open("wb") as file:
            for _ in range(self.distinct):
                piece = noise.poisson(self.mean, (self.rows, *self.shape))
                file.write(piece.astype(DTYPE).tobytes())
        return path

    def read_source(self, path: Path) -> list[AnyArray]:
        """The pieces, shape (rows, *shape) each, which nobody can change: no writer needs a copy."""
        data = np.frombuffer(path.read_bytes(), DTYPE)
        return list(data.reshape(self.distinct, self.rows, *self.shape))

    def turn(self, source: list[AnyArray]) -> Iterator[AnyArray]:
        """All pieces in the order in which they are appended."""
        for number in range(self.pieces):
            yield source[number % self.distinct]


CHANNEL = "counts"

SMALL = Work("256²", IMAGES, (256, 256), 2000, 1, 500.0, 300.0, 61)
MIDDLE = Work("1024²", IMAGES, (1024, 1024), 200, 1, 200.0, 300.0, 7)
LARGE = Work("2048²", IMAGES, (2048, 2048), 60, 1, 30.0, 300.0, 7)
SPECTRUM = Work("spectra", SPECTRA, (2048,), 64 * 4000, 64, 8000.0, 10.0, 61)
LITTLE = Work("128²", IMAGES, (128, 128), 1, 1, 2500.0, 300.0, 61)
WORKS = {work.name: work for work in (SMALL, MIDDLE, LARGE, SPECTRUM, LITTLE)}
