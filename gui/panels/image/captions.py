"""What belongs to a figure so that it can be understood later: numbers for JSON, and a sentence."""

from __future__ import annotations

import math
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

from acquire.engine.status import EngineStatus, LiveImage
from acquire.instruments import AnyArray
from gui import text
from gui.panels.image.canvas import Canvas
from gui.panels.image.contrast import Contrast
from gui.panels.image.figure import Figure
from gui.panels.image.menu import ShowMenu
from gui.panels.image.overlays import Overlays
from gui.panels.image.saving import file_name
from gui.panels.image.standstill import Standstill
from gui.words import tr


def figure_of(
    image: LiveImage,
    array: AnyArray,
    detector: str,
    status: EngineStatus,
    canvas: Canvas,
    overlays: Overlays,
    menu: ShowMenu,
    contrast: Contrast,
    standstill: Standstill,
) -> Figure:
    """The part of an image that is seen, with all that is drawn on it."""
    pixel = image.pixel_size_nm
    rows, columns = canvas.visible_pixels()
    part = array[rows, columns]
    colour_map = menu.chosen(menu.colour_map)
    temperature = status.measured_celsius
    caption: dict[str, object] = {
        "run": status.run_name,
        "folder": status.folder,
        "station": status.station,
        "simulated": status.simulated,
        "stream": image.stream,
        "frame": image.index,
        "detector": detector,
        "t_s": image.t_s,
        "temperature_celsius": temperature,
        "temperature_t_s": status.reading_t_s,
        "setpoint_celsius": status.setpoint_celsius,
        "pixel_size_nm": pixel,
        "image_pixels": [array.shape[1], array.shape[0]],
        "part_left_px": columns.start,
        "part_top_px": rows.start,
        "part_pixels": [part.shape[1], part.shape[0]],
        "black": canvas.levels[0],
        "white": canvas.levels[1],
        "percentiles": None if contrast.frozen else list(contrast.percentiles),
        "colour_map": colour_map,
        "particles": None if overlays.particles is None else len(overlays.particles),
        "particles_measured_on_frame": image.estimate_index,
        "outlines": overlays.caption(),
        "place_x_nm": image.place_x_nm,
        "place_y_nm": image.place_y_nm,
        "held_still": standstill.held_at is not None,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "hotstage": _version(),
    }
    measured = text.celsius(temperature)
    if math.isfinite(status.reading_t_s):
        measured = tr("{celsius} (read at {time})").format(
            celsius=measured, time=text.clock(status.reading_t_s)
        )
    words = tr(
        "{run}: {stream}, {detector}, frame {frame}, {time} after the start, {celsius}. "
        "{pixel:.4g} nm per pixel; {contrast}; {map}; {outlines}."
    ).format(
        run=status.run_name or tr("no run"),
        stream=image.stream,
        detector=detector,
        frame=image.index,
        time=text.clock(image.t_s),
        celsius=measured,
        pixel=pixel,
        contrast=contrast.words(canvas.levels),
        map=colour_map,
        outlines=overlays.caption(),
    )
    if status.simulated:
        words = tr("Simulated. ") + words
    return Figure(
        part,
        columns.start * pixel,
        rows.start * pixel,
        pixel,
        canvas.levels,
        colour_map,
        _circles(overlays, canvas.origin_nm),
        caption,
        words,
    )


def _circles(
    overlays: Overlays, origin_nm: tuple[float, float]
) -> tuple[tuple[str, bool, tuple[tuple[float, float, float], ...]], ...]:
    """Outlines and the emphasised particle, in the image."""
    x0, y0 = origin_nm
    found = [
        (colour, dotted, tuple((x - x0, y - y0, radius) for x, y, radius in circles))
        for colour, dotted, circles in overlays.outlines.circles()
    ]
    emphasised = overlays.emphasis.shown
    if emphasised is not None:
        x, y, radius, lost = emphasised
        found.append(("#ffffff", lost, ((x - x0, y - y0, radius),)))
    return tuple(found)


def name_of(figure: Figure) -> str:
    """A name without ending that sorts by run, stream, detector and frame."""
    known = figure.caption
    return file_name(
        str(known["run"]), str(known["stream"]), str(known["detector"]), f"{known['frame']:06d}"
    )


def _version() -> str:
    try:
        return version("hotstage")
    except PackageNotFoundError:  # run from a folder that was never installed
        return ""
