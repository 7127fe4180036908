"""`hotstage run --continue` as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from acquire.cli import main
from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import RunWriter, segments

RECIPE = """
hotstage: 1
name: it gives up
record:
  overview: {scan: {detectors: [haadf], size: 64, field_of_view: 80 nm, dwell_time: 5 µs}, every: 2 s}
estimate:
  particles: {from: overview.haadf}
steps:
  - mark: begin
  - hold: {for: 20 s, until: mean_diameter >= 90 nm, else: abort}
  - mark: end
"""


def test_a_run_that_ended_itself_needs_a_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, other, run = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "run"
    recipe.write_text(RECIPE, encoding="utf-8")
    other.write_text(RECIPE.replace("else: abort", "else: continue"), encoding="utf-8")
    with Station.load("simulated").open(VirtualClock(), draft=True) as station:
        Engine(station).run(Recipe.load(recipe), RunWriter(run))
    assert main(["run", "--virtual", "--continue", str(run)]) == 1
    assert "because its recipe says so" in capsys.readouterr().err
    assert main(["run", str(other), "--virtual", "--continue", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"Continues {run} as continued-1" in said.replace("\n", "")
    assert "hold until mean_diameter" in said
    assert [part.state for part in segments(run)] == ["aborted", "completed"]
    assert (run / "continued-1" / "summary.md").exists()
    assert main(["run", "--virtual", "--continue", str(run)]) == 1
    assert "is complete" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["run"], "a run to go on with: --continue RUN", 2),
        (["run", "--continue", "nowhere"], "nowhere does not exist", 1),
        (["run", "--continue", "x", "-o", "y"], "Leave it out", 1),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], said: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    assert said in capsys.readouterr().err
