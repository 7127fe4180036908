"""Runs estimators beside a run: each in a task of its own, fed with the newest frame only."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from acquire import plugins
from acquire.bursts import SpectrumBlock
from acquire.clock import Task
from acquire.engine.companions import Asked, Companion
from acquire.engine.context import RunContext
from acquire.engine.memory import MemoryAccount
from acquire.errors import ConfigError, RecipeError
from acquire.instruments import Frame, StreamSpec
from acquire.recipe import Recipe
from acquire.stream import Estimate, Estimator, Mailbox, MeasuresBlocks, Quantity
from acquire.stream.choosing import check_choosing, chooses, make_estimator
from acquire.stream.prefix import prefixed, prefixed_estimate
from acquire.units import show_bytes

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""Wall seconds that the end of a run waits for an estimator before it goes on without."""
HANG_WALL_S = 30.0
"""An estimator that is at one frame for longer is taken to hang."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An estimate with the start of the exposure it came from, in run time."""

    estimate: Estimate
    exposure_start_s: float


def known_quantities(recipe: Recipe) -> dict[str, Quantity]:
    """Every quantity that a recipe's estimators give, by name.

    Raises:
        RecipeError: an estimator is unknown, or two give a quantity of the same name.
    """
    found: dict[str, Quantity] = {}
    for name, settings in recipe.estimate.items():
        factory = plugins.find(plugins.ESTIMATORS, settings.use or name)
        for quantity in prefixed(factory.quantities, settings.prefix):
            if quantity.name in found:
                raise RecipeError(
                    f"estimate.{name} gives {quantity.name!r}, which another estimator gives too; "
                    f"keep one of them, or write prefix: {name}_ to tell them apart."
                )
            found[quantity.name] = quantity
    return found


def spectral_quantities(recipe: Recipe) -> dict[str, str]:
    """Those that spectra tell, with the stream of each; raises as above."""
    found: dict[str, str] = {}
    for name, settings in recipe.estimate.items():
        if recipe.spectra(settings.stream) is not None:
            factory = plugins.find(plugins.ESTIMATORS, settings.use or name)
            told = prefixed(factory.quantities, settings.prefix)
            found |= {quantity.name: settings.stream for quantity in told}
    return found


def periods_s(recipe: Recipe, quantities: Iterable[str]) -> dict[str, float]:
    """How often each quantity comes, by its record's ``every``; 0 if back to back, or nobody says."""
    found = dict.fromkeys(quantities, 0.0)
    for name, settings in recipe.estimate.items():
        factory = plugins.find(plugins.ESTIMATORS, settings.use or name)
        told = {quantity.name for quantity in prefixed(factory.quantities, settings.prefix)}
        found |= dict.fromkeys(told & found.keys(), recipe.period_s(settings.stream))
    for name in found:
        channel = recipe.channels.get(name.partition(".")[0]) if "." in name else None
        found[name] = channel.every if channel is not None else found[name]
    return found


def check_estimators(recipe: Recipe) -> None:
    """Raise RecipeError or PluginError if an estimator is unknown, or not to be used as asked."""
    known_quantities(recipe)
    for name, settings in recipe.estimate.items():
        entry = recipe.record.get(settings.stream)  # none of spectra that steps take
        scan = entry.scan if entry is not None else None
        if scan is None or not chooses(settings.channel, scan.detectors):
            continue
        plugin = settings.use or name
        try:
            check_choosing(plugin, plugins.find(plugins.ESTIMATORS, plugin))
        except ConfigError as error:
            raise RecipeError(f"estimate.{name}.from = {settings.source!r}: {error}") from error


def make_estimators(recipe: Recipe, specs: Mapping[str, StreamSpec]) -> dict[str, Estimator]:
    """The recipe's estimators, ready; raises RecipeError naming the entry that cannot be used."""
    made: dict[str, Estimator] = {}
    for name, settings in recipe.estimate.items():
        plugin = settings.use or name
        factory = plugins.find(plugins.ESTIMATORS, plugin)
        spec = specs[settings.stream]
        try:
            made[name] = make_estimator(
                plugin, factory, name, spec, settings.channel, settings.options
            )
        except ConfigError as error:
            raise RecipeError(f"estimate.{name}: {error}") from error
    return made


