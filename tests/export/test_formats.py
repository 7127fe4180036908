"""What is exported is read back by other libraries: numbers, calibrations, times, gaps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pandas as pd
import pytest
import rsciio.hspy
import rsciio.zspy
import tifffile
import zarr
from PIL import Image

from acquire.export import Format, export_run
from acquire.store import open_run

KEPT = [0, 1, 2, 5, 6, 7]
TIMES = [2.0 * index for index in KEPT]
GAP = {"frame_index": 3, "frames": 2, "t_start": 5.5, "t_end": 10.0}
REASON = "the link, it was lost"


@pytest.fixture
def exported(made: Any, tmp_path: Path) -> Callable[..., Path]:
    def export(to: Format, stream: str | None = None) -> Path:
        place = export_run(open_run(made.path), to, stream, tmp_path / f"out-{to}")
        assert [p.name for p in tmp_path.iterdir()] == [place.name], "nothing else is left"
        return place

    return export


# ---------------------------------------------------------------------------- HyperSpy

READERS = {Format.HSPY: rsciio.hspy.file_reader, Format.ZSPY: rsciio.zspy.file_reader}


@pytest.mark.parametrize("to", READERS)
def test_hyperspy_gets_images_at_their_real_times(
    to: Format, made: Any, exported: Callable[..., Path]
) -> None:
    place = exported(to)
    assert sorted(p.name for p in place.iterdir()) == [
        f"line_core_loss.{to}",
        f"line_low_loss.{to}",
        f"overview_haadf.{to}",
    ]
    (signal,) = READERS[to](str(place / f"overview_haadf.{to}"))
    np.testing.assert_array_equal(signal["data"], made.images())
    assert signal["data"].dtype == np.uint16
    time, y, x = signal["axes"]
    # uneven, because two are missing: no frame may be dated where it was not
    assert (time["_type"], time["name"], time["units"]) == ("DataAxis", "time", "s")
    assert time["axis"].tolist() == TIMES
    assert [axis["navigate"] for axis in signal["axes"]] == [True, False, False]
    for axis, name, scale, offset, size in ((y, "y", 0.5, -6.0, 24), (x, "x", 0.25, -4.0, 32)):
        assert (axis["name"], axis["units"], axis["size"]) == (name, "nm", size)
        assert (axis["scale"], axis["offset"]) == (scale, offset)
    metadata = signal["metadata"]
    assert metadata["Signal"]["signal_type"] == ""
    assert metadata["General"]["title"] == "exsolution at 700 °C: overview haadf"
    assert (metadata["General"]["date"], metadata["General"]["time"]) == ("2023-11-14", "22:13:20")
    assert metadata["Sample"]["sample_id"] == "LSNT-07"
    microscope = metadata["Acquisition_instrument"]["TEM"]
    assert (microscope["beam_energy"], microscope["convergence_angle"]) == (200.0, 25.0)
    assert microscope["beam_current"] == pytest.approx(0.05)
    ours = signal["original_metadata"]["hotstage"]
    assert ours["frames"]["frame_index"].tolist() == KEPT
    assert ours["frames"]["temperature_before"].tolist() == [700.0 + i for i in KEPT]
    assert ours["frames_units"]["temperature_before"] == "degC"
    assert {name: ours["gaps"][name].tolist() for name in GAP} == {n: [v] for n, v in GAP.items()}
    assert ours["gaps"]["reason"] == [REASON]
    assert ours["recipe"] == "hotstage: 1\nname: exsolution\n"


@pytest.mark.parametrize("to", READERS)
def test_hyperspy_gets_spectra_as_eels(
    to: Format, made: Any, exported: Callable[..., Path]
) -> None:
    place = exported(to, "line")
    for name, offset, shift in (("core_loss", 450.0, 0), ("low_loss", -10.0, 1)):
        (signal,) = READERS[to](str(place / f"line_{name}.{to}"))
        np.testing.assert_array_equal(signal["data"], made.spectra() + shift)
        time, energy = signal["axes"]
        assert (time["_type"], time["units"], time["size"]) == ("UniformDataAxis", "s", 230)
        assert (time["offset"], time["scale"]) == (20.0, pytest.approx(0.01))
        assert (energy["name"], energy["units"], energy["navigate"]) == ("Energy loss", "eV", False)
        assert (energy["scale"], energy["offset"], energy["is_binned"]) == (0.5, offset, True)
        assert signal["metadata"]["Signal"]["signal_type"] == "EELS"
        eels = signal["metadata"]["Acquisition_instrument"]["TEM"]["Detector"]["EELS"]
        assert (eels["collection_angle"], eels["spectrometer"]) == (33.0, "Quantum")
        assert eels["exposure"] == pytest.approx(0.008)
        positions = signal["original_metadata"]["hotstage"]["frames"]["position_x"]
        np.testing.assert_allclose(positions, 0.5 * np.arange(230))


def test_a_zspy_is_zarr_of_format_2_in_few_files(made: Any, exported: Callable[..., Path]) -> None:
    place = exported(Format.ZSPY, "line") / "line_core_loss.zspy"
    root = zarr.open_group(place, mode="r", zarr_format=2, use_consolidated=True)
    assert root.attrs["file_format"] == "ZSpy"
    data = root["Experiments/line_core_loss/data"]
    assert isinstance(data, zarr.Array)
    assert json.loads((place / ".zgroup").read_text()) == {"zarr_format": 2}
    np.testing.assert_array_equal(data[:], made.spectra())
    chunks = [p for p in place.rglob("*") if p.is_file() and not p.name.startswith(".z")]
    assert len(chunks) <= len(list(place.rglob(".zarray"))), "all is small: a chunk an array"


# -------------------------------------------------------------------------------- TIFF


def check_side_tables(place: Path) -> None:
    frames = pd.read_csv(place / "overview_frames.csv")
    assert frames["frame_index"].tolist() == KEPT
    assert frames["time [s]"].tolist() == TIMES
    assert frames["temperature_before [degC]"].tolist() == [700.0 + i for i in KEPT]
    (gap,) = pd.read_csv(place / "overview_gaps.csv").to_dict("records")
    assert gap == {
        "stream": "overview",
        "frame_index": 3,
        "frames": 2,
        "t_start [s]": 5.5,
        "t_end [s]": 10.0,
        "reason": REASON,
    }


def test_imagej_shows_nanometres_seconds_and_a_label_per_slice(
    made: Any, exported: Callable[..., Path]
) -> None:
    place = exported(Format.TIFF)
    path = place / "overview_haadf.tif"
    with Image.open(path) as picture:  # a reader that knows nothing of the writer
        assert picture.n_frames == len(KEPT)
        for number, index in enumerate(KEPT):
            picture.seek(number)
            np.testing.assert_array_equal(np.asarray(picture), made.image(index))
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        np.testing.assert_array_equal(file.asarray(), made.images())
        found = file.imagej_metadata
        assert found is not None
        resolution = [file.pages[0].tags[n].value for n in ("XResolution", "YResolution")]
    assert [top / bottom for top, bottom in resolution] == [4.0, 2.0]
    assert (found["unit"], found["frames"], found["finterval"]) == ("nm", 6, 2.0)
    assert (found["xorigin"], found["yorigin"]) == (16.0, 12.0)
    assert found["Labels"][3] == "frame 5, 10.000 s, 705.0 °C"
    info = json.loads(found["Info"])
    assert info["specimen"] == "id: LSNT-07; support: Si3N4 <50 nm> & chip"
    assert info["missing frames"] == [{"stream": "overview", **GAP, "reason": REASON}]
    check_side_tables(place)


def test_ome_tiff_holds_sizes_and_the_time_of_every_plane(
    made: Any, exported: Callable[..., Path]
) -> None:
    place = exported(Format.OME_TIFF)
    path = place / "overview_haadf.ome.tif"
    with Image.open(path) as picture:
        assert picture.n_frames == len(KEPT)
        picture.seek(3)
        np.testing.assert_array_equal(np.asarray(picture), made.image(5))
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), made.images())
        text = file.ome_metadata
    assert text is not None
    space = {"o": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    root = ElementTree.fromstring(text)
    (pixels,) = root.findall("o:Image/o:Pixels", space)
    expected = {
        "SizeT": "6",
        "SizeY": "24",
        "SizeX": "32",
        "Type": "uint16",
        "PhysicalSizeX": "0.25",
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": "0.5",
        "PhysicalSizeYUnit": "nm",
        "TimeIncrement": "2.0",
        "TimeIncrementUnit": "s",
    }
    assert {name: pixels.get(name) for name in expected} == expected
    planes = pixels.findall("o:Plane", space)
    assert [int(plane.get("TheT", -1)) for plane in planes] == list(range(6))
    assert [float(plane.get("DeltaT", -1)) for plane in planes] == TIMES
    assert {plane.get("ExposureTime") for plane in planes} == {"1.5"}
    assert root.findtext("o:Image/o:AcquisitionDate", None, space) == "2023-11-14T22:13:20Z"
    entries = root.findall("o:StructuredAnnotations/o:MapAnnotation/o:Value/o:M", space)
    said = {entry.get("K"): entry.text for entry in entries}
    assert said["frame_index"] == "0 1 2 5 6 7"
    assert said["temperature_before [degC]"] == "700.0 701.0 702.0 705.0 706.0 707.0"
    assert said["specimen"] == "id: LSNT-07; support: Si3N4 <50 nm> & chip"
    assert json.loads(said["gaps"] or "")[0]["reason"] == REASON
    check_side_tables(place)


# --------------------------------------------------------------------------------- CSV


def test_csv_holds_every_table_with_units_and_words(exported: Callable[..., Path]) -> None:
    place = exported(Format.CSV)
    tables = {path.stem: pd.read_csv(path, keep_default_na=False) for path in place.iterdir()}
    assert set(tables) == {
        "holder",
        "overview_frames",
        "line_frames",
        "estimates_particles",
        "particles_particles",
        "gaps",
    }
    holder = tables["holder"]
    assert holder["measured [degC]"].tolist() == [20.0 + n for n in range(9)]
    np.testing.assert_array_equal(holder["time [s]"], [0.1 * n for n in range(9)])
    assert holder["state"].tolist()[:4] == ["holding", "ramping", "ramping", "holding"]
    assert [t for t in holder["fault"] if t] == ['deviates by 5 °C, "much"']
    estimates = tables["estimates_particles"]
    assert estimates["mean_diameter [nm]"].tolist() == [3.0 + i for i in KEPT]
    assert estimates["flags"].tolist() == ["", "", "few particles|dose", "", "", ""]
    particles = tables["particles_particles"]
    assert len(particles) == sum(KEPT)
    of_frame = particles[particles.frame_index == 5]
    assert of_frame["diameter [nm]"].tolist() == [3.25 + n for n in range(5)]
    assert of_frame["time [s]"].unique().tolist() == [11.5]
    assert len(tables["line_frames"]) == 230
    assert tables["line_frames"]["position_x [nm]"].tolist()[-1] == 0.5 * 229
    assert set(tables["line_frames"]["dose [e nm-2]"]) == {""}, "unknown is empty, not zero"
    assert tables["gaps"]["reason"].tolist() == [REASON]


def test_csv_of_one_stream_holds_only_what_belongs_to_it(exported: Callable[..., Path]) -> None:
    assert [p.name for p in exported(Format.CSV, "line").iterdir()] == ["line_frames.csv"]


# ------------------------------------------------------------------------------- NeXus


def test_nexus_plots_itself_and_has_units(made: Any, exported: Callable[..., Path]) -> None:
    with h5py.File(exported(Format.NEXUS), "r") as file:
        entry = file[file.attrs["default"]]
        assert (file.attrs["NX_class"], entry.attrs["NX_class"]) == ("NXroot", "NXentry")
        assert entry["start_time"].asstr()[()] == "2023-11-14T22:13:20+00:00"
        assert entry["end_time"].asstr()[()] == "2023-11-14T22:13:50+00:00"

        plot = entry[entry.attrs["default"]]
        assert plot.name == "/entry/overview_haadf"
        data = plot[plot.attrs["signal"]]
        np.testing.assert_array_equal(data[:], made.images())
        assert plot.attrs["axes"].tolist() == ["time", "y", "x"]
        for number, (axis, unit) in enumerate((("time", "s"), ("y", "nm"), ("x", "nm"))):
            assert plot[axis].attrs["units"] == unit
            assert len(plot[axis]) == data.shape[number]
            assert plot.attrs[f"{axis}_indices"] == number
        assert plot["time"][:].tolist() == TIMES
        np.testing.assert_array_equal(plot["y"], -6.0 + 0.5 * np.arange(24))
        assert plot["temperature_after"].attrs["units"] == "degC"
        assert plot["frame_index"][:].tolist() == KEPT

        spectra = entry["line_core_loss"]
        np.testing.assert_array_equal(spectra["data"][:], made.spectra())
        assert spectra.attrs["axes"].tolist() == ["time", "energy_loss"]
        assert (spectra["energy_loss"][0], spectra["energy_loss"].attrs["units"]) == (450.0, "eV")
        assert entry["line_low_loss/energy_loss_low"][0] == -10.0

        holder = entry["holder"]
        assert (holder.attrs["signal"], holder.attrs["axes"].tolist()) == ("measured", ["time"])
        assert holder["measured"][:].tolist() == [20.0 + n for n in range(9)]
        assert holder["fault"].asstr()[4] == 'deviates by 5 °C, "much"'
        estimates = entry["estimates_particles"]
        assert estimates["mean_diameter"].attrs["units"] == "nm"
        assert estimates["flags"].asstr()[2] == "few particles|dose"
        assert len(entry["particles_particles/diameter"]) == sum(KEPT)
        gaps = {name: entry["gaps"][name][0] for name in GAP}
        assert gaps == GAP
        assert entry["gaps/reason"].asstr()[0] == REASON
        assert entry["instrument/scan/details/beam_energy_kev"][()] == 200.0
        assert entry["sample/name"].asstr()[()] == "LSNT-07"
        assert '"first particle"' in entry["journal/data"].asstr()[()]

        classes = {"NXdata": 0}

        def check(name: str, node: Any) -> None:
            if isinstance(node, h5py.Group) and node.attrs["NX_class"] == "NXdata":
                classes["NXdata"] += 1
                lengths = {len(node[axis]) for axis in node.attrs["axes"][:1]}
                assert {len(node[node.attrs["signal"]])} == lengths, name

        file.visititems(check)
        assert classes["NXdata"] == 8
