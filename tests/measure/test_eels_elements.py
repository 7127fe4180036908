"""Edges know each other: what lies in the way of one is told, and no name or window passes unchecked."""

from __future__ import annotations

import pytest

from acquire.errors import MeasureError
from acquire.measure.eels.elements import (
    EDGE_TABLE,
    Edge,
    Overlap,
    check_edge,
    chosen,
    edges_on,
    overlaps,
)

ONSETS = {
    "o_k": (532.0,),
    "ti_l": (456.0, 462.0),
    "ni_l": (855.0, 872.0),
    "la_m": (832.0, 849.0),
    "sr_l": (1940.0, 2007.0),
    "ta_m": (1735.0, 1793.0),
    "ta_o": (36.0,),
    "li_k": (55.0,),
    "c_k": (284.0,),
}


def test_onsets_are_those_of_the_sheet_and_windows_follow_them() -> None:
    for name, onsets in ONSETS.items():
        assert EDGE_TABLE[name].onsets_ev == onsets
    assert EDGE_TABLE["zr_l"].onsets_ev[0] == 2222.0
    for name, edge in EDGE_TABLE.items():
        check_edge(name, edge)
        assert edge.fit_ev[1] <= edge.onsets_ev[0] <= edge.window_ev[1]
        assert abs(edge.window_ev[0] - edge.onsets_ev[0]) <= 3.0


@pytest.mark.parametrize(
    ("name", "elements", "found"),
    [
        ("ni_l", {"La", "Ni"}, (Overlap("la_m", "background"),)),
        ("ni_l", {"Ni"}, ()),
        ("la_m", {"La", "Ni"}, ()),
        ("o_k", {"Ti", "O"}, (Overlap("ti_l", "tail"),)),
        ("sr_l", {"Sr", "Ta"}, (Overlap("ta_m", "tail"),)),
        ("zr_l", {"Zr", "Ta"}, (Overlap("ta_m3", "background"),)),
        ("zr_l", {"Zr", "Sr"}, (Overlap("sr_l", "tail"),)),
        ("li_k", {"Li", "Ta"}, (Overlap("ta_o", "hidden"),)),
        ("ti_l", {"Ti", "O", "La", "Sr", "Ni"}, ()),
    ],
)
def test_edges_in_the_way_are_told(
    name: str, elements: set[str], found: tuple[Overlap, ...]
) -> None:
    assert overlaps(name, EDGE_TABLE[name], elements) == found


def test_a_window_that_holds_the_next_edge_is_told() -> None:
    wide = EDGE_TABLE["la_m"].over(50.0)
    assert wide.window_ev == (829.0, 879.0)
    assert overlaps("la_m", wide, {"La", "Ni"}) == (Overlap("ni_l", "window"),)
    assert EDGE_TABLE["ti_l"].over(50.0).window_ev == (453.0, 503.0)
    with pytest.raises(MeasureError, match="onsets_ev"):
        Edge((410.0, 450.0), (456.0, 480.0)).over(50.0)


def test_edges_are_offered_where_their_windows_lie_on_the_axis() -> None:
    assert set(edges_on(400.0, 600.0)) == {"ti_l", "o_k"}
    assert set(edges_on(770.0, 1000.0)) == {"la_m", "ni_l"}
    assert set(edges_on(1640.0, 2300.0)) == {"ta_m", "sr_l", "ta_m3", "zr_l"}
    # lithium drowns in tantalum: it is not offered unasked
    assert "li_k" not in edges_on(-10.0, 300.0)
    assert list(chosen(["o_k"])) == ["o_k"]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (["fe_l"], "there is no edge 'fe_l'"),
        ({"x": Edge((10.0, 20.0), (30.0, 30.0))}, "positive width"),
        ({"x": Edge((-10.0, 20.0), (30.0, 40.0))}, "positive energies"),
        ({"x": Edge((10.0, 35.0), (30.0, 40.0))}, "fit must end before"),
    ],
)
def test_unknown_edges_and_empty_windows_are_refused(edges: object, message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        chosen(edges)  # type: ignore[arg-type]
