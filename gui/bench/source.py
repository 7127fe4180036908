"""An engine host that is given frames at a pace that no simulated scan reaches: the far side of the window bench.

``python -m gui.bench.source`` serves a real engine host of the simulated station on loopback and puts
images, readings and estimates into its live view as a run does. It writes its address to a file, and
answers lines on standard input with lines of JSON: ``report`` with what was done since, ``day`` when the
curves and notes of a day at the microscope have been put into it. The end of standard input ends it.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from acquire.engine.host import EngineHost
from acquire.instruments import Frame, HolderReading, HolderState
from acquire.remote import connect
from acquire.station import Station
from gui.bench.crowd import DAY_S, estimate_of, put_day

POOL = 8
"""Different frames that are shown in turn."""
PARTICLES = 200
FIELD_NM = 160.0
READINGS_PER_S = 50.0
ESTIMATES_PER_S = 5.0


class Pace:
    """Waits for ticks of a rate and keeps how far apart they really were."""

    def __init__(self, per_s: float, kept: int = 200_000) -> None:
        self._period_s = 1 / per_s
        self._due_s = time.perf_counter()
        self._last_s = self._due_s
        self._intervals_s: list[float] = []
        self._kept = kept

    def wait(self, stop: threading.Event) -> bool:
        """Until the next tick; False when it is time to end. A tick that is late is not made up for."""
        self._due_s = max(self._due_s + self._period_s, time.perf_counter() - self._period_s)
        left_s = self._due_s - time.perf_counter()
        if left_s > 0 and stop.wait(left_s):
            return False
        now_s = time.perf_counter()
        if len(self._intervals_s) < self._kept:
            self._intervals_s.append(now_s - self._last_s)
        self._last_s = now_s
        return not stop.is_set()

    def take(self) -> NDArray[np.float64]:
        """The intervals since the last call, in s."""
        taken, self._intervals_s = self._intervals_s, []
        return np.array(taken)


def serve(shape: int, per_s: float, ready: Path, seed: int, particles: int = PARTICLES) -> None:
    """Serve until standard input ends."""
    station = connect(Station.load("simulated"))
    host = EngineHost(station)
    stop = threading.Event()
    images, readings = Pace(per_s), Pace(READINGS_PER_S)
    done, later_s = [0], [0.0]
    rng = np.random.default_rng(seed)
    pool = [rng.poisson(60, (shape, shape)).astype(np.uint16) for _ in range(POOL)]
    live, clock = host.engine.live, station.clock
    live.begin()

    def expose() -> None:
        while images.wait(stop):
            now_s = clock.now_s() + later_s[0]
            frame = Frame("overview", done[0], {"haadf": pool[done[0] % POOL]}, now_s, now_s)
            live.put_image(frame, FIELD_NM / shape)
            done[0] += 1
            if done[0] % max(1, round(per_s / ESTIMATES_PER_S)) == 0:
                live.put_estimate(estimate_of(rng, frame, particles, FIELD_NM))

    def heat() -> None:
        while readings.wait(stop):
            now_s = clock.now_s() + later_s[0]
            live.put_reading(
                HolderReading(
                    now_s, 700 + rng.normal(), 700.0, 700.0, 12.0, 900.0, HolderState.HOLDING
                )
            )

    threads = [threading.Thread(target=act, daemon=True) for act in (expose, heat)]
    for thread in threads:
        thread.start()
    part = ready.with_suffix(".part")
    part.write_text(json.dumps({"address": host.address}), encoding="utf-8")
    part.replace(ready)
    try:
        for line in sys.stdin:
            if line.strip() == "report":
                report = {
                    "frames": done[0],
                    "intervals_s": images.take().tolist(),
                    "memory_bytes": psutil.Process().memory_info().rss,
                }
                _answer(report)
            elif line.strip() == "day":
                put_day(live, rng)
                later_s[0] = DAY_S
                _answer({"day_s": DAY_S})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        host.close("the bench ends")


def _answer(words: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main() -> None:
    """The process's entry."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=int, required=True)
    parser.add_argument("--per-s", type=float, required=True)
    parser.add_argument("--ready", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--particles", type=int, default=PARTICLES)
    given = parser.parse_args()
    serve(given.shape, given.per_s, given.ready, given.seed, given.particles)


if __name__ == "__main__":
    main()
