"""Takes many spectra in one go where nothing is exposed: what a preflight does with the points of maps and lines.

One by one a point takes some milliseconds there, and a map may have a hundred thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from acquire.bursts import SpectrumBlock
from acquire.engine.spectra import Spectra
from acquire.instruments import Frame
from acquire.measure.dose import Area

T = TypeVar("T")

APART = 2
"""The first spectra of a step are taken one by one: as the others will be."""
TAIL = 16
"""So are the last ones, by whose estimates the next step may decide."""
MOST = 512
"""Spectra that are taken in one go."""


def grouped(
    points: Iterable[T],
    count: int,
    *,
    apart: bool,
    begins: Callable[[T], bool] = lambda point: False,
) -> Iterator[list[T]]:
    """Points in order, each by itself where something is exposed, else many together.

    Args:
        points: of a step.
        count: how many they are.
        apart: whether each is taken by itself.
        begins: whether something else is due before a point.
    """
    group: list[T] = []
    for number, point in enumerate(points):
        alone = apart or number < APART or number >= count - TAIL
        if group and (alone or begins(point) or len(group) >= MOST):
            yield group
            group = []
        group.append(point)
        if alone:
            yield group
            group = []
    if group:
        yield group


def foretake(spectra: Spectra, positions_nm: Sequence[tuple[float, float]]) -> None:
    """Count spectra at points as if they were taken as the one before was, and let their time pass.

    Raises what ends the run.
    """
    run, loop, newest = spectra.run, spectra.time.loop, spectra.newest
    assert newest is not None
    frame, spec = newest
    count, dose = len(positions_nm), spectra.dose_e_per_nm2
    _demand(spectra, positions_nm, dose)
    begin_s = run.clock.now_s()
    each_s = frame.t_end_s - frame.t_start_s
    while (left_s := begin_s + count * each_s - run.clock.now_s()) > 1e-9:
        loop.wait(left_s)
    recorder = spectra.time.recorder("spectra", spectra.name, spec)
    recorder.record_block(_like(frame, begin_s, each_s, count), dose, positions_nm[-1])
    for position_nm, times in Counter(positions_nm).items():
        spectra.probe.count(spectra.place(position_nm), times * dose)
    spectra.probe.at = positions_nm[-1]


def _demand(spectra: Spectra, positions_nm: Sequence[tuple[float, float]], dose: float) -> None:
    """Say if the dose limit does not bear them; where, only if it is so."""
    run, limit = spectra.run, spectra.run.recipe.limits.dose
    if limit is None:
        return
    most = dose * max(Counter(positions_nm).values())
    areas = [spectra.area(position_nm) for position_nm in set(positions_nm)]
    left, top, right, bottom = np.array([area.edges for area in areas]).T
    x0, y0, x1, y1 = (float(v) for v in (left.min(), top.min(), right.max(), bottom.max()))
    around = Area((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
    if run.dose.highest_in(around) + most <= limit:
        return
    for area in areas:
        if run.dose.highest_in(area) + most > limit:
            spectra.time.demand_dose(most, area)
            return


def _like(frame: Frame, begin_s: float, each_s: float, count: int) -> SpectrumBlock:
    """As many spectra as that one, one right after the other; they share its data."""
    starts_s = begin_s + each_s * np.arange(count, dtype=np.float64)
    return SpectrumBlock(
        frame.stream,
        frame.index + 1,
        {name: np.broadcast_to(array, (count, *array.shape)) for name, array in frame.data.items()},
        starts_s,
        starts_s + each_s,
        {name: np.full(count, value) for name, value in frame.meta.scalars.items()},
        {
            name: starts_s[:, None] + np.array([begin, end]) - frame.t_start_s
            for name, (begin, end) in frame.meta.spans.items()
        },
    )
