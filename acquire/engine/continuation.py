"""Goes on with a run that was cut off, in a segment of its own, and never replays heat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from acquire.engine.core import Engine
from acquire.engine.earlier import Earlier
from acquire.engine.experiment import Experiment, carry_out, check_folder
from acquire.engine.heat import Heat, check_heat, last_heat, moves_nothing, present_heat
from acquire.engine.history import PastStep, left_of, past_steps
from acquire.engine.inheritance import earlier_of
from acquire.engine.rehearsal import preflight
from acquire.errors import ConfigError, HotstageError, RecipeError, RunAborted, StoreError
from acquire.recipe import Hold, Outcome, Plan, Recipe, Regulate, Step, When
from acquire.station import OpenStation, Station
from acquire.store import Run, open_run, segments
from acquire.store.segments import make_whole, next_segment, run_folder

_OWN_RECIPE = "give the continuation a recipe of its own: hotstage run RECIPE --continue {}."
_MEND = (
    "A continuation never heats to get back to where the run was. To heat, begin with a ramp, and "
    + _OWN_RECIPE
)


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a continuation of a run will do."""

    run: Path
    """The folder of the whole run."""
    folder: Path
    """That of the new segment."""
    ended: str
    """How the segment before ended, in words."""
    recovered: tuple[str, ...]
    """What had to be repaired of the segments before."""
    recipe: Recipe
    new_recipe: bool
    past: tuple[PastStep, ...]
    """Steps of the recipe that were begun."""
    rest: bool
    """Whether the first remaining step is what was left of the last of them."""
    remaining: tuple[Step, ...]
    """What is still to be done; of a script only its first step is known."""
    was: Heat
    """Where the holder was when the run was cut off."""
    earlier: Earlier
    script: Callable[[], Plan] | None = None

    @property
    def done(self) -> tuple[PastStep, ...]:
        """Steps that are not repeated."""
        return self.past[:-1] if self.rest else self.past

    def plan(self, station: OpenStation | None = None) -> Plan:
        """The steps that remain.

        The recipe or script is told how its past steps ended. The holder of ``station``, if one is
        given, is asked before the first step that depends on the temperature: it may have moved
        since the continuation was planned.
        """
        source = self.script() if self.script is not None else self.recipe.plan()
        try:
            step, rest = advance(source, self.past)
            unchecked = station
            while step is not None:
                if unchecked is not None and not moves_nothing(step):
                    self.check(step, present_heat(unchecked.holder.read()), rest=rest)
                    unchecked = None
                outcome = yield step
                step, rest = _send(source, outcome), False
        finally:
            source.close()

    def check(self, step: Step, present: Heat, *, rest: bool) -> None:
        """Raise LimitError if going on with this step would replay heat."""
        check_heat(
            step,
            self.was,
            present,
            cut_off=rest,
            new_recipe=self.new_recipe,
            mend=_MEND.format(self.run),
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is not being written any more, with all of its segments."""

    folder: Path
    runs: tuple[Run, ...]
    recovered: tuple[str, ...]
    """What had to be repaired of them."""


def take_up(path: Path | str, station: Station) -> Ended:
    """Open a run to go on with it; what a dead program left unfinished in its folder is recovered.

    Args:
        path: folder of the run, or of one of its segments.
        station: where it shall go on.

    Raises:
        StoreError: it is still being written, or cannot be read.
        ConfigError: it was made on another station.
    """
    folder = run_folder(path)
    recovered = make_whole(folder)
    runs = segments(folder)
    made_on = runs[-1].header.station
    if made_on != station.name:
        raise ConfigError(
            f"{folder} was made on station {made_on!r}, and this is {station.name!r}. Continue it "
            f"there: --station {made_on}."
        )
    return Ended(folder, runs, recovered)


def plan_continuation(
    ended: Ended,
    station: OpenStation,
    recipe: Recipe | None = None,
    script: Callable[[], Plan] | None = None,
) -> Continuation:
    """See what is left of a run.

    Args:
        ended: the run.
        station: open; its holder is read, and nothing is moved.
        recipe: what shall be done instead of what is left.
        script: a script's plan: under ``recipe``, or, without one, the plan that was cut off.

    Raises:
        ConfigError: nothing is left of it.
        RecipeError: what is left cannot be told, or needs a script.
        LimitError: the holder is not where it was, and a step would replay heat.
        FaultError, InstrumentError: the heater is tripped, or moving.
    """
    folder, runs = ended.folder, ended.runs
    last = runs[-1]
    chain = _chain(runs)
    past = past_steps(chain) if recipe is None else ()
    fresh = recipe is not None or (_begins_anew(chain[0]) and not past)
    basis = recipe if recipe is not None else _stored_recipe(last, folder, script)
    source = script() if script is not None else basis.plan()
    try:
        first, rest = advance(source, past)
    finally:
        source.close()
    if first is None:
        raise ConfigError(
            f"nothing is left to do in {folder}: {_ended(last)}. To go on with other steps, "
            + _OWN_RECIPE.format(folder)
        )
    done = past[:-1] if rest else past
    following = list(basis.steps_after([step.outcome.result for step in done]))[1:]
    remaining = (first,) if script is not None else (first, *following)
    found = Continuation(
        run=folder,
        folder=next_segment(folder),
        ended=_ended(last),
        recovered=ended.recovered,
        recipe=basis,
        new_recipe=fresh,
        past=past,
        rest=rest,
        remaining=remaining,
        was=last_heat(runs),
        earlier=earlier_of(
            runs, len(done), rest=first if rest else None, new_recipe=recipe is not None
        ),
        script=script,
    )
    present = present_heat(station.holder.read())
    judged = next((step for step in remaining if not moves_nothing(step)), None)
    if judged is not None:
        found.check(judged, present, rest=rest and judged is first)
    return found


def prepare_continuation(engine: Engine, continuation: Continuation) -> Experiment:
    """Check what remains against the station before anything moves.

    The specimen that is simulated for the check has no past, so that its conditions may stay unmet
    there: that is a warning, and stops nothing.

    Raises:
        StoreError: the folder is taken.
        RecipeError: something would stop the run; all of it is listed.
    """
    check_folder(continuation.folder)
    expected = preflight(
        continuation.recipe,
        engine.station.station,
        lambda: _not_aborting(continuation.plan()),
        continuation.folder,
        earlier=continuation.earlier,
    )
    if not expected.good:
        raise RecipeError("\n".join(expected.problems))
    return Experiment(
        continuation.recipe,
        continuation.folder,
        expected,
        lambda: continuation.plan(engine.station),
        continuation.earlier,
    )


def continue_experiment(
    run: str | Path,
    station: OpenStation,
    recipe: Recipe | None = None,
    plan: Callable[[], Plan] | None = None,
    *,
    truth: bool = False,
) -> Run:
    """Go on with a run that was cut off, in a new segment in its folder; returns that segment.

    Steps that are done are not repeated; a script's generator is sent how they ended.

    Args:
        run: folder of the run.
        station: open, the same as before.
        recipe: what shall be done instead of what is left; for a script its header.
        plan: a script's generator function. It is called three times, twice for checks.
        truth: store a simulation's truth beside the segment.

    Raises:
        HotstageError: as :func:`take_up` and :func:`plan_continuation`, or the continuation failed.
        RunAborted: it was aborted.
    """
    engine = Engine(station, "hotstage script")
    ended = take_up(run, station.station)
    continuation = plan_continuation(ended, station, recipe, plan)
    report = carry_out(engine, prepare_continuation(engine, continuation), truth=truth)
    if report.outcome == "aborted":
        raise RunAborted(report.cause)
    if report.outcome != "completed":
        raise HotstageError(f"the run failed: {report.cause}")
    return open_run(continuation.folder)


def _not_aborting(source: Plan) -> Plan:
    """The same steps, but one whose condition is not met, or not decided, is over."""
    try:
        step = _begin(source)
        while step is not None:
            if isinstance(step, Hold | Regulate):
                step = step.model_copy(update={"else_": "continue"})
            elif isinstance(step, When) and step.unknown == "abort":
                step = step.model_copy(update={"unknown": "continue"})
            outcome = yield step
            step = _send(source, outcome)
    finally:
        source.close()


def advance(source: Plan, past: Sequence[PastStep]) -> tuple[Step | None, bool]:
    """Bring a new plan to where a run was cut off, without doing anything.

    Returns:
        The step to go on with, None at the end; and whether it is what was left of the last of
        ``past``.

    Raises:
        RecipeError: the plan yields other steps than those that were done.
    """
    step = _begin(source)
    for number, known in enumerate(past, 1):
        settings = None if step is None else step.model_dump(mode="json", by_alias=True)
        if step is None or (step.kind, settings) != (known.kind, dict(known.settings)):
            raise RecipeError(
                f"step {number} of the run was '{known.text}', and the plan has "
                f"'{'nothing' if step is None else step}' there now. Continue a script with the "
                "script that was run."
            )
        rest = None if known.result else left_of(step, known)
        if rest is not None:
            return rest, True
        step = _send(source, known.outcome)
    return step, False


def _begin(source: Plan) -> Step | None:
    try:
        return next(source)
    except StopIteration:
        return None


def _send(source: Plan, outcome: Outcome) -> Step | None:
    try:
        return source.send(outcome)
    except StopIteration:
        return None


def _begins_anew(run: Run) -> bool:
    """Whether a segment was given a recipe of its own."""
    return run.header.continues is not None and run.header.continues.new_recipe


def _chain(runs: Sequence[Run]) -> Sequence[Run]:
    """The segments that have the last one's recipe."""
    first = max((at for at, run in enumerate(runs) if _begins_anew(run)), default=0)
    return runs[first:]


def _stored_recipe(last: Run, folder: Path, script: Callable[[], Plan] | None) -> Recipe:
    if last.report is not None and last.report.outcome == "completed":
        raise ConfigError(
            f"{folder} is complete: nothing is left to do. To go on with other steps, "
            + _OWN_RECIPE.format(folder)
        )
    recipe = Recipe.parse(last.header.recipe_yaml, f"the recipe of {last.path}")
    if not recipe.steps and script is None:
        raise RecipeError(
            f"{folder} was run by a script, which alone knows what is left. Continue it from the "
            "script, with acquire.continue_experiment(), or " + _OWN_RECIPE.format(folder)
        )
    if recipe.steps and script is not None:
        raise RecipeError(
            f"{folder} was run by a recipe, not by a script. Leave the plan out, or give it a recipe "
            "of its own."
        )
    return recipe


def _ended(run: Run) -> str:
    if run.report is None:
        raise StoreError(f"{run.path} was not closed. Run `hotstage recover {run.path}` first.")
    cause = f": {run.report.cause}" if run.report.cause else ""
    return f"it {'was aborted' if run.report.outcome == 'aborted' else run.report.outcome}{cause}"
