"""Runs estimators beside a run: each in a task of its own, fed with the newest frame only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acquire import plugins
from acquire.clock import Task
from acquire.engine.context import RunContext
from acquire.errors import ConfigError, RecipeError
from acquire.instruments import Frame, StreamSpec
from acquire.recipe import Recipe
from acquire.stream import Estimate, Estimator, Mailbox, Quantity

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""Wall seconds that the end of a run waits for an estimator before it goes on without."""


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
    for name in recipe.estimate:
        factory = plugins.find(plugins.ESTIMATORS, name)
        for quantity in factory.quantities:
            if quantity.name in found:
                raise RecipeError(
                    f"estimate.{name} gives {quantity.name!r}, which another estimator gives too; "
                    "keep one of them."
                )
            found[quantity.name] = quantity
    return found


def make_estimators(recipe: Recipe, specs: Mapping[str, StreamSpec]) -> dict[str, Estimator]:
    """The recipe's estimators, ready; raises RecipeError naming the entry that cannot be used."""
    made: dict[str, Estimator] = {}
    for name, settings in recipe.estimate.items():
        factory = plugins.find(plugins.ESTIMATORS, name)
        try:
            made[name] = factory(name, specs[settings.stream], settings.channel, settings.options)
        except ConfigError as error:
            raise RecipeError(f"estimate.{name}: {error}") from error
    return made


class EstimatorTask:
    """One estimator, its mailbox and its task.

    An estimator that raises is disabled and the run goes on: data come before display.
    """

    def __init__(
        self,
        run: RunContext,
        name: str,
        estimator: Estimator,
        on_estimate: Callable[[Judged], None],
    ) -> None:
        self._run = run
        self._name = name
        self._estimator = estimator
        self._on_estimate = on_estimate
        self._mailbox: Mailbox[Frame] = Mailbox(run.clock)
        self._closing = run.clock.signal()
        run.sink.declare_estimates(name, estimator.quantities, estimator.columns)
        self._task: Task = run.clock.spawn(self._loop, f"estimator-{name}")

    def offer(self, frame: Frame) -> None:
        """Give it a recorded frame; never waits."""
        self._mailbox.put(frame)

    def close(self) -> None:
        """Let it finish the frame at hand, then stop it."""
        self._closing.set()
        self._mailbox.wake()
        rate = self._run.clock.rate
        if not self._task.join(PATIENCE_S * rate if rate != float("inf") else None):
            logger.error("estimator %s did not end; it is left behind", self._name)

    def _loop(self) -> None:
        try:
            self._measure()
        except Exception as error:  # noqa: BLE001  what cannot be written must end the run safely
            self._run.fail(error)

    def _measure(self) -> None:
        while not self._closing.is_set():
            frame = self._mailbox.take()
            if frame is None:
                continue
            try:
                estimate = self._estimator.update(frame)
            except Exception as error:
                logger.exception("estimator %s failed", self._name)
                self._run.warn(
                    f"estimator {self._name!r} failed on frame {frame.index} and is off from now "
                    f"on: {type(error).__name__}: {error}"
                )
                return
            if estimate is None:
                continue
            self._run.sink.append_estimate(estimate)
            self._run.live.put_estimate(estimate)
            self._on_estimate(Judged(estimate, frame.t_start_s))
