"""Runs a ``hotstage`` command in a process whose wall clock is set back in the middle."""

from __future__ import annotations

import runpy
import sys
import threading
import time
from datetime import datetime, timedelta, tzinfo

from acquire.store import journal


def set_clock_back(by_s: float) -> None:
    """Let this process believe that it is earlier on the wall."""
    true = time.time

    class Earlier(datetime):
        """Tells the time as it was ``by_s`` ago."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Earlier:
            """See datetime.now."""
            found = datetime.now(tz) - timedelta(seconds=by_s)
            return cls.fromtimestamp(found.timestamp(), tz)

    time.time = lambda: true() - by_s
    journal.datetime = Earlier  # type: ignore[attr-defined]


def _main(after_s: float, by_s: float, arguments: list[str]) -> None:
    timer = threading.Timer(after_s, set_clock_back, [by_s])
    timer.daemon = True
    timer.start()
    sys.argv = ["hotstage", *arguments]
    runpy.run_module("acquire.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
