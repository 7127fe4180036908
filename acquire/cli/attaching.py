"""`hotstage run RECIPE --host`: a run on an engine host that windows and others are attached to as well."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from rich.live import Live

from acquire.cli.console import err, out, say, say_error, say_warning
from acquire.cli.display import progress_table, status_line
from acquire.engine import EngineState, EngineStatus
from acquire.engine.client import HostClient
from acquire.engine.clients import client_name, is_client
from acquire.engine.experiment import default_folder
from acquire.engine.status import NOT_STARTED
from acquire.errors import HotstageError, LinkError
from acquire.recipe import Recipe
from acquire.units import show_duration

REFRESH_S = 0.25
LINE_EVERY_S = 5.0
SILENT_S = 30.0
"""Wall seconds without an answer after which the run is left alone."""
EXIT = {EngineState.COMPLETED: 0, EngineState.ABORTED: 3}


def run_on_host(path: Path, output: Path | None, address: str, *, yes: bool) -> int:
    """Run a recipe on the host at ``address``, in control of it; returns the exit status.

    Ctrl-C aborts the run. If this program dies, the run goes on, and control of the host is free.

    Raises:
        LeaseError: somebody else is in control there.
        RecipeError, StoreError: it cannot be run; nothing was moved.
        LinkError: nobody answers.
    """
    recipe = Recipe.load(path)
    folder = str((output if output is not None else default_folder(recipe)).absolute())
    client = HostClient(address)
    client.who = client_name("terminal")
    try:
        client.start(path.read_text(encoding="utf-8"), folder)
        say(f"{recipe.name}", "bold")
        say(f"Runs on the engine host at {address}, into {folder} there.")
        return _conclude(_Follower(client, folder, yes=yes).follow(), folder)
    finally:
        client.close()


class _Follower:
    """Shows the run of a folder until it has ended, and obeys the keyboard."""

    def __init__(self, client: HostClient, folder: str, *, yes: bool) -> None:
        self._client, self._folder, self._yes = client, folder, yes
        self._asked = self._driver = ""
        self._interrupts = 0

    def follow(self) -> EngineStatus:
        """The status in which the run ended; raises LinkError if the host is lost."""
        if sys.stdin.isatty() and not self._yes:
            threading.Thread(target=self._answer, name="keyboard", daemon=True).start()
        live = Live(console=out, refresh_per_second=1 / REFRESH_S) if out.is_terminal else None
        if live is None:
            return self._follow(None)
        with live:
            return self._follow(live)

    def _follow(self, live: Live | None) -> EngineStatus:
        key, said_s = ("", -1), -LINE_EVERY_S
        while True:
            try:
                status = self._status()
                if self._ended(status):
                    return status
                self._heed(status)
                present = (status.state.value, status.step_index)
                if live is not None:
                    live.update(progress_table(status))
                elif present != key or time.monotonic() - said_s > LINE_EVERY_S:
                    key, said_s = present, time.monotonic()
                    say(status_line(status))
                time.sleep(REFRESH_S)
            except KeyboardInterrupt:
                self._interrupt()

    def _status(self) -> EngineStatus:
        """The present status; a host that is silent for a while is asked again."""
        give_up = time.monotonic() + SILENT_S
        while True:
            try:
                return self._client.status()
            except LinkError as error:
                if time.monotonic() > give_up:
                    raise LinkError(
                        f"the run is left alone, as far as is known it goes on: {error}"
                    ) from error
                time.sleep(REFRESH_S)

    def _ended(self, status: EngineStatus) -> bool:
        """Whether it is over; before it has begun, the host tells of the run before."""
        if status.state.active:
            return False
        return status.folder == self._folder or status.cause.startswith(NOT_STARTED)

    def _heed(self, status: EngineStatus) -> None:
        """Say who takes control, and what the run asks."""
        if status.driven_by != self._driver:
            self._driver = status.driven_by
            if self._driver and not is_client(self._driver, self._client.who):
                say_warning(f"{self._driver} took control of the engine; the run goes on.")
        if not status.prompt or status.state is EngineState.PAUSED:
            self._asked = ""
        elif self._asked != status.prompt:
            self._asked = status.prompt
            if self._yes:
                self._confirm()
            else:
                err.bell()
                say(f"{status.prompt}  [Enter to go on]", "bold yellow")

    def _answer(self) -> None:
        for _ in sys.stdin:
            if self._asked:
                self._confirm()

    def _confirm(self) -> None:
        try:
            self._client.confirm()
        except HotstageError as error:
            say_error(str(error))

    def _interrupt(self) -> None:
        self._interrupts += 1
        try:
            if self._interrupts == 1:
                say("Ending the run safely. Press Ctrl-C again to switch the heater off at once.")
                self._client.abort("Ctrl-C")
            else:
                say("Heater off.")
                self._client.heater_off("Ctrl-C, twice")
        except HotstageError as error:
            say_error(str(error))


def _conclude(status: EngineStatus, folder: str) -> int:
    if status.state is EngineState.COMPLETED:
        say(f"Completed in {show_duration(status.t_s)} of run time. Data {folder}", "bold green")
    elif status.state is EngineState.ABORTED:
        say(f"Aborted: {status.cause}", "bold yellow")
    else:
        say_error(f"the run failed: {status.cause}")
    return EXIT.get(status.state, 1)
