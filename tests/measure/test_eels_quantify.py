"""Edge integrals become atoms per nm² by cross-sections that hold for them, and by no others."""

from __future__ import annotations

import numpy as np
import pytest

from acquire.errors import MeasureError
from acquire.measure.eels import fit_power_law, running_sum, window_sum
from acquire.measure.eels.elements import EDGE_TABLE
from acquire.measure.eels.losses import mean_losses, single_scattering
from acquire.measure.eels.quantify import (
    SHEET,
    Conditions,
    CrossSection,
    areal_density,
    atomic_ratio,
    cross_sections,
)
from acquire.measure.eels.thickness import log_ratio
from simulators.spectra import Band, CoreLoss, LowLoss, Optics, film

HERE = Conditions(200.0, 33.0, 50.0)


def test_figures_of_the_sheet_hold_for_its_conditions() -> None:
    barn = {name: SHEET.of(name, HERE).barn for name in ("o_k", "ti_l", "ni_l", "sr_l")}
    assert barn == {"o_k": 1166.0, "ti_l": 4038.0, "ni_l": 624.0, "sr_l": 120.0}


@pytest.mark.parametrize(
    ("edge", "conditions", "message"),
    [
        ("o_k", Conditions(300.0, 33.0, 50.0), "beam energy of 300 kV.*hold for 200 kV"),
        ("o_k", Conditions(200.0, 20.0, 50.0), "collection angle of 20 mrad"),
        ("ti_l", Conditions(200.0, 33.0, 24.0), "integration window of 24 eV"),
        ("la_m", HERE, "no cross-section of 'la_m' at 200 kV, 33 mrad, 50 eV"),
    ],
)
def test_other_conditions_and_other_edges_are_refused(
    edge: str, conditions: Conditions, message: str
) -> None:
    with pytest.raises(MeasureError, match=message):
        SHEET.of(edge, conditions)


def test_a_density_is_the_edge_over_the_low_loss_and_the_cross_section() -> None:
    # 1000 atoms/nm² of 1000 barn scatter 1e-4 of the electrons
    found = areal_density(
        [1e4, 2e4, 1e4],
        [1e8, 1e8, 0.0],
        CrossSection(1000.0, 100.0),
        sigma=[100.0, 200.0, 100.0],
        low_loss_sigma=1e6,
    )
    assert found.value[:2] == pytest.approx([1000.0, 2000.0])
    assert found.sigma[:2] == pytest.approx([np.hypot(10, 10), np.hypot(20, 20)])
    assert found.scale_sigma == pytest.approx(0.1)
    assert np.isnan(found.value[2])
    assert found.flags["no_low_loss"].tolist() == [False, False, True]
    longer = areal_density(1e6, 1e8, CrossSection(1000.0), exposure_ratio=100.0)
    assert longer.value == pytest.approx(1000.0)
    with pytest.raises(MeasureError, match="ratio of the exposures"):
        areal_density(1.0, 1.0, CrossSection(1000.0), exposure_ratio=0.0)


def test_a_ratio_needs_no_low_loss_but_something_to_divide_by() -> None:
    found = atomic_ratio(
        [300.0, 300.0], 30.0, CrossSection(100.0), [200.0, 10.0], 10.0, CrossSection(50.0)
    )
    assert found.value[0] == pytest.approx(0.75)
    assert found.sigma[0] == pytest.approx(0.75 * np.hypot(0.1, 0.05))
    assert np.isnan(found.value[1])
    assert found.flags["too_little"].tolist() == [False, True]


def test_a_table_of_ones_own_is_read_and_checked() -> None:
    given = {
        "beam_kev": 300,
        "collection_mrad": 33,
        "window_ev": 50,
        "source": "measured on SrTiO3",
        "barn": {"o_k": 1030, "la_m": {"barn": 2200.0, "sigma": 300.0}},
    }
    table = cross_sections(given)
    there = Conditions(300.0, 33.0, 50.0)
    assert table.of("la_m", there) == CrossSection(2200.0, 300.0)
    with pytest.raises(MeasureError, match="measured on SrTiO3"):
        table.of("o_k", HERE)
    for change, message in (
        ({"beam_kev": -1}, "must be positive"),
        ({"barn": {"o_k": "many"}}, "a number is needed"),
        ({"barn": {"o_k": {"bern": 1.0}}}, "barn and sigma"),
        ({"barn": {}}, "gives no barn"),
        ({"voltage": 300}, "has voltage"),
    ):
        with pytest.raises(MeasureError, match=message):
            cross_sections(given | change)
    with pytest.raises(MeasureError, match="lacks window_ev"):
        cross_sections({k: v for k, v in given.items() if k != "window_ev"})


@pytest.mark.parametrize("thickness_nm", [20.0, 60.0, 120.0])
def test_densities_of_a_simulated_film_come_out_through_plural_scattering(
    thickness_nm: float,
) -> None:
    optics, point, beam = Optics(beam_kev=200.0), film("srtio3", thickness_nm), 1e9
    core_band, low_band = Band(380.0, 0.25, 1200), Band(-20.0, 0.25, 1000)
    core = CoreLoss(core_band, optics).mean(point, beam, 0.0)[None]
    low = LowLoss(low_band, optics).mean(point, beam, 0.0)[None]
    offset, low_offset = np.array([380.0]), np.array([-20.0])
    depth = log_ratio(low, low_offset, 0.25, fwhm_ev=0.6)
    losses = mean_losses(low, low_offset, 0.25, fwhm_ev=0.6, peak=depth.peak)
    assert losses is not None
    edge, expected = EDGE_TABLE["ti_l"].over(50.0), point.per_nm2["Ti"]
    law = fit_power_law(core, offset, 0.25, *edge.fit_ev)
    section = SHEET.of("ti_l", HERE)
    once, _ = single_scattering(core, offset, 0.25, law, edge.window_ev, losses)
    exact = areal_density(once, depth.zero_loss, section)
    assert exact.value[0] == pytest.approx(expected, rel=0.03)
    # the usual formula: simple, and too small
    gross = window_sum(running_sum(core), offset, 0.25, *edge.window_ev)
    net = gross - law.integral(*(np.array([end]) for end in edge.window_ev))[0]
    below = window_sum(running_sum(low), low_offset, 0.25, -10.0, 50.0)
    usual = areal_density(net, below, section).value[0]
    assert 0.7 * expected < usual < exact.value[0]
