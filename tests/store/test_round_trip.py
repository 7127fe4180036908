"""What was appended comes back through every common reader, with names, units and coordinates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from acquire.errors import StoreError
from acquire.store import JOURNAL_NAME, Run, flags_of, open_run, read_journal, words_of

KEPT = [0, 1, 3, 4, 5]


def check_images(images: xr.Dataset, maker: Any) -> None:
    assert images.haadf.dims == ("time", "y", "x")
    assert images.frame_index.values.tolist() == KEPT
    for row, index in enumerate(KEPT):
        np.testing.assert_array_equal(images.haadf[row], maker.image(index).data["haadf"])
        np.testing.assert_array_equal(images.abf[row], maker.image(index).data["abf"])
    assert images.time.values.tolist() == [float(i) for i in KEPT]
    assert images.t_end.values.tolist() == [i + 0.5 for i in KEPT]
    assert images.temperature_before.values.tolist() == [700.0 + i for i in KEPT]
    assert images.temperature_after.values.tolist() == [701.0 + i for i in KEPT]
    assert images.dose_total.values.tolist() == [1e4, 2e4, 3e4, 4e4, 5e4]
    assert images.source_index.values.tolist() == [1000 + i for i in KEPT]
    np.testing.assert_allclose(images.drift_x, 0.1 * np.array(KEPT))
    np.testing.assert_allclose(images.x, -2 + 0.25 * np.arange(32))
    assert {"t_end", "temperature_before", "dose", "frame_index", "drift_x"} <= set(images.coords)
    assert set(images.data_vars) == {"haadf", "abf"}
    units = {name: images[name].attrs["units"] for name in ("time", "x", "temperature_after")}
    assert units == {"time": "s", "x": "nm", "temperature_after": "degC"}
    assert images.missing_frames == 1


def check_spectra(spectra: xr.Dataset) -> None:
    assert spectra.core_loss.dims == ("time", "energy_loss")
    assert spectra.low_loss.dims == ("time", "energy_loss_low")
    assert spectra.core_loss[:, 0].values.tolist() == [1, 2, 3]
    assert spectra.low_loss[:, 0].values.tolist() == [2, 3, 4]
    assert float(spectra.energy_loss[0]) == 450.0
    assert float(spectra.energy_loss_low[0]) == -10.0
    assert spectra.energy_loss.attrs["units"] == "eV"
    assert spectra.position_x.values.tolist() == [0.0, 2.0, 4.0]
    assert spectra.low_loss_t_end.values.tolist() == [100.01, 101.01, 102.01]


def check_tables(holder: xr.Dataset, estimates: xr.Dataset, particles: xr.Dataset) -> None:
    assert holder.measured.values.tolist() == [20.0 + i for i in range(7)]
    assert holder.measured.attrs["units"] == "degC"
    assert words_of(holder.state)[:4].tolist() == ["holding", "ramping", "ramping", "holding"]
    assert words_of(holder.fault).tolist()[:2] == ["deviates by 0 °C", ""]
    meanings = holder.state.attrs["flag_meanings"].split()
    assert meanings == ["none", "holding", "ramping"]
    assert list(holder.state.attrs["flag_values"]) == [0, 1, 2]
    assert estimates.mean_diameter.values.tolist() == [3.0 + i for i in KEPT]
    assert estimates.mean_diameter_sigma.values.tolist() == [0.1] * 5
    assert estimates.attrs["stream"] == "overview"
    assert flags_of(estimates.flags) == [("few_particles",)] * 2 + [()] * 3
    assert particles.sizes["row"] == sum(KEPT)
    assert particles.frame_index.values.tolist() == [i for i in KEPT for _ in range(i)]
    assert particles.x_nm.values[-5:].tolist() == [0, 1, 2, 3, 4]


def test_the_whole_run_opens_as_a_datatree_without_a_warning(small_run: Path, maker: Any) -> None:
    with xr.open_datatree(small_run / "run.zarr", engine="zarr") as tree:
        check_images(tree["images/overview/full"].to_dataset(), maker)
        check_spectra(tree["spectra/line"].to_dataset())
        check_tables(
            tree["holder"].to_dataset(),
            tree["estimates/particles"].to_dataset(),
            tree["particles/particles"].to_dataset(),
        )
        assert tree.attrs["hotstage_run"] == 2
        assert tree.attrs["state"] == "completed"
        assert tree.attrs["specimen"] == {"id": "LSNT-07"}
        assert tree.attrs["clock_rate"] == "inf"


@pytest.mark.parametrize("direct", [False, True], ids=["from the root", "by its own folder"])
def test_every_group_opens_alone_without_a_warning(
    small_run: Path, maker: Any, direct: bool
) -> None:
    def opened(group: str) -> xr.Dataset:
        if direct:
            return xr.open_zarr(small_run / "run.zarr" / group)
        return xr.open_zarr(small_run / "run.zarr", group=group)

    check_images(opened("images/overview/full"), maker)
    check_spectra(opened("spectra/line"))
    check_tables(opened("holder"), opened("estimates/particles"), opened("particles/particles"))


def test_arrays_open_alone_and_without_consolidated_metadata(small_run: Path, maker: Any) -> None:
    array = zarr.open_array(small_run / "run.zarr/images/overview/full/haadf", mode="r")
    assert array.shape == (5, 32, 32)
    np.testing.assert_array_equal(np.asarray(array[4]), maker.image(5).data["haadf"])
    check_images(
        xr.open_zarr(small_run / "run.zarr", group="images/overview/full", consolidated=False),
        maker,
    )


def test_our_reader_gives_the_same_and_the_header_report_and_journal(
    small_run: Path, maker: Any
) -> None:
    for place in (small_run, small_run / "run.zarr"):
        run = open_run(place)
        check_images(run.images("overview"), maker)
        check_spectra(run.spectra("line"))
        check_tables(run.holder, run.estimates("particles"), run.particles("particles"))
        assert run.header == maker.header
        assert run.report == maker.report()
        assert run.state == "completed"
        assert run.streams == {"overview": "images", "line": "spectra"}
        assert (run.tables, run.estimators) == (("holder",), ("particles",))
        assert words_of(run.gaps.reason).tolist() == ["the link was lost"]
        assert run.gaps.frame_index.values.tolist() == [2]
        kinds = [entry.kind for entry in run.journal()]
        assert kinds == ["run", "gap", "run"]
        assert run.journal()[0].details["clock_rate"] == "inf"
        assert run.journal()[-1].details["outcome"] == "completed"
        assert set(run.tree().groups) >= {"/images/overview/full", "/particles/particles"}
    assert (small_run / "recipe.yaml").read_text() == maker.header.recipe_yaml
    assert sorted(p.name for p in small_run.iterdir()) == [
        "checksums.jsonl",
        "journal.jsonl",
        "recipe.yaml",
        "run.zarr",
        "station.toml",
    ]


def test_image_groups_carry_ome_ngff_metadata_that_fits_the_arrays(small_run: Path) -> None:
    group = zarr.open_group(small_run / "run.zarr/images/overview", mode="r")
    ome = group.attrs["ome"]
    assert isinstance(ome, dict)
    assert ome["version"] == "0.5"
    assert [m["name"] for m in ome["multiscales"]] == ["haadf", "abf"]
    for multiscale in ome["multiscales"]:
        (dataset,) = multiscale["datasets"]
        array = group[dataset["path"]]
        assert isinstance(array, zarr.Array)
        names = tuple(axis["name"] for axis in multiscale["axes"])
        assert names == array.metadata.dimension_names
        scale, translation = dataset["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [1.25, 0.25, 0.25]}  # 5 s over 4 intervals
        assert translation == {"type": "translation", "translation": [0.0, -2.0, -2.0]}


def test_a_run_is_seen_growing_by_refresh(maker: Any, tmp_path: Path) -> None:
    writer = maker.open(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.images("overview").sizes["time"] == 0
    assert (run.state, run.report) == ("running", None)
    writer.append_frame(maker.image(0), maker.context(0))
    writer.append_row(maker.row(0))
    writer.publish()
    assert run.images("overview").sizes["time"] == 0, "a snapshot does not change by itself"
    run.refresh()
    assert run.images("overview").sizes["time"] == 1
    assert run.holder.sizes["time"] == 1
    writer.close(maker.report())
    run.refresh()
    assert run.state == "completed"


def test_what_is_not_a_run_is_refused(tmp_path: Path, small_run: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="not a run of hotstage"):
        open_run(tmp_path)
    zarr.create_group(tmp_path / "other" / "run.zarr")
    with pytest.raises(StoreError, match="not a run of hotstage"):
        open_run(tmp_path / "other")
    with pytest.raises(StoreError, match="there is: overview"):
        open_run(small_run).images("overvieuw")
    root = small_run / "run.zarr" / "zarr.json"
    document = json.loads(root.read_text())
    document["attributes"]["hotstage_run"] = 99
    root.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="format 99"):
        Run(small_run / "run.zarr")


def test_a_torn_journal_is_read_up_to_the_tear(small_run: Path) -> None:
    path = small_run / JOURNAL_NAME
    whole = path.read_bytes()
    entries = read_journal(path)
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert repr(read_journal(path)) == repr(entries[:-1])  # NaN is not equal to itself
    path.write_bytes(whole[: last + 5] + b"\n" + whole[last:])
    torn = read_journal(path)
    assert [e.kind for e in torn] == ["run", "gap", "torn", "run"]
