"""`hotstage analyse`: stored runs measured again, with other settings, on other processors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from acquire.analysis import Analysis, AnalysisSettings, analyse
from acquire.cli.console import err, say, say_warning
from acquire.store import Run, open_run

_MOST_TOLD = 10


def analyse_runs(
    folders: Sequence[Path],
    settings: Path | None,
    changes: Sequence[str],
    only: Sequence[str],
    name: str | None,
    output: Path | None,
    scheduler: str,
    workers: int | None,
    *,
    as_live: bool,
) -> int:
    """Analyse runs and tell where; returns 1 if some frames could not be read."""
    written = AnalysisSettings.load(settings) if settings is not None else None

    def choose(run: Run) -> AnalysisSettings:
        if written is not None:
            chosen = written
        elif changes and not run.estimators:
            chosen = AnalysisSettings({}, "--set")
        else:
            chosen = AnalysisSettings.of_run(run)
        return chosen.with_options(changes).only(only)

    for folder in folders:
        if open_run(folder).report is None:
            say_warning(f"{folder} is not closed; what is on the disk by now is analysed.")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=err, disable=not err.is_terminal) as bar:
        tasks = {open_run(f).path: bar.add_task(f.name, total=None) for f in folders}
        done = analyse(
            folders,
            choose,
            name=name,
            output=output,
            scheduler=scheduler,
            workers=workers,
            as_live=as_live,
            progress=lambda run, done, total: bar.update(tasks[run], completed=done, total=total),
        )
    for analysis in done:
        _tell(analysis)
    return int(any(analysis.unreadable for analysis in done))


def _tell(analysis: Analysis) -> None:
    say(f"{analysis.frames} frames of {analysis.run.name} are analysed in {analysis.folder}")
    for text in analysis.unreadable[:_MOST_TOLD]:
        say_warning(f"not measured, and flagged: {text}")
    if len(analysis.unreadable) > _MOST_TOLD:
        say_warning(f"{len(analysis.unreadable) - _MOST_TOLD} more could not be read.")
    if analysis.unreadable:
        say_warning(f"Run `hotstage verify {analysis.run}` for the whole list.")
