"""`hotstage run`: one run with a live progress display, ended safely by Ctrl-C."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.live import Live

from acquire.cli.console import err, out, say, say_error, say_warning
from acquire.cli.continuing import tell
from acquire.cli.display import progress_table, status_line
from acquire.clock import VirtualClock
from acquire.engine import Engine, EngineState
from acquire.engine.clients import client_name
from acquire.engine.continuation import plan_continuation, prepare_continuation, take_up
from acquire.engine.experiment import (
    PICTURE_NAME,
    SUMMARY_NAME,
    Experiment,
    carry_out,
    check_folder,
    default_folder,
    prepare,
)
from acquire.errors import ConfigError, HotstageError
from acquire.recipe import Recipe, Step, WaitForOperator
from acquire.remote import connect
from acquire.station import OpenStation, Station
from acquire.store.after import WORK_NAME
from acquire.stream import RunReport
from acquire.units import show_duration

logger = logging.getLogger(__name__)

REFRESH_S = 0.25
LINE_EVERY_S = 5.0
EXIT = {"completed": 0, "aborted": 3, "failed": 1}


@dataclass(frozen=True, slots=True)
class How:
    """The options of `hotstage run` that say how, not what."""

    station: str
    truth: bool = False
    seed: int | None = None
    virtual: bool = False
    yes: bool = False


def run_recipe(path: Path, output: Path | None, how: How) -> int:
    """Check and run a recipe; returns the exit status."""
    recipe = Recipe.load(path)
    station = with_seed(Station.load(how.station), how.seed)
    folder = output if output is not None else default_folder(recipe)
    check_folder(folder)
    _need_operator(recipe.flat_steps(), how)
    with _opened(station, virtual=how.virtual) as opened:
        engine = Engine(opened, "hotstage run")
        report = _run(engine, prepare(engine, recipe, folder), how)
    return _conclude(report, folder)


def continue_run(run: Path, recipe_path: Path | None, output: Path | None, how: How) -> int:
    """Go on with a run that was cut off; returns the exit status."""
    if output is not None:
        raise ConfigError(
            f"--output {output}: a continuation is stored in the folder of its run. Leave it out."
        )
    recipe = Recipe.load(recipe_path) if recipe_path is not None else None
    station = with_seed(Station.load(how.station), how.seed)
    ended = take_up(run, station)
    with _opened(station, virtual=how.virtual) as opened:
        engine = Engine(opened, "hotstage run")
        continuation = plan_continuation(ended, opened, recipe)
        tell(continuation)
        _need_operator(continuation.remaining, how)
        report = _run(engine, prepare_continuation(engine, continuation), how)
    return _conclude(report, continuation.folder)


def _run(engine: Engine, experiment: Experiment, how: How) -> RunReport:
    _introduce(experiment, engine.station, virtual=how.virtual)
    experiment = replace(experiment, by=client_name("terminal"))
    return _Runner(engine, experiment, truth=how.truth, yes=how.yes).run()


def _need_operator(steps: Iterable[Step], how: How) -> None:
    needed = any(isinstance(step, WaitForOperator) for step in steps)
    if needed and not how.yes and not sys.stdin.isatty():
        raise ConfigError(
            "the recipe waits for an operator, and nobody can answer here. Run it in a terminal, or "
            "pass --yes to confirm without asking."
        )


def with_seed(station: Station, seed: int | None) -> Station:
    """The station with another seed for its simulation, if one is given."""
    return station if seed is None else station.with_seed(seed)


@contextmanager
def _opened(station: Station, *, virtual: bool) -> Iterator[OpenStation]:
    if virtual and not station.in_process:
        raise ConfigError(
            f"--virtual: the drivers of station {station.name!r} talk to devices, whose time is real. "
            "Leave the option out."
        )
    with station.open(VirtualClock()) if virtual else connect(station) as opened:
        yield opened


def _introduce(experiment: Experiment, opened: OpenStation, *, virtual: bool) -> None:
    expected, station = experiment.expected, opened.station
    say(f"{experiment.recipe.name}", "bold")
    if virtual:
        say(f"Station {station.name}: SIMULATED, in virtual time.", "yellow")
    elif station.simulated:
        say(
            f"Station {station.name}: SIMULATED; its clock runs {opened.clock.rate:g} × faster than "
            "the wall, and all times below are its.",
            "yellow",
        )
    else:
        say(f"Station {station.name}.")
    if opened.address:
        say(f"Instrument server at {opened.address}; it makes safe when this program dies.")
    say(
        f"About {show_duration(expected.duration_s)} of run time"
        + ("" if virtual else f", {show_duration(expected.wall_s)} on the wall")
        + f", into {experiment.folder}"
    )
    for warning in expected.warnings:
        say_warning(warning)


class _Runner:
    """One run in a thread of its own, while this one shows it and obeys the keyboard."""

    def __init__(self, engine: Engine, experiment: Experiment, *, truth: bool, yes: bool) -> None:
        self._engine = engine
        self._experiment = experiment
        self._truth = truth
        self._yes = yes
        self._report: RunReport | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._said = ""

    def run(self) -> RunReport:
        """Run to the end; raises what kept it from running at all."""
        threading.Thread(target=self._work, name="run", daemon=True).start()
        if sys.stdin.isatty():
            threading.Thread(target=self._answer_prompts, name="keyboard", daemon=True).start()
        interrupts = 0
        while not self._ended.is_set():
            try:
                self._watch()
            except KeyboardInterrupt:
                interrupts += 1
                self._interrupt(interrupts)
            except Exception:
                # data before display: a terminal that goes away does not end a run
                logger.exception("the progress display failed; the run goes on without it")
                self._watch = self._watch_blindly  # type: ignore[method-assign]
        if self._error is not None:
            raise self._error
        assert self._report is not None
        return self._report

    def _work(self) -> None:
        try:
            self._report = carry_out(self._engine, self._experiment, truth=self._truth)
        except Exception as error:  # noqa: BLE001  handed to the main thread
            self._error = error
        finally:
            self._ended.set()

    def _watch(self) -> None:
        if not out.is_terminal:
            self._watch_plainly()
            return
        with Live(console=out, refresh_per_second=1 / REFRESH_S, transient=False) as live:
            while not self._ended.wait(REFRESH_S):
                live.update(progress_table(self._engine.status))
                self._confirm_if_asked()
            live.update(progress_table(self._engine.status))

    def _watch_plainly(self) -> None:
        last, last_said = ("", -1), -math.inf
        while not self._ended.wait(REFRESH_S):
            status = self._engine.status
            self._confirm_if_asked()
            key = (status.state.value, status.step_index)
            if key != last or time.monotonic() - last_said > LINE_EVERY_S:
                last, last_said = key, time.monotonic()
                say(status_line(status))

    def _watch_blindly(self) -> None:
        while not self._ended.wait(REFRESH_S):
            if self._yes and self._engine.status.prompt:
                self._engine.confirm()

    def _confirm_if_asked(self) -> None:
        status = self._engine.status
        if not status.prompt or status.state is EngineState.PAUSED:
            self._said = ""
            return
        if self._yes:
            self._engine.confirm()
        elif self._said != status.prompt:
            self._said = status.prompt
            err.bell()
            say(f"{status.prompt}  [Enter to go on]", "bold yellow")

    def _answer_prompts(self) -> None:
        for _ in sys.stdin:
            if self._engine.status.prompt:
                try:
                    self._engine.confirm()
                except HotstageError as error:
                    say_error(str(error))

    def _interrupt(self, count: int) -> None:
        try:
            if count == 1:
                say("Ending the run safely. Press Ctrl-C again to switch the heater off at once.")
                self._do(lambda: self._engine.abort("Ctrl-C"))
            else:
                say("Heater off.")
                self._do(lambda: self._engine.heater_off("Ctrl-C, twice"))
        except KeyboardInterrupt:  # while it was being said
            self._do(lambda: self._engine.heater_off("Ctrl-C, twice"))

    def _do(self, command: Callable[[], object]) -> None:
        """Command in a thread: a disk that hangs must not keep the next Ctrl-C from its work."""

        def obey() -> None:
            try:
                command()
            except HotstageError as error:
                say_error(str(error))

        threading.Thread(target=obey, name="ctrl-c", daemon=True).start()


def _conclude(report: RunReport, folder: Path) -> int:
    if report.outcome == "completed":
        say(f"Completed in {show_duration(report.t_end_s)} of run time.", "bold green")
    elif report.outcome == "aborted":
        say(f"Aborted: {report.cause}", "bold yellow")
    else:
        say_error(f"the run failed: {report.cause}")
    if (folder / SUMMARY_NAME).exists():
        say(f"Data {folder}, summary {folder / SUMMARY_NAME}, picture {folder / PICTURE_NAME}")
    if (folder / WORK_NAME).exists():
        say(f"Smaller images are not finished; for the rest run `hotstage consolidate {folder}`.")
    return EXIT[report.outcome]
