"""The example recipe and the example script, as a newcomer runs them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

pytestmark = pytest.mark.process
logger = logging.getLogger(__name__)

HANGS_S = 300.0
"""41 s are waited for the simulation; the rest is the machine's, and of its load."""


@pytest.mark.timeout(400)
def test_first_light_on_the_default_station(
    program: Callable[..., Any], examples: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    run = program("run", examples / "recipes" / "first_light.yaml", "-o", folder, "--truth")
    run.until("SIMULATED; its clock runs 10 × faster")
    run.until("Completed in", timeout_s=HANGS_S)
    assert run.process.wait(30) == 0
    with xr.open_datatree(folder / "run.zarr", engine="zarr") as tree:
        _check_images(tree["images/overview/full"].to_dataset())
        _check_spectra(tree["spectra/line_scan"].to_dataset())
        assert tree["holder"]["measured"].attrs["units"] == "degC"
        estimates = tree["estimates/particles"].to_dataset()
        assert estimates["mean_diameter"].attrs["units"] == "nm"
        assert tree["particles/particles"]["diameter_nm"].sizes["row"] > 100
        _check_the_decision(folder)
    assert (folder / "summary.md").exists()
    assert (folder / "summary.png").stat().st_size > 100_000


def _check_images(images: xr.Dataset) -> None:
    assert images.sizes["time"] >= 100  # about 210 where the machine has nothing else to do
    for detector in ("haadf", "abf"):
        assert images[detector].shape[1:] == (512, 512)
        assert images[detector].dims == ("time", "y", "x")
    assert images["x"].attrs["units"] == "nm"
    before, after = images["temperature_before"].values, images["temperature_after"].values
    assert np.isfinite(before).all()
    assert np.isfinite(after).mean() > 0.99
    assert np.all(np.diff(images["frame_index"].values) == 1)


def _check_spectra(spectra: xr.Dataset) -> None:
    assert spectra["core_loss"].shape == (50, 2000)
    assert spectra["low_loss"].sizes["time"] == 50
    assert spectra["energy_loss"].attrs["units"] == "eV"
    assert float(spectra["energy_loss"][0]) == pytest.approx(400.0)
    assert float(spectra["position_x"][-1] - spectra["position_x"][0]) == pytest.approx(80.0)


def _check_the_decision(folder: Path) -> None:
    """The hold ended on the live size, and the truth at that frame agrees within 5 %."""
    lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    (met,) = [json.loads(line) for line in lines if '"condition"' in line.split('"text"')[0]]
    details = met["details"]
    truth = {
        record["index"]: record
        for record in map(json.loads, (folder / "truth.jsonl").read_text().splitlines())
        if record["stream"] == details["stream"]
    }[details["frame_index"]]
    logger.info(
        "live %.3f ± %.3f nm, true %.3f nm",
        details["value"],
        details["sigma"],
        truth["mean_diameter_nm"],
    )
    assert details["value"] >= 3.83
    assert details["value"] == pytest.approx(truth["mean_diameter_nm"], rel=0.05)


@pytest.mark.timeout(400)
def test_the_example_script(examples: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, examples / "scripts" / "first_light.py", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "the last mean diameter is" in ended.stdout
