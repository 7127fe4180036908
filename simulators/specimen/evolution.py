"""The specimen at any time: a fixed schedule of steps along the temperature's history, with checkpoints.

A step ends at the first tick of a grid at which the processes together have used up the step's
budget. That depends on the state at its beginning and on the temperature since, never on who asks and
when; a question within a step is answered from its beginning. So a state has one value, in whatever
order times are asked for, and hours at one temperature cost few steps.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from simulators.specimen.kinetics import PRESENT, WAITING, Setting, State, advance, conductances
from simulators.specimen.motion import coalesce, diffusion_nm2_per_s, directions, walk
from simulators.specimen.rates import Exposure, Temperature, exposure

Array = NDArray[np.float64]

TICK_S = 1 / 64
_KEEP_EVERY = 16  # steps between checkpoints that are kept for good
_RECENT_STEPS = 24
_RECENT_ANSWERS = 32  # growth is asked for over ten seconds, and each answer so twice

_GROWTH = 0.1  # relative change of volume in a step, before what is given off is set against it
_WALK_NM = 0.4
_INCUBATION = 0.05
_SUPPLY = 0.1
_SINK = 0.1


class Evolution:
    """States of one specimen under one temperature; safe for use by several threads."""

    def __init__(
        self, setting: Setting, seed: int, temperature: Temperature, start_s: float
    ) -> None:
        self._setting = setting
        self._seed = seed
        self._temperature = temperature
        self._start_s = start_s
        self._lock = threading.Lock()
        self._ticks = [0]  # where each step begins
        self._kept: dict[int, State] = {0: setting.fresh()}
        self._recent: OrderedDict[int, _Step] = OrderedDict()
        self._answers: OrderedDict[float, State] = OrderedDict()

    def at(self, t_s: float) -> State:
        """The state at a time that has come; a time before the beginning is the beginning."""
        with self._lock:
            if t_s in self._answers:
                self._answers.move_to_end(t_s)
                return self._answers[t_s]
            state = self._state(max(t_s, self._start_s))
            self._answers[t_s] = state
            if len(self._answers) > _RECENT_ANSWERS:
                self._answers.popitem(last=False)
            return state

    @property
    def steps(self) -> int:
        """How many steps there have been."""
        with self._lock:
            return len(self._ticks) - 1

    # ------------------------------------------------------------------ under the lock

    def _state(self, t_s: float) -> State:
        tick = int((t_s - self._start_s) / TICK_S)
        while tick > self._ticks[-1]:
            step = self._step(len(self._ticks) - 1)
            end = self._end(step, self._ticks[-1], tick)
            if end is None:
                break
            self._ticks.append(end)
            self._commit(step, end)
        step = self._step(max(0, bisect_right(self._ticks, tick) - 1))
        lived = exposure(self._temperature, t_s).since(step.lived)
        return self._within(step, lived)

    def _step(self, number: int) -> _Step:
        """A step by its number, made again from the last checkpoint if it was forgotten."""
        if number in self._recent:
            self._recent.move_to_end(number)
            return self._recent[number]
        known = number
        while known not in self._recent and known not in self._kept:
            known -= 1
        step = self._recent.get(known) or self._make(known, self._kept[known])
        while step.number < number:
            step = self._commit(step, self._ticks[step.number + 1])
        return step

    def _make(self, number: int, state: State) -> _Step:
        lived = exposure(self._temperature, self._start_s + self._ticks[number] * TICK_S)
        step = _Step(number, state, lived, self._setting, self._seed)
        self._recent[number] = step
        if len(self._recent) > _RECENT_STEPS:
            self._recent.popitem(last=False)
        return step

    def _commit(self, step: _Step, end: int) -> _Step:
        """Carry a step out to its end, and begin the next."""
        lived = exposure(self._temperature, self._start_s + end * TICK_S).since(step.lived)
        state = coalesce(self._within(step, lived), self._setting.sites.z_nm == 0)
        number = step.number + 1
        if number % _KEEP_EVERY == 0:
            self._kept[number] = state
        return self._make(number, state)

    def _within(self, step: _Step, lived: Exposure) -> State:
        after = advance(self._setting, step.state, lived)
        return walk(self._setting, step.state, after, step.unit, lived.motion)

    def _end(self, step: _Step, begin: int, last: int) -> int | None:
        """The first tick, up to ``last``, at which a step's budget is used up; None if it is not yet."""

        def used(tick: int) -> float:
            lived = exposure(self._temperature, self._start_s + tick * TICK_S)
            return step.used(lived.since(step.lived))

        if used(last) < 1:
            return None
        # the first tick that is enough is the same wherever the search begins
        stride = self._ticks[-1] - self._ticks[-2] if len(self._ticks) > 1 else 1
        low, at_low = begin, 0.0
        high = min(last, begin + stride)
        while (at_high := used(high)) < 1:
            low, at_low = high, at_high
            stride *= 2
            high = min(last, begin + stride)
        turn = 0
        while high - low > 1:
            middle = low + int((1 - at_low) / (at_high - at_low) * (high - low))
            if turn % 3 == 2:  # where the temperature changes, straight lines mislead
                middle = (low + high) // 2
            middle = min(max(middle, low + 1), high - 1)
            at_middle, turn = used(middle), turn + 1
            if at_middle < 1:
                low, at_low = middle, at_middle
            else:
                high, at_high = middle, at_middle
        return high


