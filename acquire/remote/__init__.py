"""A station's instruments, and other objects, served to other processes over a hardened Pyro5 protocol."""

from acquire.remote.client import Link
from acquire.remote.daemon import HardDaemon, WithBlobs
from acquire.remote.keeper import LeaseKeeper
from acquire.remote.launch import attach, connect, emergency_off
from acquire.remote.lease import Lease
from acquire.remote.logs import log_folder, log_to_file
from acquire.remote.serve import serve
from acquire.remote.server import InstrumentServer
from acquire.remote.supervisor import simulate, supervise
from acquire.remote.tls import AllowList, Identity, Role, ServerTls, server_tls

__all__ = [
    "AllowList",
    "HardDaemon",
    "Identity",
    "InstrumentServer",
    "Lease",
    "LeaseKeeper",
    "Link",
    "Role",
    "ServerTls",
    "WithBlobs",
    "attach",
    "connect",
    "emergency_off",
    "log_folder",
    "log_to_file",
    "serve",
    "server_tls",
    "simulate",
    "supervise",
]
