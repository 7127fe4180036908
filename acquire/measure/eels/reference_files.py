"""References in files: read from msa, dm3, dm4 and hspy by rosettasciio, written as msa.

Rosettasciio is GPL: it comes with the extra ``export`` and is imported only when a file is read.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.errors import MeasureError, UnitError
from acquire.measure.eels.references import Reference, Window
from acquire.units import convert

_READERS = {
    ".msa": "rsciio.msa",
    ".emsa": "rsciio.msa",
    ".dm3": "rsciio.digitalmicrograph",
    ".dm4": "rsciio.digitalmicrograph",
    ".hspy": "rsciio.hspy",
}
_COLUMNS = 5


def load_reference(
    path: str | Path,
    *,
    name: str | None = None,
    title: str | None = None,
    unit: str | None = None,
    windows_ev: Sequence[Window] = (),
    step_ev: float | None = None,
    background_ev: Window | None = None,
    onset_ev: float | None = None,
    resolution_ev: float = 0.0,
    electrons: float = math.inf,
    average: bool = False,
) -> Reference:
    """Read a reference spectrum, on the axis that the file tells.

    Args:
        path: .msa, .emsa, .dm3, .dm4 or .hspy.
        name: of the reference; the file's own without its suffix if None.
        title: which of several spectra in the file.
        unit: of its energy axis, where the file does not tell it.
        windows_ev: which it must cover, e.g. those that it will be fitted in.
        step_ev: width of the data's channels, which must not be finer than its own.
        background_ev: where a power law is fitted that is then subtracted.
        onset_ev: of its edge, if its background is subtracted already: there is nothing below.
        resolution_ev: FWHM of the zero-loss peak that it was recorded with.
        electrons: measured for it in its edge, which tells what its noise is like.
        average: take the mean of a line scan or a map; refused otherwise.

    Raises:
        MeasureError: rosettasciio is missing, the file cannot be read, holds no (or several)
            spectra, has no energy axis, or does not suit the data.
    """
    path = Path(path)
    signal = _choose(_read(path), path, title)
    energy, values = _spectrum(signal, path, unit, average)
    reference = Reference(
        name or path.stem,
        energy,
        values,
        str(path.name),
        onset_ev=onset_ev,
        resolution_ev=resolution_ev,
        electrons=electrons,
    )
    if background_ev is not None:
        reference = reference.without_background(*background_ev)
    reference.check(windows_ev, reference.step_ev if step_ev is None else step_ev)
    return reference


def save_reference(reference: Reference, path: str | Path) -> Path:
    """Write a reference as EMSA/MAS text (ISO 22029), which every EELS program reads; returns the path.

    Values are per channel, with 9 digits. The file replaces another of this name as a whole.

    Raises:
        MeasureError: the name does not end in .msa.
    """
    path = Path(path)
    if path.suffix.lower() != ".msa":
        raise MeasureError(f"{path.name!r} cannot be written: references are written as .msa.")
    head = {
        "FORMAT": "EMSA/MAS Spectral Data File",
        "VERSION": "1.0",
        "TITLE": _plain(reference.name),
        "DATE": "",
        "TIME": "",
        "OWNER": "",
        "NPOINTS": f"{float(len(reference.energy_ev))}",
        "NCOLUMNS": "1.0",
        "XUNITS": "eV",
        "DATATYPE": "Y",
        "XPERCHAN": f"{reference.step_ev:.9g}",
        "OFFSET": f"{reference.energy_ev[0]:.9g}",
        "SIGNALTYPE": "ELS",
        "XLABEL": "Energy loss",
        "YLABEL": "Electrons",
        "COMMENT": _plain(reference.source),
    }
    lines = [f"#{key:<12}: {value}" for key, value in head.items()]
    lines.append("#SPECTRUM    : Spectral Data Starts Here")
    values = [f"{value:.9g}" for value in reference.per_ev * reference.step_ev]
    lines += [", ".join(values[i : i + _COLUMNS]) for i in range(0, len(values), _COLUMNS)]
    lines.append("#ENDOFDATA   : End Of Data and File")
    part = path.with_name(path.name + ".part")
    part.write_text("\r\n".join(lines) + "\r\n", encoding="latin-1", errors="replace", newline="")
    part.replace(path)
    return path


def _plain(text: str) -> str:
    """Text for one line of a header, in which a colon ends the key."""
    return " ".join(text.replace(":", " ").split())[:60]


def _read(path: Path) -> list[dict[str, Any]]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise MeasureError(
            f"{path.name!r} is none of {', '.join(sorted(_READERS))}, which references are read from."
        )
    try:
        module = importlib.import_module(reader)
    except ImportError as error:
        raise MeasureError(
            f"reading {path.name!r} needs rosettasciio, which is not here ({error}): "
            'pip install "hotstage[export]".'
        ) from error
    if not path.is_file():
        raise MeasureError(f"there is no reference at {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the reader makes of metadata
            return list(module.file_reader(str(path)))
    except Exception as error:  # readers of foreign files fail in any way
        raise MeasureError(
            f"{path.name!r} cannot be read: {type(error).__name__}: {error}."
        ) from error


def _choose(signals: list[dict[str, Any]], path: Path, title: str | None) -> dict[str, Any]:
    """The spectrum of a file, which may hold thumbnails and survey images beside it."""
    spectra = [s for s in signals if len(_signal_axes(s)) == 1 and len(s["axes"]) <= 3]
    names = [str(s.get("metadata", {}).get("General", {}).get("title", "")) for s in spectra]
    if title is not None:
        spectra = [s for s, known in zip(spectra, names, strict=True) if known == title]
    if len(spectra) == 1:
        return spectra[0]
    what = f"{len(spectra)} spectra" if spectra else "no spectrum"
    of = f" called {title!r}" if title is not None else ""
    there = f" There are: {', '.join(map(repr, names))}." if names else ""
    raise MeasureError(f"{path.name!r} holds {what}{of}.{there} Name one by its title.")


def _signal_axes(signal: dict[str, Any]) -> list[dict[str, Any]]:
    """Axes of the signal itself; readers that tell none of them apart have one axis each."""
    axes = signal["axes"]
    own = [axis for axis in axes if not axis.get("navigate", False)]
    return own if len(own) != len(axes) else axes


def _spectrum(
    signal: dict[str, Any], path: Path, unit: str | None, average: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energies in eV and values per eV."""
    axis = _signal_axes(signal)[0]
    told = unit or str(axis.get("units") or "")
    if "axis" in axis and "scale" not in axis:
        raise MeasureError(f"{path.name!r} has an axis that is not even. Interpolate it first.")
    try:
        factor = convert(1.0, told, "eV")
    except UnitError as error:
        raise MeasureError(
            f"the axis of {path.name!r} is in {told or 'no unit'!r}, not an energy. Calibrate it, "
            "or pass unit= if it is one."
        ) from error
    scale, offset = float(axis["scale"]) * factor, float(axis["offset"]) * factor
    if not (math.isfinite(scale) and math.isfinite(offset) and scale > 0):
        raise MeasureError(
            f"the axis of {path.name!r} starts at {offset:g} eV with steps of {scale:g} eV: a finite "
            "start and a positive step are needed. Calibrate it."
        )
    values = np.asarray(signal["data"], np.float64)
    if values.ndim > 1:
        if not average:
            raise MeasureError(
                f"{path.name!r} holds spectra of shape {values.shape}, not one. "
                "Pass average=True for their mean."
            )
        place = int(axis.get("index_in_array", values.ndim - 1))
        values = np.moveaxis(values, place, -1).reshape(-1, values.shape[place]).mean(axis=0)
    return offset + scale * np.arange(len(values), dtype=np.float64), values / scale
