"""In virtual time the same recipe and seed give the same run, and the live size is the true one."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

from acquire.clock import VirtualClock
from acquire.engine import Engine
from acquire.instruments import Frame
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.store import MemorySink
from acquire.stream import FrameContext


class _Fingerprints(MemorySink):
    """Keeps a checksum of every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.prints: list[tuple[Any, ...]] = []

    def append_frame(self, frame: Frame, context: FrameContext) -> None:
        super().append_frame(frame, context)
        sums = {name: zlib.crc32(data.tobytes()) for name, data in frame.data.items()}
        self.prints.append((frame.stream, frame.index, frame.t_start_s, sums, repr(context)))


@pytest.fixture
def coarse(examples: Path) -> Recipe:
    """The example at a frame every 15 s, which is enough to see particles grow."""
    text = (examples / "recipes" / "first_light.yaml").read_text(encoding="utf-8")
    return Recipe.parse(
        text.replace("every: 1 s", "every: 15 s").replace("points: 50", "points: 8")
    )


def _run(recipe: Recipe) -> tuple[_Fingerprints, dict[str, Any], float]:
    with Station.load("simulated").open(VirtualClock()) as station:
        sink = _Fingerprints()
        report = Engine(station).run(recipe, sink)
        assert report.outcome == "completed", report.cause
        (met,) = [note.details for note in sink.notes if note.kind == "condition"]
        frame = int(str(met["frame_index"]))
        assert station.simulation is not None
        truth = station.simulation.truth("scan", sink.contexts["overview"][frame].source_index)
    return sink, dict(met), float(truth["mean_diameter_nm"])


def test_the_same_recipe_and_seed_give_identical_runs(coarse: Recipe) -> None:
    first, met, true_nm = _run(coarse)
    second, _, _ = _run(coarse)
    assert first.prints == second.prints
    assert [repr(row) for row in first.table_rows] == [repr(row) for row in second.table_rows]
    assert len(first.estimates) == first.frames["overview"]
    assert [repr(e) for e in first.estimates] == [repr(e) for e in second.estimates]
    assert met["value"] == pytest.approx(true_nm, rel=0.05), "live size against truth"


STEERED = """
hotstage: 1
name: steered and corrected
record:
  overview: {scan: {detectors: [haadf], size: 192, field_of_view: 160 nm, dwell_time: 4 µs}, every: 6 s}
estimate:
  drift: {from: overview.haadf, correct: scan_shift, max_shift: 1 µm}
  particles: {from: overview.haadf, growth_window: 1 min}
steps:
  - ramp: {to: 760 °C, rate: 10 °C/s}
  - hold: {for: 2 min}
  - regulate: {quantity: growth_rate, target: 0.1 nm/min, between: [650 °C, 850 °C], for: 2 min}
  - when: {condition: count >= 8, unknown: else, then: [{mark: many}], else: [{mark: few}]}
"""


def test_feedback_and_correction_are_repeated_exactly() -> None:
    sinks = []
    for _ in range(2):
        sinks.append(_Fingerprints())
        with Station.load("simulated").open(VirtualClock()) as station:
            report = Engine(station).run(Recipe.parse(STEERED), sinks[-1])
        assert report.outcome == "completed", report.cause
    first, second = sinks
    assert first.prints == second.prints
    for name in ("table_rows", "estimates", "notes"):
        assert repr(getattr(first, name)) == repr(getattr(second, name))
    assert any(note.kind == "correction" for note in first.notes), "the field was moved"
    setpoints = {row.values["setpoint"] for row in first.table_rows if row.table == "regulation"}
    assert len(setpoints) > 5, "the temperature was steered"
