"""Counts the electrons that the specimen has seen, and where."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

from acquire.errors import InstrumentError
from acquire.instruments import Description, Frame, ScanExposure, StreamSpec
from acquire.measure.dose import FIELD, SPOT, TILE, Area, DoseMap

ELECTRONS_PER_PICOCOULOMB = 1e-12 / 1.602176634e-19
"""CODATA 2018, exact."""
FIELD_TOLERANCE = 1e-3


def probe_current_pa(scan: Description) -> float:
    """Probe current in pA as the scan states it; NaN if it does not."""
    value = scan.details.get("probe_current_pa", math.nan)
    return float(value) if isinstance(value, int | float) else math.nan


def image_dose(current_pa: float, exposure: ScanExposure) -> float:
    """Electrons per nm² that one image gives: probe current · dwell time / pixel area."""
    electrons = current_pa * ELECTRONS_PER_PICOCOULOMB * exposure.dwell_time_s
    return electrons / exposure.pixel_size_nm**2


def spot_dose(current_pa: float, time_s: float, spacing_nm: float) -> float:
    """Electrons per nm² under a resting probe, spread over the square of the point spacing."""
    return current_pa * ELECTRONS_PER_PICOCOULOMB * time_s / spacing_nm**2


def field_of(exposure: ScanExposure) -> Area:
    """What an image exposes, in the scan's frame."""
    rows, width = exposure.shape[0], exposure.field_of_view_nm
    return Area(*exposure.center_nm, width, rows * exposure.pixel_size_nm)


def field_of_stream(spec: StreamSpec) -> Area:
    """The same from what the scan says of its frames; its axes give the pixels' centres in nm."""
    channel = next(iter(spec.channels.values()))
    (y, x), (rows, columns) = (channel.axes[dim] for dim in ("y", "x")), channel.shape
    return Area(
        x.offset + (columns - 1) / 2 * x.step,
        y.offset + (rows - 1) / 2 * y.step,
        columns * abs(x.step),
        rows * abs(y.step),
    )


def as_taken(exposure: ScanExposure, spec: StreamSpec) -> ScanExposure:
    """An exposure with the field that the scan takes, whose steps may differ from what was asked for."""
    area = field_of_stream(spec)
    if math.isclose(area.width_nm, exposure.field_of_view_nm, rel_tol=1e-9):
        return exposure
    return replace(exposure, field_of_view_nm=area.width_nm, center_nm=(area.x_nm, area.y_nm))


def demand_same_field(before: StreamSpec, now: StreamSpec) -> None:
    """Raise InstrumentError for a scan that was armed again and takes another field than the stream has."""
    first, second = field_of_stream(before), field_of_stream(now)
    moved_nm = math.dist((first.x_nm, first.y_nm), (second.x_nm, second.y_nm))
    columns = next(iter(before.channels.values())).shape[1]
    same = math.isclose(first.width_nm, second.width_nm, rel_tol=FIELD_TOLERANCE)
    if not (same and moved_nm <= 2 * first.width_nm / columns):
        raise InstrumentError(
            f"the scan was armed again for {before.name!r}, and takes a field of "
            f"{second.width_nm:.6g} nm around ({second.x_nm:.4g}, {second.y_nm:.4g}) nm instead of "
            f"{first.width_nm:.6g} nm around ({first.x_nm:.4g}, {first.y_nm:.4g}) nm, which the stream's "
            "axes say. Look whether its magnification was changed."
        )


class Beat:
    """Tells whether an acquisition that is cut was exposing, for a dose that left no frame.

    An image that was cut counts in full: the part that was scanned has had its whole dose.
    """

    def __init__(self, armed_s: float, period_s: float) -> None:
        self._due_s = armed_s
        self._period_s = period_s

    def took(self, frame: Frame) -> None:
        """A frame has come, its times on the clock that is asked for later."""
        self._due_s = max(frame.t_end_s, frame.t_start_s + self._period_s)

    def exposing(self, now_s: float) -> bool:
        """Whether the next exposure was due before now."""
        return now_s > self._due_s


class DoseMeter:
    """What every place of the specimen has seen, for use from any thread.

    Positions are those of the scan's frame as it lies on the specimen, see
    :mod:`acquire.measure.dose`; the highest dose of any place is that of the run.
    """

    def __init__(self) -> None:
        self._map = DoseMap()
        self._lock = threading.Lock()
        self._new: dict[tuple[Area, int], float] = {}

    @property
    def total_e_per_nm2(self) -> float:
        """Highest local dose so far."""
        with self._lock:
            return self._map.highest_e_per_nm2

    def highest_in(self, area: Area | None) -> float:
        """The highest dose of any place within an area; of all if it is None."""
        with self._lock:
            return self._map.highest_e_per_nm2 if area is None else self._map.highest_in(area)

    def worst(self) -> tuple[Area, float] | None:
        """The field or spot that has seen most, with its dose."""
        with self._lock:
            return self._map.worst()

    def places(self) -> list[tuple[Area, float]]:
        """Every field and spot with the highest dose in it."""
        with self._lock:
            return self._map.places()

    def add_everywhere(self, dose_e_per_nm2: float) -> None:
        """Count what may have fallen on any place."""
        with self._lock:
            self._map.add_everywhere(dose_e_per_nm2)

    def add_image(self, dose_e_per_nm2: float, area: Area) -> None:
        """Count an image of an area."""
        with self._lock:
            self._map.add_field(area, dose_e_per_nm2)
            self._keep(area, dose_e_per_nm2, FIELD)

    def add_spot(self, position_nm: tuple[float, float], dose: float, spacing_nm: float) -> None:
        """Count a spectrum, spread over a square of the spacing; squares that overlap add up."""
        self._add(SPOT, Area.spot(position_nm, spacing_nm), dose)

    def add_tile(
        self, position_nm: tuple[float, float], dose: float, size_nm: tuple[float, float]
    ) -> None:
        """Count a spectrum on a point of a map, spread over its width and height."""
        self._add(TILE, Area(*position_nm, *size_nm), dose)

    def _add(self, kind: int, area: Area, dose: float) -> None:
        with self._lock:
            self._map.add(kind, area, dose)
            self._keep(area, dose, kind)

    @property
    def waiting(self) -> int:
        """How many areas :meth:`take_new` would give."""
        return len(self._new)

    def take_new(self) -> list[tuple[Area, int, float]]:
        """What was exposed since this was last asked: area, by what, dose in e/nm²."""
        with self._lock:
            new, self._new = self._new, {}
        return [(area, kind, dose) for (area, kind), dose in new.items()]

    def _keep(self, area: Area, dose: float, kind: int) -> None:
        if math.isfinite(dose) and dose:
            self._new[area, kind] = self._new.get((area, kind), 0.0) + dose
