"""Mutual TLS 1.3 between programs of one laboratory: an own authority, and a list of who may do what.

Nothing but the own authority is trusted: neither the system's certificates nor older TLS. A
certificate alone opens nothing; its serial number must stand in the server's list of those allowed,
which is read again whenever it changes, so that a revocation needs no restart.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import platformdirs

from acquire.errors import ConfigError, LinkError
from acquire.station import Station

logger = logging.getLogger(__name__)

AUTHORITY = "authority.crt"
CERTIFICATE = "certificate.crt"
PRIVATE_KEY = "private.key"
ALLOWED = "allowed.json"
IDENTITY_VARIABLE = "HOTSTAGE_IDENTITY"
PATIENCE_S = 1.0
"""A list that cannot be read for no longer than this may be one that is just being copied there."""


class Role(StrEnum):
    """What the owner of a certificate may do."""

    OBSERVER = "observer"
    """Look: readings, frames, status."""
    OPERATOR = "operator"
    """Command as well, under the lease."""
    SERVER = "server"
    """Be connected to; a server's certificate is refused from a client."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, and what it may do."""

    name: str
    role: Role

    @property
    def words(self) -> tuple[str, str]:
        """Name and role, for messages."""
        return self.name, self.role.value


@dataclass(frozen=True, slots=True)
class Identity:
    """A folder with the authority's certificate, an own certificate and its private key."""

    folder: Path

    def check(self) -> None:
        """Raise ConfigError if one of its files is missing or open to others."""
        for name in (AUTHORITY, CERTIFICATE, PRIVATE_KEY):
            path = self.folder / name
            if not path.is_file():
                raise ConfigError(
                    f"identity {str(self.folder)!r}: {name} is missing. Make one with "
                    "`hotstage keys issue NAME` and copy its folder here."
                )
        mode = (self.folder / PRIVATE_KEY).stat().st_mode
        if os.name != "nt" and mode & 0o077:
            raise ConfigError(
                f"{self.folder / PRIVATE_KEY} can be read by others (mode {mode & 0o777:o}); whoever "
                "reads it can command the microscope. Do: chmod 600."
            )

    def client_context(self) -> ssl.SSLContext:
        """For connecting to a server of the same authority; raises ConfigError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._fill(context)
        return context

    def server_context(self) -> ssl.SSLContext:
        """For serving clients of the same authority, all of which must show a certificate; raises ConfigError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        # a ticket would let a connection be resumed after its certificate was revoked
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        self._fill(context)
        return context

    def _fill(self, context: ssl.SSLContext) -> None:
        self.check()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            # nothing else was loaded: this context knows no other authority
            context.load_verify_locations(self.folder / AUTHORITY)
            context.load_cert_chain(self.folder / CERTIFICATE, self.folder / PRIVATE_KEY)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ConfigError(
                f"identity {str(self.folder)!r} cannot be used: {error}. Issue it anew with "
                "`hotstage keys issue`."
            ) from error


def own_identity() -> Identity:
    """Identity of a client: the folder in HOTSTAGE_IDENTITY, or ``identity`` in the user's configuration."""
    folder = os.environ.get(IDENTITY_VARIABLE)
    if folder:
        return Identity(Path(folder))
    return Identity(Path(platformdirs.user_config_dir("hotstage", appauthor=False)) / "identity")


