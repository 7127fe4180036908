"""Malformed messages to an engine host, in a process of its own as ``hotstage host`` starts it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from random import Random

from acquire.bench.transport_shower import Endured, Port, endure
from acquire.bench.transport_tap import Tap, place_of
from acquire.engine.client import HostClient
from acquire.errors import HotstageError

STATION = "simulated"
RECIPE = "hotstage: 1\nname: malformed\nlimits: {temperature: 900 °C}\nsteps: []\n"
"""It has no steps, so that it is refused whatever becomes of it."""
END_S = 40.0


def try_host(messages: int, seed: int) -> Endured:
    """What so many malformed messages do to an engine host; raises HotstageError if none starts."""
    with _host() as (process, address):
        with closing(Tap(address)) as tap, closing(HostClient(tap.address)) as client:
            for call in _calls(client):
                # a run that is not there cannot be paused, and the recipe is none: what counts is
                # that the words were heard
                with contextlib.suppress(HotstageError):
                    call()
        port = Port("host", place_of(address), tap.conversations)
        port.prepare()
        # the instrument server behind it gets none of this, and still prepares its images
        chance = Random(f"{seed} host")
        found = endure([port], process.pid, messages, chance, family=False)
        found.alive = process.poll() is None
        try:
            with closing(HostClient(address)) as client:
                client.status()
        except HotstageError as error:
            found.alive = False
            found.problem = f"a client cannot use it any more: {error}"
        return found


def _calls(client: HostClient) -> list[Callable[[], object]]:
    return [
        client.status,
        client.plan,
        lambda: client.image("overview"),
        client.spectrum,
        client.series,
        lambda: client.start(RECIPE, tempfile.gettempdir()),
        client.pause,
        client.resume,
        client.hold,
        client.confirm,
        lambda: client.mark("a mark"),
        lambda: client.abort("the bench"),
        lambda: client.heater_off("the bench"),
        client.clear_fault,
        lambda: client.take_control("the bench"),
        lambda: client.attend("the bench"),
        lambda: client.give_control("the bench"),
    ]


@contextmanager
def _host() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "acquire.cli", "host", STATION],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise HotstageError("the engine host of the bench did not start.")
            yield process, str(json.loads(line)["address"])
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