class EstimatorTask:
    """One estimator, its mailbox and its task.

    An estimator that raises, hangs or leaks is disabled and the run goes on: data come before
    display. What it says later is not heard.
    """

    def __init__(
        self,
        run: RunContext,
        name: str,
        estimator: Estimator,
        on_estimate: Callable[[Judged], None],
        memory: MemoryAccount,
        hang_wall_s: float,
        companion: Companion | None = None,
    ) -> None:
        self._run = run
        self._companion = companion
        self._name = name
        self._estimator: Estimator | None = estimator
        self._on_estimate = on_estimate
        self._memory = memory
        self._hang_wall_s = hang_wall_s
        self._mailbox: Mailbox[Frame | SpectrumBlock] = Mailbox(run.clock)
        self._of_bursts = self._seen_of_bursts = self._blocks_seen = 0
        """Spectra that came in blocks, those of them that were measured, and in how many blocks."""
        self._closing = run.clock.signal()
        self._choice_told = False
        self._lock = threading.Lock()
        self._busy: tuple[int, float] | None = None
        """Frame at hand, and the wall time at which it was begun."""
        self._prefix = run.recipe.estimate[name].prefix
        quantities = prefixed(estimator.quantities, self._prefix)
        run.sink.declare_estimates(name, quantities, estimator.columns)
        self._task: Task = run.clock.spawn(self._loop, f"estimator-{name}")

    @property
    def on(self) -> bool:
        """Whether it still measures."""
        return self._estimator is not None

    def offer(self, frame: Frame | SpectrumBlock) -> None:
        """Give it a recorded frame or block; never waits: the one before is skipped if it still waits."""
        if self.on:
            self._of_bursts += len(frame) if isinstance(frame, SpectrumBlock) else 0
            self._mailbox.put(frame)

    def check(self) -> None:
        """Disable it if it hangs."""
        busy = self._busy
        if busy is not None and time.monotonic() - busy[1] > self._hang_wall_s:
            self._disable(f"hangs: it has been at frame {busy[0]} for over {self._hang_wall_s:g} s")

    def close(self) -> None:
        """Let it finish the frame at hand, then stop it; one that was disabled is not waited for."""
        self._closing.set()
        self._mailbox.wake()
        rate = self._run.clock.rate
        patience_s = (PATIENCE_S if self.on else 0.0) * rate if rate != float("inf") else None
        if not self._task.join(patience_s):
            logger.error("estimator %s did not end; it is left behind", self._name)
            with self._lock:
                self._estimator = None
        if self._of_bursts:
            self._run.note(
                "estimator",
                f"{self._name} measured {self._seen_of_bursts} of {self._of_bursts} spectra that came "
                f"in blocks, at {self._blocks_seen} times; all are stored",
                {"seen": self._seen_of_bursts, "spectra": self._of_bursts},
            )

    def _disable(self, why: str) -> None:
        with self._lock:
            if self._estimator is None:
                return
            # with it goes all that it holds, unless its own thread is stuck in it
            self._estimator = None
        self._memory.forget(self._name)
        self._mailbox.clear()
        self._mailbox.wake()
        self._run.warn(f"estimator {self._name!r} {why}. It is off from now on.")
        self._run.estimators_off.append(self._name)

    def _loop(self) -> None:
        try:
            while not self._closing.is_set() and self.on:
                frame = self._mailbox.take()
                if frame is not None:
                    self._measure(frame)
        except Exception as error:  # noqa: BLE001  what cannot be written must end the run safely
            self._run.fail(error)

    def _measure(self, newest: Frame | SpectrumBlock) -> None:
        estimator = self._estimator
        if estimator is None:
            return
        block = newest if isinstance(newest, SpectrumBlock) else None
        whole = estimator if block is not None and isinstance(estimator, MeasuresBlocks) else None
        frame = newest.frame(-1) if isinstance(newest, SpectrumBlock) else newest
        self._busy = frame.index, time.monotonic()
        try:
            with self._memory.working(self._name):
                if self._companion is not None:
                    self._companion.before(estimator, frame)
                if whole is not None and block is not None:
                    estimate = whole.update_block(block)
                else:
                    estimate = estimator.update(frame)
                asked = self._companion.ask(estimator) if self._companion is not None else Asked()
        except Exception as error:
            logger.exception("estimator %s failed", self._name)
            self._disable(f"failed on frame {frame.index}: {type(error).__name__}: {error}")
            return
        finally:
            self._busy = None
        if block is not None:
            self._blocks_seen += 1
            self._seen_of_bursts += len(block) if whole is not None else 1
        if estimate is not None:
            start_s = frame.t_start_s if whole is None or block is None else block.t_start_s[0]
            self._tell(estimate, float(start_s))
        if self._companion is not None and self.on:
            self._companion.serve(asked)
        leaked = self._memory.leaked_by(self._name)
        if leaked:
            self._disable(
                f"leaks: {show_bytes(leaked)} of memory came in use while it was measuring"
            )

    def _tell(self, measured: Estimate, exposure_start_s: float) -> None:
        estimate = prefixed_estimate(measured, self._prefix)
        with self._lock:  # so that nothing is said after it was disabled, or the store closed
            if self._estimator is None:
                return
            self._run.sink.append_estimate(estimate)
        if estimate.choice is not None and not self._choice_told:
            self._choice_told = True
            self._run.note(
                "estimator",
                f"{self._name} looks at {estimate.choice} from frame {estimate.frame_index} on",
                estimate.choice.attributes,
            )
        self._run.live.put_estimate(estimate)
        self._on_estimate(Judged(estimate, exposure_start_s))
