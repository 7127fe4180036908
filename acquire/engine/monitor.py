"""Reads the holder for as long as a run lasts: its log, the temperatures around a frame, and its faults."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Signal, finite_rate
from acquire.engine.context import RunContext
from acquire.errors import FaultError, HotstageError, LeaseError, LinkError
from acquire.instruments import HolderReading, HolderState
from acquire.stream import Row
from acquire.units import show, show_duration

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

TABLE = "holder"
UNITS = {
    "measured": "°C",
    "setpoint": "°C",
    "target": "°C",
    "power": "mW",
    "resistance": "Ω",
    "state": "text",
    "fault": "text",
}
SAME_S = 1e-8
"""Times that differ by less are the same but for rounding, which in virtual time nobody could wait out."""
PATIENCE_WALL_S = 1.0
"""Wall seconds that anybody waits for a reading that was asked for."""
SILENCE_WALL_S = 10.0
"""A holder that was read in no such time counts as lost: its driver hangs."""
LOST_READINGS = 3
"""So many failures in a row count as a lost holder."""


class HolderMonitor:
    """The one task of a run that reads the holder and judges what it reads.

    It calls ``beat`` after every reading; what that raises ends the run.
    """

    def __init__(
        self, run: RunContext, period_s: float, beat: Callable[[], None] = lambda: None
    ) -> None:
        self._run = run
        self._period_s = period_s
        self._beat = beat
        self._lock = threading.Lock()
        self._history: deque[tuple[float, float]] = deque(maxlen=20_000)
        self._latest: HolderReading | None = None
        self._kick = run.clock.signal()
        self._waiting: list[Signal] = []
        self._closing = run.clock.signal()
        self._failures = 0
        self.finishing = False
        """Whether the run has made the holder safe itself: trouble on that way is its end's."""
        self._prepare()
        self._task = run.clock.spawn(self._loop, "holder-monitor")

    def _prepare(self) -> None:
        self._run.sink.declare_rows(TABLE, UNITS)
        self._read()
        if self._latest is None:
            raise LinkError("the holder did not answer; nothing was started.")

    @property
    def latest(self) -> HolderReading:
        """The newest reading, in run time."""
        assert self._latest is not None
        return self._latest

    def fresh(self) -> HolderReading | None:
        """A reading made after this call; None if none comes within :data:`PATIENCE_WALL_S`."""
        now_s = self._run.now_s()
        return self.latest if self._await_reading(now_s) else None

    def check(self) -> None:
        """Fail the run if a reading hangs; for whoever is not held up by it."""
        run = self._run
        silent_s = run.now_s() - self.latest.t_s
        if silent_s > SILENCE_WALL_S * finite_rate(run.clock) + self._period_s:
            run.fail(
                LinkError(
                    f"the holder was lost: it has not been read for {show_duration(silent_s)}. If "
                    "the heater is not off now, switch it off by hand."
                )
            )

    def bracket(self, t_start_s: float, t_end_s: float) -> tuple[float, float]:
        """Measured temperature last before and first after an exposure, in °C; NaN if unknown.

        If none was read since the exposure ended, one is asked for and waited for.
        """
        self._await_reading(t_end_s)
        before = after = math.nan
        with self._lock:
            for t_s, measured in reversed(self._history):
                if t_s >= t_end_s - SAME_S:
                    after = measured
                elif t_s <= t_start_s:
                    before = measured
                    break
        return before, after

    def brackets(self, t_start_s: Array, t_end_s: Array) -> tuple[Array, Array]:
        """The same for many exposures in a row, in °C.

        Nobody waits longer for a reading than half of the time that they took: there are more to come.
        """
        patience_s = float(t_end_s[-1] - t_start_s[0]) / 2 / finite_rate(self._run.clock)
        self._await_reading(float(t_end_s[-1]), min(patience_s, PATIENCE_WALL_S))
        with self._lock:
            newest = itertools.takewhile(
                lambda reading: reading[0] > t_start_s[0], reversed(self._history)
            )
            count = 1 + sum(1 for _ in newest)  # and the last one before
            known = list(itertools.islice(reversed(self._history), count))[::-1]
        times, celsius = np.array(known or [(math.nan, math.nan)]).T
        # beyond either end nothing is known
        celsius = np.concatenate([[math.nan], celsius, [math.nan]])
        before = celsius[np.searchsorted(times, t_start_s, "right")]
        return before, celsius[np.searchsorted(times, t_end_s - SAME_S, "left") + 1]

    def measured(self, t_start_s: float, t_end_s: float) -> list[float]:
        """The temperatures that were measured in a span of run time, in °C, newest first."""
        found = []
        with self._lock:
            for t_s, celsius in reversed(self._history):
                if t_s < t_start_s:
                    break
                if t_s <= t_end_s and math.isfinite(celsius):
                    found.append(celsius)
        return found

    def _await_reading(self, t_s: float, patience_wall_s: float = PATIENCE_WALL_S) -> bool:
        """Ask for readings until one is not older than ``t_s``; False if that takes too long."""
        clock = self._run.clock
        deadline = clock.now_s() + patience_wall_s * finite_rate(clock)
        while self.latest.t_s < t_s - SAME_S and not self._closing.is_set():
            # a signal of its own, so that no other waiter can take this one's news away
            news = clock.signal()
            with self._lock:
                self._waiting.append(news)
            self._kick.set()
            left = deadline - clock.now_s()
            if left <= 0:
                return False
            news.wait(left)
        return self.latest.t_s >= t_s - SAME_S

    def close(self) -> None:
        """Stop reading and wait until that is so."""
        self._closing.set()
        self._kick.set()
        self._task.join()

    def _loop(self) -> None:
        while not self._closing.is_set():
            self._kick.wait(self._period_s)
            self._kick.clear()
            if self._closing.is_set():
                return
            try:
                self._read()
                self._judge()
                self._beat()
            except Exception as error:  # noqa: BLE001  whatever it is, it must end the run safely
                self._run.fail(error)

    def _read(self) -> None:
        run = self._run
        try:
            raw = run.station.holder.read()
        except HotstageError as error:
            self._failures += 1
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            logger.log(level, "holder reading failed: %s", error)
            if self._failures >= LOST_READINGS:
                run.fail(LinkError(f"the holder was lost: {error}"))
            return
        self._failures = 0
        reading = replace(raw, t_s=raw.t_s - run.zero_s)
        with self._lock:
            self._history.append((reading.t_s, reading.measured_celsius))
            self._latest = reading
            waiting, self._waiting = self._waiting, []
        values = {key.split("_")[0]: value for key, value in asdict(reading).items()}
        del values["t"]
        run.sink.append_row(Row(TABLE, reading.t_s, {**values, "state": str(reading.state)}))
        run.live.put_reading(reading)
        for news in waiting:
            news.set()

    def _judge(self) -> None:
        run, reading = self._run, self.latest
        safing = reading.state is HolderState.MAKING_SAFE and not self.finishing
        if reading.state is HolderState.TRIPPED or (safing and reading.fault):
            run.fail(FaultError(f"the heater tripped: {reading.fault}"))
        problem = run.station.control.problem()
        if problem:
            run.fail(LeaseError(f"control was lost: {problem}"))
        limit = run.recipe.limits.temperature
        if limit is not None and reading.measured_celsius > limit + 0.02 * abs(limit):
            # 2 %: noise and overshoot at the very limit are not a breach
            run.break_limit(
                "temperature",
                f"measured {show(reading.measured_celsius, '°C')} is above the recipe's limit of "
                f"{show(limit, '°C')} (limits.temperature).",
            )
        longest = run.recipe.limits.run_time
        if longest is not None and run.now_s() + run.earlier.run_time_s > longest:
            run.break_limit(
                "run_time",
                f"the run takes longer than the recipe's limit of {show(longest, 's')} "
                "(limits.run_time).",
            )
