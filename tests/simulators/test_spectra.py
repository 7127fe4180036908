"""Mean spectra: energies, areas, composition, plural scattering, vibrations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simulators.spectra import POINTS, AnyLoss, Band, CoreLoss, LowLoss, Optics, Point, film
from simulators.spectra.cross_sections import BARN_NM2, TABLE, TABLE_WINDOW_EV, barn
from simulators.spectra.edges import EDGES, per_atom
from simulators.spectra.materials import MATERIALS
from simulators.spectra.model import background_events
from simulators.spectra.phonons import BOLTZMANN_EV_PER_K, distribution

BULK, BOUNDARY = POINTS["lsnt_matrix"](), POINTS["lsnt_boundary"]()
GRAIN, GRAIN_BOUNDARY = POINTS["lstz_grain"](), POINTS["lstz_boundary"]()
VACUUM = POINTS["vacuum"]()
CORE = Band(400.0, 0.1, 2000)
LOW = Band(-20.0, 0.1, 2000)
VIBRATIONS = Band(-0.25, 0.0005, 1024)
MONOCHROMATED = Optics(fwhm_ev=0.009, beam_kev=60.0)
Array = NDArray[np.float64]
_SHIFTED = LowLoss(LOW)


@pytest.fixture(scope="module")
def core() -> CoreLoss:
    return CoreLoss(CORE)


@pytest.fixture(scope="module")
def low() -> LowLoss:
    return LowLoss(LOW)


def _depth(model: LowLoss | AnyLoss, point: Point) -> float:
    """The log ratio of all electrons to the zero loss, by what the height of the peak has lost."""
    spectrum, beam = (model.mean(p, 1e6, 0.0) for p in (point, VACUUM))
    top = int(np.argmax(beam))
    return math.log(spectrum.sum() / (beam.sum() * spectrum[top] / beam[top]))


def _net(spectrum: Array, band: Band, edge_ev: float, width_ev: float) -> float:
    """Edge above a power law through the 30 eV before it."""
    energy = band.energy_ev()
    before = (energy > edge_ev - 35) & (energy < edge_ev - 5)
    slope, level = np.polyfit(np.log(energy[before]), np.log(spectrum[before]), 1)
    window = (energy > edge_ev) & (energy < edge_ev + width_ev)
    return float((spectrum[window] - np.exp(level) * energy[window] ** slope).sum())


@pytest.mark.parametrize("dispersion", [0.05, 0.1, 0.5])
def test_zero_loss_peak_is_where_the_shift_puts_it_and_06_ev_wide(dispersion: float) -> None:
    band = Band(-20.0, dispersion, 2000)
    axis = band.energy_ev()
    mean = LowLoss(band).mean(BULK, 1e6, 0.37)
    near = np.abs(axis - 0.37) < 2
    weights = mean[near] / mean[near].sum()
    assert float(axis[near] @ weights) == pytest.approx(0.37, abs=0.02)
    if dispersion <= 0.1:
        above = axis[mean > mean.max() / 2]
        assert above[-1] - above[0] == pytest.approx(0.6, abs=2 * dispersion)


def test_a_monochromated_peak_keeps_its_width_and_on_wide_channels_its_area() -> None:
    axis = VIBRATIONS.energy_ev()
    mean = LowLoss(VIBRATIONS, MONOCHROMATED).mean(VACUUM, 1e6, 0.0)
    above = axis[mean > mean.max() / 2]
    assert above[-1] - above[0] == pytest.approx(0.009, abs=0.001)
    wide = LowLoss(LOW, MONOCHROMATED).mean(VACUUM, 1e6, 0.0)
    assert wide.sum() == pytest.approx(1e6, rel=1e-3)
    assert wide.max() > 0.9e6


@given(shift=st.floats(-4, 4), share=st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_a_shift_moves_every_electron_by_it(shift: float, share: float) -> None:
    spectrum = _SHIFTED.spectrum(replace(BULK, thickness_nm=200 * share))
    still, moved = (spectrum.row(1e6, by) for by in (0.0, shift))
    axis = LOW.energy_ev()
    inner = axis @ still / still.sum()
    # the tails and the plasmons that leave the band at its ends are all that is lost
    assert moved.sum() == pytest.approx(still.sum(), rel=2e-3)
    assert axis @ moved / moved.sum() - inner == pytest.approx(shift, abs=0.12)


def test_a_blur_adds_its_variance_to_the_peak(low: LowLoss) -> None:
    axis = LOW.energy_ev()
    core_of_peak = np.abs(axis) < 1.5
    spread = []
    for blur in (0.0, 0.06):
        row = low.spectrum(VACUUM).rows(1e6, [0.0], blur)[0][core_of_peak]
        spread.append(float(axis[core_of_peak] ** 2 @ row / row.sum()))
        assert row.sum() > 0.97e6
    assert spread[1] - spread[0] == pytest.approx(0.06**2, rel=0.1)


def test_low_loss_keeps_every_electron(low: LowLoss) -> None:
    for thickness in (0.0, 30.0, 60.0):
        assert low.mean(film("srtio3", thickness), 1e6, 0.0).sum() == pytest.approx(1e6, rel=0.001)


@pytest.mark.parametrize("material", ["srtio3", "lsnt", "lstz", "tio2", "carbon"])
@pytest.mark.parametrize("thickness", [10.0, 60.0, 200.0])
def test_the_log_ratio_of_a_noiseless_low_loss_is_thickness_over_mean_free_path(
    material: str, thickness: float
) -> None:
    for beam_kev in (60.0, 200.0, 300.0):
        optics = Optics(beam_kev=beam_kev)
        point = film(material, thickness)
        expected = thickness / MATERIALS[material].path_nm(beam_kev)
        assert point.depth(beam_kev) == pytest.approx(expected)
        if expected < 1.7:  # beyond, some is lost above the band
            model = LowLoss(Band(-20.0, 0.25, 1500), optics)
            assert _depth(model, point) == pytest.approx(expected, abs=0.002)


def test_published_mean_free_paths_are_those_of_the_sheet() -> None:
    assert [MATERIALS["srtio3"].path_nm(kev) for kev in (60, 200, 300)] == [60, 123, 147]
    assert [MATERIALS["nickel"].path_nm(kev) for kev in (60, 200, 300)] == [53, 107, 128]


def test_plural_scattering_is_the_poisson_sum_of_self_convolutions() -> None:
    band = Band(-10.0, 0.1, 3000)
    model = LowLoss(band)
    n = film("srtio3", 150.0).depth(300.0)
    thin, thick = (model.mean(film("srtio3", t), 1.0, 0.0) for t in (1e-3, 150.0))
    beam = model.mean(VACUUM, 1.0, 0.0)
    single = (thin - beam * math.exp(-film("srtio3", 1e-3).depth(300.0))) / film(
        "srtio3", 1e-3
    ).depth(300.0)
    zero = round(10.0 / 0.1)
    kernel, order, expected = single[zero:], beam, np.zeros_like(beam)
    # the peak of 0.6 eV blurs every order once more here, which wide plasmons do not show
    for k in range(12):
        expected += math.exp(-n) * n**k / math.factorial(k) * order
        order = np.convolve(order, kernel)[: len(beam)]
    axis = band.energy_ev()
    plasmons = (axis > 8) & (axis < 150)
    assert np.abs(thick - expected)[plasmons].max() < 0.01 * thick[plasmons].max()
    assert thick[plasmons].sum() == pytest.approx(expected[plasmons].sum(), rel=2e-3)


@pytest.mark.parametrize("name", sorted(EDGES))
def test_edge_areas_are_the_cross_sections_of_the_table(name: str) -> None:
    energy = np.arange(100.0, 2600.0, 0.01)
    edge = EDGES[name]
    inside = (energy >= edge.start_ev) & (energy < edge.start_ev + TABLE_WINDOW_EV)
    area = float(per_atom(name, energy)[inside].sum()) * 0.01
    expected = TABLE[edge.cross_section].barn * BARN_NM2
    if edge.like:  # only its peak b is weaker
        assert 0.6 * expected < area < 0.9 * expected
    else:
        assert area == pytest.approx(expected, rel=0.005)


def test_cross_sections_are_the_sheets_at_200_kv_and_fall_with_the_beam_energy() -> None:
    sheet = {"o_k": 1166, "ti_l": 4038, "ni_l": 624, "sr_l": 120}
    assert {name: barn(name, 200.0) for name in sheet} == pytest.approx(sheet)
    for name in TABLE:
        assert barn(name, 200.0) > barn(name, 300.0) > 0.8 * barn(name, 200.0)
        assert barn(name, 60.0) > 0.9 * barn(name, 200.0)


def test_areal_densities_come_back_from_a_thin_film_by_the_table() -> None:
    band = Band(400.0, 0.1, 2000)
    point = film("srtio3", 4.0)
    spectrum = CoreLoss(band, Optics(beam_kev=200.0)).mean(point, 1e12, 0.0)
    energy = band.energy_ev()
    before = (energy > 410) & (energy < 450)
    slope, level = np.polyfit(np.log(energy[before]), np.log(spectrum[before]), 1)
    edge = EDGES["ti4"].start_ev
    window = (energy > edge) & (energy < edge + TABLE_WINDOW_EV)
    net = (spectrum - np.exp(level) * energy**slope)[window].sum()
    found = net / 1e12 / (4038 * BARN_NM2)
    # what is scattered once more leaves the window: a thirtieth of the electrons at this thickness
    assert found == pytest.approx(point.per_nm2["Ti"], rel=0.04)


def test_titanium_at_a_boundary_moves_down_and_loses_its_splitting(core: CoreLoss) -> None:
    axis = CORE.energy_ev()
    bulk, boundary = (core.mean(p, 1e8, 0.0) for p in (BULK, BOUNDARY))
    valley = np.abs(axis - 458.45) < 0.2
    peak = np.abs(axis - 459.7) < 0.3
    contrast = {
        name: float(s[peak].mean() / s[valley].mean())
        for name, s in (("bulk", bulk), ("boundary", boundary))
    }
    assert contrast["bulk"] > 2
    assert contrast["boundary"] - 1 < 0.4 * (contrast["bulk"] - 1)
    edge = (axis > 452) & (axis < 467)

    def centre(spectrum: Array) -> float:
        net = spectrum[edge] - spectrum[np.abs(axis - 452) < 1].mean()
        return float(axis[edge] @ net / net.sum())

    # 55 % more Ti3+, which lies some 2 eV lower
    assert -1.5 < centre(boundary) - centre(bulk) < -0.6


def test_mixed_valence_is_a_linear_combination(core: CoreLoss) -> None:
    none, half, all_ = (core.mean(film("lsnt", ti3_fraction=w), 1e8, 0.0) for w in (0.0, 0.5, 1.0))
    assert np.allclose(half, (none + all_) / 2, rtol=1e-9)


def test_oxygens_second_peak_is_suppressed_at_a_boundary(core: CoreLoss) -> None:
    axis = CORE.energy_ev()

    def b_over_a(point: Point) -> float:
        spectrum = core.mean(point, 1e8, 0.0)
        base = spectrum[np.abs(axis - 527) < 1].mean()
        a, b = (spectrum[np.abs(axis - e) < 0.3].mean() - base for e in (532.0, 537.3))
        return float(b / a)

    assert b_over_a(BOUNDARY) < 0.85 * b_over_a(BULK)


def test_background_before_the_edges_is_a_power_law(core: CoreLoss) -> None:
    axis = CORE.energy_ev()
    before = axis < 450
    spectrum = core.mean(BULK, 1e8, 0.0)[before]
    slope, _ = np.polyfit(np.log(axis[before]), np.log(spectrum), 1)
    assert slope == pytest.approx(-3.0, abs=0.2)


def test_nickel_edges_grow_with_the_particle_under_the_probe() -> None:
    band = Band(780.0, 0.25, 700)
    model = CoreLoss(band)
    axis = band.energy_ev()
    line = np.abs(axis - 856) < 2
    before = np.abs(axis - 845) < 2
    heights = (0.0, 2.0, 4.0, 8.0)
    found = []
    for nm in heights:
        s = model.mean(film("lsnt", nickel_nm=nm), 1e8, 0.0)
        found.append(float(s[line].mean() - s[before].mean()))
    steps = np.diff(found) / np.diff(heights)
    assert (steps > 0).all()
    # the particle scatters plasmons, too, so that the growth slows by some percent
    assert steps[-1] == pytest.approx(steps[0], rel=0.1)


@pytest.mark.parametrize(
    ("edge_ev", "width_ev", "expected"),
    [(1735.0, 50.0, -0.11), (1940.0, 50.0, -0.26), (2222.0, 50.0, -0.07), (532.0, 40.0, 0.0)],
)
def test_a_grain_boundary_is_poor_by_the_published_shares(
    edge_ev: float, width_ev: float, expected: float
) -> None:
    band = Band(edge_ev - 40.0, 0.5, 250)
    model = CoreLoss(band)
    grain, boundary = GRAIN, GRAIN_BOUNDARY
    if edge_ev == 2222.0:
        # Ta-M3 lies below Zr-L3, with another deficit; it is taken out to see zirconium alone
        grain, boundary = (
            replace(p, per_nm2={k: v for k, v in p.per_nm2.items() if k != "Ta"})
            for p in (grain, boundary)
        )
    nets = [_net(model.mean(p, 1e10, 0.0), band, edge_ev, width_ev) for p in (grain, boundary)]
    assert nets[1] / nets[0] - 1 == pytest.approx(expected, abs=0.01)


def test_ta_o_hides_the_edge_of_lithium() -> None:
    band = Band(-20.0, 0.1, 2000)
    model = LowLoss(band)
    axis = band.energy_ev()
    lithium = {name: share for name, share in GRAIN.per_nm2.items() if name != "Li"}
    without = replace(GRAIN, per_nm2=lithium, relative={"Li": 0.0})
    with_li, bare = (model.mean(p, 1e8, 0.0) for p in (GRAIN, without))
    at = np.abs(axis - 57) < 1
    assert 0.0 < float((with_li / bare)[at].mean()) - 1 < 0.05
    ta_o = float(with_li[np.abs(axis - 40) < 1].mean() / with_li[np.abs(axis - 34) < 0.5].mean())
    assert ta_o > 0.6  # a shoulder where plasmons alone have fallen to a tenth


def test_any_losses_count_no_electron_twice() -> None:
    for name in ("srtio3", "lstz_grain", "vacuum"):
        point = POINTS[name]()
        model = AnyLoss(Band(-20.0, 1.0, 3000))
        assert model.mean(point, 1e6, 0.0).sum() == pytest.approx(1e6, rel=0.004)
    assert background_events(VACUUM) == 0
    # the background is part of what the mean free path tells of
    assert _depth(AnyLoss(Band(-20.0, 0.5, 4000)), BULK) == pytest.approx(
        BULK.depth(300), abs=0.005
    )


def test_any_losses_are_core_losses_above_and_low_losses_below() -> None:
    high = Band(420.0, 0.1, 500)
    assert np.array_equal(AnyLoss(high).mean(BULK, 1e6, 0.2), CoreLoss(high).mean(BULK, 1e6, 0.2))
    first = Band(-2.0, 0.01, 500)
    assert np.array_equal(AnyLoss(first).mean(BULK, 1e6, 0.2), LowLoss(first).mean(BULK, 1e6, 0.2))
    both = AnyLoss(Band(100.0, 0.25, 2000)).mean(BULK, 1e6, 0.0)
    assert (both > 0).all()
    assert np.abs(np.diff(np.log(both))).max() < 0.5  # no seam


@pytest.mark.parametrize("celsius", [25.0, 300.0, 800.0])
def test_gain_over_loss_of_vibrations_is_boltzmanns(celsius: float) -> None:
    energy = np.array([0.012, 0.018, 0.03, 0.06, 0.1, 0.13])
    kt = BOLTZMANN_EV_PER_K * (celsius + 273.15)
    for name in ("lstz_grain", "srtio3", "tio2"):
        point = replace(POINTS[name](), celsius=celsius)
        ratio = distribution(point, -energy) / distribution(point, energy)
        assert np.allclose(ratio, np.exp(-energy / kt), rtol=1e-9)
    # and still is in a spectrum off the axis, behind the peak's blur
    optics = replace(MONOCHROMATED, fwhm_ev=0.004, off_axis_mrad=80.0)
    band = Band(-0.2, 0.001, 401)
    spectrum = LowLoss(band, optics).mean(replace(film("lstz", 5.0), celsius=celsius), 1e12, 0.0)
    loss, gain = (float(spectrum[200 + k]) for k in (18, -18))
    assert gain / loss == pytest.approx(math.exp(-0.018 / kt), rel=0.03)


def test_the_grain_boundary_dips_from_10_to_50_mev_and_not_from_50_to_100() -> None:
    optics = replace(MONOCHROMATED, off_axis_mrad=60.0)
    model = LowLoss(VIBRATIONS, optics)
    axis = VIBRATIONS.energy_ev()
    grain, boundary = (model.mean(p, 1e12, 0.0) for p in (GRAIN, GRAIN_BOUNDARY))
    dip = 1 - (0.4375 * 0.74 + 0.75 * 0.89 + 0.25 * 0.93) / 1.4375
    for low, high, expected in ((0.014, 0.045, -dip), (0.06, 0.1, 0.0)):
        window = (axis > low) & (axis < high)
        change = boundary[window].sum() / grain[window].sum() - 1
        assert change == pytest.approx(expected, abs=0.03)
    sums = [p.phonon_sums() for p in (GRAIN, GRAIN_BOUNDARY)]
    assert sums[1][0] / sums[0][0] == pytest.approx(1 - dip)
    assert sums[1][1] == sums[0][1]


def test_off_the_axis_the_beam_goes_and_vibrations_stay() -> None:
    axis = VIBRATIONS.energy_ev()
    band = (axis > 0.015) & (axis < 0.1)

    def seen(mrad: float) -> tuple[float, float]:
        spectrum = LowLoss(VIBRATIONS, replace(MONOCHROMATED, off_axis_mrad=mrad)).mean(
            GRAIN, 1e9, 0.0
        )
        return float(spectrum[np.abs(axis) < 0.005].sum()), float(spectrum[band].sum())

    (on_beam, on_band), (off_beam, off_band) = seen(0.0), seen(60.0)
    assert off_beam < 0.02 * on_beam
    assert off_band / off_beam > 20 * on_band / on_beam
    far = Optics(off_axis_mrad=60.0)
    assert CoreLoss(CORE, far).mean(BULK, 1e6, 0.0).sum() < 0.02 * (
        CoreLoss(CORE).mean(BULK, 1e6, 0.0).sum()
    )
    assert far.beam_share(0.0) == 0.0


def test_presets_have_the_peaks_of_their_materials() -> None:
    axis = LOW.energy_ev()
    for name, peaks in (("srtio3", (14.4, 24.6, 30.9)), ("tio2", (13.3, 25.3, 39.6))):
        thin = LowLoss(LOW).mean(film(name, 2.0), 1e9, 0.0)
        for peak in peaks:
            near = np.abs(axis - peak) < 0.3
            slope = np.polyfit(axis[np.abs(axis - peak) < 1.5], thin[np.abs(axis - peak) < 1.5], 2)
            assert thin[near].mean() > 0
            assert slope[0] < 0  # bends down there
    energy = CORE.energy_ev()
    titanium = CoreLoss(CORE).mean(POINTS["tio2"](), 1e9, 0.0)
    first = energy[np.argmax(np.where(np.abs(energy - 458) < 0.8, titanium, 0))]
    second = energy[np.argmax(np.where(np.abs(energy - 460.4) < 1.0, titanium, 0))]
    assert second - first == pytest.approx(2.51, abs=0.15)
    assert LowLoss(LOW).mean(VACUUM, 1e6, 0.0)[np.abs(axis) > 5].sum() < 0.006e6
    assert CoreLoss(CORE).mean(VACUUM, 1e6, 0.0).sum() == 0.0


def test_a_material_that_is_not_known_is_named() -> None:
    with pytest.raises(KeyError, match="cheese"):
        film("cheese")
    with pytest.raises(KeyError):
        barn("x_k", 200.0)
