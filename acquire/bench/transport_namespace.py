"""A network that is really cut: a commander in a network namespace of its own, whose cable is taken out.

Linux lets anybody make such namespaces, unless it was forbidden; then :func:`cut` says why there is none.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

from acquire.bench import transport_lease as lease
from acquire.bench.transport_source import BenchHolder, open_bench
from acquire.errors import HotstageError
from acquire.remote import keys
from acquire.remote.server import InstrumentServer
from acquire.remote.tls import ALLOWED, AllowList, Identity, Role, ServerTls

MOST_S = 600.0
_TOOLS = ("unshare", "nsenter", "ip")


def why_not() -> str:
    """Why no network namespace can be had here; empty if one can."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"there is no {', no '.join(missing)}"
    tried = subprocess.run(
        ["unshare", "-rn", "ip", "link", "add", "one", "type", "veth", "peer", "name", "other"],
        capture_output=True,
        text=True,
    )
    return " ".join(tried.stderr.split()) if tried.returncode else ""


def cut(times: int, seed: int, folder: Path) -> list[float]:
    """Seconds from each cut of a commander's cable until the heater was off.

    Args:
        times: how often.
        seed: decides the moments.
        folder: an empty one, for keys: beyond loopback a server wants TLS.

    Raises:
        HotstageError: it could not be measured.
    """
    ran = subprocess.run(
        [
            "unshare",
            "-rn",
            sys.executable,
            "-P",
            "-m",
            __name__,
            str(times),
            str(seed),
            str(folder),
        ],
        capture_output=True,
        text=True,
        timeout=MOST_S,
    )
    if ran.returncode:
        raise HotstageError(f"the network could not be cut: {ran.stderr[-500:]}")
    return [float(one) for one in json.loads(ran.stdout)]


class Cabled:
    """A namespace with one cable to this one; ends with its :meth:`close`."""

    def __init__(self, number: int) -> None:
        self.here, self.there = (f"10.77.{number}.{end}" for end in (1, 2))
        self._holds = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)
        self.enter = ("nsenter", "-t", str(self._holds.pid), "-n")
        """Before a command that shall run there."""
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self._holds.pid}/ns/net").readlink() == own:
            time.sleep(0.001)
        near, far = f"near{number}", "far"
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", str(self._holds.pid))
        _ip("addr", "add", f"{self.here}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("addr", "add", f"{self.there}/30", "dev", far, before=self.enter)
        self._plug("up")

    def cut(self) -> None:
        """Take the cable out at its far end."""
        self._plug("down")

    def mend(self) -> None:
        """Put it in again."""
        self._plug("up")

    def close(self) -> None:
        """End the namespace."""
        if self._holds.stdin is not None:
            self._holds.stdin.close()
        self._holds.wait(10.0)

    def _plug(self, how: str) -> None:
        _ip("link", "set", "far", how, before=self.enter)


def _ip(*arguments: str, before: tuple[str, ...] = ()) -> None:
    subprocess.run([*before, "ip", *arguments], check=True)


@contextmanager
def _served(number: int, folder: Path) -> Iterator[tuple[InstrumentServer, BenchHolder, Cabled]]:
    station = open_bench()
    if not isinstance(station.holder, BenchHolder):
        raise HotstageError("the bench has another holder.")
    tls = ServerTls(Identity(folder / "issued" / "server"), AllowList(folder / ALLOWED))
    with closing(Cabled(number)) as cabled:
        server = InstrumentServer(station, f"tls://{cabled.here}:0", tls=tls)
        server.start()
        try:
            yield server, station.holder, cabled
        finally:
            server.close()


def _some_cuts(number: int, times: int, seed: int, folder: Path, identity: Path) -> list[float]:
    chance = Random(f"{seed} namespace {number}")
    found: list[float] = []
    with _served(number, folder) as (server, holder, cabled):
        for _ in range(times):
            with lease.commander(server.address, cabled.enter, identity) as commander:
                found.append(lease.mishap(lease.CUT, commander, cabled, holder, chance))
            cabled.mend()
    return found


def main(times: int, seed: int, folder: Path) -> None:
    """Cut so often, and write the seconds as a list of JSON."""
    shares = lease.shares(times)
    keys.new_authority(folder)
    hosts = [f"10.77.{number}.1" for number in range(len(shares))]
    keys.issue(folder, "server", Role.SERVER, hosts=hosts)
    identity = keys.issue(folder, "operator", Role.OPERATOR)
    with ThreadPoolExecutor(len(shares)) as pool:
        jobs = [
            pool.submit(_some_cuts, number, share, seed, folder, identity)
            for number, share in enumerate(shares)
        ]
        found = [took_s for job in jobs for took_s in job.result()]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
