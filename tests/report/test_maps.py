"""The report tells of maps and draws what was estimated of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from acquire.report import plot_maps, summarise, to_markdown
from acquire.store import open_run
from acquire.stream import Estimate, Value
from tests.store.conftest import make_maker
from tests.store.map_parts import POINTS, open_map, write_map


def test_a_map_is_summed_up_and_drawn_with_every_estimate(tmp_path: Path) -> None:
    maker = make_maker()
    writer = open_map(maker, tmp_path / "run")
    write_map(writer, range(POINTS - 3))
    for number in range(POINTS - 3):
        values = {"ti3_fraction": Value(number / POINTS, 0.01)}
        writer.append_estimate(Estimate("eels", "map", number, number + 0.5, values))
    writer.close(maker.report())
    run = open_run(tmp_path / "run")
    (line,) = [text for text in to_markdown(summarise(run)).splitlines() if "| map map |" in text]
    assert "2 × 4 points, 3 passes, 21 of 24 spectra" in line
    assert "specimen found within 1 nm of its place" in line
    assert "of 1 spectra no image told the place on the specimen" in line
    (path,) = plot_maps(run, tmp_path)
    assert path.name == "map_map.png"
    picture = imread(path)[..., :3]
    assert picture.shape[0] > 300
    colours = np.unique(np.round(picture.reshape(-1, 3) * 31).astype(int), axis=0)
    assert len(colours) > 30, "values are drawn in colours"


def test_a_map_of_which_nothing_was_estimated_has_no_picture(tmp_path: Path) -> None:
    maker = make_maker()
    writer = open_map(maker, tmp_path / "run")
    write_map(writer, range(3))
    writer.close(maker.report())
    run = open_run(tmp_path / "run")
    assert plot_maps(run, tmp_path) == []
    assert summarise(run).maps["map"].taken == 3
