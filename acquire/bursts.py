"""Bursts: many short spectra in a row, handed over in blocks.

At thousands of spectra a second nobody can look after each of them. A spectrometer that takes them at
its own pace may implement :class:`Bursts` beside :class:`~acquire.instruments.Spectrometer`; of any
other :func:`gathered` makes blocks of what it gives one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Signal
from acquire.errors import InstrumentError
from acquire.instruments import AnyArray, Frame, FrameMeta

Array = NDArray[np.float64]

BLOCK_S = 0.04
"""How long the spectra of a block take together, by and large: 25 blocks a second."""
LONGEST_S = 0.1
"""The most that a block may take, unless it is one spectrum: who stops is heard within 0.25 s."""


@dataclass(frozen=True, slots=True)
class SpectrumBlock:
    """Consecutive frames of one stream; all arrays are read-only and have one row per frame."""

    stream: str
    first_index: int
    """Of the first frame, counted as :attr:`Frame.index <acquire.instruments.Frame.index>` is."""
    data: Mapping[str, AnyArray]
    """Shape (frames, *channel shape) for every channel."""
    t_start_s: Array
    """(frames,), rising."""
    t_end_s: Array
    scalars: Mapping[str, Array] = field(default_factory=dict)
    """(frames,) for every ``StreamSpec.scalars``."""
    spans: Mapping[str, Array] = field(default_factory=dict)
    """(frames, 2): own begin and end of channels that were not exposed for the whole frame."""

    def __post_init__(self) -> None:
        count = len(self.t_start_s)
        columns = {"t_end_s": self.t_end_s, **self.scalars, **self.data}
        wrong = [name for name, column in columns.items() if column.shape[:1] != (count,)]
        wrong += [name for name, spans in self.spans.items() if spans.shape != (count, 2)]
        if wrong or not count:
            raise InstrumentError(
                f"a block of {count} spectra of {self.stream!r} cannot be: {', '.join(wrong) or 'it'} "
                "is of another length."
            )
        for array in (self.t_start_s, *columns.values(), *self.spans.values()):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.t_start_s)

    @property
    def last_index(self) -> int:
        """Of the last frame."""
        return self.first_index + len(self) - 1

    def frame(self, row: int) -> Frame:
        """One of its frames; ``row`` counts from 0, or from the end if it is negative."""
        row = range(len(self))[row]
        return Frame(
            self.stream,
            self.first_index + row,
            {name: array[row] for name, array in self.data.items()},
            float(self.t_start_s[row]),
            float(self.t_end_s[row]),
            FrameMeta(
                {name: float(column[row]) for name, column in self.scalars.items()},
                {name: (float(s[row, 0]), float(s[row, 1])) for name, s in self.spans.items()},
            ),
        )

    def frames(self) -> Iterator[Frame]:
        """All of them, one by one."""
        return map(self.frame, range(len(self)))

    def first(self, count: int) -> SpectrumBlock:
        """The first ``count`` of its frames, one at least."""
        if count >= len(self):
            return self
        rows = slice(0, max(count, 1))
        return replace(
            self,
            data={name: array[rows] for name, array in self.data.items()},
            t_start_s=self.t_start_s[rows],
            t_end_s=self.t_end_s[rows],
            scalars={name: column[rows] for name, column in self.scalars.items()},
            spans={name: spans[rows] for name, spans in self.spans.items()},
        )

    def later(self, by_s: float, in_the_end_s: float | None = None) -> SpectrumBlock:
        """The same on a clock that shows ``by_s`` more, and ``in_the_end_s`` more at its end."""
        begin, end = self.t_start_s[0], self.t_end_s[-1]
        gain = (
            0.0 if in_the_end_s is None or end <= begin else (in_the_end_s - by_s) / (end - begin)
        )

        def moved(t_s: Array) -> Array:
            return np.asarray(t_s + by_s + gain * (t_s - begin))

        return replace(
            self,
            t_start_s=moved(self.t_start_s),
            t_end_s=moved(self.t_end_s),
            spans={name: moved(spans) for name, spans in self.spans.items()},
        )


@runtime_checkable
class Bursts(Protocol):
    """A spectrometer that hands over its spectra in blocks, too."""

    def blocks(self, stop: Signal) -> Iterator[SpectrumBlock]:
        """Expose and yield the armed spectra in order, none left out, at the instrument's own pace.

        Takes the place of :meth:`Spectrometer.frames <acquire.instruments.Spectrometer.frames>` for an
        acquisition, and counts its spectra as that does. A block takes :data:`LONGEST_S` at most, or
        is one spectrum. Ends after the armed number, or within 0.25 s of wall time after ``stop`` is
        set; what was whole by then may come as a last block.
        """


def gathered(frames: Iterator[Frame], most_s: float = BLOCK_S) -> Iterator[SpectrumBlock]:
    """Blocks of single frames, each of as many as take ``most_s`` from begin to end, but one at least.

    What came before an error, or before the frames end, is given out first. A gap in their numbers
    begins a new block.
    """
    kept: list[Frame] = []
    try:
        for frame in frames:
            if kept and frame.index != kept[-1].index + 1:
                yield block_of(kept)
                kept = []
            kept.append(frame)
            # not after the next one: at some milliseconds each it would be late
            next_s = frame.t_end_s + (frame.t_end_s - kept[0].t_start_s) / len(kept)
            if next_s - kept[0].t_start_s > most_s:
                yield block_of(kept)
                kept = []
    except Exception:
        if kept:
            yield block_of(kept)
        raise
    if kept:
        yield block_of(kept)


def block_of(frames: Sequence[Frame]) -> SpectrumBlock:
    """Consecutive frames of one stream together; raises InstrumentError if they are not alike."""
    first = frames[0]
    names = first.data.keys(), first.meta.scalars.keys(), first.meta.spans.keys()
    try:
        return SpectrumBlock(
            first.stream,
            first.index,
            {name: np.stack([f.data[name] for f in frames]) for name in names[0]},
            np.array([f.t_start_s for f in frames], np.float64),
            np.array([f.t_end_s for f in frames], np.float64),
            {n: np.array([f.meta.scalars[n] for f in frames], np.float64) for n in names[1]},
            {n: np.array([f.meta.spans[n] for f in frames], np.float64) for n in names[2]},
        )
    except (KeyError, ValueError) as error:
        raise InstrumentError(
            f"frames {first.index} to {frames[-1].index} of {first.stream!r} are not alike: {error}."
        ) from error
