"""What a command by hand will do, in words, before it is given."""

from __future__ import annotations

import math

from acquire.engine.dose import image_dose, spot_dose
from acquire.engine.station_view import InstrumentView
from acquire.instruments import Limit, ScanExposure
from acquire.units import show, show_duration
from gui import text
from gui.words import tr

SAME_CELSIUS = 0.05
SPOT_NM = 1.0
"""The dose under a resting probe is told over so wide a square."""


def heating(present_celsius: float, target_celsius: float, rate_celsius_per_s: float) -> str:
    """What a ramp from the present setpoint does."""
    if not rate_celsius_per_s > 0:
        return tr("The rate must be above 0; the direction follows from the target.")
    away = target_celsius - present_celsius
    if not abs(away) >= SAME_CELSIUS:
        return tr("holds at {target}").format(target=show(target_celsius, "°C"))
    duration = show_duration(abs(away) / rate_celsius_per_s)
    words = (
        tr("heats from {present} to {target} at {rate}: {duration}, then holds")
        if away > 0
        else tr("cools from {present} to {target} at {rate}: {duration}, then holds")
    )
    return words.format(
        present=show(present_celsius, "°C"),
        target=show(target_celsius, "°C"),
        rate=show(rate_celsius_per_s, "°C/s"),
        duration=duration,
    )


def viewing(current_pa: float, exposure: ScanExposure, for_s: float, clock_rate: float) -> str:
    """What an image costs, and a live view at most."""
    image_s = max(exposure.scan_time_s, 1e-9)
    words = tr("un-blanks the beam; an image takes {time}").format(time=show_duration(image_s))
    dose = image_dose(current_pa, exposure)
    if not math.isfinite(dose):
        return words + tr("; its dose is not known: the scan tells no probe current")
    most = dose * for_s * clock_rate / image_s
    return words + tr("; {dose} e/nm² each, live up to {most} e/nm² in {limit}").format(
        dose=text.dose(dose), most=text.dose(most), limit=show_duration(for_s)
    )


def resting(current_pa: float, for_s: float, clock_rate: float) -> str:
    """What a resting probe does."""
    words = tr("un-blanks the beam, which rests on one point for {time}").format(
        time=show_duration(for_s)
    )
    dose = spot_dose(current_pa, for_s * clock_rate, SPOT_NM)
    if not math.isfinite(dose):
        return words + tr("; its dose is not known: the scan tells no probe current")
    return words + tr(": {dose} e/nm² there").format(dose=text.dose(dose))


def tightest(view: InstrumentView | None, quantity: str) -> Limit | None:
    """The lowest upper limit of a quantity; None if there is none."""
    limits = () if view is None else view.limits
    found = [limit for limit in limits if limit.quantity == quantity]
    return min(found, key=lambda limit: limit.high, default=None)


def bounds(view: InstrumentView | None, *quantities: str) -> str:
    """How far quantities may go, and who says so."""
    parts = []
    for quantity in quantities:
        limit = tightest(view, quantity)
        if limit is not None:
            parts.append(
                tr("up to {most} ({source})").format(
                    most=show(limit.high, limit.unit), source=source(limit)
                )
            )
    return ", ".join(parts)


def source(limit: Limit) -> str:
    """Where a limit can be changed, without the folders."""
    return limit.source.replace("\\", "/").rpartition("/")[2] or limit.source
