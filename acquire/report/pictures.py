"""Draws images of a run with the outlines of the particles found in them and a scale bar."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from acquire.errors import UnitError
from acquire.report.summary import size_estimates
from acquire.store import Run
from acquire.units import convert, show, show_duration

OUTLINE = "#ffd166"
PREFERRED = "haadf"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image; lengths in nm from its top-left corner."""

    title: str
    image: NDArray[np.float64]
    width_nm: float
    height_nm: float
    centres_nm: NDArray[np.float64]
    """(particles, 2): x, y."""
    diameters_nm: NDArray[np.float64]
    calibrated: bool = True
    """False where the size of a pixel is unknown; lengths are in pixels then."""


def first_and_last(run: Run) -> list[Picture]:
    """First and last image of the stream that particles were sized on, else of the longest one.

    One picture if there is but one image, none if there is none.
    """
    found = size_estimates(run)
    stream = "" if found is None else str(found[1].attrs.get("stream", ""))
    lengths = {
        name: run.images(name).sizes["time"]
        for name, kind in run.streams.items()
        if kind == "images"
    }
    lengths = {name: length for name, length in lengths.items() if length and _detectors(run, name)}
    if not lengths:
        return []
    if stream not in lengths:
        stream = max(lengths, key=lambda name: lengths[name])
    rows = [0] if lengths[stream] == 1 else [0, lengths[stream] - 1]
    estimator = found[0] if found is not None else ""
    chosen = "" if found is None else str(found[1].attrs.get("detector", ""))
    return [_picture(run, stream, row, estimator, chosen) for row in rows]


def _picture(run: Run, stream: str, row: int, estimator: str, chosen: str) -> Picture:
    """An image of the detector that the estimator has chosen, if it did, else of the usual one."""
    images = run.images(stream)
    detectors = _detectors(run, stream)
    detector = next((name for name in (chosen, PREFERRED) if name in detectors), detectors[0])
    data = images[detector][row]
    steps = [_step_nm(images[dim]) for dim in data.dims]
    calibrated = all(step > 0 for step in steps)
    step_y, step_x = steps if calibrated else (1.0, 1.0)
    frame = int(images.frame_index[row])
    title = f"{detector}, frame {frame}, {show_duration(float(images.time[row]))}"
    celsius = float(images.temperature_before[row])
    if math.isfinite(celsius):
        title += f", {show(round(celsius), '°C')}"
    centres, diameters = _particles(run, estimator, frame)
    height, width = data.shape
    return Picture(
        title,
        np.asarray(data.values, np.float64),
        width * step_x,
        height * step_y,
        centres,
        diameters,
        calibrated,
    )


def _detectors(run: Run, stream: str) -> list[str]:
    """Variables of a stream that are images."""
    variables = run.images(stream).data_vars.items()
    return [str(name) for name, data in variables if data.dims[0] == "time" and data.ndim == 3]


def _step_nm(axis: xr.DataArray) -> float:
    """Size of a pixel; 0 where it is unknown."""
    if axis.size < 2 or "units" not in axis.attrs:
        return 0.0
    try:
        return abs(convert(float(axis[1] - axis[0]), str(axis.attrs["units"]), "nm"))
    except UnitError:
        return 0.0


def _particles(
    run: Run, estimator: str, frame: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and diameters of the particles found in a frame."""
    if estimator in run.particle_tables:
        table = run.particles(estimator)
        if {"x_nm", "y_nm", "diameter_nm"} <= set(table.data_vars):
            mine = table.isel(row=np.flatnonzero(table.frame_index.values == frame))
            centres = np.column_stack([mine.x_nm.values, mine.y_nm.values])
            return centres.reshape(-1, 2), np.asarray(mine.diameter_nm.values)
    return np.zeros((0, 2)), np.zeros(0)


def draw_picture(axes: Axes, picture: Picture) -> None:
    """Draw an image in grey, its particles in outline, and a scale bar."""
    finite = picture.image[np.isfinite(picture.image)]
    low, high = np.percentile(finite, [0.5, 99.7]) if finite.size else (0.0, 1.0)
    axes.imshow(
        picture.image,
        cmap="gray",
        vmin=low,
        vmax=max(high, low + 1e-9),
        extent=(0, picture.width_nm, picture.height_nm, 0),
        interpolation="antialiased",
    )
    known = np.isfinite(picture.diameters_nm) & np.isfinite(picture.centres_nm).all(axis=1)
    if known.any():
        diameters = picture.diameters_nm[known]
        axes.add_collection(
            EllipseCollection(
                diameters,
                diameters,
                np.zeros_like(diameters),
                units="xy",
                offsets=picture.centres_nm[known],
                offset_transform=axes.transData,
                facecolors="none",
                edgecolors=OUTLINE,
                linewidths=0.9,
            )
        )
    if picture.calibrated:
        _draw_scale_bar(axes, picture)
    axes.set_xlim(0, picture.width_nm)
    axes.set_ylim(picture.height_nm, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    count = f", {np.count_nonzero(known)} particles" if known.any() else ""
    axes.set_title(picture.title + count, fontsize=8.5, loc="left", color="#222222")


def _draw_scale_bar(axes: Axes, picture: Picture) -> None:
    length = nice_length(picture.width_nm / 4)
    margin, thickness = 0.04 * picture.width_nm, 0.013 * picture.width_nm
    text_height = 0.065 * picture.width_nm
    left, bottom = margin, picture.height_nm - margin
    pad = 0.4 * margin
    axes.add_patch(
        Rectangle(
            (left - pad, bottom - thickness - text_height - pad),
            length + 2 * pad,
            thickness + text_height + 2 * pad,
            facecolor="black",
            alpha=0.55,
            linewidth=0,
        )
    )
    axes.add_patch(
        Rectangle((left, bottom - thickness), length, thickness, facecolor="white", linewidth=0)
    )
    axes.text(
        left + length / 2,
        bottom - 1.4 * thickness,
        show(length, "nm"),
        color="white",
        size=8,
        ha="center",
        va="bottom",
    )


def nice_length(most_nm: float) -> float:
    """The longest of 1, 2, 5, 10, 20, … (or 0.5, 0.2, …) nm that is not above ``most_nm``."""
    decade = 10.0 ** math.floor(math.log10(most_nm))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= most_nm * (1 + 1e-9)))
