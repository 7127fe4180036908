"""Spectra reach HyperSpy's files as they lie on the specimen, on the energies that they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rsciio.hspy
import rsciio.zspy

from acquire.export import Format, export_run
from acquire.store import open_run
from tests.export import eels_runs as runs

Read = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module", params=[Format.HSPY, Format.ZSPY])
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Read:
    place = tmp_path_factory.mktemp("laid_out")
    runs.write(place / "run")
    to = request.param
    folder = export_run(open_run(place / "run"), to, None, place / "out")
    names = [
        "line_core_loss",
        "map_core_loss",
        "map_low_loss",
        "series_core_loss",
        "spot_core_loss",
    ]
    # when each read was is no spectrum
    assert sorted(p.name for p in folder.iterdir()) == [f"{name}.{to}" for name in names]
    reader = rsciio.hspy.file_reader if to is Format.HSPY else rsciio.zspy.file_reader

    def signal(name: str) -> dict[str, Any]:
        (found,) = reader(str(folder / f"{name}.{to}"))
        assert isinstance(found, dict)
        return found

    return signal


def axes(signal: dict[str, Any]) -> list[tuple[str, str, float, float, int, bool]]:
    keys = ("name", "units", "offset", "scale", "size", "navigate")
    return [tuple(axis[key] for key in keys) for axis in signal["axes"]]


def test_a_map_is_a_map_with_every_pass_and_read(read: Read) -> None:
    core, low = read("map_core_loss"), read("map_low_loss")
    places = [
        ("pass", "", 0.0, 1.0, runs.PASSES, True),
        ("y", "nm", 30.0, 3.0, runs.ROWS, True),
        ("x", "nm", 10.0, 2.0, runs.COLUMNS, True),
    ]
    assert axes(core) == [*places, ("Energy loss", "eV", 400.0, 0.5, runs.CHANNELS, False)]
    reads = ("read", "", 0.0, 1.0, runs.READS, True)
    energies = ("Energy loss", "eV", -20.0, 0.5, runs.CHANNELS, False)
    assert axes(low) == [*places, reads, energies]
    at = core["original_metadata"]["hotstage"]["frame_at"]
    for place in np.ndindex(runs.PASSES, runs.ROWS, runs.COLUMNS):
        if place == runs.LOST:
            assert np.isnan(core["data"][place]).all()
            assert at[place] == -1
            continue
        point = runs.point_of(*place)
        np.testing.assert_array_equal(core["data"][place], runs.core(point))
        for number in range(runs.READS):
            np.testing.assert_array_equal(low["data"][place][number], runs.low(point, number))
    frames = low["original_metadata"]["hotstage"]["frames"]
    assert frames["low_loss_time"].shape == (23, runs.READS, 2)
    eels = low["metadata"]["Acquisition_instrument"]["TEM"]["Detector"]["EELS"]
    assert (eels["exposure"], eels["dwell_time"]) == (pytest.approx(1e-3), 0.5)


def test_counts_carry_the_noise_of_their_camera(read: Read) -> None:
    noise = read("map_core_loss")["metadata"]["Signal"]["Noise_properties"]
    model = noise["Variance_linear_model"]
    assert model["gain_factor"] == runs.GAIN
    assert model["gain_offset"] == (runs.GAIN * runs.READOUT) ** 2


def test_a_line_taken_twice_has_its_distances_and_its_calibrated_energies(read: Read) -> None:
    line = read("line_core_loss")
    assert axes(line) == [
        ("repeat", "", 0.0, 1.0, 2, True),
        ("x", "nm", 0.0, 5.0, 5, True),
        ("Energy loss", "eV", 400.0 + runs.CORRECTION, 0.5 * runs.SCALE, runs.CHANNELS, False),
    ]
    np.testing.assert_array_equal(line["data"][1, 3], runs.core(8))
    energies = line["original_metadata"]["hotstage"]["energies"]
    # what the instrument said stays
    assert (energies["nominal_offset"], energies["nominal_scale"]) == (400.0, 0.5)
    assert "calibrated" in energies["what"]


def test_spectra_of_other_offsets_move_by_whole_channels_and_tell_the_rest(read: Read) -> None:
    series = read("series_core_loss")
    energy = series["axes"][-1]
    left = series["original_metadata"]["hotstage"]["energies"]["shift_left"]
    for number, offset in enumerate(runs.TUNED):
        (there,) = np.nonzero(np.isfinite(series["data"][number]))
        np.testing.assert_array_equal(series["data"][number][there], runs.core(number))
        first = energy["offset"] + energy["scale"] * there[0] + left[number]
        assert first == pytest.approx(offset)
        assert len(there) == runs.CHANNELS
    assert np.abs(left).max() <= 0.25


def test_one_spectrum_is_one_spectrum(read: Read) -> None:
    spot = read("spot_core_loss")
    assert axes(spot) == [("Energy loss", "eV", 400.0, 0.5, runs.CHANNELS, False)]
    np.testing.assert_array_equal(spot["data"], runs.core(7))


def test_nexus_names_spectra_as_nxem_does(tmp_path: Path) -> None:
    runs.write(tmp_path / "run")
    place = export_run(open_run(tmp_path / "run"), Format.NEXUS, None, tmp_path / "out.nxs")
    with h5py.File(place, "r") as file:
        events = file["entry/measurement"]
        assert events.attrs["NX_class"] == "NXem_measurement"
        by_stream = {event.attrs["stream"]: event for event in events.values()}
        assert set(by_stream) == {"map", "line", "series", "spot"}
        line = by_stream["line"]["spectrum1"]
        assert line.attrs["NX_class"] == "NXspectrum"
        stack = line["stack_0d"]
        np.testing.assert_array_equal(stack["intensity"][3], runs.core(3))
        # the data are there once
        assert stack["intensity"] == file["entry/line_core_loss/data"]
        energy = stack["axis_energy"]
        assert energy.attrs["units"] == "eV"
        assert energy[0] == 400.0 + runs.CORRECTION
        assert energy[1] - energy[0] == pytest.approx(0.5 * runs.SCALE)
        assert file["entry/line_core_loss/energy_loss"][0] == 400.0, "the nominal axis stays"
        assert by_stream["map"]["spectrum1/stack_0d/map_row"][5] == 1
        rois = [group for name, group in file["entry"].items() if name.startswith("roi")]
        assert {roi["eels"].attrs["NX_class"] for roi in rois} == {"NXem_eels"}