class _Step:
    """The beginning of a step, and how much each process may go on in it."""

    def __init__(
        self, number: int, state: State, lived: Exposure, setting: Setting, seed: int
    ) -> None:
        self.number = number
        self.state = state
        self.lived = lived
        self.unit = directions(setting, seed, number)
        self._weights = _weights(setting, state)

    def used(self, lived: Exposure) -> float:
        """Share of the budget that an exposure uses up; rises with time."""
        w = self._weights
        return (
            w.along * lived.along
            + w.along_release * lived.along_release
            + w.beside * lived.beside
            + w.bulk * lived.bulk
            + w.nucleation * lived.nucleation
            + w.motion * lived.motion
            + w.socket * lived.socket
        )


def _upper(rates: Array) -> float:
    """The rate of all but the fastest fifth, which are about to vanish or have just begun."""
    place = int(0.8 * (len(rates) - 1))
    return float(np.partition(rates, place)[place])


def _weights(setting: Setting, state: State) -> Exposure:
    """What one equivalent second of each process uses up of a step's budget."""
    sites, rates = setting.sites, setting.rates
    here = state.stage == PRESENT
    along = release = motion = socket = 0.0
    if here.any():
        one = Exposure(1, 1, 1, 1, 1, 1, 1, 1, 1)
        take, give = conductances(setting, state.volume_nm3, state.below, here, one)
        volume = state.volume_nm3[here]
        along = _upper(take[here] / volume) * setting.activity(state) / _GROWTH
        release = _upper(give[here] / volume) / _GROWTH
        motion = 2 * float(np.median(diffusion_nm2_per_s(setting, state)[here])) / _WALK_NM**2
        socket = rates.socket_per_s * float((1 - 2 * state.below[here]).max()) / _SINK
    nucleation = 0.0
    waiting = state.stage == WAITING
    if waiting.any():
        room = max(_INCUBATION, 2 * _INCUBATION * state.incubation)
        nucleation = setting.activity(state) ** 2 / rates.onset_s / room
    moved = state.particle_ni + state.boundary_ni
    beside = rates.beside_per_s * state.beside_ni / max(_SUPPLY * moved, 1e-300)
    bulk = rates.bulk_per_s * setting.reach * state.bulk_ni / max(_SUPPLY * moved, 1e-300)
    if not len(sites):
        beside = bulk = 0.0
    return Exposure(
        along=along,
        along_release=release,
        beside=beside,
        bulk=bulk,
        nucleation=nucleation,
        motion=motion,
        socket=socket,
    )
