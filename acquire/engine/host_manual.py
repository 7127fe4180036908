"""The part of an engine host's service that looks after the station: who is in control, instruments, by hand."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

from acquire.engine.clients import plain_name
from acquire.engine.core import Engine
from acquire.engine.helm import Helm
from acquire.engine.host_looks import LookService
from acquire.engine.manual import Manual
from acquire.engine.station_view import StationView
from acquire.engine.station_watch import StationWatch
from acquire.engine.status import EngineStatus
from acquire.errors import HotstageError
from acquire.instruments import ScanExposure
from acquire.remote.daemon import LOCAL, current_connection, current_peer

logger = logging.getLogger(__name__)

METHODS = (
    "instruments",
    "attend",
    "take_control",
    "give_control",
    "manual_end",
    "manual_heat",
    "manual_cool",
    "manual_hold",
    "manual_beam",
    "manual_blank",
    "manual_view",
    "manual_shift",
)
OBSERVERS = ("instruments",)
A_RUN_IS_ON = "a run is going on: abort it, or let it end, before anything is done by hand."


class HandService(LookService):
    """Serves the calls of HostApi that need no run; see there."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._watch = StationWatch(engine)
        self._manual = Manual(engine, self._busy, lambda: self._watch.reading)
        self._helm = Helm(self._manual.end, self._note_control)

    def _busy(self) -> str:
        """Why nothing may be done by hand now; empty if it may."""
        return A_RUN_IS_ON if self._engine.state.active else ""

    def instruments(self) -> StationView:
        """See HostApi.instruments."""
        return replace(self._watch.view(self._manual.show()), driven_by=self._helm.name)

    # --------------------------------------------------------------------------- control

    def attend(self, who: str) -> bool:
        """See HostApi.attend."""
        name = named(who)
        self._manual.keep(name)
        return self._helm.attend(name, current_connection())

    def take_control(self, who: str) -> None:
        """See HostApi.take_control."""
        self._helm.take(named(who))

    def give_control(self, who: str) -> None:
        """See HostApi.give_control."""
        self._helm.give(named(who))

    def disconnected(self, connection: int) -> None:
        """A connection of a client has ended."""
        self._helm.gone(connection)

    def _note_control(self, words: str) -> None:
        """For the journal of the run, if one is on, and every window's log."""
        logger.info("%s", words)
        run = self._engine.run_context
        if run is not None and self._engine.state.active:
            try:
                run.note("control", words)
            except HotstageError as error:
                logger.warning("not in the journal: %s (%s)", words, error)
            return
        t_s = self._engine.station.clock.now_s() - (0.0 if run is None else run.zero_s)
        self._engine.live.put_note(t_s, "control", words)

    # --------------------------------------------------------------------------- by hand

    def manual_end(self, who: str) -> None:
        """See HostApi.manual_end."""
        self._manual.end(f"ended by {named(who)}")

    def manual_heat(self, who: str, target_celsius: float, rate_celsius_per_s: float) -> None:
        """See HostApi.manual_heat."""
        with self._helm.commanding(name := named(who)):
            self._manual.heat(name, target_celsius, rate_celsius_per_s)

    def manual_cool(self, who: str, rate_celsius_per_s: float) -> None:
        """See HostApi.manual_cool."""
        with self._helm.commanding(name := named(who)):
            self._manual.cool(name, rate_celsius_per_s)

    def manual_hold(self, who: str) -> None:
        """See HostApi.manual_hold."""
        self._manual.hold(self._safely(who, "temperature held"))

    def manual_beam(self, who: str, for_s: float, x_nm: float, y_nm: float) -> None:
        """See HostApi.manual_beam."""
        with self._helm.commanding(name := named(who)):
            self._manual.rest_beam(name, for_s, x_nm, y_nm)

    def manual_blank(self, who: str) -> None:
        """See HostApi.manual_blank."""
        self._manual.blank_beam(self._safely(who, "beam blanked"))

    def _safely(self, who: str, words: str) -> str:
        """Whose hand does what everybody may; it is noted who wanted it."""
        of, name = self._manual.of, named(who)
        if of and of != name:
            self._note_control(f"{words} by {name}")
        return of or name

    def manual_view(self, who: str, exposure: ScanExposure, frames: int, for_s: float) -> None:
        """See HostApi.manual_view."""
        with self._helm.commanding(name := named(who)):
            self._manual.view(name, exposure, frames, for_s)

    def manual_shift(self, who: str, dx_nm: float, dy_nm: float) -> None:
        """See HostApi.manual_shift."""
        with self._helm.commanding(name := named(who)):
            self._manual.shift(name, dx_nm, dy_nm)

    def _with_station(self, status: EngineStatus) -> EngineStatus:
        """A status with what is known of the station beside the run."""
        watch, manual = self._watch, self._manual
        status = replace(
            status,
            server=watch.server_trouble,
            commander=watch.commander,
            asked_by=watch.asked_by,
            by_hand=manual.show().words,
            by_hand_of=manual.of,
            beam_known=watch.scan_answers,
            driven_by=self._helm.name,
            attended=self._helm.attended,
        )
        if status.state.active:
            return status
        return self._at_rest(status)

    def _at_rest(self, status: EngineStatus) -> EngineStatus:
        """A status without a run: holder and beam are what the watch sees of them."""
        watch = self._watch
        blanked = watch.blanked()
        beam_on = self._manual.beam_on or blanked is False
        # right after a run nobody has asked yet: the run has blanked it
        told = blanked is not None or self._engine.run_context is not None
        status = replace(
            status,
            blanked=not beam_on,
            beam_known=status.beam_known and told,
            planned_celsius=math.nan,
        )
        reading = watch.reading
        if reading is None:
            return status
        age_s = self._engine.station.clock.now_s() - reading.t_s
        return replace(
            status,
            measured_celsius=reading.measured_celsius,
            setpoint_celsius=reading.setpoint_celsius,
            reading_t_s=status.t_s - age_s,
            holder_state=reading.state.value,
            fault=reading.fault,
        )


def named(who: str) -> str:
    """A client's name, and that on its certificate if it showed one."""
    peer = current_peer()
    return plain_name(who, "" if peer is LOCAL else peer.name)
