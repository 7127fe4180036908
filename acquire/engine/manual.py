"""Control by hand while no run is on: temperature, beam, live view, scan shift.

Whoever has the instruments in hand gives a sign of life all the time; without it for :data:`TTL_S`
everything is made safe, as at every other end. The instrument server does the same when this process
dies, since control is its lease; the safe state is: heater off at once, beam blanked.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from acquire.engine.core import Engine
from acquire.engine.insisting import insist
from acquire.engine.manual_beam import HandBeam
from acquire.engine.manual_heat import HandHeat
from acquire.engine.station_view import ManualView
from acquire.errors import HotstageError, InstrumentError, LeaseError, LinkError
from acquire.instruments import HolderReading, RampRequest, SafeState, ScanExposure

logger = logging.getLogger(__name__)

TTL_S = 3.0
TICK_S = 0.2
IDLE_S = 1.0
"""Wall seconds after which control is given back when nothing is on by hand any more."""
COMMANDER = "hotstage by hand"
BEAM_IN_DOUBT = "the beam is to be blanked and may be on"
EMERGENCY = "emergency off"
"""What the server says of control that it took away because heater off was pressed."""


class Manual:
    """The instruments in somebody's hand; any thread may call.

    Args:
        engine: whose station it commands, and whose log it writes to.
        busy: why nothing may be done by hand now; empty if it may.
        reading: the newest reading of the holder, looked at while the temperature moves.
    """

    def __init__(
        self,
        engine: Engine,
        busy: Callable[[], str],
        reading: Callable[[], HolderReading | None],
    ) -> None:
        self._engine = engine
        self._station = engine.station
        self._busy = busy
        self._reading = reading
        self._lock = threading.RLock()
        self._of = ""
        self._offs = self._offs_before = 0
        """How often all was switched off at once: by now, and when the present command came."""
        self._beat_s = self._used_s = -math.inf
        self._heat = HandHeat(engine, self._note)
        self._beam = HandBeam(engine, self._note)
        self._trouble = self._doubt = ""
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="manual", daemon=True).start()

    # ------------------------------------------------------------------------- what is on

    @property
    def of(self) -> str:
        """Who has the instruments in hand; empty if nobody."""
        return self._of

    @property
    def beam_on(self) -> bool:
        """Whether the beam is on by hand."""
        return self._beam.on

    def show(self) -> ManualView:
        """What is on by hand."""
        beam = self._beam
        return ManualView(
            of=self._of,
            heat=self._heat.words,
            beam_left_s=beam.left_s,
            view_left_s=beam.view_left_s,
            view_frames=beam.view_frames,
            sharpness=beam.sharpness,
            dose_e_per_nm2=self._engine.by_hand.dose_e_per_nm2,
            trouble=self._doubt or self._trouble or beam.trouble,
        )

    # -------------------------------------------------------------------------- commands

    def keep(self, who: str) -> bool:
        """Sign of life of whoever has the instruments in hand; False for anybody else."""
        if who and who == self._of:
            self._beat_s = time.monotonic()
            return True
        return False

    def heat(self, who: str, target_celsius: float, rate_celsius_per_s: float) -> None:
        """Ramp to a temperature and hold it.

        Raises:
            LimitError: beyond a limit of the device or the station; nothing was moved.
            FaultError, LeaseError, LinkError, HotstageError: it cannot be done now.
        """
        request = RampRequest(target_celsius, rate_celsius_per_s)
        with self._commanding(who):
            self._station.holder.check(request)
            with self._in_hand(who):
                self._heat.ramp(request)

    def cool(self, who: str, rate_celsius_per_s: float) -> None:
        """Ramp down as far as the heater goes, then switch it off; raises as :meth:`heat`."""
        with self._commanding(who):
            request = self._heat.cooling(rate_celsius_per_s)
            if request is None:
                self._station.holder.make_safe("cooled by hand")
                return
            with self._in_hand(who):
                self._heat.cool(request)

    def hold(self, who: str) -> None:
        """Freeze the temperature where it is; raises as :meth:`heat`."""
        with self._commanding(who):
            if not self._heat.words:
                raise InstrumentError("nothing is heated by hand, so there is nothing to hold.")
            with self._in_hand(who):
                self._heat.hold()

    def rest_beam(self, who: str, for_s: float, x_nm: float, y_nm: float) -> None:
        """Let the probe rest on a point with the beam on for a while.

        Args:
            who: whose hand it is.
            for_s: wall seconds after which it is blanked by itself.
            x_nm: to the right of the scan's centre.
            y_nm: downwards.

        Raises:
            LimitError: too long, or outside the scan; the beam was not touched.
            HotstageError: it cannot be done now.
        """
        with self._commanding(who):
            self._beam.check_rest(for_s)
            with self._in_hand(who):
                self._beam.rest(for_s, x_nm, y_nm)

    def blank_beam(self, who: str) -> None:
        """Blank the beam and end the live view, at once."""
        with self._commanding(who):
            self._beam.end()
            self._station.scan.blank(True)
            self._note("beam blanked")

    def view(self, who: str, exposure: ScanExposure, frames: int, for_s: float) -> None:
        """Take images that are shown and not stored.

        Args:
            who: whose hand it is.
            exposure: of each of them.
            frames: how many; 0 until it is stopped or the time is up.
            for_s: wall seconds after which it ends by itself.

        Raises:
            LimitError, RecipeError: the scan refuses the exposure; the beam was not touched.
            HotstageError: it cannot be done now.
        """
        with self._commanding(who):
            self._beam.check_view(exposure, for_s)
            with self._in_hand(who):
                self._beam.view(exposure, frames, for_s)

    def shift(self, who: str, dx_nm: float, dy_nm: float) -> None:
        """Move the field of view over the specimen by a scan shift; raises LimitError, HotstageError."""
        with self._commanding(who), self._in_hand(who):
            try:
                self._station.scan.shift(dx_nm, dy_nm)
            except LinkError:
                self._engine.by_hand.lost_place()
                raise
            self._engine.by_hand.shifted(dx_nm, dy_nm)
            self._note(f"scan shifted by ({dx_nm:.4g}, {dy_nm:.4g}) nm")

    def clear_fault(self) -> None:
        """Unlatch a heater fault while no run is on; raises FaultError while its cause persists."""
        with self._lock:
            if reason := self._busy():
                raise HotstageError(reason)
            if not self._of:
                self._station.control.take(COMMANDER)
            try:
                self._station.holder.clear_fault()
            finally:
                if not self._of:
                    self._station.control.release()
            self._trouble = ""
            self._note("heater fault cleared")

    def end(self, reason: str, who: str = "") -> None:
        """Make everything safe that is on by hand, and give control back; idempotent.

        Raises:
            LeaseError: ``who`` is given, and somebody else has it.
        """
        with self._lock:
            if self._of:
                self._refuse_others(who or self._of)
                self._leave(reason)

    def switched_off(self) -> None:
        """All was made safe at once, by whatever way: nothing under way may undo it; never waits."""
        self._offs += 1
        self._heat.switched_off()
        self._beam.cut()

    def close(self) -> None:
        """Make safe and stop watching."""
        self._stop.set()
        self.end("the engine host ends")

    # --------------------------------------------------------------------------- helpers

    @contextmanager
    def _commanding(self, who: str) -> Iterator[None]:
        """Context of a command: one at a time, refused where it must be."""
        offs = self._offs
        with self._lock:
            self._offs_before = offs
            if reason := self._busy():
                raise HotstageError(reason)
            if not who:
                raise HotstageError("whoever commands by hand must say who they are.")
            self._refuse_others(who)
            yield

    def _refuse_others(self, who: str) -> None:
        if self._of and who != self._of:
            raise LeaseError(
                f"{self._of} has the instruments in hand. End it there, or wait until it has ended."
            )

    @contextmanager
    def _in_hand(self, who: str) -> Iterator[None]:
        """Context with control of the instruments; given back if it fails and nothing is on."""
        self._take(who)
        try:
            yield
        except HotstageError as error:
            if self._of and not self._heat.words and not self._beam.on:
                self._leave(f"refused: {error}")
            raise
        if self._offs != self._offs_before:
            self._leave("heater off was pressed meanwhile")
            raise InstrumentError("heater off was pressed meanwhile; all is off.")

    def _take(self, who: str) -> None:
        self._beat_s = self._used_s = time.monotonic()
        if self._of:
            if problem := self._station.control.problem():
                self._lose(problem)
                raise LeaseError(
                    f"control by hand was lost: {problem}. Nothing was moved; try again."
                )
            return
        self._station.control.take(COMMANDER)
        self._of, self._trouble = who, ""
        self._note(f"{who} has the instruments in hand")
        try:
            self._station.holder.arm_safe_state(SafeState())
        except HotstageError as error:
            self._leave(f"refused: {error}")
            raise

    def _leave(self, reason: str) -> None:
        """Heater first, then beam, then control (lock held)."""
        parts: tuple[Callable[[], None], ...] = (
            partial(self._station.holder.make_safe, reason),
            partial(self._station.scan.blank, True),
            self._heat.switched_off,
            self._beam.end,
            partial(self._station.make_safe, reason),
        )
        for make_safe in parts:
            try:
                make_safe()
            except Exception as error:
                logger.exception("while control by hand was given back")
                self._trouble = f"it is not known whether all is safe: {error}"
        self._note(f"{self._of} has nothing in hand any more: {reason}")
        self._of = ""
        self._station.control.release()

    def _lose(self, problem: str) -> None:
        """Control is gone, whereupon the server has made everything safe (lock held)."""
        if EMERGENCY in problem:  # somebody meant it
            self._leave("heater off was pressed")
            return
        self._trouble = f"control by hand was lost: {problem}"
        self._leave(problem)

    def _watch(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                with self._lock:
                    if self._of:
                        self._tick()
                    elif self._beam.on and self._busy():
                        self._beam.forget()  # it is the run's now
                    elif self._beam.on or self._doubt:
                        self._doubt = insist((self._beam.tick, BEAM_IN_DOUBT))
            except Exception:
                logger.exception("while control by hand was watched")

    def _tick(self) -> None:
        now_s = time.monotonic()
        if problem := self._station.control.problem():
            self._lose(problem)
            return
        if now_s - self._beat_s > TTL_S:
            self._trouble = f"{self._of} gave no sign of life for {TTL_S:g} s; all was made safe"
            self._leave(f"no sign of life for {TTL_S:g} s")
            return
        self._doubt = insist(
            (self._look_after_heat, "the heater is to be switched off and may be on"),
            (self._beam.tick, BEAM_IN_DOUBT),
        )
        if self._heat.words or self._beam.on:
            self._used_s = now_s
        elif now_s - self._used_s > IDLE_S:
            self._leave("nothing is on")

    def _look_after_heat(self) -> None:
        if fault := self._heat.look(self._reading()):
            self._trouble = f"the heater tripped: {fault}"
            self._note(self._trouble)

    def _note(self, text: str) -> None:
        run = self._engine.run_context
        t_s = self._station.clock.now_s() - (0.0 if run is None else run.zero_s)
        logger.info("by hand: %s", text)
        self._engine.live.put_note(t_s, "by hand", text)
