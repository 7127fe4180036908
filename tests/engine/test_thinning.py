"""A window that is opened late sees the whole run, its extremes among it, and never all of its points."""

from __future__ import annotations

import numpy as np

from acquire.engine.live import KEPT_READINGS, LiveView
from acquire.engine.live_maps import MapGrid
from acquire.engine.thinning import MOST_BYTES, ThinnedRecord, joined
from acquire.instruments import Axis, ChannelSpec, Frame, HolderReading, HolderState, StreamSpec
from acquire.stream import Estimate, Value


def test_of_a_long_record_the_newest_are_exact_and_of_the_oldest_the_extremes_are_kept() -> None:
    rows = 100_000
    values = np.random.default_rng(2).normal(700.0, 1.0, (2, rows))
    values[0, 17], values[1, 40_000], values[1, 40_001] = 1000.0, 20.0, np.nan
    record = ThinnedRecord(2, 1024)
    for number in range(rows):
        record.append(number, 0.02 * number, values[:, number].tolist())
    kept = record.since(0)
    assert kept.shape[1] <= 4096
    assert kept[1, 0] == 0.0
    np.testing.assert_array_equal(kept[2:, -1024:], values[:, -1024:])
    assert np.all(np.diff(kept[0]) > 0)
    assert np.diff(kept[1]).max() < 4 * np.median(np.diff(kept[1][:1000])), (
        "no step looks like a gap"
    )
    assert (kept[2].max(), np.nanmin(kept[3])) == (1000.0, 20.0)
    assert abs(kept[1][np.argmax(kept[2])] - 0.02 * 17) < 3.0
    np.testing.assert_array_equal(record.since(rows - 3)[0], [rows - 3, rows - 2, rows - 1])


def test_joined_records_are_in_order_and_never_too_large_for_a_message() -> None:
    parts = {}
    for first in (0, 1):
        numbers = np.arange(first, 60_000, 2, dtype=np.float64)
        names = tuple(f"q{first}_{k}" for k in range(40))
        parts[names] = np.concatenate([[numbers, numbers / 10], np.ones((40, len(numbers)))])
    t_s, columns = joined(parts)
    assert len(columns) == 80
    assert 8 * len(t_s) * 81 <= MOST_BYTES
    assert np.all(np.diff(t_s) >= 0)
    assert np.isfinite(columns["q0_3"]).sum() == np.isfinite(columns["q1_3"]).sum()
    assert joined({})[0].shape == (0,)


def test_a_viewer_that_comes_late_is_shown_the_beginning_and_then_only_what_is_new() -> None:
    live = LiveView()
    for number in range(5 * KEPT_READINGS):
        t_s = 0.02 * number
        live.put_reading(
            HolderReading(t_s, 25.0 + number, 20.0, 900.0, 1.0, 60.0, HolderState.RAMPING)
        )
    live.put_estimate(Estimate("particles", "overview", 1, 5.0, {"count": Value(7.0, 1.0)}))
    late = live.series((0, 0, 0))
    assert late.measured_celsius[0] == 25.0
    assert late.measured_celsius[-1] == 25.0 + 5 * KEPT_READINGS - 1
    assert len(late.t_s) <= 4 * KEPT_READINGS
    assert list(late.estimates["count_sigma"]) == [1.0]
    live.put_reading(HolderReading(9e5, 5.0, 20.0, 20.0, 1.0, 60.0, HolderState.HOLDING))
    new = live.series(late.cursor)
    assert list(new.measured_celsius) == [5.0]
    assert not len(new.estimate_t_s)


def test_a_line_scan_grows_as_a_map_of_one_row_and_begins_anew_each_time() -> None:
    axis = Axis(400.0, 0.1, "eV")
    channel = ChannelSpec("uint16", (64,), ("energy_loss",), {"energy_loss": axis})
    spec = StreamSpec("line", {"core_loss": channel})
    live = LiveView()
    grid = MapGrid("line", (1, 1, 4), (10.0, 20.0), (2.5, 0.0))
    live.begin_map(grid)
    for index in range(3):
        counts = np.zeros(64, np.uint16)
        live.put_spectrum(Frame("line", index, {"core_loss": counts}, index, index + 0.5), spec)
    live.put_estimate(Estimate("eels", "line", 1, 1.5, {"ti3_fraction": Value(0.3, 0.1)}))
    found = live.map("", -1, 0.0)
    assert found is not None
    assert found.taken.tolist() == [[1, 1, 1, 0]]
    assert found.values["ti3_fraction"][0, 1] == 0.3
    assert np.isnan(found.values["ti3_fraction"][0, 2])
    live.begin_map(grid)
    again = live.map("line", found.serial, 0.0)
    assert again is not None
    assert again.taken.sum() == 0
