"""What is shifted when: bounded, without hunting, aimed at the next exposure; and which shift a frame had."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from acquire.engine.correcting import correction
from acquire.engine.shifts import ShiftLog
from acquire.stream.shifting import AppliedShift, Steering
from tests.engine.drift_parts import STEERING, wanted


def step_response(
    steering: Steering, scale: float, delay: int, looks: Callable[[int], bool], frames: int = 40
) -> list[float]:
    """Error in nm, frame by frame, after a jump of 10 nm, with a scan whose shifts are scaled."""
    errors, shifts, log = [], [0.0], [0.0]
    for frame in range(frames):
        drift = 10.0
        error = drift - scale * log[-1]
        errors.append(error)
        # the estimator adds the shift it was told to what it sees in the image
        shifts.append(error + log[-1])
        seen = frame - delay
        if seen >= 0 and looks(frame):
            made = correction(steering, wanted(shifts[seen + 1]), (log[-1], 0.0), 0.0, 3.0)
            log.append(log[-1] + (made.dx_nm if made is not None else 0.0))
        else:
            log.append(log[-1])
    return errors


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("skip", [1, 3])
def test_a_jump_is_followed_without_overshoot(scale: float, skip: int) -> None:
    errors = step_response(STEERING, scale, 0, lambda frame: frame % skip == 0)
    assert np.diff(errors).max() < 1e-9, "the error never grows"
    assert min(errors) > -STEERING.deadband_nm  # type: ignore[operator]
    assert abs(errors[-1]) <= 0.31


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_late_estimates_do_not_make_the_same_correction_twice(delay: int) -> None:
    errors = step_response(STEERING, 1.0, delay, lambda _: True)
    assert min(errors) > -1e-9
    assert abs(errors[-1]) <= 0.31


@pytest.mark.parametrize("delay", [1, 2])
def test_a_scan_that_is_badly_calibrated_is_steered_to_rest_also_with_delay(delay: int) -> None:
    errors = step_response(STEERING, 1.2, delay, lambda _: True)
    assert max(map(abs, errors[delay + 2 :])) < 10.0 * 0.5
    assert abs(errors[-1]) <= 0.31
    assert len(set(errors[-5:])) == 1, "it has come to rest"


def test_noise_within_the_deadband_is_left_alone() -> None:
    rng = np.random.default_rng(1)
    own = replace(STEERING, deadband_nm=None)
    for x, y in rng.normal(0, 0.05, (200, 2)):
        assert correction(own, wanted(x, y), (0.0, 0.0), 0.0, 3.0) is None
    # what is less certain must be further off
    assert correction(own, wanted(0.5, sigma=0.3), (0.0, 0.0), 0.0, 3.0) is None
    assert correction(own, wanted(0.5, sigma=0.1), (0.0, 0.0), 0.0, 3.0) is not None


@pytest.mark.parametrize("sigma", [2.1, math.inf, math.nan])
def test_what_is_uncertain_moves_nothing(sigma: float) -> None:
    assert correction(STEERING, wanted(10.0, sigma=sigma), (0.0, 0.0), 0.0, 3.0) is None


def test_one_step_and_all_steps_together_are_bounded() -> None:
    made = correction(STEERING, wanted(60.0, 80.0), (0.0, 0.0), 0.0, 3.0)
    assert made is not None
    assert (made.dx_nm, made.dy_nm) == pytest.approx((7.2, 9.6))
    last = correction(STEERING, wanted(110.0), (95.0, 0.0), 0.0, 3.0)
    assert last is not None
    assert last.limited
    assert (last.dx_nm, last.dy_nm) == (0.0, 0.0)


def test_the_shift_aims_at_the_next_exposure_but_not_far_beyond() -> None:
    ahead = correction(replace(STEERING, gain=1.0), wanted(0.0, rate=2.0), (0.0, 0.0), 1.5, 3.0)
    assert ahead is not None
    assert ahead.dx_nm == pytest.approx(3.0)
    far = correction(replace(STEERING, gain=1.0), wanted(0.0, rate=2.0), (0.0, 0.0), 60.0, 3.0)
    assert far is not None
    assert far.dx_nm == pytest.approx(6.0)
    still = replace(STEERING, predict=False)
    assert correction(still, wanted(0.0, rate=2.0), (0.0, 0.0), 1.5, 3.0) is None
    unknown = correction(STEERING, wanted(5.0, rate=math.nan), (0.0, 0.0), 1.5, 3.0)
    assert unknown is not None
    assert unknown.dx_nm == pytest.approx(4.0)


def test_every_frame_is_told_its_own_shift_and_whether_it_was_torn() -> None:
    log = ShiftLog()
    assert log.during(0.0, 1.0) == AppliedShift(0.0, 0.0, steady=True)
    log.moved(2.0, 2.01, 3.0, -1.0)
    log.moved(5.0, 5.01, 1.0, 1.0)
    assert log.during(0.0, 2.0) == AppliedShift(0.0, 0.0, steady=True)
    assert not log.during(1.5, 2.4).steady
    assert log.during(2.01, 3.0) == AppliedShift(3.0, -1.0, steady=True)
    assert log.during(6.0, 7.0) == AppliedShift(4.0, 0.0, steady=True)
    # late and early lines of a frame are not worth losing it
    assert log.during(1.0, 2.005) == AppliedShift(0.0, 0.0, steady=True)
    assert not log.during(1.0, 9.0).steady
    assert not log.during(4.9, 5.4).steady
    assert log.present == (4.0, 0.0)
