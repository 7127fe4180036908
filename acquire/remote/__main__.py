"""The process that :func:`acquire.remote.connect` starts: serves the station that comes on standard input."""

from __future__ import annotations

import argparse
import logging
import sys

from acquire.errors import HotstageError
from acquire.remote.serve import LINGER_S, Owner, serve


def main() -> int:
    """Serve for the program at the other end of standard input; 1 with a message if that fails."""
    parser = argparse.ArgumentParser(prog="python -m acquire.remote", description=__doc__)
    parser.add_argument("--owned", action="store_true", required=True)
    parser.add_argument("--linger", type=float, default=LINGER_S, metavar="SECONDS")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    owner = Owner()
    try:
        station = owner.station()
        owner.watch()
        serve(station, owner=owner, linger_s=options.linger)
    except HotstageError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
