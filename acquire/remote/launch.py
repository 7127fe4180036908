"""Opens a station behind its instrument server, which it starts if the station says so."""

from __future__ import annotations

from collections.abc import Callable

from acquire.clock import Clock, WallClock, relate
from acquire.errors import ConfigError, LinkError
from acquire.instruments import Channel, Instrument
from acquire.remote.child import Child, facts
from acquire.remote.client import Link
from acquire.remote.following import FOLLOW_S, ClockFollower
from acquire.remote.keeper import LeaseKeeper
from acquire.remote.proxies import (
    Relation,
    RemoteBursts,
    RemoteChannel,
    RemoteHolder,
    RemoteScan,
    RemoteSimulation,
    RemoteSpectrometer,
)
from acquire.remote.server import OBJECT_ID
from acquire.remote.tls import Identity, identity_of
from acquire.remote.wire import unpack
from acquire.station import OpenStation, Station

START_S = 60.0
"""Far ends and server one after the other."""
END_S = 30.0
"""A supervisor may first have to make sure that all is safe."""
FIND_S = 2.0
LINGER_S = 10.0
PING_S = 2.0
"""A look at the server's clock that takes longer says nothing."""


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
        return _open(station.file.server.listen, clock, station, identity_of(station))
    process = ServerProcess(station, linger_s)
    try:
        opened = _open(process.address, clock, station, None)
    except BaseException:
        process.close()
        raise
    opened.on_close.insert(0, process.close)
    return opened


def attach(
    address: str, clock: Clock | None = None, *, identity: Identity | None = None
) -> OpenStation:
    """A second handle on a served station, to look, or to take control when nobody has it.

    Args:
        address: ``HOST:PORT`` on this machine, or ``tls://HOST:PORT``.
        clock: the local clock, of the server's rate; default a new one.
        identity: shown to a server of TLS; default the user's own.

    Raises:
        LinkError: no server answers.
    """
    return _open(address, clock, None, identity)


def emergency_off(
    address: str,
    reason: str = "by the operator",
    timeout_s: float = 2.0,
    *,
    identity: Identity | None = None,
) -> None:
    """Heater off, beam blanked, exposures ended, control revoked, whoever has it.

    Raises:
        LinkError: the server did not answer; whether anything is safe is not known.
    """
    link = Link(address, OBJECT_ID, timeout_s, identity=identity)
    try:
        link.call("emergency_off", reason)
    finally:
        link.close()


def _open(
    address: str, clock: Clock | None, station: Station | None, identity: Identity | None
) -> OpenStation:
    link = Link(address, OBJECT_ID, identity=identity)
    try:
        return _open_on(link, address, clock, station, identity)
    except BaseException:
        link.close()
        raise


def _open_on(
    link: Link,
    address: str,
    clock: Clock | None,
    wanted: Station | None,
    identity: Identity | None,
) -> OpenStation:
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

    def ping() -> float:
        told: float = unpack(float, link.call("now_s", timeout_s=PING_S))
        return told

    follower = ClockFollower(local, ping, relate(local, ping), every_s=FOLLOW_S)
    keeper = LeaseKeeper(address, OBJECT_ID, identity=identity)
    roles = unpack(list[str], about.get("roles"))
    bursts = unpack(bool, about.get("bursts"))
    holder, scan, spectrometer, channels = _proxies(
        link, roles, lambda: follower.relation, lambda: keeper.token, bursts=bursts
    )
    instruments: dict[str, Instrument] = {"holder": holder, "scan": scan, **channels}
    if spectrometer is not None:
        instruments["spectrometer"] = spectrometer
    opened = OpenStation(
        station=served if wanted is None else wanted,
        clock=local,
        holder=holder,
        scan=scan,
        spectrometer=spectrometer,
        channels=channels,
        simulation=RemoteSimulation(link, instruments) if about.get("tells_truth") else None,
        control=keeper,
        relation=follower.relation,
        address=address,
        on_close=[link.close, follower.close, *_releases(scan, spectrometer), keeper.release],
    )
    follower.on_change(lambda relation: setattr(opened, "relation", relation))
    follower.start()
    return opened


def _releases(*instruments: RemoteScan | RemoteSpectrometer | None) -> list[Callable[[], None]]:
    return [one.release for one in instruments if one is not None]


def _proxies(
    link: Link,
    roles: list[str],
    relation: Relation,
    token: Callable[[], str],
    *,
    bursts: bool,
) -> tuple[RemoteHolder, RemoteScan, RemoteSpectrometer | None, dict[str, Channel]]:
    dispersing = RemoteBursts if bursts else RemoteSpectrometer
    spectrometer = (
        dispersing(link, "spectrometer", relation, token) if "spectrometer" in roles else None
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
    """An instrument server that this program started and ends, with its supervisor and far ends, if any.

    Raises:
        LinkError: it did not start; with what it said.
    """

    def __init__(self, station: Station, linger_s: float = LINGER_S) -> None:
        role = "serve" if station.in_process else "supervise"
        self._child = Child([role, "--linger", str(linger_s)], "the instrument server", end_s=END_S)
        try:
            self._child.tell(facts(station))
            self.address = str(self._child.ready(START_S).get("address", ""))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def log(self) -> str:
        """The last lines that it wrote to its standard error."""
        return self._child.log()

    def close(self) -> None:
        """Have it make safe and end, and wait until it has; idempotent."""
        self._child.close()
