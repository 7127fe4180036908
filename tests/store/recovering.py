"""What a run must be after its recovery, and runs that were cut off."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from acquire.store import Run, open_run, verify_run, words_of


def check_whole(path: Path, maker: Any) -> Run:
    """After recovery: every row is right in every column, and whatever is missing is recorded."""
    result = verify_run(path)
    assert result.good, result.findings
    notes = [f for f in result.findings if f.severity == "note" and "has no end" not in f.text]
    assert [f for f in notes if "never published" not in f.text] == []
    run = open_run(path)
    images = run.images("overview").load()
    index = images.frame_index.values
    frames = [maker.image(number) for number in index.tolist()]
    for detector in ("haadf", "abf"):
        expected = [frame.data[detector] for frame in frames]
        np.testing.assert_array_equal(
            images[detector], np.reshape(expected, images[detector].shape)
        )
    np.testing.assert_array_equal(images.time, index.astype(float))
    np.testing.assert_array_equal(images.t_end, index + 0.5)
    np.testing.assert_array_equal(images.source_index, index + 1000)
    np.testing.assert_array_equal(images.temperature_before, index + 700.0)
    np.testing.assert_array_equal(images.drift_x, 0.1 * index)
    missing = []
    if run.gaps.sizes:
        of_stream = words_of(run.gaps.stream) == "overview"
        gaps = run.gaps.isel(row=of_stream)
        for first, count in zip(gaps.frame_index.values, gaps.frames.values, strict=True):
            missing += range(first, first + count)
    end = max([*index.tolist(), *missing], default=-1) + 1
    assert sorted([*index.tolist(), *missing]) == list(range(end)), "each once: there or missing"
    spectra = run.spectra("line").load()
    expected = spectra.frame_index.values[:, np.newaxis] + np.ones(64)
    np.testing.assert_array_equal(spectra.core_loss, expected)
    np.testing.assert_array_equal(spectra.low_loss, expected + 1)
    holder = run.holder.load()
    np.testing.assert_array_equal(holder.measured, 20.0 + np.arange(holder.sizes["time"]))
    np.testing.assert_array_equal(holder.setpoint, 21.0)
    assert (run.particles("particles").diameter_nm == 3.0).all()
    xr.open_datatree(path / "run.zarr", engine="zarr").close()
    return run


def killed_run(maker: Any, tmp_path: Path, frames: int) -> Path:
    """What a kill leaves of a run whose frames were written one after the other."""
    writer = maker.open(tmp_path / "live")
    for index in range(frames):
        writer.append_frame(maker.image(index), maker.context(index))
        writer.append_row(maker.row(index))
        writer.publish()
    path = tmp_path / "run"
    shutil.copytree(tmp_path / "live", path)
    writer.close(maker.report())
    return path
