"""What a recipe may say of a map, and where its points and images then lie."""

from __future__ import annotations

import pytest

from acquire.errors import RecipeError
from acquire.recipe import Recipe, SpectrumImage, spectrum_image

SPECTRA = "{range: [400 eV, 600 eV], dispersion: 0.2 eV, dwell_time: 0.1 s}"
STEP = f"""
hotstage: 1
name: map
record: {{overview: {{scan: {{detectors: [haadf], size: 64, field_of_view: 160 nm, dwell_time: 1 µs}}}}}}
steps:
  - spectrum_image:
      from: [40 nm, 60 nm]
      to: [70 nm, 80 nm]
      shape: [4, 6]
      spectra: {SPECTRA}
      passes: 2
      images: {{detectors: [haadf], dwell_time: 1 µs, pixels_per_point: 10, margin: 4.9 nm}}
      drift_correct: rows
      name: here
"""


def _step(text: str = STEP) -> SpectrumImage:
    (step,) = Recipe.parse(text).steps
    assert isinstance(step, SpectrumImage)
    return step


def test_points_are_the_centres_of_equal_parts_of_the_area_row_by_row() -> None:
    step = _step()
    places = list(step.places())
    assert len(places) == step.points == 48
    assert [p.position_nm for p in places[:2]] == [(42.5, 62.5), (47.5, 62.5)]
    assert (places[-1].pass_, places[-1].row, places[-1].column) == (1, 3, 5)
    assert places[-1].position_nm == (67.5, 77.5)
    assert step.spacing_nm == pytest.approx(5.0)
    assert [(p.pass_, p.row) for p in places if step.begins(p)] == [
        (pass_, row) for pass_ in range(2) for row in range(4)
    ]
    assert step.image_count == 9
    rest = step.after(40).after(5)
    assert list(rest.places()) == places[45:]
    assert "from spectrum 46 on" in str(rest)


def test_pixels_of_the_images_divide_the_points_and_show_a_margin() -> None:
    exposure = _step().image_exposure((-80.0, -80.0))
    # 0.5 nm wide; 4.9 nm of margin are 10 pixels
    assert exposure.shape == (60, 80)
    assert exposure.pixel_size_nm == pytest.approx(0.5)
    assert exposure.center_nm == pytest.approx((-25.0, -10.0))


def test_images_may_have_a_size_of_their_own_around_the_map() -> None:
    own = STEP.replace("pixels_per_point: 10, margin: 4.9 nm", "size: 256, field_of_view: 90 nm")
    exposure = _step(own.replace("[4, 6]", "[4, 5]")).image_exposure((-80.0, -80.0))
    assert (exposure.shape, exposure.field_of_view_nm) == ((256, 256), 90.0)
    assert exposure.center_nm == pytest.approx((-25.0, -10.0))


def test_a_map_is_written_as_it_is_read_and_a_script_makes_the_same() -> None:
    recipe = Recipe.parse(STEP)
    assert Recipe.parse(recipe.dump()) == recipe
    made = spectrum_image(
        ("40 nm", "60 nm"),
        ("70 nm", "80 nm"),
        (4, 6),
        {"range": ("400 eV", "600 eV"), "dispersion": "0.2 eV", "dwell_time": "0.1 s"},
        "here",
        passes=2,
        images={
            "detectors": ("haadf",),
            "dwell_time": "1 µs",
            "pixels_per_point": 10,
            "margin": "4.9 nm",
        },
        drift_correct="rows",
    )
    assert made == _step()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[70 nm, 80 nm]", "[70 nm, 60 nm]"), "top left and the bottom right corner"),
        (("[4, 6]", "[4, 6.0]"), r"\[rows, columns\]"),
        (("[4, 6]", "4"), r"\[rows, columns\]"),
        (("[4, 6]", "[1000, 1500]"), "at most 100000"),
        (("[4, 6]", "[4, 5]"), r"square; move 'to' to \[70 nm, 84 nm\]"),
        (("drift_correct: rows", "drift_correct: no"), "passes"),
        (("drift_correct: rows", "drift_correct: false"), "never, passes or rows"),
        (("passes: 2", "passes: 0"), "passes"),
        (("pixels_per_point: 10", "pixels_per_point: 3"), "raise images.pixels_per_point"),
        (("name: here", "name: overview"), "named like the recorded stream"),
        (("margin: 4.9 nm", "margins: 4.9 nm"), "margin"),
        (("margin: 4.9 nm", "size: 256"), "go together"),
        (("margin: 4.9 nm", "size: 256, field_of_view: 90 nm"), "not both"),
        (
            ("pixels_per_point: 10, margin: 4.9 nm", "size: 256, field_of_view: 29 nm"),
            "30 nm long",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_mend_it(
    change: tuple[str, str], message: str
) -> None:
    assert change[0] in STEP
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(STEP.replace(*change))


def test_drift_is_corrected_only_with_images_and_between_what_there_is() -> None:
    plain = "\n".join(line for line in STEP.splitlines() if "images:" not in line)
    with pytest.raises(RecipeError, match="needs images to see the drift in"):
        Recipe.parse(plain)
    once = STEP.replace("passes: 2", "passes: 1").replace(
        "drift_correct: rows", "drift_correct: passes"
    )
    with pytest.raises(RecipeError, match="and there is one; write rows"):
        Recipe.parse(once)
    assert _step(plain.replace("rows", "never")).images is None


def test_images_of_a_map_may_not_be_named_like_a_recorded_stream() -> None:
    with pytest.raises(RecipeError, match="'here_images'"):
        Recipe.parse(STEP.replace("overview:", "here_images:"))


def test_energy_offsets_are_refused_where_an_estimator_would_look_at_them() -> None:
    text = f"""
hotstage: 1
name: series
ESTIMATE
steps:
  - spectrum: {{at: [0 nm, 0 nm], frames: 2, name: series, energy_offsets: [380 eV, 450 eV], spectra: {SPECTRA}}}
"""
    recipe = Recipe.parse(text.replace("ESTIMATE", ""))
    assert Recipe.parse(recipe.dump()) == recipe
    with pytest.raises(RecipeError, match="an energy axis each"):
        Recipe.parse(text.replace("ESTIMATE", "estimate: {eels: {from: series.core_loss}}"))
    with pytest.raises(RecipeError, match="names an energy twice"):
        Recipe.parse(text.replace("ESTIMATE", "").replace("450 eV", "380 eV"))
