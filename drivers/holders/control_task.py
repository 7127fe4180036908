"""The task that alone talks to a device which only takes setpoints, and so what its heating holder is doing.

One task, so that switching off can never be overtaken by a late command. It knows five modes:

- ``off``: the output was confirmed to be off; it is looked at now and then.
- ``starting``: the output is being switched on.
- ``driving``: the setpoint follows the program.
- ``cooling``: the armed safe state's way down; then ``stopping``.
- ``stopping``: the output is being switched off, over new connections if need be, until the device
  confirms it.

A trip latches a fault and goes to ``stopping`` at once. A link that fails while the output is on
freezes the setpoint; if the device has not been heard again within ``patience_s`` that is a trip,
since nobody watches the heater then. It is heard again over a new connection; the program goes on
from where it stood when it was last heard. A slow line, on which every reading takes long, is no
silence. Nothing is commanded again after a mishap: the next setpoint is computed from what the
device then says.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum

from acquire.clock import Clock, finite_rate
from acquire.errors import HotstageError
from drivers.holders.actuator import (
    Actuator,
    Judge,
    Measurement,
    RegulatedSettings,
    Trip,
    Unwanted,
)
from drivers.holders.program import Program

logger = logging.getLogger(__name__)

IDLE_S = 1.0
"""Clock seconds between looks at a device whose output is off."""
FIRST_RETRY_WALL_S = 0.02
LONGEST_RETRY_WALL_S = 0.5
SILENCE_WALL_S = 0.1
"""A device that was not heard for so long, and for so many times as long as usual, stops the program."""
SILENCE_TURNS = 4.0


class Mode(StrEnum):
    """What the task is doing."""

    OFF = "off"
    STARTING = "starting"
    DRIVING = "driving"
    COOLING = "cooling"
    STOPPING = "stopping"


ON = (Mode.DRIVING, Mode.COOLING)


class ControlTask:
    """Carries out the mode that the holder is in, from a thread of its own.

    Whoever reads or sets the attributes holds ``changed``, which is notified when they change.
    """

    def __init__(
        self, actuator: Actuator, settings: RegulatedSettings, clock: Clock, name: str
    ) -> None:
        self.changed = threading.Condition()
        self.mode = Mode.OFF
        self.program = Program.holding(clock.now_s(), settings.ambient_celsius)
        self.since_s = clock.now_s()
        """A reading that is older was taken before the last command."""
        self.fault = ""
        self.lost = ""
        """Why it is not known what the device does; empty if it is."""
        self.latest: Measurement | None = None
        self._actuator = actuator
        self._settings = settings
        self._clock = clock
        self._name = name
        self._device = threading.Lock()
        self._silent_since: float | None = None
        self._judge = Judge(settings)
        self._retry_s = FIRST_RETRY_WALL_S
        self._usual_s = settings.period_s
        """From reading to reading: a slow line takes longer than the period."""
        self._wake = clock.signal()
        self._ended = clock.signal()
        self._task = clock.spawn(self._run, f"{name}-control")

    @property
    def ended(self) -> bool:
        """Whether nothing is commanded any more."""
        return self._ended.is_set()

    def end(self, patience_wall_s: float) -> None:
        """Command nothing any more, and wait for the thread."""
        self._ended.set()
        self._wake.set()
        self._task.join(patience_wall_s * finite_rate(self._clock))

    def go(self, mode: Mode) -> None:
        """Enter a mode, or the same anew (``changed`` is held)."""
        self.mode = mode
        self.since_s = self._clock.now_s()
        if mode not in ON:
            self._judge.begin()
            self._silent_since = None
        self.changed.notify_all()
        self._wake.set()

    def forgive(self) -> None:
        """Unlatch the fault of an output that is off; raises InstrumentError while its cause persists."""
        with self._device:
            self._actuator.examine()
        with self.changed:
            self.fault = ""
            self.latest = None
        self._wake.set()

    def _run(self) -> None:
        due = self._clock.now_s()
        while not self._ended.is_set():
            self._wake.clear()
            mode = self.mode
            wait_s = self._turn(mode)
            now = self._clock.now_s()
            if self.mode is not mode:
                due = now
                continue
            # turns keep the beat, but a late one does not hurry those after it
            due = max(due + wait_s, now) if mode in ON else now + wait_s
            self._wake.wait(due - now)

    def _turn(self, mode: Mode) -> float:
        """Do what the mode asks for; clock seconds until the next turn."""
        try:
            with self._device:
                if self.mode is mode and not self._ended.is_set():
                    self._act(mode)
        except Unwanted as error:
            logger.info("%s: %s", self._name, error)
        except Trip as trip:
            self._trip(str(trip))
        except HotstageError as error:
            return self._silent(mode, error)
        except Exception as error:
            logger.exception("%s: the control task met an error of its own", self._name)
            self._trip(f"the control task failed: {error!r}.")
        return self._settings.period_s if mode in ON else IDLE_S

    def _act(self, mode: Mode) -> None:
        if mode is Mode.OFF:
            self._took(self._actuator.idle(measure=not self.fault))
        elif mode is Mode.STARTING:
            measured = self._actuator.begin(lambda: self.mode is Mode.STARTING)
            with self.changed:
                if self.mode is Mode.STARTING:
                    now = self._clock.now_s()
                    self.program = self.program.begun(now, measured.celsius)
                    self.mode = Mode.DRIVING
            self._took(measured)
        elif mode in ON:
            measured = self._actuator.regulate(self._setpoint_from(self.latest))
            program = self.program
            self._judge.look(measured, program.setpoint(measured.t_s))
            self._took(measured)
            if mode is Mode.COOLING and not program.moving(measured.t_s):
                self._end_of_cooling()
        else:
            self._actuator.off()
            with self.changed:
                self.lost = ""
                self.go(Mode.OFF)

    def _setpoint_from(self, heard: Measurement | None) -> Callable[[float], float]:
        """The setpoint as a function of time; time in which the device was not heard is left out of it."""
        looked = False

        def setpoint(t_s: float) -> float:
            nonlocal looked
            if not looked and heard is not None and t_s - heard.t_s > self._silence_s():
                with self.changed:
                    self.program = self.program.paused(heard.t_s, t_s)
                logger.warning("%s was not heard for %.3g s", self._name, t_s - heard.t_s)
            if not looked and heard is not None:
                gap_s = min(t_s - heard.t_s, SILENCE_TURNS * self._usual_s)
                self._usual_s += 0.2 * (gap_s - self._usual_s)
            looked = True
            return self.program.setpoint(t_s)

        return setpoint

    def _silence_s(self) -> float:
        return max(
            10 * self._settings.period_s,
            SILENCE_TURNS * self._usual_s,
            SILENCE_WALL_S * finite_rate(self._clock),
        )

    def _took(self, measured: Measurement) -> None:
        with self.changed:
            self.latest = measured
            self.lost = ""
            self._silent_since = None
            self._retry_s = FIRST_RETRY_WALL_S
            self.changed.notify_all()

    def _end_of_cooling(self) -> None:
        with self.changed:
            if self.mode is Mode.COOLING and not self.program.moving(self._clock.now_s()):
                self.go(Mode.STOPPING)

    def _trip(self, cause: str) -> None:
        with self.changed:
            if not self.fault:
                self.fault = cause
                logger.error("%s tripped: %s", self._name, cause)
            self.go(Mode.STOPPING)

    def _silent(self, mode: Mode, error: HotstageError) -> float:
        """The device did not answer; clock seconds until it is asked again."""
        if mode is Mode.STARTING:
            self._trip(f"the output could not be switched on under control: {error}")
            return 0.0
        if mode in ON:
            return self._unheard(error)
        with self.changed:
            if not self.lost:
                logger.warning("%s: %s", self._name, error)
            self.lost = str(error)
            self.changed.notify_all()
        self._retry_s = min(LONGEST_RETRY_WALL_S, 2 * self._retry_s)
        return self._retry_s * finite_rate(self._clock)

    def _unheard(self, error: HotstageError) -> float:
        now = time.monotonic()
        with self.changed:
            if self._silent_since is None:
                self._silent_since = now
                logger.warning("%s: a reading failed while the output is on: %s", self._name, error)
            if now - self._silent_since < self._settings.patience_s:
                return FIRST_RETRY_WALL_S * finite_rate(self._clock)
        self._trip(f"readings fail while the output is on: {error}")
        return 0.0
