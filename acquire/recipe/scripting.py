"""Steps for Python scripts: the same as in a recipe, from functions with unit strings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from acquire.config import explain
from acquire.errors import RecipeError
from acquire.recipe.maps import SpectrumImage
from acquire.recipe.regulate import Regulate
from acquire.recipe.steps import (
    CalibrateEnergy,
    Hold,
    Image,
    LineScan,
    Mark,
    Ramp,
    Spectrum,
    WaitForOperator,
    When,
)

_S = TypeVar("_S", bound=BaseModel)


def _make(cls: type[_S], **settings: Any) -> _S:
    try:
        return cls.model_validate({k: v for k, v in settings.items() if v is not None})
    except ValidationError as error:
        raise RecipeError(explain(error, cls.__name__.lower(), cls)) from error


def ramp(to: str, rate: str, until: str | None = None) -> Ramp:
    """A ramp step: ``ramp(to="700 °C", rate="5 °C/s")``; raises RecipeError."""
    return _make(Ramp, to=to, rate=rate, until=until)


def hold(duration: str, until: str | None = None, otherwise: str = "continue") -> Hold:
    """A hold step: ``hold("20 min", until="mean_diameter >= 3.83 nm")``; raises RecipeError."""
    return _make(Hold, **{"for": duration, "until": until, "else": otherwise})


def regulate(
    quantity: str,
    target: str,
    between: tuple[str, str],
    duration: str,
    **settings: Any,
) -> Regulate:
    """A regulate step; further settings as in a recipe, by keyword; raises RecipeError.

    ``regulate("growth_rate", "0.1 nm/min", ("650 °C", "850 °C"), "10 min", rate="1 °C/s")``. Python
    has no keywords ``from`` and ``else``: write ``from_`` and ``else_``.
    """
    named = {key.removesuffix("_"): value for key, value in settings.items()}
    body = {"quantity": quantity, "target": target, "between": between, "for": duration}
    return _make(Regulate, **body, **named)


def when(condition: str, wait: str = "30 s", unknown: str = "abort", frames: str = "new") -> When:
    """A decision: the script is sent an outcome whose ``result`` is ``met``, ``not_met`` or ``unknown``.

    ``decided = yield when("mean_diameter >= 4 nm")``, then ``if decided.met:``; raises RecipeError.
    """
    return _make(When, condition=condition, wait=wait, unknown=unknown, frames=frames)


def image(
    scan: Mapping[str, Any], frames: int = 1, every: str = "0 s", name: str = "image"
) -> Image:
    """An image step; ``scan`` as in a recipe; raises RecipeError."""
    return _make(Image, scan=scan, frames=frames, every=every, name=name)


def line_scan(
    start: tuple[str, str],
    end: tuple[str, str],
    points: int,
    spectra: Mapping[str, Any],
    name: str = "line_scan",
) -> LineScan:
    """A line scan step; ``spectra`` as in a recipe; raises RecipeError."""
    return _make(
        LineScan, **{"from": start, "to": end, "points": points, "spectra": spectra, "name": name}
    )


def spectrum_image(
    corner: tuple[str, str],
    opposite: tuple[str, str],
    shape: tuple[int, int],
    spectra: Mapping[str, Any],
    name: str = "spectrum_image",
    **settings: Any,
) -> SpectrumImage:
    """A map, from its top left to its bottom right corner; further settings as in a recipe, by keyword.

    Raises RecipeError.
    """
    body = {"from": corner, "to": opposite, "shape": shape, "spectra": spectra, "name": name}
    return _make(SpectrumImage, **body, **settings)


def calibrate_energy(
    at: tuple[str, str],
    spectra: Mapping[str, Any],
    frames: int = 8,
    name: str = "calibration",
    **settings: Any,
) -> CalibrateEnergy:
    """Calibrate the energy axis; further settings as in a recipe, by keyword. Raises RecipeError."""
    body = {"at": at, "spectra": spectra, "frames": frames, "name": name}
    return _make(CalibrateEnergy, **body, **settings)


def spectrum(
    at: tuple[str, str], spectra: Mapping[str, Any], frames: int = 1, name: str = "spectrum"
) -> Spectrum:
    """A spectrum step; raises RecipeError."""
    return _make(Spectrum, at=at, spectra=spectra, frames=frames, name=name)


def wait_for_operator(message: str) -> WaitForOperator:
    """A step that waits for the operator."""
    return _make(WaitForOperator, message=message)


def mark(text: str) -> Mark:
    """A note in the journal."""
    return _make(Mark, text=text)
