"""What images show beyond smooth domes: statistics, detectors, probe, scan errors, lattices, cross-sections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray

from simulators.column import Bulge, BulgeSettings
from simulators.history import Relaxation, TemperatureHistory
from simulators.imaging import (
    DETECTORS,
    Detector,
    Imaging,
    Lines,
    Probe,
    Readout,
    ScanErrors,
    Side,
    bench,
    domes_in,
    expected_counts,
    frame,
    height_map,
    real,
    render,
    straight,
)
from simulators.imaging.lattice import FILM_A_NM, NI_111_NM, NI_200_NM
from simulators.imaging.plan import film_numbers, nickel_map
from simulators.imaging.section import LAMELLA_NM
from simulators.noise import generator
from simulators.specimen import Domes, Specimen, View, lived, named
from simulators.specimen.shape import FILM_PER_NICKEL

Array = NDArray[np.float64]
FLAT = named("blank_film", 1, texture=0.0, slope=0.0)
FINE = View((3.0, 5.0), (256, 256), 0.05)
HAADF = {"haadf": DETECTORS["haadf"]}


HOT_S = 400.0


@pytest.fixture(scope="module")
def hot() -> Specimen:
    return named("lsnt_nonstoichiometric", 1).under(lived([(0.7, 800.0)]))


def _rngs(index: int = 0) -> dict[str, np.random.Generator]:
    return {name: generator(1, name, index) for name in DETECTORS}


def _counts(
    imaging: Imaging, electrons: float = 300.0, view: View | None = None
) -> Mapping[str, Array]:
    view = view or View((0.0, 0.0), (512, 512), 0.8)
    images = render(FLAT, 0.0, view, electrons, _rngs(), imaging=imaging)
    assert images is not None
    return {name: image.astype(float) for name, image in images.items()}


def _one(
    diameter_nm: float, view: View, *, crystal: bool = True, below: float = 0.0, angle: float = 0.4
) -> Domes:
    width, height = view.size_nm
    return Domes(
        np.array([0]),
        np.array([width / 2]),
        np.array([height / 2]),
        np.array([diameter_nm]),
        np.array([below]),
        np.array([crystal]),
        np.array([angle]),
    )


def _amplitude(image: Array, pixel_nm: float, wave: tuple[float, float]) -> float:
    """Of the cosine of a wave vector (x, y) in 1/nm over a Hann-windowed image."""
    n, m = image.shape
    window = np.hanning(n)[:, None] * np.hanning(m)
    y, x = np.mgrid[:n, :m] * pixel_nm
    turn = np.exp(-2j * math.pi * (x * wave[0] + y * wave[1]))
    clean = image - (image * window).sum() / window.sum()
    return float(2 * abs((clean * window * turn).sum()) / window.sum())


# ------------------------------------------------------------------- counting statistics


@pytest.mark.parametrize("electrons", [0.5, 30.0, 300.0, 20_000.0])
def test_the_dose_is_right_to_the_statistics(electrons: float) -> None:
    view = View((0.0, 0.0), (512, 512), 0.8)
    mean = expected_counts(FLAT, FLAT.domes(view, 0.0), view, electrons, DETECTORS)
    for name, counts in _counts(Imaging(), electrons).items():
        expected = mean[name].astype(float)
        assert expected.mean() / electrons == pytest.approx(
            DETECTORS[name].detected_share + 0.02 / electrons, rel=3e-3
        )  # anti-phase boundaries take some of it
        excess = (counts - expected) / np.sqrt(expected)
        assert abs(excess.mean()) < 4 / 512 + 1e-3 * math.sqrt(expected.mean())
        # four standard errors of the variance of a Poisson variable
        spread = math.sqrt((2 + 1 / expected.mean()) / excess.size)
        assert excess.var() == pytest.approx(1.0, abs=4 * spread + 1e-3)


def test_afterglow_keeps_the_dose_and_correlates_the_noise_along_the_row() -> None:
    glow = 0.3
    view = View((0.0, 0.0), (512, 512), 0.8)
    mean = expected_counts(FLAT, FLAT.domes(view, 0.0), view, 300.0, DETECTORS)["abf"]
    noise = _counts(Imaging(readout=Readout(afterglow=glow)))["abf"] - mean
    assert abs(noise.mean()) < 4 * math.sqrt(mean.mean()) / 512
    inner = noise[:, 20:]  # a row begins in calm
    assert inner.var() / mean.mean() == pytest.approx((1 - glow) / (1 + glow), rel=0.02)
    beside = (inner[:, 1:] * inner[:, :-1]).mean() / inner.var()
    below = (inner[1:] * inner[:-1]).mean() / inner.var()
    assert beside == pytest.approx(glow, abs=0.02)
    assert below == pytest.approx(0.0, abs=0.01)


def test_gain_and_offset_scale_counts_and_eight_bits_saturate() -> None:
    electrons = _counts(Imaging())["haadf"]
    scaled = _counts(Imaging(readout=Readout(gain=2.5, offset=40.0)))["haadf"]
    assert np.array_equal(scaled, np.floor(40.0 + 2.5 * electrons + 0.5))
    images = render(
        FLAT, 0.0, FINE, 2200.0, _rngs(), imaging=Imaging(readout=Readout(offset=20.0, bits=8))
    )
    assert images is not None
    assert images["haadf"].dtype == np.uint8
    assert images["haadf"].max() == 255
    assert 0.05 < (images["haadf"] == 255).mean() < 0.9


@pytest.mark.parametrize("side", ["plan", "cross_section"])
def test_a_frame_follows_from_its_key_alone(
    hot: Specimen, monkeypatch: pytest.MonkeyPatch, side: Side
) -> None:
    view = View((0.0, -40.0), (300, 200), 0.3)
    imaging = Imaging(side=side)

    def lines() -> Lines:
        rng = generator(1, "lines")
        errors = ScanErrors(0.2, 2.0)
        drift = {"start_s": 0.0, "line_s": 1e-3, "dwell_s": 1e-6}
        return real(view, errors, rng, **drift, drift_nm=lambda t: (3 * t, 5 * t))

    def draw() -> dict[str, bytes]:
        images = render(hot, HOT_S, view, 50.0, _rngs(7), imaging=imaging, lines=lines())
        assert images is not None
        return {name: image.tobytes() for name, image in images.items()}

    whole = draw()
    assert draw() == whole
    monkeypatch.setattr(frame, "_BAND_PIXELS", 200 * 17)
    assert draw() == whole, "bands must not show"
    other = render(hot, HOT_S, view, 50.0, _rngs(8), imaging=imaging, lines=lines())
    assert other is not None
    assert other["abf"].tobytes() != whole["abf"]


# ----------------------------------------------------------------------------- detectors


def test_contrast_follows_the_angles_of_the_detector() -> None:
    haadf, abf = DETECTORS["haadf"], DETECTORS["abf"]
    assert (haadf.detected_share, haadf.per_nm) == pytest.approx((0.1, 0.1))
    assert (abf.detected_share, abf.per_nm) == pytest.approx((0.3, -0.06))
    assert (haadf.thickness_power, abf.thickness_power) == pytest.approx((1.0, -0.4))
    low = Detector(35, 175)
    assert low.detected_share > 2 * haadf.detected_share
    # La and Sr of the film are heavier than nickel, and gain more with the angle
    assert low.per_nm > haadf.per_nm > Detector(100, 175).per_nm > 0.09
    narrow = Detector(7.5, 12)
    assert narrow.detected_share == pytest.approx(0.3 * (144 - 56.25) / (289 - 56.25))
    assert narrow.per_nm < abf.per_nm, "more is scattered out of a smaller disc"
    with pytest.raises(ValueError, match="mix"):
        Detector(10, 60)
    with pytest.raises(ValueError, match="rising"):
        Detector(60, 40)


def test_an_image_has_the_contrast_that_its_detector_says() -> None:
    view = View((0.0, 0.0), (96, 96), 0.2)
    angles = MappingProxyType({"haadf": Detector(50, 150)})
    dome = _one(9.0, view)
    imaging = Imaging(detectors=angles)
    found = expected_counts(FLAT, dome, view, 1e5, angles, imaging=imaging)["haadf"]
    bare = expected_counts(FLAT, dome[:0], view, 1e5, angles, imaging=imaging)["haadf"]
    height = height_map(dome, view, (0, 96))
    assert np.allclose(found / bare - 1, angles["haadf"].per_nm * height, atol=2e-3)


def test_a_grain_boundary_is_dark_in_dark_field_and_bright_in_bright_field() -> None:
    specimen = named("lstz_grain_boundary", 1, texture=0.0, slope=0.0)
    assert specimen.grain_boundary is not None
    view = View((specimen.grain_boundary.x_nm - 12.8, 0.0), (64, 256), 0.1)
    coarse = View((specimen.grain_boundary.x_nm - 128.0, 0.0), (64, 256), 1.0)
    for where in (view, coarse):
        means = expected_counts(specimen, specimen.domes(where, 0.0), where, 1e4, DETECTORS)
        profile = {name: mean.mean(axis=0) for name, mean in means.items()}
        assert profile["haadf"][126:130].mean() < 0.97 * profile["haadf"][:60].mean()
        assert profile["abf"][126:130].mean() > 1.005 * profile["abf"][:60].mean()


# ----------------------------------------------------------------------- probe and focus


def test_defocus_widens_the_probe_by_its_cone() -> None:
    probe = Probe(defocus_nm=-40.0)
    assert probe.blur_sigma_nm == pytest.approx(math.hypot(0.2, 0.023 * 40 / 2))
    assert Probe(defocus_nm=5.0).transfer(NI_111_NM, 0.05) < Probe().transfer(NI_111_NM, 0.05)
    view = View((0.0, 0.0), (120, 120), 0.2)
    dome = _one(6.0, view)
    sharp, wide = (height_map(dome, view, (0, 120), p) for p in (Probe(), probe))
    assert wide.sum() == pytest.approx(sharp.sum(), rel=5e-3)
    square = np.square((np.arange(120) + 0.5) * 0.2 - 12.0)
    moments = [float(h.sum(axis=0) @ square / h.sum()) for h in (sharp, wide)]
    assert moments[1] - moments[0] == pytest.approx(0.46**2, rel=0.03)


def test_a_bulging_membrane_leaves_the_focus_and_the_operator_follows() -> None:
    history = TemperatureHistory(0.0, 25.0, {"relaxed": Relaxation(40.0)})
    history.plan(10.0, [(10.5, 525.0)])
    followed = Bulge(history, BulgeSettings(0.05))
    assert followed.defocus_nm(5.0) == 0.0
    assert followed.defocus_nm(10.5) == pytest.approx(25.0, rel=0.02)
    assert followed.defocus_nm(50.5) == pytest.approx(25.0 / math.e, rel=0.02)
    assert abs(followed.defocus_nm(400.0)) < 0.01
    fixed = Bulge(history, BulgeSettings(0.05, focus_nm=25.0))
    assert fixed.defocus_nm(5.0) == -25.0
    assert fixed.defocus_nm(400.0) == pytest.approx(0.0)


# ---------------------------------------------------------------------------- scan errors


def test_drift_within_a_frame_shears_what_is_seen() -> None:
    view = View((0.0, 0.0), (200, 200), 0.25)
    dome = _one(8.0, view)
    dome = replace(dome, y_nm=np.array([12.0]))  # a quarter of the way down
    drift = 20.0  # nm/s along x; frame of 0.4 s
    lines = real(
        view,
        ScanErrors(),
        generator(1, "lines"),
        start_s=3.0,
        line_s=2e-3,
        dwell_s=1e-6,
        drift_nm=lambda t: (drift * t, 0.0),
    )
    image = expected_counts(FLAT, dome, view, 1e4, HAADF, lines=lines)["haadf"].astype(float)
    image -= np.median(image)
    image[image < 0.1 * image.max()] = 0
    middle_x = (image.sum(axis=0) @ (np.arange(200) + 0.5)) * 0.25 / image.sum()
    # its lines are scanned 0.26 of the frame before the middle
    assert middle_x == pytest.approx(25.0 - drift * 0.4 * 0.26, abs=0.1)


@pytest.mark.parametrize("side", ["plan", "cross_section"])
@pytest.mark.parametrize("pixel", [0.05, 0.25])
def test_a_grain_boundary_and_a_section_drift_as_a_whole(side: Side, pixel: float) -> None:
    specimen = named("lstz_grain_boundary", 1)
    assert specimen.grain_boundary is not None
    at = specimen.grain_boundary.x_nm - 60 * pixel, -40 * pixel
    imaging, seen = Imaging(side=side), []
    for dx, dy in ((0, 0), (20, 30)):
        view = View((at[0] - dx * pixel, at[1] - dy * pixel), (160, 120), pixel)
        domes = domes_in(specimen, view, 0.0, side, 5.0)
        seen.append(expected_counts(specimen, domes, view, 1e4, DETECTORS, imaging=imaging))
    for before, after in ((seen[0][name], seen[1][name]) for name in DETECTORS):
        assert before.std() > 5
        assert after[30:, 20:] == pytest.approx(before[:-30, :-20], rel=1e-4)


def test_jitter_moves_whole_lines_and_flyback_their_beginning() -> None:
    view = View((0.0, 0.0), (400, 64), 0.5)
    lines = real(
        view,
        ScanErrors(line_jitter_nm=0.2, flyback_nm=3.0),
        generator(1, "lines"),
        start_s=0.0,
        line_s=1e-3,
        dwell_s=1e-6,
        drift_nm=lambda t: (0.0, 0.0),
    )
    perfect = straight(view)
    assert lines.x_nm.std() == pytest.approx(0.2, rel=0.15)
    late = lines.along_nm - perfect.along_nm
    assert late[0] == pytest.approx(3.0 * math.exp(-0.1))
    assert late[5] == pytest.approx(late[0] / math.e)
    assert late[-1] < 1e-4
    assert np.array_equal(lines.y_nm, perfect.y_nm)


# ------------------------------------------------------------------------------- lattices


def _waves(angle: float) -> dict[str, tuple[float, float]]:
    half = math.radians(54.7356)
    directions = {
        "left": (angle + half, NI_111_NM),
        "right": (angle - half, NI_111_NM),
        "200": (angle, NI_200_NM),
    }
    return {n: (math.cos(a) / d, math.sin(a) / d) for n, (a, d) in directions.items()}


@pytest.mark.parametrize("pixel", [0.05, 0.08])
def test_a_crystal_carries_the_fringes_of_nickel_and_a_droplet_none(pixel: float) -> None:
    view = View((0.0, 0.0), (200, 200), pixel)
    middle = slice(70, 130)
    found = {}
    for crystal in (True, False):
        dome = _one(8.0, view, crystal=crystal)
        smooth = height_map(dome, view, (0, 200))[middle, middle]
        nickel = nickel_map(dome, view, Probe(), straight(view), (0, 200))[middle, middle]
        found[crystal] = {
            name: _amplitude((nickel / smooth).astype(float), pixel, wave)
            for name, wave in _waves(0.4).items()
        }
    assert all(a < 1e-3 for a in found[False].values())
    whole = sum(found[True].values())
    assert 0.2 < whole < 0.45
    assert found[True]["left"] == pytest.approx(found[True]["right"], rel=0.05)
    assert found[True]["left"] > found[True]["200"] > 0.02
    wrong = _waves(0.4 + math.pi / 2)["200"]
    dome = _one(8.0, view)
    nickel = nickel_map(dome, view, Probe(), straight(view), (0, 200))
    assert _amplitude(nickel[middle, middle].astype(float), pixel, wrong) < 0.02


def test_fringes_end_where_two_pixels_make_a_spacing() -> None:
    assert Probe().transfer(NI_111_NM, 0.1) > 0.1
    assert Probe().transfer(NI_111_NM, NI_111_NM / 2) == 0.0
    assert Probe().transfer(NI_200_NM, 0.095) == 0.0
    assert Probe(sigma_nm=0.5).transfer(NI_111_NM, 0.05) < 0.05 * Probe().transfer(NI_111_NM, 0.05)


def test_the_film_shows_its_cell_and_only_when_pixels_are_fine() -> None:
    seen = {}
    for pixel in (0.05, 0.3):
        view = View((11.0, 7.0), (256, 256), pixel)
        mean = expected_counts(FLAT, FLAT.domes(view, 0.0), view, 1e4, HAADF)["haadf"]
        power = np.abs(
            np.fft.rfft2((mean - mean.mean()) * np.hanning(256) * np.hanning(256)[:, None])
        )
        k = np.hypot(
            np.fft.fftfreq(256, pixel)[:, None], np.fft.rfftfreq(256, pixel)[None, :]
        ).ravel()
        strongest = np.argsort(power.ravel())[-1]
        seen[pixel] = (1 / max(k[strongest], 1e-9), power.max() / mean.mean())
    cell = seen[0.05][0]
    assert min(abs(cell - FILM_A_NM), abs(cell - FILM_A_NM / math.sqrt(2))) < 0.015
    assert seen[0.3][1] < 0.05 * seen[0.05][1]


def test_the_superlattice_is_there_near_the_boundary_only() -> None:
    specimen = named("lstz_grain_boundary", 1, texture=0.0, slope=0.0)
    assert specimen.grain_boundary is not None
    at = specimen.grain_boundary.x_nm
    found = {}
    for name, left in (("near", at - 5.5), ("far", at - 30.0)):
        view = View((left, 3.0), (100, 100), 0.05)
        mean = expected_counts(specimen, specimen.domes(view, 0.0), view, 1e4, HAADF)["haadf"]
        image = mean.astype(float) / mean.mean()
        angle = film_numbers(specimen, view, Probe()).angle_left
        half = 0.5 / 0.391
        found[name] = _amplitude(image, 0.05, (half * math.cos(angle), half * math.sin(angle)))
    assert found["near"] > 0.015
    assert found["far"] < 0.1 * found["near"]


def test_a_settled_crystal_is_faceted_and_keeps_its_volume() -> None:
    view = View((0.0, 0.0), (300, 300), 0.06)
    round_, faceted = (
        height_map(_one(10.0, view, crystal=c, below=0.5), view, (0, 300)) for c in (False, True)
    )
    assert faceted.sum() == pytest.approx(round_.sum(), rel=3e-3)
    y, x = (np.mgrid[:300, :300] + 0.5) * 0.06 - 9.0
    angle = np.arctan2(y, x)
    outline = [
        np.hypot(x, y)[(faceted > 1.0) & (np.abs(angle - a) < 0.03)].max()
        for a in np.linspace(-3.0, 3.0, 40)
    ]
    assert max(outline) - min(outline) > 0.3


# -------------------------------------------------------------------------- cross-section


def test_a_cross_section_shows_vacuum_film_substrate_and_the_volume_of_particles(
    hot: Specimen,
) -> None:
    imaging = Imaging(side="cross_section")
    view = View((0.0, -40.0), (256, 1024), 0.5)
    domes = domes_in(hot, view, HOT_S, "cross_section", 3.0)
    assert len(domes) > 5
    bare, full = (
        expected_counts(hot, d, view, 1e5, DETECTORS, imaging=imaging) for d in (domes[:0], domes)
    )
    rows = bare["haadf"].mean(axis=1)
    assert rows[:70].max() < 1.0
    assert rows[90:195].min() > 1000
    assert rows[220:].mean() == pytest.approx(0.9 * rows[100:190].mean(), rel=0.1)
    no_substrate = expected_counts(
        hot, domes, view, 1e5, DETECTORS, imaging=replace(imaging, substrate=False)
    )
    assert no_substrate["haadf"][220:].max() < 1.0
    assert full["abf"][:70].mean() > full["abf"][100:190].mean(), "vacuum is bright in bright field"
    # what nickel adds is its volume above the surface and five sixths of that below
    extra = (full["haadf"].astype(float) - bare["haadf"]).sum() * 0.25 / (1e5 * 0.1 * 0.1)
    whole = domes.radius_nm + 2
    inside = (domes.x_nm > whole) & (domes.x_nm < 512 - whole)
    ends = domes[np.flatnonzero(~inside)]
    volume = math.pi / 6 * domes.diameter_nm**3
    below = np.where(domes.z_nm > 0, 1.0, domes.below)
    expected = (volume * (1 - FILM_PER_NICKEL * below))[inside].sum()
    edge = float((math.pi / 6 * ends.diameter_nm**3).sum())
    assert expected * 0.98 <= extra <= (expected + edge) * 1.02
    beside = np.mod(_across(hot, domes), 2048.0)
    assert np.all(np.minimum(beside, 2048.0 - beside) <= LAMELLA_NM / 2)


def _across(specimen: Specimen, domes: Domes) -> Array:
    every = specimen.particles(HOT_S)
    return every.y_nm[np.isin(every.id, domes.id)]


def test_buried_particles_lie_in_the_film_and_those_at_the_surface_on_it(hot: Specimen) -> None:
    view = View((0.0, -40.0), (256, 4000), 0.5)
    domes = domes_in(hot, view, HOT_S, "cross_section")
    assert np.allclose(domes.y_nm - 40.0, domes.z_nm)
    assert (domes.z_nm > 0).any()
    assert (domes.z_nm == 0).sum() > 10


def test_the_bench_draws_both_sizes_in_fields_of_some_hundred_particles() -> None:
    found = bench.speeds()
    assert [speed.size for speed in found] == [512, 1024]
    assert all(50 <= speed.particles <= 300 for speed in found)
    assert all(speed.frames_per_s > 1 for speed in found)
    assert not replace(found[0], frames_per_s=29.9).good
