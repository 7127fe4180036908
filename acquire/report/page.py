"""Draws a run on one page: temperatures, particle sizes, first and last image, EELS profile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from acquire.measure.eels import EDGE_TABLE
from acquire.measure.series import break_at_gaps
from acquire.report.pictures import Picture, draw_picture, first_and_last
from acquire.report.profile import RunProfile, run_profiles
from acquire.report.series import draw_series, spectral_series
from acquire.report.summary import (
    HOLDER,
    RunSummary,
    StepSummary,
    size_estimates,
    summarise,
)
from acquire.report.text import QUANTITIES, facts_of, show_value
from acquire.store import Run, unit_for_people

INK = "#222222"
FAINT = "#8a8f98"
GRID = "#e6e8eb"
MEASURED = "#c1121f"
SIZE = "#1d4e89"
COUNT = "#c98a1b"
CHANNEL = "#3a6b5c"
EDGE_COLOURS = ("#1f8a70", "#6a4c93", "#b5651d", "#4a4e69")
DPI = 150
MOST_CHANNELS = 2
"""Channels that a page has room for."""
DECADES = 100.0
"""Values that differ by more are drawn on a logarithmic axis."""

_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_STYLE: dict[str, Any] = {"fontsize": 8.5, "color": INK}
_MOST_LABELS = 12


@dataclass(frozen=True, slots=True)
class _TimeScale:
    """Seconds per unit of the time axis, and its name."""

    seconds: float
    unit: str

    @classmethod
    def of(cls, duration_s: float) -> _TimeScale:
        if not math.isfinite(duration_s) or duration_s < 240:
            return cls(1.0, "s")
        return cls(60.0, "min") if duration_s < 4 * 3600 else cls(3600.0, "h")


def plot_run(run: Run, path: Path | str, profiles: Sequence[RunProfile] | None = None) -> None:
    """Write one page about a run as a PNG; what the run does not have is left out.

    Args:
        run: finished, killed or still being written.
        path: of the PNG; an existing one is replaced.
        profiles: its line scans, if they are measured already.
    """
    if profiles is None:
        profiles = run_profiles(run)
    summary = summarise(run, profiles)
    pictures = first_and_last(run)
    scale = _TimeScale.of(summary.duration_s)
    panels: list[Callable[[Axes], None]] = []
    timed = 0
    if HOLDER in run.tables and run.holder.sizes["time"] and "measured" in run.holder:
        panels.append(lambda axes: _draw_temperature(axes, run.holder, scale))
        timed += 1
    sizes = size_estimates(run)
    if sizes is not None:
        panels.append(lambda axes: _draw_sizes(axes, sizes[1], scale))
        timed += 1
    for series in spectral_series(run):
        panels.append(partial(draw_series, series=series, seconds=scale.seconds))
        timed += 1
    for name in run.channels[:MOST_CHANNELS]:
        if values := run.channel_values(name):
            panels.append(_channel_panel(run, name, values[0], scale))
            timed += 1
    if profiles:
        panels.append(lambda axes: _draw_profiles(axes, profiles))
    figure = Figure(figsize=(11.7, 8.3), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.09, h_pad=0.07)
    rows = figure.add_gridspec(2, 1, height_ratios=[1.2, 7.1])
    head, body = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    _draw_head(head, summary)
    _draw_body(body, panels, timed, pictures, summary, scale)
    try:
        figure.savefig(path, format="png")
    except OSError:
        Path(path).unlink(missing_ok=True)  # half a picture would pass for one
        raise


def _draw_head(head: SubFigure, summary: RunSummary) -> None:
    head.text(
        0.02, 0.92, summary.name or summary.path.name, size=17, weight="bold", color=INK, va="top"
    )
    facts = dict(facts_of(summary))
    colour = {"completed": "#2d6a4f", "aborted": "#b26a00", "failed": MEASURED}
    head.text(
        0.98,
        0.90,
        _shorten(facts["outcome"], 90),
        size=10,
        weight="bold",
        color=colour.get(summary.outcome, "#7b2d8b"),
        ha="right",
        va="top",
    )
    first = [facts.get(k, "") for k in ("specimen", "station", "began", "duration")]
    second = [
        f"{name} {show_value(summary.final[quantity], unit)}"
        for quantity, (name, unit) in QUANTITIES.items()
        if quantity in summary.final and quantity != "coverage"  # the line would be too long
    ]
    labels = ("images", "spectra", "missing frames", "dose", "on disk")
    recorded = [f"{label} {facts[label]}" for label in labels if label in facts]
    for height, parts in ((0.54, first), (0.33, second), (0.12, recorded)):
        text = "   ·   ".join(part for part in parts if part)
        head.text(0.02, height, _shorten(text, 170), size=8.5, color=INK, va="top")


def _draw_body(
    body: SubFigure,
    panels: list[Callable[[Axes], None]],
    timed: int,
    pictures: list[Picture],
    summary: RunSummary,
    scale: _TimeScale,
) -> None:
    if not panels and not pictures:
        body.text(0.5, 0.5, "nothing was recorded", ha="center", size=13, color=FAINT)
        return
    left, right = body, body
    if panels and pictures:
        columns = body.add_gridspec(1, 2, width_ratios=[1.75, 1.0])
        left, right = body.add_subfigure(columns[0]), body.add_subfigure(columns[1])
    if pictures:
        shape = (len(pictures), 1) if panels else (1, len(pictures))
        grid = right.subplots(*shape, squeeze=False)
        for axes, picture in zip(grid.ravel(), pictures, strict=True):
            draw_picture(axes, picture)
    if not panels:
        return
    grid = left.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, draw in zip(grid, panels, strict=True):
        _prepare(axes)
        draw(axes)
    steps = [s for s in summary.steps if math.isfinite(s.t_start_s)]
    end_s = summary.duration_s if math.isfinite(summary.duration_s) else None
    for number, axes in enumerate(grid[:timed]):
        axes.set_xlim(0, None if end_s is None or end_s <= 0 else end_s / scale.seconds)
        _draw_steps(axes, steps, scale, labelled=number == 0)
        axes.set_xlabel(f"time ({scale.unit})" if number == timed - 1 else "", **_STYLE)
        axes.tick_params(labelbottom=number == timed - 1)


def _prepare(axes: Axes) -> None:
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def _draw_steps(axes: Axes, steps: list[StepSummary], scale: _TimeScale, labelled: bool) -> None:
    low, high = axes.get_xlim()
    last_label = -math.inf
    for step in steps:
        at = step.t_start_s / scale.seconds
        axes.axvline(at, color=FAINT, linewidth=0.7, linestyle=(0, (4, 3)), zorder=0.5)
        if not labelled or len(steps) > 4 * _MOST_LABELS:
            continue
        # a label needs room: number and first word, else the number, else nothing
        following = [s.t_start_s / scale.seconds for s in steps if s.t_start_s > step.t_start_s]
        room = ((following[0] if following else high) - at) / (high - low)
        text = f"{step.number} {_kind(step.text)}"
        if room < 0.014 * len(text):
            text = str(step.number)
        if (at - last_label) / (high - low) < 0.015:
            continue
        last_label = at
        axes.annotate(
            text,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 2),
            textcoords="offset points",
            size=7.5,
            color=FAINT,
        )


def _kind(text: str) -> str:
    words = text.replace(":", " ").split()
    return words[0] if words else ""


def _draw_temperature(axes: Axes, holder: xr.Dataset, scale: _TimeScale) -> None:
    time = holder.time.values / scale.seconds
    axes.plot(time, holder.measured.values, color=MEASURED, linewidth=1.8, label="measured")
    if "setpoint" in holder:
        # over the measured line, which would hide it where all is well
        setpoint = holder.setpoint.values
        axes.plot(time, setpoint, color=INK, linewidth=0.9, linestyle=(0, (5, 4)), label="setpoint")
    axes.set_ylabel("temperature (°C)", **_STYLE)
    axes.legend(loc="best", fontsize=7.5, frameon=False)


def _draw_sizes(axes: Axes, estimates: xr.Dataset, scale: _TimeScale) -> None:
    time = estimates.time.values / scale.seconds
    mean, sigma = estimates.mean_diameter.values, estimates.mean_diameter_sigma.values
    broken, line = break_at_gaps(time, mean)
    band = break_at_gaps(time, sigma)[1]
    axes.fill_between(broken, line - band, line + band, color=SIZE, alpha=0.25, linewidth=0)
    marker = "o" if len(time) < 60 else ""
    axes.plot(broken, line, color=SIZE, linewidth=1.4, marker=marker, markersize=3)
    axes.set_ylabel("mean diameter ± σ (nm)", fontsize=8.5, color=SIZE)
    axes.tick_params(axis="y", colors=SIZE)
    if "count" not in estimates:
        return
    other = axes.twinx()
    counts = break_at_gaps(time, estimates["count"].values)
    other.plot(*counts, color=COUNT, linewidth=1.0, drawstyle="steps-post")
    other.set_ylim(bottom=0)
    other.set_ylabel("particles in view", fontsize=8.5, color=COUNT)
    other.tick_params(axis="y", labelsize=8, colors=COUNT, length=3)
    for side in ("top", "left", "bottom"):
        other.spines[side].set_visible(False)
    other.spines["right"].set_color(FAINT)
    # sizes over counts
    axes.set_zorder(other.get_zorder() + 1)
    axes.patch.set_visible(False)


def _channel_panel(run: Run, name: str, value: str, scale: _TimeScale) -> Callable[[Axes], None]:
    curve = run.channel(name)[value]
    return lambda axes: _draw_channel(axes, f"{name}: {value}", curve, scale)


def _draw_channel(axes: Axes, label: str, curve: xr.DataArray, scale: _TimeScale) -> None:
    values = curve.values
    shown = break_at_gaps(curve.time.values / scale.seconds, values)
    axes.plot(*shown, color=CHANNEL, linewidth=1.4)
    known = values[np.isfinite(values)]
    if len(known) and known.min() > 0 and known.max() > DECADES * known.min():
        axes.set_yscale("log")
    unit = unit_for_people(str(curve.attrs.get("units", "")))
    axes.set_ylabel(f"{label} ({unit})" if unit else label, **_STYLE)


def _draw_profiles(axes: Axes, profiles: Sequence[RunProfile]) -> None:
    """The last line scan with its σ; the first one, if there were several, in outline."""
    shown = profiles[-1]
    for number, edge in enumerate(shown.edges):
        colour = EDGE_COLOURS[number % len(EDGE_COLOURS)]
        measured = shown.profile.edges[edge]
        name = EDGE_TABLE[edge].label.translate(_LOWERED) if edge in EDGE_TABLE else edge
        axes.errorbar(
            shown.distance_nm,
            measured.electrons,
            yerr=measured.sigma,
            color=colour,
            linewidth=1.2,
            marker="o",
            markersize=2.8,
            elinewidth=0.8,
            capsize=1.5,
            label=name,
        )
        if len(profiles) > 1 and edge in profiles[0].edges:
            before = profiles[0]
            axes.plot(
                before.distance_nm,
                before.profile.edges[edge].electrons,
                color=colour,
                linewidth=0.9,
                linestyle=":",
                label=f"{name}, {before.stream}",
            )
    axes.set_xlabel("distance along the line (nm)", **_STYLE)
    axes.set_ylabel("electrons above background", **_STYLE)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_title(f"EELS line scan “{shown.stream}”", fontsize=8.5, color=INK, loc="left")
    axes.legend(loc="best", fontsize=7.5, frameon=False, ncols=2)
    axes.margins(x=0.02)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set_fontsize(7.5)
    if not np.isfinite(axes.get_ylim()).all():
        axes.set_ylim(0, 1)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
