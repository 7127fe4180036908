"""The run that the bench writes: one stream, of which little is known."""

from __future__ import annotations

from pathlib import Path

from acquire.bench.store_work import CHANNEL, IMAGES, Work
from acquire.instruments import Description
from acquire.store import ZARR_NAME
from acquire.stream import RunHeader, RunReport

STREAM = "bench"


def header(epoch_unix_s: float = 0.0) -> RunHeader:
    """What is known of a run of the bench before its first record."""
    return RunHeader(
        name="bench",
        recipe_yaml="hotstage: 1\nname: bench\n",
        station_toml="hotstage = 1\n",
        station="bench",
        instruments={"scan": Description("scan", "bench", "bench")},
        epoch_unix_s=epoch_unix_s,
        clock_rate=1.0,
    )


def report(t_end_s: float = 0.0) -> RunReport:
    """How a run of the bench ends."""
    return RunReport("completed", "", t_end_s, {})


def array_path(run: Path, work: Work) -> Path:
    """Where the records of the bench's stream lie in a run."""
    group = f"images/{STREAM}/full" if work.kind == IMAGES else f"spectra/{STREAM}"
    return run / ZARR_NAME / group / CHANNEL
