"""What tests of instruments behind a server share: an exposure, and a wait for what comes to pass."""

from __future__ import annotations

import threading
import time

from acquire.instruments import ScanExposure

EXPOSURE = ScanExposure(("haadf", "abf"), (512, 512), 100.0, 1e-6)


def until(condition, seconds: float = 3.0) -> float:
    """Wall seconds until the condition holds."""
    start = time.monotonic()
    pause = threading.Event()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        pause.wait(0.001)
    return time.monotonic() - start
