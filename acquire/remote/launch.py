"""Opens a station behind its instrument server, which it starts if the station says so."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO, Any

from acquire.clock import Clock, ClockRelation, WallClock, relate
from acquire.errors import ConfigError, HotstageError, LinkError
from acquire.instruments import Channel, Instrument
from acquire.remote.client import Link
from acquire.remote.lease import LeaseKeeper
from acquire.remote.proxies import (
    RemoteChannel,
    RemoteHolder,
    RemoteScan,
    RemoteSimulation,
    RemoteSpectrometer,
)
from acquire.remote.server import OBJECT_ID
from acquire.remote.wire import unpack
from acquire.station import OpenStation, Station

logger = logging.getLogger(__name__)

START_S = 20.0
END_S = 5.0
FIND_S = 2.0
LINGER_S = 10.0


def connect(
    station: Station, clock: Clock | None = None, *, linger_s: float = LINGER_S
) -> OpenStation:
    """Open a station behind its server, so that no heater lives in this process.

    A station with ``server.launch`` gets a server process of its own, which ends with this station's
    ``close``; it also makes safe and ends by itself if this program dies. Otherwise the server must
    be running at ``server.listen``.

    Args:
        station: what to open.
        clock: the local clock, of the server's rate; default a new one.
        linger_s: how long an abandoned server waits for somebody to take over, in wall s.

    Raises:
        LinkError: the server cannot be started, or none answers.
        ConfigError: the clock does not run at the server's rate, or another station is served there.
    """
    if not station.file.server.launch:
        return _open(station.file.server.listen, clock, station)
    process = ServerProcess(station, linger_s)
    try:
        opened = _open(process.address, clock, station)
    except BaseException:
        process.close()
        raise
    opened.on_close.insert(0, process.close)
    return opened


def attach(address: str, clock: Clock | None = None) -> OpenStation:
    """A second handle on a served station, to look, or to take control when nobody has it.

    Raises:
        LinkError: no server answers.
    """
    return _open(address, clock, None)


def emergency_off(address: str, reason: str = "by the operator", timeout_s: float = 2.0) -> None:
    """Heater off, beam blanked, exposures ended, control revoked, whoever has it.

    Raises:
        LinkError: the server did not answer; whether anything is safe is not known.
    """
    link = Link(address, OBJECT_ID, timeout_s)
    try:
        link.call("emergency_off", reason)
    finally:
        link.close()


def _open(address: str, clock: Clock | None, station: Station | None) -> OpenStation:
    link = Link(address, OBJECT_ID)
    try:
        return _open_on(link, address, clock, station)
    except BaseException:
        link.close()
        raise


def _open_on(link: Link, address: str, clock: Clock | None, wanted: Station | None) -> OpenStation:
    about = link.call("about", timeout_s=FIND_S)
    if not isinstance(about, dict):
        raise LinkError(f"what answers at {address} is not an instrument server of this version.")
    served = Station.parse(unpack(str, about.get("station")), unpack(str, about.get("source")))
    if wanted is not None and wanted.name != served.name:
        raise ConfigError(
            f"the server at {address} serves station {served.name!r}, not {wanted.name!r} "
            f"({wanted.source}). Stop it, or give the station another server.listen."
        )
    rate = unpack(float, about.get("clock_rate"))
    local: Clock = WallClock(rate) if clock is None else clock
    if local.rate != rate:
        raise ConfigError(
            f"the clock of rate {local.rate:g} cannot follow the server at {address}, whose clock "
            f"runs at {rate:g}; a virtual clock needs instruments in its own process."
        )
    relation = relate(local, lambda: unpack(float, link.call("now_s")))
    keeper = LeaseKeeper(address, OBJECT_ID)
    roles = unpack(list[str], about.get("roles"))
    holder, scan, spectrometer, channels = _proxies(link, roles, relation, lambda: keeper.token)
    instruments: dict[str, Instrument] = {"holder": holder, "scan": scan, **channels}
    if spectrometer is not None:
        instruments["spectrometer"] = spectrometer
    return OpenStation(
        station=served if wanted is None else wanted,
        clock=local,
        holder=holder,
        scan=scan,
        spectrometer=spectrometer,
        channels=channels,
        simulation=RemoteSimulation(link, instruments) if served.simulated else None,
        control=keeper,
        relation=relation,
        address=address,
        on_close=[link.close, keeper.release],
    )


def _proxies(
    link: Link, roles: list[str], relation: ClockRelation, token: Callable[[], str]
) -> tuple[RemoteHolder, RemoteScan, RemoteSpectrometer | None, dict[str, Channel]]:
    spectrometer = (
        RemoteSpectrometer(link, "spectrometer", relation, token)
        if "spectrometer" in roles
        else None
    )
    channels: dict[str, Channel] = {
        role: RemoteChannel(link, role, relation, token)
        for role in roles
        if role not in ("holder", "scan", "spectrometer")
    }
    return (
        RemoteHolder(link, "holder", relation, token),
        RemoteScan(link, "scan", relation, token),
        spectrometer,
        channels,
    )


class ServerProcess:
    """An instrument server that this program started and ends.

    It is in a session (on Windows a process group) of its own, so that an interrupt from the
    keyboard reaches this program, which can then end in order, and not the server.

    Raises:
        LinkError: it did not start; with what it said.
    """

    def __init__(self, station: Station, linger_s: float = LINGER_S) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile(prefix="hotstage-server-")  # noqa: SIM115
        self._process = subprocess.Popen(
            # -P: what lies in the working folder is data, and never imported
            [sys.executable, "-P", "-m", "acquire.remote", "--owned", "--linger", str(linger_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            **_OWN_SESSION,
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="server-output", daemon=True)
        self._reader.start()
        try:
            self._tell({"source": station.source, "text": station.text})
            self.address = self._ready()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def log(self) -> str:
        """The last lines that it wrote to its standard error."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 4000))
        return self._log.read().decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Have it make safe and end, and wait until it has; idempotent."""
        if self._log.closed:
            return
        pipe = self._process.stdin
        try:
            if pipe is not None and not pipe.closed:
                pipe.write(b"quit\n")
                pipe.close()
        except OSError:
            logger.debug("the instrument server is gone already")
        for end in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(END_S)
                break
            except subprocess.TimeoutExpired:
                logger.warning("instrument server %d does not end; it is made to", self.pid)
                end()
        self._process.wait()
        self._reader.join(END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _tell(self, facts: dict[str, str]) -> None:
        pipe = self._process.stdin
        try:
            if pipe is not None:
                pipe.write(json.dumps(facts).encode() + b"\n")
                pipe.flush()
        except OSError as error:
            raise self._failed("ended at once") from error

    def _ready(self) -> str:
        try:
            line = self._lines.get(timeout=START_S)
        except queue.Empty:
            raise self._failed(f"did not say that it is ready within {START_S:g} s") from None
        try:
            return str(json.loads(line)["address"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed("did not start") from error

    def _failed(self, what: str) -> HotstageError:
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            logger.debug("it still runs")
        said = self.log() or "it said nothing"
        return LinkError(f"the instrument server {what}: {said}")

    def _read(self) -> None:
        pipe = self._process.stdout
        if pipe is not None:
            for line in pipe:  # all of it, so that a talkative driver never blocks on a full pipe
                self._lines.put(line)
        self._lines.put(b"")


_OWN_SESSION: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if os.name == "nt"
    else {"start_new_session": True}
)
