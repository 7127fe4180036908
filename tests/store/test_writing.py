"""Any order of records gives equal lengths and right values; what cannot be recorded is refused."""

from __future__ import annotations

import math
import threading
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acquire.errors import StoreError
from acquire.instruments import Axis, Frame, FrameMeta, ScalarSpec, StreamSpec
from acquire.store import (
    CountingSink,
    MemorySink,
    RunWriter,
    open_run,
    read_journal,
    words_of,
)
from acquire.store.columns import ColumnSpec, Kind, Table
from acquire.store.shards import index_size, read_index
from acquire.stream import Note, Row, Sink

OPERATIONS = st.one_of(
    st.sampled_from(["image", "spectrum", "gap", "row", "publish", "many rows"]),
    st.integers(0, 40).map(lambda n: ("estimate", n)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations=st.lists(OPERATIONS, max_size=40))
def test_any_interleaving_of_records_reads_back_with_equal_lengths(
    maker: Any, operations: list[str | tuple[str, int]]
) -> None:
    with TemporaryDirectory() as folder:
        writer = maker.open(Path(folder) / "run")
        images: list[int] = []
        gaps: list[int] = []
        spectra = rows = index = 0
        estimates: list[tuple[int, int]] = []
        for operation in operations:
            match operation:
                case "image":
                    writer.append_frame(maker.image(index), maker.context(index))
                    images.append(index)
                    index += 1
                case "gap":
                    writer.gap("overview", index, "lost")
                    gaps.append(index)
                    index += 1
                case "spectrum":
                    writer.append_frame(maker.spectrum(spectra), maker.context(spectra))
                    spectra += 1
                case "row" | "many rows":
                    for _ in range(1 if operation == "row" else 700):
                        writer.append_row(maker.row(rows))
                        rows += 1
                case ("estimate", int(particles)):
                    writer.append_estimate(maker.estimate(len(estimates), particles))
                    estimates.append((len(estimates), particles))
                case _:
                    writer.publish()
                    # xarray refuses a group whose arrays differ in length
                    tree = open_run(Path(folder) / "run").tree()
                    assert tree["holder"].sizes["time"] == rows
                    assert tree["images/overview/full"].sizes["time"] == len(images)
        writer.close(maker.report())

        run = open_run(Path(folder) / "run")
        got = run.images("overview")
        assert got.frame_index.values.tolist() == images
        for row, number in enumerate(images):
            np.testing.assert_array_equal(got.abf[row], maker.image(number).data["abf"])
        assert run.spectra("line").core_loss[:, 3].values.tolist() == list(range(1, spectra + 1))
        np.testing.assert_array_equal(run.holder.measured, 20.0 + np.arange(rows))
        assert words_of(run.holder.state).tolist() == [
            "ramping" if n % 3 else "holding" for n in range(rows)
        ]
        particles = run.particles("particles")
        assert particles.frame_index.values.tolist() == [i for i, n in estimates for _ in range(n)]
        assert run.estimates("particles").frame_index.values.tolist() == [i for i, _ in estimates]
        if gaps:
            assert run.gaps.frame_index.values.tolist() == gaps


def test_streams_are_appended_from_many_threads(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    names = [f"s{i}" for i in range(4)]
    for name in names:
        writer.declare_frames("images", StreamSpec(name, maker.images.channels))
    errors: list[Exception] = []

    def record(name: str) -> None:
        try:
            for index in range(60):
                frame = replace(maker.image(index), stream=name, meta=FrameMeta())
                writer.append_frame(frame, maker.context(index))
                writer.append_row(Row("holder", float(index), {"measured": 1.0, "state": name}))
                writer.note(Note("mark", float(index), name))
        except Exception as error:  # noqa: BLE001  reported below
            errors.append(error)

    threads = [threading.Thread(target=record, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(maker.report())
    assert errors == []
    run = open_run(tmp_path / "run")
    for name in names:
        images = run.images(name)
        assert images.sizes["time"] == 60
        np.testing.assert_array_equal(images.haadf[59], maker.image(59).data["haadf"])
    assert run.holder.sizes["time"] == 240
    assert sorted(words_of(run.holder.state)) == sorted(names * 60)
    assert [e.seq for e in run.journal()] == list(range(242))


def test_an_existing_folder_is_refused_and_left_alone(maker: Any, tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "precious.txt").write_text("mine")
    writer = RunWriter(place)
    with pytest.raises(StoreError, match=r"out exists already.*Name another one"):
        writer.open(maker.header)
    writer.close(maker.report())
    assert [p.name for p in place.iterdir()] == ["precious.txt"]
    with pytest.raises(StoreError, match="not open"):
        writer.append_frame(maker.image(0), maker.context(0))


def test_a_jump_that_nobody_announced_becomes_a_gap(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    writer.append_frame(maker.image(0), maker.context(0))
    writer.append_frame(maker.image(3), maker.context(3))
    writer.close(maker.report())
    run = open_run(tmp_path / "run")
    assert run.images("overview").frame_index.values.tolist() == [0, 3]
    assert run.gaps.frame_index.values.tolist() == [1]
    assert run.gaps.frames.values.tolist() == [2]
    assert run.images("overview").attrs["missing_frames"] == 2


def test_frames_that_do_not_fit_are_refused_and_do_not_show(maker: Any, tmp_path: Path) -> None:
    good = maker.image(0)
    wrong = {
        "abf.*is missing": {"haadf": good.data["haadf"]},
        r"haadf.*uint16 \(4, 4\)": {**good.data, "haadf": np.ones((4, 4), np.uint16)},
        "abf.*is float64": {**good.data, "abf": good.data["abf"].astype(float)},
    }
    for number, (words, data) in enumerate(wrong.items()):
        writer = maker.open(tmp_path / f"run{number}")
        with pytest.raises(StoreError, match=words):
            writer.append_frame(replace(good, data=data), maker.context(0))
        with pytest.raises(StoreError, match="does not fit"):
            writer.close(maker.report())
        assert open_run(tmp_path / f"run{number}").images("overview").sizes["time"] == 0
    writer = maker.open(tmp_path / "order")
    writer.append_frame(good, maker.context(0))
    with pytest.raises(StoreError, match="in order"):
        writer.append_frame(good, maker.context(0))
    with pytest.raises(StoreError, match="other frames"):
        writer.declare_frames("spectra", replace(maker.spectra, name="overview"))
    writer.declare_frames("images", maker.images)
    for name in ("images", "a/b", "..", "ends.", ""):
        with pytest.raises(StoreError, match="name"):
            writer.declare_rows(name, {})
    writer.close(maker.report())


def test_what_comes_unannounced_is_kept_and_missing_before(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    for number in range(1500):
        writer.append_row(maker.row(number))
    writer.publish()
    writer.append_row(Row("holder", 200.0, {"pressure": 5.0, "gas": "H2"}))
    writer.append_frame(maker.image(0), maker.context(0))
    spans = {"haadf": (1.0, 1.2)}
    late = Frame("overview", 1, maker.image(1).data, 1.0, 1.5, FrameMeta(spans=spans))
    writer.append_frame(late, maker.context(1))
    writer.close(maker.report())
    run = open_run(tmp_path / "run")
    assert np.isnan(run.holder.pressure[:1500]).all()
    assert run.holder.pressure[1500] == 5.0
    assert math.isnan(run.holder.measured[1500])
    assert words_of(run.holder.gas)[[0, 1499, 1500]].tolist() == ["", "", "H2"]
    assert words_of(run.holder.state)[1500] == ""
    images = run.images("overview")
    np.testing.assert_array_equal(images.haadf_t_end, [np.nan, 1.2])
    np.testing.assert_array_equal(images.drift_x, [0.0, np.nan])
    assert "haadf_t_start" in images.coords


def test_a_column_has_an_end_to_the_words_it_can_tell_apart() -> None:
    table = Table("time", [ColumnSpec("word", Kind.WORD), ColumnSpec("flags", Kind.FLAGS)])
    for number in range(5000):
        table.append({"word": f"w{number}", "flags": (f"f{number}",)})
    layout, numbers = table.snapshot().columns["word"]
    texts = layout.attributes["flag_texts"]
    assert len(texts) == 4096
    assert (texts[int(numbers[4000])], texts[int(numbers[4999])]) == ("w4000", "other")
    layout, masks = table.snapshot().columns["flags"]
    assert layout.attributes["flag_texts"][-1] == "other"
    assert int(masks[4999]) == layout.attributes["flag_masks"][-1] == 1 << 61


def test_axes_that_differ_between_channels_get_names_of_their_own(
    maker: Any, tmp_path: Path
) -> None:
    small = replace(maker.images.channels["haadf"], shape=(16, 32))
    spec = StreamSpec("mixed", {**maker.images.channels, "edx": small})
    writer = maker.open(tmp_path / "run")
    writer.declare_frames("images", spec)
    data = {**maker.image(0).data, "edx": np.ones((16, 32), np.uint16)}
    writer.append_frame(Frame("mixed", 0, data, 0.0, 1.0), maker.context(0))
    writer.close(maker.report())
    images = xr.open_zarr(tmp_path / "run/run.zarr", group="images/mixed/full")
    assert images.edx.dims == ("time", "y_edx", "x")
    assert images.haadf.dims == ("time", "y", "x")


def test_sinks_in_memory_count_what_the_writer_would_write(maker: Any) -> None:
    counting, memory = CountingSink(), MemorySink(keep_frames=True)
    sinks: list[Sink] = [counting, memory]
    for sink in sinks:
        sink.open(maker.header)
        sink.declare_frames("images", maker.images)
        sink.declare_estimates("particles", maker.quantities, maker.columns)
        sink.declare_rows("holder", {"measured": "°C"})
        for index in range(10):
            sink.append_frame(maker.image(index), maker.context(index))
            sink.append_estimate(maker.estimate(index, 4))
            sink.append_row(maker.row(index))
        sink.gap("overview", 10, "lost")
        sink.note(Note("mark", 1.0, "here"))
        sink.close(maker.report())
        assert isinstance(sink, CountingSink)
        assert sink.frames == {"overview": 10}
        assert sink.raw_bytes == 10 * 2 * 32 * 32 * 2
        assert sink.rows == 10 * (1 + 4) + 10
        assert sink.raw_bytes / 3 < sink.expected_bytes < sink.raw_bytes
        assert sink.gaps == [("overview", 10, "lost", 1)]
    assert [e.frame_index for e in memory.estimates] == list(range(10))
    assert [f.index for f in memory.kept_frames] == list(range(10))
    assert memory.notes[0].text == "here"
    assert memory.contexts["overview"][9].temperature_before_celsius == 709.0


def test_half_a_surrogate_pair_does_not_end_a_run(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    writer.append_row(Row("holder", 0.0, {"measured": 1.0, "fault": "file \udcff"}))
    writer.note(Note("mark", 0.0, "file \udcff"))
    writer.close(maker.report())
    run = open_run(tmp_path / "run")
    assert words_of(run.holder.fault).tolist() == ["file ?"]
    assert [e.text for e in run.journal()][1] == "file ?"


@pytest.mark.parametrize("cell", ["1.5", "n/a", None, [1.0, 2.0]])
def test_text_for_a_number_is_refused_by_name_and_leaves_nothing_behind(
    maker: Any, tmp_path: Path, cell: Any
) -> None:
    writer = maker.open(tmp_path / "run")
    with pytest.raises(StoreError, match="'measured' holds numbers"):
        writer.append_row(Row("holder", 0.0, {"setpoint": 99.0, "measured": cell}))
    writer.append_row(Row("holder", 1.0, {"measured": 5.0}))
    writer.close(maker.report())
    holder = open_run(tmp_path / "run").holder
    assert holder.measured.values.tolist() == [5.0]
    assert np.isnan(holder.setpoint.values).all()


@pytest.mark.parametrize("declared", [True, False])
def test_scalars_never_replace_axes_channels_or_coordinates(
    maker: Any, tmp_path: Path, declared: bool
) -> None:
    names = ("x", "haadf", "time")
    scalars = {name: ScalarSpec("mm", "of the stage") for name in names} if declared else {}
    spec = replace(maker.images, scalars=scalars)
    writer = RunWriter(tmp_path / "run")
    writer.open(maker.header)
    writer.declare_frames("images", spec)
    frame = replace(maker.image(0), meta=FrameMeta(dict.fromkeys(names, -7.0)))
    writer.append_frame(frame, maker.context(0))
    writer.close(maker.report())
    images = open_run(tmp_path / "run").images("overview")
    assert np.array_equal(images.haadf.values[0], frame.data["haadf"])
    assert images.time.values.tolist() == [0.0]
    assert images.x.values[:2].tolist() == [-2.0, -1.75]
    assert all(images[f"reported_{name}"].values.tolist() == [-7.0] for name in names)


def test_channel_that_was_not_declared_is_refused_rather_than_lost(
    maker: Any, tmp_path: Path
) -> None:
    writer = maker.open(tmp_path / "run")
    frame = maker.image(0)
    with pytest.raises(StoreError, match="bf, too"):
        writer.append_frame(
            replace(frame, data={**frame.data, "bf": frame.data["abf"]}), maker.context(0)
        )
    with pytest.raises(StoreError):
        writer.close(maker.report())


def test_axis_without_calibration_is_refused_and_the_run_can_be_closed(
    maker: Any, tmp_path: Path
) -> None:
    writer = maker.open(tmp_path / "run")
    channel = replace(maker.images.channels["haadf"], axes={"x": Axis(0.0, math.nan, "nm")})
    with pytest.raises(StoreError, match="must be finite"):
        writer.declare_frames("images", StreamSpec("second", {"haadf": channel}))
    writer.close(maker.report())
    assert open_run(tmp_path / "run").state == "completed"


def test_run_whose_publication_breaks_still_gets_its_end_into_the_journal(
    maker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = maker.open(tmp_path / "run")

    def broken(**_: object) -> bool:
        raise RuntimeError("odd")

    monkeypatch.setattr(writer._publisher, "publish", broken)
    with pytest.raises(StoreError, match="odd"):
        writer.close(maker.report())
    last = read_journal(tmp_path / "run" / "journal.jsonl")[-1].text
    assert "failed" in last, "what is not on the disk was not completed"
    assert "odd" in last


def test_one_long_text_does_not_cost_its_length_for_every_word(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    texts = [f"fault {n}" for n in range(500)] + ["T" * 100_000, "ends in NUL\0"]
    for number, text in enumerate(texts):
        writer.append_row(Row("holder", float(number), {"fault": text}))
    writer.close(maker.report())
    fault = open_run(tmp_path / "run").holder.fault.load()
    tracemalloc.start()
    assert words_of(fault).tolist() == texts
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_column_that_comes_late_is_an_array_at_once(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    writer.append_frame(maker.spectrum(0), maker.context(0))
    assert writer._pool is not None
    writer._pool.settle()
    writer._publisher.publish()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line = xr.open_zarr(
            tmp_path / "run" / "run.zarr", group="spectra/line", consolidated=False, chunks=None
        )
    assert line.low_loss_t_start.values.tolist() == [100.0]
    writer.close(maker.report())


def test_bytes_written_are_those_that_lie_on_the_disk(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    for index in range(5):
        writer.append_frame(maker.image(index), maker.context(index))
    writer.publish()
    folder = tmp_path / "run" / "run.zarr" / "images" / "overview" / "full"
    shards = [*(folder / "haadf").glob("c.*"), *(folder / "abf").glob("c.*")]
    assert len(shards) == 2
    indexes = sum(index_size(len(read_index(shard, 250))) for shard in shards)
    assert writer.bytes_written == sum(shard.stat().st_size for shard in shards) - indexes > 0
    writer.close(maker.report())
