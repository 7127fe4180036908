"""The burst of a recipe: 8000 spectra a second from the simulated spectrometer through server, engine and store."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from acquire.bench.eels_station import CORE, LOW, STATION
from acquire.bench.work import Bench
from acquire.engine import Engine
from acquire.errors import HotstageError
from acquire.recipe import Recipe
from acquire.remote import connect
from acquire.station import Station
from acquire.store import RunWriter, open_run

PER_S, ESTIMATES_HZ = 8000, 20.0
SECONDS = 10.0
_CHANNELS = 1024
_LATE = 0.02
_SECTION = "burst"
_STREAM = "spectrum"
_RECIPE = """
hotstage: 1
name: burst
limits: {{temperature: 900 °C}}
record:
  chip: {{holder: {{every: 200 ms}}}}
estimate:
  eels: {{from: spectrum.core_loss}}
steps:
  - spectrum:
      at: [0 nm, 0 nm]
      frames: {frames}
      spectra: {{range: [400 eV, 604.8 eV], dispersion: 0.2 eV, dwell_time: 115 µs, low_loss_dwell_time: 10 µs}}
"""


@dataclass(frozen=True, slots=True)
class BurstRun:
    """What a burst through the engine has left."""

    asked: int
    stored: int
    in_order: bool
    """Numbers of run and instrument rise by one, and times rise."""
    empty: int
    """Spectra without a single count, which none of the simulated ones is."""
    seconds: float
    """From the begin of the first spectrum to the end of the last."""
    exposed: float
    """Share of that time in which a spectrum was exposed."""
    estimates: int
    estimates_per_s: float
    longest_wait_s: float
    """Between two estimates."""
    engine_cpu_s: float
    """Of this process from the first block on: engine, store and estimator."""
    server_cpu_s: float
    """Of the instruments' server, which makes the spectra."""


def through_the_engine(bench: Bench) -> None:
    """A recipe's burst on the simulated station behind its server, at the pace of the wall clock."""
    frames = max(PER_S // 2, round(min(1.0, bench.share) * SECONDS * PER_S))
    with tempfile.TemporaryDirectory(prefix="hotstage-eels-") as folder:
        ran = run_burst(Path(folder) / "run", frames, next(bench.seeds("engine burst", 1)))
    rate, share = ran.stored / ran.seconds, PER_S / ran.stored
    bench.add(
        _SECTION,
        f"{frames} pairs of 2 × {_CHANNELS} channels by a recipe: spectrometer, server, engine, store",
        f"{ran.stored} stored, {'in order' if ran.in_order else 'NOT in order'}, {ran.empty} empty, "
        f"{rate:.0f}/s; such a second takes {ran.engine_cpu_s * share:.2f} s of CPU in the engine, "
        f"{ran.server_cpu_s * share:.2f} s in the simulator",
        f"all, in order, {PER_S}/s",
        ran.stored == frames and ran.in_order and not ran.empty and rate >= (1 - _LATE) * PER_S,
        **{name: getattr(ran, name) for name in BurstRun.__slots__},
    )
    bench.add(
        _SECTION,
        "meanwhile the estimator 'eels', on the sum of each block",
        f"{ran.estimates_per_s:.1f} Hz, {1e3 * ran.longest_wait_s:.0f} ms at most between two",
        f"≥ {ESTIMATES_HZ:g} Hz",
        ran.estimates_per_s >= ESTIMATES_HZ,
    )


def run_burst(folder: Path, frames: int, seed: int) -> BurstRun:
    """Take a burst into a new run folder; raises HotstageError if the run does not complete."""
    text = Station.load(STATION).text
    text = text.replace("seed = 7", f"seed = {seed}").replace("clock_rate = 10 ", "clock_rate = 1 ")
    # a CCD's dark reference, added up over so many spectra, would drown what they hold
    text = text.replace("[simulation.options]", '[simulation.options]\ncamera = "counting"')
    station = connect(Station.parse(text, "the bench's station"))
    try:
        if station.clock.rate != 1.0:
            raise HotstageError(f"the station {STATION!r} does not run at the wall clock's pace.")
        engine = Engine(station)
        used: list[tuple[float, float]] = []

        def begun(frame: object) -> None:
            if not used:  # what was done to get ready is no part of it
                used.append((_cpu(os.getpid()), _children_cpu()))

        engine.events.frame_recorded.connect(begun)
        report = engine.run(Recipe.parse(_RECIPE.format(frames=frames)), RunWriter(folder))
        own, others = used[0] if used else (0.0, 0.0)
        engine_cpu_s, server_cpu_s = _cpu(os.getpid()) - own, _children_cpu() - others
    finally:
        station.close()
    if report.outcome != "completed":
        raise HotstageError(f"the burst {report.outcome}: {report.cause}")
    return _read_back(folder, frames, engine_cpu_s, server_cpu_s)


def _read_back(folder: Path, frames: int, engine_cpu_s: float, server_cpu_s: float) -> BurstRun:
    run = open_run(folder)
    spectra = run.spectra(_STREAM)
    begin, end = spectra["time"].values, spectra["t_end"].values
    steps = [np.diff(spectra[name].values) for name in ("frame_index", "source_index")]
    in_order = all((step == 1).all() for step in steps) and bool((np.diff(begin) > 0).all())
    empty = 0
    for first in range(0, len(begin), PER_S):
        for name in (CORE, LOW):
            empty += int((~spectra[name][first : first + PER_S].values.any(axis=1)).sum())
    told = run.estimates("eels")["time"].values
    return BurstRun(
        asked=frames,
        stored=len(begin),
        in_order=in_order,
        empty=empty,
        seconds=float(end[-1] - begin[0]),
        exposed=float((end - begin).sum() / (end[-1] - begin[0])),
        estimates=len(told),
        estimates_per_s=(len(told) - 1) / float(told[-1] - told[0]),
        longest_wait_s=float(np.diff(told).max()),
        engine_cpu_s=engine_cpu_s,
        server_cpu_s=server_cpu_s,
    )


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _children_cpu() -> float:
    return sum(_cpu(child.pid) for child in psutil.Process().children(recursive=True))
