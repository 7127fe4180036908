"""Runs an experiment into a folder: checks it, runs it, and leaves summary, picture and, if asked, the truth."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from acquire.engine.clients import client_name
from acquire.engine.core import Engine
from acquire.engine.disk import nearest
from acquire.engine.earlier import NOTHING, Earlier
from acquire.engine.estimating import make_estimators
from acquire.engine.preparing import EstimatorMaker
from acquire.engine.rehearsal import Preflight, preflight
from acquire.errors import HotstageError, RecipeError, RunAborted, StoreError
from acquire.instruments import Simulation
from acquire.recipe import Plan, Recipe
from acquire.station import OpenStation
from acquire.store import Run, RunWriter, open_run
from acquire.store.after import consolidate_within
from acquire.store.layout import SUMMARY_NAME as SUMMARY_NAME
from acquire.stream import RunReport

logger = logging.getLogger(__name__)

PICTURE_NAME = "summary.png"
TRUTH_NAME = "truth.jsonl"

OVERVIEWS_WITHIN_S = 30.0
"""Wall time for smaller images and statistics at the end of a run; `hotstage consolidate` does the rest."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What shall be run, where to, checked."""

    recipe: Recipe
    folder: Path
    expected: Preflight
    plan: Callable[[], Plan] | None = None
    earlier: Earlier = NOTHING
    """What a run that this one continues has used up."""
    by: str = ""
    """Who starts it, for the journal."""


def check_folder(folder: Path) -> None:
    """Raise StoreError if a run cannot be stored there, without touching anything."""
    if folder.exists():
        raise StoreError(
            f"the output folder {str(folder)!r} exists already and is left as it is. "
            "Name another one."
        )
    place = nearest(folder.parent)
    if not place.is_dir():
        raise StoreError(f"{str(folder)!r} cannot be made: {str(place)!r} is a file. Name another.")
    if not os.access(place, os.W_OK):
        raise StoreError(
            f"{str(folder)!r} cannot be made: you may not write in {str(place)!r}. Name another one."
        )


def prepare(
    engine: Engine, recipe: Recipe, folder: Path, plan: Callable[[], Plan] | None = None
) -> Experiment:
    """Check a recipe or script against a station before anything moves.

    Raises:
        StoreError: the folder is taken.
        RecipeError: something would stop the run; all of it is listed.
    """
    check_folder(folder)
    expected = preflight(recipe, engine.station.station, plan, folder)
    if not expected.good:
        raise RecipeError("\n".join(expected.problems))
    return Experiment(recipe, folder, expected, plan)


def carry_out(
    engine: Engine,
    experiment: Experiment,
    *,
    truth: bool = False,
    make: EstimatorMaker = make_estimators,
) -> RunReport:
    """Run a checked experiment to its end and leave its summary and picture beside the data.

    Raises:
        StoreError: the run is complete and stored, but its summary could not be written.
        HotstageError: a run is going on already. How the run itself ended is in the report.
    """
    report = run_stored(engine, experiment, make=make)
    problem = leave_pages(engine, experiment, truth=truth)
    if problem and report.outcome == "completed":
        raise StoreError(f"the run is complete and stored in {experiment.folder}, but {problem}")
    return report


def run_stored(
    engine: Engine, experiment: Experiment, *, make: EstimatorMaker = make_estimators
) -> RunReport:
    """Run a checked experiment into its folder, to its end; raises as :func:`carry_out`."""
    folder = experiment.folder
    return engine.run(
        experiment.recipe,
        RunWriter(folder, experiment.recipe.store.settings()),
        experiment.plan() if experiment.plan is not None else None,
        planned=experiment.expected.plan,
        folder=folder,
        make=make,
        earlier=experiment.earlier,
        by=experiment.by,
    )


