"""The part of an engine host's service that is only looked at: plan, images, spectra, maps, curves."""

from __future__ import annotations

from collections.abc import Mapping

from acquire.engine.core import Engine
from acquire.engine.status import LiveSeries, PlanView
from acquire.instruments import AnyArray
from acquire.remote import WithBlobs
from acquire.remote.wire import pack, pack_arrays

METHODS = ("plan", "image", "spectrum", "map", "series")


class LookService:
    """Serves the calls of HostApi that touch nothing; see there. Arrays travel as blobs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def plan(self) -> PlanView:
        """See HostApi.plan."""
        return self._engine.plan_view

    def image(self, stream: str, after: int, wait_s: float) -> WithBlobs:
        """See HostApi.image."""
        found = self._engine.live.image(stream, after, wait_s)
        if found is None:
            return WithBlobs(None, [])
        head = {
            "serial": found.serial,
            "stream": found.stream,
            "index": found.index,
            "t_s": found.t_s,
            "pixel_size_nm": found.pixel_size_nm,
            "estimate_index": found.estimate_index,
            "streams": found.streams,
            "place_index": found.place_index,
            "place_x_nm": found.place_x_nm,
            "place_y_nm": found.place_y_nm,
        }
        return _with_arrays(head, {"detectors": found.detectors, "particles": found.particles})

    def spectrum(self, after: int, wait_s: float) -> WithBlobs:
        """See HostApi.spectrum."""
        found = self._engine.live.spectrum(after, wait_s)
        if found is None:
            return WithBlobs(None, [])
        head = {
            "serial": found.serial,
            "stream": found.stream,
            "index": found.index,
            "t_s": found.t_s,
        }
        return _with_arrays(head, {"counts": found.counts, "energy_ev": found.energy_ev})

    def map(self, stream: str, after: int, wait_s: float) -> WithBlobs:
        """See HostApi.map."""
        found = self._engine.live.map(stream, after, wait_s)
        if found is None:
            return WithBlobs(None, [])
        head = {
            "serial": found.serial,
            "stream": found.stream,
            "first_nm": found.first_nm,
            "spacing_nm": found.spacing_nm,
            "passes": found.passes,
            "streams": found.streams,
        }
        return _with_arrays(head, {"own": {"taken": found.taken}, "values": found.values})

    def series(self, cursor: tuple[int, int, int]) -> WithBlobs:
        """See HostApi.series."""
        found: LiveSeries = self._engine.live.series(cursor)
        head = {"cursor": list(found.cursor), "run": found.run, "notes": pack(found.notes)}
        own = {
            "t_s": found.t_s,
            "measured_celsius": found.measured_celsius,
            "setpoint_celsius": found.setpoint_celsius,
            "estimate_t_s": found.estimate_t_s,
        }
        return _with_arrays(head, {"own": own, "estimates": dict(found.estimates)})


def _with_arrays(
    head: dict[str, object], groups: Mapping[str, Mapping[str, AnyArray]]
) -> WithBlobs:
    flat = {f"{group}/{name}": a for group, arrays in groups.items() for name, a in arrays.items()}
    table, blobs = pack_arrays(flat)
    return WithBlobs({**head, "arrays": table}, blobs)
