"""The part of an engine host's service that looks after the station: instruments, control by hand."""

from __future__ import annotations

import math
from dataclasses import replace

from acquire.engine.core import Engine
from acquire.engine.manual import Manual
from acquire.engine.station_view import StationView
from acquire.engine.station_watch import StationWatch
from acquire.engine.status import EngineStatus
from acquire.instruments import ScanExposure

METHODS = (
    "instruments",
    "manual_keep",
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
WHO_LENGTH = 80


class HandService:
    """Serves the calls of HostApi that need no run; see there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._watch = StationWatch(engine)
        self._manual = Manual(engine, self._busy, lambda: self._watch.reading)

    def _busy(self) -> str:
        """Why nothing may be done by hand now; empty if it may."""
        return A_RUN_IS_ON if self._engine.state.active else ""

    def instruments(self) -> StationView:
        """See HostApi.instruments."""
        return self._watch.view(self._manual.show())

    def manual_keep(self, who: str) -> bool:
        """See HostApi.manual_keep."""
        return self._manual.keep(_plain(who))

    def manual_end(self, who: str) -> None:
        """See HostApi.manual_end."""
        self._manual.end("ended by hand", _plain(who))

    def manual_heat(self, who: str, target_celsius: float, rate_celsius_per_s: float) -> None:
        """See HostApi.manual_heat."""
        self._manual.heat(_plain(who), target_celsius, rate_celsius_per_s)

    def manual_cool(self, who: str, rate_celsius_per_s: float) -> None:
        """See HostApi.manual_cool."""
        self._manual.cool(_plain(who), rate_celsius_per_s)

    def manual_hold(self, who: str) -> None:
        """See HostApi.manual_hold."""
        self._manual.hold(_plain(who))

    def manual_beam(self, who: str, for_s: float, x_nm: float, y_nm: float) -> None:
        """See HostApi.manual_beam."""
        self._manual.rest_beam(_plain(who), for_s, x_nm, y_nm)

    def manual_blank(self, who: str) -> None:
        """See HostApi.manual_blank."""
        self._manual.blank_beam(_plain(who))

    def manual_view(self, who: str, exposure: ScanExposure, frames: int, for_s: float) -> None:
        """See HostApi.manual_view."""
        self._manual.view(_plain(who), exposure, frames, for_s)

    def manual_shift(self, who: str, dx_nm: float, dy_nm: float) -> None:
        """See HostApi.manual_shift."""
        self._manual.shift(_plain(who), dx_nm, dy_nm)

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


def _plain(who: str) -> str:
    """What somebody calls themselves, fit for one line of a log."""
    return "".join(sign if sign.isprintable() else " " for sign in who[:WHO_LENGTH]).strip()
