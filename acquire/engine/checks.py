"""Finds what a recipe asks that its instruments, its station or its own limits refuse, before anything moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from acquire.engine.beamtime import field_corner_nm
from acquire.engine.channels import channel_quantities, quantities_of
from acquire.engine.dose import probe_current_pa
from acquire.engine.estimating import (
    check_estimators,
    known_quantities,
    spectral_quantities,
)
from acquire.engine.foreseeing import condition_of, resting_on
from acquire.engine.regulated import check_regulate
from acquire.errors import HotstageError, LimitError, RecipeError
from acquire.instruments import ChecksExposure, RampRequest, ScanExposure
from acquire.recipe import (
    Hold,
    Image,
    LineScan,
    Ramp,
    Recipe,
    Record,
    Regulate,
    Spectrum,
    SpectrumImage,
    SpectrumSettings,
    Step,
    When,
)
from acquire.station import OpenStation
from acquire.stream import Quantity
from acquire.units import show, show_duration


def problems(recipe: Recipe, station: OpenStation) -> list[HotstageError]:
    """Everything that would be refused, in the order in which it would be met; moves nothing."""
    found: list[HotstageError] = []
    for check in _checks(recipe, station):
        try:
            check()
        except HotstageError as error:
            if str(error) not in map(str, found):
                found.append(error)
    return found


def check_step(step: Step, recipe: Recipe, station: OpenStation) -> None:
    """Raise LimitError or RecipeError if a step would be refused; moves nothing."""
    try:
        _check_step(step, recipe, station)
    except HotstageError as error:
        raise type(error)(f"step '{step}': {error}") from error


def _checks(recipe: Recipe, station: OpenStation) -> Iterator[Callable[[], None]]:
    safe = recipe.safe_state.holder()
    if safe.cool_rate_celsius_per_s is not None:
        request = RampRequest(safe.cool_to_celsius, safe.cool_rate_celsius_per_s)
        yield lambda: _named("safe_state.heater", lambda: station.holder.check(request))
    for name, entry in recipe.record.items():
        if entry.scan is not None:
            exposure = entry.scan.exposure(entry.every)
            yield lambda name=name, exposure=exposure: _named(  # type: ignore[misc]
                f"record.{name}", lambda: check_exposure(exposure, station)
            )
    for name, entry in recipe.recorded_spectra.items():
        yield lambda name=name, entry=entry: _named(  # type: ignore[misc]
            f"record.{name}", lambda: _check_recorded(entry, recipe, station)
        )
    for name, channel in recipe.channels.items():
        yield lambda name=name, channel=channel: _named(  # type: ignore[misc]
            f"record.{name}", lambda: quantities_of(name, channel, station)
        )
    yield lambda: _dose_known(recipe, station)
    yield lambda: check_estimators(recipe)
    for step in recipe.distinct_steps():
        yield lambda step=step: check_step(step, recipe, station)  # type: ignore[misc]


def _check_recorded(entry: Record, recipe: Recipe, station: OpenStation) -> None:
    assert entry.spectrum is not None
    _check_spectra(entry.spectrum.spectra, station)
    _check_inside([entry.spectrum.at], recipe)


def _dose_known(recipe: Recipe, station: OpenStation) -> None:
    if recipe.limits.dose is None:
        return
    if not math.isfinite(probe_current_pa(station.scan.describe())):
        raise RecipeError(
            f"limits.dose = {show(recipe.limits.dose, 'e/nm²')} cannot be kept: the scan of station "
            f"{station.station.name!r} does not tell its probe current. Leave the limit out, and "
            "count yourself."
        )


def _named(key: str, check: Callable[[], object]) -> None:
    try:
        check()
    except HotstageError as error:
        raise type(error)(f"{key}: {error}") from error


def quantities(recipe: Recipe, station: OpenStation) -> dict[str, Quantity]:
    """Every quantity that a condition may rest on, by name: estimated, or read from channels.

    Raises:
        RecipeError: an estimator or a channel is unknown, or two estimators give the same quantity.
    """
    return {**known_quantities(recipe), **channel_quantities(recipe, station)}


def _check_step(step: Step, recipe: Recipe, station: OpenStation) -> None:
    if isinstance(step, Hold | Ramp) and step.until is not None:
        step.until.check(quantities(recipe, station))
    if isinstance(step, Hold | Ramp | Regulate):
        _check_told_meanwhile(step, recipe)
    _check_ages(step, recipe)
    if isinstance(step, Ramp):
        _check_ramp(step.to, step.rate, recipe, station)
    elif isinstance(step, When):
        step.condition.check(quantities(recipe, station))
    elif isinstance(step, Regulate):
        check_regulate(step, quantities(recipe, station))
        for celsius in step.between:
            _check_ramp(celsius, step.rate, recipe, station)
    elif isinstance(step, Image):
        check_exposure(step.scan.exposure(step.every), station)
    elif isinstance(step, LineScan):
        _check_spectra(step.spectra, station)
        _check_inside([step.from_, step.to], recipe)
    elif isinstance(step, SpectrumImage):
        _check_spectra(step.spectra, station)
        _check_inside([step.from_, step.to], recipe)
        if step.images is not None:
            check_exposure(step.image_exposure(field_corner_nm(recipe)), station)
    elif isinstance(step, Spectrum):
        for settings in [step.spectra.beginning_at(ev) for ev in step.energy_offsets] or [
            step.spectra
        ]:
            _check_spectra(settings, station)
        _check_inside([step.at], recipe)


def _check_told_meanwhile(step: Step, recipe: Recipe) -> None:
    """Refuse to wait for what only spectra of steps tell, of which none is taken while the step lasts."""
    of_spectra = spectral_quantities(recipe)
    awaited = [
        *resting_on(step, of_spectra),
        *([step.quantity] if isinstance(step, Regulate) else []),
    ]
    for name in awaited:
        stream = of_spectra.get(name)
        if stream is None or stream in recipe.recorded_spectra:
            continue
        raise RecipeError(
            f"{name} is told by the spectra {stream!r}, and none are taken during a {step.kind}: it "
            "would wait in vain. Record them beside the steps (record: {NAME: {spectrum: {…}, every: "
            "30 s}}), or take a spectrum between shorter holds and decide by 'when' with frames: any."
        )


def _check_ages(step: Step, recipe: Recipe) -> None:
    """Refuse a ``within`` in which the next of the recorded spectra has not come."""
    condition, of_spectra = condition_of(step), spectral_quantities(recipe)
    parts = condition.parts if condition is not None else ()
    ages = [(f"condition '{part}'", part.quantity, part.max_age_s) for part in parts]
    if isinstance(step, Regulate):
        ages.append(("within", step.quantity, step.within))
    for what, quantity, age_s in ages:
        stream = of_spectra.get(quantity, "")
        period_s = recipe.period_s(stream)
        if age_s is not None and age_s < period_s:
            raise RecipeError(
                f"{what}: the spectra {stream!r} come every {show_duration(period_s)}, so that the "
                f"newest is older than {show_duration(age_s)} most of the time. Leave 'within' out, "
                "make it longer, or take them more often."
            )


def _check_ramp(to: float, rate: float, recipe: Recipe, station: OpenStation) -> None:
    limits = recipe.limits
    if limits.temperature is not None and to > limits.temperature:
        raise LimitError(
            f"{show(to, '°C')} refused: the recipe allows {show(limits.temperature, '°C')} "
            "(limits.temperature). Lower the target or raise the limit."
        )
    if limits.ramp_rate is not None and rate > limits.ramp_rate:
        raise LimitError(
            f"{show(rate, '°C/s')} refused: the recipe allows "
            f"{show(limits.ramp_rate, '°C/s')} (limits.ramp_rate). Lower the rate or raise the "
            "limit."
        )
    station.holder.check(RampRequest(to, rate))


def check_exposure(exposure: ScanExposure, station: OpenStation) -> None:
    """Raise LimitError if the scan refuses an exposure, or has not the detectors."""
    known = station.scan.describe().detectors
    missing = [name for name in exposure.detectors if name not in known]
    if missing:
        raise RecipeError(
            f"the scan has no detector {', '.join(map(repr, missing))}; it has "
            f"{', '.join(known) or 'none'}."
        )
    station.scan.check(exposure)


def _check_spectra(settings: SpectrumSettings, station: OpenStation) -> None:
    if station.spectrometer is None:
        raise RecipeError(
            f"station {station.station.name!r} has no spectrometer; leave the spectra out or choose "
            "another station."
        )
    setting = settings.setting()
    station.spectrometer.check(setting)
    if isinstance(station.spectrometer, ChecksExposure):
        station.spectrometer.check_exposure(setting, settings.exposure())


def _check_inside(points: list[tuple[float, float]], recipe: Recipe) -> None:
    stream = recipe.scan_stream
    scan = recipe.record[stream].scan if stream is not None else None
    if scan is None:
        return
    exposure = scan.exposure()
    width, height = exposure.field_of_view_nm, exposure.pixel_size_nm * exposure.shape[0]
    for x, y in points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise LimitError(
                f"the point [{show(x, 'nm')}, {show(y, 'nm')}] is outside the field of view of "
                f"{stream!r}, which is {show(width, 'nm')} × {show(height, 'nm')}."
            )
