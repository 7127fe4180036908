"""A station's instruments, and other objects, served to other processes over a hardened Pyro5 protocol."""

from acquire.remote.client import Link
from acquire.remote.daemon import HardDaemon, WithBlobs
from acquire.remote.launch import attach, connect, emergency_off
from acquire.remote.lease import Lease, LeaseKeeper
from acquire.remote.serve import serve
from acquire.remote.server import InstrumentServer

__all__ = [
    "HardDaemon",
    "InstrumentServer",
    "Lease",
    "LeaseKeeper",
    "Link",
    "WithBlobs",
    "attach",
    "connect",
    "emergency_off",
    "serve",
]
