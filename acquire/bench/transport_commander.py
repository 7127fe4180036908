"""A program that commands a heater over and over, and freezes when it is told to: to be killed, stopped and cut off."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from acquire.remote.client import Link
from acquire.remote.keeper import LeaseKeeper
from acquire.remote.server import OBJECT_ID
from acquire.remote.tls import Identity

HEAT = "heat"
FREEZE = "freeze"
FROZEN_S = 4


def main(address: str, keys: Path | None = None) -> None:
    """Obey the words on standard input; say ``commanding`` when the heater is on.

    Args:
        address: of the server.
        keys: folder of the identity that an address of TLS asks for.
    """
    identity = None if keys is None else Identity(keys)
    keeper = LeaseKeeper(address, OBJECT_ID, identity=identity)
    link = Link(address, OBJECT_ID, identity=identity)
    for line in sys.stdin:
        word = line.strip()
        if word == HEAT:
            keeper.take("a program of the bench")
            link.call("invoke", "holder", "ramp", [700.0, 5.0], keeper.token)
            sys.stdout.write("commanding\n")
            sys.stdout.flush()
        elif word == FREEZE:
            # as a library does that never lets go of the interpreter: no thread of it runs
            if sys.platform == "win32":
                ctypes.PyDLL("kernel32").Sleep(1000 * FROZEN_S)
            else:
                ctypes.PyDLL(None).sleep(FROZEN_S)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
