"""What a window is shown belongs together, is never shown twice, and never waits for an estimator."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from acquire.engine.live import KEPT_IMAGES, LiveView
from acquire.instruments import Frame, FrameMeta
from acquire.stream import Estimate, Value


def _frame(index: int) -> Frame:
    return Frame(
        "overview", index, {"haadf": np.full((4, 4), index, np.uint16)}, index, index + 0.5
    )


def _estimate(index: int) -> Estimate:
    table = {"x_nm": np.array([float(index)])}
    return Estimate("particles", "overview", index, index + 0.5, {"count": Value(1, 0)}, (), table)


def test_outlines_come_with_the_very_frame_they_were_found_in() -> None:
    live = LiveView()
    live.put_image(_frame(0), 0.5)
    live.put_estimate(_estimate(0))
    live.put_image(_frame(1), 0.5)
    shown = live.image("overview", -1, 0.0)
    assert shown is not None
    assert (shown.index, shown.estimate_index, float(shown.particles["x_nm"][0])) == (0, 0, 0.0)
    assert live.image("overview", shown.serial, 0.0) is None, "frame 1 is not measured yet"
    live.put_estimate(_estimate(1))
    after = live.image("", shown.serial, 0.0)
    assert after is not None
    assert (after.index, after.estimate_index) == (1, 1)


def test_an_estimator_that_falls_behind_does_not_hold_the_image_back() -> None:
    live = LiveView()
    live.put_image(_frame(0), 0.5)
    live.put_estimate(_estimate(0))
    for index in range(1, KEPT_IMAGES + 2):
        live.put_image(_frame(index), 0.5)
    shown = live.image("overview", -1, 0.0)
    assert shown is not None
    assert (shown.index, shown.estimate_index) == (KEPT_IMAGES + 1, 0)


def test_series_give_every_record_once_and_start_anew_with_a_run() -> None:
    live = LiveView()
    for index in range(5):
        live.put_estimate(_estimate(index))
    first = live.series((0, 0, 0))
    assert list(first.estimates["count"]) == [1.0] * 5
    live.put_estimate(_estimate(5))
    assert list(live.series(first.cursor).estimate_t_s) == [5.5]
    live.begin()
    again = live.series(first.cursor)
    assert again.run != first.run
    assert not len(again.estimate_t_s)


def test_a_wait_that_is_not_a_number_is_no_wait() -> None:
    live = LiveView()
    assert live.image("overview", -1, float("nan")) is None
    assert live.spectrum(-1, float("nan")) is None


def test_an_image_tells_where_the_specimen_lies_in_it_which_is_drift_less_scan_shift() -> None:
    live = LiveView()
    assert live.image("overview", -1, 0.0) is None
    for index, shift in enumerate((0.0, 0.0, 6.0)):
        meta = FrameMeta({"scan_shift_x": shift, "scan_shift_y": 0.0})
        live.put_image(replace(_frame(index), meta=meta), 0.5)
        drift = {"drift_x": Value(3.0 * index, 0.1), "drift_y": Value(-1.0 * index, 0.1)}
        if index != 1:
            live.put_estimate(Estimate("d", "overview", index, index + 0.5, drift))
    shown = live.image("overview", -1, 0.0)
    assert shown is not None
    assert (shown.index, shown.place_index) == (2, 2)
    assert (shown.place_x_nm, shown.place_y_nm) == (0.0, -2.0)
    live.put_image(_frame(3), 0.5)
    lost = {name: Value(math.nan, math.nan) for name in ("drift_x", "drift_y")}
    live.put_estimate(Estimate("d", "overview", 3, 3.5, lost))
    later = live.image("overview", shown.serial, 0.0)
    assert later is not None
    assert (later.index, later.place_index) == (3, 2)
    assert later.place_y_nm == -2.0
    live.begin()
    live.put_image(_frame(0), 0.5)
    again = live.image("overview", later.serial, 0.0)
    assert again is not None
    assert again.place_index == -1
