"""The particles of any frame of a stored run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acquire.instruments import AnyArray
from acquire.store import Run
from gui.replay.cache import ArrayCache

_BLOCK_ROWS = 65_536
_OUTLINED = "diameter_nm"


class ParticleTables:
    """Looks particles up by segment, stream and frame; tables are read in blocks of rows."""

    def __init__(self, runs: Sequence[Run], cache: ArrayCache) -> None:
        self._runs, self._cache = runs, cache

    def at(self, segment: int, stream: str, index: int) -> tuple[int, dict[str, AnyArray]]:
        """The newest estimate of a stream that is not newer than a frame, and its particles.

        Returns:
            The number of the frame that it was made of, and the columns of its table; -1 and
            nothing where none was made by then.

        Raises:
            StoreError: the tables cannot be read.
        """
        run = self._runs[segment]
        best = -1, dict[str, AnyArray]()
        for name in run.estimators:
            estimates = run.estimates(name)
            if estimates.attrs.get("stream", stream) != stream:
                continue
            made_of = self._column(segment, f"estimates/{name}", "frame_index", slice(None))
            row = int(np.searchsorted(made_of, index, "right")) - 1
            if row < 0 or name not in run.particle_tables:
                continue
            frame = int(made_of[row])
            if _OUTLINED in run.particles(name) and frame > best[0]:
                best = frame, self._particles(segment, name, frame)
        return best

    def _particles(self, segment: int, name: str, frame: int) -> dict[str, AnyArray]:
        table = self._runs[segment].particles(name)
        frames = self._column(segment, f"particles/{name}", "frame_index", slice(None))
        first, last = (int(np.searchsorted(frames, frame, side)) for side in ("left", "right"))
        return {
            str(column): self._rows(segment, name, str(column), first, last)
            for column in table.data_vars
        }

    def _rows(self, segment: int, name: str, column: str, first: int, last: int) -> AnyArray:
        parts = []
        for block in range(first // _BLOCK_ROWS, max(last - 1, first) // _BLOCK_ROWS + 1):
            start = block * _BLOCK_ROWS
            rows = slice(start, start + _BLOCK_ROWS)
            values = self._column(segment, f"particles/{name}", column, rows)
            parts.append(values[max(first - start, 0) : max(last - start, 0)])
        return np.concatenate(parts)

    def _column(self, segment: int, group: str, column: str, rows: slice) -> AnyArray:
        kind, _, name = group.partition("/")
        run = self._runs[segment]
        data = run.estimates(name) if kind == "estimates" else run.particles(name)
        # a table that grows is another table: its last block is longer than the one that is kept
        length = next(iter(data.sizes.values()))
        end = length if rows.stop is None else min(rows.stop, length)
        key = (segment, group, column, rows.start or 0, end)

        def read() -> AnyArray:
            return np.asarray(data[column].variable[slice(rows.start or 0, end)].values)

        return self._cache.get(key, read)
