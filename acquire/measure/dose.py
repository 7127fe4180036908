"""Adds up where on the specimen electrons fell: a map of dose per area, and its highest value.

Places are those of the scan's frame (x to the right, y down, in nm from the scan's origin) as it
lies on the specimen. A scan shift that follows the specimen's drift does not move a field over the
specimen, so that fields under drift correction fall on one place. Drift that nothing follows is not
taken out: the doses of all fields add up as if the specimen had stood still, which is the most that
a point of it can have seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError
from acquire.measure.tiles import Tiles

DOSE_TABLE = "dose"
"""The table of a run that holds its dose map: one row per place and about a minute."""
DOSE_COLUMNS = {"x": "nm", "y": "nm", "width": "nm", "height": "nm", "spot": "", "added": "e/nm²"}
"""Its columns: centre and sides of an area, what exposed it (:data:`FIELD`, :data:`SPOT` or
:data:`TILE`), and the dose that it got since its last row."""
FIELD, SPOT, TILE = 0, 1, 2
"""A scan; a resting probe; a resting probe on a point of a map, whose points touch."""
MOST_FIELDS = 48
"""Different rectangles that are kept apart; beyond, the two that fit best become one around both."""
MOST_SPOTS = 8192
"""Different points that are kept apart; beyond, those that share a cell become one."""
_SNAP_NM = 1e-6
_SAME = 1 + 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Area:
    """An upright rectangle on the specimen, in nm."""

    x_nm: float
    """Of its centre."""
    y_nm: float
    width_nm: float
    height_nm: float

    def __post_init__(self) -> None:
        sides = (self.width_nm, self.height_nm)
        if not (math.isfinite(self.x_nm + self.y_nm + sum(sides)) and min(sides) > 0):
            raise MeasureError(
                f"an area of {self.width_nm:g} × {self.height_nm:g} nm at ({self.x_nm:g}, "
                f"{self.y_nm:g}) nm cannot be exposed: sides must be positive, and all finite."
            )

    @classmethod
    def spot(cls, position_nm: tuple[float, float], side_nm: float) -> Area:
        """The square over which the electrons of a resting probe are thought to be spread."""
        return cls(*position_nm, side_nm, side_nm)

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, snapped so that equal fields have equal edges."""
        x, y, w, h = self.x_nm, self.y_nm, self.width_nm / 2, self.height_nm / 2
        left, top, right, bottom = (
            round(edge / _SNAP_NM) * _SNAP_NM for edge in (x - w, y - h, x + w, y + h)
        )
        return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class DosePicture:
    """A dose map as an image."""

    dose: Floats
    """e/nm² (y, x)."""
    x_nm: Floats
    """Centres of the columns."""
    y_nm: Floats


