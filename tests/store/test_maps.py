"""A map is read by its places: while it is written, cut off, over segments, summed, and with its estimates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.errors import StoreError
from acquire.export.laying import layout_of
from acquire.store import as_map, map_names, map_of_estimates, open_run
from acquire.stream import Estimate, Value
from tests.store.map_parts import (
    CHANNELS,
    COLUMNS,
    PASSES,
    POINTS,
    ROWS,
    core_of,
    open_map,
    write_map,
)


def test_a_whole_map_is_read_by_place_as_it_was_recorded(maker: Any, tmp_path: Path) -> None:
    writer = open_map(maker, tmp_path / "run")
    write_map(writer, range(POINTS))
    writer.close(maker.report())
    run = open_run(tmp_path / "run")
    placed = run.map("map")
    assert map_names(run) == ("map",)
    assert placed.core_loss.dims == ("pass", "y", "x", "energy_loss")
    assert placed.core_loss.dtype == np.int32
    whole = core_of(range(POINTS)).reshape(PASSES, ROWS, COLUMNS, CHANNELS)
    np.testing.assert_array_equal(placed.core_loss.values, whole)
    np.testing.assert_array_equal(placed.core_loss[1, :, ::2, 5:40].values, whole[1, :, ::2, 5:40])
    np.testing.assert_array_equal(placed.core_loss[-1, 1, [3, 0]].values, whole[-1, 1, [3, 0]])
    np.testing.assert_array_equal(placed.time.values.ravel(), np.arange(POINTS))
    assert placed.x.values.tolist() == [10.0, 12.0, 14.0, 16.0]
    assert placed.y.values.tolist() == [20.0, 23.0]
    assert placed.energy_loss.values[0] == 400.0
    # the specimen lay further right by the offset: the same point shows what lay further left
    assert placed.x_specimen[2, 0].values.tolist() == [9.0, 11.0, 13.0, 15.0]
    assert np.isnan(placed.x_specimen[1, 0, 1]), "where no image told"


def test_a_map_that_is_being_written_has_nan_where_nothing_is_yet(
    maker: Any, tmp_path: Path
) -> None:
    writer = open_map(maker, tmp_path / "run")
    writer.publish()
    run = open_run(tmp_path / "run")
    assert not run.map("map").taken.any()
    assert np.isnan(run.map("map").core_loss.values).all()
    write_map(writer, range(13))
    writer.publish()
    run.refresh()
    placed = run.map("map")
    assert placed.core_loss.shape == (PASSES, ROWS, COLUMNS, CHANNELS)
    assert int(placed.taken.sum()) == 13
    np.testing.assert_array_equal(placed.core_loss[1, 1, 0].values, core_of([12])[0])
    assert np.isnan(placed.core_loss[1, 1, 1].values).all()
    assert np.isnan(placed.core_loss[2].values).all()
    assert np.isnan(placed.time[1, 1, 1])
    writer.close(maker.report())


def test_segments_fill_each_others_gaps_and_a_lost_journal_costs_only_what_was_never_taken(
    maker: Any, tmp_path: Path
) -> None:
    for name, numbers in (("a", range(13)), ("b", range(13, POINTS))):
        writer = open_map(maker, tmp_path / name)
        write_map(writer, numbers)
        writer.close(maker.report())
    parts = [open_run(tmp_path / name) for name in "ab"]
    joined = as_map(parts, "map")
    assert bool(joined.taken.all())
    assert joined.core_loss.dtype == np.int32
    np.testing.assert_array_equal(
        joined.core_loss.values.reshape(POINTS, -1), core_of(range(POINTS))
    )
    (tmp_path / "a" / "journal.jsonl").unlink()
    alone = open_run(tmp_path / "a").map("map")
    assert alone.core_loss.shape[:3] == (2, ROWS, COLUMNS)
    assert alone.x.values == pytest.approx([10.0, 12.0, 14.0, 16.0])
    assert alone.y.values == pytest.approx([20.0, 23.0])


def test_a_map_that_was_taken_again_is_not_filled_up_with_what_was_there_before(
    maker: Any, tmp_path: Path
) -> None:
    writer = open_map(maker, tmp_path / "run")
    write_map(writer, range(POINTS))
    write_map(writer, range(5), taken=POINTS)
    writer.close(maker.report())
    run = open_run(tmp_path / "run")
    newest, before = run.map("map"), run.map("map", taking=0)
    assert (int(newest.taken.sum()), int(before.taken.sum())) == (5, POINTS)
    assert float(newest.time[0, 0, 0]) == POINTS
    assert float(before.time[0, 0, 0]) == 0.0
    with pytest.raises(StoreError, match="taken 2 times"):
        run.map("map", taking=2)
    layout = layout_of(run.spectra("map"))
    assert layout is not None
    assert [axis.name for axis in layout.axes] == ["repeat", "pass", "y", "x"]
    assert layout.missing == POINTS - 5


def test_segments_on_different_axes_are_not_read_as_one(maker: Any, tmp_path: Path) -> None:
    for name, numbers, first_ev in (("a", range(13), 400.0), ("b", range(13, POINTS), 401.0)):
        writer = open_map(maker, tmp_path / name, first_ev=first_ev)
        write_map(writer, numbers)
        writer.close(maker.report())
    with pytest.raises(StoreError, match=r"energy_loss .* 400.* 401"):
        as_map([open_run(tmp_path / name) for name in "ab"], "map")


def test_passes_are_summed_by_whole_channels_with_their_zero_losses_on_one_another(
    maker: Any, tmp_path: Path
) -> None:
    writer = open_map(maker, tmp_path / "run")
    write_map(writer, [number for number in range(POINTS) if number != 21])
    writer.close(maker.report())
    summed = open_run(tmp_path / "run").map("map", summed=True)
    assert summed.core_loss.dims == ("y", "x", "energy_loss")
    # all three passes have channels 1 to 61 of the first; the others fall out
    assert summed.energy_loss.values[[0, -1]].tolist() == [400.5, 430.5]
    counts = summed.core_loss.values
    assert np.count_nonzero(counts.sum(axis=(0, 1))) == 1
    expected = np.array([300 + 3 * n + 24 for n in range(8)], float).reshape(ROWS, COLUMNS)
    expected[1, 1] -= 121  # that of the last pass is missing
    np.testing.assert_array_equal(counts[:, :, 29], expected)
    assert summed.passes.values.tolist() == [[3, 3, 3, 3], [3, 2, 3, 3]]
    assert summed.moved[1].values.tolist() == [[2] * 4] * 2


def test_estimates_lie_where_their_spectra_do(maker: Any, tmp_path: Path) -> None:
    writer = open_map(maker, tmp_path / "run")
    write_map(writer, range(POINTS))
    for number in (0, 5, 6, 20):
        values = {"ti3_fraction": Value(0.1 * number, 0.01)}
        writer.append_estimate(Estimate("eels", "map", number, number + 0.5, values))
    writer.close(maker.report())
    told = map_of_estimates(open_run(tmp_path / "run"), "eels")
    flat = told.ti3_fraction.values.ravel()
    assert np.flatnonzero(np.isfinite(flat)).tolist() == [0, 5, 6, 20]
    assert flat[20] == pytest.approx(2.0)
    assert np.nanmax(told.ti3_fraction_sigma) == pytest.approx(0.01)


def test_what_is_no_map_is_refused_with_what_there_is(maker: Any, small_run: Path) -> None:
    run = open_run(small_run)
    with pytest.raises(StoreError, match="is no map; maps are: none"):
        run.map("line")
    with pytest.raises(StoreError, match="no map 'other'"):
        run.map("other")
