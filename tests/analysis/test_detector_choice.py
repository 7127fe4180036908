"""A run measured again with ``from: overview.auto``: one choice, the same however the work is split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from acquire.analysis import analyse
from acquire.errors import ConfigError
from acquire.store import open_run, verify_run

AUTO: Any = {"particles": {"from": "overview.auto", "expected_diameter": "8 nm"}}
FRAME_BYTES = 128 * 128 * 2


def _estimates(folder: Path) -> xr.Dataset:
    return open_run(folder).estimates("particles").load()


def test_the_choice_does_not_depend_on_how_the_work_is_split(run: Path) -> None:
    [one] = analyse([run], AUTO, workers=1)
    [other] = analyse([run], AUTO, workers=3, block_bytes=2 * FRAME_BYTES)
    xr.testing.assert_identical(_estimates(one.folder), _estimates(other.folder))
    attributes = _estimates(one.folder).attrs
    assert attributes["detector"] in ("haadf", "abf")
    assert attributes["detector_frame_index"] == 2
    facts = json.loads((one.folder / "analysis.json").read_text(encoding="utf-8"))
    assert (
        facts["measured"]["particles"]["frames"] == open_run(run).images("overview").sizes["time"]
    )
    assert verify_run(one.folder).good


def test_what_follows_the_choice_is_what_the_chosen_detector_gives(run: Path) -> None:
    [auto] = analyse([run], AUTO)
    chosen = _estimates(auto.folder)
    named = {"particles": {**AUTO["particles"], "from": f"overview.{chosen.attrs['detector']}"}}
    [plain] = analyse([run], named)
    after = chosen.frame_index.values >= chosen.attrs["detector_frame_index"]
    sizes = chosen.mean_diameter.values
    assert np.isnan(sizes[~after]).all()
    np.testing.assert_array_equal(
        sizes[after], _estimates(plain.folder).mean_diameter.values[after]
    )


def test_a_damaged_frame_does_not_choose_and_the_next_ones_do(run: Path, damage: Any) -> None:
    damage(run, 1)
    [found] = analyse([run], AUTO)
    assert len(found.unreadable) == 1
    assert _estimates(found.folder).attrs["detector_frame_index"] == 3


def test_an_estimator_that_cannot_choose_is_refused_with_its_line(
    run: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("drift: {from: overview.auto}\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"settings\.yaml:1: .*'drift' cannot choose its detector"
    ):
        analyse([run], settings)
