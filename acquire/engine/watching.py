"""Shows live estimates to whatever a step waits for: conditions, decisions, regulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from acquire.engine.context import RunContext
from acquire.engine.estimating import Judged, periods_s
from acquire.engine.runloop import RunLoop
from acquire.errors import RunAborted
from acquire.recipe import AnyCondition, ConditionsWatch, When
from acquire.units import show


class Watching:
    """The estimates of one run, as its present step sees them."""

    def __init__(self, run: RunContext, loop: RunLoop) -> None:
        self._run = run
        self._loop = loop
        self._listeners: list[Callable[[Judged], bool]] = []
        self._newest: dict[str, Judged] = {}

    def judge(self, judged: Judged) -> None:
        """Show a new estimate to the step; from the estimator's thread."""
        self._newest[judged.estimate.estimator] = judged
        told = [listener(judged) for listener in tuple(self._listeners)]
        if any(told):
            self._run.wake.set()

    @contextmanager
    def listening(self, listener: Callable[[Judged], bool]) -> Iterator[None]:
        """Call ``listener`` with every estimate; where it returns True the run loop looks around."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @contextmanager
    def watching(
        self, condition: AnyCondition, *, any_frame: bool = False
    ) -> Iterator[ConditionsWatch]:
        """Watch a condition within a step.

        Args:
            condition: what to watch.
            any_frame: count the newest estimates of before the step, too.

        Raises:
            RecipeError: a quantity is not estimated.
        """
        run = self._run
        condition.check(run.quantities)
        since_s = float("-inf") if any_frame else run.now_s()
        periods = periods_s(run.recipe, [part.quantity for part in condition.parts])
        watch = ConditionsWatch(condition, run.quantities, since_s, periods)
        if any_frame:
            for judged in tuple(self._newest.values()):
                watch.judge(judged.estimate, judged.exposure_start_s, run.now_s())

        def listen(judged: Judged) -> bool:
            watch.judge(judged.estimate, judged.exposure_start_s, run.now_s())
            return watch.verdict(run.now_s()) is not None

        with self.listening(listen):
            yield watch

    def decide(self, step: When) -> str:
        """``met``, ``not_met`` or ``unknown``; raises what an unknown shall end the run with."""
        run = self._run
        with self.watching(step.condition, any_frame=step.frames == "any") as watch:
            left_s = step.wait
            while (verdict := watch.verdict(run.now_s())) is None and left_s > 1e-9:
                before = run.now_s()
                paused_s = self._loop.wait(min(left_s, 1.0))
                left_s -= run.now_s() - before - paused_s
        if verdict is not None:
            word = "met" if verdict else "not_met"
            self._tell(watch, "decision", word, "so it is" if verdict else "it is not so")
            return word
        text = f"{step.condition}: no estimate told within {show(step.wait, 's')}"
        run.note("decision", text, {"condition": str(step.condition), "verdict": "unknown"})
        if step.unknown == "abort":
            raise RunAborted(
                f"{text} (the recipe says to abort then; 'unknown' of the step says what else)"
            )
        if step.unknown == "pause":
            self._loop.request_pause(text)
            self._loop.wait(0.0)
        return "unknown"

    def tell_met(self, watch: ConditionsWatch) -> None:
        """Note what met a condition."""
        self._tell(watch, "condition", "met", "met")

    def tell_not_met(self, condition: AnyCondition, after_s: float, otherwise: str) -> None:
        """Note that a condition was not met in time, and do what the recipe says then.

        Raises:
            RunAborted: if it says so.
        """
        text = f"{condition}: not met within {show(after_s, 's')}"
        self._run.note("condition", text)
        if otherwise == "abort":
            raise RunAborted(f"{text} (the recipe says to abort then)")
        if otherwise == "pause":
            self._loop.request_pause(text)
            self._loop.wait(0.0)

    def _tell(self, watch: ConditionsWatch, kind: str, verdict: str, words: str) -> None:
        run = self._run
        seen, details = [], []
        for condition, estimate in watch.grounds:
            value = estimate.values[condition.quantity]
            unit = run.quantities[condition.quantity].unit
            found = {
                "quantity": condition.quantity,
                "stream": estimate.stream,
                "frame_index": estimate.frame_index,
                "value": value.value,
                "sigma": value.sigma,
                "unit": unit,
                "latency_s": run.now_s() - estimate.t_s,
            }
            if condition.of_channel:
                number = show(value.value, unit)
                found["reading"] = found.pop("frame_index")
                del found["sigma"]  # it is not known
            else:
                number = f"{value.value:.3f} ± {value.sigma:.3f} {'' if unit == '1' else unit}"
            by = "reading" if condition.of_channel else "frame"
            seen.append(f"by {by} {estimate.frame_index}, {number.rstrip()}")
            details.append(found)
        first = details[0] if details else {}
        run.note(
            kind,
            f"{watch.condition}: {words} {'; '.join(seen)}",
            {
                "condition": str(watch.condition),
                "verdict": verdict,
                **{key: value for key, value in first.items() if key != "quantity"},
                "grounds": details,
            },
        )
