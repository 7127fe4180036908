"""Which engine hosts run on this machine, so that a window that was closed finds its run again.

Every host keeps a small file in the person's own state folder while it lives; one that was killed leaves
it behind, and whoever looks next clears it away.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import psutil

from acquire.engine.client import HostClient
from acquire.errors import HotstageError

logger = logging.getLogger(__name__)

ANSWER_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class RunningHost:
    """A host that has something under way."""

    address: str
    run_name: str
    """Of the run that is on; empty if something is done by hand."""


def _folder() -> Path:
    return Path(platformdirs.user_state_dir("hotstage", appauthor=False)) / "hosts"


@contextmanager
def listed(station: str, address: str) -> Iterator[None]:
    """Let a host of this process be found while it is entered; a folder that cannot be written hides it."""
    path = _folder() / f"{os.getpid()}.json"
    document = {"station": station, "address": address, "began_s": _began_s(os.getpid())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(document), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        logger.warning("windows will not find this host by themselves: %s", error)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_busy(station: str) -> RunningHost | None:
    """A host of a station, by its name, on which a run or something by hand is on; None without one."""
    for path in sorted(_folder().glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            alive = _began_s(int(path.stem)) == document["began_s"]
            if not alive:
                path.unlink(missing_ok=True)
            elif document["station"] == station and (found := _busy(str(document["address"]))):
                return found
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s does not tell of a host: %s", path, error)
    return None


def _busy(address: str) -> RunningHost | None:
    client = HostClient(address, ANSWER_WITHIN_S)
    try:
        status = client.status()
    except HotstageError as error:
        logger.info("the host at %s does not answer: %s", address, error)
        return None
    finally:
        client.close()
    if status.state.active or status.by_hand:
        return RunningHost(address, status.run_name if status.state.active else "")
    return None


def _began_s(pid: int) -> float:
    """When a process began, which tells it from a later one of the same number; NaN if there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return float("nan")
