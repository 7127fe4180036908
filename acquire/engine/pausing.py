"""Pauses of a run: asked for at any time, in force from the next wait on, ended by a resume that replays nothing."""

from __future__ import annotations

from collections.abc import Callable

from acquire.engine.actions import Actions
from acquire.engine.beam import Beam
from acquire.engine.beamtime import Others
from acquire.engine.context import RunContext
from acquire.engine.status import EngineState


class Pausing:
    """The pause of one run, if there is one.

    Args:
        run: that is paused.
        beam: of the run.
        others: who records beside the steps, and rests meanwhile.
        enter: tells the engine's state.
        sleep: waits in run time until something happens.
        raise_if_ending: raises what ends the run.
    """

    def __init__(
        self,
        run: RunContext,
        beam: Beam,
        others: Others,
        enter: Callable[[EngineState], None],
        sleep: Callable[[float], None],
        raise_if_ending: Callable[[], None],
    ) -> None:
        self._kind: str | None = None
        self.reason = ""
        """Why a pause is asked for or in force; empty without one."""
        self._run = run
        self._beam = beam
        self._others = others
        self._enter = enter
        self._sleep = sleep
        self._raise_if_ending = raise_if_ending
        self._resume = False

    @property
    def asked(self) -> bool:
        """Whether a pause is asked for or in force."""
        return self._kind is not None

    def ask(self, reason: str, kind: str) -> None:
        """Pause at the next wait; kind ``hold`` leaves recording and beam on."""
        self.reason = reason
        self._resume = False  # one that came too late for the pause before
        if kind == "pause" and self._run.recipe.pause.exposure == "cut":
            self._run.stop.set()
        self._kind = kind
        self._run.wake.set()

    def resume(self) -> None:
        """End a pause."""
        self._resume = True
        self._run.wake.set()

    def stay(self, actions: Actions) -> float:
        """Stay paused if that is asked for, until the resume; returns run seconds paused."""
        if self._kind is None:
            return 0.0
        began_s = self._run.now_s()
        self._stay(self._kind, actions)
        return self._run.now_s() - began_s

    def _stay(self, kind: str, actions: Actions) -> None:
        run, settings = self._run, self._run.recipe.pause
        self._enter(EngineState.PAUSING)
        ramp = actions.ramp_target
        freeze = ramp is not None and (kind == "hold" or settings.temperature == "hold")
        if freeze:  # before anything is written: the heat must not wait for the disk
            run.station.holder.hold()
        run.note("state", f"pausing: {self.reason}")
        if kind == "pause":
            self._others.suspend("paused", cut=settings.exposure == "cut")
        # a step that has the beam waits, too: its probe must not rest on the specimen meanwhile
        blank = kind == "pause" or actions.beam_taken
        if blank:
            self._beam.switch(on=False)
        self._enter(EngineState.PAUSED)
        while not self._resume:
            self._raise_if_ending()
            self._sleep(1.0)
        self._resume = False
        self._kind = None
        self.reason = ""
        run.stop.clear()
        self._raise_if_ending()
        if blank and (self._others.lit or actions.beam_taken) and not actions.in_the_dark:
            self._beam.switch(on=True)
        if kind == "pause" and not actions.beam_taken:
            self._others.resume()
        if freeze and ramp is not None:
            self._raise_if_ending()  # what came before may have taken long
            run.station.holder.ramp(ramp.to, ramp.rate)
        run.note("state", "resumed; nothing is replayed")
        self._enter(EngineState.RUNNING)
