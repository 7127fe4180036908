"""Readings of channels lie in groups of their own, and survive what everything else survives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquire.errors import StoreError
from acquire.store import open_run, recover_run, verify_run, words_of
from acquire.stream import Row

COLUMNS = {"resistance": "Ω", "voltage": "V", "time_bound": "s", "fault": "text"}

WRITER = f"""
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("maker", {str(Path(__file__).parent / "conftest.py")!r})
module = importlib.util.module_from_spec(spec)
sys.modules["maker"] = module
spec.loader.exec_module(module)
from acquire.stream import Row
writer = module.make_maker().open(Path(sys.argv[1]))
writer.declare_rows("channels/film", {COLUMNS!r})
for number in range(1000):
    fault = "" if number % 7 else "nobody answers"
    values = {{"resistance": 5.0 * number, "time_bound": 0.01, "fault": fault}}
    writer.append_row(Row("channels/film", 0.1 * number, values))
    if number == 300:
        time.sleep(1.0)
        print("enough", flush=True)
    time.sleep(0.002)
time.sleep(60)
"""


def test_those_of_a_run_that_was_killed_are_recovered(tmp_path: Path) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "enough\n"
        finally:
            process.kill()
    recover_run(path)
    assert verify_run(path).good
    assert recover_run(path).changes == ()
    film = open_run(path).channel("film").load()
    numbers = np.arange(film.sizes["time"])
    assert len(numbers) > 300
    np.testing.assert_array_equal(film.resistance, 5.0 * numbers)
    np.testing.assert_array_equal(film.time_bound, 0.01)
    assert np.isnan(film.voltage).all()
    assert set(words_of(film.fault)[::7]) == {"nobody answers"}


def test_they_share_no_name_with_tables_and_streams(tmp_path: Path, maker: Any) -> None:
    writer = maker.open(tmp_path / "run")
    try:
        for name in ("holder", "images", "overview"):
            writer.declare_rows(f"channels/{name}", {"pressure": "mbar"})
        writer.append_row(Row("channels/holder", 1.0, {"pressure": 3.0}))
        for name in ("channels", "channels/a/b", "channels/", "other/film", "channels/Overview"):
            with pytest.raises(StoreError, match="cannot be the name of a table"):
                writer.declare_rows(name, {})
    finally:
        writer.close(maker.report())
    run = open_run(tmp_path / "run")
    assert run.tables == ("holder",)
    assert run.channels == ("holder", "images", "overview")
    assert run.channel("holder").pressure.values.tolist() == [3.0]
    with pytest.raises(StoreError, match="there is: holder, images, overview"):
        run.channel("film")
