"""Writes a run's summary on one page, for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acquire.measure.eels import EDGE_TABLE
from acquire.report.maps import MapSummary
from acquire.report.summary import ChannelSummary, RunSummary, ScanSummary
from acquire.store.later_summary import FOLDER, LATER, cell, later_words
from acquire.stream import Value
from acquire.units import show, show_bytes, show_duration

_COLOURS = {"completed": "green", "aborted": "yellow", "failed": "red", "not closed": "magenta"}
QUANTITIES = {
    "mean_diameter": ("mean diameter", "nm"),
    "median_diameter": ("median diameter", "nm"),
    "count": ("particles in view", ""),
    "areal_density": ("areal density", "/µm²"),
    "coverage": ("coverage", ""),
    "growth_rate": ("growth rate", "nm/min"),
}
_A_DATE_S = 1e8
"""Clocks that begin at 0 do not know what day it is."""


def to_rich(summary: RunSummary) -> RenderableType:
    """The summary for a terminal."""
    title = Text(summary.name or summary.path.name, style="bold")
    title.append(f"   {summary.outcome}", style=_COLOURS.get(summary.outcome, "default"))
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for label, value in facts_of(summary):
        facts.add_row(label, Text(value))
    parts: list[RenderableType] = [title, facts]
    if summary.steps:
        steps = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for heading in ("step", "what", "from", "took", "ended"):
            steps.add_column(heading, justify="right" if heading in ("from", "took") else "left")
        for row in _step_rows(summary):
            steps.add_row(*(Text(cell) for cell in row))
        parts.append(steps)
    return Group(*parts)


def to_markdown(summary: RunSummary) -> str:
    """The summary as Markdown, ending with a new line."""
    lines = [f"# {summary.name or summary.path.name}", "", "| | |", "|---|---|"]
    lines += [f"| {label} | {cell(value)} |" for label, value in facts_of(summary)]
    if summary.steps:
        lines += ["", "| step | what | from | took | ended |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(cell(c) for c in row)} |" for row in _step_rows(summary)]
    return "\n".join(lines) + "\n"


def facts_of(summary: RunSummary) -> list[tuple[str, str]]:
    """Label and text of everything but the steps; what the run does not tell is left out."""
    facts = [
        ("outcome", f"{summary.outcome}: {summary.cause}" if summary.cause else summary.outcome),
        ("specimen", ", ".join(v for v in summary.specimen.values() if v)),
        ("station", _station(summary)),
        ("began", _began(summary)),
        ("duration", show_duration(summary.duration_s) if _known(summary.duration_s) else ""),
        ("images", _counts(summary.images)),
        ("spectra", _counts(summary.spectra)),
        ("missing frames", str(summary.missing_frames) if summary.missing_frames else ""),
        ("temperature", _temperature(summary)),
        *((QUANTITIES[n][0], _development(summary, n)) for n in QUANTITIES if n in summary.final),
        *((name, _channel(channel)) for name, channel in summary.channels.items()),
        ("dose", show(summary.dose_e_per_nm2, "e/nm²") if _known(summary.dose_e_per_nm2) else ""),
        ("on disk", show_bytes(summary.bytes_on_disk)),
        ("marks", "; ".join(f"{show_duration(t)}: {text}" for t, text in summary.marks)),
        ("faults", "; ".join(summary.faults)),
        ("flags", _flags(summary)),
        *((f"line scan {name}", _scan(scan)) for name, scan in summary.line_scans.items()),
        *((f"map {name}", _map(found)) for name, found in summary.maps.items()),
        (LATER, later_words(summary.later)),
        (FOLDER, str(summary.path)),
    ]
    return [(label, text) for label, text in facts if text]


def show_value(value: Value, unit: str) -> str:
    """A value with its σ, rounded to what the σ allows: ``8.83 ± 0.04 nm``."""
    after = f" {unit}" if unit else ""
    if not _known(value.value):
        return "–"
    if not _known(value.sigma) or value.sigma <= 0:
        return f"{value.value:.4g}{after}"
    digits = 1 - math.floor(math.log10(value.sigma))
    if digits < 0:
        return f"{round(value.value, digits):.0f} ± {round(value.sigma, digits):.0f}{after}"
    return f"{value.value:.{digits}f} ± {value.sigma:.{digits}f}{after}"


def _station(summary: RunSummary) -> str:
    if not summary.simulated:
        return summary.station
    rate = summary.clock_rate
    if math.isinf(rate):
        return f"{summary.station} (a simulation, in virtual time)"
    return f"{summary.station} (a simulation" + (f", clock × {rate:g})" if rate != 1 else ")")


def _began(summary: RunSummary) -> str:
    if summary.epoch_unix_s < _A_DATE_S:
        return ""
    return datetime.fromtimestamp(summary.epoch_unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in counts.items())


def _temperature(summary: RunSummary) -> str:
    low, high = summary.temperature_celsius
    if not _known(low):
        return ""
    text = f"{low:.0f} to {high:.0f} °C"
    if _known(summary.hold_deviation_celsius):
        text += f", within {summary.hold_deviation_celsius:.2g} °C of the setpoint while holding"
    return text


def _development(summary: RunSummary, quantity: str) -> str:
    unit = QUANTITIES[quantity][1]
    first, final = summary.first[quantity], summary.final[quantity]
    text = show_value(final, unit)
    return text if first == final else f"{text} (at first {show_value(first, unit)})"


def _channel(channel: ChannelSummary) -> str:
    def told(number: float) -> str:
        return show(number, channel.unit)

    text = "never read"
    if _known(channel.last):
        text = told(channel.last)
    if channel.low < channel.high:
        beyond = {channel.low, channel.high} != {channel.first, channel.last}
        spread = f"; from {told(channel.low)} to {told(channel.high)}" if beyond else ""
        text += f" (at first {told(channel.first)}{spread})"
    if channel.failed:
        text += f", {channel.failed} of {channel.readings} readings failed"
    return text


def _flags(summary: RunSummary) -> str:
    counts = ", ".join(f"{flag} × {count}" for flag, count in summary.flags.items())
    return f"{counts} of {summary.estimates} estimates" if counts else ""


def _scan(scan: ScanSummary) -> str:
    labels = [EDGE_TABLE[name].label if name in EDGE_TABLE else name for name in scan.edges]
    text = f"{scan.points} points: {', '.join(labels)}"
    counts = ", ".join(f"{_flag_name(flag)} × {count}" for flag, count in scan.flags.items())
    return f"{text}; flagged: {counts}" if counts else text


def _map(found: MapSummary) -> str:
    of = found.rows * found.columns * found.passes
    text = f"{found.rows} × {found.columns} points"
    text += f", {found.passes} passes" if found.passes > 1 else ""
    text += f", {found.taken} of {of} spectra" if found.taken < of else ""
    if _known(found.worst_offset_nm):
        text += f"; specimen found within {show(found.worst_offset_nm, 'nm', 2)} of its place"
    if found.unplaced:
        text += f"; of {found.unplaced} spectra no image told the place on the specimen"
    return text


def _flag_name(flag: str) -> str:
    """``poor_fit o_k`` as a person reads it: ``poor_fit of O-K``."""
    name, _, edge = flag.partition(" ")
    if not edge:
        return name
    return f"{name} of {EDGE_TABLE[edge].label if edge in EDGE_TABLE else edge}"


def _step_rows(summary: RunSummary) -> list[tuple[str, ...]]:
    return [
        (
            str(step.number),
            step.text,
            show_duration(step.t_start_s) if _known(step.t_start_s) else "–",
            show_duration(step.t_end_s - step.t_start_s) if _known(step.t_end_s) else "–",
            step.outcome,
        )
        for step in summary.steps
    ]


def _known(number: float) -> bool:
    return math.isfinite(number)