class AllowList:
    """Who may connect to a server, from the list that ``hotstage keys`` keeps; read anew when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._entries: dict[int, Peer] = {}
        self._unreadable_since: float | None = None
        self._read()

    def find(self, certificate: dict[str, Any], patience_s: float = 0.0) -> Peer:
        """Who shows this certificate (as :meth:`ssl.SSLSocket.getpeercert` tells it).

        Args:
            certificate: of the peer.
            patience_s: wall seconds for which a list that cannot be read any more still counts as
                it was: a run must not end because somebody copies a new one there.

        Raises:
            LinkError: not listed, revoked, or a server's; with the name that it claims.
        """
        claimed = common_name(certificate)
        serial = int(str(certificate.get("serialNumber", "0")), 16)
        with self._lock:
            try:
                self._read()
            except ConfigError as error:
                if time.monotonic() - (self._unreadable_since or 0.0) >= patience_s:
                    raise LinkError(f"nobody is let in: {error}") from error
            found = self._entries.get(serial)
        if found is None:
            raise LinkError(
                f"{claimed!r} is not in the list of those allowed, or was revoked ({self._path})."
            )
        if found.role is Role.SERVER:
            raise LinkError(f"{claimed!r} shows a server's certificate, which commands nothing.")
        return found

    def _read(self) -> None:
        try:
            state = self._path.stat()
            # a list put in place of another may be as large and, if times were kept, as old
            stamp = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)
            if stamp == self._stamp:
                return
            listed = json.loads(self._path.read_text(encoding="utf-8"))
            self._entries = {
                int(entry["serial"], 16): Peer(str(entry["name"]), Role(entry["role"]))
                for entry in listed["certificates"]
                if not entry["revoked"]
            }
            self._stamp, self._unreadable_since = stamp, None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._stamp = None
            if self._unreadable_since is None:
                self._unreadable_since = time.monotonic()
            raise ConfigError(
                f"the list of those allowed, {str(self._path)!r}, cannot be read: {error}. "
                "`hotstage keys new` makes one."
            ) from error


def identity_of(station: Station) -> Identity | None:
    """The identity that a station file names; None if it names none."""
    folder = station.file.server.identity
    return Identity(_beside(station, folder)) if folder else None


def server_tls(station: Station, listen: str | None = None) -> ServerTls | None:
    """How a server of a station proves who it is; None for one that listens without TLS.

    Args:
        station: names identity and list.
        listen: the address; default that of the station's instrument server.

    Raises:
        ConfigError: an address of TLS, and the station names no identity or no list.
    """
    server = station.file.server
    if not (listen or server.listen).startswith("tls://"):
        return None
    identity = identity_of(station)
    if identity is None or not server.allowed:
        raise ConfigError(
            f"{station.source}: listening on {listen or server.listen!r} needs server.identity (the folder "
            "of a certificate with the role server) and server.allowed (the list of who may "
            "connect). `hotstage keys --help` tells how to make them."
        )
    return ServerTls(identity, AllowList(_beside(station, server.allowed)))


def _beside(station: Station, path: str) -> Path:
    return Path(station.source).parent / Path(path).expanduser()


@dataclass(frozen=True)
class ServerTls:
    """How a server proves who it is, and whom it lets in."""

    identity: Identity
    allowed: AllowList


class Door:
    """Lets nobody in who does not prove to be somebody that is allowed; every refusal is logged."""

    def __init__(self, tls: ServerTls) -> None:
        self._allowed = tls.allowed
        self._context = tls.identity.server_context()

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """The connection as one that :meth:`secure` is about to secure; raises OSError.

        Whoever holds ``sock`` holds nothing any more, and must end this one to end the connection.
        """
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def secure(self, sock: ssl.SSLSocket, within_s: float) -> tuple[Peer, dict[str, Any]]:
        """Shake hands, and tell who is at the other end, and the certificate that it shows.

        Raises:
            ConnectionRefusedError: why it goes no further.
        """
        where = _name_of(sock)
        try:
            # for the whole handshake, also if its bytes come one by one
            sock.settimeout(within_s)
            sock.do_handshake()
            certificate: dict[str, Any] = dict(sock.getpeercert() or {})
            who = self._allowed.find(certificate)
        except (OSError, ValueError, LinkError) as error:
            logger.warning("a connection from %s was refused: %s", where, error)
            raise ConnectionRefusedError(f"{where} was refused: {error}") from error
        logger.info("%s (%s) connected from %s", *who.words, where)
        return who, certificate

    def look_again(self, certificate: dict[str, Any]) -> Peer:
        """Who that is now; raises ConnectionRefusedError if it was revoked since it connected."""
        try:
            return self._allowed.find(certificate, PATIENCE_S)
        except LinkError as error:
            logger.warning("a connection was ended: %s", error)
            raise ConnectionRefusedError(str(error)) from error


def _name_of(sock: socket.socket) -> str:
    try:
        return "{}:{}".format(*sock.getpeername()[:2])
    except OSError:
        return "somebody who is gone"


def common_name(certificate: dict[str, Any]) -> str:
    """The name that a certificate claims."""
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return "nobody"
