"""Draws a run's status for the terminal."""

from __future__ import annotations

import math

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from acquire.engine import EngineState, EngineStatus
from acquire.units import show, show_bytes, show_duration

STYLES = {
    EngineState.RUNNING: ("▶", "bold green"),
    EngineState.PAUSED: ("❚❚", "bold yellow"),
    EngineState.PAUSING: ("❚❚", "yellow"),
    EngineState.COMPLETED: ("✔", "bold green"),
    EngineState.ABORTED: ("■", "bold yellow"),
    EngineState.FAILED: ("✖", "bold red"),
}


def progress_table(status: EngineStatus) -> Table:
    """Everything about a run that fits a terminal."""
    glyph, style = STYLES.get(status.state, ("…", "bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column()
    heading = Text.assemble((f"{glyph} {status.state.value.upper()}", style))
    if status.cause:
        heading.append(f"  {status.cause}")
    table.add_row("state", heading)
    table.add_row("step", _step(status))
    if math.isfinite(status.step_progress):
        table.add_row("", ProgressBar(total=1.0, completed=status.step_progress, width=40))
    table.add_row("time", _time(status))
    table.add_row("temperature", _temperature(status))
    table.add_row("frames", _frames(status))
    table.add_row("particles", _particles(status))
    table.add_row("dose", _dose(status))
    table.add_row("disk", _disk(status))
    for warning in status.warnings[-3:]:
        table.add_row("warning", Text(warning, style="yellow"))
    return table


def status_line(status: EngineStatus) -> str:
    """The same in one line, for logs."""
    parts = [
        f"{status.t_s:7.1f} s",
        status.state.value,
        _step(status),
        _temperature(status),
        _frames(status),
        _particles(status),
        _dose(status),
        f"ETA {show_duration(status.eta_s)}",
    ]
    return "  ".join(part for part in parts if part and part != "–")


def _step(status: EngineStatus) -> str:
    if status.step_index < 0:
        return "–"
    return f"{status.step_index + 1}/{status.step_count} {status.step_text}"


def _time(status: EngineStatus) -> str:
    return f"{show_duration(status.t_s)}, ETA {show_duration(status.eta_s)}"


def _temperature(status: EngineStatus) -> str:
    if not math.isfinite(status.measured_celsius):
        return "–"
    text = f"{status.measured_celsius:.1f} °C (set {status.setpoint_celsius:.1f} °C)"
    return f"{text} {status.holder_state.upper()} {status.fault}" if status.fault else text


def _frames(status: EngineStatus) -> str:
    return ", ".join(f"{name} {count}" for name, count in status.frames.items()) or "–"


def _particles(status: EngineStatus) -> str:
    mean, count = status.estimates.get("mean_diameter"), status.estimates.get("count")
    if count is None:
        return "–"
    number = f"{count.value:.0f} particles"
    if mean is None or not math.isfinite(mean.value):
        return number
    return f"⌀ {mean.value:.2f} ± {mean.sigma:.2f} {mean.unit}, {number}"


def _dose(status: EngineStatus) -> str:
    text = f"{status.dose_e_per_nm2:.2e} e/nm²"
    if math.isfinite(status.dose_limit_e_per_nm2):
        text += f" of {show(status.dose_limit_e_per_nm2, 'e/nm²')}"
    return text


def _disk(status: EngineStatus) -> str:
    return f"{show_bytes(status.bytes_written)} written, {show_bytes(status.disk_free_bytes)} free"
