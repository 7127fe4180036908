"""The detector is chosen by what shows for several frames, in its own polarity, and then held."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from acquire.errors import ConfigError
from acquire.instruments import Frame, StreamSpec
from acquire.measure.particles import (
    ChannelScore,
    ChoosingParticles,
    ParticleEstimator,
    score_channels,
    settle_channel,
    with_segmenter,
)
from acquire.stream import DetectorChoice, Estimate
from acquire.stream.choosing import Chooses, ChoosingFactory, detectors_of, make_estimator

Images = Mapping[str, NDArray[Any]]
Scenes = Callable[..., Any]
PIXEL_NM = 0.3125
FLAT = np.full((512, 512), 7, np.uint16)


def choosing(spec: StreamSpec, **options: object) -> ChoosingParticles:
    made = make_estimator("particles", ParticleEstimator, "particles", spec, "auto", options)
    assert isinstance(made, ChoosingParticles)
    return made


def run(estimator: Any, series: Sequence[Images]) -> list[Estimate]:
    frames = [Frame("overview", i, images, float(i), i + 0.5) for i, images in enumerate(series)]
    told = [estimator.update(frame) for frame in frames]
    return [estimate for estimate in told if estimate is not None]


def noise(rng: np.random.Generator, dose: float = 100.0) -> NDArray[np.uint16]:
    return rng.poisson(dose, (512, 512)).astype(np.uint16)


@pytest.mark.parametrize(
    ("detector", "dark"), [("abf", True), ("haadf", False), ("bottom", True), ("bottom", False)]
)
def test_the_detector_that_shows_particles_is_chosen_in_its_polarity(
    scene: Scenes, spec: StreamSpec, detector: str, dark: bool
) -> None:
    spec = replace(spec, channels={**spec.channels, "bottom": spec.channels["abf"]})
    rng = np.random.default_rng(1)
    made = scene(rng, diameter_nm=7.0, count=12, dark=dark)
    other = "haadf" if detector == "abf" else "abf"
    series = [{detector: made.image(rng, 100.0), other: FLAT} for _ in range(5)]
    estimates = run(choosing(spec), series)
    assert [estimate.choice is None for estimate in estimates] == [True, True, False, False, False]
    assert estimates[0].flags == ("choosing",)
    assert all(math.isnan(value.value) for value in estimates[0].values.values())
    choice = estimates[2].choice
    assert choice is not None
    assert (choice.detector, choice.frame_index, choice.t_s) == (detector, 2, 2.5)
    assert choice.facts["polarity"] == ("dark" if dark else "bright")
    assert choice.facts[f"score_{other}"] == 0.0
    polarity = choice.facts["polarity"]
    alone = ParticleEstimator("particles", spec, detector, {"polarity": polarity})
    for own, told in zip(run(alone, series[2:]), estimates[2:], strict=True):
        assert own.values == told.values
        assert "choosing" not in told.flags


def test_noise_and_single_frames_choose_nothing(scene: Scenes, spec: StreamSpec) -> None:
    rng = np.random.default_rng(2)
    particles = scene(rng, diameter_nm=7.0, count=12).image(rng, 100.0)
    series: list[Images] = [{"haadf": noise(rng), "abf": noise(rng)} for _ in range(24)]
    for at in (4, 5, 10, 16, 17):
        series[at] = {"haadf": particles, "abf": noise(rng)}
    estimator = choosing(spec)
    estimates = run(estimator, series)
    assert estimator.choice is None
    assert all(estimate.flags == ("choosing",) for estimate in estimates)


def test_a_choice_is_held_though_another_detector_becomes_better_or_its_own_goes_out(
    scene: Scenes, spec: StreamSpec
) -> None:
    rng = np.random.default_rng(3)
    made = scene(rng, diameter_nm=7.0, count=12)
    series: list[Images] = [
        {"haadf": made.image(rng, 20.0), "abf": noise(rng)},
        {"haadf": made.image(rng, 20.0), "abf": noise(rng)},
        *({"haadf": made.image(rng, 20.0), "abf": made.image(rng, 2000.0)} for _ in range(4)),
        *({"haadf": FLAT, "abf": made.image(rng, 2000.0)} for _ in range(2)),
    ]
    estimates = run(choosing(spec), series)
    choices = [estimate.choice for estimate in estimates[2:]]
    assert [choice.detector for choice in choices if choice] == ["haadf"] * 6
    truth = made.diameters_nm.mean()
    for estimate in estimates[2:6]:
        assert estimate.values["mean_diameter"].value == pytest.approx(truth, rel=0.05)
    for estimate in estimates[6:]:
        assert "constant" in estimate.flags
        assert math.isnan(estimate.values["mean_diameter"].value)


def test_many_clear_particles_count_for_more_than_one_that_is_a_little_clearer(
    scene: Scenes,
) -> None:
    rng = np.random.default_rng(4)
    few = scene(rng, diameter_nm=7.0, count=1, spread=0.0, inset_nm=20.0).image(rng, 60.0)
    many = scene(rng, diameter_nm=7.0, count=12, spread=0.0).image(rng, 50.0)
    best, second = score_channels({"few": few, "many": many}, PIXEL_NM)[:2]
    assert (best.channel, second.channel) == ("many", "few")


@pytest.mark.parametrize("dark", [False, True])
def test_film_between_dense_particles_does_not_pass_for_particles(
    scene: Scenes, dark: bool
) -> None:
    rng = np.random.default_rng(5)
    image = scene(rng, diameter_nm=6.0, count=220, dark=dark).image(rng, 100.0)
    best, worse = score_channels({"only": image}, PIXEL_NM)
    assert best.polarity == ("dark" if dark else "bright")
    assert worse.evidence == 0.0


def test_a_clipped_image_is_not_chosen(scene: Scenes) -> None:
    rng = np.random.default_rng(6)
    made = scene(rng, diameter_nm=8.0, count=15)
    clipped = np.minimum(made.image(rng, 2000.0), 2300).astype(np.uint16)
    scores = score_channels({"haadf": clipped, "df": made.image(rng, 20.0)}, PIXEL_NM)
    assert scores[0].channel == "df"
    assert {score.flags for score in scores if score.channel == "haadf"} == {("saturated",)}


def test_frames_are_settled_by_their_mean_and_only_by_what_shows_in_all() -> None:
    def score(channel: str, evidence: float) -> ChannelScore:
        return ChannelScore(channel, "bright", evidence, 3, evidence)

    steady, brief, low = score("a", 6.0), score("b", 9.0), score("c", 5.0)
    settled = settle_channel([(steady, brief, low), (steady, low), (score("a", 9.0), low)])
    assert settled is not None
    assert (settled.channel, settled.evidence) == ("a", 7.0)
    assert settle_channel([(steady,), (score("a", 0.0),)]) is None
    assert settle_channel([]) is None


def test_what_is_dark_on_a_dark_field_detector_is_no_particle(
    scene: Scenes, spec: StreamSpec
) -> None:
    rng = np.random.default_rng(10)
    holes = scene(rng, diameter_nm=7.0, count=12, dark=True)
    images = [{"haadf": holes.image(rng, 100.0), "abf": noise(rng)} for _ in range(4)]
    for options, found in (({}, None), ({"polarity": "dark"}, "haadf")):
        estimator = choosing(spec, **options)
        run(estimator, images)
        assert (estimator.choice and estimator.choice.detector) == found


def test_the_polarity_that_an_operator_names_is_not_put_in_question(
    scene: Scenes, spec: StreamSpec
) -> None:
    rng = np.random.default_rng(7)
    made = scene(rng, diameter_nm=7.0, count=12, dark=True)
    estimator = choosing(spec, polarity="bright")
    run(estimator, [{"haadf": noise(rng), "abf": made.image(rng, 100.0)} for _ in range(4)])
    assert estimator.choice is None


def test_damaged_and_missing_images_are_no_reason_to_fail(scene: Scenes, spec: StreamSpec) -> None:
    rng = np.random.default_rng(8)
    made = scene(rng, diameter_nm=7.0, count=12)
    odd = np.ones((3, 3, 3))
    series: list[Images] = [{"haadf": odd, "abf": odd}, {"haadf": FLAT, "abf": FLAT}, {}]
    series += [{"haadf": made.image(rng, 100.0), "abf": odd} for _ in range(3)]
    estimates = run(choosing(spec), series)
    assert [estimate.flags[:2] for estimate in estimates[:2]] == [
        ("choosing", "unreadable"),
        ("choosing", "constant"),
    ]
    assert len(estimates) == 5, "a frame without any image tells nothing"
    assert estimates[-1].choice is not None
    assert estimates[-1].choice.detector == "haadf"


def test_an_earlier_choice_is_held_from_the_first_frame_on_if_it_can_be(
    scene: Scenes, spec: StreamSpec
) -> None:
    rng = np.random.default_rng(9)
    made = scene(rng, diameter_nm=7.0, count=12, dark=True)
    frame: Images = {"haadf": noise(rng), "abf": made.image(rng, 100.0)}
    earlier = DetectorChoice("abf", 4, 9.5, {"polarity": "dark"}, "run-1")
    estimator = choosing(spec)
    estimator.hold(earlier)
    (estimate,) = run(estimator, [frame])
    assert estimate.choice == earlier
    assert estimate.values["count"].value == pytest.approx(12, abs=1)
    for gone in (DetectorChoice("bf", 4, 9.5, {"polarity": "dark"}), DetectorChoice("abf", 4, 9.5)):
        estimator = choosing(spec)
        estimator.hold(gone)
        assert estimator.choice is None


def _plain_factory(
    name: str, spec: StreamSpec, channel: str, options: Mapping[str, object]
) -> ParticleEstimator:
    """As an entry point of somebody else may be."""
    return ParticleEstimator(name, spec, channel, options)


def test_what_may_be_chosen_among_are_images(spec: StreamSpec) -> None:
    assert detectors_of(spec) == ("haadf", "abf")
    assert isinstance(ParticleEstimator, ChoosingFactory)
    assert isinstance(with_segmenter(lambda image: image), ChoosingFactory)
    assert isinstance(choosing(spec), Chooses)
    with pytest.raises(ConfigError, match="smallest_diameter"):
        choosing(spec, smallest_diameter="0.1 nm")
    with pytest.raises(ConfigError, match=r"cannot choose its detector\. Name one"):
        make_estimator("mine", _plain_factory, "mine", spec, "auto", {})
    assert isinstance(
        make_estimator("mine", _plain_factory, "mine", spec, "abf", {}), ParticleEstimator
    )


def test_a_stored_choice_reads_back_and_what_is_none_reads_as_none() -> None:
    choice = DetectorChoice("abf", 12, 30.5, {"polarity": "dark", "score": 9.25})
    attributes = {"stream": "overview", **choice.attributes}
    again = DetectorChoice.from_attributes(attributes, "run-1")
    assert again == DetectorChoice("abf", 12, 30.5, choice.facts, "run-1")
    assert again is not None
    assert DetectorChoice.from_attributes(again.attributes, "continued-1") == again
    assert str(choice) == "abf (polarity dark, score 9.25)"
    assert DetectorChoice.from_attributes({"stream": "overview"}, "run-1") is None