def leave_pages(engine: Engine, experiment: Experiment, *, truth: bool = False) -> str:
    """Write summary and picture, and if asked the truth, beside a run that has ended.

    What fails here costs no data: it is returned in words, empty if all is well.
    """
    simulation = engine.station.simulation
    problem = ""
    try:
        run = open_run(experiment.folder)
        if truth and simulation is not None:
            export_truth(run, simulation, experiment.folder / TRUTH_NAME)
        write_pages(run)
    except (HotstageError, OSError) as error:
        logger.warning("no summary: %s", error)
        problem = f"summary and picture could not be written: {error}"
    _leave_overviews(engine, experiment.folder)
    return problem


def _leave_overviews(engine: Engine, folder: Path) -> None:
    """Add smaller images and statistics, for a while and as long as no other run goes on."""
    try:
        left = consolidate_within(
            folder, OVERVIEWS_WITHIN_S, stop=lambda: engine.status.state.active
        )
    except (HotstageError, OSError) as error:
        left = str(error)
    if left:
        logger.warning("%s: %s", folder, left)


def write_pages(run: Run) -> tuple[Path, Path]:
    """Write summary and picture into a run's folder; returns their paths."""
    # not before it is needed: it loads matplotlib, for which no start of a run has to wait
    from acquire.report import plot_maps, plot_run, run_profiles, summarise, to_markdown

    if "spectra" in run.streams.values():
        from acquire.measure.eels.warm import warm_up_apart

        warm_up_apart()  # windows are answered meanwhile
    profiles = run_profiles(run)
    text, picture = run.path / SUMMARY_NAME, run.path / PICTURE_NAME
    text.write_text(to_markdown(summarise(run, profiles)), encoding="utf-8")
    plot_run(run, picture, profiles)
    plot_maps(run, run.path)
    return text, picture


def export_truth(run: Run, simulation: Simulation, path: Path) -> int:
    """Write what really was in every recorded frame, as JSON lines; returns how many.

    Frames that the simulation no longer remembers are left out.
    """
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for stream, index, source in _sources(run):
            role = "scan" if run.streams[stream] == "images" else "spectrometer"
            try:
                facts = simulation.truth(role, source)
            except KeyError:
                continue
            file.write(json.dumps({"stream": stream, "index": index, **facts}) + "\n")
            count += 1
    return count


def _sources(run: Run) -> Iterator[tuple[str, int, int]]:
    for stream, kind in run.streams.items():
        data = run.images(stream) if kind == "images" else run.spectra(stream)
        for index, source in zip(
            data["frame_index"].values, data["source_index"].values, strict=True
        ):
            yield stream, int(index), int(source)


def default_folder(recipe: Recipe, base: Path = Path("runs")) -> Path:
    """``runs/2026-01-31_142530_name-of-the-recipe``."""
    slug = re.sub(r"[^a-z0-9]+", "-", recipe.name.lower()).strip("-") or "run"
    return base / f"{datetime.now(UTC).astimezone():%Y-%m-%d_%H%M%S}_{slug}"


def run_experiment(
    recipe: Recipe,
    station: OpenStation,
    folder: str | Path,
    plan: Callable[[], Plan] | None = None,
    *,
    truth: bool = False,
) -> Run:
    """Check and run a recipe, or a script's plan, into a new folder; returns the stored run.

    Args:
        recipe: the header and, without a plan, the steps.
        station: open, see :func:`acquire.connect`.
        folder: must not exist.
        plan: a generator function that yields steps and is sent their outcomes. It is called once
            for the check and once for the run.
        truth: store a simulation's truth beside the run.

    Raises:
        StoreError, RecipeError: the folder is taken, or something would stop the run.
        RunAborted: the run was aborted.
        HotstageError: the run failed.
    """
    engine = Engine(station, "hotstage script")
    experiment = prepare(engine, recipe, Path(folder), plan)
    report = carry_out(engine, replace(experiment, by=client_name("script")), truth=truth)
    if report.outcome == "aborted":
        raise RunAborted(report.cause)
    if report.outcome != "completed":
        raise HotstageError(f"the run failed: {report.cause}")
    return open_run(folder)
