"""Reads the recorded channels of a run: each in a task of its own, at its period, whatever becomes of it."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from acquire.clock import finite_rate
from acquire.engine.context import RunContext
from acquire.engine.estimating import Judged
from acquire.errors import HotstageError, InstrumentError, RecipeError, UnitError
from acquire.instruments import Description
from acquire.recipe import ChannelRecord, Recipe
from acquire.station import OpenStation
from acquire.store import CHANNELS
from acquire.stream import Estimate, Quantity, Row, Value
from acquire.units import convert, show_duration

logger = logging.getLogger(__name__)

OWN_COLUMNS = {"time": "s", "time_bound": "s", "fault": "text"}
"""What a channel's table has beside its values: a reading was made within ``time`` ± ``time_bound``, and
``fault`` says why there is none."""
HANG_WALL_S = 10.0
"""A reading that takes longer is told to the operator."""
END_WALL_S = 1.0
"""The end of a run waits so long for a reading that is under way."""
LIVE_PERIOD_S = 1.0
"""Live curves take no more than one reading in so much run time: they hold a bounded number."""
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


def units_of(description: Description) -> dict[str, str]:
    """The unit of every value that a channel gives, by name; see :class:`acquire.instruments.Channel`."""
    return {
        name: text
        for name, text in description.details.items()
        if isinstance(text, str) and _NAME.fullmatch(name) and _is_unit(text)
    }


def _is_unit(text: str) -> bool:
    if text != "1" and (not text or text[0].isdigit()):  # a version, such as 2.0
        return False
    try:
        convert(1.0, text, text)
    except UnitError:
        return False
    return True


def quantities_of(name: str, record: ChannelRecord, station: OpenStation) -> dict[str, Quantity]:
    """What the channel of one record gives, by the names that conditions use: ``film.resistance``.

    Raises:
        RecipeError: the station has no such channel, or it gives what the run's own columns are called.
    """
    channel = station.channels.get(record.name)
    if channel is None:
        there = ", ".join(sorted(station.channels)) or "none"
        raise RecipeError(
            f"station {station.station.name!r} has no channel {record.name!r}; it has: {there}. Add "
            f"[channels.{record.name}] to the station file, or name another one."
        )
    units = units_of(channel.describe())
    if taken := sorted(set(units) & set(OWN_COLUMNS)):
        raise RecipeError(
            f"the channel {record.name!r} gives a value called {taken[0]!r}, which is a column of its "
            "own in every run. Have its driver give it another name."
        )
    return {
        f"{name}.{value}": Quantity(f"{name}.{value}", unit, value.replace("_", " "))
        for value, unit in units.items()
    }


def channel_quantities(recipe: Recipe, station: OpenStation) -> dict[str, Quantity]:
    """What all recorded channels give, by the names that conditions use; raises RecipeError."""
    found: dict[str, Quantity] = {}
    for name, record in recipe.channels.items():
        found |= quantities_of(name, record, station)
    return found


class ChannelTask:
    """One recorded channel and its task.

    A reading that fails is a row that says why, and the run goes on; one that hangs holds up nothing
    but itself.
    """

    def __init__(
        self,
        run: RunContext,
        name: str,
        record: ChannelRecord,
        on_reading: Callable[[Judged], None],
    ) -> None:
        self._run = run
        self._name = name
        self._what = f"the channel {record.name!r} (record.{name})"
        self._period_s = record.every
        self._channel = run.station.channels[record.name]
        self._on_reading = on_reading
        self._table = f"{CHANNELS}/{name}"
        self._units = units_of(self._channel.describe())
        self._closing = run.clock.signal()
        self._lock = threading.Lock()
        self._closed = False
        self._busy: float | None = None
        """Wall time at which the reading under way began."""
        self._hang_told = False
        self._count = 0
        self._lost_s: float | None = None
        """When the first of the readings failed that have failed since."""
        self._live_s = -math.inf
        columns = {key: unit for key, unit in OWN_COLUMNS.items() if key != "time"}
        run.sink.declare_rows(self._table, {**self._units, **columns})
        self._task = run.clock.spawn(self._loop, f"channel-{name}")

    def check(self) -> None:
        """Tell, once, if the reading under way hangs; for whoever is not held up by it."""
        began = self._busy
        if began is None or self._hang_told or time.monotonic() - began <= HANG_WALL_S:
            return
        self._hang_told = True
        self._run.warn(
            f"{self._what} hangs: it has not answered for over {HANG_WALL_S:g} s. The run goes on "
            "without its readings until it does."
        )

    def close(self) -> None:
        """Stop reading; a reading that hangs is left behind, and what it gives is not heard."""
        self._closing.set()
        if not self._task.join(END_WALL_S * finite_rate(self._run.clock)):
            logger.error("%s did not end its reading; it is left behind", self._what)
        with self._lock:
            self._closed = True

    def _loop(self) -> None:
        run, due_s = self._run, self._run.now_s()
        try:
            while not self._closing.is_set():
                self._read()
                # what was missed is not made up for
                due_s = max(due_s + self._period_s, run.now_s())
                self._closing.wait(due_s - run.now_s())
        except Exception as error:  # noqa: BLE001  what cannot be written must end the run safely
            run.fail(error)

    def _read(self) -> None:
        run = self._run
        began_s, fault = run.now_s(), ""
        self._busy = time.monotonic()
        try:
            values = _numbers(self._channel.read())
        except HotstageError as error:
            values, fault = {}, str(error)
        except Exception as error:
            logger.exception("%s failed", self._what)
            values, fault = {}, f"{type(error).__name__}: {error}"
        finally:
            self._busy, self._hang_told = None, False
        ended_s = run.now_s()
        with self._lock:  # so that nothing is said after the store was closed
            if not self._closed:
                self._tell(began_s, ended_s, values, fault)

    def _tell(
        self, began_s: float, ended_s: float, values: Mapping[str, float], fault: str
    ) -> None:
        run, t_s = self._run, (began_s + ended_s) / 2
        bound_s = (ended_s - began_s) / 2
        row: dict[str, float | str] = {**values, "time_bound": bound_s, "fault": fault}
        run.sink.append_row(Row(self._table, t_s, row))
        self._note(began_s, fault)
        # nothing is known of a reading that failed: it ends a succession, as an unfinite one does
        known = {
            name: Value(values.get(value, math.nan), math.nan)
            for name, value in ((f"{self._name}.{v}", v) for v in {**self._units, **values})
            if name in run.quantities
        }
        estimate = Estimate(self._table, self._name, self._count, t_s, known)
        self._count += 1
        if t_s - self._live_s >= LIVE_PERIOD_S:
            self._live_s = t_s
            run.live.put_estimate(estimate)
        self._on_reading(Judged(estimate, began_s))

    def _note(self, began_s: float, fault: str) -> None:
        """Tell when readings begin to fail, and when they no longer do."""
        run = self._run
        if fault and self._lost_s is None:
            self._lost_s = began_s
            run.note("channel", f"{self._what} cannot be read: {fault}")
            run.warn(
                f"{self._what} could not be read for a while; the journal says when, its table "
                "which readings are missing."
            )
        elif not fault and self._lost_s is not None:
            away = show_duration(began_s - self._lost_s)
            self._lost_s = None
            run.note("channel", f"{self._what} is read again after {away}")


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    """The values as floats; raises InstrumentError for what is not a number, or has no good name."""
    found = {}
    for name, value in values.items():
        if name in OWN_COLUMNS or not _NAME.fullmatch(name):
            raise InstrumentError(f"it gave a value called {name!r}, which cannot be recorded.")
        if not isinstance(value, float | int | np.number):
            raise InstrumentError(f"it gave {value!r} as {name}, which is not a number.")
        found[name] = float(value)
    return found
