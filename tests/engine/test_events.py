"""Listeners are told everything in order, and can neither hold up nor break a run."""

from __future__ import annotations

import threading
from typing import Any

from acquire.instruments import Frame
from acquire.recipe import Recipe

SPECTRUM = """- spectrum: {at: [80 nm, 80 nm], spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV,
    dwell_time: 0.5 s}}
"""


def test_everything_that_happens_is_told_in_order(bench: Any, short: Recipe) -> None:
    recipe = Recipe.parse(short.dump() + SPECTRUM)
    told: list[tuple[Any, ...]] = []
    frames: list[Frame] = []
    events = bench.engine.events
    events.state_changed.connect(lambda state: told.append(("state", state)))
    events.step_started.connect(lambda index, text: told.append(("started", index)))
    events.step_finished.connect(lambda index, result: told.append(("finished", index, result)))
    events.noted.connect(lambda t_s, kind, text: told.append(("noted", kind)))
    events.frame_recorded.connect(frames.append)
    report = bench.run(recipe)
    assert report.outcome == "completed", report.cause
    assert [item for item in told if item[0] != "noted"] == [
        ("state", "preparing"),
        ("state", "running"),
        *(("started", 0), ("finished", 0, "done")),
        *(("started", 1), ("finished", 1, "done")),
        *(("started", 2), ("finished", 2, "done")),
        ("state", "finishing"),
        ("state", "completed"),
    ]
    assert told.count(("noted", "action")) == len(bench.texts("action")) == 6
    assert {frame.stream for frame in frames} == {"overview", "spectrum"}
    assert len(frames) == len(bench.sink.kept_frames)


def test_a_listener_that_hangs_or_raises_is_none_of_the_runs_business(
    bench: Any, short: Recipe
) -> None:
    stuck, let_go = threading.Event(), threading.Event()

    def hang(frame: Frame) -> None:
        stuck.set()
        let_go.wait(30)
        raise ZeroDivisionError("a test says so")

    bench.engine.events.frame_recorded.connect(hang)
    try:
        report = bench.run(short)
    finally:
        let_go.set()
    assert stuck.is_set()
    assert report.outcome == "completed", report.cause
    assert report.frames["overview"] > 50
