"""Which signal is black and which is white: percentiles that follow the image, or levels that stay."""

from __future__ import annotations

import math
import re
import time

import numpy as np

from acquire.instruments import AnyArray
from gui.words import tr

PRESETS = ((0.5, 99.7), (0.1, 99.9), (2.0, 98.0), (0.0, 100.0))
_SAMPLES_PER_SIDE = 128
_FOLLOW = 0.5
_EVERY_S = 0.15
"""Of wall time; percentiles of every frame would cost as much as drawing it."""
_MOST_REMEMBERED = 32

Pair = tuple[float, float]


class Contrast:
    """Levels by stream and detector."""

    def __init__(self, percentiles: Pair = PRESETS[0]) -> None:
        self.percentiles = percentiles
        self.frozen = False
        self._levels: dict[str, Pair] = {}
        self._measured_s: dict[str, float] = {}

    def set_percentiles(self, percentiles: Pair) -> None:
        """Go by other percentiles, at once."""
        self.percentiles = percentiles
        self.frozen = False
        self._levels.clear()

    def forget(self) -> None:
        """Begin anew, unless frozen: another run has other images."""
        if not self.frozen:
            self._levels.clear()

    def levels(self, key: str, array: AnyArray) -> Pair:
        """Black and white for an image; they follow slowly, so that noise does not make it flicker."""
        known = self._levels.get(key)
        now_s = time.monotonic()
        if known is not None and (
            self.frozen or now_s - self._measured_s.get(key, -math.inf) < _EVERY_S
        ):
            return known
        self._measured_s[key] = now_s
        low, high = percentiles_of(array, self.percentiles)
        if known is not None:
            low = known[0] + _FOLLOW * (low - known[0])
            high = known[1] + _FOLLOW * (high - known[1])
        elif len(self._levels) >= _MOST_REMEMBERED:
            self._levels.clear()
            self._measured_s.clear()
        self._levels[key] = (low, max(high, low + 1e-9))
        return self._levels[key]

    def words(self, levels: Pair) -> str:
        """What is black, what is white, and why."""
        how = tr("frozen") if self.frozen else "{}–{} %".format(*map(_short, self.percentiles))
        return tr("contrast {low} to {high} ({how})").format(
            low=_level(levels[0]), high=_level(levels[1]), how=how
        )


def percentiles_of(array: AnyArray, percentiles: Pair) -> Pair:
    """Percentiles of a coarse grid of an image; values that are no numbers do not count."""
    step = max(1, min(array.shape) // _SAMPLES_PER_SIDE)
    grid = array[::step, ::step]
    if grid.dtype.kind == "f":
        grid = grid[np.isfinite(grid)]
        if not grid.size:
            return 0.0, 1.0
    ranked = np.sort(grid, axis=None)  # np.percentile takes four times as long
    places = np.array(percentiles) / 100 * (ranked.size - 1)
    low, high = np.interp(places, np.arange(ranked.size), ranked)
    return float(low), float(high)


def read_percentiles(words: str) -> Pair:
    """Two percentiles as a person writes them: ``0.5 99.7``, ``1 - 99 %``.

    Raises:
        ValueError: in words for the person.
    """
    found = re.findall(r"\d+(?:[.,]\d+)?", words)
    if len(found) != 2:
        raise ValueError(tr("Write two percentiles, low and high, for example 0.5 99.7."))
    low, high = (float(number.replace(",", ".")) for number in found)
    if not 0 <= low < high <= 100:
        raise ValueError(
            tr("{low} and {high} are no percentiles: the first must be below the second, both within 0 and 100.")
            .format(low=_short(low), high=_short(high))
        )  # fmt: skip
    return low, high


def show_percentiles(pair: Pair) -> str:
    """As :func:`read_percentiles` reads it."""
    return "{} {}".format(*map(_short, pair))


def _short(number: float) -> str:
    return f"{number:g}"


def _level(value: float) -> str:
    return (
        f"{value:.0f}" if abs(value) >= 10 or math.isclose(value, round(value)) else f"{value:.3g}"
    )