class DoseMap:
    """Dose per area, exactly while there are few places, and never too low when there are many.

    Fields are rectangles of even dose. A spot is what a resting probe exposes: its dose is spread
    over a square, and counts at the points where a probe rested, so that squares that only touch
    do not add up. A spot that touches a field's edge counts as lying in the field.

    The memory is bounded. Of more than :data:`MOST_FIELDS` rectangles the two whose common
    bounding box is the least larger than they are become that box with the sum of their doses. Of
    more than :data:`MOST_SPOTS` points those within one cell become one square around all of
    them, again with the sum; the cell doubles as often as it must.

    A tile is a point of a map: its area touches those of its neighbours and overlaps none, so that
    any number of them is kept exactly.
    """

    def __init__(self) -> None:
        self._everywhere = 0.0
        self._fields: dict[tuple[float, float, float, float], int] = {}
        self._doses = np.zeros(0)
        self._cover = np.zeros((1, 0), bool)
        """(region, field): the fields that cover each region of the plane that edges cut out."""
        self._spots: dict[tuple[float, float, float], int] = {}
        # rows: x, y, half the side; the spot's own dose, and with that of every other that covers it
        self._table = np.zeros((5, 64))
        self._inside = np.zeros((64, 0), bool)
        """(spot, field): whether they touch."""
        self._cell_nm = 0.0
        self._tiles = Tiles()

    # ------------------------------------------------------------------------------ adding

    def add_everywhere(self, dose_e_per_nm2: float) -> None:
        """Count what every place has seen, because nobody knows which did. NaN counts as nothing."""
        if math.isfinite(dose_e_per_nm2):
            self._everywhere += dose_e_per_nm2

    def add_field(self, area: Area, dose_e_per_nm2: float) -> None:
        """Count an image: electrons per nm², even over the area. NaN counts as nothing."""
        if not math.isfinite(dose_e_per_nm2):
            return
        edges = area.edges
        if edges not in self._fields:
            self._fields[edges] = len(self._fields)
            self._doses = np.append(self._doses, 0.0)
            if len(self._fields) > MOST_FIELDS:
                self._doses[-1] = dose_e_per_nm2
                self._merge_fields()
                return
            self._arrange()
        self._doses[self._fields[edges]] += dose_e_per_nm2

    def add_spot(self, area: Area, dose_e_per_nm2: float) -> None:
        """Count a resting probe: electrons per nm² over a square. NaN counts as nothing."""
        if not math.isfinite(dose_e_per_nm2):
            return
        self._add_spot(area.x_nm, area.y_nm, area.width_nm / 2, dose_e_per_nm2)
        if len(self._spots) > MOST_SPOTS:
            self._merge_spots()

    def add_tile(self, area: Area, dose_e_per_nm2: float) -> None:
        """Count a probe that rests on a point of a map. NaN counts as nothing."""
        if not math.isfinite(dose_e_per_nm2):
            return
        place, size = (area.x_nm, area.y_nm), (area.width_nm, area.height_nm)
        if not self._tiles.add(place, size, dose_e_per_nm2):
            self.add_spot(Area.spot(place, max(size)), dose_e_per_nm2)

    def add(self, kind: int, area: Area, dose_e_per_nm2: float) -> None:
        """Count what was exposed by :data:`FIELD`, :data:`SPOT` or :data:`TILE`."""
        (self.add_field, self.add_spot, self.add_tile)[kind](area, dose_e_per_nm2)

    # ----------------------------------------------------------------------------- reading

    @property
    def highest_e_per_nm2(self) -> float:
        """The highest dose of any place."""
        return self._highest(None)

    def highest_in(self, area: Area) -> float:
        """The highest dose of any place within an area: what an exposure of it adds to."""
        return self._highest(area.edges)

    def worst(self) -> tuple[Area, float] | None:
        """The field or spot that has seen most, and its dose; None before anything was exposed."""
        found = self.places()
        return max(found, key=lambda place: place[1]) if found else None

    def places(self) -> list[tuple[Area, float]]:
        """Every field and spot, and of each map the worst point, with the highest dose in it, e/nm²."""
        fields = [_area(edges) for edges in self._fields]
        fields += map(_area, self._tiles.worst())
        found = [(area, self.highest_in(area)) for area in fields]
        xs, ys, halves, _, _ = self._rows
        for x, y, half, dose in zip(xs, ys, halves, self._at_spots(), strict=True):
            spot = Area(float(x), float(y), float(2 * half), float(2 * half))
            found.append((spot, float(dose) + self._tiles.highest_in(spot.edges)))
        return found

    def picture(self, pixels: int = 512) -> DosePicture:
        """The map as an image whose longer side has ``pixels``; raises MeasureError if it is empty.

        A pixel has the dose of its centre; a spot that is smaller has one pixel. What counts
        everywhere is in all of them.
        """
        tiles = list(self._tiles.all())
        shapes = [*self._fields, *self._squares(), *(edges for edges, _ in tiles)]
        if not shapes:
            raise MeasureError("nothing was exposed, so there is no dose to draw.")
        if pixels < 1:
            raise MeasureError(f"a picture of {pixels} pixels cannot be drawn; ask for 1 or more.")
        left, top = (min(edges[i] for edges in shapes) for i in (0, 1))
        right, bottom = (max(edges[i] for edges in shapes) for i in (2, 3))
        step = max(right - left, bottom - top) / pixels
        columns, rows = (
            max(1, math.ceil(length / step - 1e-6)) for length in (right - left, bottom - top)
        )
        dose = np.full((rows, columns), self._everywhere)
        own = [*self._doses, *self._rows[3], *(added for _, added in tiles)]
        for (x0, y0, x1, y1), value in zip(shapes, own, strict=True):
            down, across = _pixels(y0 - top, y1 - top, step), _pixels(x0 - left, x1 - left, step)
            dose[down, across] += value
        x_nm, y_nm = (
            start + step * (np.arange(count, dtype=np.float64) + 0.5)
            for start, count in ((left, columns), (top, rows))
        )
        return DosePicture(dose, x_nm, y_nm)

    # ----------------------------------------------------------------------------- helpers

    @property
    def _rows(self) -> Floats:
        return self._table[:, : len(self._spots)]

    def _squares(self) -> list[tuple[float, float, float, float]]:
        xs, ys, halves, _, _ = self._rows
        sides = (xs - halves, ys - halves, xs + halves, ys + halves)
        return list(zip(*(side.tolist() for side in sides), strict=True))

    def _at_spots(self) -> Floats:
        inside = self._inside[: len(self._spots)]
        return np.asarray(self._rows[4] + inside @ self._doses + self._everywhere)

    def _highest(self, edges: tuple[float, float, float, float] | None) -> float:
        chosen = self._at_spots()
        if edges is None:
            regions = self._cover
        elif edges in self._fields:
            at = self._fields[edges]
            regions = self._cover[self._cover[:, at]]
            chosen = chosen[self._inside[: len(self._spots), at]]
        else:
            regions = _regions([*self._fields, edges])
            regions = regions[regions[:, -1], :-1]
            chosen = chosen[self._touching(edges)]
        highest = float((regions @ self._doses).max(initial=0.0)) + self._everywhere
        # where spots, fields and maps are worst need not be one place: this is the most it can be
        return max(highest, float(chosen.max(initial=0.0))) + self._tiles.highest_in(edges)

    def _touching(self, edges: tuple[float, float, float, float]) -> NDArray[np.bool_]:
        left, top, right, bottom = edges
        xs, ys, halves, _, _ = self._rows
        across = (xs + halves > left + _SNAP_NM) & (xs - halves < right - _SNAP_NM)
        return np.asarray(
            across & (ys + halves > top + _SNAP_NM) & (ys - halves < bottom - _SNAP_NM)
        )

    def _arrange(self) -> None:
        self._cover = _regions(list(self._fields))
        self._inside = np.zeros((self._table.shape[1], len(self._fields)), bool)
        for at, edges in enumerate(self._fields):
            self._inside[: len(self._spots), at] = self._touching(edges)

    def _merge_fields(self) -> None:
        all_edges = np.array(list(self._fields))
        left, top, right, bottom = all_edges.T
        area = (right - left) * (bottom - top)
        width = np.maximum.outer(right, right) - np.minimum.outer(left, left)
        height = np.maximum.outer(bottom, bottom) - np.minimum.outer(top, top)
        # by factors, not by areas: else a large field would swallow every small one
        factor = width * height / np.minimum.outer(area, area)
        np.fill_diagonal(factor, np.inf)
        one, other = (int(i) for i in np.unravel_index(np.argmin(factor), factor.shape))
        box = (
            float(min(left[one], left[other])),
            float(min(top[one], top[other])),
            float(max(right[one], right[other])),
            float(max(bottom[one], bottom[other])),
        )
        doses: dict[tuple[float, float, float, float], float] = {}
        for at, edges in enumerate(self._fields):
            kept = box if at in (one, other) else edges
            doses[kept] = doses.get(kept, 0.0) + float(self._doses[at])
        self._fields = {edges: at for at, edges in enumerate(doses)}
        self._doses = np.array(list(doses.values()))
        self._arrange()

    def _add_spot(self, x: float, y: float, half: float, dose: float) -> None:
        x, y, half = self._in_cell(x, y, half)
        count = len(self._spots)
        at = self._spots.setdefault((x, y, half), count)
        if at == count:
            if count == self._table.shape[1]:
                self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)
                self._inside = np.concatenate([self._inside, np.zeros_like(self._inside)])
            self._table[:3, at] = x, y, half
            for number, edges in enumerate(self._fields):
                left, top, right, bottom = edges
                self._inside[at, number] = (
                    left - half + _SNAP_NM < x < right + half - _SNAP_NM
                    and top - half + _SNAP_NM < y < bottom + half - _SNAP_NM
                )
        xs, ys, halves, own, total = self._rows
        far = np.maximum(np.abs(xs - x), np.abs(ys - y)) * _SAME
        if at == count:
            total[at] = own[far < halves].sum()
        own[at] += dose
        total[far < half] += dose

    def _in_cell(self, x: float, y: float, half: float) -> tuple[float, float, float]:
        """Where a spot is counted: itself, or the middle of its cell, wide enough for all in it."""
        cell = self._cell_nm
        if cell == 0:
            return x, y, half
        x, y = ((math.floor(v / cell) + 0.5) * cell for v in (x, y))
        # of one size per octave, so that sizes that differ a little share a cell
        return x, y, cell + 2.0 ** math.ceil(math.log2(half) - 1e-9)

    def _merge_spots(self) -> None:
        while len(self._spots) > MOST_SPOTS // 2:
            xs, ys, halves, own = self._rows[:4].copy()
            if self._cell_nm:
                halves = halves - self._cell_nm
            self._cell_nm = 2 * self._cell_nm if self._cell_nm else 2 * float(halves.min())
            self._spots = {}
            self._table = np.zeros((5, 64))
            self._inside = np.zeros((64, len(self._fields)), bool)
            for row in zip(xs.tolist(), ys.tolist(), halves.tolist(), own.tolist(), strict=True):
                self._add_spot(*row)


def _area(edges: tuple[float, float, float, float]) -> Area:
    left, top, right, bottom = edges
    return Area((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def _regions(fields: list[tuple[float, float, float, float]]) -> NDArray[np.bool_]:
    """Which fields cover each region of the plane that their edges cut out: (region, field)."""
    if not fields:
        return np.zeros((1, 0), bool)
    left, top, right, bottom = np.array(fields).T
    xs, ys = (np.unique(np.concatenate(pair)) for pair in ((left, right), (top, bottom)))
    x, y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
    across = (x[:, None] > left) & (x[:, None] < right)
    down = (y[:, None] > top) & (y[:, None] < bottom)
    cover = (down[:, None] & across[None]).reshape(-1, len(fields))
    return np.asarray(np.unique(cover, axis=0))


def _pixels(begin: float, end: float, step: float) -> slice:
    """The pixels whose centres lie between; the nearest one if none does."""
    first, stop = (math.ceil(edge / step - 0.5 - 1e-6) for edge in (begin, end))
    if stop > first:
        return slice(max(0, first), stop)
    at = max(0, math.floor((begin + end) / 2 / step))
    return slice(at, at + 1)
