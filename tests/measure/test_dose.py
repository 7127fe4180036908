"""The dose map adds up where electrons fell, and never tells less than the worst place has seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquire.errors import MeasureError
from acquire.measure import dose as module
from acquire.measure.dose import Area, DoseMap

FIELD = Area(0.0, 0.0, 160.0, 120.0)

coordinates = st.integers(-40, 40)
sides = st.integers(1, 30)
doses = st.integers(1, 100)
exposures = st.lists(
    st.tuples(coordinates, coordinates, sides, sides, doses), min_size=1, max_size=9
)


def _brute(exposed: list[tuple[Area, float]], points: np.ndarray) -> np.ndarray:
    """Dose at points (n, 2) of (x, y), one rectangle after the other."""
    total = np.zeros(len(points))
    for area, dose in exposed:
        off = np.abs(points - [area.x_nm, area.y_nm]) * 2
        total[(off < [area.width_nm, area.height_nm]).all(axis=1)] += dose
    return total


def _grid(exposed: list[tuple[Area, float]]) -> np.ndarray:
    """A point within every patch that edges on whole and half nm can cut out."""
    low = min(min(a.x_nm - a.width_nm, a.y_nm - a.height_nm) for a, _ in exposed)
    high = max(max(a.x_nm + a.width_nm, a.y_nm + a.height_nm) for a, _ in exposed)
    axis = np.arange(low, high, 0.5) + 0.25
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def test_repeated_images_of_a_field_add_up() -> None:
    found = DoseMap()
    for _ in range(1000):
        found.add_field(FIELD, 600.0)
    assert found.highest_e_per_nm2 == pytest.approx(600_000.0, rel=1e-12)
    [(area, dose)] = found.places()
    assert (area, dose) == (FIELD, found.highest_e_per_nm2)


def test_fields_beside_each_other_do_not_add_up_and_those_that_overlap_do() -> None:
    found = DoseMap()
    left, right, between = (Area(x, 0.0, 10.0, 10.0) for x in (0.0, 10.0, 5.0))
    found.add_field(left, 3.0)
    found.add_field(right, 4.0)
    assert found.highest_e_per_nm2 == 4.0
    found.add_field(between, 5.0)
    assert found.highest_e_per_nm2 == 9.0
    assert found.highest_in(left) == 8.0
    assert found.highest_in(Area(-4.0, 0.0, 1.0, 1.0)) == 3.0
    assert found.highest_in(Area(100.0, 0.0, 1.0, 1.0)) == 0.0


@given(exposures)
@settings(max_examples=100, deadline=None)
def test_the_highest_dose_of_fields_is_that_of_the_worst_point(
    rows: list[tuple[int, int, int, int, int]],
) -> None:
    exposed = [(Area(float(x), float(y), float(w), float(h)), float(d)) for x, y, w, h, d in rows]
    found = DoseMap()
    for area, dose in exposed:
        found.add_field(area, dose)
    assert found.highest_e_per_nm2 == pytest.approx(_brute(exposed, _grid(exposed)).max())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_more_fields_than_are_kept_never_lower_the_dose(seed: int) -> None:
    random = np.random.default_rng(seed)
    found = DoseMap()
    exposed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_FIELDS", 5)
        for _ in range(30):
            x, y = random.uniform(-50, 50, 2)
            area = Area(x, y, *random.uniform(1, 30, 2))
            exposed.append((area, random.uniform(1, 10)))
            found.add_field(*exposed[-1])
            assert len(found.places()) <= 5
    points = random.uniform(-60, 60, (2000, 2))
    seen = _brute(exposed, points)
    assert found.highest_e_per_nm2 >= seen.max() - 1e-9
    for (x, y), dose in zip(points[:50], seen[:50], strict=True):
        assert found.highest_in(Area(x, y, 0.01, 0.01)) >= dose - 1e-9


def test_the_points_of_a_line_do_not_add_up_and_those_of_a_finer_one_do() -> None:
    found = DoseMap()
    for index in range(20):
        found.add_spot(Area.spot((2.0 * index, 0.0), 2.0), 7.0)
    assert found.highest_e_per_nm2 == 7.0
    found.add_spot(Area.spot((4.2, 0.0), 1.0), 5.0)
    assert found.highest_e_per_nm2 == 12.0


def test_a_spot_in_a_field_has_the_dose_of_both_and_one_beside_it_its_own() -> None:
    found = DoseMap()
    found.add_field(FIELD, 100.0)
    found.add_spot(Area.spot((200.0, 0.0), 1.0), 150.0)
    assert found.highest_e_per_nm2 == 150.0
    found.add_spot(Area.spot((10.0, 0.0), 1.0), 60.0)
    assert found.highest_e_per_nm2 == 160.0
    found.add_field(FIELD, 100.0)
    assert found.worst() == (FIELD, 260.0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 3.0]))
@settings(max_examples=15, deadline=None)
def test_more_points_than_are_kept_never_lower_the_dose(seed: int, side_nm: float) -> None:
    random = np.random.default_rng(seed)
    exact, bounded = DoseMap(), DoseMap()
    exact.add_field(FIELD, 3.0)
    bounded.add_field(FIELD, 3.0)
    places = random.uniform(-40, 40, (400, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_SPOTS", 64)
        for x, y in places:
            bounded.add_spot(Area.spot((x, y), side_nm), 2.0)
    for x, y in places:
        exact.add_spot(Area.spot((x, y), side_nm), 2.0)
    assert len(bounded.places()) <= 65
    assert bounded.highest_e_per_nm2 >= exact.highest_e_per_nm2
    for x, y in places[::20]:
        spot = Area.spot((x, y), side_nm)
        assert bounded.highest_in(spot) >= exact.highest_in(spot) - 1e-9


def test_the_picture_holds_every_electron_where_it_fell() -> None:
    found = DoseMap()
    found.add_everywhere(1.0)
    found.add_field(FIELD, 10.0)
    found.add_field(Area(40.0, 0.0, 20.0, 20.0), 5.0)
    found.add_spot(Area.spot((-40.5, 10.5), 1.0), 7.0)
    picture = found.picture(160)
    assert picture.dose.shape == (120, 160)
    electrons = 160 * 120 * 11.0 + 20 * 20 * 5.0 + 7.0
    assert picture.dose.sum() == pytest.approx(electrons)
    assert picture.dose[np.searchsorted(picture.y_nm, 10.4), 39] == 18.0
    assert picture.x_nm[39] == pytest.approx(-40.5)
    assert picture.dose.max() == found.highest_e_per_nm2 == 18.0


def test_what_is_not_known_counts_as_nothing_and_what_cannot_be_is_refused() -> None:
    found = DoseMap()
    found.add_field(FIELD, math.nan)
    found.add_spot(Area.spot((0.0, 0.0), 1.0), math.inf)
    found.add_everywhere(math.nan)
    assert found.highest_e_per_nm2 == 0.0
    assert found.worst() is None
    with pytest.raises(MeasureError, match="nothing was exposed"):
        found.picture()
    with pytest.raises(MeasureError, match="sides must be positive"):
        Area(0.0, 0.0, 0.0, 1.0)
    with pytest.raises(MeasureError, match="finite"):
        Area(math.nan, 0.0, 1.0, 1.0)
