"""`hotstage check`: what a recipe would take, and what would stop it."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table
from rich.text import Text

from acquire.cli.console import out, say, say_error, say_warning
from acquire.engine import Preflight, preflight
from acquire.engine.experiment import check_folder
from acquire.errors import HotstageError
from acquire.recipe import Recipe
from acquire.station import Station
from acquire.units import show, show_bytes, show_duration

_RESULTS = {
    "met": "condition met",
    "not_met": "condition not met",
    "unknown": "not decided",
    "time_up": "time up",
    "done": "",
    "interrupted": "stopped",
}


def check_recipe(path: Path, station_name: str, output: Path | None) -> int:
    """Print what is expected; returns 0 if nothing would stop the run, else 1."""
    recipe, station = Recipe.load(path), Station.load(station_name)
    problems: list[str] = []
    if output is not None:
        try:
            check_folder(output)
        except HotstageError as error:
            problems.append(str(error))
    found = preflight(recipe, station, folder=output)
    _print(recipe, station, found)
    problems.extend(found.problems)
    for warning in found.warnings:
        say_warning(warning)
    for problem in problems:
        say_error(problem)
    if problems:
        return 1
    say("Nothing would stop this run.", "green")
    return 0


def _print(recipe: Recipe, station: Station, found: Preflight) -> None:
    say(f"{recipe.name}, on station {station.name}", "bold")
    if found.twin:
        say("Simulated instruments stand in for the station's own, under its limits.", "yellow")
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("#", justify="right")
    table.add_column("step")
    for heading in ("starts", "takes"):
        table.add_column(heading, justify="right")
    table.add_column("expected")
    for step, result in zip(found.plan.steps, found.results, strict=True):
        table.add_row(
            str(step.index + 1),
            Text(step.text),
            show_duration(step.t_start_s),
            show_duration(step.duration_s),
            _RESULTS.get(result, result),
        )
    out.print(table)
    if not math.isfinite(found.duration_s):
        return
    simulation = station.file.simulation
    say(
        f"duration   {show_duration(found.duration_s)}, the way down included"
        + (
            f" ({show_duration(found.wall_s)} on the wall: the simulation runs "
            f"{simulation.clock_rate:g} × faster)"
            if simulation is not None and simulation.clock_rate != 1
            else ""
        )
    )
    if math.isfinite(found.worst_s):
        say(f"at worst   {show_duration(found.worst_s)}, if it decides for what takes longer")
    limit = recipe.limits.dose
    say(
        f"dose       {show(found.dose_e_per_nm2, 'e/nm²', 3)}"
        + (f" of {show(limit, 'e/nm²')}" if limit is not None else ", no limit set")
    )
    frames = ", ".join(f"{name} {count}" for name, count in found.frames.items())
    say(f"frames     {frames or 'none'}")
    say(
        f"data       about {show_bytes(found.expected_bytes)}; "
        f"{show_bytes(found.free_bytes)} free on the disk"
        + (
            f", which takes {show_bytes(found.disk_bytes_per_s)} per second; at most "
            f"{show_bytes(found.needed_bytes_per_s)} per second are needed"
            if math.isfinite(found.disk_bytes_per_s)
            else ""
        )
    )
