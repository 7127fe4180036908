"""The real HyperSpy and eXSpy open what is exported, and measure the right energies on it.

They are no dependency: `make test-hyperspy` makes a Python that has them, and names it in
`HOTSTAGE_HYPERSPY_PYTHON`; without that these tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.export import Format, export_run
from acquire.store import open_run
from tests.export import eels_runs as runs

PYTHON = os.environ.get("HOTSTAGE_HYPERSPY_PYTHON", "")

pytestmark = pytest.mark.skipif(not PYTHON, reason="needs HyperSpy: make test-hyperspy")


@pytest.fixture(scope="module", params=[Format.HSPY, Format.ZSPY])
def said(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """By file without its suffix."""
    place = tmp_path_factory.mktemp("hyperspy")
    runs.write(place / "run")
    folder = export_run(open_run(place / "run"), request.param, None, place / "out")
    files = json.dumps([str(path) for path in sorted(folder.iterdir())])
    program = Path(__file__).with_name("hyperspy_says.py")
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    told = subprocess.run(
        [PYTHON, str(program), files],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=150,
        env=environment,
    )
    return {Path(name).stem: facts for name, facts in json.loads(told.stdout).items()}


def test_hyperspy_opens_everything_as_eels_with_its_metadata(said: dict[str, Any]) -> None:
    assert len(said) == 5
    for name, facts in said.items():
        assert (facts["class"], facts["module"]) == ("EELSSpectrum", "exspy"), name
        microscope = facts["microscope"]
        assert microscope["beam_energy"] == 300.0
        assert microscope["convergence_angle"] == 23.0
        eels = microscope["Detector"]["EELS"]
        assert (eels["collection_angle"], eels["spectrometer"]) == (33.0, "GIF")
        assert eels["dwell_time"] == pytest.approx(0.5)
        assert facts["noise"]["gain_factor"] == runs.GAIN


def test_hyperspy_sees_a_map_where_it_lies(said: dict[str, Any]) -> None:
    core, low = said["map_core_loss"], said["map_low_loss"]
    # HyperSpy names the fastest axis first
    assert [(a["name"], a["units"], a["offset"], a["scale"]) for a in core["navigation"]] == [
        ("x", "nm", 10.0, 2.0),
        ("y", "nm", 30.0, 3.0),
        ("pass", "", 0.0, 1.0),
    ]
    assert [a["name"] for a in low["navigation"]] == ["read", "x", "y", "pass"]
    (energy,) = core["signal"]
    assert (energy["units"], energy["offset"], energy["scale"]) == ("eV", 400.0, 0.5)
    lost = np.ravel_multi_index(runs.LOST, (runs.PASSES, runs.ROWS, runs.COLUMNS))
    # 41 channels of 458 to 478 eV, each 10 counts higher from point to point
    net = np.delete(np.array(core["ti_l"]), lost)
    points = np.delete(np.arange(runs.PASSES * runs.ROWS * runs.COLUMNS), lost)
    assert np.polyfit(points, net, 1)[0] == pytest.approx(40 * 10, rel=0.03)
    peaks = np.delete(np.array(low["zero_loss"]).reshape(-1, runs.READS), lost, axis=0)
    np.testing.assert_allclose(peaks, 1.0, atol=0.3)


def test_hyperspy_uses_calibrated_energies(said: dict[str, Any]) -> None:
    line = said["line_core_loss"]
    assert [(a["name"], a["size"]) for a in line["navigation"]] == [("x", 5), ("repeat", 2)]
    (energy,) = line["signal"]
    assert energy["offset"] == 400.0 + runs.CORRECTION
    assert energy["scale"] == pytest.approx(0.5 * runs.SCALE)
    assert said["spot_core_loss"]["navigation"] == []
