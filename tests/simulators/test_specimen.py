"""What the simulated specimen is made of: film, boundaries, sites, shapes, nickel budget."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from simulators.specimen import PRESETS, Specimen, View, lived, named, report, summarise
from simulators.specimen.budget import NI_PER_NM3_OF_FILM, budget, enrichment, reduced_share
from simulators.specimen.film import REGION_NM, Film, FilmSettings
from simulators.specimen.grain_boundary import CELL_NM, FORMULA, SUPERLATTICE_CELLS
from simulators.specimen.kinetics import NI_PER_NM3
from simulators.specimen.resistivity import resistivity_ohm_m
from simulators.specimen.shape import depth_nm, footprint_radius_nm, peak_nm, thickness_nm
from simulators.specimen.sites import BOUNDARY, DISLOCATION, INSIDE
from simulators.truth import ImageFacts

LSNT = "lsnt_nonstoichiometric"
COLD = named(LSNT, 1)
HOT = COLD.under(lived([(135.0, 700.0)]))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_looked_at_cold_and_hot(name: str) -> None:
    specimen = named(name, 5).under(lived([(10.0, 750.0)]))
    view = View((-30.0, 12.0), (256, 256), 0.6)
    for t_s in (0.0, 300.0):
        domes = specimen.domes(view, t_s)
        assert np.isfinite(summarise(domes, view).areal_density_per_um2)
        assert 0 <= specimen.ni_reduced_fraction(t_s) <= 1
    grows = name.startswith("lsnt")
    assert (len(specimen.particles(0.0)) == 0) == (name != "reference_domes")
    assert (specimen.ni_left_in_film(300.0) < 1) == grows


def test_sites_prefer_boundaries_and_dislocations_and_none_overlap() -> None:
    sites, film = COLD.sites, COLD.film
    where = np.column_stack([sites.x_nm, sites.y_nm])
    distance = np.array([film.boundary_distance_nm(*p) for p in where[::20]])
    on = np.isin(sites.kind, (BOUNDARY, INSIDE))
    assert 0.7 < on.mean() < 0.9
    assert (distance[on[::20]] < 0.1).all()
    to_core, _ = cKDTree(film.dislocations_nm).query(where[sites.kind == DISLOCATION])
    assert to_core.max() < 1e-9
    assert (sites.z_nm[sites.kind == INSIDE] > 5).all()
    box = np.array([REGION_NM, REGION_NM])
    assert not cKDTree(where, boxsize=box).query_pairs(COLD.preset.spacing_nm - 1e-3)


def test_sites_walk_along_the_boundary() -> None:
    sites, film = COLD.sites, COLD.film
    on = np.flatnonzero(sites.kind == BOUNDARY)[::40]
    for step in (-0.5, 0.5):
        for k in on.tolist():
            x = float(sites.x_nm[k] + step * sites.along[k, 0])
            y = float(sites.y_nm[k] + step * sites.along[k, 1])
            assert film.boundary_distance_nm(x, y) < 0.05
    assert np.allclose(np.hypot(*sites.along[on].T), 1)


def test_sites_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="lower the density or spacing"):
        Specimen(replace(PRESETS[LSNT], spacing_nm=80.0), 1)


def test_the_fresh_film_holds_the_nickel_that_its_formula_says() -> None:
    for settings in (PRESETS[LSNT].film, PRESETS["lsnt_stoichiometric"].film):
        found = budget(settings)
        per_um2 = found.total / (REGION_NM / 1000) ** 2
        assert per_um2 == pytest.approx(1.68e8 * settings.thickness_nm / 100)
        assert found.boundary < found.beside < found.bulk
    # -0.17 eV at 700 °C: 1/9 · 7.6 = 0.84 to 1
    assert enrichment() == pytest.approx(4.57, abs=0.03)


def test_the_share_of_reduced_nickel_counts_all_metal_and_what_is_left_near_the_surface() -> None:
    settings = PRESETS[LSNT].film
    assert reduced_share(settings, 0.0) == 0.0
    shares = [reduced_share(settings, n * 26.0 * REGION_NM**2) for n in (0.1, 0.5, 1.0, 2.0)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # 2.6e7 Ni per µm² of metal; 20 nm held 33.6 per nm² and gave (1 - 1/e)/(1 - 1/e³) of it
    left = 33.6 - 26.0 * 0.6652
    assert shares[2] == pytest.approx(26.0 / (26.0 + left), rel=1e-3)


@pytest.mark.parametrize("below", [0.0, 0.2, 0.5])
def test_a_particle_has_its_volume_and_that_share_of_it_below(below: float) -> None:
    diameter, share = np.array([8.8]), np.array([below])
    radius = float(footprint_radius_nm(diameter, share)[0])
    r = (np.arange(4000) + 0.5) * radius / 4000
    above, under = thickness_nm(np.full(4000, 8.8), np.full(4000, below), r)
    volumes = [float((2 * math.pi * r * part).sum() * radius / 4000) for part in (above, under)]
    assert sum(volumes) == pytest.approx(math.pi / 6 * 8.8**3, rel=1e-4)
    assert volumes[1] / sum(volumes) == pytest.approx(below, abs=1e-4)
    assert under[0] == pytest.approx(float(depth_nm(diameter, share)[0]), rel=1e-3)
    peak = float(peak_nm(diameter, share)[0])
    assert above[0] <= peak * (1 + 1e-6)
    assert peak <= above[0] + under[0] + 1e-6
    if below == 0.5:
        assert radius == pytest.approx(4.4)  # as wide as the sphere


def test_the_resistivity_falls_by_more_than_a_thousand_with_exsolution() -> None:
    fresh, reduced = resistivity_ohm_m(0.0, 25.0), resistivity_ohm_m(0.66, 25.0)
    assert fresh > 1e3 * reduced
    falling = [resistivity_ohm_m(share, 25.0) for share in (0.0, 0.01, 0.1, 0.3, 0.66)]
    assert falling == sorted(falling, reverse=True)
    assert resistivity_ohm_m(0.0, 100.0) < fresh, "an insulator conducts better when warm"
    assert resistivity_ohm_m(0.66, 100.0) > reduced, "a metal does not"
    assert HOT.resistivity_ohm_m(0.0) == pytest.approx(fresh)


def test_a_grating_has_its_pitch_in_both_directions() -> None:
    specimen = named("calibration_grating", 1)
    pitch = specimen.preset.film.grating_pitch_nm
    at = np.arange(1024) * (8 * pitch / 1024)
    thickness = specimen.film.thickness_map(at, at)
    for axis in (0, 1):
        profile = thickness.mean(axis=axis)
        spectrum = np.abs(np.fft.rfft(profile - profile.mean()))
        assert int(np.argmax(spectrum)) == 8
    points = [(0.0, 0.0), (32.0, 0.0), (17.0, 40.0)]
    for x, y in points:
        mapped = specimen.film.thickness_map(np.array([x]), np.array([y]))[0, 0]
        assert specimen.film.relative_thickness(x, y) == pytest.approx(float(mapped), rel=1e-5)
    assert specimen.film.relative_thickness(0, 0) == pytest.approx(1.6, abs=1e-6)
    with pytest.raises(ValueError, match="grating_pitch_nm = 60"):
        Film(FilmSettings(grating_pitch_nm=60.0), 1)


def test_the_grain_boundary_is_poor_in_strontium_tantalum_and_zirconium() -> None:
    boundary = named("lstz_grain_boundary", 1).grain_boundary
    assert boundary is not None
    middle, far = np.array([boundary.x_nm]), np.array([boundary.x_nm + 10.0])
    missing = {"Sr": 0.26, "Ta": 0.11, "Zr": 0.07, "O": 0.0}
    for element, share in missing.items():
        assert boundary.relative(element, middle)[0] == pytest.approx(1 - share)
        assert boundary.relative(element, far)[0] == pytest.approx(1.0)
    assert boundary.per_cell(far)["Sr"][0] == pytest.approx(FORMULA["Sr"])
    reach = SUPERLATTICE_CELLS * CELL_NM
    order = boundary.superlattice(boundary.x_nm + np.array([0.0, 0.5, 0.99, 1.01]) * reach)
    assert order[0] == 1.0
    assert np.all(np.diff(order) < 0)
    assert order[2] > 0 == order[3]
    assert 0.8 < boundary.high_angle_scattering(middle)[0] < 0.9
    with pytest.raises(KeyError, match="Ni"):
        boundary.relative("Ni", middle)
    assert COLD.grain_boundary is None


def test_a_view_that_leaves_the_region_sees_it_again() -> None:
    here, there = (View((x, 30.0), (64, 64), 2.0) for x in (-40.0, -40.0 + REGION_NM))
    one, other = (HOT.domes(view, 400.0) for view in (here, there))
    assert len(one) > 5
    assert np.array_equal(one.id, other.id)
    assert np.allclose(one.x_nm, other.x_nm)
    assert summarise(one, here).count == summarise(other, there).count


def test_truth_tells_shape_phase_and_contrast_of_every_particle() -> None:
    view = View((100.0, 100.0), (256, 256), 0.6)
    truth = ImageFacts(0, 320.0, view, 700.0, (0.0, 0.0), 1e4, blanked=False).tell(HOT)
    particles = truth["particles"]
    assert len(particles) > 20
    assert {p["phase"] for p in particles} == {"crystal", "amorphous"}
    for p in particles:
        assert p["phase"] == "amorphous" or p["diameter_nm"] > 2.6
        assert p["footprint_diameter_nm"] <= 2 ** (1 / 3) * p["diameter_nm"] * (1 + 1e-9)
        assert 0.04 < p["contrast"] / p["diameter_nm"] < 0.11
    assert {into for _, into in truth["merged"]} <= {p["id"] for p in particles}
    metal = sum(math.pi / 6 * p["diameter_nm"] ** 3 for p in particles) * NI_PER_NM3
    assert metal < NI_PER_NM3_OF_FILM * 60 * 153.6**2


def test_an_unknown_specimen_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="reference_domes"):
        named("gold", 1)
    with pytest.raises(ValueError, match="grows its own"):
        named(LSNT, 1, [5.0])


@pytest.mark.parametrize(("simulated", "code"), [(790.0, 0), (900.0, 1), (math.nan, 1)])
def test_the_report_fails_a_check_when_a_figure_is_outside(
    simulated: float,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figure = report.Figure("density", 795.0, simulated, math.nan, 731.0, 858.0, "1/µm²")
    open_ended = report.Figure("resistivity", math.nan, 1e4, 10.0, 1e3, math.inf, "")
    monkeypatch.setattr(report, "figures", lambda seeds, tell: [figure, open_ended])
    assert report.main(seeds=(1,)) == 0
    assert "density" in capsys.readouterr().out
    assert report.main(seeds=(1,), check=True, json=True) == code
    told = json.loads(capsys.readouterr().out)
    assert told["seeds"] == [1]
    assert told["figures"][0]["good"] is (code == 0)
    assert told["figures"][1]["published"] is None
