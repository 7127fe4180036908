"""A stored run to measure scrubbing on, and the process that scrubs it.

``python -m gui.bench.stored --frames N --jumps M --seed S`` writes a run of 1024² frames with particles
and readings into a folder of its own, opens it in a window on the Runs page, puts the cursor at random
times, and writes one line of JSON: seconds until each was painted. ``--points N`` measures instead the
updates of plots with so many points.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from acquire.errors import LinkError
from acquire.instruments import Axis, ChannelSpec, Description, Frame, StreamSpec
from acquire.store import RunWriter
from acquire.stream import Estimate, FrameContext, Note, Quantity, Row, RunHeader, RunReport, Value
from gui.app import Folders, application_with_theme
from gui.orders import HostConnection
from gui.session import Session
from gui.settings import Settings
from gui.window import OperatorWindow

SIDE, FIELD_NM, PERIOD_S, PARTICLES, POOL = 1024, 120.0, 0.5, 200, 8
COLUMNS = {
    name: "nm" if name.endswith("nm") else "1"
    for name in ("x_nm", "y_nm", "diameter_nm", "sigma_nm", "contrast")
}


def write_run(folder: Path, frames: int, rng: np.random.Generator) -> None:
    """A run as an experiment leaves it, without an experiment: speed is all that matters."""
    header = RunHeader(
        name="scrubbed",
        recipe_yaml="hotstage: 1\nname: scrubbed\n",
        station_toml="hotstage = 1\n",
        station="simulated",
        instruments={"holder": Description("holder", "chip", "simulated", simulated=True)},
        epoch_unix_s=1.79e9,
        clock_rate=1.0,
    )
    pixel_nm = FIELD_NM / SIDE
    axis = Axis((pixel_nm - FIELD_NM) / 2, pixel_nm, "nm")
    channel = ChannelSpec("uint16", (SIDE, SIDE), ("y", "x"), {"y": axis, "x": axis})
    quantities = (Quantity("mean_diameter", "nm", "mean"), Quantity("count", "1", "number"))
    pool = [rng.poisson(200, (SIDE, SIDE)).astype(np.uint16) for _ in range(POOL)]
    writer = RunWriter(folder)
    writer.open(header)
    writer.declare_frames("images", StreamSpec("overview", {"haadf": channel}))
    writer.declare_estimates("particles", quantities, COLUMNS)
    writer.declare_rows(
        "holder", {"measured": "°C", "setpoint": "°C", "state": "text", "fault": "text"}
    )
    for number in range(frames):
        begun_s = number * PERIOD_S
        ended_s = begun_s + 0.8 * PERIOD_S
        frame = Frame("overview", number, {"haadf": pool[number % POOL]}, begun_s, ended_s)
        writer.append_frame(frame, FrameContext(700.0, 700.0, 1e3, number))
        values = {
            "mean_diameter": Value(3 + number / 1000, 0.1),
            "count": Value(float(PARTICLES), 2.0),
        }
        table = {name: rng.uniform(4, 110, PARTICLES) for name in COLUMNS}
        writer.append_estimate(
            Estimate("particles", "overview", number, ended_s, values, (), table)
        )
        for part in range(5):
            reading = {"measured": 700 + rng.normal(), "setpoint": 700.0}
            writer.append_row(
                Row(
                    "holder",
                    begun_s + part * PERIOD_S / 5,
                    {**reading, "state": "holding", "fault": ""},
                )
            )
    writer.note(Note("action", 0.0, "begin step 1: hold"))
    end_s = frames * PERIOD_S
    step = {"index": 0, "text": "hold", "t_start_s": 0.0, "t_end_s": end_s, "outcome": "done"}
    writer.close(RunReport("completed", "", end_s, {"overview": frames}, (step,), 1e6))


def scrub_times(frames: int, jumps: int, seed: int) -> list[float]:
    """Wall seconds from a wish for a random time until its frame and curves were painted."""
    from gui.pages.runs.measuring import open_and_wait, scrub

    application = application_with_theme()
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="hotstage-scrub-") as folder:
        run = Path(folder) / "run"
        write_run(run, frames, rng)
        window = OperatorWindow(
            Session(_nobody, lambda address, reason: None),
            Folders(None),
            Settings(Path(folder) / "window.ini"),
        )
        window.resize(1280, 720)
        window.show()
        window.show_page(window.runs)
        application.processEvents()
        window.runs.open_run(run)
        open_and_wait(window.runs.replay, run)
        end_s = frames * PERIOD_S
        took_s = [scrub(window.runs.replay, t_s) for t_s in rng.uniform(0, end_s, jumps)]
        window.close()
    return took_s


def _nobody() -> HostConnection:
    raise LinkError("there is no engine in this bench.")


def main() -> int:
    """The process's entry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--jumps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--points", type=int, default=0)
    given = parser.parse_args()
    if given.points:
        from gui.bench.plots import measure_plot_updates

        application_with_theme()
        seen = measure_plot_updates(given.points)
        report = {"draw_ms": seen.draw_ms.tolist(), "paint_ms": seen.paint_ms.tolist()}
    else:
        report = {"took_s": scrub_times(given.frames, given.jumps, given.seed)}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
