"""What every driver must do about its link: bounded opening, release of everything, calls from many threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from acquire.errors import HotstageError
from acquire.farends import Shared
from drivers.conformance.rig import Held, Rig, close

TOGETHER_S = 0.6
RELEASE_S = 5.0
_ROUNDS = 3


def check_opening(rig: Rig) -> None:
    """A far end that is not there, or does not answer, is told in time; nothing stays behind."""
    for disturb, what in ((rig.unplug, "an unplugged wire"), (rig.silence, "a silent wire")):
        rig.well()
        before = Held.now()
        disturb()
        shared = Shared()
        try:
            opened = rig.call(lambda: rig.open(shared), f"opening on {what}")  # noqa: B023
            if not isinstance(opened, HotstageError):
                close(opened)
            assert isinstance(opened, HotstageError), f"the driver opened on {what}."
        finally:
            shared.close()
        rig.well()
        _released(rig, before, f"after an opening on {what} that failed")
    with rig.opened() as instrument:
        assert instrument.describe().driver


def check_release(rig: Rig) -> None:
    """Closing ends every thread and connection and closes every file, also when the link is lost."""
    with rig.opened():
        pass  # what a first opening loads stays, rightly
    rig.until(lambda: rig.connections == 0, "the driver has closed its connections", (), RELEASE_S)
    # a driver may wait a while until it knows that a device it cannot hear is off
    for disturb, rounds in ((rig.well, _ROUNDS), (rig.unplug, 1), (rig.silence, 1)):
        rig.well()
        before = Held.now()
        for _ in range(rounds):
            shared = Shared()
            instrument = rig.open(shared)
            disturb()
            for _ in range(2):
                rig.call(lambda: close(instrument), "close()")  # noqa: B023
            rig.call(shared.close, "closing what drivers share")
            rig.well()
        _released(rig, before, f"close() after {disturb.__name__}()")


def _released(rig: Rig, before: Held, what: str) -> None:
    rig.until(lambda: rig.connections == 0, f"{what}: the connections end", (), RELEASE_S)

    def held() -> Held:
        now = Held.now()
        # the far side's own threads end when they notice that the connection has
        return Held(now.threads - before.threads, now.files - before.files)

    by = time.monotonic() + RELEASE_S
    while (left := held()).threads or left.files > 0:
        names = sorted(thread.name for thread in left.threads)
        assert time.monotonic() < by, (
            f"{what}: {left.files} more files are open, and threads {names} run."
        )
        time.sleep(0.05)


def check_together(rig: Rig, calls: Sequence[tuple[str, Callable[[], Any]]]) -> None:
    """Each call again and again in a thread of its own, all at the same time; only errors of ours are raised."""
    failed: list[BaseException] = []
    until = time.monotonic() + TOGETHER_S

    def again(what: str, call: Callable[[], Any]) -> None:
        try:
            while time.monotonic() < until:
                rig.call(call, what)
                time.sleep(
                    0.001
                )  # or those that do not wait for a device keep the others from running
        except BaseException as error:  # noqa: BLE001  raised below, in the test's own thread
            failed.append(error)

    threads = [
        threading.Thread(target=again, args=each, name=f"conformance-{each[0]}", daemon=True)
        for each in calls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TOGETHER_S + rig.subject.longest_call_s)
        assert not thread.is_alive(), f"{thread.name} hangs when others call, too."
    if failed:
        raise failed[0]
