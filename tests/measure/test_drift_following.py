"""A specimen is followed without adding up errors; what is shown beside it is summed without resampling."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquire.bench.particle_scenes import SCENES, make_scene
from acquire.errors import ConfigError, MeasureError
from acquire.instruments import Axis, ChannelSpec, Frame, StreamSpec
from acquire.measure.drift import CorrectedSum, DriftEstimator, Motion
from acquire.stream import Estimate
from acquire.stream.shifting import AppliedShift

PIXEL_NM = 0.5
SHAPE = (256, 256)
MARGIN_PX = 48
SCENE = replace(SCENES["D 20"], size_px=256 + 2 * MARGIN_PX, pixel_nm=PIXEL_NM, dose=80.0)


@lru_cache(maxsize=2)
def expected_counts(seed: int = 0) -> NDArray[np.float32]:
    """Of a place that is larger than the field."""
    return make_scene(SCENE, seed).relative * np.float32(SCENE.dose)


def field(dy_nm: float, dx_nm: float, seed: int = 0) -> NDArray[np.float32]:
    """What is seen when the specimen has moved by whole pixels."""
    top, left = (MARGIN_PX - round(moved / PIXEL_NM) for moved in (dy_nm, dx_nm))
    return expected_counts(seed)[top : top + SHAPE[0], left : left + SHAPE[1]]


def spec() -> StreamSpec:
    axis = Axis(0.0, PIXEL_NM, "nm")
    channel = ChannelSpec("uint16", SHAPE, ("y", "x"), {"y": axis, "x": axis}, "counts", "HAADF")
    return StreamSpec("overview", {"haadf": channel}, frame_period_s=1.0)


class Series:
    """Frames of a specimen, once a second, through one estimator."""

    def __init__(self, **options: object) -> None:
        self.estimator = DriftEstimator("drift", spec(), "haadf", options)
        self.index = 0

    def see(
        self,
        drift: tuple[float, float] = (0.0, 0.0),
        shift: tuple[float, float] = (0.0, 0.0),
        *,
        steady: bool = True,
        image: NDArray[np.generic] | None = None,
        after_s: float = 1.0,
        seed: int = 0,
    ) -> Estimate:
        """A frame of a specimen that drifted (x, y) under a scan that was shifted (x, y), by pixels."""
        if image is None:
            mean = field(drift[1] - shift[1], drift[0] - shift[0], seed)
            image = np.random.default_rng(1000 + self.index).poisson(mean).astype(np.uint16)
        start_s = self.index * after_s
        frame = Frame("overview", self.index, {"haadf": image}, start_s, start_s + 0.5)
        self.index += 1
        self.estimator.applied_shift(AppliedShift(*shift, steady))
        estimate = self.estimator.update(frame)
        assert estimate is not None
        return estimate


def position(estimate: Estimate) -> tuple[float, float]:
    return estimate.values["drift_x"].value, estimate.values["drift_y"].value


def test_drift_is_what_moved_in_the_image_plus_the_shift_that_was_applied() -> None:
    series = Series()
    assert series.see().flags == ("first",)
    still = series.see((3.0, -2.0))
    shifted = series.see((3.0, -2.0), (2.5, -2.5))
    for estimate in (still, shifted):
        assert position(estimate) == pytest.approx((3.0, -2.0), abs=0.2)
        assert not estimate.flags
        assert 0 < estimate.values["drift_x"].sigma < 0.1


def test_the_rate_is_that_of_the_specimen_whatever_the_shift() -> None:
    series = Series()
    for k in range(8):
        follows = (1.0 * k, -1.0 * k) if k > 3 else (0.0, 0.0)
        estimate = series.see((1.5 * k, -2.0 * k), follows)
    rate = estimate.values["drift_rate_x"]
    assert rate.value == pytest.approx(1.5, abs=4 * rate.sigma)
    assert estimate.values["drift_rate_y"].value == pytest.approx(-2.0, abs=4 * rate.sigma)
    assert estimate.values["drift_rate"].value == pytest.approx(2.5, abs=4 * rate.sigma)
    assert rate.sigma < 0.15


def test_errors_do_not_add_up_over_many_frames() -> None:
    series = Series()
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(40):
        drift = PIXEL_NM * rng.integers(-8, 9, 2)
        found = series.see((float(drift[0]), float(drift[1])))
        errors.append(np.subtract(position(found), drift))
    # the first image's own place is where all count from; its noise is common to all
    late = np.array(errors[-10:]) - np.mean(errors[1:11], axis=0)
    assert np.sqrt(np.mean(np.square(late))) < 0.1


def test_a_reference_that_leaves_the_field_is_replaced_and_its_uncertainty_carried_on() -> None:
    series = Series()
    sigmas, worst = [], 0.0
    zero = (-22.0, -22.0)
    for k in range(23):
        at = (-22.0 + 2.0 * k, -22.0 + 2.0 * k)
        found = series.see(at)
        worst = max(worst, float(np.abs(np.subtract(position(found), np.subtract(at, zero))).max()))
        sigmas.append(found.values["drift_x"].sigma)
    assert worst < 5 * sigmas[-1] < 0.6
    assert sigmas[-1] > 1.2 * sigmas[2]


def test_blank_bad_and_torn_frames_say_nothing_and_do_no_harm() -> None:
    series = Series(correct="scan_shift")
    series.see()
    series.see((1.0, 0.0))
    dark = np.random.default_rng(0).poisson(0.02, SHAPE).astype(np.uint16)
    bad = {
        "blank": series.see(image=dark),
        "constant": series.see(image=np.full(SHAPE, 80, np.uint16)),
        "nonfinite": series.see(image=np.full(SHAPE, math.nan)),
        "unreadable": series.see(image=np.ones((128, 128))),
        "shifted": series.see((2.0, 0.0), steady=False),
    }
    for flag, estimate in bad.items():
        assert flag in estimate.flags
        assert all(math.isnan(value.value) for value in estimate.values.values())
    assert series.estimator.wanted_shift() is None
    again = series.see((7.0, 0.0))
    assert position(again) == pytest.approx((7.0, 0.0), abs=0.3)
    assert series.estimator.wanted_shift() is not None


def test_a_field_that_moved_away_is_said_once_and_everything_after_is_marked() -> None:
    series = Series()
    series.see()
    series.see((1.0, 1.0))
    lost = [series.see(seed=1) for _ in range(3)]
    assert [estimate.flags for estimate in lost[:2]] == [("no_registration",)] * 2
    assert "field_moved" in lost[2].flags
    assert all(math.isnan(position(estimate)[0]) for estimate in lost)
    held = series.see((0.5, 0.0), seed=1)
    assert "origin_lost" in held.flags
    assert "origin_lost" in series.estimator.quantities[0].spoiled_by
    assert position(held) == pytest.approx((1.5, 1.0), abs=0.3)


def test_frames_that_were_left_out_do_not_change_what_is_said() -> None:
    dense, sparse = Series(), Series()
    for k in range(9):
        last = dense.see((0.5 * k, 0.0))
    for k in (0, 4, 8):
        sparse.index = k
        thin = sparse.see((0.5 * k, 0.0))
    assert position(last) == pytest.approx(position(thin), abs=1e-6)


def test_the_same_frames_give_the_same_estimates() -> None:
    first, second = Series(), Series()
    for k in range(4):
        assert repr(first.see((0.5 * k, 0.5))) == repr(second.see((0.5 * k, 0.5)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"correct": "stage"}, "correct"),
        ({"gain": 1.5}, "gain"),
        ({"max_shift": "5 °C"}, "max_shift"),
        ({"reach": "-1 nm"}, "reach"),
        ({"sum": 0, "store_sum": True}, "how many frames"),
        ({"deadbeat": 1}, "deadbeat"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used_are_refused_by_name(
    options: dict[str, object], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        DriftEstimator("drift", spec(), "haadf", options)


# ---------------------------------------------------------------------------------- sums


def test_a_sum_is_sharp_where_plain_adding_blurs() -> None:
    series = Series(sum=6)
    plain = np.zeros(SHAPE)
    for k in range(6):
        at = (1.5 * k, 0.0)
        plain += np.random.default_rng(1000 + k).poisson(field(0.0, at[0]))
        assert series.estimator.take_sum() is None
        series.see(at)
    total = series.estimator.take_sum()
    assert total is not None
    assert (total.t_start_s, total.t_end_s) == (0.0, 5.5)
    assert series.estimator.take_sum() is None
    mean, frames = total.data["haadf"], total.data["frames"]
    inside = (slice(None), slice(0, SHAPE[1] - 16))  # the specimen moved to the right
    assert (frames[inside] == 6).all()
    assert frames[:, -1].max() == 1
    clean = field(0.0, 0.0)
    assert np.std((mean - clean)[inside]) < 1.25 * math.sqrt(SCENE.dose / 6)
    assert np.std((plain / 6 - clean)[inside]) > 1.5 * np.std((mean - clean)[inside])


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 1000),
)
def test_no_count_is_changed_or_lost_in_a_sum(moves: list[tuple[float, float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    big = rng.integers(0, 60_000, (200, 200)).astype(np.uint16)
    total = CorrectedSum((64, 48))
    for dy, dx in moves:
        top, left = 70 - round(dy), 70 - round(dx)
        total.add(big[top : top + 64, left : left + 48], (dy, dx))
    seen = total.frames > 0
    expected = big[70:134, 70:118]
    np.testing.assert_allclose(total.mean()[seen], expected[seen], rtol=1e-6)
    assert total.count == len(moves)
    assert (total.mean()[~seen] == 0).all()


def test_a_sum_refuses_what_does_not_fit() -> None:
    total = CorrectedSum((8, 8))
    with pytest.raises(MeasureError, match="another sum"):
        total.add(np.ones((8, 9)), (0, 0))
    with pytest.raises(MeasureError, match="not a number"):
        total.add(np.ones((8, 8)), (math.nan, 0))
    total.add(np.ones((8, 8)), (100, 0))
    assert total.count == 1
    assert total.frames.max() == 0


# -------------------------------------------------------------------------------- motion


def test_the_filter_is_surer_than_single_measurements_of_a_steady_drift() -> None:
    rng = np.random.default_rng(4)
    motion, misses = Motion(), []
    for k in range(200):
        truth = np.array([0.3 * k, -0.2 * k])
        if k > 20:
            misses.append((motion.predict(float(k)) - truth) / motion.uncertainty(float(k)))
        motion.measure(float(k), truth + rng.normal(0, 0.05, 2), 0.05)
    assert motion.rate == pytest.approx((0.3, -0.2), abs=4 * motion.rate_sigma)
    # the filter allows for rates that change, these do not: it is a little too modest
    assert 0.3 < np.std(misses) < 1.2


def test_a_drift_that_begins_at_once_is_known_after_one_frame() -> None:
    motion = Motion()
    for k in range(10):
        motion.measure(float(k), np.zeros(2), 0.05)
    motion.measure(10.0, np.array([5.0, 0.0]), 0.05)
    assert motion.predict(11.0) == pytest.approx((10.0, 0.0), abs=0.3)


def test_one_measurement_says_nothing_of_a_rate() -> None:
    motion = Motion()
    assert not motion.known
    motion.measure(1.0, np.array([1.0, 2.0]), 0.1)
    assert not motion.known
    assert math.isinf(motion.uncertainty(2.0))
    assert motion.predict(9.0) == pytest.approx((1.0, 2.0))
    motion.measure(1.0, np.array([9.0, 9.0]), 0.1)
    assert motion.predict(9.0) == pytest.approx((1.0, 2.0))
