"""Carries out the operator's commands one after another, and reports how each ended."""

from __future__ import annotations

import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from acquire.engine.status import HostApi
from acquire.errors import HotstageError, LinkError, RecipeError
from acquire.recipe import Recipe

logger = logging.getLogger(__name__)

COMMAND_TOO_OLD_S = 2.0
MAX_RECIPE_BYTES = 4_000_000
MAX_SHOWN_STEPS = 5_000
_OTHER_VERSION = ("missing or unknown fields", "serves no method", " arguments, ")
"""What is said of a message, or a call, that only one of two versions knows."""


class HostConnection(HostApi, Protocol):
    """A host that can be hung up."""

    def close(self) -> None:
        """End the connection."""


Connect = Callable[[], HostConnection]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended; ``error`` is empty when the host took it."""

    name: str
    error: str
    took_s: float


@dataclass(frozen=True, slots=True)
class RecipeText:
    """A recipe file as read, or why it cannot be run."""

    path: Path
    text: str
    name: str
    steps: tuple[str, ...]
    """Its steps in words, repeats laid out."""
    error: str
    hottest_celsius: float = math.nan
    """By the recipe's own figures; what conditions decide is taken to last as long as it may."""
    duration_s: float = math.nan
    dose_limit_e_per_nm2: float = math.nan


OrderEvent = CommandResult | RecipeText
Asked = TypeVar("Asked")


@dataclass(slots=True)
class _Job:
    name: str
    run: Callable[[], object]
    born_s: float = field(default_factory=time.monotonic)


class Orders:
    """Two lanes of commands, each with its thread; ``stop`` ends them.

    What takes long (start, which checks the recipe first) never holds up what is urgent (pause,
    hold, abort). A lane that is full refuses, and says so.
    """

    def __init__(
        self, connect: Connect, report: Callable[[Any], None], stop: threading.Event
    ) -> None:
        self._connect = connect
        self._report = report
        self._stop = stop
        self._lock = threading.Lock()
        self._in_flight: list[str] = []
        self._lanes: dict[str, queue.Queue[_Job]] = {
            "orders": queue.Queue(maxsize=8),
            "urgent": queue.Queue(maxsize=8),
        }
        self.threads = [
            threading.Thread(
                target=partial(self._serve_lane, lane), name=f"window-{lane}", daemon=True
            )
            for lane in self._lanes
        ]
        for thread in self.threads:
            thread.start()

    def in_flight(self) -> tuple[str, ...]:
        """Names of the commands that have not been answered yet."""
        with self._lock:
            return tuple(self._in_flight)

    def read_recipe(self, path: Path) -> None:
        """Read a recipe file; a :class:`RecipeText` is reported."""
        self._put("orders", _Job("Open recipe", lambda: _read_recipe(path)))

    def order(self, name: str, call: Callable[[HostApi], None], urgent: bool = False) -> None:
        """Have a command carried out on a connection of its own; returns at once."""

        def run() -> CommandResult:
            # a new connection each time: a kept one may be dead, and a command is never sent twice
            host = self._connect()
            try:
                call(host)
            finally:
                host.close()
            return CommandResult(name, "", 0.0)

        self._put("urgent" if urgent else "orders", _Job(name, run))

    def ask(self, name: str, question: Callable[[HostApi], Asked]) -> None:
        """Have a question answered on a connection of its own; the answer itself is reported."""

        def run() -> Asked:
            host = self._connect()
            try:
                return question(host)
            finally:
                host.close()

        self._put("orders", _Job(name, run))

    def _put(self, lane: str, job: _Job) -> None:
        try:
            with self._lock:
                self._lanes[lane].put_nowait(job)
                self._in_flight.append(job.name)
        except queue.Full:
            error = "not sent: earlier commands have not been answered yet."
            self._report(CommandResult(job.name, error, 0.0))

    def _serve_lane(self, lane: str) -> None:
        jobs = self._lanes[lane]
        while not self._stop.is_set():
            try:
                job = jobs.get(timeout=0.1)
            except queue.Empty:
                continue
            event = self._do(job)
            with self._lock:
                self._in_flight.remove(job.name)
            self._report(event)

    def _do(self, job: _Job) -> object:
        waited_s = time.monotonic() - job.born_s
        if waited_s > COMMAND_TOO_OLD_S:
            error = f"not sent: it waited {waited_s:.1f} s behind another command. Press it again if it still holds."
            return CommandResult(job.name, error, waited_s)
        begun_s = time.monotonic()
        try:
            event = job.run()
        except Exception as error:
            if not isinstance(error, HotstageError):
                logger.exception("%s failed", job.name)
            return CommandResult(job.name, text_of(error), time.monotonic() - begun_s)
        if isinstance(event, CommandResult):
            return CommandResult(job.name, "", time.monotonic() - begun_s)
        return event


def text_of(error: BaseException) -> str:
    """What a person reads of an error: its own words, and the kind of one that is not ours."""
    text = str(error)
    if isinstance(error, LinkError) and any(sign in text for sign in _OTHER_VERSION):
        return (
            f"the engine is of another version of hotstage than this window ({text.rstrip('.')}). Let "
            "its run end, close all windows on it, wait half a minute, and open this one anew."
        )
    return text if isinstance(error, HotstageError) and text else f"{type(error).__name__}: {text}"


def _read_recipe(path: Path) -> RecipeText:
    try:
        size = path.stat().st_size
        if size > MAX_RECIPE_BYTES:
            raise RecipeError(
                f"{path} has {size} bytes; a recipe has at most {MAX_RECIPE_BYTES}. Open another file."
            )
        text = path.read_text(encoding="utf-8")
        recipe = Recipe.parse(text, str(path))
    except (OSError, UnicodeDecodeError) as error:
        return RecipeText(path, "", "", (), f"{path} cannot be read as a recipe: {error}")
    except HotstageError as error:
        return RecipeText(path, "", "", (), str(error))
    steps = tuple(str(step) for step in itertools.islice(recipe.flat_steps(), MAX_SHOWN_STEPS))
    # only a worker that reads a recipe needs it
    from gui.recipes.course import course_of

    course = course_of(recipe)
    hottest_celsius = max(course.profile_celsius, default=math.nan)
    limit = recipe.limits.dose
    return RecipeText(
        path,
        text,
        recipe.name,
        steps,
        "",
        hottest_celsius,
        course.duration_s,
        math.nan if limit is None else limit,
    )
