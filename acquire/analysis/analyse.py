"""Re-measures stored runs with other settings: many at once, each beside itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from acquire.analysis.frames import BLOCK_BYTES
from acquire.analysis.job import FOLDER, Analysis, Job
from acquire.analysis.lanes import Lanes
from acquire.analysis.settings import AnalysisSettings
from acquire.errors import ConfigError, HotstageError, StoreError
from acquire.store import Run, open_run
from acquire.store.layout import check_name

_LOOK_S = 0.2
"""Some systems deliver Ctrl-C only between waits."""

Settings = AnalysisSettings | Mapping[str, Any] | str | Path
Choose = Callable[[Run], AnalysisSettings]


def analyse(
    runs: Sequence[Path | str],
    settings: Settings | Choose | None = None,
    *,
    name: str | None = None,
    output: Path | str | None = None,
    scheduler: str = "threads",
    workers: int | None = None,
    as_live: bool = False,
    block_bytes: int = BLOCK_BYTES,
    progress: Callable[[Path, int, int], None] = lambda run, done, total: None,
) -> list[Analysis]:
    """Measure stored runs again and write the estimates beside each of them.

    An analysis is a folder like that of a run, without frames: :func:`acquire.open_run` reads its
    ``estimates`` and ``particle_table``. With it lie ``analysis.json`` (run, settings, versions,
    checksums) and ``settings.yaml``. It appears under its name when it is whole.

    Args:
        runs: folders of runs, or of their segments.
        settings: estimators as in a recipe, or a YAML file with them, or a function that makes
            them for a run; by default those that each run was recorded with.
        name: of the analyses, ``RUN/analyses/NAME``; by default the next ``analysis-N``.
        output: another folder for the analysis; of several runs, each one's lies in it under the
            name of the run.
        scheduler: ``threads``, ``processes``, or the address of a Dask scheduler.
        workers: how many blocks are measured at once.
        as_live: measure every frame with what the frames before it have taught, as while recording,
            one after the other.
        block_bytes: about what one block of frames takes in memory; at most twice
            as many blocks as workers are there at a time, and one for every run measured as live.
        progress: is told, from any thread, the run, how many frames are done, and of how many.

    Returns:
        one analysis for each run, in their order.

    Raises:
        HotstageError: before anything was written, what cannot be done; later, what went wrong with
            a run, of which nothing is left, after the others were finished.
    """
    if not runs:
        raise ConfigError("name at least one run to analyse.")
    jobs = [
        Job.plan(
            run,
            _settings_for(run, settings),
            folder,
            as_live=as_live,
            block_bytes=block_bytes,
        )
        for run, folder in _places(runs, name, output)
    ]
    stop = threading.Event()
    with Lanes(scheduler, workers) as lanes:
        with ThreadPoolExecutor(min(len(jobs), lanes.workers), "analysis-run") as pool:
            futures = [
                pool.submit(job.carry_out, lanes, partial(progress, job.run.path), stop)
                for job in jobs
            ]
            try:
                while wait(futures, _LOOK_S).not_done:
                    pass
            except BaseException:  # Ctrl-C: end soon, and leave nothing half-done
                stop.set()
                for future in futures:
                    future.cancel()
                raise
    return _results(jobs, futures)


def _results(jobs: Sequence[Job], futures: Sequence[Future[Analysis]]) -> list[Analysis]:
    failed = [
        (job, error)
        for job, future in zip(jobs, futures, strict=True)
        if (error := future.exception()) is not None
    ]
    if not failed:
        return [future.result() for future in futures]
    first = failed[0][1]
    if not isinstance(first, HotstageError):
        raise first
    if len(jobs) == 1:
        raise first
    texts = "\n".join(f"{job.run.path}: {error}" for job, error in failed)
    raise type(first)(
        f"{len(failed)} of {len(jobs)} runs could not be analysed; the others were.\n{texts}"
    ) from first


def _settings_for(run: Run, settings: Settings | Choose | None) -> AnalysisSettings:
    if settings is None:
        return AnalysisSettings.of_run(run)
    if isinstance(settings, AnalysisSettings):
        return settings
    if isinstance(settings, str | Path):
        return AnalysisSettings.load(settings)
    if isinstance(settings, Mapping):
        return AnalysisSettings.of(settings)
    return settings(run)


def _places(
    runs: Sequence[Path | str], name: str | None, output: Path | str | None
) -> list[tuple[Run, Path]]:
    """Every run, opened, with the folder for its analysis; raises StoreError."""
    if name is not None:
        check_name(name, "an analysis")
    opened = [open_run(run) for run in runs]
    for run in opened:
        if run.header.analysis_of:
            raise StoreError(
                f"{run.path} is itself an analysis and has no frames; name the run "
                f"{run.header.analysis_of!r} that it is of."
            )
    paths = [run.path.absolute() for run in opened]
    for path in paths:
        if paths.count(path) > 1:
            raise StoreError(f"{path} is named twice; name each run once.")
    if output is None:
        return [(run, run.path / FOLDER / (name or _next_name(run))) for run in opened]
    if name is not None:
        raise ConfigError("give either a name (--name) or a folder (--output), not both.")
    if len(opened) == 1:
        return [(opened[0], Path(output))]
    places = [(run, Path(output) / run.path.name) for run in opened]
    if len({place for _, place in places}) < len(places):
        raise StoreError(
            f"several of the runs have folders of the same name, which would meet in {output}. "
            "Analyse them one by one, or beside themselves, without --output."
        )
    return places


def _next_name(run: Run) -> str:
    number = 1
    while (run.path / FOLDER / f"analysis-{number}").exists():
        number += 1
    return f"analysis-{number}"
