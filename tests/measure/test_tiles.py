"""The dose of maps is kept exactly, however many points they have."""

from __future__ import annotations

import math

import pytest

from acquire.measure.dose import FIELD, SPOT, TILE, Area, DoseMap


def _map(found: DoseMap, side: int, dose: float, first: tuple[float, float] = (10.0, 20.0)) -> None:
    for row in range(side):
        for column in range(side):
            found.add_tile(Area(first[0] + 0.5 * column, first[1] + 0.4 * row, 0.5, 0.4), dose)


def test_points_of_a_map_that_touch_do_not_add_up_and_passes_do() -> None:
    found = DoseMap()
    for _ in range(3):
        _map(found, 110, 7.0)
    assert found.highest_e_per_nm2 == pytest.approx(21.0)
    found.add_tile(Area(10.5, 20.4, 0.5, 0.4), 2.0)  # what one point had beyond its exposure
    assert found.highest_e_per_nm2 == pytest.approx(23.0)
    assert found.highest_in(Area(10.0, 20.0, 0.5, 0.4)) == pytest.approx(21.0)
    assert found.highest_in(Area(10.5, 20.4, 0.5, 0.4)) == pytest.approx(23.0)
    assert found.highest_in(Area(9.0, 20.0, 1.5, 0.4)) == 0.0, "it only touches the map's edge"
    worst = found.worst()
    assert worst is not None
    assert (worst[0].x_nm, worst[0].y_nm) == pytest.approx((10.5, 20.4))
    picture = found.picture(256)
    assert picture.dose.max() == pytest.approx(23.0)
    assert (picture.dose > 20.0).mean() > 0.98


def test_fields_spots_and_maps_of_other_grids_count_on_top_of_each_other() -> None:
    found = DoseMap()
    _map(found, 4, 7.0)
    found.add(FIELD, Area(11.0, 21.0, 10.0, 10.0), 1.0)
    found.add(SPOT, Area.spot((10.5, 20.4), 0.1), 2.0)
    found.add(TILE, Area(10.6, 20.4, 0.3, 0.3), 4.0)
    assert found.highest_e_per_nm2 == pytest.approx(14.0)
    assert found.highest_in(Area(11.5, 21.2, 0.5, 0.4)) == pytest.approx(8.0)
    found.add_tile(Area(10.0, 20.0, 0.5, 0.4), math.nan)
    assert found.highest_e_per_nm2 == pytest.approx(14.0)


def test_more_grids_than_are_kept_apart_are_never_told_too_low() -> None:
    found = DoseMap()
    for index in range(100):
        _map(found, 2, 3.0, (100.0 * index, 0.0))
    assert found.highest_in(Area(9900.5, 0.4, 0.5, 0.4)) >= 3.0
    assert found.highest_in(Area(100.0, 0.0, 0.5, 0.4)) == pytest.approx(3.0)
