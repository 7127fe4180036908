"""Reaches an engine host from a window or a script, and starts one that outlives them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from acquire.engine.attending import Attending
from acquire.engine.checked import CheckReport
from acquire.engine.clients import client_name
from acquire.engine.live_maps import LiveMap
from acquire.engine.station_view import ContinuationView, StationView
from acquire.engine.status import (
    HOST_OBJECT_ID,
    EngineStatus,
    LiveImage,
    LiveNote,
    LiveSeries,
    LiveSpectrum,
    PlanView,
)
from acquire.errors import LinkError
from acquire.instruments import AnyArray, ScanExposure
from acquire.remote import Link
from acquire.remote.wire import unpack, unpack_arrays

logger = logging.getLogger(__name__)

START_S = 30.0
CHECK_S = 330.0
"""A run is checked before it starts; the check gives up before this."""
HAND_S = 15.0
LINGER_S = 30.0
_detached: list[subprocess.Popen[bytes]] = []
"""Hosts that outlive us: kept, so that nobody takes them for forgotten."""


class HostClient:
    """An engine host's :class:`acquire.engine.status.HostApi`, over its wire; any thread may call.

    The first command takes control, in the name of this program; a thread keeps it, as long as nobody
    takes it away. Who passes another name with commands calls :meth:`attend` themselves.

    Raises, from every method: LinkError when the host does not answer, and what the host raises.
    """

    def __init__(self, address: str, timeout_s: float = 3.0) -> None:
        self.address = address
        self.who = client_name("script")
        """Who commands where a call names nobody; control is kept until :meth:`close`."""
        self._attending = Attending(self.attend)
        self._link = Link(
            address,
            HOST_OBJECT_ID,
            timeout_s,
            mend="Is the engine host running? Start it with `hotstage host STATION`.",
        )

    def close(self) -> None:
        """End all connections, and control with them; the host and its run go on."""
        self._attending.end()
        self._link.close()

    def status(self) -> EngineStatus:
        """See HostApi.status."""
        found: EngineStatus = unpack(EngineStatus, self._link.call("status"))
        return found

    def plan(self) -> PlanView:
        """See HostApi.plan."""
        found: PlanView = unpack(PlanView, self._link.call("plan"))
        return found

    def image(self, stream: str, after: int = -1, wait_s: float = 0.0) -> LiveImage | None:
        """See HostApi.image."""
        head, groups = self._arrays("image", stream, after, float(wait_s))
        if head is None:
            return None
        return LiveImage(
            **head,
            detectors=groups.get("detectors", {}),
            particles=groups.get("particles", {}),
        )

    def spectrum(self, after: int = -1, wait_s: float = 0.0) -> LiveSpectrum | None:
        """See HostApi.spectrum."""
        head, groups = self._arrays("spectrum", after, float(wait_s))
        if head is None:
            return None
        return LiveSpectrum(
            **head, counts=groups.get("counts", {}), energy_ev=groups.get("energy_ev", {})
        )

    def map(self, stream: str = "", after: int = -1, wait_s: float = 0.0) -> LiveMap | None:
        """See HostApi.map."""
        head, groups = self._arrays("map", stream, after, float(wait_s))
        if head is None:
            return None
        head |= {key: tuple(head[key]) for key in ("first_nm", "spacing_nm", "streams")}
        return LiveMap(**head, taken=groups["own"]["taken"], values=groups.get("values", {}))

    def series(self, cursor: tuple[int, int, int] = (0, 0, 0)) -> LiveSeries:
        """See HostApi.series."""
        head, groups = self._arrays("series", cursor)
        if head is None:
            raise LinkError(f"the engine host at {self.address} sent no series.")
        return LiveSeries(
            cursor=unpack(tuple[int, int, int], head["cursor"]),
            run=unpack(int, head["run"]),
            notes=unpack(tuple[LiveNote, ...], head["notes"]),
            estimates=groups.get("estimates", {}),
            **groups["own"],
        )

    def check(self, recipe_yaml: str) -> CheckReport:
        """See HostApi.check."""
        found = self._link.call("check", recipe_yaml, timeout_s=CHECK_S)
        report: CheckReport = unpack(CheckReport, found)
        return report

    def start(self, recipe_yaml: str, folder: str, who: str = "") -> None:
        """See HostApi.start."""
        self._command("start", recipe_yaml, folder, who=who, timeout_s=CHECK_S)

    def pause(self, who: str = "") -> None:
        """See HostApi.pause."""
        self._command("pause", who=who)

    def resume(self, who: str = "") -> None:
        """See HostApi.resume."""
        self._command("resume", who=who)

    def hold(self, who: str = "") -> None:
        """See HostApi.hold."""
        self._link.call("hold", who or self.who)

    def abort(self, reason: str, who: str = "") -> None:
        """See HostApi.abort."""
        self._link.call("abort", reason, who or self.who)

    def mark(self, text: str, who: str = "") -> None:
        """See HostApi.mark."""
        self._link.call("mark", text, who or self.who)

    def note(self, text: str, who: str = "") -> None:
        """See HostApi.note."""
        self._link.call("note", text, who or self.who)

    def confirm(self, who: str = "") -> None:
        """See HostApi.confirm."""
        self._command("confirm", who=who)

    def heater_off(self, reason: str, who: str = "") -> None:
        """See HostApi.heater_off."""
        self._link.call("heater_off", reason, who or self.who)

    def clear_fault(self, who: str = "") -> None:
        """See HostApi.clear_fault."""
        self._command("clear_fault", who=who)

    def _command(
        self, method: str, *arguments: Any, who: str, timeout_s: float | None = None
    ) -> None:
        """A command that needs control, and takes it if it is free."""
        if not who:
            self._attending.begin(self.who)  # a start takes long
        self._link.call(method, *arguments, who or self.who, timeout_s=timeout_s)

    def continuation(self, folder: str) -> ContinuationView:
        """See HostApi.continuation."""
        plain = self._link.call("continuation", folder, timeout_s=CHECK_S)
        found: ContinuationView = unpack(ContinuationView, plain)
        return found

    def continue_run(self, folder: str, who: str = "") -> None:
        """See HostApi.continue_run."""
        self._command("continue_run", folder, who=who, timeout_s=CHECK_S)

    def instruments(self) -> StationView:
        """See HostApi.instruments."""
        found: StationView = unpack(StationView, self._link.call("instruments"))
        return found

    def attend(self, who: str) -> bool:
        """See HostApi.attend."""
        kept: bool = unpack(bool, self._link.call("attend", who))
        return kept

    def take_control(self, who: str) -> None:
        """See HostApi.take_control."""
        if who == self.who:
            self._attending.begin(who)
        # what another has in hand is ended first
        self._link.call("take_control", who, timeout_s=HAND_S)

    def give_control(self, who: str) -> None:
        """See HostApi.give_control."""
        self._link.call("give_control", who, timeout_s=HAND_S)

    def manual_end(self, who: str) -> None:
        """See HostApi.manual_end."""
        self._by_hand("end", who)

    def manual_heat(self, who: str, target_celsius: float, rate_celsius_per_s: float) -> None:
        """See HostApi.manual_heat."""
        self._by_hand("heat", who, target_celsius, rate_celsius_per_s)

    def manual_cool(self, who: str, rate_celsius_per_s: float) -> None:
        """See HostApi.manual_cool."""
        self._by_hand("cool", who, rate_celsius_per_s)

    def manual_hold(self, who: str) -> None:
        """See HostApi.manual_hold."""
        self._by_hand("hold", who)

    def manual_beam(self, who: str, for_s: float, x_nm: float, y_nm: float) -> None:
        """See HostApi.manual_beam."""
        self._by_hand("beam", who, for_s, x_nm, y_nm)

    def manual_blank(self, who: str) -> None:
        """See HostApi.manual_blank."""
        self._by_hand("blank", who)

    def manual_view(self, who: str, exposure: ScanExposure, frames: int, for_s: float) -> None:
        """See HostApi.manual_view."""
        self._by_hand("view", who, exposure, frames, for_s)

    def manual_shift(self, who: str, dx_nm: float, dy_nm: float) -> None:
        """See HostApi.manual_shift."""
        self._by_hand("shift", who, dx_nm, dy_nm)

    def _by_hand(self, what: str, *arguments: Any) -> None:
        if arguments[0] == self.who:
            self._attending.begin(self.who)
        # control may have to be taken, and what was on to be ended first
        self._link.call(f"manual_{what}", *arguments, timeout_s=HAND_S)

    def _arrays(
        self, method: str, *arguments: Any
    ) -> tuple[dict[str, Any] | None, dict[str, Mapping[str, AnyArray]]]:
        head, blobs = self._link.call_with_blobs(method, *arguments)
        if head is None:
            return None, {}
        groups: dict[str, dict[str, AnyArray]] = {}
        for key, array in unpack_arrays(head.pop("arrays"), blobs).items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = array
        return head, dict(groups)


def start_host(station: str, linger_s: float = LINGER_S) -> str:
    """Start an engine host for a station in a process that outlives this one; returns its address.

    The host ends by itself when it has had neither a client nor a run for ``linger_s`` wall s.

    Raises:
        LinkError: it did not start; its own words are quoted.
    """
    log = platformdirs.user_log_path("hotstage", ensure_exists=True) / "host.log"
    with tempfile.TemporaryDirectory(prefix="hotstage-host-") as folder:
        ready = Path(folder) / "ready.json"
        # -P: a folder "acquire" where we happen to be must not stand in for ours
        command = [sys.executable, "-P", "-m", "acquire.cli", "host", station]
        command += ["--ready", str(ready), "--linger", f"{linger_s:g} s"]
        flags: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            flags = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **flags
            )
        _detached.append(process)
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up and process.poll() is None:
            if ready.exists():
                return str(json.loads(ready.read_text(encoding="utf-8"))["address"])
            time.sleep(0.05)
    process.terminate()
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    raise LinkError(f"the engine host did not start: {said or 'it said nothing'}")
