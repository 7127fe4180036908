"""Keeps an eye on a station's instruments and its server, so that who looks at them never waits for one."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from acquire.engine.channels import units_of
from acquire.engine.core import Engine
from acquire.engine.station_view import (
    InstrumentView,
    LinkState,
    ManualView,
    ReadingView,
    StationView,
)
from acquire.errors import HotstageError, LinkError
from acquire.instruments import Channel, Description, HolderReading, HolderState
from acquire.remote import Link
from acquire.remote.catalogue import kind_of
from acquire.remote.server import OBJECT_ID
from acquire.remote.tls import identity_of
from acquire.station import LocalControl

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
"""Wall seconds between two looks at an instrument while no run is on."""
BUSY_LOOK_EVERY_S = 2.0
"""The same during a run, which reads by itself what it needs: they are only asked who they are."""
SERVER_EVERY_S = 0.2
SERVER_WITHIN_S = 0.5
SILENT_S = 0.7
"""A server that answered nothing for so long counts as lost."""
HANGS_S = 2.0
"""So does an instrument that has not answered a question for so long."""
DESCRIBE_EVERY_S = 10.0
_ASK_AGAIN = (
    "It is asked again all the time. Look at its power, its cable and its own screen; the server's log "
    "says more."
)
_MENDS = {
    LinkState.LOST: _ASK_AGAIN,
    LinkState.FAULT: "Find the cause first. When it is gone, hold 'Clear fault' at the top of the window.",
    LinkState.MAKING_SAFE: "Wait: it obeys again when its heater is off.",
}
_SERVER_MEND = (
    "The heater is made safe without it: by the server when it misses us, by its supervisor when it is "
    "dead. Switch the heater off at its control unit if in doubt. Close this window, wait half a minute, "
    "and open it anew for a new server."
)


@dataclass
class _Watched:
    """What is known of one instrument; written by its own thread only."""

    role: str
    kind: str
    ask: Callable[[], None] = lambda: None
    description: Description | None = None
    described_s: float = -math.inf
    readings: tuple[ReadingView, ...] = ()
    facts: Mapping[str, str | float] = field(default_factory=dict)
    holder: HolderReading | None = None
    trouble: str = ""
    lost: bool = False
    answered_s: float = -math.inf
    asked_s: float = math.nan
    """When the question under way was asked; NaN while there is none."""


class StationWatch:
    """One thread for every instrument and one for the server; closing leaves behind those that hang."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._station = engine.station
        self._stop = threading.Event()
        self._about: Mapping[str, Any] = {}
        self._watched = {role: self._watch_of(role) for role in self._station.instruments}
        self._server: _Watched | None = None
        if self._station.address:
            identity = identity_of(self._station.station)
            self._link = Link(self._station.address, OBJECT_ID, SERVER_WITHIN_S, identity=identity)
            self._server = _Watched("server", "server", self._ask_server)
        for watched in self._all():
            every_s = SERVER_EVERY_S if watched is self._server else LOOK_EVERY_S
            threading.Thread(
                target=partial(self._loop, watched, every_s),
                name=f"watch-{watched.role}",
                daemon=True,
            ).start()

    def close(self) -> None:
        """Look no more; returns at once."""
        self._stop.set()
        if self._server is not None:
            self._link.close()

    # ------------------------------------------------------------------------- what is known

    @property
    def server_trouble(self) -> str:
        """What is wrong with the instrument server; empty if it answers, or if there is none."""
        server = self._server
        if server is None or (not server.trouble and server.answered_s == -math.inf):
            return ""
        if server.trouble:
            return server.trouble
        silent_s = time.monotonic() - server.answered_s
        return f"it has not answered for {silent_s:.1f} s" if silent_s > SILENT_S else ""

    @property
    def commander(self) -> str:
        """Who has control, as the server tells; empty if nobody has."""
        return str(self._about.get("commander", ""))

    @property
    def asked_by(self) -> str:
        """Who asks for control; empty if nobody does."""
        return str(self._about.get("asked_by", ""))

    @property
    def reading(self) -> HolderReading | None:
        """The newest reading of the holder, its time on the station's clock; None before the first."""
        # right after a run that of the run is newer
        found = (self._watched["holder"].holder, self._engine.reading)
        return max((it for it in found if it is not None), key=lambda it: it.t_s, default=None)

    def blanked(self) -> bool | None:
        """Whether the beam is blanked, as the scan told last; None before that."""
        for reading in self._watched["scan"].readings:
            if reading.name == "beam":
                return reading.word == "blanked"
        return None

    @property
    def scan_answers(self) -> bool:
        """Whether what is known of the beam can be taken for the present."""
        state, _ = self._state_of(self._watched["scan"], time.monotonic())
        return state not in (LinkState.LOST, LinkState.FAULT)

    def view(self, manual: ManualView) -> StationView:
        """All that is known of the station."""
        station = self._station.station
        return StationView(
            station.name,
            station.file.description,
            station.source,
            tuple(self._view_of(watched) for watched in self._all()),
            manual,
        )

    def _all(self) -> list[_Watched]:
        server = [] if self._server is None else [self._server]
        return [*server, *self._watched.values()]

    def _view_of(self, watched: _Watched) -> InstrumentView:
        now_s = time.monotonic()
        age_s = now_s - watched.answered_s
        if watched.holder is not None:  # of a run: that it was asked for does not make it new
            clock = self._station.clock
            age_s = max(age_s, (clock.now_s() - watched.holder.t_s) / clock.rate)
        state, trouble = self._state_of(watched, now_s)
        mend = _SERVER_MEND if watched.kind == "server" else _MENDS.get(state, "")
        told = watched.description or Description("", "", "")
        return InstrumentView(
            role=watched.role,
            kind=watched.kind,
            link=state,
            trouble=trouble,
            mend=mend if state in _MENDS else "",
            age_s=age_s,
            model=told.model,
            driver=told.driver,
            serial=told.serial,
            simulated=told.simulated,
            limits=told.limits,
            detectors=told.detectors,
            facts=watched.facts or told.details,
            readings=watched.readings,
        )

    def _state_of(self, watched: _Watched, now_s: float) -> tuple[LinkState, str]:
        if watched is self._server:
            trouble = self.server_trouble
            state = LinkState.LOST if trouble else LinkState.CONNECTED
            return (state, trouble) if watched.answered_s > -math.inf else (LinkState.UNKNOWN, "")
        run = self._engine.run_context
        if run is not None and self._engine.state.active and watched.role in run.lost:
            return LinkState.LOST, run.lost[watched.role]
        if now_s - watched.asked_s > HANGS_S:
            silent_s = now_s - watched.asked_s
            return LinkState.LOST, f"it has not answered for {silent_s:.0f} s"
        if watched.trouble:
            return (LinkState.LOST if watched.lost else LinkState.FAULT), watched.trouble
        reading = watched.holder
        if reading is not None and reading.state is HolderState.TRIPPED:
            return LinkState.FAULT, reading.fault or "the heater is tripped"
        if reading is not None and reading.state is HolderState.MAKING_SAFE:
            return LinkState.MAKING_SAFE, reading.fault
        known = watched.answered_s > -math.inf
        return (LinkState.CONNECTED if known else LinkState.UNKNOWN), ""

    # ----------------------------------------------------------------------------- looking

    def _watch_of(self, role: str) -> _Watched:
        watched = _Watched(role, kind_of(role))
        asks = {"holder": self._ask_holder, "scan": self._ask_scan, "channel": self._ask_channel}
        ask = asks.get(watched.kind)
        if ask is not None:
            watched.ask = partial(ask, watched)
        return watched

    def _loop(self, watched: _Watched, every_s: float) -> None:
        while not self._stop.is_set():
            self._look(watched)
            busy = watched is not self._server and self._engine.state.active
            if self._stop.wait(BUSY_LOOK_EVERY_S if busy else every_s):
                return

    def _look(self, watched: _Watched) -> None:
        watched.asked_s = time.monotonic()
        try:
            due_s = watched.described_s + (
                0.0 if self._engine.state.active or watched.trouble else DESCRIBE_EVERY_S
            )
            if watched is not self._server and watched.asked_s >= due_s:
                instrument = self._station.instruments[watched.role]
                watched.description = instrument.describe()
                watched.described_s = watched.asked_s
            watched.ask()
        except Exception as error:  # whatever a driver raises, the watch goes on
            if not isinstance(error, HotstageError):
                logger.warning("%s cannot be looked at", watched.role, exc_info=error)
            # a question that got no answer in time is no loss yet: how long it is silent counts
            if watched is not self._server or "did not answer" not in str(error):
                watched.lost = isinstance(error, LinkError)
                watched.trouble = str(error) or type(error).__name__
        else:
            watched.trouble, watched.lost = "", False
            watched.answered_s = time.monotonic()
        finally:
            watched.asked_s = math.nan

    def _ask_server(self) -> None:
        server = self._server
        assert server is not None
        self._about = self._link.call("about")
        control = "this engine" if self._holds() else self.commander or "nobody"
        server.readings = (ReadingView("control", word=control),)
        if self.asked_by:
            server.readings += (ReadingView("asked for by", word=self.asked_by),)
        server.facts = {
            "address": self._station.address,
            "process": str(self._about.get("pid", "")),
            "clock": f"{self._station.clock.rate:g} × the wall's",
        }

    def _holds(self) -> bool:
        control = self._station.control
        return not isinstance(control, LocalControl) and not control.problem()

    def _ask_holder(self, watched: _Watched) -> None:
        active = self._engine.state.active
        reading = self._engine.reading if active else self._station.holder.read()
        if reading is None:
            return
        watched.holder = reading
        watched.readings = (
            ReadingView("heater", word=reading.state.value.replace("_", " ")),
            ReadingView("measured", reading.measured_celsius, "°C"),
            ReadingView("set", reading.setpoint_celsius, "°C"),
            ReadingView("power", reading.power_mw, "mW"),
            ReadingView("resistance", reading.resistance_ohm, "Ω"),
        )

    def _ask_scan(self, watched: _Watched) -> None:
        if not self._engine.state.active:  # a run knows what it did with the beam
            blanked = self._station.scan.blanked()
            watched.readings = (ReadingView("beam", word="blanked" if blanked else "on"),)
        else:
            watched.readings = ()

    def _ask_channel(self, watched: _Watched) -> None:
        run = self._engine.run_context
        channel = self._station.instruments[watched.role]
        assert isinstance(channel, Channel)
        records = {} if run is None or not self._engine.state.active else run.recipe.channels
        recorded = next((key for key, entry in records.items() if entry.name == watched.role), None)
        units = {} if watched.description is None else units_of(watched.description)
        if recorded is None:
            values: Mapping[str, float] = channel.read()
        else:
            assert run is not None
            estimates = [dict(estimate.values) for estimate in list(run.estimates.values())]
            values = {
                name.removeprefix(f"{recorded}."): value.value
                for found in estimates
                for name, value in found.items()
                if name.startswith(f"{recorded}.")
            }
        watched.readings = tuple(
            ReadingView(name, float(value), units.get(name, "")) for name, value in values.items()
        )
