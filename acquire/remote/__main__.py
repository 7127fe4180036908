"""The processes behind :func:`acquire.remote.connect`; the station comes on standard input."""

from __future__ import annotations

import argparse
import logging
import sys

from acquire.errors import HotstageError
from acquire.remote.child import VOICE, Owner
from acquire.remote.logs import FORMAT, log_to_file
from acquire.remote.serve import LINGER_S, serve
from acquire.remote.supervisor import simulate, supervise


def main() -> int:
    """Do one of them for the program at the other end of standard input; 1 with a message if it fails."""
    parser = argparse.ArgumentParser(prog="python -m acquire.remote", description=__doc__)
    parser.add_argument("role", choices=("serve", "supervise", "simulate"))
    parser.add_argument("--linger", type=float, default=LINGER_S, metavar="SECONDS")
    parser.add_argument("--listen", default=None, metavar="HOST:PORT")
    parser.add_argument("--beats", action="store_true", help="signs of life on standard output")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format=FORMAT)
    VOICE.reserve()
    owner = Owner()
    try:
        station = owner.station()
        log_to_file(options.role, station.name)
        owner.watch()
        if options.role == "simulate":
            simulate(station, owner, options.linger)
        elif options.role == "supervise":
            supervise(station, listen=options.listen, owner=owner, linger_s=options.linger)
        else:
            serve(
                station,
                listen=options.listen,
                owner=owner,
                linger_s=options.linger,
                addresses=owner.addresses,
                beats=options.beats,
            )
    except HotstageError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
