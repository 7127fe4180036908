"""Recipes are strict, say where a mistake is, and survive being written and read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquire.errors import RecipeError
from acquire.recipe import (
    Condition,
    Hold,
    LineScan,
    Mark,
    Ramp,
    Recipe,
    Repeat,
    hold,
    line_scan,
    mark,
    ramp,
    spectrum,
)
from acquire.store import StoreSettings


@pytest.fixture
def text(examples: Path) -> str:
    return (examples / "recipes" / "first_light.yaml").read_text(encoding="utf-8")


def test_the_example_reads_as_it_is_meant(text: str) -> None:
    recipe = Recipe.parse(text)
    assert recipe.limits.temperature == 900.0
    assert recipe.record["overview"].scan is not None
    assert recipe.record["overview"].scan.exposure(1.0).pixel_size_nm == pytest.approx(160 / 512)
    kinds = [type(step) for step in recipe.steps]
    assert kinds == [Mark, Ramp, Hold, LineScan, Ramp, Hold]
    first_hold = recipe.steps[2]
    assert isinstance(first_hold, Hold)
    assert first_hold.until == Condition("mean_diameter", ">=", 3.83, "nm", 3)


def test_the_detector_may_be_left_to_the_estimator(text: str) -> None:
    recipe = Recipe.parse(text.replace("overview.haadf", "overview.auto"))
    assert recipe.estimate["particles"].channel == "auto"
    assert Recipe.parse(recipe.dump()) == recipe


def test_a_recipe_survives_writing_and_reading(text: str) -> None:
    recipe = Recipe.parse(text)
    assert Recipe.parse(recipe.dump()) == recipe


def test_spectra_say_how_many_low_losses_they_take_and_at_which_angle(text: str) -> None:
    recipe = Recipe.parse(text.replace("dual: true", "low_loss_reads: 4, off_axis: 0.06 rad"))
    (spectra,) = [step.spectra for step in recipe.steps if isinstance(step, LineScan)]
    assert spectra.setting().off_axis_mrad == pytest.approx(60)
    assert spectra.exposure().low_loss_reads == 4
    assert spectra.exposed_s == pytest.approx(0.5 + 4 * 1e-3)
    assert Recipe.parse(recipe.dump()) == recipe
    plain = Recipe.parse(text).steps[3]
    assert isinstance(plain, LineScan)
    assert (plain.spectra.exposure().low_loss_reads, plain.spectra.setting().off_axis_mrad) == (
        1,
        0.0,
    )


@pytest.mark.parametrize(
    ("change", "to", "words"),
    [
        ("rate: 5 °C/s", "rat: 5 °C/s", r"recipe:21: unknown key 'steps\[1\].ramp.rat'"),
        ("to: 700 °C", "to: 700", r"recipe:21: steps\[1\].ramp.to = 700: 700 has no unit"),
        ("to: 700 °C", "to: 700 nm", "not of the right kind"),
        ("- ramp: {to: 700", "- rmp: {to: 700", "unknown step 'rmp'; did you mean 'ramp'"),
        (">= 3.83 nm", "== 3.83 nm", "is not a condition; write QUANTITY >= VALUE"),
        ("overview.haadf", "overview.bf", "no detector 'bf', only haadf, abf; or .*overview.auto"),
        ("overview.haadf", "chip.auto", "no scan called 'chip'"),
        ("overview.haadf", "live.haadf", "no scan called 'live'"),
        ("{temperature: 900", "{temprature: 900", "did you mean 'temperature'"),
        ("points: 50", "points: 1", "greater than or equal to 2"),
        ("hotstage: 1", "hotstage: 2", "hotstage = 2"),
        ("hotstage: 1\n", "", "begin with 'hotstage: 1'"),
        ("{id: LSNT-01", "{id: LSNT-01, id: x", "recipe:5: not valid YAML: .*duplicate key"),
        ("\nsteps:", "\nstore: " + 2000 * "[" + "\nsteps:", "nested too deeply"),
        ("size: 512", "size: 0", "at least 1 pixel"),
        ("range: [400 eV, 600 eV]", "range: [600 eV, 400 eV]", "must rise"),
        ("dual: true", "off_axis: 60", "60 has no unit; .*'60 mrad'"),
        ("dual: true", "off_axis: -1 mrad", "off_axis.*greater than or equal to 0"),
        ("dual: true", "low_loss_reads: 0", "low_loss_reads.*greater than or equal to 1"),
        ("dual: true", "low_loss_reads: 1.5", "low_loss_reads"),
        ("dual: true", "dual: false, low_loss_reads: 4", "low_loss_reads = 4 needs dual spectra"),
        ("every: 1 s\n", "every: -1 s\n", "greater than or equal to 0"),
        ("{temperature: 900", "{disk: 50, temperature: 900", "50 has no unit; .*'50 GB'"),
        ("{temperature: 900", "{disk: 5 nm, temperature: 900", "for example '50 GB'"),
        ("{temperature: 900", "{disk: 0 GB, temperature: 900", "limits.disk.*greater than 0"),
        ("\nsteps:", "\nstore: {codec: gzip}\nsteps:", "store.codec = 'gzip'.*'zstd'"),
        ("\nsteps:", "\nstore: {sync_evry: 1 s}\nsteps:", "did you mean 'sync_every'"),
        ("\nsteps:", "\nstore: {sync_every: 1 ms}\nsteps:", "store.sync_every.*0.05 s to 60 s"),
        ("\nsteps:", "\nstore: {sync_every: 1 h}\nsteps:", "store.sync_every.*0.05 s to 60 s"),
        ("\nsteps:", "\nstore: {when_behind: drop}\nsteps:", "'wait' or 'fail'"),
        ("\nsteps:", "\non_link_loss: {retry_for: 30}\nsteps:", "30 has no unit"),
        ("\nsteps:", "\non_link_loss: {retry_for: -1 s}\nsteps:", "retry_for"),
        ("\nsteps:", "\non_link_loss: {retry: 1 s}\nsteps:", "did you mean 'retry_for'"),
        ("[haadf, abf]", "[haadf, haadf]", "names a detector twice"),
        (
            "chip: {holder: {every: 200 ms}}",
            "chip: {holder: {every: 1 s}}\n  other: {holder: {every: 1 s}}",
            "both record the one holder",
        ),
    ],
)
def test_every_mistake_names_line_key_value_and_mend(
    text: str, change: str, to: str, words: str
) -> None:
    assert change in text
    with pytest.raises(RecipeError, match=words):
        Recipe.parse(text.replace(change, to, 1))


def test_store_and_limits_are_read_as_they_are_meant(text: str) -> None:
    plain = Recipe.parse(text)
    assert plain.store.settings() == StoreSettings()
    assert plain.on_link_loss.retry_for == 0.0
    assert plain.limits.disk is None
    head = "\nstore: {codec: zstd, sync_every: 500 ms, when_behind: fail}"
    head += "\non_link_loss: {retry_for: 2 min}\nsteps:"
    text = text.replace("\nsteps:", head, 1).replace("{temperature", "{disk: 50 GB, temperature")
    recipe = Recipe.parse(text)
    assert recipe.store.settings() == StoreSettings("zstd", 0.5, "fail")
    assert recipe.on_link_loss.retry_for == 120.0
    assert recipe.limits.disk == 50e9
    assert Recipe.parse(text.replace("50 GB", "4 GiB")).limits.disk == 4 * 2**30
    assert Recipe.parse(recipe.dump()) == recipe


@given(st.text(max_size=200))
def test_no_text_whatever_raises_anything_but_a_recipe_error(garbage: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.parse(garbage)


def test_repeats_are_written_out_in_order() -> None:
    recipe = Recipe.parse(
        "hotstage: 1\nname: x\nsteps:\n  - repeat: {times: 2, steps: "
        "[{ramp: {to: 100 °C, rate: 1 °C/s}}, {repeat: {times: 2, steps: [{mark: a}]}}]}\n"
    )
    assert isinstance(recipe.steps[0], Repeat)
    words = [step.kind for step in recipe.flat_steps()]
    assert words == ["ramp", "mark", "mark"] * 2
    assert Recipe.parse(recipe.dump()) == recipe


def test_a_script_writes_the_very_same_steps(text: str) -> None:
    steps = (
        mark("fresh film, before heating"),
        ramp(to="700 °C", rate="5 °C/s"),
        hold("15 min", until="mean_diameter >= 3.83 nm for 3 frames"),
        line_scan(
            ("40 nm", "80 nm"),
            ("120 nm", "80 nm"),
            50,
            {"range": ["400 eV", "600 eV"], "dispersion": "0.1 eV", "dwell_time": "0.5 s"},
        ),
        ramp(to="25 °C", rate="50 °C/s"),
        hold("10 s"),
    )
    assert steps == Recipe.parse(text).steps
    with pytest.raises(RecipeError, match=r"ramp: rate = '5': .*has no unit"):
        ramp(to="700 °C", rate="5")
    with pytest.raises(RecipeError, match="dwell_time"):
        spectrum(("1 nm", "1 nm"), {"range": ["400 eV", "600 eV"], "dispersion": "0.1 eV"})


def test_points_of_a_line_scan_run_from_end_to_end() -> None:
    scan = line_scan(
        ("10 nm", "60 nm"),
        ("60 nm", "10 nm"),
        6,
        {"range": ["0 eV", "10 eV"], "dispersion": "0.1 eV", "dwell_time": "1 s"},
    )
    points = scan.positions_nm()
    assert points[0] == (10.0, 60.0)
    assert points[-1] == (60.0, 10.0)
    assert points[1] == pytest.approx((20.0, 50.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("safe_state: {heater: on}", "safe_state.heater = 'on': write off, or {cool:"),
        ("safe_state: {heater: {cool: {rate: -5 °C/s}}}", "safe_state.heater.cool.rate"),
        ("limits: {dose: -1 e/nm²}", "limits.dose"),
        ("steps: {ramp: 5}", "steps: must be a list"),
        ("steps: [{wait_for_operator: ''}]", "wait_for_operator.message"),
        ("steps: [{mark: 5}]", "put it in quotes"),
        ("steps: [{hold: {for: 5 s, until: 3}}]", "'3' is not a condition"),
        ("steps: [{repeat: {times: true, steps: [{mark: a}]}}]", "must be a whole number"),
        (
            "steps: [{line_scan: {from: [1 nm, 1 nm], to: [1 nm, 1 nm], points: 5, "
            "spectra: {range: [400 eV, 600 eV], dispersion: 1 eV, dwell_time: 1 s}}}]",
            "the same point",
        ),
        (
            "steps: [{image: {scan: {detectors: [haadf], size: true, field_of_view: 10 nm, "
            "dwell_time: 1 µs}}}]",
            "a whole number of pixels",
        ),
    ],
)
def test_mistakes_are_told_in_plain_words(change: str, words: str) -> None:
    with pytest.raises(RecipeError) as told:
        Recipe.parse(f"hotstage: 1\nname: x\n{change}\n")
    assert words in str(told.value)
    for jargon in ("tuple", "dictionary", "literal[", "CoolDown", "Input should"):
        assert jargon not in str(told.value)


def test_a_few_lines_of_aliases_cannot_stand_for_more_than_memory_holds(text: str) -> None:
    levels = ["- &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"- &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, 30)]
    with pytest.raises(RecipeError, match="with its aliases written out it has more than 100000"):
        Recipe.parse(text + "\nstore:\n  " + "\n  ".join(levels) + "\n")


def test_an_alias_of_what_it_stands_in_is_refused() -> None:
    with pytest.raises(RecipeError, match="an alias refers to what it stands in"):
        Recipe.parse("&a\nhotstage: 1\nname: x\nsteps: [*a]\n")


def test_an_alias_stands_for_what_it_names(text: str) -> None:
    changed = text.replace("name: ", "name: &name ", 1)
    assert Recipe.parse(changed) == Recipe.parse(text)
